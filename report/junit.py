"""The verification as JUnit XML: a suite an artifact, a case a limit, as CI systems read it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from .document import Document
from .tables import name_artifact, tabulate_limits

NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(document: Document) -> str:
    """A suite for each artifact of every network."""
    names = " ".join(name for name, _ in document.named)
    root = ElementTree.Element("testsuites", name=_text(f"dualexport verify {names}"))
    for network, report in ((name, report) for name, one in document.named for report in one.reports):
        rows = tabulate_limits(report).rows
        failed = sum(row[-1] == "FAIL" for row in rows)
        name = _text(name_artifact(report, network))
        suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(rows)), failures=str(failed))
        for figure, got, limit, result in rows:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=figure)
            if result == "FAIL":
                message = _text(f"{figure}: {got}" + (f", {limit}" if limit else ""))
                failure = ElementTree.SubElement(case, "failure", message=message)
                failure.text = _text(f"{message}; worst on {report.worst_clip}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _text(value: str) -> str:
    """Text without the characters that XML cannot hold."""
    return NOT_XML.sub("\ufffd", value)
