"""Every door refuses what is no regular file, cannot be looked at, is a bomb, or leads elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dualexport.clips.listing import list_videos
from dualexport.clips.preprocess import resize_and_crop
from dualexport.clips.source import ClipSource
from dualexport.core import reading
from dualexport.core.choices import Graph, Precision
from dualexport.core.errors import BundleError, ClipError, DualExportError, EngineError, LimitError, ManifestError
from dualexport.core.manifest import read_manifest
from dualexport.core.types import Artifact, TensorSpec
from dualexport.exporter.bundle import unpack_bundle
from dualexport.pipeline.build import build
from dualexport.pipeline.lint import lint
from dualexport.pipeline.plan import plan
from dualexport.pipeline.runners import open_runner
from dualexport.runtimes.tensorrt.engine_file import read_record
from dualexport.verification.limits import read_limits

from .targets import TARGETS, read_clips
from .valid import CLIP, make_manifest, make_video

SINGLE = [kind for kind in TARGETS if kind != "picture"]


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("obstacle", [make_fifo, make_folder, make_loop, make_endless, make_socket])
@pytest.mark.parametrize("kind", SINGLE)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, kind: str, obstacle: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIPE_SECONDS", 0.05)
    path = TARGETS[kind].make(tmp_path)
    path.unlink()
    obstacle(path)
    with pytest.raises(DualExportError):
        TARGETS[kind].use(path)


@pytest.mark.parametrize("kind", SINGLE)
def test_a_file_that_is_gone_is_a_file_not_found(tmp_path: Path, kind: str) -> None:
    path = TARGETS[kind].make(tmp_path)
    path.unlink()
    with pytest.raises(DualExportError, match="no such file"):
        TARGETS[kind].use(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".{}", "/".join(["x" * 200] * 30) + "/a.{}", "a\0b.{}"])
@pytest.mark.parametrize("suffix", ["mp4", "csv", "txt", "npy", "npz"])
def test_a_name_that_no_file_can_have_is_refused(name: str, suffix: str) -> None:
    with pytest.raises(ClipError):
        read_clips(Path(name.format(suffix)))


def test_a_pipe_gives_its_text_once(tmp_path: Path) -> None:
    fifo = tmp_path / "limits"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text("[fp16]\nsnr_db = 900\n"))
    writer.start()
    limits = {precision.value: limit["snr_db"] for precision, limit in read_limits(fifo).items()}
    writer.join()
    assert limits["fp16"] == 900


@pytest.mark.parametrize("text", ["[fp16]\nsnr_db = 1" + "0" * 400, "a = " + "[" * 5000, "[fp16]\nsnr_db = nan\n"])
def test_numbers_that_are_none_are_no_limits(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(LimitError):
        read_limits(tmp_path / "limits.toml")


@pytest.mark.parametrize(
    "name", ["10:30 party.mp4", "data:x.mp4", "file:x.mp4", "concat:a.mp4", "a b\u00e9.MP4", "%d.mp4"]
)
def test_a_name_is_no_protocol(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(".mp4")(tmp_path).rename(name)
    assert len(list(ClipSource(Path(name), CLIP))) == 1
    assert len(list(ClipSource(Path(), CLIP))) == 1


def test_a_document_that_is_no_utf8_in_what_nobody_reads_is_refused_as_well(tmp_path: Path) -> None:
    path = TARGETS["manifest"].make(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"{", b'{"unknown": "\xb6", ', 1))
    with pytest.raises(DualExportError, match="utf-8"):
        TARGETS["manifest"].use(path)


def test_a_name_that_is_no_utf8_is_read_and_shown_with_escapes(tmp_path: Path) -> None:
    video = make_video(".mp4")(tmp_path)
    video.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x1b[31m.mp4"))
    (clip,) = ClipSource(tmp_path, CLIP)
    assert clip.name == r"caf\udce9\x1b[31m.mp4"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.mp4", "ffconcat version 1.0\nfile video.mp4\n"),
        ("x.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nvideo.mp4\n#EXT-X-ENDLIST\n"),
        ("x.mp4", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.mp4\n"),
        (
            "x.sdp",
            "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        ),
        (
            "x.mpd",
            '<?xml version="1.0"?><MPD><Period><BaseURL>video.mp4</BaseURL></Period></MPD>',
        ),
        ("x.nfo", "a text, \x1b[31m in colour\n" * 50),
    ],
)
def test_a_playlist_is_not_followed(tmp_path: Path, name: str, text: str) -> None:
    make_video(".mp4")(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ClipError):
        read_clips(tmp_path / name)


def test_hidden_folders_are_not_searched_and_broken_links_are_named(tmp_path: Path) -> None:
    shutil.copytree(make_video(".mp4")(tmp_path).parent, tmp_path.with_name("copy"))
    shutil.move(tmp_path.with_name("copy"), tmp_path / ".cache")
    (tmp_path / "folder.mp4").mkdir()
    assert [video.name for video in list_videos(tmp_path)] == ["video.mp4"]
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    source = ClipSource(tmp_path, CLIP, skip_unreadable=True)
    assert (len(list(source)), [video.name for video in source.skipped]) == (1, ["gone.mp4"])


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "\ufeffpath,label\nvideo.mp4,x\n", [("video.mp4", "x")]),
        ("a.CSV", '"video.mp4" , "x, y"\r\n', [("video.mp4", "x, y")]),
        ("a.txt", "video.mp4\tx y\n", [("video.mp4", "x y")]),
        ("a.txt", "# no\nvideo.mp4\nvideo.mp4\n", [("video.mp4", None), ("video.mp4 (2)", None)]),
        ("a.csv", "label,youtube_id,time_start,time_end,split\nx,abc,1,11,val\n", [("abc_000001_000011.mp4", "x")]),
        ("a.csv", "youtube_id,time_start,time_end,split\nabc,1,11,test\n", [("abc_000001_000011.mp4", None)]),
    ],
)
def test_lists_as_programs_write_them_are_read(
    tmp_path: Path, name: str, text: str, found: list[tuple[str, str | None]]
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert [(video.name, video.label) for video in list_videos(tmp_path / name)] == found


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "path,label\nvideo.mp4,x\ngone.mp4,x\n", "a.csv, line 3: gone.mp4: no such file"),
        ("a.csv", "video.mp4,x\n,x\n", "a.csv, line 2: no path"),
        ("a.csv", "video.mp4,x\n" + "y" * 200_000 + ",x\n", "field larger than field limit"),
        ("a.csv", "video.mp4\nvideo.mp4," + "1" * 5000 + "\n", "line 2: a label of 5000 characters"),
        ("a.csv", "label,youtube_id,time_start,time_end\nx,abc,one,11\n", "line 2: needs youtube_id"),
        ("a.csv", "video.mp4\n.,x\n", "line 2: .: a folder without frame images"),
        ("a.txt", "video.mp4\n" + "word " * 100 + "\n", "line 2: "),
        ("a.csv", "", "no video in this list"),
    ],
)
def test_errors_of_lists_name_the_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    make_video(".mp4")(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ClipError, match=words.replace("(", r"\(")):
        read_clips(tmp_path / name)


@pytest.mark.parametrize("shape", [(1, 16384, 3), (16384, 1, 3)])
def test_a_ribbon_is_cut_before_it_is_enlarged(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    assert resize_and_crop(frame, 224).shape == (224, 224, 3)


def test_a_wide_frame_is_what_it_was_before_ribbons_were_cut() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (10, 160, 3), np.uint8)
    left = resize_and_crop(np.concatenate([frame[:, :8], frame, frame[:, -8:]], 1), 20)
    assert np.array_equal(left, resize_and_crop(frame, 20))


def test_views_beyond_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="views of a video"):
        ClipSource(make_video(".mp4")(tmp_path), CLIP, views=10**9)


@pytest.mark.parametrize(
    "shape",
    ["(99999999999999999999, 2, 2, 2, 3)", "(16, 0, 224, 3)", "(1, 1000000, 64, 64, 3)", "((((", "(-1, 4, 4, 4, 3)"],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_declared_shape_is_not_believed(tmp_path: Path, shape: str, suffix: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\1\0" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + b"\0" * 100
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(ClipError):
        read_clips(path)


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("arr_0.npy", "w") as member:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (700, 16, 256, 256, 3), }\n"
        member.write(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + b"\0" * 1000)
    with pytest.raises(ClipError, match=r"unpacks to 2\.05 GiB"):
        read_clips(path)


def bundle_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_header_of_megabytes_is_not_unpacked(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as file:
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5 << 30
        file.write(header.tobuf(tarfile.GNU_FORMAT) + b"x" * (1 << 20))
    with pytest.raises(BundleError, match="header of more than"):
        unpack_bundle(tmp_path / "bomb.tar.gz", tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    "name", ["x" * 2000, "a/../b", "/etc/x", "a/b/c", ".hidden/x", "a/.hidden", "a/x.engine", "a\\b/c"]
)
def test_members_that_lie_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    archive = bundle_of(tmp_path / "b.tar.gz", [(tarfile.TarInfo(name), b"x")])
    with pytest.raises(BundleError):
        unpack_bundle(archive, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.slow
def test_nothing_is_looked_up_that_the_user_did_not_name(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc, which builds what watches name look-ups")
    shim, log = tmp_path / "shim.so", tmp_path / "asked"
    source = (
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n#include <netdb.h>\n"
        "int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {\n"
        'FILE *f = fopen(getenv("ASKED"), "a"); fprintf(f, "%s\\n", n ? n : ""); fclose(f); return EAI_NONAME; }\n'
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-o", shim, "-"], input=source.encode(), check=True)
    path = TARGETS["graph"].make(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; import numpy as np; import dualexport\n"
        "from dualexport.runtimes.onnx_runner import OnnxRunner\n"
        "with OnnxRunner(Path(sys.argv[1])) as runner:\n"
        "    for _ in range(30):\n"
        "        runner.infer({'clip': np.zeros(runner.inputs[0].shape, np.float32)}); time.sleep(0.1)\n"
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim), "ASKED": str(log), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True)
    assert not log.exists(), log.read_text()
    assert not (tmp_path / ".ses").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 2500, "a\0b"])
@pytest.mark.parametrize("use", [read_manifest, open_runner, build, plan, lint])
def test_a_folder_or_model_that_cannot_be_there_is_refused(name: str, use: Callable[[Path], object]) -> None:
    with pytest.raises(DualExportError):
        use(Path(name))


def test_a_file_is_no_exported_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"video\.mp4 is a file, not an exported folder"):
        read_manifest(make_video(".mp4")(tmp_path))


@pytest.mark.parametrize("options", [{}, {"compiler": "TensorRT", "tensorrt": 5}, {"compiler": [], "tensorrt": "10.3"}])
def test_a_record_of_an_engine_is_typed(options: dict[str, object]) -> None:
    specs = (TensorSpec("clip", "float32", (1, 3, 4, 32, 32)),), (TensorSpec("logits", "float32", (1, 3)),)
    given = Artifact("tensorrt", Precision.FP16, Graph.FOLDED, Path("x.engine"), "0" * 64, *specs, None, options)  # type: ignore[arg-type]
    with pytest.raises(EngineError):
        read_record(given)


def test_an_int8_file_s_base_is_a_precision(tmp_path: Path) -> None:
    path = make_manifest(tmp_path)
    document = json.loads(path.read_text())
    document["artifacts"][0]["options"]["base"] = "x"
    path.write_text(json.dumps(document))
    with pytest.raises(ManifestError, match="the base 'x' is no precision"):
        read_manifest(tmp_path)
