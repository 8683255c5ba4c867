"""The report's pictures; where something was not measured, a sentence stands in the picture's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .charts import Point, Series, distribution, dots, lines, scatter, stacked
from .document import ArtifactReport, Verification
from .figures import class_name
from .markup import Markup, tag
from .tables import name_artifact

MOST_CLASSES = 24
NO_LATENCY = "no latency was measured for these files. `dualexport bench` measures it."
Named = Sequence[tuple[str, Verification]]


def draw_pictures(network: Verification) -> Markup:
    """All pictures of one network as cards in a grid."""
    pictures = {
        "Accuracy against latency": draw_tradeoff([(network.network.name, network)]),
        "Distribution of latency": _draw_latency(network),
        "Agreement by class": _draw_classes(network),
        "Where the error enters and grows": _draw_layers(network),
        "Memory traffic of one inference": _draw_traffic(network),
    }
    return lay_out(pictures)


def lay_out(pictures: dict[str, Markup]) -> Markup:
    """Pictures by title as cards in a grid."""
    cards = [tag("div", tag("h3", title), picture, class_="card") for title, picture in pictures.items()]
    return tag("div", *cards, class_="grid")


def draw_tradeoff(networks: Named) -> Markup:
    """Accuracy against latency: a point an artifact of all networks."""
    if all(network.latency is None for _, network in networks):
        return _absent(NO_LATENCY)

    def find_milliseconds(network: Verification, report: ArtifactReport) -> float | None:
        measured = network.find_latency(report)
        return None if measured is None else measured.clip_ms

    return _draw_accuracy(networks, find_milliseconds, "milliseconds a clip")


def draw_sizes(networks: Named) -> Markup:
    """Accuracy against the size of the file."""
    return _draw_accuracy(networks, lambda _, report: report.size_mb, "MB of the file")


def _draw_accuracy(
    networks: Named, find: Callable[[Verification, ArtifactReport], float | None], x_title: str
) -> Markup:
    """Accuracy, or agreement where labels are missing, against what `find` says of an artifact of a network."""
    labelled = all(network.reference.accuracy is not None for _, network in networks)
    points = []
    for name, network in networks:
        for report in network.reports:
            value = report.accuracy.top1 if labelled and report.accuracy else report.agreement
            x = find(network, report)
            if x is not None and value is not None:
                shares = (value.share, value.low, value.high)
                points.append(Point(name_artifact(report, name), x, *(100 * one for one in shares)))
    if not points:
        return _absent("no artifact has both figures.")
    return scatter(points, x_title, "accuracy on labels, %" if labelled else "top-1 agreement with the reference, %")


def _draw_latency(network: Verification) -> Markup:
    if network.latency is None:
        return _absent(NO_LATENCY)
    series = [
        Series(f"{one.artifact}, batch {one.batch}, copies {one.copies}", one.samples_ms)
        for one in network.latency.results
    ]
    return distribution(series, "milliseconds a run")


def _draw_classes(network: Verification) -> Markup:
    """The classes on which the artifacts agree least with the reference."""
    agreed = {
        report.artifact: {one.index: one.agreed / one.clips for one in report.classes} for report in network.reports
    }
    lowest: dict[int, float] = {}
    for shares in agreed.values():
        for index, value in shares.items():
            lowest[index] = min(lowest.get(index, 1.0), value)
    if not lowest:
        return _absent("no clip was compared.")
    shown = sorted(sorted(lowest, key=lambda index: (lowest[index], index))[:MOST_CLASSES])
    series = [Series(name, [shares.get(index) for index in shown]) for name, shares in agreed.items()]
    rest = len(lowest) - len(shown)
    left_out = f"; the {rest} classes that agree best are left out" if rest else ""
    names = [class_name(index, network.network.labels) for index in shown]
    return dots(names, series, f"clips on which the artifact takes the reference's class{left_out}")


def _draw_layers(network: Verification) -> Markup:
    if not network.layers:
        return _absent("blocks were not compared. `dualexport verify --layers` does.")
    places = [block.name for block in network.layers[0].blocks]
    series = []
    for one in network.layers:
        errors = {block.name: block.relative_error for block in one.blocks}
        series.append(Series(one.artifact, [errors.get(place) for place in places]))
    return lines(places, series, "error, relative to the reference's block output")


def _draw_traffic(network: Verification) -> Markup:
    if not network.plans:
        return _absent("no plan was made. `dualexport verify --plan` compiles the files, where TensorRT is installed.")
    moved = [plan.moved_mb_by_kind for plan in network.plans]
    parts = [
        Series(kind, [one.get(kind) for one in moved]) for kind in dict.fromkeys(kind for one in moved for kind in one)
    ]
    names = [plan.model for plan in network.plans]
    return stacked(names, parts, "MB of activations that the compiled layers read and write")


def _absent(reason: str) -> Markup:
    return tag("p", f"Not known: {reason}", class_="absent")
