"""From a search to its document: the answer, how sure it is, and what each candidate came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...core.manifest import tool_versions
from ...report.document import PairedTest, Share
from ...report.figures import number
from ...report.figures import share as write_share
from ...report.tune import FORMAT, WON, TuneBudget, TuneCandidate, TuneDocument
from ...verification import measures
from .candidates import Candidate
from .cascade import JudgedCascade
from .latency import Timed
from .verdict import Budget, Fate, Standing, Verdict

POINTS = 100.0
FEW_VIDEOS = 100
MOST_NAMED = 4
BY_CHANCE = (Fate.BEHIND,)


@dataclass(frozen=True, slots=True)
class Question:
    """The question in words: the device, the limits, the reference and the number of videos."""

    device: str
    budget: Budget
    reference: str
    videos: int


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates, their latencies, the verdict of the search, and the reasons of those that could not be made.

    `cascades` are those that were judged; `cascade` is the one that wins over all, if one does. `asked` is the number
    of answers that were looked at.
    """

    candidates: Mapping[str, Candidate]
    timed: Timed
    verdict: Verdict
    failures: Mapping[str, str]
    asked: int
    cascades: tuple[JudgedCascade, ...] = ()
    cascade: JudgedCascade | None = None

    @property
    def winner(self) -> str | None:
        """The name of the winner."""
        return self.cascade.pair.name if self.cascade else self.verdict.winner


def document_search(question: Question, found: Found, artifact: str | None, steps: Sequence[str]) -> TuneDocument:
    """The document of a search; `artifact` is the winner's file, `steps` are the commands that make it."""
    budget, verdict = question.budget, found.verdict
    described = tuple(_describe(name, question, found) for name in found.candidates)
    described += tuple(_describe_cascade(one, question, found) for one in found.cascades)
    named = {one.name: one for one in described}
    return TuneDocument(
        format=FORMAT,
        device=question.device,
        latency=found.timed.how,
        reference=question.reference,
        budget=TuneBudget(budget.latency_ms, _points(budget.max_drop), verdict.least_right or None),
        videos=question.videos,
        asked=found.asked,
        exhaustive=question.videos * len(found.candidates),
        winner=found.winner,
        artifact=artifact,
        candidates=described,
        nearest=() if found.winner else verdict.nearest,
        sentences=tuple(_say(named, question, found)),
        caveats=tuple(_warn(question, found)),
        steps=tuple(steps),
        tools=tool_versions(),
    )


def _describe(name: str, question: Question, found: Found) -> TuneCandidate:
    candidate = found.candidates[name]
    head = (name, candidate.network.name, candidate.form.name, found.timed.milliseconds.get(name))
    if name in found.timed.left_out:
        return TuneCandidate(*head, f"left out: {found.timed.left_out[name]}", 0, 0, 0, None, None, None)
    standing = found.verdict.standing(name)
    videos = _judged_on(standing, question, found)
    fate = f"could not be made: {found.failures[name]}" if name in found.failures else _tell_fate(standing, found)
    right = sum(standing.answers[video].right for video in videos)
    return TuneCandidate(
        *head,
        fate=fate,
        asked=len(standing.answers),
        right=standing.right,
        videos=len(videos),
        accuracy=_share(right, len(videos)) if videos and name not in found.failures else None,
        drop=_find_drop(standing, videos, question.reference, found),
        paired=_pair(standing, videos, found) if name != found.verdict.winner else None,
        misses=tuple(_list_misses(standing, question, found)),
    )


def _judged_on(standing: Standing, question: Question, found: Found) -> list[int]:
    """All videos; of a candidate that ended earlier those drawn by chance, since the others were chosen to be hard."""
    if len(standing.answers) == question.videos:
        return list(standing.answers)
    return [video for video in found.verdict.first if video in standing.answers]


def _describe_cascade(one: JudgedCascade, question: Question, found: Found) -> TuneCandidate:
    """A cascade, on the videos that its margin was not fitted on."""
    right, rest, slow = len(one.right), len(one.rest), question.budget.latency_ms
    misses = [f"{one.latency_ms - slow:.3g} ms over"] if slow is not None and one.latency_ms > slow else []
    if right < one.least:
        misses.append(f"{POINTS * (one.least - right) / rest:.1f} points too many lost")
    fate = "no better than the winner" if one.holds(question.budget) else "does not hold the budget"
    head = (one.pair.name, one.pair.dear.network, "cascade", one.latency_ms)
    paired = None
    if found.verdict.winner is not None:
        best = found.verdict.standing(found.verdict.winner).answers
        plain = {video for video in one.rest if best[video].right}
        paired = _test(len(plain - one.right), len(one.right - plain), rest)
    return TuneCandidate(
        *head,
        fate=WON if found.cascade is one else fate,
        asked=rest,
        right=right,
        videos=rest,
        accuracy=_share(right, rest),
        drop=None,
        paired=paired,
        misses=tuple(misses),
    )


