"""The machine's state while something is measured, sampled by a thread beside it."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from .environment import DeviceState

SECONDS_BETWEEN = 0.5


@dataclass(frozen=True, slots=True)
class Spread:
    """The lowest, median and highest of some samples."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """The machine under load, None where it does not tell; `slowed_by` names all that ever kept its clocks down."""

    samples: int
    cpu_mhz: Spread | None
    gpu_mhz: Spread | None
    memory_mhz: Spread | None
    gpu_power_w: Spread | None
    gpu_temperature_c: Spread | None
    slowed_by: str | None


class StateSampler:
    """A context manager that calls `read` in a thread, at once and then at intervals, until it is left."""

    def __init__(self, read: Callable[[], DeviceState], seconds_between: float = SECONDS_BETWEEN) -> None:
        self._read = read
        self._seconds = seconds_between
        self._states: list[DeviceState] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="state sampler", daemon=True)

    def summary(self) -> LoadSummary:
        """Return the spread of what was sampled so far."""
        return summarize_states(self._states)

    def __enter__(self) -> StateSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self._states.append(self._read())
            if self._over.wait(self._seconds):
                return


def summarize_states(states: Iterable[DeviceState]) -> LoadSummary:
    """Return the spread of each figure over `states`."""
    states = list(states)
    told = [state.slowed_by for state in states if state.slowed_by is not None]
    reasons = sorted({reason for one in told for reason in one.split(", ") if reason})
    return LoadSummary(
        samples=len(states),
        cpu_mhz=_spread(state.cpu_mhz for state in states),
        gpu_mhz=_spread(state.gpu_mhz for state in states),
        memory_mhz=_spread(state.memory_mhz for state in states),
        gpu_power_w=_spread(state.gpu_power_w for state in states),
        gpu_temperature_c=_spread(state.gpu_temperature_c for state in states),
        slowed_by=", ".join(reasons) if told else None,
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(min(known), statistics.median(known), max(known)) if known else None
