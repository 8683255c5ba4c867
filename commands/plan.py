"""`dualexport plan`: what TensorRT makes of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import DeviceName, Precision
from ..core.errors import ManifestError
from ..core.files import hash_file, staged_path
from ..core.plain import to_json
from ..core.reporter import Reporter
from ..pipeline.latency import read_verdicts
from ..report.bench import Verdict as MeasuredVerdict
from ..runtimes.plans.devices import ASSUMPTIONS
from ..runtimes.plans.layer_kind import LayerKind
from . import console
from .options import Json

if TYPE_CHECKING:
    from ..runtimes.plans.devices import LatencyEstimate
    from ..runtimes.plans.plan import EnginePlan, PlanLayer
    from ..runtimes.plans.verdict import Verdict

EPILOG = (
    f"What --device assumes: {ASSUMPTIONS}\n\n"
    "Example:\n\ndualexport plan dualformer-demo/dualformer-demo.fp16.onnx --device agx-orin"
)


def plan(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL [OTHER]", help="ONNX file; two are put side by side.")],
    layers: Annotated[bool, typer.Option("--layers", help="List all layers, not the ten heaviest.")] = False,
    device: Annotated[
        DeviceName | None,
        typer.Option(
            metavar="DEVICE",
            help=f"Add a latency estimate for this device: {', '.join(name.value for name in DeviceName)}.",
        ),
    ] = None,
    require: Annotated[
        Precision | None,
        typer.Option(help="Exit with 1 when less of the (last) model became this than its graph asks for."),
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plans as JSON, every layer.")] = None,
    as_json: Json = False,
) -> None:
    """Show what TensorRT makes of a model: layers, fused attentions, bytes moved, precision of the work.

    Compiles with the TensorRT that is installed, as strongly typed; needs no GPU. With the FP16 and the INT8 file of a
    network and --device it says whether INT8 is worth it.
    """
    if len(models) > 2:
        raise typer.BadParameter("give one model, or two to compare", param_hint="MODEL")
    from ..pipeline.plan import plan_onnx
    from ..runtimes.plans.devices import DEVICES, estimate
    from ..runtimes.plans.precision import require_precision

    with console.show_progress() as progress:
        plans = [plan_onnx(model, progress=progress) for model in models]
    estimates = [estimate(made, DEVICES[device]) for made in plans] if device else []
    verdict = _judge(plans, device)
    measured = _read_measured(models)
    document = {
        **({"verdict": verdict} if verdict else {}),
        **({"measured": measured} if measured else {}),
        "plans": [
            {**made.document(), **({"estimate": estimated.document()} if estimated else {})}
            for made, estimated in zip_longest(plans, estimates)
        ],
    }
    if save:
        with staged_path(save) as staged:
            staged.write_text(to_json(document), encoding="utf-8")
    if as_json:
        console.print_json(document)
    else:
        _print_plans(plans, estimates, all_layers=layers)
        for sentence in (*(verdict.sentences if verdict else ()), *(one.sentence for one in measured)):
            console.print_text(sentence)
    if require:
        require_precision(plans[-1], require)


def _judge(plans: Sequence[EnginePlan], device: DeviceName | None) -> Verdict | None:
    """The verdict on an FP16 and an INT8 plan, in either order; None for anything else."""
    from ..runtimes.plans.devices import DEVICES
    from ..runtimes.plans.verdict import judge

    asked = {Precision.INT8.value in made.asked_shares: made for made in plans}
    if device is None or len(plans) != 2 or len(asked) != 2 or Precision.FP16.value not in asked[False].asked_shares:
        return None
    return judge(asked[False], asked[True], DEVICES[device])


def _read_measured(models: Sequence[Path]) -> tuple[MeasuredVerdict, ...]:
    """What `bench` measured of an INT8 file among the models, where a manifest lists it."""
    from ..core.manifest import FILE_NAME, read_manifest

    folder = models[-1].parent
    if not (folder / FILE_NAME).is_file():
        return ()
    try:
        return read_verdicts(read_manifest(folder), [hash_file(model) for model in models], Reporter(note=console.note))
    except ManifestError:
        return ()


def _print_plans(plans: Sequence[EnginePlan], estimates: Sequence[LatencyEstimate], *, all_layers: bool) -> None:
    """The figures of one plan or two side by side, then each plan's heaviest layers (or all) and its copies."""
    for note_ in {made.compiler: f"{made.compiler}, read from the {made.source}" for made in plans}.values():
        print(note_)
    _print_figures(plans, estimates)
    for index, made in enumerate(plans):
        times = dict(zip(map(id, made.layers), estimates[index].layers_ms, strict=True)) if estimates else {}
        title = f"{made.model}: {'all layers' if all_layers else 'heaviest layers'}"
        _print_layers(title, made.layers if all_layers else made.heaviest(), times)
        if made.movement_layers and not all_layers:
            _print_layers(f"{made.model}: layers that only move data", made.movement_layers, times)
        if made.uncounted_nodes:
            print(f"not counted, their shapes are unknown: {', '.join(made.uncounted_nodes)}")
    if estimates:
        print(f"An estimate, not a measurement. {ASSUMPTIONS}")


