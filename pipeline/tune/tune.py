"""Choose the best network for a device and a budget: `dualexport tune` and `dualexport.tune`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ...clips.source import ClipSource
from ...core.choices import Runtime
from ...core.class_names import find_class
from ...core.errors import LabelError, OptionError
from ...core.files import require_writable
from ...core.manifest import FILE_NAME as MANIFEST_NAME
from ...core.reporter import Notify, Progress, Reporter, no_notes, no_progress
from ...core.types import Artifact
from ...report.tune import TuneDocument
from ...report.tune_page import write_tune_reports
from ...report.write import require_reports
from ..clips import Clips
from .answers import Answers, open_pool
from .candidates import Candidate, Sources, TunedNetwork, list_candidates, list_networks
from .cascade import CascadeTrial, JudgedCascade, choose_cascade, list_pairs
from .document import Found, Question, document_search
from .journal import Journal
from .latency import estimate_latencies, measure_latencies
from .options import TuneOptions, TunePlan, plan_search
from .search import search
from .verdict import STEP, TimedCandidate, Trial, Verdict
from .winner import Made, write_cascade, write_winner
from .workshop import Workshop

WORK = "work"  # the folder, in the winner's, of what was made and found out


@dataclass(frozen=True, slots=True)
class Tuned:
    """The answer: the winner's file, None where nothing holds the budget, and the document of it all."""

    artifact: Artifact | None
    document: TuneDocument

    @property
    def winner(self) -> str | None:
        """The winner's name."""
        return self.document.winner


def tune(
    clips: Clips,
    folder: Path | str,
    options: TuneOptions,
    *,
    progress: Progress = no_progress,
    notify: Notify = no_notes,
) -> Tuned:
    """Find the best of all candidates within the budget on labelled `clips`, and write its files to `folder`.

    The most accurate one that is fast enough wins, of equals the fastest; without a latency the fastest one that is
    accurate enough. All that was made and found out is kept in `folder`/work: an interrupted search goes on, and one
    with another budget reuses it. Where nothing holds the budget no file is written to `folder` but reports, and the
    document names the nearest candidates. Raises OptionError, LabelError, and what making candidates raises.
    """
    reporter, output = Reporter(progress, notify), Path(folder)
    plan = plan_search(options, reporter)
    require_reports(plan.reports)
    require_writable(output / MANIFEST_NAME)
    networks = list_networks(plan.choices, options.labels, reporter)
    sources = {network.name: clips.open(network.preprocessing) for network in networks}
    labels = _read_labels(networks, sources[networks[0].name])
    root = output / WORK
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        journal = opened.enter_context(Journal(root))
        pool = opened.enter_context(open_pool(plan.spread, notify, on_gpu=plan.runtime is Runtime.TENSORRT))
        candidates = {one.name: one for one in list_candidates(networks, plan.forms, options.batch)}
        workshop = Workshop(root, clips, options.calibration, options.labels, reporter, options.train)
        files = _Files(plan, candidates, workshop)
        of_candidates = {name: sources[one.network.name] for name, one in candidates.items()}
        answers = Answers(files.make, of_candidates, labels, journal, pool)
        found = _search(files, answers, journal, reporter)
        tuned = _finish(files, found, len(labels), output)
    write_tune_reports(tuned.document, plan.reports)
    return tuned


@dataclass(frozen=True, slots=True)
class _Files:
    """The candidates by name, and their files, made when they are first needed."""

    plan: TunePlan
    candidates: dict[str, Candidate]
    workshop: Workshop
    made: dict[str, Artifact] = field(default_factory=dict)

    def make(self, name: str) -> Artifact:
        """The file that is run of a candidate."""
        if name not in self.made:
            trained = self.workshop.train(self.candidates[name])
            self.made[name] = self.workshop.make_runnable(trained, self.plan.runtime)
        return self.made[name]

    def find(self, name: str) -> Made:
        """The candidate with the manifest that lists its file."""
        trained = self.workshop.train(self.candidates[name])
        return Made(trained, self.workshop.make(trained)[0], self.make(name))

    def list_steps(self, name: str) -> tuple[str, ...]:
        """The commands that make it."""
        options, on_cpu = self.plan.options, self.plan.device is None and self.plan.runtime is Runtime.ONNX
        calibrate, train = (None if one is None else one.source for one in (options.calibration, options.train))
        sources = Sources(self.workshop.clips.source, calibrate, train)
        return self.candidates[name].list_steps(sources, engine=not on_cpu)


