"""`dualexport stream`: what live sources show."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.choices import Decoder, Runtime
from ..core.extras import needing_extra
from ..core.plain import to_plain
from ..core.reading import is_file, is_folder
from ..pipeline import parity
from ..pipeline.runners import find_artifact, open_runner
from . import console
from .camera_lines import camera_lines, say_time
from .options import CudaGraph, Labels

if TYPE_CHECKING:
    from ..pipeline.spans import Span, SpanMerger
    from ..pipeline.stream import CameraSummary, LiveStream, Sighting

EPILOG = "Example:\n\ndualexport stream dualformer-demo videos/00000-moving-left.mp4"
ALL_CLASSES = "probabilities"  # of a sighting, which are not printed


def stream(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR] SOURCE...",
            help="Exported folder; files, camera numbers or addresses, or NAME=SOURCE.",
            show_default=False,
        ),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More sources, one a line: SOURCE or NAME=SOURCE.")
    ] = None,
    labels: Labels = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Frames from one window to the next. Default: half a window."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.1, max=1000.0, help="Frames a second that windows are made of. Default: all, as they come."),
    ] = None,
    decoder: Annotated[
        Decoder,
        typer.Option(help="What decodes. auto: GStreamer where it has hardware for a network camera, else FFmpeg."),
    ] = Decoder.AUTO,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A live source that is a GStreamer pipeline, up to its raw video."),
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help="What runs the network.")] = Runtime.ONNX,
    cuda_graph: CudaGraph = False,
    threshold: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Probability from which a class is there. Default: 0.5.")
    ] = None,
    hysteresis: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=0.999, help="Share of it by which a class may be less while it goes on. Default: 0.2."
        ),
    ] = None,
    min_seconds: Annotated[
        float | None, typer.Option(min=0.0, max=86400.0, help="Leave out what a camera showed for a shorter time.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of these three, and of thresholds by [classes].")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Print the most probable class of every window instead.")
    ] = False,
    max_delay: Annotated[
        float,
        typer.Option(min=0.0, max=60.0, help="Seconds that a window may wait for other cameras' to fill a batch."),
    ] = 0.1,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="Seconds that a live source may deliver nothing.")
    ] = 10.0,
    retries: Annotated[
        int, typer.Option(min=0, max=1000, help="How often a source that broke off is opened again.")
    ] = 3,
    metrics: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve counts and latencies for Prometheus here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line on stdout.")] = False,
) -> None:
    """Classify sources as they go on: from when to when each shows a class, one line when it has ended.

    A camera of this machine is its number, one on a network its address (rtsp://camera/stream), a Jetson's own
    csi://0, a file its path.
    What is classified is a sliding window of a source's newest frames.
    A live source is never waited for and never holds up: a window is always of the newest frames, and frames that no
    window looked at are counted as dropped. Of a file, none is. Windows of several sources share the network's batch,
    and each source drops frames and is opened again on its own. Ctrl-C and SIGTERM end it, with a summary.
    """
    folder, given = _split_paths(paths or [])
    if folder and not given and not pipeline and sources is None:
        is_export = is_file(folder / "manifest.json")
        what = "an exported network: give a source after it" if is_export else "a folder: give its files as sources"
        raise typer.BadParameter(f"{folder} is {what}")
    from ..clips.addresses import parse_sources, read_source_list
    from ..clips.camera import StreamOptions
    from ..clips.gstreamer import is_chosen, require_readable
    from ..core.manifest import find_manifest
    from ..pipeline.spans import SpanMerger, read_rules
    from ..pipeline.stream import LiveStream

    rules = read_rules(thresholds, {"threshold": threshold, "hysteresis": hysteresis, "min_seconds": min_seconds})
    parsed = parse_sources((*given, *(read_source_list(sources) if sources else ())), pipeline or ())
    for source in parsed:
        if is_chosen(source, decoder):
            require_readable(source)
    manifest = find_manifest(folder)
    artifact = find_artifact(manifest, runtime)
    names, clip = parity.name_classes(manifest, labels), manifest.preprocessing
    options = StreamOptions(every or max(1, clip.frames * clip.stride // 2), timeout, retries, fps, max_delay, decoder)
    with needing_extra("stream"):
        opened = open_runner(artifact or manifest, runtime, cuda_graph=cuda_graph, notify=console.note)
    with opened as runner:
        live = LiveStream(runner, parsed, clip, options, names, console.note)
        mergers = {source.name: SpanMerger(source.name, live.labels, rules) for source in parsed}
        printer = _Printer(as_json, max(len(source.name) for source in parsed))
        with live.serve_metrics(metrics) if metrics else nullcontext():
            try:
                with _until_stopped(), live, camera_lines([source.name for source in parsed], quiet=as_json) as tell:
                    _print_answers(live, printer, {} if windows else mergers, tell)
            finally:
                printer.print_summary(live.summarize())


def _print_answers(
    live: LiveStream, printer: _Printer, mergers: Mapping[str, SpanMerger], tell: Callable[[Sighting], None]
) -> None:
    """Spans as they end, at the latest with their camera; without mergers every window."""
    from ..clips.live import Ended

    try:
        for seen in live:
            if isinstance(seen, Ended):
                printer.print_spans(mergers[seen.camera].finish() if mergers else ())
                continue
            tell(seen)
            if mergers:
                merger = mergers[seen.camera]
                printer.print_spans(merger.add(seen.start_seconds, seen.end_seconds, seen.probabilities))
            else:
                printer.print_window(seen)
    except KeyboardInterrupt:
        console.note("stopped")
    finally:
        for merger in mergers.values():
            printer.print_spans(merger.finish())


def _split_paths(paths: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """The exported folder, None for the only one here, and the sources that follow it."""
    folder = Path(paths[0]) if paths and is_folder(Path(paths[0])) else None
    sources = paths[1:] if folder else paths
    exported = next((path for path in sources if is_file(Path(path) / "manifest.json")), None)
    if exported is not None:
        raise typer.BadParameter(f"the folder comes first: {exported} {' '.join(paths[: paths.index(exported)])}")
    return folder, sources


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Ctrl-C and SIGTERM are the usual ends of a stream."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, slots=True)
class _Printer:
    """Lines on stdout, JSON documents or columns; the summary without --json on stderr, where notes are."""

    as_json: bool
    camera_width: int

    def print_window(self, seen: Sighting) -> None:
        if self.as_json:
            _print_json({name: value for name, value in to_plain(seen).items() if name != ALL_CLASSES})
            return
        self._print(
            seen.camera,
            f"frame {seen.frame:>7}  {seen.label:<32} {seen.probability:>6.1%}  {seen.latency_ms:>7.0f} ms  "
            f"{seen.dropped} dropped",
        )

    def print_spans(self, spans: Iterable[Span]) -> None:
        for span in spans:
            if self.as_json:
                _print_json(to_plain(span))
                continue
            times = f"{say_time(span.start_seconds):>10} to {say_time(span.end_seconds):>10}"
            self._print(span.camera, f"{times}  {span.label:<32} {span.confidence:>6.1%}  {span.windows} windows")

    def print_summary(self, cameras: Sequence[CameraSummary]) -> None:
        if self.as_json:
            _print_json({"summary": to_plain(list(cameras))})
            return
        for one in cameras:
            latencies = (one.latency_p50_ms, one.latency_p90_ms, one.latency_p99_ms)
            shown = ", ".join(f"{value:.0f}" for value in latencies if value is not None) or "none"
            console.print_line(
                f"{one.camera}: {one.frames} frames, {one.windows} windows, {one.dropped} dropped, "
                f"opened again {one.reopened} times, latency p50, p90, p99: {shown} ms"
            )

    def _print(self, camera: str, rest: str) -> None:
        print(f"{console.clean(camera):<{self.camera_width}}  {rest}", flush=True)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)
