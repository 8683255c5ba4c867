"""The tables of a verification, which the page, the text and the terminal show alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .bench import Latency, Measured
from .document import Accuracy, ArtifactReport, BlockErrors, Document, PairedTest, Verification
from .figures import ABSENT, class_name, distinguish, got, interval, limit, number, percent, result, score, share

Row = tuple[str, ...]
AGREEMENT = (
    *("artifact", "MB", "clips", "top-1 agreement", "top-5", "largest diff", "mean diff", "cosine", "KL", "SNR dB"),
    "result",
)
BRIEF_AGREEMENT = ("artifact", "top-1", "largest diff", "cosine", "KL", "SNR dB", "result")
ACCURACY = ("network", "one view", "all views", "top-5", "lost / gained", "drop", "McNemar p")
BRIEF_ACCURACY = ("network", "accuracy", "95% interval", "lost / gained", "drop", "McNemar p")
OVERVIEW = (
    *("", "MB", "GMACs", "in 8 bits", "accuracy", "agreement", "SNR dB", "MB moved", "ms a clip"),
    *("ratio", "result"),
)
SHOWN_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
OVERVIEW_NOTE = (
    "In brackets: 95% intervals. Agreement and SNR are to each network's own reference; accuracy is on the labels, "
    "the same for all. Ratio: time a clip to that of the first FP32 file in the same run of `dualexport bench`."
)


class Table(NamedTuple):
    """A title, the names of columns, and as many cells a row."""

    title: str
    columns: Row
    rows: tuple[Row, ...]


def tabulate_agreement(network: Verification, columns: Row = AGREEMENT) -> Table:
    """A row an artifact: how far its logits are from the reference's."""
    reference = network.reference
    cells = [_describe_agreement(report) for report in network.reports]
    rows = tuple(tuple(row[column] for column in columns) for row in cells)
    return Table(f"Logits against {reference.name} on {reference.clips} clips", columns, rows)


def _describe_agreement(report: ArtifactReport) -> dict[str, str]:
    return {
        "artifact": report.artifact,
        "MB": number(report.size_mb, ".1f"),
        "clips": str(report.clips),
        "top-1": percent(report.agreement.share if report.agreement else None),
        "top-1 agreement": share(report.agreement),
        "top-5": percent(report.top5_agreement if report.clips else None),
        "largest diff": number(report.largest_difference, ".1e"),
        "mean diff": number(report.mean_difference, ".1e"),
        "cosine": number(report.cosine, ".6f"),
        "KL": number(report.kl_divergence, ".1e"),
        "SNR dB": number(report.snr_db, ".1f"),
        "result": result(report.passed),
    }


def tabulate_accuracy(network: Verification, columns: Row = ACCURACY) -> Table:
    """The reference, then a row an artifact: accuracy on labels; no rows without labels."""
    own = network.reference.accuracy
    cells = [] if own is None else [{"network": "reference", **_describe_accuracy(own)}]
    for report in network.reports:
        if report.accuracy is not None and report.paired is not None:
            pairs = _describe_pairs(report.paired)
            cells.append({"network": report.artifact, **_describe_accuracy(report.accuracy), **pairs})
    rows = tuple(tuple(row.get(column, "") for column in columns) for row in cells)
    return Table(f"Accuracy on {network.reference.labelled} labelled videos", columns, rows)


def _describe_accuracy(accuracy: Accuracy) -> dict[str, str]:
    return {
        "one view": share(accuracy.single_view),
        "all views": share(accuracy.top1),
        "top-5": share(accuracy.top5),
        "accuracy": percent(accuracy.top1.share),
        "95% interval": interval(accuracy.top1),
    }


def _describe_pairs(paired: PairedTest) -> dict[str, str]:
    significance = "" if paired.is_significant else ", not significant"
    return {
        "lost / gained": f"{paired.lost} / {paired.gained}",
        "drop": f"{paired.drop * 100:+.1f} points",
        "McNemar p": f"{paired.p_value:.2g}{significance}",
    }


def tabulate_thresholds(report: ArtifactReport, labels: Sequence[str]) -> Table:
    """A row a class: the threshold of best F1, and precision and recall at it and at others; no rows without labels."""
    classes = report.thresholds.classes if report.thresholds else ()
    rows = tuple(
        (
            class_name(one.index, labels),
            str(one.clips),
            number(one.suggested, ".2f"),
            number(one.f1, ".2f"),
            f"{percent(one.precision)} / {percent(one.recall)}",
            *(f"{percent(point.precision)} / {percent(point.recall)}" for point in map(one.at, SHOWN_THRESHOLDS)),
        )
        for one in classes
    )
    shown = (f"at {threshold}" for threshold in SHOWN_THRESHOLDS)
    columns = ("class", "clips", "suggested threshold", "F1", "precision / recall there", *shown)
    return Table(f"Thresholds by class of {report.artifact}", columns, rows)


def tabulate_limits(report: ArtifactReport) -> Table:
    """A row a limit of one artifact."""
    rows = [] if report.failure is None else [("runs", report.failure, "", result(False))]
    rows += [(check.name.replace("_", " "), got(check), limit(check), result(check.passed)) for check in report.checks]
    return Table(f"Limits of {report.artifact}", ("figure", "got", "limit", "result"), tuple(rows))


