"""`dualexport trt`: a TensorRT engine, built where it will run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import Compatibility, Precision
from ..core.errors import ManifestError
from ..core.extras import needing_extra
from ..core.files import staged_set
from ..core.reporter import Reporter
from ..core.types import Artifact
from ..pipeline import parity
from ..pipeline.runners import NARROWEST_FIRST
from ..runtimes.tensorrt.engine_file import SUFFIX, EngineOptions
from . import console
from .options import Clips, Json

if TYPE_CHECKING:
    from ..core.manifest import Manifest
    from ..runtimes.tensorrt.build import BuildPlace
    from ..verification.tally import ComparisonReport

EPILOG = "Example:\n\ndualexport trt dualformer-demo.tar.gz --fp16"


@dataclass(frozen=True, slots=True)
class _Source:
    """The ONNX file to build from, the name of its network, and the manifest that lists it, if one does."""

    artifact: Artifact
    name: str
    manifest: Manifest | None


def trt(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR|MODEL.onnx|BUNDLE.tar.gz]", help="Found by itself when only one exported folder is here."
        ),
    ] = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="Build the FP32 file.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Build the FP16 file.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Build the INT8 file. Default: the narrowest one there.")
    ] = False,
    clips: Clips = None,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Kernel timings to reuse and keep. Default: beside the engine.")
    ] = None,
    workspace: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.01, max=1024.0, help="Most memory that a layer may take for itself."),
    ] = None,
    compatible: Annotated[
        Compatibility,
        typer.Option(help="Other GPUs that the engine is to run on, at some cost in speed; not on Jetson."),
    ] = Compatibility.NONE,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs with later releases of the same major version too.")
    ] = False,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="More tries more kernels, and takes longer. TensorRT's default: 3.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="sm86,sm89", help="Build for these RTX GPUs ahead of time, with TensorRT for RTX."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print everything that TensorRT says, on stderr.")] = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine from an ONNX file, on the GPU that will run it, and prove its precision.

    Writes DIR/dualformer-SIZE.PRECISION.DEVICE-VERSION.engine, which trtexec, Triton and DeepStream load as it is, and
    lists it in the manifest. Exits with 1 when the engine does not compute in the precision that was asked for.
    """
    asked = [precision for precision, flag in zip(Precision, (fp32, fp16, int8), strict=True) if flag]
    if len(asked) > 1:
        raise typer.BadParameter(f"give one of --fp32, --fp16 and --int8, not {len(asked)}")
    if timing_cache is not None and timing_cache.suffix != ".cache":
        raise typer.BadParameter("is overwritten, so its name must end in .cache", param_hint="--timing-cache")
    options = EngineOptions(workspace, optimization_level, compatible, version_compatible, _parse_targets(target))
    from ..runtimes.machine.host import read_host
    from ..runtimes.tensorrt.build import BuildPlace
    from ..runtimes.tensorrt.configure import find_device

    with console.show_progress() as reporter:
        found = _find_source(source, asked[0] if asked else None, clips, reporter)
        _require_readable(found.artifact.path)
        folder = found.artifact.path.parent
        place = BuildPlace(folder, find_device(), read_host(), timing_cache, console.note, verbose)
        engine, report = _build(found, place, options, reporter)
    if as_json:
        manifest = found.manifest.path if found.manifest else None
        console.print_json({"engine": engine, "manifest": manifest, "expected": report})
    else:
        _print_engine(engine, report)


def _build(
    found: _Source, place: BuildPlace, options: EngineOptions, reporter: Reporter
) -> tuple[Artifact, ComparisonReport | None]:
    """The engine, listed in the manifest, and how close it is to the outputs that lie beside it, if any do."""
    from ..runtimes.expected import FILE_NAME
    from ..runtimes.tensorrt.build import build_engine

    if found.manifest is None:
        return build_engine(found.artifact, found.name, place, options, reporter), None
    reports: list[ComparisonReport] = []
    stored = found.manifest.folder / FILE_NAME
    if stored.is_file() and place.device is not None:
        place = replace(place, check=_make_check(found.manifest, reports, reporter))
    engine = build_engine(found.artifact, found.name, place, options, reporter)
    _list_engine(found.manifest, engine)
    if stored.is_file() and not reports:
        console.note(
            "not compared with the expected outputs, there is no GPU here: on the device run "
            f"`dualexport verify {found.manifest.folder} --runtime tensorrt --reference expected`"
        )
    return engine, reports[0] if reports else None


def _find_source(source: Path | None, asked: Precision | None, clips: Path | None, reporter: Reporter) -> _Source:
    from ..core.manifest import FILE_NAME, check_artifact, find_manifest, read_manifest
    from ..exporter.bundle import is_bundle, unpack_bundle
    from ..graphs.describe import describe_onnx

    if source is not None and is_bundle(source):
        source = unpack_bundle(source, Path())
    if source is not None and not source.is_dir():
        listed = read_manifest(source.parent) if (source.parent / FILE_NAME).is_file() else None
        entries = [entry for entry in listed.artifacts if entry.path.name == source.name] if listed else []
        if listed is not None and entries:
            check_artifact(entries[0])
            return _checked(_Source(entries[0], listed.name, listed), asked)
        artifact = describe_onnx(source)
        name = source.name.removesuffix(".onnx").removesuffix(f".{artifact.precision.value}")
        return _checked(_Source(artifact, name, None), asked)
    manifest = find_manifest(source)
    graphs = {
        artifact.precision: artifact
        for artifact in manifest.artifacts
        if artifact.format == "onnx" and artifact.options.get("base") != Precision.FP32.value  # that INT8 is for CPUs
    }
    wanted = asked or next((precision for precision in NARROWEST_FIRST if precision in graphs), Precision.FP16)
    if wanted not in graphs:
        graphs[wanted] = _make_graph(manifest, wanted, clips, reporter)
        manifest = read_manifest(manifest.folder)
    check_artifact(graphs[wanted])
    return _Source(graphs[wanted], manifest.name, manifest)


