"""`dualexport stream`: lines, summaries and orderly ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from dualexport.clips.addresses import parse_sources
from dualexport.clips.camera import StreamOptions
from dualexport.clips.live import Ended
from dualexport.clips.scenes import make_scene, render_scene
from dualexport.clips.synthetic import write_dataset, write_video
from dualexport.core.types import Preprocessing
from dualexport.pipeline.runners import open_runner
from dualexport.pipeline.stream import LiveStream, Sighting
from support.cli import assert_refused, run


@pytest.mark.slow
def test_every_window_of_several_files_is_a_line_and_a_summary_follows(
    exported: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "stream", exported, f"a={video}", f"b={video}", "--every", 16, "--windows", "--json")
    *lines, last = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["frame"] for line in lines if line["camera"] == "a"] == [31, 47]
    assert [line["frame"] for line in lines if line["camera"] == "b"] == [31, 47]
    assert {line["dropped"] for line in lines} == {0}
    assert all(line["latency_ms"] > 0 and 0 < line["probability"] <= 1 for line in lines)
    assert all(line["end_seconds"] - line["start_seconds"] == pytest.approx(30 / 25) for line in lines)
    for name, summary in zip("ab", last["summary"], strict=True):
        assert summary["camera"] == name
        assert (summary["frames"], summary["windows"], summary["dropped"]) == (60, 2, 0)
        assert summary["latency_p50_ms"] <= summary["latency_p99_ms"]


@pytest.mark.slow
def test_windows_of_a_class_become_one_span_and_the_display_shows_each_camera(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (video,) = write_dataset(tmp_path / "videos", 1, seed=3).videos
    label = video.stem.partition("-")[2].replace("-", " ")
    options = ("--every", 8, "--threshold", 0.3)
    code, out, _ = run(capsys, "stream", demo, f"a={video}", *options, "--windows", "--json")
    windows = [json.loads(line) for line in out.splitlines()[:-1]]
    assert code == 0
    assert {window["label"] for window in windows} == {label}
    code, out, _ = run(capsys, "stream", demo, f"a={video}", *options, "--json")
    span, _ = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert (span["camera"], span["label"], span["windows"]) == ("a", label, len(windows))
    assert (span["start_seconds"], span["end_seconds"]) == (windows[0]["start_seconds"], windows[-1]["end_seconds"])
    assert span["confidence"] == pytest.approx(sum(window["probability"] for window in windows) / len(windows))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run(capsys, "stream", demo, f"a={video}", *options, "--min-seconds", 3600)
    assert (code, out) == (0, "")
    assert label in err


@pytest.mark.slow
def test_the_spans_of_a_camera_that_is_gone_do_not_wait_for_the_others(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (video,) = write_dataset(tmp_path / "videos", 1, seed=3).videos
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    long = tmp_path / "long.mp4"
    write_video(long, np.tile(render_scene(make_scene(3, 0)), (4, 1, 1, 1)))
    options = ("--every", 8, "--threshold", 0.3, "--json", "--retries", 0)
    code, out, err = run(capsys, "stream", demo, f"long={long}", f"short={video}", f"gone={address}", *options)
    *spans, last = [json.loads(line) for line in out.splitlines()]
    assert [span["camera"] for span in spans][:: len(spans) - 1] == ["short", "long"]
    assert [(one["camera"], one["windows"] > 0) for one in last["summary"]] == [
        ("long", True),
        ("short", True),
        ("gone", False),
    ]
    assert (code, "error: gone: " in err) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_it_with_the_summary(exported: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        connected = threading.Event()

        def accept() -> None:
            connection, _ = server.accept()
            connected.set()
            with connection:
                connection.recv(1)

        threading.Thread(target=accept, daemon=True).start()
        command = [sys.executable, "-m", "dualexport", "stream", str(exported), f"door={address}", "--timeout", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert connected.wait(60)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.splitlines()[-2:] == [
        "note: stopped",
        "door: 0 frames, 0 windows, 0 dropped, opened again 0 times, latency p50, p90, p99: none ms",
    ]


def test_arguments_in_the_wrong_places_are_told_apart(
    exported: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "stream", exported)
    assert (code, f"{exported} is an exported network: give a source after it" in err) == (2, True)
    (tmp_path / "videos").mkdir()
    code, _, err = run(capsys, "stream", tmp_path / "videos")
    assert (code, "videos is a folder: give its files as sources" in err) == (2, True)
    code, _, err = run(capsys, "stream", video, exported)
    assert (code, f"the folder comes first: {exported} {video}" in err) == (2, True)
    assert run(capsys, "stream")[0] == 2
    assert_refused(run(capsys, "stream", exported, "gone.mp4"), "gone.mp4: no such file")
    assert_refused(run(capsys, "stream", exported, "ftp://camera"), "ftp:// is not read")
    assert_refused(run(capsys, "stream", exported, "--sources", tmp_path / "gone.txt"), "gone.txt")
    (tmp_path / "rules.toml").write_text("[classes]\nup = 0.5")
    rules = ("--thresholds", tmp_path / "rules.toml")
    assert_refused(run(capsys, "stream", exported, video, *rules), "no class of the network")
    assert_refused(run(capsys, "stream", exported, video, "--thresholds", tmp_path / "gone.toml"), "gone.toml")
    (tmp_path / "none.txt").write_text("# none\n")
    code, _, err = run(capsys, "stream", exported, "--sources", tmp_path / "none.txt")
    assert (code, "0 sources are given" in err) == (2, True)


@pytest.mark.slow
def test_prometheus_reads_what_the_summary_says(exported: Path, video: Path) -> None:
    pytest.importorskip("prometheus_client")
    sources = parse_sources([f"door={video}"])
    with open_runner(exported) as runner:
        live = LiveStream(runner, sources, Preprocessing(frames=16), StreamOptions(every=16))
        with live.serve_metrics("0") as port, live:
            assert [type(one) for one in live] == [Sighting, Sighting, Ended]
            text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    (summary,) = live.summarize()
    assert summary.latency_p50_ms is not None
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['dualexport_frames_total{camera="door"}']) == 60
    assert float(values['dualexport_windows_total{camera="door"}']) == 2
    found = float(values['dualexport_latency_seconds{camera="door",quantile="0.5"}'])
    assert found == pytest.approx(summary.latency_p50_ms / 1e3)


def test_where_metrics_cannot_be_served_that_is_said_before_a_frame_is_decoded(
    exported: Path, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "stream", exported, video, "--metrics", "http")
    assert (code, "'http' is no port" in err) == (2, True)
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[1]
        assert_refused(
            run(capsys, "stream", exported, video, "--metrics", address), f"cannot be served at 127.0.0.1:{address}"
        )
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "dualexport.pipeline.stream_metrics", raising=False)
    assert_refused(run(capsys, "stream", exported, video, "--metrics", 0), "needs prometheus_client")
