"""The visit to a GPU, rehearsed on the CPU: every row has a line, whatever becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


def run_check(folder: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    command = [sys.executable, str(BENCHMARKS / "gpu_check.py"), "--output", str(folder / "out.jsonl"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_a_rehearsal_writes_a_line_for_every_row_and_tables_of_them(tmp_path: Path) -> None:
    code, rows = run_check(
        tmp_path,
        "--dry-run",
        "--sizes",
        "n",
        "--batches",
        "1",
        "--seconds",
        "0.2",
        "--only",
        "env,probe,tests,torch/n/folded/batch 1/eager,torch/n/folded/batch 1/graph",
    )
    names = [row["row"] for row in rows]
    assert (names[0], names[1], names[-1]) == ("start", "environment", "end")
    assert code == 0, rows
    by_name = {str(row["row"]): row for row in rows}
    assert by_name["environment"]["found"]["device"]["name"] == "Fake"  # type: ignore[index]
    assert by_name["torch/n/folded/batch 1/eager"]["found"]["numbers"]["snr_db"] > 30  # type: ignore[index]
    assert "needs a GPU" in str(by_name["torch/n/folded/batch 1/graph"]["skipped"])
    assert "needs a GPU" in str(by_name["probe/timing"]["skipped"])
    made = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_results.py"), str(tmp_path / "out.jsonl")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Fake, compute capability 9.0" in made
    assert "| n | folded | 1 | eager |" in made


def test_a_row_that_fails_or_hangs_is_a_line_and_the_next_one_runs(tmp_path: Path) -> None:
    code, rows = run_check(
        tmp_path, str(tmp_path / "gone"), "--only", "reference,torch/x,environment", "--sizes", "x", "--batches", "1"
    )
    by_name = {str(row["row"]): row for row in rows}
    assert code == 1
    assert "error" in by_name["reference/gone"]
    assert "said" in by_name["torch/x/plain/batch 1/eager"]
    assert rows[-1]["failed"] == 10
    code, rows = run_check(tmp_path, "--only", "environment", "--row-seconds", "0.05")
    assert "it took more than" in str(rows[1]["error"])
    code, rows = run_check(tmp_path, "--only", "environment", "--minutes", "0")
    assert rows[1]["skipped"] == "no time was left"
