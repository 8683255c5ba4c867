"""Commands as users type them on a folder in which one file is damaged: the promise as they see it."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from dualexport.cli import main
from dualexport.clips.source import ClipSource
from dualexport.core.errors import DualExportError
from dualexport.core.files import hash_file
from dualexport.core.logit_store import REFERENCE_NAME, LogitStore, ReferenceInfo, key_of
from dualexport.core.manifest import read_manifest
from dualexport.core.types import Clip
from dualexport.exporter.bundle import unpack_bundle
from dualexport.pipeline.verify.inputs import describe_network

from .folder import CLIP, make_folder, make_videos
from .kills import list_left
from .targets import Target

DIR, LIST, VIDEO, GRAPH = "D", "videos/labels.csv", "videos/0.mp4", "D/dualformer-n.fp32.onnx"
PREDICT = ("predict", DIR, VIDEO, "--views", "1")
STREAM = ("stream", DIR, VIDEO)
VERIFY = ("verify", DIR, "--clips", LIST, "--reference", "onnx", "--runtime", "onnx")
REPORT = (*VERIFY, "--report", "r.html", "--report", "r.md", "--junit", "r.xml")
INT8 = ("int8", DIR, "--clips", LIST)
BUNDLE = ("bundle", DIR, "-o", "again.tar.gz", "--reference", "onnx")
TRITON = ("triton", DIR, "-o", "served", "--backend", "onnxruntime")
BENCH = ("bench", DIR, "--seconds", "0.1", "--rounds", "2", "--runtime", "onnx", "--json")
LINT = ("lint", GRAPH)
Commands = tuple[tuple[str, ...], ...]

# A file of the place, and the commands that read it. Those of a bundle and of outputs read what `prepare` made.
READERS: Mapping[str, tuple[str, Commands]] = {
    "manifest": (f"{DIR}/manifest.json", (PREDICT, STREAM, VERIFY, INT8, BUNDLE, TRITON, BENCH, LINT)),
    "graph": (GRAPH, (LINT, PREDICT, VERIFY, INT8, BUNDLE, ("plan", GRAPH))),
    "calibration": (f"{DIR}/calibration.json", (("int8", DIR), ("int8", DIR, "--base", "fp32"), BUNDLE)),
    "weights": (f"{DIR}/calibration.safetensors", (("int8", DIR),)),
    "video": (VIDEO, (PREDICT, STREAM, VERIFY, INT8, (*PREDICT, "--skip-unreadable"))),
    "list": (LIST, (VERIFY, INT8, ("predict", DIR, LIST, "--views", "1", "--json"))),
    "limits": ("limits.toml", ((*VERIFY, "--limits", "limits.toml"),)),
    "class names": ("names.txt", ((*PREDICT, "--labels", "names.txt"), (*STREAM, "--labels", "names.txt"))),
    "measurement": (f"{DIR}/bench.json", (REPORT, INT8, ("plan", f"{DIR}/dualformer-n-4x2.int8.onnx"))),
    "bundle": ("small.tar.gz", (("trt", "small.tar.gz", "--fp16"),)),
    "expected outputs": ("small/expected.npz", (("verify", "small", "--reference", "expected", "--runtime", "onnx"),)),
    "stored logits": (f"{DIR}/reference.logits", ((*VERIFY[:4], "--reference", "stored", "--runtime", "onnx"),)),
}


def prepare(place: Path) -> None:
    """Make the folder, its videos, and a file of every kind that commands write and read again."""
    make_folder(place / DIR)
    make_videos(place / "videos")
    (place / "names.txt").write_text("left\nright\nstill\n")
    (place / "limits.toml").write_text("[int8]\ncosine = 0.5\ntop1_agreement = false\n")
    with chdir(place):
        for command in (INT8, BENCH, (*BUNDLE[:3], "small.tar.gz", *BUNDLE[4:])):
            invoke(*command)
        unpack_bundle(Path("small.tar.gz"), Path()).rename("small")
    store_logits(place / DIR, ClipSource(place / LIST, CLIP))


def store_logits(folder: Path, clips: Iterable[Clip]) -> None:
    """Store what `verify` would with PyTorch, which cannot compute this network."""
    manifest = read_manifest(folder)
    with LogitStore(None, {}) as store:
        store.add({key_of(clip.data): np.arange(manifest.classes, dtype=np.float32) for clip in clips})
        about = ReferenceInfo.of(describe_network(manifest), "PyTorch", manifest.classes)
        store.publish(folder / REFERENCE_NAME, about)


def make_place(kind: str) -> Callable[[Path], Path]:
    """Make what is damaged of a kind, in a place where commands can use it."""

    def make(folder: Path) -> Path:
        prepare(folder / "place")
        return folder / "place" / READERS[kind][0]

    return make


def use_place(kind: str) -> Callable[[Path], None]:
    """Run one of the commands that read the file, chosen by its content."""
    name, commands = READERS[kind]

    def use(path: Path) -> None:
        place = path.parents[len(Path(name).parents) - 1]
        command = random.Random(zlib.crc32(path.read_bytes())).choice(commands)
        if kind in ("graph", "weights"):
            list_as_it_is(path, place / DIR / ("manifest.json" if kind == "graph" else "calibration.json"))
        with chdir(place):
            for left in ("served", "dualformer-n"):
                shutil.rmtree(left, ignore_errors=True)
            try:
                invoke(*command)
            finally:
                assert not list_left(place), command

    return use


def invoke(*command: str) -> None:
    """Run a command; raises its error again as its two lines, and AssertionError where it ends otherwise."""
    code, out, err = call(*command)
    lines = err.splitlines()
    if "mistake in dualexport" in err:
        code, out, err = call(*command, "--debug")
    shown = f"{' '.join(command)}, exit code {code}:\n{(out + err)[-3000:]}"
    assert "mistake in dualexport" not in err, shown
    assert "\x1b" not in out + err, shown
    if code == 0:
        return
    if code == 1 and command[0] == "lint" and not err:  # what it found is its result
        return
    assert code in (1, 2), shown
    assert [line.partition(" ")[0] for line in lines[-2:]] == ["error:", "fix:"], shown
    raise DualExportError(lines[-2].removeprefix("error: "), fix=lines[-1].removeprefix("fix: "))


def call(*command: str) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(command)
    except SystemExit as ended:
        return ended.code, out.getvalue(), err.getvalue()
    return None, out.getvalue(), err.getvalue()


def list_as_it_is(path: Path, listing: Path) -> None:
    """Have the document that names a file beside it say that the file is as it was written."""
    document = json.loads(listing.read_text())
    for entry in (*document.get("artifacts", ()), *filter(None, (document.get("weights"),))):
        if entry.get("path") == path.name:
            entry["sha256"] = hash_file(path)
    listing.write_text(json.dumps(document))


@contextmanager
def chdir(place: Path) -> Iterator[None]:
    """Work in a folder; contextlib's is of Python 3.11."""
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


COMMANDS: Mapping[str, Target] = {
    f"commands on a {kind}": Target(make_place(kind), use_place(kind), is_json=name.endswith(".json"))
    for kind, (name, _) in READERS.items()
}
