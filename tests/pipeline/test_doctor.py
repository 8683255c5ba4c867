"""`dualexport doctor` examines the machine that it runs on, installed or not."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from dualexport.cli import build_command
from dualexport.clips import gstreamer
from dualexport.core.errors import OptionError
from dualexport.pipeline import doctor as module
from dualexport.pipeline.doctor import doctor, list_requirements, read_machine
from dualexport.runtimes.machine.diagnose import COMMANDS
from support.cli import run


def test_a_tree_that_was_never_installed_is_examined_by_its_project_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(name: str) -> None:
        raise PackageNotFoundError(name)

    shutil.copy(Path(__file__).parents[2] / "pyproject.toml", tmp_path)
    monkeypatch.setattr(module, "requires", refuse)
    monkeypatch.setattr(module, "PROJECT", tmp_path / "pyproject.toml")
    found = {one.name: one.extra for one in read_machine().requirements}
    assert (found["numpy"], found["torch"], found["cuda-bindings"]) == ("", "export", "gpu")
    assert "pytest" not in found
    (tmp_path / "pyproject.toml").unlink()
    assert read_machine().requirements == []


def test_memory_is_in_bytes_of_which_a_kb_of_linux_has_1024(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_available_bytes", lambda: 4_000_000_000)
    assert read_machine().free_memory_gb == 4.0
    monkeypatch.setattr(module, "read_available_bytes", lambda: None)
    assert read_machine().free_memory_gb is None


def test_every_command_is_examined() -> None:
    assert set(COMMANDS) == set(build_command().commands) - {"doctor"}
    with pytest.raises(OptionError, match="'dance' is no command"):
        doctor(["dance"])


def test_requirements_are_those_of_the_package() -> None:
    lines = [
        "numpy>=1.26",
        "tomli>=2.0; python_version < '3.11'",
        'torch>=2.9; extra == "export"',
        'pytest>=8; extra == "dev"',
    ]
    found = list_requirements([*lines, 'nothing-like-it>=1; extra == "export"'])
    assert [(one.name, one.oldest, one.extra) for one in found] == [
        ("numpy", "1.26", ""),
        ("torch", "2.9", "export"),
        ("nothing-like-it", "1", "export"),
    ]
    assert found[0].found is not None
    assert found[2].found is None


def test_doctor_names_the_commands_that_work_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--command", "onnx", "--command", "lint", "--json")
    assert (code, json.loads(out)["stopped"]) == (0, [])
    code, out, _ = run(capsys, "doctor")
    stopped = json.loads(run(capsys, "doctor", "--json")[1])["stopped"]
    assert code == (1 if stopped else 0)
    assert ("cannot work here: " in out) == bool(stopped)
    assert run(capsys, "doctor", "--command", "dance")[0] == 2


def test_gstreamer_is_optional_and_its_elements_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for elements, found, remedy in (
        (frozenset[str](), "not installed", gstreamer.APT),
        (gstreamer.SOFTWARE | gstreamer.JETSON, "nvvidconv", ""),
    ):
        monkeypatch.setattr(gstreamer, "list_elements", lambda given=elements: given)
        (finding,) = (one for one in doctor(["stream"]).findings if one.subject == "GStreamer")
        assert found in finding.found
        assert (finding.remedy, finding.stops) == (remedy, ())
