"""RTSP cameras on the loopback: a server process that plays a video in real time, parameter sets before each slice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"  # the system's, for which Debian's python3-gi is
SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
server.set_address("127.0.0.1")
server.set_service(sys.argv[2])
pay = "rtph264pay config-interval=-1 name=pay0 pt=96"
factory.set_launch(f'( filesrc location="{sys.argv[1]}" ! qtdemux ! h264parse ! {pay} )')
server.get_mount_points().add_factory("/camera", factory)
assert server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class RtspCamera:
    """A camera that can be switched off, and on again at the same address, and that can freeze."""

    def __init__(self, video: Path) -> None:
        self._video = video
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/camera"

    @property
    def is_off(self) -> bool:
        return self._process is None

    def switch_on(self) -> None:
        command = [PYTHON, "-c", SERVER, str(self._video), str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def switch_off(self) -> None:
        if self._process is not None:
            with self._process:
                self._process.kill()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)


@contextmanager
def rtsp_cameras(*videos: Path) -> Iterator[tuple[RtspCamera, ...]]:
    """Cameras that play these videos, all at once."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        subprocess.run([PYTHON, "-c", check], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and python3-gi")
    cameras = tuple(RtspCamera(video) for video in videos)
    try:
        for camera in cameras:
            camera.switch_on()
        yield cameras
    finally:
        for camera in cameras:
            camera.switch_off()
