"""From an exported folder to one file for a device, with expected outputs to compare its engine with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..core.choices import Reference, Runtime, Server, choose
from ..core.errors import ManifestError, MissingDependencyError, OptionError
from ..core.extras import needing_extra
from ..core.manifest import Manifest, find_manifest
from ..core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ..core.runner import Runner
from ..core.types import Clip
from .cascade import CHEAP, has_cascade
from .clips import Clips, generate_clips
from .runners import choose_artifact, open_artifact, open_network

STORED_CLIPS = 2


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """Options of a bundle: the PyTorch network, whose checkpoint may have moved, or the FP32 file is the reference.

    `server` is what will serve the network on the device: its README says how.
    """

    reference: Reference | str = Reference.TORCH
    checkpoint: Path | str | None = None
    server: Server | str | None = None


@dataclass(frozen=True, slots=True)
class Bundled:
    """The file that was written, and how many clips' expected outputs of which runner are in it."""

    path: Path
    size_bytes: int
    expected_clips: int
    reference: str


def bundle(
    folder: Path | str | None = None,
    output: Path | str | None = None,
    clips: Clips | None = None,
    options: BundleOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Bundled:
    """Pack the ONNX files in `folder`, its manifest and the expected outputs of two clips into `output`.

    By default that is `./dualformer-SIZE.tar.gz`, and the clips are generated ones. Raises OptionError, ManifestError
    for files that are missing or have changed, ClipError and OutputError.
    """
    from ..exporter.bundle import SUFFIXES, is_bundle, staged_bundle
    from ..runtimes.expected import FILE_NAME, write_expected

    options = options or BundleOptions()
    if choose(Reference, options.reference, "reference") not in (Reference.TORCH, Reference.ONNX):
        raise OptionError("expected outputs are what a bundle makes", fix="choose --reference torch or onnx")
    manifest, reporter = find_manifest(None if folder is None else Path(folder)), Reporter(progress, notify)
    if has_cascade(manifest.folder):
        cheap = manifest.folder / CHEAP
        reporter.note(f"a bundle holds one network, here the dear one of a cascade: bundle {cheap} besides")
    path = Path(output or f"{manifest.name}.tar.gz")
    if not is_bundle(path):
        raise OptionError(f"{path} does not end in {' or '.join(SUFFIXES)}", fix="correct --output")
    server = None if options.server is None else choose(Server, options.server, "server")
    with staged_bundle(manifest, path, server) as staging:
        reporter("computing expected outputs")
        with _open_reference(manifest, options) as network:
            source = _open_clips(manifest, clips, reporter)
            stored = write_expected(staging / FILE_NAME, network, islice(source, STORED_CLIPS))
        reporter(f"packing {path.name}")
    return Bundled(path, path.stat().st_size, stored, network.name)


def _open_clips(manifest: Manifest, clips: Clips | None, reporter: Reporter) -> Iterable[Clip]:
    if clips is not None:
        return clips.open(manifest.preprocessing, STORED_CLIPS)
    reporter.note("no --clips given: the expected outputs are of generated moving patterns")
    return generate_clips(STORED_CLIPS, manifest.preprocessing)


def _open_reference(manifest: Manifest, options: BundleOptions) -> Runner:
    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    try:
        with needing_extra("bundle"):
            if options.reference == Reference.TORCH:
                return open_network(manifest, checkpoint)
            return open_artifact(choose_artifact(manifest, Runtime.ONNX))
    except (MissingDependencyError, ManifestError) as error:
        raise type(error)(str(error), fix=f"{error.fix}, or pass --reference onnx") from error
