"""Makes the tables of docs/gpu-results.md from what scripts/gpu-check recorded.

Usage: python benchmarks/gpu_results.py gpu-check.jsonl > tables.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def main() -> int:
    """Print the tables of one file."""
    print(write_tables(read_rows(Path(sys.argv[1]))), end="")
    return 0


def read_rows(path: Path) -> Rows:
    """The rows by name; a last line that was cut off is left out."""
    rows: Rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["row"]] = row
    return rows


def write_tables(rows: Rows) -> str:
    """All tables, in Markdown."""
    parts = [
        _describe_machine(rows),
        _table_engines(rows),
        _table_torch(rows),
        _table_products(rows),
        _list_others(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_machine(rows: Rows) -> str:
    found = rows.get("environment", {}).get("found", {})
    device = found.get("device") or {}
    versions = ", ".join(f"{name} {value}" for name, value in (found.get("versions") or {}).items() if value)
    rehearsed = " This was a rehearsal on a device that is not there." if rows.get("start", {}).get("dry_run") else ""
    return (
        f"{device.get('name', 'no GPU')}, compute capability {device.get('compute_capability', '-')}, driver "
        f"{(found.get('environment') or {}).get('gpu_driver')} (CUDA {device.get('cuda')}), {rows['start']['at']}. "
        f"{versions}.{rehearsed}"
    )


def _table_engines(rows: Rows) -> str:
    lines = []
    for name, row in rows.items():
        if name.startswith(("engine/", "onnx/", "rtx-provider/")) and "found" in row:
            found = row["found"]
            numbers = found.get("numbers") or {}
            for one in found["measurement"]["results"]:
                way = "wall" if one["copies"] == "included" else "graph" if one["cuda_graph"] else "launches"
                figures = [one["p50_ms"], one["p99_ms"], one["enqueue_ms"], one["copy_in_ms"], one["copy_out_ms"]]
                closeness = [_number(numbers.get("snr_db"), 1), _number(numbers.get("top1_agreement"), 2)]
                lines.append([name, way, str(one["batch"]), *map(_ms, figures), *closeness])
    columns = ("what", "time", "batch", "p50 ms", "p99", "enqueue", "copy in", "copy out", "SNR, dB", "top-1 agreement")
    return _table(columns, lines)


def _table_torch(rows: Rows) -> str:
    lines = []
    for name, row in rows.items():
        if name.startswith("torch/") and "found" in row:
            _, size, variant, batch, mode = name.split("/")
            found = row["found"]
            plain = rows.get(f"torch/{size}/plain/{batch}/{mode}", {}).get("found")
            gain = f"{plain['clip_ms'] / found['clip_ms']:.2f}" if plain else ""
            figures = [_ms(found["ms"]["p50"]), _ms(found["ms"]["p99"]), _ms(found["clip_ms"]), gain]
            numbers = found["numbers"]
            lines.append([size, variant, batch.removeprefix("batch "), mode, *figures, _number(numbers["snr_db"], 1)])
    columns = ("size", "network", "batch", "PyTorch", "p50 ms", "p99", "ms a clip", "times plain's speed", "SNR, dB")
    return _table(columns, lines)


def _table_products(rows: Rows) -> str:
    lines = []
    for name, row in rows.items():
        if name.startswith("products/") and "found" in row:
            found = row["found"]
            figures = [_ms(found["fp16"]["p50"]), _ms(found["int8"]["p50"]), f"{found['int8_gain']:.2f}"]
            lines.append([*name.split("/")[1:], str(found["products"]), *figures])
    return _table(("size", "batch", "products", "FP16, ms", "INT8, ms", "times as fast"), lines)


def _list_others(rows: Rows) -> str:
    """A line for each row that was skipped or failed, and for what the probes and builds found."""
    lines = []
    for name, row in rows.items():
        if "error" in row or "skipped" in row:
            lines.append(f"- {name}: {row.get('error') or 'skipped: ' + row['skipped']}")
        elif name.startswith(("probe/", "tests", "reference/")):
            lines.append(f"- {name}: {json.dumps(row.get('found'))}")
        elif name.startswith("build/"):
            record = row["found"]["record"]
            lines.append(
                f"- {name}: {record['build_seconds']} s, {record['fused_attentions']} of {record['attentions']} fused"
            )
    return "\n".join(lines)


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(_write_table(columns, lines)) if lines else ""


def _write_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (columns, ["---"] * len(columns), *lines):
        yield f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    return _number(value, 3)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
