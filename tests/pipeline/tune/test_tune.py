"""`dualexport.tune` on the demo model, from checkpoints to a folder that is shipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dualexport as dx
import numpy as np
import pytest
from dualexport.core.choices import Precision
from dualexport.core.errors import LabelError, OptionError
from dualexport.core.manifest import Manifest, read_manifest
from dualexport.core.reporter import SILENT
from dualexport.core.selection import parse_selections
from dualexport.exporter.demo_model import find_demo_weights
from dualexport.pipeline.cascade import CASCADE_FILE, CascadeRunner
from dualexport.pipeline.distill import DistillOptions
from dualexport.pipeline.tune import options, tune, workshop
from dualexport.pipeline.tune.answers import AnswerWorker
from dualexport.pipeline.tune.candidates import Candidate, Form, NetworkChoice, TunedNetwork, list_networks
from dualexport.pipeline.tune.cascade import JudgedCascade, Pair
from dualexport.pipeline.tune.latency import Timed
from dualexport.pipeline.tune.verdict import TimedCandidate
from dualexport.pipeline.tune.winner import Made, write_cascade
from support.cli import run
from support.shared import SharedFolders

MILLISECONDS = {"fp32": 40.0, "fp16": 20.0, "int8-all-0.5": 10.0}
OPTIONS = dx.TuneOptions(device="agx-orin", latency_ms=30.0, max_drop=60.0, precisions=("fp32", "fp16"))


@dataclass(frozen=True)
class Place:
    """A folder in which `tune` has worked, and its videos."""

    root: Path

    @property
    def clips(self) -> Path:
        return self.root / "videos" / "labels.csv"

    def tune(self, **changed: object) -> dx.Tuned:
        return dx.tune(dx.Clips(self.clips), self.root / "best", replace(OPTIONS, **changed))  # type: ignore[arg-type]


def make_up(candidates: tuple[Candidate, ...], *_: object) -> Timed:
    """Latencies without a TensorRT: networks that select take half the time."""
    milliseconds = {
        one.name: MILLISECONDS[one.form.name] / (2 if one.network.choice.selections else 1) for one in candidates
    }
    return Timed(milliseconds, "made up", {}, is_estimate=True)


@contextmanager
def made_up_latencies() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "require_planner", lambda: None)
        patch.setattr(tune, "estimate_latencies", make_up)
        yield


@pytest.fixture
def place(shared: SharedFolders, tmp_path: Path) -> Iterator[Place]:
    """The demo model's networks, made and asked about eight videos once; each test goes on in a copy."""

    def make(root: Path) -> None:
        dx.synth(root / "videos", clips=8, seed=3)
        Place(root).tune(latency_ms=50.0)

    with made_up_latencies():
        source = shared.copy_of("tuned", make)
        yield Place(Path(shutil.copytree(source, tmp_path / "tuned", copy_function=shutil.copy2)))


@pytest.mark.slow
def test_the_winner_s_folder_runs_and_says_why_it_won(place: Place) -> None:
    found = place.tune()
    assert found.winner is not None
    assert found.artifact is not None
    folder = place.root / "best"
    assert found.artifact in read_manifest(folder).artifacts
    document = json.loads((folder / "tune.json").read_text())
    assert (document["winner"], document["artifact"]) == (found.winner, found.artifact.path.name)
    assert document["steps"][0].startswith("dualexport onnx --model demo")
    with dx.open_runner(folder) as runner:
        assert len(dx.classify(runner, dx.Clips(place.clips, max_clips=1))) == 1


@pytest.mark.slow
def test_another_budget_reuses_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = place.tune(latency_ms=50.0)
    monkeypatch.setattr(AnswerWorker, "run", lambda *_: pytest.fail("a network was asked again"))
    monkeypatch.setattr(workshop, "export", lambda *_, **__: pytest.fail("a network was exported again"))
    found = place.tune(latency_ms=15.0)
    assert found.winner == "dualformer-demo-T0_0.5.fp16"
    assert found.document.find(found.winner).asked == 8
    assert before.winner != found.winner or before.document.budget != found.document.budget


@pytest.mark.slow
def test_as_many_layers_stay_out_of_8_bits_as_clips_ask_for(place: Place) -> None:
    eight = {"precisions": ("fp32", "int8"), "places": (), "target_agreements": (0.5,)}
    found = place.tune(**eight, calibration=dx.Clips(place.root / "videos"), latency_ms=7.0)
    assert found.winner == "dualformer-demo-T0_0.5.int8-all-0.5"
    assert found.document.steps[1].endswith("--place all --target-agreement 0.5")
    assert found.artifact is not None
    assert found.artifact.precision is Precision.INT8


