"""The verification as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import figures
from .figures import Document, class_name, percent
from .overview import OVERVIEW_NOTE, list_networks, name_networks, tabulate_overview

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~@])")


def render_markdown(document: Document) -> str:
    """Decision, tables and worst clips of the document that `dualexport verify --json` prints."""
    decision, networks = document["decision"], list_networks(document)
    names = name_networks(networks)
    lines = [f"## {_text(' and '.join(names))}: {'ship' if decision['ship'] else 'do not ship'}", ""]
    lines += [f"- {_text(reason)}" for reason in decision["reasons"]]
    lines += [f"- Note: {_text(caveat)}" for caveat in decision["caveats"]]
    if len(networks) > 1:
        overview = tabulate_overview(networks)
        lines += ["", *_table(overview.columns, overview.rows), "", _text(OVERVIEW_NOTE)]
    for name, network in zip(names, networks, strict=True):
        lines += ["", f"## {_text(name)}"] if len(networks) > 1 else []
        lines += _describe_network(network)
    return "\n".join([*lines, ""])


def _describe_network(network: Document) -> list[str]:
    reference = network["reference"]
    lines = [
        "",
        f"{reference['clips']} clips of {reference['videos']} videos; reference: {_text(reference['name'])}.",
        "",
    ]
    lines += _table(figures.AGREEMENT_COLUMNS, figures.agreement_rows(network))
    accuracy = figures.accuracy_rows(network)
    if accuracy:
        lines += ["", "### Accuracy on labels", "", *_table(figures.ACCURACY_COLUMNS, accuracy)]
    if network["latency"] is not None:
        lines += ["", "### Latency", "", *(f"{_text(warning)}\n" for warning in network["latency"]["warnings"])]
        lines += _table(figures.LATENCY_COLUMNS, figures.latency_rows(network["latency"]))
        lines += [line for verdict in network["latency"]["verdicts"] for line in ("", _text(verdict["sentence"]))]
    limits = [(report["artifact"], *row) for report in network["reports"] for row in figures.limit_rows(report)]
    lines += ["", "### Limits", "", *_table(("artifact", "figure", "got", "limit", "result"), limits)]
    return [*lines, *_list_bisections(network), *_list_worst(network)]


def _list_bisections(document: Document) -> list[str]:
    lines = []
    for one in document["bisection"] or ():
        lines += [
            "",
            f"{_text(one['remark'])}.",
            *(["", f"    {' '.join(one['command'].split())}"] if one["command"] else []),
        ]
    return ["", "### What to leave unquantized", *lines] if lines else []


def _list_worst(document: Document) -> list[str]:
    labels = document["network"]["labels"]
    rows = [
        (
            report["artifact"],
            f"{clip['name']} (view {clip['view']})",
            *(
                f"{class_name(score['index'], labels)}, {percent(score['probability'])}"
                for score in (clip["reference"], clip["artifact"])
            ),
        )
        for report in document["reports"]
        for clip in report["worst"][:3]
    ]
    if not rows:
        return []
    return ["", "### Worst clips", "", *_table(("artifact", "clip", "reference", "artifact says"), rows)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [" | ".join(columns), " | ".join("---" for _ in columns)]
    return [f"| {line} |" for line in (*head, *(" | ".join(map(_text, row)) for row in rows))]


def _text(value: str) -> str:
    """Text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", " ".join(value.split()))
