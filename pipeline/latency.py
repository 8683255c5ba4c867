"""bench.json: latencies that `dualexport bench` measured, and what those of files that are there now say of INT8."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

from ..core.choices import Precision
from ..core.errors import BenchError
from ..core.files import staged_path
from ..core.manifest import Manifest
from ..core.plain import to_json, to_plain
from ..core.reading import FileKind
from ..core.reporter import Reporter
from ..core.types import Artifact
from ..report.bench import Bench, Facts, Latency, Measured, Verdict
from ..runtimes.plans.verdict import GAIN_WORTH_HAVING
from ..runtimes.tensorrt.engine_file import FORMAT

BENCH_FILE = "bench.json"
MEASUREMENT = FileKind("a measurement", BenchError, fix="measure again with `dualexport bench`")


def write_bench(measured: Mapping[str, Any], manifests: Sequence[Manifest]) -> None:
    """Write one run of `bench` beside the manifests that took part, each with the results of its own files.

    All files appear, or none. Raises OutputError.
    """
    bench = to_plain(measured)
    with ExitStack() as staging:
        for manifest in manifests:
            own = {None, *(artifact.sha256 for artifact in manifest.artifacts)}
            results = [one for one in bench["results"] if one["sha256"] in own]
            staged = staging.enter_context(staged_path(manifest.folder / BENCH_FILE))
            staged.write_text(to_json({**bench, "results": results}), encoding="utf-8")


def read_latency(manifest: Manifest, reporter: Reporter) -> Latency | None:
    """The latencies beside the manifest, of the files that are there now; None where there are none.

    A file that is no measurement is left out with a note.
    """
    path = manifest.folder / BENCH_FILE
    if not path.exists():
        return None
    try:
        bench = MEASUREMENT.read_json(path, Bench)
    except BenchError as error:
        reporter.note(f"{error}; it is left out")
        return None
    hashes = {artifact.sha256 for artifact in manifest.artifacts}
    results = tuple(measured for measured in bench.results if measured.sha256 in hashes)
    verdicts = judge_measured(manifest.artifacts, bench)
    return Latency(**{**msgspec.structs.asdict(bench), "results": results}, verdicts=verdicts) if results else None


def read_verdicts(manifest: Manifest, hashes: Container[str], reporter: Reporter) -> tuple[Verdict, ...]:
    """The verdicts on the INT8 graphs with these hashes, and on engines built from them."""
    latency = read_latency(manifest, reporter)
    graphs = {one.sha256 for one in manifest.artifacts if one.sha256 in hashes and one.precision.is_eight_bit}
    names = {one.path.name for one in manifest.artifacts if {one.sha256, one.parent} & graphs}
    return tuple(verdict for verdict in (latency.verdicts if latency else ()) if verdict.artifact in names)


def judge_measured(artifacts: Sequence[Artifact], bench: Bench) -> tuple[Verdict, ...]:
    """A verdict for each INT8 file of `artifacts` that was measured together with the file in its rest's precision.

    Left out are files that have changed since, and engines of a graph that has. Times by a GPU's own events go before
    wall times, those by a CUDA graph before those by single launches; they are never compared with each other.
    """
    known = {artifact.sha256: artifact for artifact in artifacts if _is_current(artifact, artifacts)}
    timed = [(known[one.sha256], one) for one in bench.results if one.sha256 in known]
    verdicts = {}
    for way in (("included", False), ("included", True), ("excluded", False), ("excluded", True)):
        for artifact, after in timed:
            if artifact.precision.is_eight_bit and (after.copies, after.cuda_graph) == way:
                for before in _find_rest(artifact, after, timed):
                    verdicts[artifact.path.name] = _judge(artifact, before, after, bench)
    return tuple(verdicts.values())


def _is_current(artifact: Artifact, artifacts: Sequence[Artifact]) -> bool:
    """True for an engine that was built from one of the graphs that are there now, and for a graph."""
    return artifact.format != FORMAT or any(artifact.parent == graph.sha256 for graph in artifacts)


def _find_rest(artifact: Artifact, after: Measured, timed: Sequence[tuple[Artifact, Measured]]) -> Iterator[Measured]:
    """The measurement of the file in the precision around INT8, on the same runtime, measured in the same way."""
    for other, before in timed:
        same_way = (before.copies, before.cuda_graph, before.batch) == (after.copies, after.cuda_graph, after.batch)
        if other.precision is _rest_of(artifact) and other.format == artifact.format and same_way:
            yield before


def _rest_of(artifact: Artifact) -> Precision:
    return Precision(artifact.options.get("base", Precision.FP16.value))


def _judge(artifact: Artifact, before: Measured, after: Measured, bench: Bench) -> Verdict:
    rest, on_gpu, facts = _rest_of(artifact), artifact.format == FORMAT, bench.environment
    speedup, spread = before.clip_ms / after.clip_ms, max(before.round_spread, after.round_spread)
    device = _name_gpu(facts) if on_gpu else f"the CPU with ONNX Runtime ({facts.get('cpu') or 'not known'})"
    word = artifact.precision.value.upper()
    measured = f"{after.clip_ms:.2f} ms a clip instead of {before.clip_ms:.2f}, rounds differ by up to {spread:.0%}"
    drowned = speedup >= GAIN_WORTH_HAVING and speedup - 1 <= spread
    if speedup >= GAIN_WORTH_HAVING and not drowned:
        answer = f"{word} measured {speedup:.2f}x as fast as {rest.value.upper()} on {device} at batch {after.batch}"
    else:
        answer = (
            f"{word} is not worth it on {device}: keep {rest.value.upper()} (measured {speedup:.2f}x as fast at batch "
            f"{after.batch})"
        )
    sentences = [f"{answer}: {measured}; {BENCH_FILE} of {bench.measured_at or 'an unknown date'}."]
    if drowned:
        sentences.append("The rounds differ by more than the gain: measure again when nothing else runs.")
    if not on_gpu:
        sentences.append("This says nothing of a GPU.")
    name, sentence = artifact.path.name, " ".join(sentences)
    return Verdict(name, rest.value, device, on_gpu, after.batch, speedup, spread, sentence)


def _name_gpu(facts: Facts) -> str:
    """The GPU, or the Jetson with its power mode."""
    name = facts.get("gpu") or facts.get("machine") or "the GPU"
    mode = facts.get("power_mode")
    return f"{name} ({mode})" if mode else str(name)
