"""The verification as one self-contained HTML page: nothing in it is loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence

from . import figures
from .figures import Document, class_name, percent
from .markup import Markup, join, tag
from .overview import OVERVIEW_NOTE, list_networks, name_networks, tabulate_overview
from .pictures import draw_pictures, draw_sizes, draw_tradeoff
from .style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_html(document: Document) -> str:
    """The page of the document that `dualexport verify --json` prints, of one network or of several."""
    networks = list_networks(document)
    names = name_networks(networks)
    title = " and ".join(names)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{title}: verification"),
        tag("style", Markup(STYLE)),
    )
    if len(networks) == 1:
        (network,) = networks
        top = join(tag("p", _summarize(network), class_="soft"), _show_decision(document["decision"]))
        body = join(tag("h1", title), top, _show_network(network))
    else:
        details = [_show_details(name, network) for name, network in zip(names, networks, strict=True)]
        body = join(tag("h1", title), _show_decision(document["decision"]), _show_overview(networks), *details)
    page = tag("main", body, tag("h2", "Environment"), _show_environment(networks[0]), _show_manifests(names, networks))
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', page), lang='en')}\n"


def _show_overview(networks: Sequence[Document]) -> Markup:
    """All artifacts of several networks: a table and pictures."""
    overview = tabulate_overview(networks)
    return join(
        tag("h2", "All artifacts"),
        _table(overview.columns, overview.rows),
        tag("p", OVERVIEW_NOTE, class_="soft"),
        tag(
            "div",
            tag("div", tag("h3", "Accuracy against latency"), draw_tradeoff(networks), class_="card"),
            tag("div", tag("h3", "Accuracy against size"), draw_sizes(networks), class_="card"),
            class_="grid",
        ),
    )


def _show_details(name: str, network: Document) -> Markup:
    """One of several networks."""
    return join(tag("h1", name, class_="network"), tag("p", _summarize(network), class_="soft"), _show_network(network))


def _show_network(network: Document) -> Markup:
    return join(
        tag("h2", "Agreement with the reference"),
        _table(figures.AGREEMENT_COLUMNS, figures.agreement_rows(network)),
        _show_accuracy(network),
        _show_latency(network),
        tag("h2", "Pictures"),
        draw_pictures(network),
        tag("h2", "Limits"),
        _show_limits(network),
        _show_bisections(network),
        tag("h2", "Worst clips"),
        _show_worst(network),
    )


def _show_manifests(names: Sequence[str], networks: Sequence[Document]) -> Markup:
    return join(
        *(
            join(
                tag("h2", "Manifest" if len(networks) == 1 else f"Manifest of {name}"),
                tag("pre", json.dumps(network["manifest"], indent=2)),
            )
            for name, network in zip(names, networks, strict=True)
        )
    )


def _summarize(document: Document) -> str:
    network, reference = document["network"], document["reference"]
    weights = "random weights" if network["random_weights"] else "trained weights"
    return (
        f"DualFormer-{network['size']}, {network['classes']} classes, {weights}; {reference['clips']} clips of "
        f"{reference['videos']} videos, {reference['labelled']} of them labelled; the reference is {reference['name']}."
    )


def _show_decision(decision: Document) -> Markup:
    verdict = "Ship" if decision["ship"] else "Do not ship"
    why = decision["reasons"] or ["every artifact ran, and holds every limit"]
    caveats = tag("ul", *(tag("li", line) for line in decision["caveats"]), class_="caveats")
    return tag(
        "div",
        tag("strong", verdict),
        tag("ul", *(tag("li", line) for line in why)),
        caveats if decision["caveats"] else None,
        class_="decision" if decision["ship"] else "decision no",
    )


def _show_accuracy(document: Document) -> Markup:
    rows = figures.accuracy_rows(document)
    title = tag("h2", "Accuracy on labels")
    if not rows:
        return join(title, tag("p", f"Not known: {document['reference']['accuracy_unknown']}.", class_="absent"))
    note = "In brackets: 95% intervals. Lost and gained: videos that only the reference, only the artifact gets right."
    return join(title, _table(figures.ACCURACY_COLUMNS, rows), tag("p", note, class_="soft"))


def _show_latency(document: Document) -> Markup:
    latency, title = document["latency"], tag("h2", "Latency")
    if latency is None:
        absent = "Not known: no latency was measured for these files. `dualexport bench` measures it."
        return join(title, tag("p", absent, class_="absent"))
    warnings = [tag("p", line, class_="caveats") for line in latency["warnings"]]
    verdicts = [tag("p", verdict["sentence"]) for verdict in latency["verdicts"]]
    note = (
        f"{latency['copies']} In brackets the spread of the ratio over rounds; the reference is {latency['reference']}."
    )
    rows = _table(figures.LATENCY_COLUMNS, figures.latency_rows(latency))
    return join(title, *warnings, *verdicts, rows, tag("p", note, class_="soft"))


def _show_limits(document: Document) -> Markup:
    columns = ("figure", "got", "limit", "result")
    cards = [
        tag("div", tag("h3", report["artifact"]), _table(columns, figures.limit_rows(report)), class_="card")
        for report in document["reports"]
    ]
    return tag("div", *cards, class_="grid")


def _show_bisections(document: Document) -> Markup | None:
    parts = [
        join(tag("p", f"{one['remark']}."), tag("pre", one["command"]) if one["command"] else None)
        for one in document["bisection"] or ()
    ]
    return join(tag("h2", "What to leave unquantized"), *parts) if parts else None


def _show_worst(document: Document) -> Markup:
    labels = document["network"]["labels"]
    parts = []
    for report in document["reports"]:
        shown = [_show_clip(clip, labels) for clip in report["worst"]]
        parts.append(join(tag("h3", report["artifact"]), tag("div", *shown, class_="clips")) if shown else None)
    return join(*parts)


def _show_clip(clip: Document, labels: Sequence[str]) -> Markup:
    def line(who: str, score: Document) -> Markup:
        return tag("div", f"{who}: {class_name(score['index'], labels)}, {percent(score['probability'])}")

    picture = clip.get("thumbnail")
    agree = clip["reference"]["index"] == clip["artifact"]["index"]
    return tag(
        "div",
        tag("img", src=picture, alt=f"frames of {clip['name']}") if picture else None,
        tag("div", tag("b", f"{clip['name']} (view {clip['view']})")),
        tag("div", f"label: {class_name(clip['label'], labels)}") if clip["label"] is not None else None,
        line("reference", clip["reference"]),
        tag("div", line("artifact", clip["artifact"]), class_=None if agree else "FAIL"),
        tag("div", f"largest difference {figures.number(clip['difference'], '.2e')}", class_="soft"),
        class_="clip",
    )


def _show_environment(document: Document) -> Markup:
    rows = [*document["environment"].items(), *(document["tools"].items())]
    return _table(
        ("", ""), [(name.replace("_", " "), figures.ABSENT if value is None else str(value)) for name, value in rows]
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    header = tag("tr", *(tag("th", column) for column in columns))
    body = [
        tag("tr", *(tag("td", cell, class_=cell if cell in ("PASS", "FAIL") else None) for cell in row)) for row in rows
    ]
    return tag("div", tag("table", tag("thead", header), tag("tbody", *body)), class_="scroll")
