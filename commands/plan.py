"""`dualexport plan`: what TensorRT makes of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.choices import DeviceName, Precision
from ..runtimes.plans.devices import ASSUMPTIONS
from ..runtimes.plans.layer_kind import LayerKind
from . import console
from .options import MOST_BATCH, Json

if TYPE_CHECKING:
    from ..runtimes.plans.devices import LatencyEstimate
    from ..runtimes.plans.plan import EnginePlan, PlanLayer

    Estimates = Sequence[LatencyEstimate]  # of a plan, one a device

EPILOG = (
    f"What --device assumes: {ASSUMPTIONS}\n\n"
    "Example:\n\ndualexport plan dualformer-demo/dualformer-demo.fp16.onnx --device agx-orin"
)


def plan(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL [OTHER]", help="ONNX file; two are put side by side.")],
    layers: Annotated[bool, typer.Option("--layers", help="List all layers, not the ten heaviest.")] = False,
    device: Annotated[
        list[DeviceName] | None,
        typer.Option(
            metavar="DEVICE",
            help="Add a latency estimate for this device; may be repeated: "
            f"{', '.join(name.value for name in DeviceName)}.",
        ),
    ] = None,
    require: Annotated[
        Precision | None,
        typer.Option(help="Exit with 1 when less of the (last) model became this than its graph asks for."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=MOST_BATCH, help="Of files that take a range. Default: the largest.")
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
    from ..pipeline import plan as planning

    options = planning.PlanOptions(device or (), save, batch)
    with console.show_progress() as reporter:
        planned = planning.plan(models, options, progress=reporter.progress, notify=reporter.note)
    if as_json:
        console.print_json(planned.document())
    else:
        _print_plans(planned.plans, planned.estimates, all_layers=layers)
        sentences = [sentence for verdict in planned.verdicts for sentence in verdict.sentences]
        for sentence in dict.fromkeys((*sentences, *(one.sentence for one in planned.measured))):
            console.print_text(sentence)
    if require is not None:
        planned.require(require)


def _print_plans(plans: Sequence[EnginePlan], estimates: Sequence[Estimates], *, all_layers: bool) -> None:
    """The figures of one plan or two side by side, then each plan's heaviest layers (or all) and its copies."""
    for note_ in {made.compiler: f"{made.compiler}, read from the {made.source}" for made in plans}.values():
        console.print_text(note_)
    _print_figures(plans)
    if estimates:
        _print_estimates(plans, estimates)
    for index, made in enumerate(plans):
        times = list(zip(*(one.layers_ms for one in estimates[index]), strict=True)) if estimates else []
        names = [one.device.name.value for one in estimates[index]] if estimates else []
        listed = dict(zip(map(id, made.layers), times, strict=True)) if times else {}
        title = f"{made.model}: {'all layers' if all_layers else 'heaviest layers'}"
        _print_layers(title, made.layers if all_layers else made.heaviest(), names, listed)
        if made.movement_layers and not all_layers:
            _print_layers(f"{made.model}: layers that only move data", made.movement_layers, names, listed)
        if made.uncounted_nodes:
            console.print_text(f"not counted, their shapes are unknown: {', '.join(made.uncounted_nodes)}")
    if estimates:
        console.print_text(f"An estimate, not a measurement. {ASSUMPTIONS}")


def _print_figures(plans: Sequence[EnginePlan]) -> None:
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
    columns = ("figure", *(made.model for made in plans), *(("ratio",) if len(plans) == 2 else ()))
    console.print_table("Compiled plan", columns, rows)


def _print_estimates(plans: Sequence[EnginePlan], estimates: Sequence[Estimates]) -> None:
    """A row a plan, a column a device; of two plans how much faster the second one is."""
    rows = [
        (made.model, *(f"{one.total_ms:.2f}" for one in of_plan))
        for made, of_plan in zip(plans, estimates, strict=True)
    ]
    if len(plans) == 2:
        pairs = zip(*estimates, strict=True)
        rows.append(("times as fast", *(f"{first.total_ms / second.total_ms:.2f}" for first, second in pairs)))
    console.print_table("Estimated ms", ("", *(one.device.title for one in estimates[0])), rows)


def _movement_mb(made: EnginePlan) -> float:
    return sum(layer.moved_bytes for layer in made.movement_layers) / 1e6


def _ratio(values: Sequence[float]) -> tuple[str, ...]:
    if len(values) != 2:
        return ()
    return (f"{values[1] / values[0]:.2f}" if values[0] else "",)


def _print_layers(
    title: str, layers: Sequence[PlanLayer], devices: Sequence[str], times: Mapping[int, Sequence[float]]
) -> None:
    columns = ("layer", "kind", "MB", "weights MB", "GMACs", "in", *(f"ms {device}" for device in devices))
    rows = [
        (
            layer.label,
            layer.kind.value,
            f"{layer.moved_bytes / 1e6:.2f}",
            f"{layer.weight_bytes / 1e6:.2f}",
            f"{layer.macs / 1e9:.3f}" if layer.macs else "",
            layer.precision.value if layer.precision else "",
            *(f"{milliseconds:.4f}" for milliseconds in times.get(id(layer), ())),
        )
        for layer in layers
    ]
    console.print_table(title, columns, rows)
