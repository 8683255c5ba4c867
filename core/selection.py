"""The notation of token selections: `T0:0.5` keeps half of the frames before stage 0, `S2:0.74` a region of each frame.

Source of the notation: STTS (arXiv 2111.11591). Needs neither torch nor onnx.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from .errors import SelectionError

Grid = tuple[int, int, int]  # frames, height, width

STAGES = 4
NOTATION = re.compile(r"([TS])(\d{1,2}):(\d?\.?\d{1,6})", re.ASCII)
EXAMPLE = "T0:0.5 or T0:0.5,S2:0.74"


class SelectionKind(str, Enum):
    """The kind of what is selected: frames of the clip, or a square region of each frame."""

    TIME = "T"
    SPACE = "S"


@dataclass(frozen=True, slots=True)
class Selection:
    """Keep about `ratio` (above 0, at most 1) of the tokens, before the blocks of `stage`."""

    kind: SelectionKind
    stage: int
    ratio: Decimal

    def __str__(self) -> str:
        return f"{self.kind.value}{self.stage}:{self.ratio.normalize():f}"

    def apply(self, grid: Grid) -> Grid:
        """The part of `grid` that is kept: floor(ratio * frames) frames, or a square of floor(sqrt(ratio * positions)).

        An extent of 0 says that the ratio keeps nothing.
        """
        frames, height, width = grid
        if self.kind is SelectionKind.TIME:
            return (int(self.ratio * frames), height, width)
        side = math.isqrt(int(self.ratio * height * width))
        return (frames, side, side)


@dataclass(frozen=True, slots=True)
class SelectedGrid:
    """A selection in one network: the grid of tokens that it selects from, and the grid that it keeps."""

    selection: Selection
    grid: Grid
    kept: Grid


def parse_selections(text: str) -> tuple[Selection, ...]:
    """Read `T0:0.5,S2:0.74`: selections in the order in which the network makes them, time before space.

    Raises SelectionError for what is not the notation, a stage that does not exist, a ratio outside (0, 1], or two
    selections of one kind at one stage.
    """
    selections = [_parse(part.strip()) for part in text.split(",")]
    selections.sort(key=lambda selection: (selection.stage, selection.kind is SelectionKind.SPACE))
    places = [(selection.kind, selection.stage) for selection in selections]
    for kind, stage in places:
        if places.count((kind, stage)) > 1:
            same = ", ".join(str(other) for other in selections if (other.kind, other.stage) == (kind, stage))
            raise SelectionError(
                f"two selections of one kind at one stage: {same}",
                fix=f"keep one {kind.value}{stage}, of the product of the ratios to select as much",
            )
    return tuple(selections)


def write_selections(selections: tuple[Selection, ...]) -> str:
    """The inverse of `parse_selections`."""
    return ",".join(map(str, selections))


def _parse(text: str) -> Selection:
    match = NOTATION.fullmatch(text)
    if match is None:
        raise SelectionError(
            f"{text!r} is not a token selection: T or S, a stage, a colon and a ratio are needed",
            fix=f"write for example {EXAMPLE}",
        )
    selection = Selection(SelectionKind(match[1]), int(match[2]), Decimal(match[3]))
    if selection.stage >= STAGES:
        raise SelectionError(
            f"{text}: there is no stage {selection.stage}, DualFormer has stages 0 to {STAGES - 1}",
            fix=f"select before one of them, for example {EXAMPLE}",
        )
    if not 0 < selection.ratio <= 1:
        raise SelectionError(
            f"{text}: the ratio is {selection.ratio}, it must be above 0 and at most 1",
            fix=f"write for example {EXAMPLE}",
        )
    return selection
