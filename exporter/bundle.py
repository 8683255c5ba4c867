"""Bundles for a device: ONNX files, manifest and expected outputs in one .tar.gz, and its careful unpacking.

A bundle may come from a stranger. Only plain files directly in one folder are taken from it, up to a limit in number
and size, and no engine, which can hold code. The folder appears only when all files are those that the manifest names.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..core.choices import Server
from ..core.errors import BundleError, BundleNotFoundError, ManifestError
from ..core.files import staged_path, staged_set
from ..core.manifest import FILE_NAME, Manifest, check_artifact, read_manifest, write_manifest
from ..core.reading import FileKind

SUFFIXES = (".tar.gz", ".tgz")
MAX_FILES = 64
MAX_BYTES = 8 << 30
MAX_HEADER_BYTES = 64 << 10  # between two files
CHUNK_BYTES = 1 << 20
BUNDLE = FileKind(
    "a bundle",
    BundleError,
    "name the file that `dualexport bundle` wrote",
    max_bytes=MAX_BYTES,
    missing=BundleNotFoundError,
)
README = """\
{name}: a DualFormer network for a device with an NVIDIA GPU, packed by dualexport.

On the device:

    pip install "dualexport[jetson]"       on a Jetson, whose JetPack brings TensorRT and a driver for one CUDA
    pip install "dualexport[tensorrt]"     on a server or a PC
    dualexport doctor --command trt
{steps}
"""
STEPS = {
    None: """\
    dualexport trt {file}
    dualexport stream {name} 0 --runtime tensorrt

`dualexport trt` unpacks this file, builds the engine, and compares it with expected.npz.""",
    Server.TRITON: """\
    dualexport trt {file} --into models
    tritonserver --model-repository=models

`dualexport trt` unpacks this file, builds the engine, compares it with expected.npz, and writes a model repository.""",
    Server.DEEPSTREAM: """\
    dualexport deepstream {file} --output app

