"""scripts/install-cpu-tensorrt says in two lines why it cannot do its work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "install-cpu-tensorrt"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")]

# A Python for which pip finds no package, and in which there is no TensorRT.
PYTHON_WITHOUT_WHEELS = """#!/bin/sh
case "$1" in
-m) echo "ERROR: No matching distribution found for $6" >&2; exit 1 ;;
-c) pwd ;;
--version) echo "Python 3.99.0" ;;
*) exit 1 ;;
esac
"""


def run_in(project: Path) -> subprocess.CompletedProcess[str]:
    script = project / "scripts" / SCRIPT.name
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run([script], env=environment, cwd=project, capture_output=True, text=True, check=False)


def last_two_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.splitlines()[-2:]


def test_without_a_virtual_environment_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = run_in(tmp_path)
    assert done.returncode == 1
    assert last_two_lines(done)[0].startswith("error: no virtual environment")
    assert last_two_lines(done)[1] == f"fix: python3 -m venv {tmp_path}/.venv"


def test_a_platform_without_wheels_is_named(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON_WITHOUT_WHEELS)
    python.chmod(0o755)
    done = run_in(tmp_path)
    assert done.returncode == 1
    error, fix = last_two_lines(done)
    assert error.startswith("error: there are no such wheels for ")
    assert error.endswith("Python 3.99.0")
    assert fix.startswith("fix: ")
