"""How a verification looks on a screen: agreement, accuracy on labels, every limit, the worst clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..commands import console
from .overview import list_networks, tabulate_overview

if TYPE_CHECKING:
    from ..verification.compare import Comparison
    from ..verification.limits import LimitCheck
    from ..verification.measures import PairedTest, Share
    from ..verification.tally import ClassScore, ComparisonReport, LabelAccuracy


def print_verification(comparison: Comparison, labels: Sequence[str]) -> None:
    """One row an artifact in each table; class names where `labels` has them."""
    _print_agreement(comparison)
    if comparison.accuracy is not None:
        _print_accuracy(comparison)
    _print_limits(comparison.reports)
    for report in comparison.reports:
        if not report.passed and report.worst:
            _print_worst(report, labels)


def print_layers(layers: Sequence[Mapping[str, Any]]) -> None:
    """A row a block, a column an artifact; then where each error enters."""
    if not layers:
        return
    errors = [{block["name"]: f"{block['relative_error']:.1e}" for block in one["blocks"]} for one in layers]
    names = dict.fromkeys(name for column in errors for name in column)
    rows = [(name, *(column.get(name, "") for column in errors)) for name in names]
    title = f"Relative error behind each block ({layers[0]['clips']} clips)"
    console.print_table(title, ("block", *(one["artifact"] for one in layers)), rows)
    for one in layers:
        print(f"{one['artifact']}: {one['remark']}")
        if one["missing"]:
            print(f"{one['artifact']}: not in the graph: {', '.join(one['missing'])}")


def print_bisection(bisections: Sequence[Mapping[str, Any]]) -> None:
    """What was found for each file, and the command that makes it so."""
    for one in bisections:
        print(f"{one['remark']} ({one['graphs_tried']} graphs tried)")
        if one["command"]:
            print(f"  {one['command']}")


def print_verdicts(latency: Mapping[str, Any] | None) -> None:
    """What was measured of INT8's speed."""
    for verdict in latency["verdicts"] if latency else ():
        print(verdict["sentence"])


def print_overview(document: Mapping[str, Any]) -> None:
    """A row an artifact of all networks in the document."""
    overview = tabulate_overview(list_networks(document))
    console.print_table("All networks", overview.columns, overview.rows)


def name_class(index: int, labels: Sequence[str]) -> str:
    """The class's name, or its number where names are not known."""
    return labels[index] if index < len(labels) else f"class {index}"


def _print_agreement(comparison: Comparison) -> None:
    columns = (
        *("artifact", "clips", "top-1 agreement", "top-5", "largest diff", "mean diff", "cosine", "KL", "SNR dB"),
        "result",
    )
    rows = [
        (
            report.artifact,
            str(report.clips),
            f"{report.top1_agreement:.1%}",
            f"{report.top5_agreement:.1%}",
            f"{report.largest_difference:.1e}",
            f"{report.mean_difference:.1e}",
            f"{report.cosine:.6f}",
            f"{report.kl_divergence:.1e}",
            f"{report.snr_db:.1f}",
            "PASS" if report.passed else "FAIL",
        )
        for report in comparison.reports
    ]
    console.print_table(f"Logits against {comparison.reference}", columns, rows)


def _print_accuracy(comparison: Comparison) -> None:
    assert comparison.accuracy is not None
    rows = [("reference", *_accuracy_cells(comparison.accuracy), "", "")]
    rows += [
        (report.artifact, *_accuracy_cells(report.accuracy), *_paired_cells(report.paired))
        for report in comparison.reports
        if report.accuracy is not None and report.paired is not None
    ]
    columns = ("network", "one view", "all views", "95% interval", "top-5", "lost / gained", "drop, McNemar p")
    console.print_table(f"Accuracy on {comparison.labelled} labelled videos", columns, rows)


def _accuracy_cells(accuracy: LabelAccuracy) -> tuple[str, ...]:
    top1 = accuracy.top1
    return (
        f"{accuracy.single_view.share:.1%}",
        f"{top1.share:.1%}",
        _interval(top1),
        f"{accuracy.top5.share:.1%}",
    )


def _interval(share: Share) -> str:
    return f"{share.low:.1%} to {share.high:.1%}"


def _paired_cells(paired: PairedTest) -> tuple[str, str]:
    significant = "" if paired.is_significant else ", not significant"
    return f"{paired.lost} / {paired.gained}", f"{paired.drop * 100:+.1f} points, p = {paired.p_value:.2g}{significant}"


def _print_limits(reports: Sequence[ComparisonReport]) -> None:
    rows: list[tuple[str, ...]] = []
    for report in reports:
        if report.failure is not None:
            rows.append((report.artifact, "runs", report.failure, "", "FAIL"))
        rows += [(report.artifact, *_limit_cells(check)) for check in report.checks]
    console.print_table("Limits", ("artifact", "figure", "got", "limit", "result"), rows)


def _limit_cells(check: LimitCheck) -> tuple[str, ...]:
    got = f"{check.got:.4g}" + (f" ({check.remark})" if check.remark else "")
    side = "at least" if check.at_least else "at most"
    return check.name.replace("_", " "), got, f"{side} {check.limit:g}", "PASS" if check.passed else "FAIL"


def _print_worst(report: ComparisonReport, labels: Sequence[str]) -> None:
    def cell(score: ClassScore) -> str:
        return f"{name_class(score.index, labels)} {score.probability:.1%}"

    rows = [
        (
            f"{clip.name} (view {clip.view})",
            "" if clip.label is None else name_class(clip.label, labels),
            cell(clip.reference),
            cell(clip.artifact),
            f"{clip.difference:.2e}",
        )
        for clip in report.worst
    ]
    columns = ("clip", "label", "reference", "artifact", "largest diff")
    console.print_table(f"{report.artifact}: worst clips", columns, rows)
