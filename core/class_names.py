"""Class names: read from a file, and found by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import LabelError, LabelNotFoundError, printable
from .reading import FileKind

LABELS = FileKind(
    "a file of class names",
    LabelError,
    "give UTF-8 text, one class name a line",
    missing=LabelNotFoundError,
    missing_fix="name a file with one class name a line",
)
MOST_DIGITS = 9


def read_labels(path: Path | None, classes: int) -> tuple[str, ...]:
    """Class names from a text file, one a line in label order; without a file, "class 0" and so on.

    Raises LabelError when the file cannot be read or names another number of classes than the network has.
    """
    if path is None:
        return tuple(f"class {number}" for number in range(classes))
    names = tuple(printable(line.strip()) for line in LABELS.read_text(path).splitlines() if line.strip())
    if len(names) != classes:
        raise LabelError(
            f"{path.name} names {len(names)} classes, the network has {classes}",
            fix="give the labels that the network was trained with",
        )
    return names


def find_class(label: str, names: Sequence[str], classes: int) -> int:
    """The class that `label` means: one of `names`, class names in order, or a class number from 0.

    Raises LabelError where it is neither.
    """
    if label in names:
        return names.index(label)
    if label.isascii() and label.isdigit() and len(label) <= MOST_DIGITS and int(label) < classes:
        return int(label)
    known = "its class names are not known" if not names else "it is none of its class names"
    raise LabelError(
        f"the label {label!r} is no class of the network: {known}, and no number from 0 to {classes - 1}",
        fix="correct the label, or name the classes when exporting: `dualexport onnx --labels FILE`",
    )
