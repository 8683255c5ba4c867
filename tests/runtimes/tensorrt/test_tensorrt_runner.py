"""A TensorRT runner over a fake device: what it computes, what it refuses, and that it always gives everything back."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dualexport.clips.ring import FrameRing
from dualexport.core.errors import CudaError, EngineError, RunnerError
from dualexport.core.reporter import Notify, no_notes
from dualexport.core.runner import infer_logits
from dualexport.core.types import Array, Clip, Preprocessing, TensorSpec
from dualexport.runtimes.tensorrt.engine_file import EngineRecord
from support.engines import NEEDS_TENSORRT

pytest.importorskip("tensorrt", reason=NEEDS_TENSORRT)

from dualexport.runtimes.tensorrt import library
from dualexport.runtimes.tensorrt.context import ExecutionContext
from dualexport.runtimes.tensorrt.cuda import Cuda
from dualexport.runtimes.tensorrt.load import DeviceLayer, LoadedEngine
from dualexport.runtimes.tensorrt.runner import TensorRTRunner
from support.fake_gpu import FAKE_ENGINE, FAKE_RTX_ENGINE, LAUNCH_FAILURE, FakeEngine, FakeRuntime, make_layer

CLIP = TensorSpec("clip", "uint8", (2, 4, 8, 8, 3))
LOGITS = TensorSpec("logits", "float32", (2, 5))
KEPT = TensorSpec("kept_frames", "int64", (2, 2))
RECORD = EngineRecord("TensorRT", "10.3.0", "8.7", gpu="Orin")


def compute(feeds: Mapping[str, Array]) -> dict[str, Array]:
    level = feeds["clip"].astype(np.float32).mean(axis=(1, 2, 3, 4))
    return {"logits": level[:, None] + np.arange(5, dtype=np.float32), "kept_frames": np.full((2, 2), 7)}


def compute_one(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[:1] for name, value in compute(feeds).items()}


def clip(level: int = 3) -> dict[str, Array]:
    return {"clip": np.full(CLIP.shape, level, np.uint8)}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(FakeRuntime(), ((CLIP,), (LOGITS, KEPT)), compute)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "net.fp16.sm87-trt10.3.engine"
    file.write_bytes(FAKE_ENGINE)
    return file


def open_runner(
    path: Path, engine: FakeEngine, *, cuda_graph: bool = False, notify: Notify = no_notes
) -> TensorRTRunner:
    return TensorRTRunner(path, RECORD, cuda_graph=cuda_graph, layer=make_layer(engine), notify=notify)


def test_a_window_goes_from_the_ring_into_pinned_memory_without_a_copy_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(CLIP, shape=(1, *CLIP.shape[1:]))
    outputs = (dataclasses.replace(LOGITS, shape=(1, 5)), dataclasses.replace(KEPT, shape=(1, 2)))
    ring = FrameRing(4, 8)
    for level in range(7):
        ring.append(np.full((8, 8, 3), level, np.uint8))
    window = Clip("door", 0, ring.newest(), Preprocessing(frames=4, size=8))
    given: list[Array] = []
    put = ExecutionContext.put

    def keep(self: ExecutionContext, feeds: Mapping[str, Array]) -> None:
        given.append(feeds["clip"])
        put(self, feeds)

    monkeypatch.setattr(ExecutionContext, "put", keep)
    with open_runner(path, FakeEngine(FakeRuntime(), ((spec,), outputs), compute_one)) as runner:
        assert infer_logits(runner, [window]).tolist() == [[4.5 + step for step in range(5)]]
    assert np.shares_memory(given[0], ring.newest())


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["stream", "graph"])
def test_a_batch_goes_in_and_comes_out_by_name(path: Path, engine: FakeEngine, cuda_graph: bool) -> None:
    with open_runner(path, engine, cuda_graph=cuda_graph) as runner:
        assert (runner.inputs, runner.outputs) == ((CLIP,), (LOGITS, KEPT))
        assert runner.name == "TensorRT 10.3.0 (Fake)"
        for level in (3, 9):
            outputs = runner.infer(clip(level))
            assert list(outputs) == ["logits", "kept_frames"]
            assert outputs["logits"].tolist() == [[level + step for step in range(5)]] * 2
            assert outputs["kept_frames"].tolist() == [[7, 7]] * 2
    assert engine.runtime.alive == {}


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["stream", "graph"])
def test_an_engine_of_a_range_runs_each_batch_as_it_comes(path: Path, cuda_graph: bool) -> None:
    clips, logits = (dataclasses.replace(spec, shape=(4, *spec.shape[1:]), least_batch=1) for spec in (CLIP, LOGITS))
    engine = FakeEngine(FakeRuntime(), ((clips,), (logits,)), lambda feeds: {"logits": compute(feeds)["logits"]})
    with open_runner(path, engine, cuda_graph=cuda_graph) as runner:
        assert (runner.inputs, runner.outputs) == ((clips,), (logits,))
        for batch in (4, 1, 3, 4):
            frames = np.arange(batch, dtype=np.uint8)[:, None, None, None, None] * np.ones(clips.shape[1:], np.uint8)
            np.testing.assert_array_equal(runner.infer({"clip": frames})["logits"][:, 0], np.arange(batch))
        with pytest.raises(RunnerError, match=r"or batches down to 1"):
            runner.infer({"clip": np.zeros((5, *clips.shape[1:]), np.uint8)})
    assert engine.runtime.alive == {}


def test_outputs_stay_what_they_were_when_the_next_batch_runs(path: Path, engine: FakeEngine) -> None:
    with open_runner(path, engine) as runner:
        first = runner.infer(clip(1))["logits"]
        kept = first.copy()
        runner.infer(clip(200))
        assert (first == kept).all()


def test_a_prepared_batch_is_copied_once_and_timed_by_the_gpu(path: Path, engine: FakeEngine) -> None:
    with open_runner(path, engine) as runner, runner.prepared(clip()) as run:
        copies, runs = engine.runtime.calls["cudaMemcpyAsync"], engine.runs
        assert [run().compute_ms for _ in range(3)] == [1.5] * 3
        assert engine.runtime.calls["cudaMemcpyAsync"] == copies
        assert engine.runs == runs + 3
    assert engine.runtime.alive == {}


def test_a_batch_is_timed_without_the_launching_of_its_kernels(path: Path, engine: FakeEngine) -> None:
    engine.runtime.launch_ms, engine.runtime.compute_ms = 1.0, 1.25
    with open_runner(path, engine) as runner, runner.prepared(clip()) as run:
        assert [run().compute_ms for _ in range(4)] == [1.25] * 4
        assert run().enqueue_ms > 0
        assert (run().copy_in_ms, run().copy_out_ms) == (0.125, 0.25)  # one input, two outputs


def test_layers_are_timed_in_the_order_of_execution_and_those_of_one_name_together(path: Path) -> None:
    layers = (("first", 0.5), ("second", 0.25), ("first", 0.125))
    engine = FakeEngine(FakeRuntime(), ((CLIP,), (LOGITS, KEPT)), compute, layers=layers)
    with open_runner(path, engine) as runner:
        assert runner.profile(clip(), runs=5, warm_up_seconds=0.0) == (("first", 0.625), ("second", 0.25))
        runs = engine.runs
        with runner.prepared(clip()) as run:  # what is timed as a whole is not held up by a profiler
            assert run().compute_ms == 0.875
        assert (runs, engine.contexts) == (6, 2)
    assert engine.runtime.alive == {}


def test_single_launches_and_a_graph_are_timed_in_one_context(path: Path, engine: FakeEngine) -> None:
    engine.runtime.launch_ms = 4.0  # launching is slower than computing, which a graph spares
    with open_runner(path, engine, cuda_graph=True) as runner:
        assert runner.has_graph
        with runner.prepared(clip(), by_graph=False) as run:
            assert [run().compute_ms for _ in range(3)][1:] == [4.0] * 2
        with runner.prepared(clip(), by_graph=True) as run:
            assert [run().compute_ms for _ in range(3)] == [1.5] * 3
        assert engine.contexts == 1
    assert engine.runtime.alive == {}


def test_a_graph_is_captured_once_and_launched_each_time(path: Path, engine: FakeEngine) -> None:
    with open_runner(path, engine, cuda_graph=True) as runner:
        for _ in range(4):
            runner.infer(clip())
        calls = engine.runtime.calls
        assert (calls["cudaStreamBeginCapture"], calls["cudaGraphLaunch"], engine.runs) == (1, 4, 2)
    assert engine.runtime.alive == {}


def test_threads_get_a_context_each_and_the_right_answers(path: Path, engine: FakeEngine) -> None:
    together = threading.Barrier(3)
    failures: list[BaseException] = []

    def classify(level: int) -> None:
        try:
            for _ in range(20):
                if runner.infer(clip(level))["logits"][0, 0] != level:
                    raise AssertionError(f"thread {level} got another thread's answer")
            with runner.prepared(clip(level)):
                together.wait(timeout=10)  # all three hold a context now
        except BaseException as error:  # noqa: BLE001  # to be raised by the test
            failures.append(error)

    with open_runner(path, engine) as runner:
        threads = [threading.Thread(target=classify, args=(level,)) for level in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert engine.contexts == 3
    assert engine.runtime.alive == {}


def test_two_runners_in_one_process_do_not_meet(path: Path, engine: FakeEngine) -> None:
    other = FakeEngine(engine.runtime, ((CLIP,), (LOGITS,)), lambda feeds: {"logits": compute(feeds)["logits"] * -1})
    with open_runner(path, engine) as one, open_runner(path, other) as two:
        assert one.infer(clip(4))["logits"][0, 0] == 4
        assert two.infer(clip(4))["logits"][0, 0] == -4
    assert engine.runtime.alive == {}


CAPTURING = ("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate")


def every_call_of_a_run(path: Path, cuda_graph: bool) -> list[tuple[str, int]]:
    """Each CUDA call from opening to closing that can fail, with its number."""
    engine = FakeEngine(FakeRuntime(), ((CLIP,), (LOGITS, KEPT)), compute)
    with open_runner(path, engine, cuda_graph=cuda_graph) as runner:
        runner.infer(clip())
        with runner.prepared(clip()) as run:
            run()
        counted = dict(engine.runtime.calls)
    makes = [name for name in counted if "Free" not in name and "Destroy" not in name and name not in CAPTURING]
    return [(name, number) for name in makes for number in range(1, counted[name] + 1)]


@pytest.mark.parametrize("cuda_graph", [False, True], ids=["stream", "graph"])
def test_whichever_call_fails_everything_is_given_back(path: Path, cuda_graph: bool) -> None:
    places = every_call_of_a_run(path, cuda_graph)
    assert {"cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaMemcpyAsync"} <= {
        name for name, _ in places
    }
    for place in places:
        runtime = FakeRuntime(fail_at=place)
        engine = FakeEngine(runtime, ((CLIP,), (LOGITS, KEPT)), compute)
        with pytest.raises(CudaError) as failed, open_runner(path, engine, cuda_graph=cuda_graph) as runner:
            runner.infer(clip())
            with runner.prepared(clip()) as run:
                run()
        assert "out of device memory, 1074 MB are free" in str(failed.value), place
        assert runtime.alive == {}, place


def test_a_lost_device_is_told_once_and_does_not_hang(path: Path, engine: FakeEngine) -> None:
    with pytest.raises(CudaError, match="cudaErrorLaunchFailure") as failed, open_runner(path, engine) as runner:
        engine.runtime.lost = True
        runner.infer(clip())
    assert failed.value.code == LAUNCH_FAILURE


def test_a_capture_that_fails_is_told_by_its_reason_and_the_runner_goes_on_without(
    path: Path, engine: FakeEngine
) -> None:
    engine.refuse_at = 2  # the first run comes before the capture
    told: list[str] = []
    with open_runner(path, engine, cuda_graph=True, notify=told.append) as runner:
        assert (runner.has_graph, engine.runtime.last_error) == (False, 0)
        assert runner.infer(clip(4))["logits"][0, 0] == 4
        with runner.prepared(clip(4)) as run:
            assert run().compute_ms == 1.5
    (note,) = told
    assert "runs without a CUDA graph" in note
    assert "enqueue was refused" in note
    assert "cudaStreamEndCapture" not in note
    assert engine.runtime.alive == {}


@pytest.mark.parametrize("call", CAPTURING)
def test_a_call_of_the_capture_that_fails_is_no_reason_to_fail(path: Path, call: str) -> None:
    engine = FakeEngine(FakeRuntime(fail_at=(call, 1)), ((CLIP,), (LOGITS, KEPT)), compute)
    told: list[str] = []
    with open_runner(path, engine, cuda_graph=True, notify=told.append) as runner:
        assert runner.infer(clip(4))["logits"][0, 0] == 4
    assert call in told[0]
    assert engine.runtime.alive == {}


def test_tensorrt_for_rtx_is_asked_for_its_own_graphs_or_says_that_it_has_none(
    path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(FAKE_RTX_ENGINE)
    layer = make_layer(engine, "1.7.1", for_rtx=True)
    told: list[str] = []
    record = EngineRecord("TensorRT for RTX", "1.7.1")
    with TensorRTRunner(path, record, cuda_graph=True, layer=layer, notify=told.append) as runner:
        assert not runner.has_graph
    assert "runs without a CUDA graph: it takes the module tensorrt_rtx" in told[0]
    assert engine.runtime.calls["cudaStreamBeginCapture"] == 0

    monkeypatch.setattr(library.trt, "CudaGraphStrategy", SimpleNamespace(WHOLE_GRAPH_CAPTURE=1), raising=False)
    engine.create_runtime_config = lambda: SimpleNamespace(cuda_graph_strategy=0)  # type: ignore[attr-defined]
    with TensorRTRunner(path, record, cuda_graph=True, layer=layer, notify=told.append) as runner:
        assert runner.infer(clip(4))["logits"][0, 0] == 4
    assert [one.cuda_graph_strategy for one in engine.configurations] == [1]
    assert len(told) == 1
    assert engine.runtime.calls["cudaStreamBeginCapture"] == 0


def test_closing_lets_the_engine_go_and_frees_everything_although_one_release_fails(path: Path) -> None:
    runtime = FakeRuntime()
    engines: list[weakref.ref[FakeEngine]] = []

    def load_one(*_: object) -> LoadedEngine:
        engine = FakeEngine(runtime, ((CLIP,), (LOGITS, KEPT)), compute)
        engines.append(weakref.ref(engine))
        return LoadedEngine(engine, lambda: "")

    runner = TensorRTRunner(path, RECORD, layer=DeviceLayer(Cuda(runtime), load_one, "10.3.0", False))
    with runner.prepared(clip()):
        runner.infer(clip())  # a second context
    assert len([kind for kind, _ in runtime.alive.values() if kind == "stream"]) == 2
    runtime.fail_at = ("cudaStreamDestroy", 1)
    with pytest.raises(CudaError, match="cudaStreamDestroy"):
        runner.close()
    assert [kind for kind, _ in runtime.alive.values()] == ["stream"]  # the one whose release failed
    gc.collect()
    assert engines[0]() is None
    with pytest.raises(RunnerError, match="the runner is closed"):
        runner.infer(clip())


@pytest.mark.parametrize("refused_run", [1, 2])
def test_a_refused_run_is_an_error_and_the_next_one_works(path: Path, engine: FakeEngine, refused_run: int) -> None:
    engine.refuse_at = refused_run
    with open_runner(path, engine) as runner:
        for number in (1, 2, 3):
            if number == refused_run:
                with pytest.raises(RunnerError, match="did not run the engine: enqueue was refused"):
                    runner.infer(clip())
            else:
                assert runner.infer(clip())["logits"][0, 0] == 3
    assert engine.runtime.alive == {}


def test_no_execution_context_says_how_much_memory_it_needs(path: Path, engine: FakeEngine) -> None:
    engine.no_context = True
    with pytest.raises(EngineError, match=r"needs 64 MiB of device memory, 1024 MiB are free"):
        open_runner(path, engine)
    assert engine.runtime.alive == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file[:-10], "cannot load the engine"),
        (lambda file: file[:20], "is not a TensorRT engine"),
        (lambda file: b"PK" + file[2:], "is not a TensorRT engine"),
        (lambda _: b"", "is not a TensorRT engine"),
    ],
    ids=["cut off", "header cut off", "another format", "empty"],
)
def test_a_damaged_file_is_refused(
    path: Path, engine: FakeEngine, change: Callable[[bytes], bytes], words: str
) -> None:
    path.write_bytes(change(FAKE_ENGINE))
    with pytest.raises(EngineError, match=words):
        open_runner(path, engine)
    assert (engine.contexts, engine.runtime.alive) == (0, {})


@pytest.mark.parametrize(
    ("record", "version", "capability", "words"),
    [
        (RECORD, "10.13.3", (8, 7), r"10\.3\.0 for compute capability 8\.7 \(Orin\); here is TensorRT 10\.13\.3"),
        (RECORD, "10.3.0", (11, 0), r"for compute capability 8\.7 \(Orin\); here is .* on compute capability 11\.0"),
        (None, "11.4.1", (8, 7), r"built by TensorRT 10\.3\.0\.26; here is TensorRT 11\.4\.1"),
        (dataclasses.replace(RECORD, version_compatible=True), "11.4.1", (8, 7), r"here is TensorRT 11\.4\.1"),
        (dataclasses.replace(RECORD, compatible="ampere+"), "10.3.0", (7, 5), r"compute capability 7\.5"),
        (dataclasses.replace(RECORD, compatible="same-sm"), "10.3.0", (8, 9), r"compute capability 8\.9"),
    ],
)  # fmt: skip
def test_an_engine_of_another_place_is_refused_before_it_is_loaded(
    path: Path, record: EngineRecord | None, version: str, capability: tuple[int, int], words: str
) -> None:
    engine = FakeEngine(FakeRuntime(capability), ((CLIP,), (LOGITS,)), compute)
    layer = dataclasses.replace(make_layer(engine, version), load=lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(EngineError, match=words) as refused:
        TensorRTRunner(path, record, layer=layer)
    assert refused.value.fix == f"build it here: `dualexport trt {path.parent} --fp16`"


@pytest.mark.parametrize(
    ("record", "version", "capability"),
    [
        (RECORD, "10.3.0.26", (8, 7)),
        (None, "10.3.0", (8, 9)),
        (dataclasses.replace(RECORD, version_compatible=True), "10.13.3", (8, 7)),
        (dataclasses.replace(RECORD, compatible="ampere+"), "10.3.0", (12, 0)),
    ],
)
def test_an_engine_that_fits_is_loaded(
    path: Path, record: EngineRecord | None, version: str, capability: tuple[int, int]
) -> None:
    engine = FakeEngine(
        FakeRuntime(capability), ((CLIP,), (LOGITS,)), lambda feeds: {"logits": compute(feeds)["logits"]}
    )
    with TensorRTRunner(path, record, layer=make_layer(engine, version)) as runner:
        assert runner.infer(clip())["logits"].shape == LOGITS.shape


def test_a_gpu_that_tensorrt_for_rtx_does_not_support_is_told_to_take_tensorrt_itself(tmp_path: Path) -> None:
    file = tmp_path / "net.rtx.engine"
    file.write_bytes(FAKE_RTX_ENGINE[:-10])
    runtime = FakeRuntime((9, 0))
    layer = make_layer(FakeEngine(runtime, ((CLIP,), (LOGITS,)), compute), "1.7.1", for_rtx=True)
    with pytest.raises(EngineError, match=r"cannot load .* here is 9\.0") as refused:
        TensorRTRunner(file, EngineRecord("TensorRT for RTX", "1.7.1", "8.0 8.6 9.0", gpu=None), layer=layer)
    assert "dualexport[tensorrt]" in refused.value.fix
    assert runtime.alive == {}


@pytest.mark.parametrize(
    "feeds",
    [{}, {"clip": np.zeros((1, 4, 8, 8, 3), np.uint8)}, {"clip": np.zeros(CLIP.shape, np.float32)}],
    ids=["nothing", "another batch", "another type"],
)
def test_a_batch_that_does_not_fit_is_refused(path: Path, engine: FakeEngine, feeds: dict[str, Array]) -> None:
    with open_runner(path, engine) as runner, pytest.raises(RunnerError, match=r"the engine takes uint8 \(2, 4, 8, 8"):
        runner.infer(feeds)


def test_a_closed_runner_says_so(path: Path, engine: FakeEngine) -> None:
    with open_runner(path, engine) as runner:
        pass
    with pytest.raises(RunnerError, match="the runner is closed"):
        runner.infer(clip())


def test_a_runner_closed_in_the_middle_of_a_run_still_frees_everything(path: Path, engine: FakeEngine) -> None:
    with open_runner(path, engine) as runner, runner.prepared(clip()) as run:
        runner.close()
        assert run().compute_ms == 1.5
    assert engine.runtime.alive == {}
