"""Reports show what was found, load nothing, and hold whatever a file is called."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from dualexport.report.axis import Axis, linear_axis, log_axis, round_numbers
from dualexport.report.html import render_html
from dualexport.report.junit import render_junit
from dualexport.report.markdown import render_markdown
from dualexport.report.markup import Markup, tag
from dualexport.report.tables import tabulate_overview
from support.documents import HOSTILE, make_document, make_document_of_two, parse

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "br", "img", "circle", "line", "path", "polyline", "rect"}


class Page(HTMLParser):
    """Elements, text and balance of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, element: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(element)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if element not in VOID:
            self.open.append(element)

    def handle_endtag(self, element: str) -> None:
        if element not in VOID:
            assert self.open.pop() == element

    def handle_data(self, text: str) -> None:
        self.text.append(text)


@pytest.fixture
def document() -> dict[str, Any]:
    return make_document()


def test_the_page_is_whole_and_loads_nothing(document: dict[str, Any]) -> None:
    source = render_html(parse(document))
    page = Page(source)
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "form"} & set(page.elements)
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"url\(|@import|https?:", source)
    assert page.elements.count("svg") == 5
    assert "Content-Security-Policy" in source


def test_names_are_shown_as_they_are_and_never_become_markup(document: dict[str, Any]) -> None:
    page = Page(render_html(parse(document)))
    assert any(HOSTILE.replace("\x07", "") in text.replace("\x07", "") for text in page.text)
    assert "b" in page.elements  # the page's own
    assert "<b>moving</b> left" in " ".join(page.text)


def test_thresholds_by_class_are_a_table_and_the_lines_that_stream_reads(document: dict[str, Any]) -> None:
    text = Page(render_html(parse(document))).text
    assert '[classes]\n"<b>moving</b> left" = 0.42\n' in text
    start = text.index("suggested threshold")
    cells = [cell for cell in text[start:] if "%" in cell or "-" in cell]
    assert cells[:6] == ["90.0% / 85.0%", *["50.0% / 100.0%"] * 2, *["90.0% / 85.0%"] * 2, "- / 0.0%"]


def test_the_decision_comes_first_with_its_reasons(document: dict[str, Any]) -> None:
    text = " ".join(Page(render_html(parse(document))).text)
    assert text.index("Do not ship") < text.index("cosine 0.94") < text.index("Agreement with the reference")
    document["decision"] = {"ship": True, "reasons": [], "caveats": []}
    text = " ".join(Page(render_html(parse(document))).text)
    assert "Do not ship" not in text
    assert "every artifact ran, and holds every limit" in text


def test_what_was_not_measured_is_said(document: dict[str, Any]) -> None:
    document.update(latency=None, layers=None, plans=None)
    document["reference"].update(accuracy=None, accuracy_unknown="the clips have no labels")
    for report in document["reports"]:
        report.update(accuracy=None, paired=None, snr_db=None, classes=[], worst=[])
    page = Page(render_html(parse(document)))
    text = " ".join(page.text)
    assert text.count("Not known") == 7
    assert "svg" not in page.elements
    assert render_markdown(parse(document))
    assert render_junit(parse(document))


def test_an_artifact_that_did_not_run_is_in_every_report(document: dict[str, Any]) -> None:
    figures = ("largest_difference", "mean_difference", "cosine", "kl_divergence", "snr_db", "agreement", "accuracy")
    document["reports"][2].update(dict.fromkeys((*figures, "paired")), failure="out of memory", clips=0, passed=False)
    document["reports"][2].update(checks=[], worst=[], classes=[])
    for rendered in (render_html(parse(document)), render_markdown(parse(document)), render_junit(parse(document))):
        assert "out of memory" in rendered