`dualexport deepstream` unpacks this file and writes the application, whose README.md says how it starts. Its options
name the cameras; with --build it builds the engine too.""",
}


@contextmanager
def staged_bundle(manifest: Manifest, path: Path, server: Server | None = None) -> Iterator[Path]:
    """Write the bundle of `manifest` to `path` when the block ends; it may put files into the folder it is given.

    Engines stay behind, since they are built on the device. Calibration results (calibration*) come along. Its README
    says how the device serves the network by `server`.
    """
    graphs = [artifact for artifact in manifest.artifacts if artifact.format == "onnx"]
    if not graphs:
        raise ManifestError(f"{manifest.path} lists no ONNX file to pack", fix="run `dualexport onnx` first")
    for artifact in graphs:
        check_artifact(artifact)
    with staged_path(path) as staged:
        folder = staged.parent / "content"
        folder.mkdir()
        yield folder
        packed = replace(
            manifest,
            folder=folder,
            weights=replace(manifest.weights, checkpoint=_local(manifest.weights.checkpoint, folder)),
            artifacts=tuple(replace(graph, path=folder / graph.path.name) for graph in graphs),
        )
        write_manifest(packed, folder / FILE_NAME)
        steps = STEPS[server].format(name=manifest.name, file=path.name)
        (folder / "README.txt").write_text(README.format(name=manifest.name, steps=steps), encoding="utf-8")
        calibrations = [file for file in manifest.folder.glob("calibration*") if file.is_file()]
        _write_archive(staged, manifest.name, [*folder.iterdir(), *calibrations, *(graph.path for graph in graphs)])
        shutil.rmtree(folder)


def unpack_bundle(archive: Path, parent: Path) -> Path:
    """Unpack `archive` into a new folder in `parent` and return it; one that holds the same network already is kept.

    Raises BundleError for anything in it that is not a plain file in one folder, for more than MAX_FILES or MAX_BYTES,
    for a damaged archive, and where another folder of that name is in the way.
    """
    with staged_set(parent) as staged:
        folder = staged.staging / _extract(BUNDLE.require(archive), staged.staging)
        manifest = read_manifest(folder)
        for artifact in manifest.artifacts:
            check_artifact(artifact)
            if artifact.format != "onnx":
                raise _refused(archive, f"its manifest lists {artifact.path.name}: engines are built on the device")
        final = parent / folder.name
        if os.path.lexists(final):
            _require_same(manifest, final, archive)
            shutil.rmtree(folder)
        return final


def is_bundle(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def _extract(archive: Path, staging: Path) -> str:
    """Write the files of the archive into a folder in `staging`, and return the name that they have it under."""
    top, seen, total = "", set[str](), 0
    try:
        with gzip.open(archive) as unpacked:
            stream = _Metered(unpacked)
            stream.allow(MAX_HEADER_BYTES)
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    folder, name = _plain_file(archive, member)
                    total += member.size
                    if top not in ("", folder) or name.casefold() in seen or name.startswith(".") or folder[0] == ".":
                        raise _refused(archive, f"{member.name!r} is a second folder, a second file, or hidden")
                    if len(seen) >= MAX_FILES or total > MAX_BYTES or (name == FILE_NAME and member.size > CHUNK_BYTES):
                        raise _refused(archive, f"it holds more than {MAX_FILES} files or {MAX_BYTES} bytes")
                    if name.startswith("timing.") or name.endswith(".engine"):
                        raise _refused(archive, f"it holds {name}: engines and timings are made on the device")
                    top = folder
                    seen.add(name.casefold())
                    (staging / top).mkdir(exist_ok=True)
                    stream.allow(member.size)
                    _copy(tar, member, staging / top / name)
                    stream.allow(MAX_HEADER_BYTES)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError) as error:
        raise _refused(archive, f"it is damaged, or no bundle ({error})") from error
    if FILE_NAME not in seen:
        raise _refused(archive, f"it holds no {FILE_NAME}")
    return top


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise tarfile.ReadError(f"{member.name!r} cannot be read")
    with source, path.open("xb") as target:
        shutil.copyfileobj(source, target, CHUNK_BYTES)


class _Metered:
    """An unpacked stream that gives only as much as was allowed: a few bytes may unpack to any number of them."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, 0

    def allow(self, count: int) -> None:
        """Let so many bytes be read from here on, and the rest of a block."""
        self._left = count + tarfile.BLOCKSIZE

    def read(self, size: int) -> bytes:
        """The next bytes; raises ReadError for more than is allowed."""
        self._take(size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Go on at `position`, which costs what lies between."""
        self._take(max(0, position - self._stream.tell()))
        return self._stream.seek(position)

    def tell(self) -> int:
        """The position of the next byte."""
        return self._stream.tell()

    def _take(self, count: int) -> None:
        if not 0 <= count <= self._left:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES} bytes")
        self._left -= count


def _plain_file(archive: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """Folder and file name of a member; raises BundleError unless it is a plain file directly in one folder."""
    path = PurePosixPath(member.name)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    simple = len(path.parts) == 2 and not path.is_absolute() and not {"..", "."} & set(path.parts)
    if not (plain and simple) or any(character in member.name for character in "\\:\0"):
        raise _refused(archive, f"{member.name!r} is not a plain file in one folder")
    return path.parts[0], path.parts[1]


def _refused(archive: Path, reason: str) -> BundleError:
    return BundleError(f"{archive.name}: {reason}", fix="make it again with `dualexport bundle`, and copy it whole")


def _require_same(manifest: Manifest, final: Path, archive: Path) -> None:
    """A folder that is in the way has to list the files that the bundle brings."""
    present = {artifact.sha256 for artifact in read_manifest(final).artifacts}
    if not {artifact.sha256 for artifact in manifest.artifacts} <= present:
        raise BundleError(
            f"{final} is there already and holds another network than {archive.name}",
            fix=f"remove or rename {final}, or name it instead of the bundle",
        )


def _local(checkpoint: Path | None, folder: Path) -> Path | None:
    """The checkpoint stays behind, and its place on this machine is not told."""
    return folder / checkpoint.name if checkpoint else None


def _write_archive(path: Path, folder: str, files: list[Path]) -> None:
    """The same files give the same bytes: no times, owners or modes of this machine."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in sorted(files, key=lambda file: file.name):
            entry = tarfile.TarInfo(f"{folder}/{file.name}")
            entry.size, entry.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)
