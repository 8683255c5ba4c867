"""Build a TensorRT engine from an exported network, prove it, and list it: `trt` and `dualexport.build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import Compatibility, Method, Place, Precision, TensorRTRelease, choose, choose_or_none
from ..core.errors import LintError, ManifestError
from ..core.manifest import FILE_NAME, Manifest, add_artifacts, check_artifact, find_manifest, read_manifest
from ..core.reading import is_file, is_folder
from ..core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ..core.types import Artifact
from ..core.versions import version_numbers
from ..runtimes.tensorrt.engine_file import EngineOptions
from . import parity
from .clips import Clips
from .runners import NARROWEST_FIRST

if TYPE_CHECKING:
    from ..verification.tally import ComparisonReport


@dataclass(frozen=True, slots=True)
class BuildOptions(EngineOptions):
    """Options of an engine's build; None leaves what is usual.

    `precision` chooses among the ONNX files of a folder, by default the narrowest. `timing_cache` keeps the timings of
    kernels, by default beside the engine. With `verbose` everything that TensorRT says is a note.
    """

    precision: Precision | str | None = None
    timing_cache: Path | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """An engine, the manifest that lists it, and the comparison with the expected outputs that lie beside its files.

    `manifest` is None for an ONNX file that no manifest lists, `expected` where there are no such outputs or no GPU.
    """

    engine: Artifact
    manifest: Path | None
    expected: ComparisonReport | None


@dataclass(frozen=True, slots=True)
class Source:
    """The ONNX file to build from, the name of its network, and the manifest that lists it, if one does."""

    artifact: Artifact
    name: str
    manifest: Manifest | None


def build(
    source: Path | str | Artifact | None = None,
    options: BuildOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Built:
    """Build an engine of an exported folder, a bundle (unpacked here), one ONNX file, or the only folder here.

    It gets its name, and its entry in the manifest, when its plan shows the precision of its file and, where expected
    outputs and a GPU are there, when it computes them. Raises ManifestError, LintError, EngineError, PlanError and
    ParityError; nothing is left behind then.
    """
    options = options or BuildOptions()
    precision = choose_or_none(Precision, options.precision, "precision")
    options = replace(options, compatible=choose(Compatibility, options.compatible, "compatibility"))
    from ..runtimes.expected import FILE_NAME as EXPECTED
    from ..runtimes.machine.host import read_host
    from ..runtimes.tensorrt.build import BuildPlace, build_engine
    from ..runtimes.tensorrt.configure import find_device

    reporter = Reporter(progress, notify)
    found = find_source(source, precision)
    _require_readable(found.artifact.path)
    folder, manifest = found.artifact.path.parent, found.manifest
    place = BuildPlace(folder, find_device(), read_host(), options.timing_cache, notify, options.verbose)
    reports: list[ComparisonReport] = []
    if manifest is not None:
        place = replace(place, add=lambda staged, engine: add_artifacts(staged, manifest, (engine,)))
        if (manifest.folder / EXPECTED).is_file():
            if place.device is not None:
                place = replace(place, check=_make_check(manifest, reports, reporter))
            else:
                reporter.note(
                    "not compared with the expected outputs, there is no GPU here: on the device run "
                    f"`dualexport verify {manifest.folder} --runtime tensorrt --reference expected`"
                )
    engine = build_engine(found.artifact, found.name, place, options, progress)
    return Built(engine, manifest.path if manifest else None, reports[0] if reports else None)


def calibrate(
    source: Path | None, clips: Path, *, progress: Progress = no_progress, notify: Notify = no_notes
) -> Artifact:
    """Make the INT8 file of a folder or bundle from `clips`, with the settings of the one that is there, if one is."""
    from .quantize import QuantizeOptions, quantize

    manifest = find_manifest(unpack(source))
    settings = QuantizeOptions()
    for artifact in list_graphs(manifest):
        if artifact.precision is Precision.INT8:
            kept = str(artifact.options.get("kept", ""))
            method = next((one for one in Method if one.value == artifact.options.get("method")), settings.method)
            settings = QuantizeOptions(method, keep=tuple(filter(None, kept.split(","))))
            place = str(artifact.options.get("place", Place.ALL.value))  # older releases had all layers in INT8
            is_place = place in list(Place)
            settings = replace(settings, place=place if is_place else None, device=None if is_place else place)
    return quantize(manifest.folder, Clips(clips), settings, progress=progress, notify=notify).artifact


def find_source(source: Path | str | Artifact | None, precision: Precision | None) -> Source:
    """The ONNX file that an engine is built from, unchanged since it was written; raises ManifestError without one."""
    path = source.path if isinstance(source, Artifact) else None if source is None else Path(source)
    path = unpack(path)
    if path is not None and not is_folder(path):
        return _checked(_find_file(path), precision)
    manifest = find_manifest(path)
    graphs = {artifact.precision: artifact for artifact in list_graphs(manifest)}
    wanted = precision or next((one for one in NARROWEST_FIRST if one in graphs), Precision.FP16)
    if wanted not in graphs:
        make = f"{wanted.value} {manifest.folder} --clips SOURCE" if wanted.is_eight_bit else "onnx"
        raise ManifestError(
            f"{manifest.path} lists no {wanted.value} ONNX file for a GPU",
            fix=f"run `dualexport {make}` first" + (", or pass --clips" if wanted is Precision.INT8 else ""),
        )
    check_artifact(graphs[wanted])
    return Source(graphs[wanted], manifest.name, manifest)


def unpack(source: Path | None) -> Path | None:
    """A bundle's folder, unpacked into the current one; any other source as it is."""
    from ..exporter.bundle import is_bundle, unpack_bundle

    return unpack_bundle(source, Path()) if source is not None and is_bundle(source) else source


