"""The contract of everything that runs the network, and logits from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from .errors import ClipError, DualExportError
from .reporter import Notify
from .types import Array, Clip, TensorSpec


class Runner(Protocol):
    """Something that computes the network: `infer` takes and returns arrays on the host, by name."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...
    def __enter__(self) -> Runner: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """One batch's milliseconds: on the GPU by its own events, on the host to queue it, and of the copies in and out."""

    compute_ms: float
    enqueue_ms: float
    copy_in_ms: float
    copy_out_ms: float


class TimedRunner(Runner, Protocol):
    """A runner whose work alone can be timed: `prepared` copies a batch to where it computes, and gives a function.

    That function runs the batch once and returns its times where a GPU counted them, of this run or the one before.
    """

    def __enter__(self) -> TimedRunner: ...
    def prepared(self, feeds: Mapping[str, Array]) -> AbstractContextManager[Callable[[], DeviceTime | None]]: ...


@runtime_checkable
class GraphRunner(Protocol):
    """A runner on a GPU that can launch a batch's kernels one by one, and where `has_graph` as one CUDA graph."""

    @property
    def has_graph(self) -> bool: ...
    def infer(self, feeds: Mapping[str, Array], *, by_graph: bool | None = None) -> dict[str, Array]: ...
    def prepared(
        self, feeds: Mapping[str, Array], *, by_graph: bool | None = None
    ) -> AbstractContextManager[Callable[[], DeviceTime]]: ...


@contextmanager
def open_noting(runner: Runner, note: Notify) -> Iterator[Runner]:
    """Open a runner; an error while it is closed is noted, so that it hides neither a result nor an earlier error."""
    try:
        yield runner.__enter__()
    finally:
        try:
            runner.__exit__(None, None, None)
        except DualExportError as error:
            note(f"{runner.name} was not closed properly: {error}")


def infer_logits(runner: Runner, clips: Sequence[Clip]) -> Array:
    """Logits (clips, classes) of any number of clips: runs of the runner's largest batch, the last one filled up.

    Raises ClipError for a clip of another shape or type than the runner's input.
    """
    spec = runner.inputs[0]
    batch = spec.shape[0]
    rows = []
    for start in range(0, len(clips), batch):
        part = [take_input(clip, spec.dtype, spec.shape[1:]) for clip in clips[start : start + batch]]
        filled = part + [part[-1]] * (spec.batches[0] - len(part))
        # A single clip goes as it lies there: a GPU's runner copies it once, into its pinned memory.
        feed = filled[0][np.newaxis] if len(filled) == 1 else np.stack(filled)
        output = runner.infer({spec.name: feed})[runner.outputs[0].name]
        rows.append(output[: len(part)])
    return np.concatenate(rows)


def take_input(clip: Clip, dtype: str, shape: tuple[int, ...]) -> Array:
    """The clip as an input of that type and shape; raises ClipError for a clip of another one."""
    values = clip.network_input(dtype)
    if values.shape != shape:
        raise ClipError(
            f"{clip.name}: the clip is {values.shape}, the network takes {shape}",
            fix="give videos, or clips of the network's own number of frames and size",
        )
    return values