def _print_figures(plans: Sequence[EnginePlan], estimates: Sequence[LatencyEstimate]) -> None:
    kinds = [kind for kind in LayerKind if any(kind in made.layers_by_kind for made in plans)]
    shares = {name: None for made in plans for name in made.work_shares}
    figures: list[tuple[str, Callable[[EnginePlan], float], str]] = [
        ("layers", lambda made: len(made.layers), "{:,.0f}"),
        *((f"  {kind.value}", lambda made, kind=kind: made.layers_by_kind.get(kind, 0), "{:,.0f}") for kind in kinds),
        ("attentions", lambda made: made.attentions, "{:,.0f}"),
        ("  fused", lambda made: made.fused_attentions, "{:,.0f}"),
        ("MB moved", lambda made: made.moved_bytes / 1e6, "{:,.1f}"),
        ("  by layers that only move data", _movement_mb, "{:,.1f}"),
        ("MB of weights", lambda made: made.weight_bytes / 1e6, "{:,.1f}"),
        ("GMACs", lambda made: made.graph_macs / 1e9, "{:,.2f}"),
        *((f"  in {name}", lambda made, name=name: made.work_shares.get(name, 0.0), "{:.2%}") for name in shares),
    ]
    rows = []
    for name, figure, style in figures:
        values = [figure(made) for made in plans]
        rows.append((name, *(style.format(value) for value in values), *_ratio(values)))
    if estimates:
        totals = [estimated.total_ms for estimated in estimates]
        title = f"estimated ms, {estimates[0].device.title}"
        rows.append((title, *(f"{total:.2f}" for total in totals), *_ratio(totals)))
    columns = ("figure", *(made.model for made in plans), *(("ratio",) if len(plans) == 2 else ()))
    console.print_table("Compiled plan", columns, rows)


def _movement_mb(made: EnginePlan) -> float:
    return sum(layer.moved_bytes for layer in made.movement_layers) / 1e6


def _ratio(values: Sequence[float]) -> tuple[str, ...]:
    if len(values) != 2:
        return ()
    return (f"{values[1] / values[0]:.2f}" if values[0] else "",)


def _print_layers(title: str, layers: Sequence[PlanLayer], times: Mapping[int, float]) -> None:
    columns = ("layer", "kind", "MB", "weights MB", "GMACs", "in", *(("estimated ms",) if times else ()))
    rows = [
        (
            layer.label,
            layer.kind.value,
            f"{layer.moved_bytes / 1e6:.2f}",
            f"{layer.weight_bytes / 1e6:.2f}",
            f"{layer.macs / 1e9:.3f}" if layer.macs else "",
            layer.precision.value if layer.precision else "",
            *((f"{times[id(layer)]:.4f}",) if times else ()),
        )
        for layer in layers
    ]
    console.print_table(title, columns, rows)
