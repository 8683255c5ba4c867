"""How figures of the JSON document are written for people, the same in every kind of report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
ABSENT = "-"


def number(value: float | None, style: str = ".4g") -> str:
    """A number; what JSON has no number for (NaN, infinity) or does not hold is a dash."""
    return ABSENT if value is None else format(value, style)


def percent(value: float | None, digits: int = 1) -> str:
    return ABSENT if value is None else f"{value:.{digits}%}"


def share(value: Document | None) -> str:
    """A share with its interval: `96.0% (92.3% to 98.0%)`."""
    if value is None:
        return ABSENT
    return f"{value['share']:.1%} ({value['low']:.1%} to {value['high']:.1%})"


def class_name(index: int | None, labels: Sequence[str]) -> str:
    if index is None:
        return ABSENT
    return labels[index] if index < len(labels) else f"class {index}"


def result(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def limit_rows(report: Document) -> list[tuple[str, str, str, str]]:
    """Each limit of an artifact: figure, got, limit, result."""
    rows = []
    if report["failure"] is not None:
        rows.append(("runs", str(report["failure"]), "", "FAIL"))
    for check in report["checks"]:
        got = number(check["got"]) + (f" ({check['remark']})" if check["remark"] else "")
        limit = f"{'at least' if check['at_least'] else 'at most'} {check['limit']:g}"
        rows.append((check["name"].replace("_", " "), got, limit, result(check["passed"])))
    return rows


AGREEMENT_COLUMNS = (
    *("artifact", "MB", "clips", "top-1 agreement", "top-5", "largest diff", "mean diff", "cosine", "KL", "SNR dB"),
    "result",
)


def agreement_rows(document: Document) -> list[tuple[str, ...]]:
    """A row an artifact, under AGREEMENT_COLUMNS."""
    return [
        (
            report["artifact"],
            "" if report["size_bytes"] is None else f"{report['size_bytes'] / 1e6:.1f}",
            str(report["clips"]),
            share(report["agreement"]),
            percent(report["top5_agreement"] if report["clips"] else None),
            number(report["largest_difference"], ".1e"),
            number(report["mean_difference"], ".1e"),
            number(report["cosine"], ".6f"),
            number(report["kl_divergence"], ".1e"),
            number(report["snr_db"], ".1f"),
            result(report["passed"]),
        )
        for report in document["reports"]
    ]


ACCURACY_COLUMNS = ("network", "one view", "all views", "top-5", "lost / gained", "drop", "McNemar p")


def accuracy_rows(document: Document) -> list[tuple[str, ...]]:
    """The reference, then a row an artifact, under ACCURACY_COLUMNS; none without labels."""
    own = document["reference"]["accuracy"]
    if own is None:
        return []
    rows: list[tuple[str, ...]] = [("reference", *_accuracies(own), "", "", "")]
    for report in document["reports"]:
        paired, accuracy = report["paired"], report["accuracy"]
        if paired is not None and accuracy is not None:
            test = (f"{paired['lost']} / {paired['gained']}", f"{paired['drop'] * 100:+.1f} points")
            significance = "" if paired["p_value"] < 0.05 else ", not significant"
            rows.append((report["artifact"], *_accuracies(accuracy), *test, f"{paired['p_value']:.2g}{significance}"))
    return rows


def _accuracies(accuracy: Document) -> tuple[str, str, str]:
    return (share(accuracy["single_view"]), share(accuracy["top1"]), share(accuracy["top5"]))


LATENCY_COLUMNS = (
    *(
        "artifact",
        "runner",
        "time",
        "batch",
        "p50 ms",
        "p90",
        "p99",
        "max",
        "ms a clip",
        "clips a second",
        "load s",
        "peak MB",
    ),
    "ratio to reference",
)


def latency_rows(latency: Document) -> list[tuple[str, ...]]:
    """A row an artifact and batch, under LATENCY_COLUMNS."""
    return [
        (
            measured["artifact"],
            measured["runner"],
            "wall" if measured["copies"] == "included" else "device events",
            str(measured["batch"]),
            *(number(measured[key], ".2f") for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms", "clip_ms")),
            number(measured["clips_a_second"], ".1f"),
            number(measured["load_seconds"], ".2f"),
            number(measured["host_peak_mb"], ".0f"),
            _ratio(measured["ratio"]),
        )
        for measured in latency["results"]
    ]


def _ratio(ratio: Document | None) -> str:
    return ABSENT if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
