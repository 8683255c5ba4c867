"""Whether INT8 is worth it, from latencies that `dualexport bench` measured of the files that are there now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.choices import Precision
from ..core.types import Artifact
from ..runtimes.benchmark import Copies
from ..runtimes.plans.verdict import GAIN_WORTH_HAVING
from ..runtimes.tensorrt.engine_file import FORMAT

Measured = Mapping[str, Any]  # one of the results in bench.json


@dataclass(frozen=True, slots=True)
class MeasuredVerdict:
    """An INT8 file's speed beside that of the file in the precision around INT8, `rest`, measured in the same run.

    `speedup` is rest's time a clip over INT8's; `spread` the largest relative difference between rounds of either.
    """

    artifact: str
    rest: Precision
    device: str
    on_gpu: bool
    batch: int
    speedup: float
    spread: float
    sentence: str


def judge_measured(artifacts: Sequence[Artifact], bench: Measured) -> tuple[MeasuredVerdict, ...]:
    """A verdict for each INT8 file of `artifacts` that `bench`, the content of bench.json, has measured with its rest.

    Left out are files that have changed since, and engines of a graph that has. Times by a GPU's own events go before
    wall times; the two are never compared.
    """
    known = {artifact.sha256: artifact for artifact in artifacts if _is_current(artifact, artifacts)}
    timed = [(known[one["sha256"]], one) for one in bench["results"] if one["sha256"] in known]
    verdicts = {}
    for copies in (Copies.INCLUDED, Copies.EXCLUDED):
        for artifact, after in timed:
            if artifact.precision is not Precision.INT8 or after["copies"] != copies.value:
                continue
            for before in _find_rest(artifact, after, timed):
                verdicts[artifact.path.name] = _judge(artifact, before, after, bench)
    return tuple(verdicts.values())


def _is_current(artifact: Artifact, artifacts: Sequence[Artifact]) -> bool:
    """Whether an engine was built from one of the graphs that are there now."""
    return artifact.format != FORMAT or any(artifact.parent == graph.sha256 for graph in artifacts)


def _find_rest(artifact: Artifact, after: Measured, timed: Sequence[tuple[Artifact, Measured]]) -> Iterator[Measured]:
    """The measurement of the file in the precision around INT8, on the same runtime, measured in the same way."""
    for other, before in timed:
        same_way = (before["copies"], before["batch"]) == (after["copies"], after["batch"])
        if other.precision is _rest_of(artifact) and other.format == artifact.format and same_way:
            yield before


def _rest_of(artifact: Artifact) -> Precision:
    return Precision(artifact.options.get("base", Precision.FP16.value))


def _judge(artifact: Artifact, before: Measured, after: Measured, bench: Measured) -> MeasuredVerdict:
    rest, on_gpu, environment = _rest_of(artifact), artifact.format == FORMAT, bench["environment"]
    speedup, spread = before["clip_ms"] / after["clip_ms"], max(before["round_spread"], after["round_spread"])
    device = _name_gpu(environment) if on_gpu else f"the CPU with ONNX Runtime ({environment['cpu'] or 'not known'})"
    measured = (
        f"{after['clip_ms']:.2f} ms a clip instead of {before['clip_ms']:.2f}, rounds differ by up to {spread:.0%}"
    )
    drowned = speedup >= GAIN_WORTH_HAVING and speedup - 1 <= spread
    if speedup >= GAIN_WORTH_HAVING and not drowned:
        answer = f"INT8 measured {speedup:.2f}x as fast as {rest.value.upper()} on {device} at batch {after['batch']}"
    else:
        answer = (
            f"INT8 is not worth it on {device}: keep {rest.value.upper()} (measured {speedup:.2f}x as fast at batch "
            f"{after['batch']})"
        )
    sentences = [f"{answer}: {measured}; bench.json of {bench.get('measured_at') or 'an unknown date'}."]
    if drowned:
        sentences.append("The rounds differ by more than the gain: measure again when nothing else runs.")
    if not on_gpu:
        sentences.append("This says nothing of a GPU.")
    sentence = " ".join(sentences)
    return MeasuredVerdict(artifact.path.name, rest, device, on_gpu, after["batch"], speedup, spread, sentence)


def _name_gpu(environment: Measured) -> str:
    """The GPU, or the Jetson with its power mode."""
    name = environment["gpu"] or environment["machine"] or "the GPU"
    mode = environment["power_mode"]
    return f"{name} ({mode})" if mode else str(name)
