"""The verification as Markdown, for a pull request."""

from __future__ import annotations

import re

from .document import Document, Verification
from .tables import (
    OVERVIEW_NOTE,
    Table,
    tabulate_accuracy,
    tabulate_agreement,
    tabulate_latency,
    tabulate_limits,
    tabulate_overview,
    tabulate_worst,
)

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~@])")
MOST_CLIPS = 3  # of the worst ones, an artifact


def render_markdown(document: Document) -> str:
    """Decision, tables and worst clips."""
    decision, several = document.decision, len(document.networks) > 1
    names = " and ".join(name for name, _ in document.named)
    lines = [f"## {escape(names)}: {'ship' if decision.ship else 'do not ship'}", ""]
    lines += [f"- {escape(reason)}" for reason in decision.reasons]
    lines += [f"- Note: {escape(caveat)}" for caveat in decision.caveats]
    if several:
        lines += ["", *mark_table(tabulate_overview(document)), "", escape(OVERVIEW_NOTE)]
    for name, network in document.named:
        lines += ["", f"## {escape(name)}"] if several else []
        lines += _describe_network(network)
    return "\n".join([*lines, ""])


def _describe_network(network: Verification) -> list[str]:
    reference = network.reference
    lines = ["", f"{reference.clips} clips of {reference.videos} videos; reference: {escape(reference.name)}.", ""]
    lines += mark_table(tabulate_agreement(network))
    accuracy = tabulate_accuracy(network)
    if accuracy.rows:
        lines += ["", "### Accuracy on labels", "", *mark_table(accuracy)]
    if network.latency is not None:
        lines += ["", "### Latency", "", *(f"{escape(warning)}\n" for warning in network.latency.warnings)]
        lines += mark_table(tabulate_latency(network.latency))
        lines += [line for verdict in network.latency.verdicts for line in ("", escape(verdict.sentence))]
    for report in network.reports:
        limits = tabulate_limits(report)
        lines += ["", f"### {escape(limits.title)}", "", *mark_table(limits)]
    return [*lines, *_list_bisections(network), *_list_worst(network)]


def _list_bisections(network: Verification) -> list[str]:
    lines = []
    for one in network.bisection or ():
        lines += ["", f"{escape(one.remark)}."]
        lines += ["", f"    {' '.join(one.command.split())}"] if one.command else []
    return ["", "### What to leave unquantized", *lines] if lines else []


def _list_worst(network: Verification) -> list[str]:
    lines: list[str] = []
    for report in network.reports:
        if report.worst:
            worst = tabulate_worst(report, network.network.labels)
            lines += ["", f"### {escape(worst.title)}", "", *mark_table(worst._replace(rows=worst.rows[:MOST_CLIPS]))]
    return lines


def mark_table(table: Table) -> list[str]:
    head = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    return [f"| {line} |" for line in (*head, *(" | ".join(map(escape, row)) for row in table.rows))]


def escape(value: str) -> str:
    """Text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", " ".join(value.split()))
