"""`dualexport trt`: a TensorRT engine, built where it will run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.choices import Compatibility, Precision
from ..pipeline.build import BuildOptions, Built, build, calibrate
from ..pipeline.serve import build_into
from . import console
from .options import MOST_BATCH, Json

EPILOG = "Example:\n\ndualexport trt dualformer-demo.tar.gz --fp16"


def trt(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR|MODEL.onnx|BUNDLE.tar.gz]", help="What to build from. Default: the only exported folder here."
        ),
    ] = None,
    fp32: Annotated[bool, typer.Option("--fp32", help="Build the FP32 file.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Build the FP16 file.")] = False,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="Build the FP8 file; for GPUs from Ada (8.9) and Hopper (9.0) on.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Build the INT8 file. Default: the narrowest one there.")
    ] = False,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="With --int8: calibrate the INT8 file on these videos first (a video, folder, list or .npy), as "
            "`dualexport int8 DIR --clips SOURCE` does.",
        ),
    ] = None,
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
    batch_opt: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_BATCH, help="Of a file that takes a range: the batch to be fastest with."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="sm86,sm89", help="Build for these RTX GPUs ahead of time, with TensorRT for RTX."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write a model repository for Triton with the engine, a new folder."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse an engine whose precision TensorRT 10's plan does not prove.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print everything that TensorRT says, on stderr.")] = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine from an ONNX file, on the GPU that will run it, and prove its precision.

    Writes DIR/dualformer-SIZE.PRECISION.DEVICE-VERSION.engine, which trtexec and Triton load as it is, and lists it in
    the manifest. Exits with 1 when the engine does not compute in the precision that was asked for.
    """
    asked = [precision for precision, flag in zip(Precision, (fp32, fp16, fp8, int8), strict=True) if flag]
    if len(asked) > 1:
        raise typer.BadParameter(f"give one of --fp32, --fp16, --fp8 and --int8, not {len(asked)}")
    if timing_cache is not None and timing_cache.suffix != ".cache":
        raise typer.BadParameter("is overwritten, so its name must end in .cache", param_hint="--timing-cache")
    if clips is not None and not int8:
        raise typer.BadParameter("INT8 is calibrated on them: give --int8 too", param_hint="--clips")
    if clips is not None and source is not None and source.suffix == ".onnx":
        raise typer.BadParameter(
            f"calibrates the INT8 file of a folder: name the folder, not {source.name}", param_hint="--clips"
        )
    options = BuildOptions(
        workspace_gib=workspace,
        optimization_level=optimization_level,
        compatible=compatible,
        version_compatible=version_compatible,
        targets=_parse_targets(target),
        precision=asked[0] if asked else None,
        timing_cache=timing_cache,
        verbose=verbose,
        strict=strict,
        optimal_batch=batch_opt,
    )
    with console.show_progress() as reporter:
        graph = None if clips is None else calibrate(source, clips, progress=reporter, notify=reporter.note)
        if into is None:
            built = build(graph or source, options, progress=reporter, notify=reporter.note)
        else:
            built = build_into(graph or source, into, options, progress=reporter, notify=reporter.note)
    console.show(built, _print_engine, as_json=as_json)


def _parse_targets(text: str | None) -> tuple[str, ...]:
    """`sm86,sm120` -> ("8.6", "12.0")."""
    names = [name.strip().lower().removeprefix("sm") for name in text.split(",")] if text else []
    for name in names:
        if not (name.isdigit() and len(name) in (2, 3)):
            raise typer.BadParameter(f"{text!r} is not a list like sm86,sm89,sm120", param_hint="--target")
    return tuple(f"{name[:-1]}.{name[-1]}" for name in names)


def _print_engine(built: Built) -> None:
    """The file, what proves its precision, and where it runs."""
    record: Mapping[str, Any] = built.engine.options
    shares = ", ".join(
        f"{record[f'{name}_share']:.1%} {name}"
        for name in ("fp32", "fp16", "fp8", "int8", "unknown")
        if record.get(f"{name}_share")
    )
    oldest = "Ada" if built.engine.precision is Precision.FP8 else "Ampere"
    rows = [
        ("size, MB", f"{record['size_bytes'] / 1e6:.1f}"),
        ("built in, s", f"{record['build_seconds']:.1f}"),
        ("built with", f"{record['compiler']} {record['tensorrt']}"),
        ("runs on", str(record.get("gpu") or record.get("compute_capability") or f"RTX GPUs from {oldest} on")),
        ("work computed in", shares),
        ("attentions fused", f"{record['fused_attentions']} of {record['attentions']}"),
        ("layers", str(record["layers"])),
    ]
    if built.expected is not None:
        rows.append(("largest difference from the expected outputs", f"{built.expected.largest_difference:.1e}"))
    console.print_text(str(built.engine.path))
    console.print_table("Engine", ("", ""), rows)
