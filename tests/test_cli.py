"""The edge of the command line: help, numbers, and how everything that goes wrong ends."""

from __future__ import annotations

import ast
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dualexport import cli
from dualexport.core.errors import PlanError
from support.cli import run

COMMANDS: dict[str, Any] = cli.build_command().commands
ROOMS = [
    "calibration",
    "clips",
    "commands",
    "core",
    "exporter",
    "graphs",
    "pipeline",
    "report",
    "runtimes",
    "verification",
]
DUALEXPORT = [sys.executable, "-m", "dualexport"]


@pytest.mark.parametrize("arguments", [(), ("--debug",), ("-h",), ("--help",)])
def test_without_a_command_there_is_help(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: dualexport [OPTIONS] COMMAND")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "..." not in out.partition("\n")[2]  # no sentence is cut off


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_same_by_both_names_and_plain(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, name, "-h")
    assert (code, out) == run(capsys, name, "--help")[:2]
    assert code == 0
    assert not re.search(r"<\w|\[\[|\]\.\.\.\]", out)
    assert max(map(len, out.splitlines())) <= 80


def numbers() -> Iterator[Any]:
    for name, command in COMMANDS.items():
        for param in command.params:
            kind = str(param.annotation) if hasattr(param, "annotation") else str(param.type_descriptor.annotation)
            is_range = (name, param.name) == ("onnx", "batch")  # tests/graphs/test_batch.py holds its bounds
            if re.search(r"\b(int|float)\b", kind) and not is_range:
                yield pytest.param(name, param, id=f"{name} {param.opts[0]}")


@pytest.mark.parametrize(("command", "param"), list(numbers()))
def test_every_number_has_finite_bounds_and_is_held_to_them(
    command: str, param: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert math.isfinite(param.min)
    assert math.isfinite(param.max)
    for value in ("nan", "inf", "-inf", "1e99", str(10**30), str(param.max + 1), str(param.min - 1)):
        code, out, err = run(capsys, command, f"{param.opts[0]}={value}", "x")
        assert (code, out) == (2, ""), (value, err)
        assert param.opts[0] in err


def test_wrong_usage_is_two_lines_that_name_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "predict")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: Missing argument '[DIR] VIDEO'.",
        "fix: `dualexport predict --help` shows what it takes",
    ]
    code, _, err = run(capsys, "predic")
    assert (code, err.splitlines()[0]) == (2, "error: No such command 'predic'. Did you mean 'predict'?")


def texts() -> Iterator[str]:
    """Every string of the package, its f-strings with X for what they take."""
    root = Path(cli.__file__).resolve().parent
    for path in [*root.glob("*.py"), *(file for room in ROOMS for file in (root / room).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_command_that_a_text_names_exists_with_its_options() -> None:
    named = {found for text in texts() for found in re.findall(r"`dualexport ([^`]+)`", text)}
    assert len(named) > 20
    for text in named:
        name, *words = text.split()
        if name == "X":
            continue
        assert name in COMMANDS, text
        known = {option for param in COMMANDS[name].params for option in param.opts} | {"--help", "--debug"}
        assert {word for word in words if word.startswith("--") and "X" not in word} <= known, text


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dualexport.graphs.lint.lint_onnx", fail)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "x.onnx"), "error: x.onnx: Permission denied"),
        (OSError(36, "File name too long", "a" * 9), "error: aaaaaaaaa: File name too long"),
        (MemoryError(), "error: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "error: unexpected RecursionError"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), "error: unexpected UnicodeEncodeError"),
        (ImportError("libx.so: failed to map segment"), "error: a library does not load"),
        (KeyError("a\nb"), "error: unexpected KeyError"),
    ],
)
def test_whatever_goes_wrong_is_two_lines_and_exit_1(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error, monkeypatch)
    code, out, err = run(capsys, "lint", "x.onnx")
    first, second = err.splitlines()
    assert (code, out) == (1, "")
    assert first.startswith(words)
    assert second.startswith("fix: ")
    assert ("report" in second) == ("unexpected" in first)
    code, _, err = run(capsys, "--debug", "lint", "x.onnx")
    assert (code, "Traceback" in err) == (1, True)
    assert err.splitlines()[-2] == first


def test_an_expected_error_keeps_its_own_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(PlanError("no\nplan", fix="do\nthis"), monkeypatch)
    assert run(capsys, "lint", "x")[1:] == ("", "error: no plan\nfix: do this\n")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error() -> None:
    result = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" verify --help | true', "-", *DUALEXPORT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    assert result.returncode in (0, 141)  # all written before the reader left, or not


@pytest.mark.slow
def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*DUALEXPORT, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "error: No space left on device"
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.slow
def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.onnx")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for argument in (name, "é.onnx"):
        command = [*DUALEXPORT, "lint", str(tmp_path / argument)]
        result = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert result.returncode == 1
        assert b"\\xe9.onnx" in result.stderr or b"\\udce9.onnx" in result.stderr
        assert b"Traceback" not in result.stderr


SLEEPS = "import time, sys; sys.stderr.write('ready\\n'); sys.stderr.flush(); time.sleep(60)"


def send(code: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start Python with `code`, and send it a signal when it has said that it is ready."""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while process.stderr.readline() != "ready\n":
        pass
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess([], process.returncode, "", err)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_cleans_up_and_says_what_was_kept(number: signal.Signals, code: int, tmp_path: Path) -> None:
    work = (
        "import sys; sys.argv = ['dualexport', 'lint', 'x']\n"
        "from pathlib import Path\n"
        "from dualexport.core.files import staged_path\n"
        "import dualexport.graphs.lint as lint\n"
        "def work(*_):\n"
        f"    with staged_path(Path({str(tmp_path / 'made')!r})): {SLEEPS}\n"
        "lint.lint_onnx = work\n"
        "from dualexport.__main__ import main; main()"
    )
    result = send(work, number)
    assert result.returncode == code
    assert result.stderr == "interrupted: finished files are kept, unfinished ones are removed\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_signal_during_imports_is_one_line() -> None:
    work = (
        "import sys, types\n"
        "class Slow:\n"
        f"    def find_spec(self, name, *_):\n        if name == 'typer': {SLEEPS}\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from dualexport.__main__ import main; main()"
    )
    result = send(work, signal.SIGINT)
    assert (result.returncode, result.stderr) == (130, "interrupted: nothing was begun\n")


@pytest.mark.slow
def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    code = (
        "import signal, sys; sys.argv = ['dualexport', '--version']\n"
        "from dualexport.__main__ import main\n"
        "try: main()\nfinally: print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    )
    command = ["nohup", sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == "True"


@pytest.mark.slow
def test_a_shell_completes_commands_and_options() -> None:
    environment = {**os.environ, "_DUALEXPORT_COMPLETE": "complete_bash", "COMP_WORDS": "dualexport verify --rep"}
    environment["COMP_CWORD"] = "2"
    result = subprocess.run(DUALEXPORT, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["--report"]