def _find_file(path: Path) -> Source:
    """A file that was named, with the manifest beside it where that lists the file."""
    from ..graphs.describe import describe_onnx

    manifest = read_manifest(path.parent) if is_file(path.parent / FILE_NAME) else None
    for artifact in manifest.artifacts if manifest else ():
        if artifact.path.name == path.name and artifact.format == "onnx":
            assert manifest is not None
            check_artifact(artifact)
            return Source(artifact, manifest.name, manifest)
    artifact = describe_onnx(path)
    return Source(artifact, path.name.removesuffix(".onnx").removesuffix(f".{artifact.precision.value}"), None)


def list_graphs(manifest: Manifest) -> list[Artifact]:
    """The ONNX files that engines are built from: not the INT8 file for CPUs, whose rest is FP32."""
    return [
        artifact
        for artifact in manifest.artifacts
        if artifact.format == "onnx" and artifact.options.get("base") != Precision.FP32.value
    ]


def _make_check(manifest: Manifest, reports: list[ComparisonReport], reporter: Reporter) -> Callable[[Artifact], None]:
    """Holds an engine against the outputs that came with the files; the comparison is added to `reports`."""
    from ..runtimes.expected import FILE_NAME as EXPECTED
    from ..runtimes.expected import read_expected
    from ..verification.limits import choose_defaults

    limits = choose_defaults(selects_tokens=bool(manifest.selections))

    def check(engine: Artifact) -> None:
        with read_expected(manifest.folder / EXPECTED, manifest.preprocessing) as expected:
            proof = parity.Proof(expected.clips)
            reports.extend(parity.compare_with(expected, {engine.path.name: engine}, proof, limits, reporter))
            parity.require_parity(reports, expected.name)

    return check


def _checked(found: Source, precision: Precision | None) -> Source:
    """A file that was named has its own precision; asking for another one is refused."""
    if precision is not None and precision is not found.artifact.precision:
        raise ManifestError(
            f"{found.artifact.path.name} is {found.artifact.precision.value}, {precision.value} was asked for",
            fix="an engine has the precision of its ONNX file: name the other file, or its folder",
        )
    return found


def _require_readable(model: Path) -> None:
    """Raise for what the TensorRT here would refuse in the file, before minutes go into it."""
    from ..graphs.lint import lint_onnx
    from ..runtimes.tensorrt.library import is_for_rtx, library_version

    version = (11,) if is_for_rtx() else version_numbers(library_version())
    release = max((one for one in TensorRTRelease if one.version <= version), default=TensorRTRelease.V10_0)
    findings = lint_onnx(model, (release,))
    if findings:
        first, more = findings[0], len(findings) - 1
        others = f" (and {more} other things that `dualexport lint` lists)" if more else ""
        raise LintError(f"{model.name}, {first.node}: {first.problem}{others}", fix=first.fix)
