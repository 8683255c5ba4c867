"""The page of a search for the best network, its Markdown, and what a terminal shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from ..core.files import staged_path
from ..core.plain import to_json
from .figures import ABSENT, number, share
from .markdown import escape, mark_table
from .markup import Markup, join, tag
from .page import render_page, show_decision, show_table
from .pareto import Choice, Limits, draw_choices
from .tables import Table
from .tune import WON, TuneCandidate, TuneDocument

COLUMNS = ("candidate", "ms", "accuracy", "videos", "drop", "against the winner", "end")
NOTE = (
    "In brackets: 95% intervals. Accuracy is on all videos, or, of a candidate that ended earlier, on those that were "
    "drawn by chance before any was chosen. Drop: points lost against the reference on the same videos. Against the "
    "winner: videos that only the winner, only the candidate gets right, and McNemar's exact p."
)


def render_tune_html(document: TuneDocument) -> str:
    """The page: the decision, the picture, the table, and how to make the winner once more."""
    title, ships = f"The network for {document.device}", document.winner is not None
    picture = tag("div", tag("h3", "Accuracy against latency"), draw_search(document), class_="card alone")
    steps = join(tag("h2", "Step by step"), tag("pre", "\n".join(document.steps))) if document.steps else None
    return render_page(
        title,
        tag("h1", title),
        show_decision(tell_answer(document), document.sentences, document.caveats, positive=ships),
        picture,
        tag("h2", "All candidates"),
        show_table(tabulate_candidates(document)),
        tag("p", NOTE, class_="soft"),
        steps,
        tag("p", f"Latency: {document.latency}. {_tell_effort(document)}", class_="soft"),
    )


def render_tune_markdown(document: TuneDocument) -> str:
    """The same without the picture."""
    lines = [f"## {escape(tell_answer(document))}", ""]
    lines += [f"- {escape(sentence)}" for sentence in document.sentences]
    lines += [f"- Note: {escape(caveat)}" for caveat in document.caveats]
    lines += ["", *mark_table(tabulate_candidates(document)), "", escape(NOTE)]
    if document.steps:
        lines += ["", "### Step by step", "", *(f"    {step}" for step in document.steps)]
    return "\n".join([*lines, "", escape(f"Latency: {document.latency}. {_tell_effort(document)}"), ""])


RENDERERS: Mapping[str, Callable[[TuneDocument], str]] = {
    ".html": render_tune_html,
    ".htm": render_tune_html,
    ".md": render_tune_markdown,
    ".json": to_json,
}


def write_tune_reports(document: TuneDocument, reports: Sequence[Path]) -> None:
    """Write every report, in the form that its suffix names. Raises OutputError."""
    for path in reports:
        with staged_path(path) as staged:
            staged.write_text(RENDERERS[path.suffix.lower()](document), encoding="utf-8", errors="backslashreplace")


def outline_search(document: TuneDocument) -> Iterator[Table | str]:
    """Tables and lines in the order in which a terminal shows them; the last line is the answer."""
    yield tabulate_candidates(document)
    yield _tell_effort(document)
    yield from (f"caveat: {caveat}" for caveat in document.caveats)
    yield from document.sentences
    if document.steps:
        yield "step by step:"
        yield from (f"  {step}" for step in document.steps)
    yield tell_answer(document)


def tell_answer(document: TuneDocument) -> str:
    """The answer in one line."""
    if document.winner is None:
        return f"Nothing holds the budget; nearest: {', '.join(document.nearest) or 'none'}"
    return f"Ship {document.winner}"


def tabulate_candidates(document: TuneDocument) -> Table:
    """A row a candidate, the winner first, then by latency."""
    shown = sorted(document.candidates, key=lambda one: (one.fate != WON, one.latency_ms or 0.0, one.name))
    rows = tuple(_describe(one, document) for one in shown)
    return Table(f"Candidates on {document.device}, {document.videos} labelled videos", COLUMNS, rows)


def _describe(one: TuneCandidate, document: TuneDocument) -> tuple[str, ...]:
    paired, asked = one.paired, f"{one.asked} of {document.videos}"
    return (
        one.name,
        number(one.latency_ms, ".3g"),
        share(one.accuracy),
        f"{asked}, {one.videos} by chance" if one.accuracy and one.videos < one.asked < document.videos else asked,
        ABSENT if one.drop is None else f"{one.drop:+.1f}",
        ABSENT if paired is None else f"{paired.lost} / {paired.gained}, p {paired.p_value:.2g}",
        "; ".join((one.fate, *one.misses)),
    )


def _tell_effort(document: TuneDocument) -> str:
    part = document.asked / document.exhaustive if document.exhaustive else 0.0
    return (
        f"{document.asked} answers of networks to videos were looked at, {part:.0%} of the {document.exhaustive} that "
        "all candidates on all videos are."
    )


def draw_search(document: TuneDocument) -> Markup:
    """The picture of a search, whose names leave out what all of them begin with."""
    timed = [one for one in document.candidates if one.latency_ms is not None]
    if not timed:
        return tag("p", "Not known: no candidate has a latency.", class_="absent")
    names = _shorten([one.name for one in timed])
    choices = [_choose_point(one, name, document) for one, name in zip(timed, names, strict=True)]
    least = document.budget.least_right
    limits = Limits(document.budget.latency_ms, 100 * least / document.videos if least and document.videos else None)
    return draw_choices(choices, limits, f"milliseconds an inference on {document.device}")


def _shorten(names: Sequence[str]) -> tuple[str, ...]:
    """Names without what all of them begin with."""
    pairs = zip(min(names), max(names), strict=False)
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    short = tuple(name[start:].lstrip("-.") for name in names)
    return short if all(short) else tuple(names)


def _choose_point(one: TuneCandidate, name: str, document: TuneDocument) -> Choice:
    found, limit, least = one.accuracy, document.budget.latency_ms, document.budget.least_right
    too_slow = limit is not None and one.latency_ms is not None and one.latency_ms > limit
    too_wrong = bool(least) and found is not None and found.share * document.videos < (least or 0)
    return Choice(
        name=name,
        x=one.latency_ms or 0.0,
        y=None if found is None else 100 * found.share,
        low=0.0 if found is None else 100 * found.low,
        high=0.0 if found is None else 100 * found.high,
        won=one.fate == WON,
        within=not (too_slow or too_wrong),
        hint=f"{number(one.latency_ms, '.3g')} ms, {share(found)}, {one.fate}",
    )


def tell_misses(document: TuneDocument) -> str:
    """The nearest candidates in one line, each with what it misses by."""
    return "; ".join(
        f"{name} misses by {' and '.join(document.find(name).misses) or 'nothing measured'}"
        for name in document.nearest
    )
