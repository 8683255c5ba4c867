"""Triton's text format: what is written is what protobuf reads."""

from __future__ import annotations

import sys

from dualexport.serving.pbtxt import Symbol, write_message
from google.protobuf import struct_pb2, text_format
from hypothesis import given
from hypothesis import strategies as st

# st.text() would first make tables of all characters, for a second.
CHARACTERS = st.integers(0, 127) | st.integers(0, sys.maxunicode)


@given(st.lists(CHARACTERS).map(lambda codes: "".join(map(chr, codes))))
def test_any_text_is_read_back(text: str) -> None:
    message = struct_pb2.Value()
    written = write_message({"string_value": text.encode("utf-8", "replace").decode()})
    text_format.Parse(written, message)
    assert message.string_value == text.encode("utf-8", "replace").decode()


def test_fields_messages_repetitions_and_symbols() -> None:
    written = write_message(
        {"a": 1, "b": [True, False], "c": {"d": Symbol("TYPE_INT8")}, "e": [{"f": "g"}, {"f": "h"}]}
    )
    assert written == 'a: 1\nb: true\nb: false\nc {\n  d: TYPE_INT8\n}\ne {\n  f: "g"\n}\ne {\n  f: "h"\n}\n'