def _read_labels(networks: tuple[TunedNetwork, ...], source: ClipSource) -> list[int]:
    """The classes of all videos; raises LabelError for one without, and OptionError for networks of other classes."""
    first = networks[0]
    for other in networks:
        if (other.classes, other.labels) != (first.classes, first.labels):
            raise OptionError(
                f"{other.name} has {other.classes} classes and {first.name} {first.classes}, or others by name",
                fix="give checkpoints that were trained on the same classes",
            )
    found = []
    for video in source.videos:
        if video.label is None:
            raise LabelError(f"{video.where} has no label", fix="give a list of `path,label` lines to --clips")
        try:
            found.append(find_class(video.label, first.labels, first.classes))
        except LabelError as error:
            raise LabelError(f"{video.where}: {error}", fix=error.fix) from error
    return found


def _search(files: _Files, answers: Answers, journal: Journal, reporter: Reporter) -> Found:
    """Time all candidates, and find the winner among those that have a latency."""
    plan, candidates = files.plan, tuple(files.candidates.values())
    if plan.device is not None:
        timed = estimate_latencies(candidates, plan.device, files.workshop, journal, reporter)
    else:
        timed = measure_latencies(candidates, plan.runtime, files.workshop, journal, plan.options.seconds)
    entered = [
        TimedCandidate(name, timed.milliseconds[name], one.network.name, one.width)
        for name, one in files.candidates.items()
        if name in timed.milliseconds
    ]
    step = max(STEP, plan.options.batch) * (plan.spread.workers or 1)
    trial = Trial(answers, len(answers.labels), step)
    verdict = search(entered, candidates[0].name, plan.budget, trial, reporter)
    judged, best = _judge_cascades(files, answers, entered, verdict) if plan.options.cascade else ((), None)
    return Found(files.candidates, timed, verdict, answers.failures, len(answers.asked), judged, best)


def _judge_cascades(
    files: _Files, answers: Answers, entered: Sequence[TimedCandidate], verdict: Verdict
) -> tuple[tuple[JudgedCascade, ...], JudgedCascade | None]:
    """The cascades of networks that take the same clips, and the one that beats the winner of the search."""
    budget, networks = files.plan.budget, {name: one.network for name, one in files.candidates.items()}
    trial = CascadeTrial(answers.labels, answers.logits, budget, next(iter(files.candidates)))
    judged = []
    for pair in list_pairs([one for one in entered if one.name not in answers.failures], budget):
        if networks[pair.cheap.name].preprocessing == networks[pair.dear.name].preprocessing:
            files.workshop.reporter(f"trying {pair.name}")
            judged.append(trial.judge(pair))
    found = tuple(one for one in judged if one is not None)
    winner = verdict.standing(verdict.winner).candidate if verdict.winner else None
    return found, choose_cascade(found, winner, trial)


def _finish(files: _Files, found: Found, videos: int, output: Path) -> Tuned:
    """Write the winner's folder, where there is a winner."""
    plan, cascade, winner = files.plan, found.cascade, found.verdict.winner
    question = Question(plan.title, plan.budget, next(iter(files.candidates)), videos)
    if cascade is not None:
        cheap, dear = (files.find(one.name) for one in (cascade.pair.cheap, cascade.pair.dear))
        steps = (*files.list_steps(cascade.pair.cheap.name), *files.list_steps(cascade.pair.dear.name))
        document = document_search(question, found, dear.artifact.path.name, steps)
        return Tuned(write_cascade(output, cheap, dear, cascade, document), document)
    if winner is None:
        return Tuned(None, document_search(question, found, None, ()))
    made = files.find(winner)
    document = document_search(question, found, made.artifact.path.name, files.list_steps(winner))
    return Tuned(write_winner(output, made, document), document)
