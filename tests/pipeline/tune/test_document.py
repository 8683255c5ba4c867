"""The document of a search says who won and why, how sure that is, and by what the others miss the budget."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

from dualexport.core.choices import Place, Precision
from dualexport.core.types import Preprocessing, Weights
from dualexport.pipeline.placement import Target
from dualexport.pipeline.tune.candidates import Candidate, Form, NetworkChoice, Sources, TunedNetwork
from dualexport.pipeline.tune.document import Found, Question, document_search
from dualexport.pipeline.tune.latency import Timed
from dualexport.pipeline.tune.search import search
from dualexport.pipeline.tune.verdict import Answer, Budget, TimedCandidate, Trial
from dualexport.report.text import wrap
from dualexport.report.tune import TuneDocument
from dualexport.report.tune_page import outline_search, render_tune_html, render_tune_markdown, tell_misses

VIDEOS = 200
WRONG = {"dualformer-b": 8, "dualformer-t": 30}  # videos


def make_candidates() -> dict[str, Candidate]:
    networks = [TunedNetwork(NetworkChoice(), name, Weights(seed=0), Preprocessing(), 12, (), 10**9) for name in WRONG]
    forms = (Form(Precision.FP32), Form(Precision.FP16), Form(Precision.INT8, Target(Place.FREE)))
    made = [Candidate(network, form) for network in networks for form in forms]
    return {one.name: one for one in made}


def make_document(latency_ms: float, max_drop: float) -> TuneDocument:
    """B takes 12, 8 and 6 ms, t a third of it; each form of a network errs on the same videos."""
    candidates = make_candidates()
    times = {"fp32": 12.0, "fp16": 8.0, "int8-free": 6.0}
    milliseconds = {
        name: times[one.form.name] / (1 if one.network.name == "dualformer-b" else 3)
        for name, one in candidates.items()
    }

    def ask(name: str, videos: Sequence[int]) -> list[Answer]:
        wrong = WRONG[candidates[name].network.name]
        return [Answer(video % VIDEOS >= wrong, (video + 1) / VIDEOS) for video in videos]

    budget = Budget(latency_ms, max_drop)
    entered = [
        TimedCandidate(name, milliseconds[name], one.network.name, one.width) for name, one in candidates.items()
    ]
    verdict = search(entered, entered[0].name, budget, Trial(ask, VIDEOS))
    found = Found(candidates, Timed(milliseconds, "made up", {}, is_estimate=True), verdict, {}, verdict.asked)
    question = Question("<an Orin>", budget, entered[0].name, VIDEOS)
    return document_search(question, found, "b.int8.onnx", ("dualexport onnx --model demo",))


def test_the_winner_is_named_with_its_figures_and_what_it_rests_on() -> None:
    document = make_document(9.0, 0.01)
    assert document.winner == "dualformer-b.int8-free"
    best = document.find("dualformer-b.int8-free")
    assert (best.fate, best.asked, best.right, best.drop) == ("wins", VIDEOS, VIDEOS - 8, 0.0)
    assert document.asked < document.exhaustive / 2
    assert "6 ms, accuracy 96.0%" in document.sentences[0]
    assert any("published peaks" in caveat for caveat in document.caveats)
    slow = document.find("dualformer-b.fp32")
    assert (slow.fate, slow.misses) == ("over the latency", ("3 ms over",))
    assert document.find("dualformer-t.fp16").fate == "loses more than allowed"


def test_the_accuracy_of_one_that_ended_early_is_on_videos_drawn_by_chance() -> None:
    early = make_document(9.0, 0.01).find("dualformer-t.fp16")
    assert early.accuracy is not None
    assert early.videos == early.accuracy.total == VIDEOS // 8
    assert early.asked > early.videos


def test_where_nothing_holds_the_budget_each_of_the_nearest_says_what_it_misses() -> None:
    document = make_document(5.0, 0.01)
    assert document.winner is None
    assert len(document.nearest) == 3
    assert "dualformer-t.int8-free misses by 10.0 points too many lost" in tell_misses(document)
    assert "Nothing holds the budget" in list(outline_search(document))[-1]


def test_the_page_of_a_search_that_asked_nothing_is_drawn_too() -> None:
    document = make_document(1.0, 0.01)
    assert document.asked == 0
    assert "Nothing holds the budget" in render_tune_html(document)


class Tags(HTMLParser):
    """Counts the elements of a page, and the texts of its picture."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(value for name, value in attrs if name == "class" and value)]


def test_the_page_has_a_point_for_every_candidate_and_the_budget_as_lines() -> None:
    document = make_document(9.0, 0.01)
    page, tags = render_tune_html(document), Tags()
    tags.feed(page)
    assert sum(one.startswith("choice ") for one in tags.seen) == len(document.candidates)
    assert (tags.seen.count("choice won"), tags.seen.count("budget"), tags.seen.count("front")) == (1, 2, 1)
    assert "Ship dualformer-b.int8-free" in page
    assert "&lt;an Orin&gt;" in page
    assert "<an Orin>" not in page
    text = render_tune_markdown(document)
    assert "    dualexport onnx --model demo" in text
    assert wrap(text.splitlines()[0], 200) == ["## Ship dualformer-b.int8-free"]


def test_a_candidate_says_how_it_is_made() -> None:
    one = make_candidates()["dualformer-b.int8-free"]
    assert one.list_steps(Sources("l.csv", "calib"), engine=True) == (
        "dualexport onnx --model demo --input uint8 --clips l.csv -o dualformer-b",
        "dualexport int8 dualformer-b --clips calib --place free",
        "dualexport trt dualformer-b --int8",
    )
