"""What travels to a device: the ONNX files, manifest and expected outputs in one .tar.gz, and its careful unpacking.

A bundle may come from a stranger. Only plain files directly in one folder are taken from it, up to a limit in number
and size, and no engine, which can hold code. The folder appears only when all files are those that the manifest names.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..core.errors import BundleError, ManifestError, OutputError
from ..core.files import staged_path
from ..core.manifest import FILE_NAME, Manifest, check_artifact, read_manifest, write_manifest

SUFFIXES = (".tar.gz", ".tgz")
MAX_FILES = 64
MAX_BYTES = 8 << 30
CHUNK_BYTES = 1 << 20
README = """\
{name}: a DualFormer network for a device with an NVIDIA GPU, packed by dualexport.

On the device:

    pip install "dualexport[jetson]"       on a Jetson, whose JetPack brings TensorRT and a driver for one CUDA
    pip install "dualexport[tensorrt]"     on a server or a PC
    dualexport doctor --command trt
    dualexport trt {file}
    dualexport stream {name} 0 --runtime tensorrt

`dualexport trt` unpacks this file, builds the engine, and compares it with expected.npz.
"""


@contextmanager
def staged_bundle(manifest: Manifest, path: Path) -> Iterator[Path]:
    """Write the bundle of `manifest` to `path` when the block ends; it may put files into the folder it is given.

    Engines stay behind, since they are built on the device. Calibration results (calibration*) come along.
    """
    graphs = [artifact for artifact in manifest.artifacts if artifact.format == "onnx"]
    if not graphs:
        raise ManifestError(f"{manifest.path} lists no ONNX file to pack", fix="run `dualexport onnx` first")
    for artifact in graphs:
        check_artifact(artifact)
    with staged_path(path) as staged, tempfile.TemporaryDirectory(dir=path.parent, prefix=".bundle-") as place:
        folder = Path(place)
        yield folder
        packed = replace(
            manifest,
            folder=folder,
            weights=replace(manifest.weights, checkpoint=_local(manifest.weights.checkpoint, folder)),
            artifacts=tuple(replace(graph, path=folder / graph.path.name) for graph in graphs),
        )
        write_manifest(packed, folder / FILE_NAME)
        (folder / "README.txt").write_text(README.format(name=manifest.name, file=path.name), encoding="utf-8")
        calibrations = [file for file in manifest.folder.glob("calibration*") if file.is_file()]
        _write_archive(staged, manifest.name, [*folder.iterdir(), *calibrations, *(graph.path for graph in graphs)])


def unpack_bundle(archive: Path, parent: Path) -> Path:
    """Unpack `archive` into a new folder in `parent` and return it; one that holds the same network already is kept.

    Raises BundleError for anything in it that is not a plain file in one folder, for more than MAX_FILES or MAX_BYTES,
    for a damaged archive, and where another folder of that name is in the way.
    """
    staging = parent / f".{archive.name}.{os.getpid()}.partial"
    try:
        staging.mkdir(parents=True)
        name = _extract(archive, staging)
        manifest = read_manifest(staging)
        for artifact in manifest.artifacts:
            check_artifact(artifact)
            if artifact.format != "onnx":
                raise _refused(archive, f"its manifest lists {artifact.path.name}: engines are built on the device")
        final = parent / name
        if final.exists():
            _require_same(manifest, final, archive)
        else:
            staging.rename(final)
        return final
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot unpack to {parent}: {reason}", fix="make room or permission there") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_bundle(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def _extract(archive: Path, staging: Path) -> str:
    """Write the files of the archive to `staging`; the name of the folder that they were in."""
    top, seen, total = "", set[str](), 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                folder, name = _plain_file(member)
                total += member.size
                if top not in ("", folder) or name.casefold() in seen or name.startswith("."):
                    raise _refused(archive, f"{member.name!r} is a second folder, a second file, or hidden")
                if len(seen) >= MAX_FILES or total > MAX_BYTES or (name == FILE_NAME and member.size > CHUNK_BYTES):
                    raise _refused(archive, f"it holds more than {MAX_FILES} files or {MAX_BYTES} bytes")
                if name.startswith("timing.") or name.endswith(".engine"):
                    raise _refused(archive, f"it holds {name}: engines and timings are made on the device")
                top, source = folder, tar.extractfile(member)
                seen.add(name.casefold())
                if source is None:
                    raise _refused(archive, f"{member.name!r} cannot be read")
                with (staging / name).open("xb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
    except FileNotFoundError as error:
        raise BundleError(f"{archive}: no such file", fix="name the file that `dualexport bundle` wrote") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _refused(archive, f"it is damaged, or no bundle ({error})") from error
    if FILE_NAME not in seen:
        raise _refused(archive, f"it holds no {FILE_NAME}")
    return top


def _plain_file(member: tarfile.TarInfo) -> tuple[str, str]:
    """Folder and file name of a member; raises BundleError unless it is a plain file directly in one folder."""
    path = PurePosixPath(member.name)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    simple = len(path.parts) == 2 and not path.is_absolute() and not {"..", "."} & set(path.parts)
    if not (plain and simple) or any(character in member.name for character in "\\:\0"):
        raise _refused(None, f"{member.name!r} is not a plain file in one folder")
    return path.parts[0], path.parts[1]


def _refused(archive: Path | None, reason: str) -> BundleError:
    name = f"{archive.name}: " if archive else "the bundle is refused: "
    return BundleError(f"{name}{reason}", fix="make it again with `dualexport bundle`, and copy it whole")


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