def tabulate_worst(report: ArtifactReport, labels: Sequence[str]) -> Table:
    """A row a clip on which an artifact is far from the reference."""
    rows = tuple(
        (
            clip.title,
            "" if clip.label is None else class_name(clip.label, labels),
            score(clip.reference, labels),
            score(clip.artifact, labels),
            number(clip.difference, ".2e"),
        )
        for clip in report.worst
    )
    return Table(f"Worst clips of {report.artifact}", ("clip", "label", "reference", "artifact", "largest diff"), rows)


def tabulate_blocks(artifacts: Sequence[BlockErrors]) -> Table:
    """A row a block, a column an artifact: the error behind the block."""
    errors = [{block.name: number(block.relative_error, ".1e") for block in one.blocks} for one in artifacts]
    names = dict.fromkeys(name for column in errors for name in column)
    rows = tuple((name, *(column.get(name, "") for column in errors)) for name in names)
    columns = ("block", *distinguish([one.artifact for one in artifacts]))
    return Table(f"Relative error behind each block, on {artifacts[0].clips} clips", columns, rows)


def tabulate_latency(latency: Latency) -> Table:
    """A row an artifact and batch."""
    columns = ("artifact", "runner", "time", "batch", "p50 ms", "p90", "p99", "max", "ms a clip", "clips a second")
    rows = tuple(_describe_latency(measured) for measured in latency.results)
    return Table("Latency", (*columns, "load s", "peak MB", "ratio to reference"), rows)


def _describe_latency(one: Measured) -> Row:
    return (
        one.artifact,
        one.runner,
        ("wall" if one.copies == "included" else "device events") + ", CUDA graph" * one.cuda_graph,
        str(one.batch),
        *(number(value, ".2f") for value in (one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms, one.clip_ms)),
        number(one.clips_a_second, ".1f"),
        number(one.load_seconds, ".2f"),
        number(one.host_peak_mb, ".0f"),
        ABSENT if one.ratio is None else f"{one.ratio.median:.2f} ({one.ratio.low:.2f} to {one.ratio.high:.2f})",
    )


def tabulate_overview(document: Document) -> Table:
    """Each network's reference, then its artifacts; columns in which nothing is known are left out."""
    rows: list[dict[str, str]] = []
    for name, network in document.named:
        own = network.reference.accuracy
        rows.append({"": f"{name}: {network.reference.name}", "accuracy": share(own.top1 if own else None)})
        rows += [_describe_artifact(network, report, name) for report in network.reports]
    columns = tuple(column for column in OVERVIEW if any(row.get(column, ABSENT) != ABSENT for row in rows))
    return Table("All artifacts", columns, tuple(tuple(row.get(column, "") for column in columns) for row in rows))


def _describe_artifact(network: Verification, report: ArtifactReport, name: str) -> dict[str, str]:
    measured = network.find_latency(report)
    plan = next((one for one in network.plans or () if one.model == report.artifact), None)
    ratio = measured.ratio if measured else None
    return {
        "": name_artifact(report, name),
        "MB": number(report.size_mb, ".1f"),
        "GMACs": number(report.work.gmacs_a_clip if report.work else None, ".2f"),
        "in 8 bits": percent(report.work.eight_bit_share if report.work else None, 0),
        "accuracy": share(report.accuracy.top1 if report.accuracy else None),
        "agreement": percent(report.agreement.share if report.agreement else None),
        "SNR dB": number(report.snr_db, ".1f"),
        "MB moved": number(sum(plan.moved_mb_by_kind.values()) if plan else None, ",.0f"),
        "ms a clip": number(measured.clip_ms if measured else None, ".1f"),
        "ratio": number(ratio.median if ratio else None, ".2f"),
        "result": result(report.passed),
    }


def name_artifact(report: ArtifactReport, network: str) -> str:
    """The artifact's file name, behind its folder where the file's name does not hold the network's."""
    return report.artifact if report.artifact.startswith(network) else f"{network}/{report.artifact}"


def outline(document: Document) -> Iterator[Table | str]:
    """Tables and lines in the order in which a terminal shows them; the last line is the verdict."""
    for network in document.networks:
        if len(document.networks) > 1:
            yield network.folder
        yield from _outline_network(network)
    if len(document.networks) > 1:
        yield tabulate_overview(document)
    decision = document.decision
    yield from (f"caveat: {caveat}" for caveat in decision.caveats)
    why = decision.reasons or ("every artifact ran, and holds every limit",)
    yield f"{'ship' if decision.ship else 'do not ship'}: {'; '.join(why)}"


def _outline_network(network: Verification) -> Iterator[Table | str]:
    yield tabulate_agreement(network, BRIEF_AGREEMENT)
    if network.reference.accuracy is not None:
        yield tabulate_accuracy(network, BRIEF_ACCURACY)
    for report in network.reports:
        yield tabulate_limits(report)
        if not report.passed and report.worst:
            yield tabulate_worst(report, network.network.labels)
    if network.layers:
        yield tabulate_blocks(network.layers)
    for one in network.layers or ():
        yield f"{one.artifact}: {one.remark}"
        if one.missing:
            yield f"{one.artifact}: not in the graph: {', '.join(one.missing)}"
    for found in network.bisection or ():
        yield f"{found.remark} ({found.graphs_tried} graphs tried)"
        if found.command:
            yield f"  {found.command}"
    if network.latency is not None:
        yield from (verdict.sentence for verdict in network.latency.verdicts)
