"""From the folded graphs of an exported network to its INT8 or FP8 graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import DeviceName, Method, Place, Precision, choose
from ..core.errors import OptionError
from ..core.extras import require_libraries
from ..core.manifest import Manifest, find_manifest
from ..core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ..core.types import Artifact, Clip
from .calibrate import USUAL_CLIPS, FoldedGraphs, measure, quantize_file, reuse_calibration
from .clips import Clips, list_skipped, note_skipped
from .latency import read_verdicts
from .placement import Target, place_layers
from .quantized_file import Work, write_quantized
from .runners import open_artifact
from .sensitivity import SENSITIVITY_CLIPS, find_fewest_kept, measure_agreement, open_graph

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..calibration.placement import Placement
    from ..calibration.sensitivity import LayerNoise
    from ..clips.source import ClipSource, SkippedVideo
    from ..report.bench import Verdict
    from ..verification.tally import ComparisonReport

HELD_OUT = 5  # each so many-th video is kept from calibration when a target is to be reached on unseen clips


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """The choice of ranges, and of the layers that stay unquantized, in `base`: FP16 for GPUs, FP32 for CPUs.

    `precision` is INT8, or FP8 (E4M3) for GPUs from Ada and Hopper on. `place` says which layers are quantized at all:
    what is free, or, where `device` is given, what pays there, by compiled plans on a device of the table, by measured
    times on "here"; in a file for CPUs all. `method` None is percentile, of FP8 max, or that of a stored calibration.
    `keep` are patterns of layers left unquantized. With `sensitivity` the layers are ranked by their share of the
    output's error. For `target_agreement` the fewest of the worst are kept, until the best class agrees with FP32 on
    this share of clips, a fifth of the videos, held out.
    """

    method: Method | str | None = None
    base: Precision | str = Precision.FP16
    keep: tuple[str, ...] = ()
    sensitivity: bool = False
    target_agreement: float | None = None
    place: Place | str | None = None
    device: DeviceName | str | None = None
    precision: Precision | str = Precision.INT8


@dataclass(frozen=True, slots=True)
class Quantized:
    """The INT8 or FP8 file, the calibration behind it, the layers kept, and how close it comes to FP32 on clips.

    `placement` has the layers that are INT8, and, where times on a device decided, what they gain and cost there.
    `compared_with` is the FP32 file. `work_shares` are the shares of the graph's multiply-accumulates by precision.
    `ranking` has the layers by their share of the output's error, the worst first, where it was asked for.
    `verdicts` say whether INT8 is worth it, by what `bench` measured of this very file.
    """

    artifact: Artifact
    calibration: Calibration
    kept: tuple[str, ...]
    placement: Placement
    work_shares: dict[str, float]
    compared_with: str
    report: ComparisonReport | None
    reused: bool
    ranking: tuple[LayerNoise, ...] = ()
    skipped: tuple[SkippedVideo, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


def quantize(
    folder: Path | str | None = None,
    clips: Clips | None = None,
    options: QuantizeOptions | None = None,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Quantized:
    """Write the INT8 (or FP8) graph of the network in `folder`, with its calibration and its entry in the manifest.

    Ranges are measured on `clips`, at most 500 where they do not say, unless the calibration that lies there was
    measured on the same clips and graph; without clips that one is used. All files appear, or none. Raises
    OptionError, QuantizationError where there is no calibration, or one of another graph or method, or for a graph
    that cannot be quantized; ClipError, and ParityError for a file that is far from the FP32 graph.
    """
    options = options or QuantizeOptions()
    _check_options(options, clips)
    require_libraries(Precision(options.precision).value, "onnxruntime")
    manifest, reporter = find_manifest(None if folder is None else Path(folder)), Reporter(progress, notify)
    source, held_out = _open_clips(manifest, clips, options)
    work, reused = _calibrate(manifest, source, options, reporter)
    note_skipped(source or (), reporter)
    ranking: tuple[LayerNoise, ...] = ()
    if source is not None and (options.sensitivity or held_out is not None):
        ranking = _rank(work, source, reporter)
    if held_out is not None and options.target_agreement is not None:
        work = _keep_worst(work, ranking, held_out, options.target_agreement, reporter)
    written = write_quantized(manifest, work, source, reporter)
    return Quantized(
        artifact=written.artifact,
        calibration=work.calibration,
        kept=tuple(sorted(work.kept)),
        placement=work.placement,
        work_shares=written.work_shares,
        compared_with=work.graphs.reference.path.name,
        report=written.report,
        reused=reused,
        ranking=ranking,
        skipped=list_skipped(source or ()),
        verdicts=read_verdicts(find_manifest(manifest.folder), (written.artifact.sha256,), reporter),
    )


def _check_options(options: QuantizeOptions, clips: Clips | None) -> None:
    if clips is None and (options.sensitivity or options.target_agreement is not None):
        raise OptionError("--sensitivity and --target-agreement measure on clips", fix="give --clips")
    if clips is not None and clips.max_clips is not None and clips.max_clips < clips.views:
        raise OptionError(
            f"{clips.max_clips} clips are fewer than the {clips.views} views of one video", fix="allow more clips"
        )
    if options.method is not None:
        choose(Method, options.method, "method")
    base, precision = choose(Precision, options.base, "base"), choose(Precision, options.precision, "precision")
    if base.is_eight_bit:
        raise OptionError(f"what stays unquantized cannot be {base.value}", fix="choose fp16 or fp32")
    if not precision.is_eight_bit:
        raise OptionError(f"{precision.value} is not quantized", fix="choose int8 or fp8")
    if precision is Precision.FP8 and (base is not Precision.FP16 or options.method not in (None, Method.MAX)):
        raise OptionError("FP8 is for GPUs, beside FP16, with ranges by max", fix="leave base and method out, or int8")
    Target.choose(options.place, options.device, base).require(precision)


def _open_clips(
    manifest: Manifest, clips: Clips | None, options: QuantizeOptions
) -> tuple[ClipSource | None, ClipSource | None]:
    """The clips to calibrate on, and those that are held out to measure agreement on where a target is given."""
    if clips is None:
        return None, None
    source = clips.open(manifest.preprocessing, USUAL_CLIPS)
    if options.target_agreement is None:
        return source, None
    rest, held_out = source.split(HELD_OUT)
    if not held_out.videos:
        raise OptionError(
            f"--target-agreement holds each {HELD_OUT}th video out, and there are {len(source.videos)}",
            fix="give more videos",
        )
    return rest, held_out


def _calibrate(
    manifest: Manifest, clips: ClipSource | None, options: QuantizeOptions, reporter: Reporter
) -> tuple[Work, bool]:
    """The graphs with the stored calibration (True) or a new one, without the layers that the options keep."""
    from ..calibration.linear_layers import match_layers

    reporter("reading the graphs")
    base = choose(Precision, options.base, "base")
    graphs = FoldedGraphs.find(manifest, base)
    kept = match_layers(graphs.layers, options.keep)
    method = None if options.method is None else choose(Method, options.method, "method")
    precision = choose(Precision, options.precision, "precision")
    stored = reuse_calibration(manifest, graphs.reference, clips, method, precision)
    target = Target.choose(options.place, options.device, base)
    allowed = frozenset(layer.name for layer in graphs.layers) - kept
    placement = place_layers(graphs.base, allowed, target, precision, reporter)
    if stored is not None:
        reporter.note(f"used the calibration in {manifest.folder}, of the same graph")
        return Work(graphs, stored, kept, target, placement), True
    assert clips is not None
    calibration = measure(graphs, clips, method, precision, reporter)
    return Work(graphs, calibration, kept, target, placement), False


def _rank(work: Work, clips: Iterable[Clip], reporter: Reporter) -> tuple[LayerNoise, ...]:
    """The share of the output's error of each linear layer, on the first clips; the worst first."""
    from ..calibration.sensitivity import rank_layers

    few = tuple(islice(clips, SENSITIVITY_CLIPS))
    graphs = work.graphs
    return rank_layers(graphs.load_reference(), graphs.layers, work.calibration, few, open_graph, reporter)


def _keep_worst(
    work: Work, ranking: Sequence[LayerNoise], held_out: Iterable[Clip], target: float, reporter: Reporter
) -> Work:
    """The same work with the fewest of the worst layers kept that it takes to agree with FP32 on `held_out`."""
    from ..runtimes.stored_runner import CachedRunner

    with open_artifact(work.graphs.reference) as reference, CachedRunner(reference) as expected:

        def agree(kept: frozenset[str]) -> float:
            quantized = quantize_file(work.graphs.reference, work.calibration, kept)  # a CPU computes FP32 faster
            return measure_agreement(expected, quantized, held_out)

        placed = [noise for noise in ranking if noise.layer in work.placement.layers]
        unquantized = find_fewest_kept(placed, work.unquantized, agree, target, reporter)
    return work.keep(work.kept | (unquantized - work.unquantized), reporter)
