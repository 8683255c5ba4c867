"""The report's pictures, from the JSON document; what was not measured is said in the picture's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .charts import Point, Series, distribution, dots, lines, scatter, stacked
from .figures import Document, class_name
from .markup import Markup, tag
from .overview import find_latency, name_artifact, name_networks

MOST_CLASSES = 24


def draw_pictures(network: Document) -> Markup:
    """All pictures of one network as cards in a grid."""
    pictures: list[tuple[str, Callable[[Document], Markup]]] = [
        ("Accuracy against latency", lambda one: draw_tradeoff([one])),
        ("Distribution of latency", _draw_latency),
        ("Agreement by class", _draw_classes),
        ("Where the error enters and grows", _draw_layers),
        ("Memory traffic of one inference", _draw_traffic),
    ]
    cards = [tag("div", tag("h3", title), draw(network), class_="card") for title, draw in pictures]
    return tag("div", *cards, class_="grid")


def _absent(reason: str) -> Markup:
    return tag("p", f"Not known: {reason}", class_="absent")


def draw_tradeoff(networks: Sequence[Document]) -> Markup:
    """Accuracy against latency: a point an artifact of all networks."""
    if all(network["latency"] is None for network in networks):
        return _absent("no latency was measured for these files. `dualexport bench` measures it.")

    def find_milliseconds(network: Document, report: Document) -> float | None:
        measured = find_latency(network, report)
        return None if measured is None else measured["clip_ms"]

    return _draw_accuracy(networks, find_milliseconds, "milliseconds a clip")


def draw_sizes(networks: Sequence[Document]) -> Markup:
    """Accuracy against the size of the file."""
    return _draw_accuracy(
        networks, lambda _, report: report["size_bytes"] and report["size_bytes"] / 1e6, "MB of the file"
    )


def _draw_accuracy(
    networks: Sequence[Document], find: Callable[[Document, Document], float | None], x_title: str
) -> Markup:
    """Accuracy, or agreement where labels are missing, against what `find` says of an artifact of a network."""
    labelled = all(network["reference"]["accuracy"] is not None for network in networks)
    points = []
    for name, network in zip(name_networks(networks), networks, strict=True):
        for report in network["reports"]:
            value = report["accuracy"]["top1"] if labelled and report["accuracy"] else report["agreement"]
            x = find(network, report)
            if x is not None and value is not None:
                points.append(
                    Point(name_artifact(report, name), x, *(100 * value[key] for key in ("share", "low", "high")))
                )
    if not points:
        return _absent("no artifact has both figures.")
    return scatter(points, x_title, "accuracy on labels, %" if labelled else "top-1 agreement with the reference, %")


def _draw_latency(document: Document) -> Markup:
    latency = document["latency"]
    if latency is None:
        return _absent("no latency was measured for these files. `dualexport bench` measures it.")
    series = [
        Series(f"{one['artifact']}, batch {one['batch']}, copies {one['copies']}", one["samples_ms"])
        for one in latency["results"]
    ]
    return distribution(series, "milliseconds a run")


def _draw_classes(document: Document) -> Markup:
    tallies = {
        report["artifact"]: {entry["index"]: entry for entry in report["classes"]} for report in document["reports"]
    }
    lowest: dict[int, float] = {}
    for classes in tallies.values():
        for index, entry in classes.items():
            lowest[index] = min(lowest.get(index, 1.0), entry["agreed"] / entry["clips"])
    if not lowest:
        return _absent("no clip was compared.")
    shown = sorted(sorted(lowest, key=lambda index: (lowest[index], index))[:MOST_CLASSES])
    names = [class_name(index, document["network"]["labels"]) for index in shown]
    series = [
        Series(
            name, [classes[index]["agreed"] / classes[index]["clips"] if index in classes else None for index in shown]
        )
        for name, classes in tallies.items()
    ]
    rest = len(lowest) - len(shown)
    left_out = f"; the {rest} classes that agree best are left out" if rest else ""
    return dots(names, series, f"clips on which the artifact takes the reference's class{left_out}")


def _draw_layers(document: Document) -> Markup:
    layers = document["layers"]
    if not layers:
        return _absent("blocks were not compared. `dualexport verify --layers` does.")
    places = [block["name"] for block in layers[0]["blocks"]]
    series = []
    for one in layers:
        errors = {block["name"]: block["relative_error"] for block in one["blocks"]}
        series.append(Series(one["artifact"], [errors.get(place) for place in places]))
    return lines(places, series, "error, relative to the reference's block output")


def _draw_traffic(document: Document) -> Markup:
    plans = document["plans"]
    if not plans:
        return _absent("no plan was made. `dualexport verify --plan` compiles the files, where TensorRT is installed.")
    kinds = list(dict.fromkeys(kind for plan in plans for kind in plan["moved_mb_by_kind"]))
    parts = [Series(kind, [plan["moved_mb_by_kind"].get(kind) for plan in plans]) for kind in kinds]
    return stacked(
        [plan["model"] for plan in plans], parts, "MB of activations that the compiled layers read and write"
    )
