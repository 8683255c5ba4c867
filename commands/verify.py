"""`dualexport verify`: every artifact against the PyTorch network, or against what stands for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..contracts import Artifact, Clip, ManifestError, MissingDependencyError, Precision, Runner, RunnerError
from ..runtimes.cuda import CudaError
from ..runtimes.engine import FORMAT, EngineError
from . import console, steps
from .options import Clips, Folder, Json, LogitTolerance, SkipUnreadable, Views
from .running import Reference, Runtime, choose_artifact, list_artifacts, open_artifact, open_network

if TYPE_CHECKING:
    from ..exporter.manifest import Manifest
    from ..runtimes.compare import ComparisonReport

EPILOG = (
    "Example: dualexport verify dualformer-b --clips videos/. "
    "On a device without PyTorch: dualexport verify dualformer-b --runtime tensorrt --reference expected"
)


def verify(
    folder: Folder = None,
    clips: Clips = None,
    views: Views = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint is now, if it was moved.")] = None,
    runtime: Annotated[
        Runtime | None, typer.Option(help="Compare only what this runtime runs. Default: every file in DIR.")
    ] = None,
    reference: Annotated[
        Reference,
        typer.Option(
            help="The PyTorch network; the FP32 ONNX file, where there is no PyTorch; or the outputs in a bundle."
        ),
    ] = Reference.TORCH,
    skip_unreadable: SkipUnreadable = False,
    tolerance: LogitTolerance = None,
    as_json: Json = False,
) -> None:
    """Run the PyTorch network and every artifact in DIR on clips, and compare their logits.

    Exits with 1 when an artifact is out of tolerance, naming its worst clip.
    """
    if runtime is Runtime.TORCH:
        raise typer.BadParameter("the PyTorch network is what artifacts are compared with", param_hint="--runtime")
    if reference is Reference.EXPECTED and clips is not None:
        raise typer.BadParameter("expected outputs are those of the bundle's own clips: leave --clips out")
    from ..exporter.manifest import check_artifact, find_manifest

    manifest = find_manifest(folder)
    with console.show_progress() as progress:
        progress("loading the reference")
        chosen = manifest.artifacts if runtime is None else list_artifacts(manifest, runtime)
        for artifact in chosen:
            check_artifact(artifact)
        opened, source = _open_reference(manifest, reference, checkpoint)
        if source is None:
            source = steps.open_clips(clips, manifest.preprocessing, views, skip_unreadable)
        with opened:
            artifacts = _leave_out_reference(manifest, chosen, reference)
            with _telling_of_engines(artifacts, runtime):
                reports = steps.compare_with(opened, artifacts, steps.Proof(source, tolerance), progress)
    if reference is not Reference.EXPECTED:
        steps.note_clips(source)
    if reference is not Reference.TORCH:
        console.note(f"compared with {opened.name}, not with the PyTorch network")
    if as_json:
        console.print_json(
            {
                "passed": all(report.passed for report in reports),
                "reference": opened.name,
                "reports": reports,
                "skipped": steps.list_skipped(source),
            }
        )
    else:
        _print_comparison(reports, opened.name)
    steps.require_parity(reports, "the PyTorch network" if reference is Reference.TORCH else opened.name)


@contextmanager
def _telling_of_engines(artifacts: Mapping[str, Artifact], runtime: Runtime | None) -> Iterator[None]:
    """An engine that cannot run here fails a comparison of everything; say how to leave engines out."""
    try:
        yield
    except (CudaError, EngineError, MissingDependencyError) as error:
        engines = [name for name, artifact in artifacts.items() if artifact.format == FORMAT]
        if runtime is not None or not engines:
            raise
        fix = f"{error.fix}; or pass --runtime onnx to leave the engines out"
        raise RunnerError(f"{', '.join(engines)}: {error}", fix=fix) from error


def _open_reference(
    manifest: Manifest, reference: Reference, checkpoint: Path | None
) -> tuple[Runner, Iterable[Clip] | None]:
    """The reference, and the clips where they are its own."""
    if reference is Reference.EXPECTED:
        from ..runtimes.expected import FILE_NAME, ExpectedRunner

        stored = ExpectedRunner(manifest.folder / FILE_NAME, manifest.preprocessing)
        return stored, stored.clips
    if reference is Reference.ONNX:
        with steps.needing_extra("verify"):
            return open_artifact(_require_fp32(manifest)), None
    try:
        with steps.needing_extra("verify"):
            return open_network(manifest, checkpoint), None
    except MissingDependencyError as error:
        fix = f"{error.fix}, or without PyTorch pass --reference expected (in a bundle) or --reference onnx"
        raise MissingDependencyError(str(error), fix=fix) from error


def _require_fp32(manifest: Manifest) -> Artifact:
    artifact = choose_artifact(manifest, Runtime.ONNX)
    if artifact.precision is not Precision.FP32:
        raise ManifestError(
            f"{manifest.path} lists no FP32 ONNX file to compare with", fix="run `dualexport onnx --precision fp32`"
        )
    return artifact


def _leave_out_reference(
    manifest: Manifest, artifacts: Sequence[Artifact], reference: Reference
) -> dict[str, Artifact]:
    """The artifacts by name, without the one that is the reference; raises ManifestError when none is left."""
    left_out = _require_fp32(manifest).path if reference is Reference.ONNX else None
    kept = {artifact.path.name: artifact for artifact in artifacts if artifact.path != left_out}
    if not kept:
        raise ManifestError("nothing is left to compare with the reference", fix="build or export another artifact")
    return kept


def _print_comparison(reports: Sequence[ComparisonReport], reference: str) -> None:
    """One row an artifact."""
    columns = ("artifact", "clips", "top-1 agreement", "largest diff", "mean diff", "cosine", "result")
    rows = [
        (
            report.artifact,
            str(report.clips),
            f"{report.top1_agreement:.1%}",
            f"{report.largest_difference:.1e}",
            f"{report.mean_difference:.1e}",
            f"{report.cosine:.6f}",
            "PASS" if report.passed else "FAIL",
        )
        for report in reports
    ]
    console.print_table(f"Logits against {reference}", columns, rows)
