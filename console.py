"""How dualexport looks on a screen: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from .contracts import Progress
from .runtimes.devices import ASSUMPTIONS
from .runtimes.plan import LayerKind

if TYPE_CHECKING:
    from .calibration.synthetic import Dataset
    from .exporter.lint import Finding
    from .exporter.tensorrt_support import TensorRTRelease
    from .runtimes.classify import Prediction
    from .runtimes.compare import ComparisonReport
    from .runtimes.devices import LatencyEstimate
    from .runtimes.plan import EnginePlan, PlanLayer

UNBROKEN_WIDTH = 1000  # characters, where no terminal sets a width
QUIET_SECONDS = 5.0  # between two lines of one counted task where there is no terminal


def print_export(summary: Mapping[str, Any]) -> None:
    """What `onnx` wrote: a row a file, then the network in one line."""
    rows = [
        (
            str(file["path"]),
            file["graph"].value,
            f"{file['size_bytes'] / 1e6:.1f}",
            str(file["options"]["opset"]),
            str(file["options"]["nodes"]),
            str(report.clips),
            f"{report.largest_difference:.1e}",
            f"{report.cosine:.6f}",
        )
        for file, report in zip(summary["files"], summary["parity"], strict=True)
    ]
    columns = ("file", "graph", "MB", "opset", "nodes", "clips", "largest diff", "cosine")
    _print_table("Written, and compared with the PyTorch network (FP32)", columns, rows)
    for selection in summary.get("selections", ()):
        print(f"token selection: {selection}")
    print(
        f"DualFormer-{summary['model'].value}: {summary['parameters'] / 1e6:.1f} M parameters, "
        f"{summary['gmacs_per_view']:.1f} GMACs a view; {summary['seconds']:.1f} s"
    )


def print_comparison(reports: Sequence[ComparisonReport]) -> None:
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
    _print_table("Logits against the PyTorch network (FP32)", columns, rows)


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """One small table a video."""
    for prediction in predictions:
        rows = [(item.label, f"{item.probability:.1%}") for item in prediction.top]
        _print_table(f"{prediction.video} ({prediction.views} views)", ("class", "probability"), rows)


def print_plans(plans: Sequence[EnginePlan], estimates: Sequence[LatencyEstimate], *, all_layers: bool) -> None:
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


def print_findings(model: str, releases: Sequence[TensorRTRelease], findings: Sequence[Finding]) -> None:
    """Two lines a finding, or one line that says there is none."""
    for finding in findings:
        operator = f" ({finding.operator})" if finding.operator else ""
        print(f"{finding.node}{operator}: {finding.problem} [{_release_names(finding.releases)}]")
        print(f"  fix: {finding.fix}")
    if not findings:
        print(f"{model}: nothing that {_release_names(releases)} would refuse")


def print_dataset(dataset: Dataset) -> None:
    """How many videos show which action, and where their list is."""
    rows = [(action, str(count)) for action, count in dataset.clips_by_action.items()]
    _print_table(f"{len(dataset.videos)} videos, listed in {dataset.labels}", ("action", "videos"), rows)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(to_json(document), end="")


def to_json(document: Mapping[str, Any]) -> str:
    """A JSON document; dataclasses, enums and paths are written as what they hold, NaN and infinity as null."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def note(message: str) -> None:
    """A line the user should see although nothing failed, on stderr."""
    print(f"note: {message}", file=sys.stderr)


def print_error(message: str, fix: str) -> None:
    """The two lines of every error, on stderr."""
    print(f"error: {' '.join(message.split())}\nfix: {' '.join(fix.split())}", file=sys.stderr)


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
    _print_table("Compiled plan", columns, rows)


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
    _print_table(title, columns, rows)


def _release_names(releases: Sequence[TensorRTRelease]) -> str:
    return f"TensorRT {', '.join(release.value for release in releases)}"


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: as wide as the terminal, or, where there is none, as wide as it needs."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = UNBROKEN_WIDTH
    console.print(table)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A Progress on stderr: a live display on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _LineProgress()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
        yield _LiveProgress(display)


class _LineProgress:
    def __init__(self) -> None:
        self._task = ""
        self._printed_at = 0.0

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None:
        now = time.monotonic()
        if task == self._task and done != total and now - self._printed_at < QUIET_SECONDS:
            return
        counted = f" {done}" + (f"/{total}" if total else "") if done else ""
        print(f"{task}{counted}", file=sys.stderr, flush=True)
        self._task, self._printed_at = task, now


class _LiveProgress:
    def __init__(self, display: RichProgress) -> None:
        self._display = display
        self._task = ""

    def __call__(self, task: str, done: int = 0, total: int | None = None) -> None:
        if task != self._task:
            for finished in self._display.task_ids:
                self._display.update(finished, total=1, completed=1)
                self._display.stop_task(finished)
            self._display.add_task(task, total=total)
            self._task = task
        self._display.update(self._display.task_ids[-1], completed=done, total=total)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
