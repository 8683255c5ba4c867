"""Runs a command as a user types it."""

from __future__ import annotations

import pytest
from dualexport.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, captured.out, captured.err


def succeed(*arguments: object) -> None:
    """Run a command that a fixture needs; what it prints belongs to no test."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    assert exit_.value.code == 0


def assert_refused(result: tuple[int, str, str], words: str) -> None:
    """Exit 1, nothing on stdout, and the error's two lines at the end of stderr."""
    code, out, err = result
    assert (code, out) == (1, "")
    error, fix = err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert words in error
    assert fix.startswith("fix: ")
    assert "Traceback" not in err
