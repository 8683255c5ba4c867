"""Records what holds on a machine with an NVIDIA GPU, a JSON line a row, each row in a process of its own.

Called by scripts/gpu-check. The rows that tell the most come first, and what fails, hangs or is not installed is a row
too: whenever the run ends, the file holds all that was found until then. `gpu_results.py` makes tables of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import Any

from dualexport.core.errors import DualExportError
from dualexport.core.manifest import Manifest, find_manifest
from dualexport.core.types import Artifact

ROWS = Path(__file__).with_name("gpu_rows.py")
PROBES = (
    "results",
    "timing",
    "failed_capture",
    "copies",
    "threads",
    "leaks",
    "capture_beside",
    "lost_device",
    "clocks",
)
MODES = ("eager", "compiled", "graph")
VARIANTS = ("plain", "folded", "folded-selected")
SAID = 2000  # characters of a process's last words that are kept
FORMAT = 1  # of the file, in its first line


@dataclass(frozen=True, slots=True)
class Row:
    """A row to record: its name, `engine/dualformer-t/dualformer-t.fp16.onnx`, and the folder it is about."""

    name: str
    folder: Path | None = None


def main() -> int:
    """Record every row; returns 1 when one of them failed."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    until = time.monotonic() + 60 * arguments.minutes
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch,
        arguments.output.open("w", encoding="utf-8") as out,
    ):
        head = {"row": "start", "format": FORMAT, "at": _now(), "arguments": sys.argv[1:], "dry_run": arguments.dry_run}
        _write(out, head)
        for row in list_rows(arguments):
            left = until - time.monotonic()
            found = record(row, arguments, Path(scratch), left) if left > 1 else {"skipped": "no time was left"}
            _write(out, {"row": row.name, **found})
            failed += "error" in found
            print(f"{row.name}: {_summarize(found)}", flush=True)
        _write(out, {"row": "end", "at": _now(), "failed": failed})
    print(f"{failed or 'no'} rows failed; written: {arguments.output}")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="exported folders, or unpacked bundles (no torch needed)")
    parser.add_argument("--clips", type=Path, help="videos to compare on; default: a bundle's, else noise")
    parser.add_argument("--output", type=Path, default=Path("gpu-check.jsonl"))
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything; what does not fit is skipped")
    parser.add_argument("--row-seconds", type=float, default=240.0, help="the longest that one row may take")
    parser.add_argument("--seconds", type=float, default=4.0, help="to time each way of running for")
    parser.add_argument("--sizes", default="b,t", help="networks to time in PyTorch")
    parser.add_argument("--batches", default="1,8", help="their batches")
    parser.add_argument("--only", default="", help="rows whose names begin so, by commas")
    parser.add_argument("--dry-run", action="store_true", help="rehearse on the CPU, over a device that is not there")
    return parser.parse_args()


def list_rows(arguments: argparse.Namespace) -> list[Row]:
    """Every row, the most telling first."""
    only = tuple(name for name in arguments.only.split(",") if name)
    return [row for row in _list_all(arguments) if not only or row.name.startswith(only)]


def _list_all(arguments: argparse.Namespace) -> Iterator[Row]:
    graphs = [(folder, graph) for folder in arguments.folders for graph in _graphs_of(folder)]
    yield Row("environment")
    yield from (Row(f"reference/{folder.name}", folder) for folder in arguments.folders)
    for kind in ("build", "engine"):
        for folder, graph in graphs:
            if graph.options.get("base") != "fp32":  # an INT8 graph for CPUs
                yield Row(f"{kind}/{folder.name}/{graph.path.name}", folder)
    yield from _list_torch(arguments.sizes.split(","), arguments.batches.split(","))
    yield from (Row(f"probe/{probe}") for probe in PROBES)
    for kind in ("onnx", "rtx-provider"):
        yield from (Row(f"{kind}/{folder.name}/{graph.path.name}", folder) for folder, graph in graphs)
    yield Row("tests")


def _list_torch(sizes: Sequence[str], batches: Sequence[str]) -> Iterator[Row]:
    for batch in batches:
        for mode, size, variant in product(MODES, sizes, VARIANTS):
            yield Row(f"torch/{size}/{variant}/batch {batch}/{mode}")
        yield from (Row(f"products/{size}/batch {batch}") for size in sizes)


def _graphs_of(folder: Path) -> Sequence[Artifact]:
    """The ONNX files of a folder, half precision first; none where there is no manifest, which its rows will tell."""
    try:
        manifest: Manifest = find_manifest(folder)
    except DualExportError:
        return ()
    graphs = [artifact for artifact in manifest.artifacts if artifact.format == "onnx"]
    return sorted(graphs, key=lambda graph: ("fp16", "int8", "fp8", "fp32").index(graph.precision.value))


def record(row: Row, arguments: argparse.Namespace, scratch: Path, left: float) -> dict[str, Any]:
    """Run one row in a process of its own; whatever becomes of it is told."""
    command = [sys.executable, str(ROWS), row.name, "--scratch", str(scratch), "--seconds", str(arguments.seconds)]
    command += ["--folder", str(row.folder)] if row.folder else []
    command += ["--clips", str(arguments.clips)] if arguments.clips else []
    command += ["--dry-run"] if arguments.dry_run else []
    answer, limit = scratch / "answer.json", min(arguments.row_seconds, left)
    answer.unlink(missing_ok=True)
    begun = time.monotonic()
    with (scratch / "said").open("w+b") as said:
        process = subprocess.Popen(
            [*command, "--answer", str(answer)], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        said.seek(0)
        words = said.read().decode(errors="replace")[-SAID:]
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    if not found:
        found = {"error": f"it took more than {limit:.0f} s" if code is None else f"the process ended with {code}"}
    if "error" in found:
        found["said"] = words
    return {**found, "took_seconds": round(time.monotonic() - begun, 1)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a row's process and what it started, also when this one is being ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _summarize(found: dict[str, Any]) -> str:
    for key in ("error", "skipped"):
        if key in found:
            return f"{key}: {str(found[key])[:200]}"
    return f"{found.get('took_seconds')} s"


def _write(out: Any, found: dict[str, Any]) -> None:
    """A line, which is on the disk when this returns."""
    out.write(json.dumps(found) + "\n")
    out.flush()
    os.fsync(out.fileno())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