def test_junit_has_a_suite_an_artifact_and_a_case_a_limit(document: dict[str, Any]) -> None:
    root = ElementTree.fromstring(render_junit(parse(document)))
    suites = root.findall("testsuite")
    assert [(suite.get("tests"), suite.get("failures")) for suite in suites] == [("2", "0"), ("2", "0"), ("2", "1")]
    (failure,) = root.iter("failure")
    assert "cosine: 0.94" in str(failure.get("message"))
    assert "<script>" in str(failure.text)


def test_markdown_tables_have_one_width_and_no_markup_of_names(document: dict[str, Any]) -> None:
    text = render_markdown(parse(document))
    assert text.startswith("## dualformer-demo: do not ship\n")
    code = re.compile(r"^    .*$", re.MULTILINE)  # shown as it is
    assert len(code.findall(text)) == 1
    assert "<script>" not in code.sub("", re.sub(r"\\<", "", text))
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_several_networks_are_in_one_table_and_in_common_pictures() -> None:
    document = make_document_of_two()
    page = Page(render_html(parse(document)))
    text = " ".join(page.text)
    assert page.open == []
    assert text.index("Do not ship") < text.index("All artifacts") < text.index("Agreement with the reference")
    assert page.elements.count("svg") == 2 + 2 * 5
    table = tabulate_overview(parse(document))
    assert [row[0] for row in table.rows][3:6] == [
        "dualformer-demo.int8.onnx",
        "dualformer-demo-T0_0.5: PyTorch 2.13.0 (CPU, FP32)",
        "dualformer-demo-T0_0.5.fp32.onnx",
    ]
    assert table.rows[3][1:4] == ("9.7", "5.12", "45%")
    overall = render_markdown(parse(document)).partition("\n## dualformer")[0]
    assert overall.count(".onnx") == 6
    assert len(ElementTree.fromstring(render_junit(parse(document))).findall("testsuite")) == 6


def test_networks_of_one_name_are_told_apart_by_their_folders() -> None:
    document = make_document_of_two("dualformer-demo")
    names = [row[0] for row in tabulate_overview(parse(document)).rows]
    assert (names[1], names[5]) == ("demo/whole/dualformer-demo.fp32.onnx", "demo/half/dualformer-demo.fp32.onnx")
    suites = ElementTree.fromstring(render_junit(parse(document))).findall("testsuite")
    assert len({suite.get("name") for suite in suites}) == 6


def test_columns_of_which_nothing_is_known_are_left_out() -> None:
    document = make_document_of_two()
    assert {"MB moved", "ms a clip"} < set(tabulate_overview(parse(document)).columns)
    for network in document["networks"]:
        network.update(plans=None, latency=None)
    assert not {"MB moved", "ms a clip", "ratio"} & set(tabulate_overview(parse(document)).columns)


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<a>", Markup("<i>x</i>"), None, class_='"') == '<p class="&quot;">&lt;a&gt;<i>x</i></p>'


def test_axes_place_values_and_keep_to_round_numbers() -> None:
    assert round_numbers(0, 10) == (0, 2, 4, 6, 8, 10)
    assert round_numbers(3, 3) == (3,)
    axis = Axis(0, 10, 100, 200)
    assert (axis.at(0), axis.at(5), axis.at(99)) == (100, 150, 200)
    logarithmic = log_axis([3e-7, 0.2], 0, 70)
    assert (logarithmic.low, logarithmic.high) == (1e-7, 1.0)
    assert logarithmic.at(1e-6) == pytest.approx(10)
    assert linear_axis([4.0, 4.0], 0, 1).at(4.0) == pytest.approx(0.5)


@pytest.mark.slow
def test_a_browser_shows_the_page(document: dict[str, Any], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs a headless browser: apt-get install chromium")
    page = tmp_path / "report.html"
    page.write_text(render_html(parse(document)), encoding="utf-8")
    options = (
        *(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-component-update",
        ),
        *("--disable-background-networking", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
    )
    command = [browser, *options, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert dom.count("<svg") == 5
    assert "<script" not in dom
    assert "Do not ship" in dom
