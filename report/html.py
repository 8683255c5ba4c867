"""The verification as one self-contained HTML page: nothing in it is loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .bench import Scalar
from .document import ClassScore, Decision, Document, Verification, WorstClip
from .figures import ABSENT, class_name, number, percent
from .markup import Markup, join, tag
from .page import render_page, show_decision, show_table
from .pictures import NO_LATENCY, draw_pictures, draw_sizes, draw_tradeoff, lay_out
from .tables import (
    OVERVIEW_NOTE,
    Table,
    tabulate_accuracy,
    tabulate_agreement,
    tabulate_latency,
    tabulate_limits,
    tabulate_overview,
    tabulate_thresholds,
)

THRESHOLDS_NOTE = (
    "A class counts as there from a probability of its threshold on, on every labelled clip. Suggested is the middle "
    "of the thresholds with the best F1 on these clips; `dualexport stream --thresholds FILE` reads the lines below."
)


def render_html(document: Document) -> str:
    """The page of one network or of several."""
    title = " and ".join(name for name, _ in document.named)
    decision = _show_decision(document.decision)
    if len(document.networks) == 1:
        (network,) = document.networks
        body = join(tag("p", _summarize(network), class_="soft"), decision, _show_network(network))
    else:
        details = [_show_details(name, network) for name, network in document.named]
        body = join(decision, _show_overview(document), *details)
    environment = join(tag("h2", "Environment"), _show_environment(document.networks[0]))
    heading = tag("h1", title)
    return render_page(f"{title}: verification", heading, body, environment, _show_manifests(document))


def _show_overview(document: Document) -> Markup:
    """All artifacts of several networks: a table and pictures."""
    overview = tabulate_overview(document)
    pictures = {
        "Accuracy against latency": draw_tradeoff(document.named),
        "Accuracy against size": draw_sizes(document.named),
    }
    note = tag("p", OVERVIEW_NOTE, class_="soft")
    return join(tag("h2", overview.title), show_table(overview), note, lay_out(pictures))


def _show_details(name: str, network: Verification) -> Markup:
    """One of several networks."""
    return join(tag("h1", name, class_="network"), tag("p", _summarize(network), class_="soft"), _show_network(network))


def _show_network(network: Verification) -> Markup:
    return join(
        tag("h2", "Agreement with the reference"),
        show_table(tabulate_agreement(network)),
        _show_accuracy(network),
        _show_thresholds(network),
        _show_latency(network),
        tag("h2", "Pictures"),
        draw_pictures(network),
        tag("h2", "Limits"),
        _show_limits(network),
        _show_bisections(network),
        tag("h2", "Worst clips"),
        _show_worst(network),
    )


def _show_manifests(document: Document) -> Markup:
    parts = []
    for name, network in document.named:
        title = "Manifest" if len(document.networks) == 1 else f"Manifest of {name}"
        parts.append(join(tag("h2", title), tag("pre", json.dumps(network.manifest, indent=2))))
    return join(*parts)


def _summarize(verification: Verification) -> str:
    network, reference = verification.network, verification.reference
    weights = "random weights" if network.random_weights else "trained weights"
    return (
        f"DualFormer-{network.size}, {network.classes} classes, {weights}; {reference.clips} clips of "
        f"{reference.videos} videos, {reference.labelled} of them labelled; the reference is {reference.name}."
    )


def _show_decision(decision: Decision) -> Markup:
    why = decision.reasons or ("every artifact ran, and holds every limit",)
    return show_decision("Ship" if decision.ship else "Do not ship", why, decision.caveats, positive=decision.ship)


def _show_accuracy(network: Verification) -> Markup:
    table, title = tabulate_accuracy(network), tag("h2", "Accuracy on labels")
    if not table.rows:
        return join(title, tag("p", f"Not known: {network.reference.accuracy_unknown}.", class_="absent"))
    note = "In brackets: 95% intervals. Lost and gained: videos that only the reference, only the artifact gets right."
    return join(title, show_table(table), tag("p", note, class_="soft"))


def _show_thresholds(network: Verification) -> Markup | None:
    parts = []
    for report in network.reports:
        if report.thresholds is not None:
            table = tabulate_thresholds(report, network.network.labels)
            parts += [tag("h3", report.artifact), show_table(table), tag("pre", report.thresholds.toml)]
    return join(tag("h2", "Thresholds by class"), tag("p", THRESHOLDS_NOTE, class_="soft"), *parts) if parts else None


def _show_latency(network: Verification) -> Markup:
    latency, title = network.latency, tag("h2", "Latency")
    if latency is None:
        return join(title, tag("p", f"Not known: {NO_LATENCY}", class_="absent"))
    warnings = [tag("p", line, class_="caveats") for line in latency.warnings]
    verdicts = [tag("p", verdict.sentence) for verdict in latency.verdicts]
    note = f"{latency.copies} In brackets the spread of the ratio over rounds; the reference is {latency.reference}."
    return join(title, *warnings, *verdicts, show_table(tabulate_latency(latency)), tag("p", note, class_="soft"))


def _show_limits(network: Verification) -> Markup:
    cards = [
        tag("div", tag("h3", report.artifact), show_table(tabulate_limits(report)), class_="card")
        for report in network.reports
    ]
    return tag("div", *cards, class_="grid")


def _show_bisections(network: Verification) -> Markup | None:
    parts = [
        join(tag("p", f"{one.remark}."), tag("pre", one.command) if one.command else None)
        for one in network.bisection or ()
    ]
    return join(tag("h2", "What to leave unquantized"), *parts) if parts else None


def _show_worst(network: Verification) -> Markup:
    parts = []
    for report in network.reports:
        if report.worst:
            shown = [_show_clip(clip, network.network.labels) for clip in report.worst]
            parts.append(join(tag("h3", report.artifact), tag("div", *shown, class_="clips")))
    return join(*parts)


def _show_clip(clip: WorstClip, labels: Sequence[str]) -> Markup:
    def line(who: str, score: ClassScore) -> Markup:
        return tag("div", f"{who}: {class_name(score.index, labels)}, {percent(score.probability)}")

    agree = clip.reference.index == clip.artifact.index
    return tag(
        "div",
        tag("img", src=clip.thumbnail, alt=f"frames of {clip.name}") if clip.thumbnail else None,
        tag("div", tag("b", clip.title)),
        tag("div", f"label: {class_name(clip.label, labels)}") if clip.label is not None else None,
        line("reference", clip.reference),
        tag("div", line("artifact", clip.artifact), class_=None if agree else "FAIL"),
        tag("div", f"largest difference {number(clip.difference, '.2e')}", class_="soft"),
        class_="clip",
    )


def _show_environment(network: Verification) -> Markup:
    facts: Mapping[str, Scalar] = {**network.environment, **network.tools}
    cells = ((name.replace("_", " "), ABSENT if value is None else str(value)) for name, value in facts.items())
    return show_table(Table("", ("", ""), tuple(cells)))