def _make_check(manifest: Manifest, reports: list[ComparisonReport], reporter: Reporter) -> Callable[[Artifact], None]:
    """Holds an engine against the outputs that came with the files; the comparison is added to `reports`."""
    from ..runtimes.expected import FILE_NAME, read_expected
    from ..verification.limits import choose_defaults

    limits = choose_defaults(selects_tokens=bool(manifest.selections))

    def check(engine: Artifact) -> None:
        with read_expected(manifest.folder / FILE_NAME, manifest.preprocessing) as expected:
            proof = parity.Proof(expected.clips)
            name = engine.path.name.removeprefix(".").partition(SUFFIX)[0] + SUFFIX  # without its staging
            reports.extend(parity.compare_with(expected, {name: engine}, proof, limits, reporter))
            parity.require_parity(reports, expected.name)

    return check


def _checked(found: _Source, asked: Precision | None) -> _Source:
    """A file that was named has its own precision; asking for another one is refused."""
    if asked is not None and asked is not found.artifact.precision:
        raise ManifestError(
            f"{found.artifact.path.name} is {found.artifact.precision.value}, {asked.value} was asked for",
            fix="an engine has the precision of its ONNX file: name the other file, or its folder",
        )
    return found


def _make_graph(manifest: Manifest, precision: Precision, clips: Path | None, reporter: Reporter) -> Artifact:
    """The INT8 graph that the folder does not have, calibrated on `clips`; other graphs are not made here."""
    if precision is not Precision.INT8 or clips is None:
        make = f"int8 {manifest.folder} --clips SOURCE" if precision is Precision.INT8 else "onnx"
        raise ManifestError(
            f"{manifest.path} lists no {precision.value} ONNX file",
            fix=f"run `dualexport {make}` first" + (", or pass --clips" if precision is Precision.INT8 else ""),
        )
    from ..pipeline.quantize import quantize_on_videos

    with needing_extra("trt --int8"):
        import onnxruntime  # noqa: F401  # calibration runs the FP32 graph
    return quantize_on_videos(manifest, clips, reporter).artifact


def _require_readable(model: Path) -> None:
    """Raise for what the TensorRT here would refuse in the file, before minutes go into it."""
    from ..core.choices import TensorRTRelease
    from ..core.errors import LintError
    from ..core.versions import version_numbers
    from ..graphs.lint import lint_onnx
    from ..runtimes.tensorrt.library import is_for_rtx, library_version

    version = (11,) if is_for_rtx() else version_numbers(library_version())
    release = max((one for one in TensorRTRelease if one.version <= version), default=TensorRTRelease.V10_0)
    findings = lint_onnx(model, (release,))
    if findings:
        first, more = findings[0], len(findings) - 1
        others = f" (and {more} other things that `dualexport lint` lists)" if more else ""
        raise LintError(f"{model.name}, {first.node}: {first.problem}{others}", fix=first.fix)


def _list_engine(manifest: Manifest, engine: Artifact) -> None:
    from ..core.manifest import add_artifacts

    with staged_set(manifest.folder) as staged:
        add_artifacts(staged, manifest, (engine,))


def _parse_targets(text: str | None) -> tuple[str, ...]:
    """`sm86,sm120` -> ("8.6", "12.0")."""
    names = [name.strip().lower().removeprefix("sm") for name in text.split(",")] if text else []
    for name in names:
        if not (name.isdigit() and len(name) in (2, 3)):
            raise typer.BadParameter(f"{text!r} is not a list like sm86,sm89,sm120", param_hint="--target")
    return tuple(f"{name[:-1]}.{name[-1]}" for name in names)


def _print_engine(engine: Artifact, report: ComparisonReport | None) -> None:
    """The file, what proves its precision, and where it runs."""
    record: Mapping[str, Any] = engine.options
    shares = ", ".join(
        f"{record[f'{name}_share']:.1%} {name}"
        for name in ("fp32", "fp16", "int8", "unknown")
        if record[f"{name}_share"]
    )
    rows = [
        ("size, MB", f"{record['size_bytes'] / 1e6:.1f}"),
        ("built in, s", f"{record['build_seconds']:.1f}"),
        ("built with", f"{record['compiler']} {record['tensorrt']}"),
        ("runs on", str(record.get("gpu") or record.get("compute_capability") or "RTX GPUs from Ampere on")),
        ("work computed in", shares),
        ("attentions fused", f"{record['fused_attentions']} of {record['attentions']}"),
        ("layers", str(record["layers"])),
    ]
    if report is not None:
        rows.append(("largest difference from the expected outputs", f"{report.largest_difference:.1e}"))
    print(engine.path)
    console.print_table("Engine", ("", ""), rows)
