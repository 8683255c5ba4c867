"""A real Triton Inference Server without a GPU, and its clients, from scripts/install-triton."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sysconfig
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parents[2] / "build" / "triton"
READY_SECONDS = 90
ANSWER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running: the addresses of its HTTP and gRPC services."""

    http: str
    grpc: str

    def is_live(self) -> bool:
        return _answers(f"http://{self.http}/v2/health/live")


def require_triton() -> None:
    """Skip where the server is not installed."""
    if not (PLACE / "installed").is_file():
        pytest.skip("needs Triton; scripts/install-triton installs one that runs without a GPU")


def run_client(script: str, *arguments: object) -> Any:
    """Run Python code with Triton's clients installed; gives back the JSON that it prints."""
    command = [str(PLACE / "bin" / "python"), "-c", script, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@contextmanager
def serve(repository: Path, model: str, scratch: Path) -> Iterator[Server]:
    """Start the server on a repository, and wait until `model` is ready."""
    ports = [_free_port() for _ in range(2)]
    options = {
        "model-repository": repository,
        "backend-directory": PLACE / "backends",
        "http-port": ports[0],
        "grpc-port": ports[1],
        "http-address": "127.0.0.1",
        "grpc-address": "127.0.0.1",
        "allow-metrics": "false",
    }
    environment = {
        **os.environ,
        "PATH": f"{_make_environment(scratch)}:{os.environ['PATH']}",  # where the backend looks for Python's packages
        "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{PLACE / 'libraries'}",
        "OMP_NUM_THREADS": "1",
    }
    log = scratch / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PLACE / "tritonserver", *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{ports[0]}/v2/models/{model}/ready", process, log)
        yield Server(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _make_environment(scratch: Path) -> Path:
    """The bin folder of an environment with the packages of this process, the project's own as they are tested."""
    venv.create(scratch / "environment", with_pip=False)
    site = next((scratch / "environment").glob("lib/python*/site-packages"))
    added = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    packages = sysconfig.get_path("purelib")
    (site / "packages.pth").write_text("\n".join([*added, f"import site; site.addsitedir({packages!r})"]) + "\n")
    return scratch / "environment" / "bin"


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if _answers(address):
            return
        time.sleep(0.2)
    raise AssertionError(f"Triton is not ready: {log.read_text(errors='replace')[-4000:]}")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