def _tell_fate(standing: Standing, found: Found) -> str:
    if standing.fate is Fate.WON and found.cascade is not None:
        return "beaten by a cascade"
    return standing.fate.value + (f" ({standing.because_of})" if standing.because_of else "")


def _find_drop(standing: Standing, videos: Sequence[int], reference: str, found: Found) -> float | None:
    """Points lost against the reference on these videos, where it was asked about them."""
    expected = found.verdict.standing(reference).answers
    if not videos or any(video not in expected for video in videos):
        return None
    lost = sum(expected[video].right - standing.answers[video].right for video in videos)
    return POINTS * lost / len(videos)


def _pair(standing: Standing, videos: Sequence[int], found: Found) -> PairedTest | None:
    """The paired test of a candidate against the winner on these videos."""
    if found.verdict.winner is None or not videos:
        return None
    best = found.verdict.standing(found.verdict.winner).answers
    lost = sum(best[video].right and not standing.answers[video].right for video in videos)
    gained = sum(standing.answers[video].right and not best[video].right for video in videos)
    return _test(lost, gained, len(videos))


def _test(lost: int, gained: int, videos: int) -> PairedTest:
    return PairedTest(lost, gained, (lost - gained) / videos, measures.mcnemar_exact(lost, gained))


def _list_misses(standing: Standing, question: Question, found: Found) -> Iterator[str]:
    """By how much a candidate misses each limit."""
    limit, latency = question.budget.latency_ms, standing.candidate.latency_ms
    if limit is not None and latency > limit:
        yield f"{latency - limit:.3g} ms over"
    wrong, allowed = len(standing.answers) - standing.right, question.videos - found.verdict.least_right
    if question.budget.max_drop is not None and wrong > allowed:
        least = "" if len(standing.answers) == question.videos else "at least "
        yield f"{least}{POINTS * (wrong - allowed) / question.videos:.1f} points too many lost"


def _say(named: Mapping[str, TuneCandidate], question: Question, found: Found) -> Iterator[str]:
    """The answer with its figures, and which candidates the videos do not tell it apart from."""
    winner = found.winner
    if winner is None:
        for name in found.verdict.nearest:
            one = named[name]
            figures = f"{number(one.latency_ms, '.3g')} ms, accuracy {write_share(one.accuracy)}"
            yield f"{name} misses by: {', '.join(one.misses) or 'nothing measured'} ({figures})"
        return
    best = named[winner]
    drop = "" if best.drop is None else f", {best.drop:+.1f} points lost against {question.reference}"
    yield f"{winner}: {number(best.latency_ms, '.3g')} ms, accuracy {write_share(best.accuracy)}{drop}"
    if found.cascade is not None:
        yield from _say_cascade(found.cascade)
        return
    limit = question.budget.latency_ms
    within = "none that is fast enough is right more often" if limit is not None else "none that holds it is faster"
    yield f"of {len(named)} candidates {within}; of equals the fastest was taken"
    alike = [
        f"{one.name} (p {one.paired.p_value:.2g})"
        for one in named.values()
        if one.paired is not None and one.asked == question.videos and not one.paired.is_significant
    ]
    if alike:
        more = f" and {len(alike) - MOST_NAMED} others" if len(alike) > MOST_NAMED else ""
        yield f"these videos do not tell its accuracy apart from that of {', '.join(alike[:MOST_NAMED])}{more}"


def _say_cascade(one: JudgedCascade) -> Iterator[str]:
    yield (
        f"{one.pair.cheap.name} answers {1 - one.share:.0%} of the clips alone; where its best two logits are closer "
        f"than {one.margin:.3g}, {one.pair.dear.name} answers"
    )
    yield (
        f"the latency is a mean: {one.pair.cheap.latency_ms:.3g} ms, and {one.pair.mean_ms(1.0):.3g} ms where both run"
    )
    yield f"the margin was fitted on other videos than the {len(one.rest)} that it was judged on"


def _warn(question: Question, found: Found) -> Iterator[str]:
    """The things that the answer rests on."""
    if found.timed.is_estimate:
        yield (
            "latencies are estimates from published peaks, which a device stays below: measure there before you ship, "
            "with `dualexport tune --device here --runtime tensorrt` or `dualexport bench`"
        )
    elif "TensorRT" not in found.timed.how:
        yield "latencies are of ONNX Runtime on this CPU: they say nothing of a GPU"
    if found.timed.is_estimate:
        yield "accuracy is of the ONNX files on this machine; `dualexport verify` holds engines against them"
    if question.videos < FEW_VIDEOS:
        yield f"{question.videos} videos tell little: one of them is {POINTS / question.videos:.1f} points"
    behind = [one.candidate.name for one in found.verdict.standings if one.fate in BY_CHANCE]
    if behind:
        yield f"ended on the first videos by a test that errs once in 1000 times: {', '.join(behind)}"


def _share(count: int, total: int) -> Share:
    found = measures.Share.of(count, total)
    return Share(found.count, found.total, found.share, found.low, found.high)


def _points(drop: float | None) -> float | None:
    return None if drop is None else drop * POINTS
