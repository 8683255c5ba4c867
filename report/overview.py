"""All artifacts of all networks of a document side by side: one table, and accuracy against latency in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .figures import ABSENT, Document, number, percent, result, share

COLUMNS = (
    *("", "MB", "GMACs", "in INT8", "accuracy", "agreement", "SNR dB", "MB moved", "ms a clip"),
    *("ratio", "result"),
)
OVERVIEW_NOTE = (
    "In brackets: 95% intervals. Agreement and SNR are to each network's own reference; accuracy is on the labels, "
    "the same for all. Ratio: time a clip to that of the first FP32 file in the same run of `dualexport bench`."
)


@dataclass(frozen=True, slots=True)
class Overview:
    """A table: as many cells a row as columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def list_networks(document: Document) -> Sequence[Document]:
    """The documents of single networks in a document of several; a document of one is itself."""
    networks: Sequence[Document] = document.get("networks", [document])
    return networks


def name_networks(networks: Sequence[Document]) -> list[str]:
    """The networks' names; where a name comes twice, their folders."""
    names = [network["network"]["name"] for network in networks]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else str(network["folder"]) for name, network in zip(names, networks, strict=True)
    ]


def name_artifact(report: Document, network: str) -> str:
    """The artifact's file name, behind its folder where the file's name does not hold the network's."""
    name = str(report["artifact"])
    return name if name.startswith(network) else f"{network}/{name}"


def tabulate_overview(networks: Sequence[Document]) -> Overview:
    """Each network's trained weights, then its artifacts; columns in which nothing is known are left out."""
    rows: list[dict[str, str]] = []
    for name, network in zip(name_networks(networks), networks, strict=True):
        reference = network["reference"]
        own = reference["accuracy"]
        rows.append({"": f"{name}: {reference['name']}", "accuracy": share(own and own["top1"])})
        rows += [_describe(network, report, name) for report in network["reports"]]
    columns = [column for column in COLUMNS if any(row.get(column, ABSENT) != ABSENT for row in rows)]
    return Overview(tuple(columns), tuple(tuple(row.get(column, "") for column in columns) for row in rows))


def find_latency(network: Document, report: Document) -> Document | None:
    """What was measured of an artifact in wall time; None where nothing was."""
    results = (network["latency"] or {}).get("results", ())
    wanted = (report["sha256"], "included")
    return next((one for one in results if (one["sha256"], one["copies"]) == wanted), None)


def _describe(network: Document, report: Document, name: str) -> dict[str, str]:
    measured, work = find_latency(network, report) or {}, report.get("work") or {"shares": {}}
    moved = [
        sum(one["moved_mb_by_kind"].values()) for one in network["plans"] or () if one["model"] == report["artifact"]
    ]
    ratio = measured.get("ratio") or {}
    return {
        "": name_artifact(report, name),
        "MB": number(report["size_bytes"] and report["size_bytes"] / 1e6, ".1f"),
        "GMACs": number(work.get("gmacs_a_clip"), ".2f"),
        "in INT8": percent(work["shares"].get("int8"), 0),
        "accuracy": share(report["accuracy"] and report["accuracy"]["top1"]),
        "agreement": percent(report["agreement"] and report["agreement"]["share"]),
        "SNR dB": number(report["snr_db"], ".1f"),
        "MB moved": number(moved[0] if moved else None, ",.0f"),
        "ms a clip": number(measured.get("clip_ms"), ".1f"),
        "ratio": number(ratio.get("median"), ".2f"),
        "result": result(report["passed"]),
    }