@pytest.mark.slow
def test_where_nothing_holds_the_budget_the_command_ends_with_1(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    report = place.root / "report.html"
    limits = ("--device", "agx-orin", "--latency", 5, "--precision", "fp16", "--report", report)
    code, out, err = run(capsys, "tune", "--clips", place.clips, "-o", place.root / "best", *limits)
    assert code == 1
    assert "dualformer-demo-T0_0.5.fp16 misses by 5 ms over" in err
    assert "Nothing holds the budget" in out
    assert "Nothing holds the budget" in report.read_text()


def find_networks(work: Path) -> Iterator[tuple[TunedNetwork, list[Manifest]]]:
    """Both networks of the demo model, whole and selecting, with the manifest of each in the workshop."""
    manifests = [read_manifest(path.parent) for path in sorted(work.glob("*/manifest.json"))]
    for network in list_networks([NetworkChoice(), NetworkChoice(selections="T0:0.5")], None, SILENT):
        yield network, [manifest for manifest in manifests if manifest.name == network.name]


@pytest.mark.slow
def test_a_cascade_is_a_folder_like_any_other(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    document = place.tune(latency_ms=50.0).document
    (dear,), (cheap,) = (
        [Made(Candidate(network, Form(Precision.FP16)), manifest, manifest.artifacts[-1]) for manifest in manifests]
        for network, manifests in find_networks(place.root / "best" / "work")
    )
    pair = Pair(TimedCandidate("cheap", 1.0), TimedCandidate("dear", 2.0))
    folder = place.root / "cascade"
    write_cascade(folder, cheap, dear, JudgedCascade(pair, 1e5, 0.1, 1.2, (0,), frozenset(), 0), document)
    assert (folder / CASCADE_FILE).exists()
    clip = np.random.default_rng(0).integers(0, 256, (1, 16, 224, 224, 3), np.uint8)
    with dx.open_runner(folder) as both, dx.open_runner(dear.artifact) as alone:
        assert isinstance(both, CascadeRunner)
        feeds = {both.inputs[0].name: clip}
        np.testing.assert_array_equal(both.infer(feeds)["logits"], alone.infer(feeds)["logits"])
    notes: list[str] = []
    dx.bundle(folder, place.root / "dear.tar.gz", options=dx.BundleOptions(reference="onnx"), notify=notes.append)
    assert any("cascade" in note and "cheap" in note for note in notes)
    code, out, _ = run(capsys, "predict", folder, place.root / "videos", "--views", 1, "--json")
    assert (code, len(json.loads(out)["predictions"])) == (0, 8)


@pytest.mark.slow
def test_a_network_is_distilled_when_it_is_first_asked_and_only_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def copy_trained(_: object, __: object, path: Path, given: DistillOptions, **___: object) -> None:
        asked.append(tuple(given.selections))
        shutil.copyfile(find_demo_weights(parse_selections("T0:0.5"), False), path)

    monkeypatch.setattr(workshop, "distill", copy_trained)
    lessons, slow = {"distill": (0.5,), "train": dx.Clips(place.root / "videos")}, 40.0
    found = place.tune(**lessons, latency_ms=12.0)
    again = place.tune(**lessons, latency_ms=slow)
    distilled = "dualformer-demo-T0_0.5-distilled.fp16"
    assert asked == [("T0:0.5",)]
    assert found.document.find(distilled).right == found.document.find("dualformer-demo-T0_0.5.fp16").right
    assert again.document.find(distilled).asked == 8


def test_without_a_limit_nothing_is_begun(tmp_path: Path, video: Path) -> None:
    with pytest.raises(OptionError, match="no limit to choose by"):
        dx.tune(dx.Clips(video), tmp_path / "best", dx.TuneOptions())
    assert not (tmp_path / "best").exists()


@pytest.mark.slow
def test_videos_without_labels_are_refused_before_anything_is_made(tmp_path: Path, video: Path) -> None:
    with pytest.raises(LabelError, match=r"pattern\.mp4 has no label"):
        dx.tune(dx.Clips(video), tmp_path / "best", dx.TuneOptions(latency_ms=1.0))
    assert not (tmp_path / "best").exists()
