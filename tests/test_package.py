"""The built wheel: exactly the package, and a base install that runs without the exporting libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PARTS = (
    *(
        "calibration",
        "clips",
        "commands",
        "core",
        "exporter",
        "graphs",
        "pipeline",
        "report",
        "runtimes",
        "serving",
        "verification",
    ),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy, since setuptools takes along whatever an earlier build left in build/.
    ignored = shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize(
    ("extra", "machine", "python", "brought"),
    [
        ("tensorrt", "x86_64", "3.11", ["cuda-bindings>=12.8", "tensorrt>=10.0"]),
        ("tensorrt", "aarch64", "3.10", []),  # a Jetson's TensorRT is its JetPack's
        ("jetson", "aarch64", "3.10", ["cuda-bindings==12.8.*"]),  # JetPack 6
        ("jetson", "aarch64", "3.12", ["cuda-bindings<14,>=13"]),  # JetPack 7
        ("jetson", "x86_64", "3.11", []),
    ],
)
def test_an_extra_brings_what_its_machine_can_use(extra: str, machine: str, python: str, brought: list[str]) -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    place = {"platform_machine": machine, "python_version": python}
    taken = [need for need in map(Requirement, named) if need.marker is None or need.marker.evaluate(place)]
    assert sorted(f"{need.name}{need.specifier}" for need in taken) == brought


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = [*ROOT.glob("*.py"), *(file for part in PARTS for file in (ROOT / part).rglob("*.py"))]
    sources += [ROOT / "py.typed", *(ROOT / "exporter" / "weights").iterdir()]
    sources += (ROOT / "serving" / "templates").glob("*.md")
    assert names == {f"dualexport/{file.relative_to(ROOT).as_posix()}" for file in sources}


@pytest.mark.slow
def test_the_base_install_of_the_wheel_runs(wheel: Path, video: Path, exported: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    install = [str(binaries / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(binaries / "dualexport"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "predict" in run("--help").stdout
    for command in (["onnx", "--model", "n"], ["predict", exported, video]):
        result = run(*command)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == 'fix: pip install "dualexport[export]"'
    refused = run("plan", exported / "dualformer-n.fp16.onnx")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith('fix: pip install "dualexport[tensorrt]"')
    assert run("lint", exported / "dualformer-n.fp16.onnx").returncode == 0
    decode = (
        "from pathlib import Path; from dualexport.clips.source import ClipSource;"
        "from dualexport.core.manifest import read_manifest;"
        f"clip = read_manifest(Path({str(exported)!r})).preprocessing;"
        f"print(len(list(ClipSource(Path({str(video)!r}), clip))))"
    )
    result = subprocess.run([binaries / "python", "-c", decode], capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"
