"""The machine's state while something is measured, not before and after it."""

from __future__ import annotations

import threading

from dualexport.runtimes.machine.environment import DeviceState
from dualexport.runtimes.machine.sampling import Spread, StateSampler, summarize_states


def state(gpu_mhz: float | None, slowed_by: str | None = None) -> DeviceState:
    return DeviceState(None, gpu_mhz, None, None, None, 0.5, gpu_power_w=200.0, slowed_by=slowed_by)


def test_clocks_are_those_under_load_with_what_ever_kept_them_down() -> None:
    told = [
        state(345.0),
        state(1980.0, ""),
        state(1410.0, "power brake, software power cap"),
        state(None, "power brake"),
    ]
    summary = summarize_states(told)
    assert summary.samples == 4
    assert summary.gpu_mhz == Spread(345.0, 1410.0, 1980.0)
    assert summary.gpu_power_w == Spread(200.0, 200.0, 200.0)
    assert summary.cpu_mhz is None
    assert summary.slowed_by == "power brake, software power cap"


def test_what_never_told_whether_it_was_slowed_is_not_said_to_run_freely() -> None:
    assert summarize_states([state(1.0)]).slowed_by is None
    assert summarize_states([state(1.0, "")]).slowed_by == ""


def test_a_sampler_reads_while_the_block_runs_and_stops_with_it() -> None:
    seen = threading.Event()
    reads = []

    def read() -> DeviceState:
        reads.append(1)
        if len(reads) == 3:
            seen.set()
        return state(1000.0 + len(reads))

    with StateSampler(read, seconds_between=0.001) as sampler:
        assert seen.wait(10)
    count = len(reads)
    assert sampler.summary().samples == count
    assert not any(thread.name == "state sampler" for thread in threading.enumerate())
