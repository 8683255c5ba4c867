"""Grids of tokens: those that each stage of DualFormer works on, with and without selection, and its windows and keys.

Windows have no parameters and adapt to a smaller grid; pyramid convolutions keep the kernels that they were trained
with, and fewer keys come out of them. Needs neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from ...core.errors import OptionError, SelectionError
from ...core.selection import STAGES, Grid, SelectedGrid, Selection, SelectionKind, write_selections

IMAGE_SIZE = 224
FINE_GRID: Grid = (8, 7, 7)  # tokens of a local window, and of the fine pyramid level (section 3.2)
COARSE_GRID: Grid = (4, 4, 4)  # tokens of the coarse pyramid level
COARSE_KERNEL: Grid = (1, 7, 7)  # the coarse level's first reduction
PATCH_KERNELS: tuple[Grid, ...] = ((2, 4, 4), (1, 2, 2), (1, 2, 2), (1, 2, 2))
FINE_STAGES, COARSE_STAGES = range(3), range(2)  # those whose global attention has the pyramid's level
RATIO_STEP = Decimal("0.01")  # between the ratios that an error proposes


@dataclass(frozen=True, slots=True)
class Misfit:
    """The reason why a stage cannot work on its grid, and the kind of selection that made the grid so small."""

    stage: int
    kind: SelectionKind
    reason: str


def trained_grid(frames: int, stage: int) -> Grid:
    """Tokens that `stage` works on without selection; `frames` are the clip's."""
    grid: Grid = (frames, IMAGE_SIZE, IMAGE_SIZE)
    for kernel in PATCH_KERNELS[: stage + 1]:
        grid = divide(grid, kernel)
    return grid


def stage_grids(frames: int, selections: Sequence[Selection]) -> tuple[tuple[Grid, ...], ...]:
    """Per stage its grid after embedding, and after each selection that is made there; the last is what blocks see."""
    grid: Grid = (frames, IMAGE_SIZE, IMAGE_SIZE)
    stages = []
    for stage, kernel in enumerate(PATCH_KERNELS):
        grids = [divide(grid, kernel)]
        for selection in selections:
            if selection.stage == stage:
                grids.append(selection.apply(grids[-1]))
        stages.append(tuple(grids))
        grid = grids[-1]
    return tuple(stages)


def local_window(grid: Grid) -> Grid:
    """The largest window of at most FINE_GRID, in each direction, that divides `grid`."""
    frames, height, width = (
        max(size for size in range(1, largest + 1) if extent % size == 0)
        for extent, largest in zip(grid, FINE_GRID, strict=True)
    )
    return (frames, height, width)


def fine_kernel(trained: Grid) -> Grid:
    """Kernel and stride of the fine pyramid level of a stage trained on that grid."""
    return divide(trained, FINE_GRID)


def coarse_kernels(trained: Grid) -> tuple[Grid, Grid]:
    """Kernels and strides of the coarse pyramid level's two reductions."""
    return COARSE_KERNEL, divide(divide(trained, COARSE_GRID), COARSE_KERNEL)


def divide(grid: Grid, parts: Grid) -> Grid:
    """`grid` in each direction by `parts`, rounded down."""
    return (grid[0] // parts[0], grid[1] // parts[1], grid[2] // parts[2])


def list_selected_grids(frames: int, selections: Sequence[Selection]) -> tuple[SelectedGrid, ...]:
    """Each selection with the grid that it selects from, and what it keeps."""
    listed = []
    for stage, grids in enumerate(stage_grids(frames, selections)):
        here = [selection for selection in selections if selection.stage == stage]
        listed += list(map(SelectedGrid, here, grids[:-1], grids[1:]))
    return tuple(listed)


def describe_selections(frames: int, selections: Sequence[Selection]) -> tuple[str, ...]:
    """One line a selection, with the integers that its ratio becomes."""
    return tuple(
        f"{one.selection} keeps {' x '.join(map(str, one.kept))} of {' x '.join(map(str, one.grid))} tokens"
        for one in list_selected_grids(frames, selections)
    )


def describe_uncovered(frames: int, selections: Sequence[Selection], trained: int | None = None) -> tuple[str, ...]:
    """One line for each remainder of a grid that a pyramid level's kernel does not cover, so that no key has it."""
    lines = []
    for stage, grids in enumerate(stage_grids(frames, selections)):
        for level, (deep, high, _) in _reaches(trained or frames, stage):
            kept_frames, height, _ = grids[-1]
            parts = ((kept_frames, deep, "frames"), (height, high, "rows and columns"))
            lines += [
                f"stage {stage}: {extent % size} of {extent} {axis} have no part in the {level} keys"
                for extent, size, axis in parts
                if extent % size
            ]
    return tuple(lines)


def check_frames(frames: int, trained: int | None) -> None:
    """Raise OptionError, with the nearest counts that work, for clips that are too short, or of an odd count.

    `trained` are the frames of the clips that the network's kernels were made for, None for as many.
    """
    if trained is None or _takes_frames(frames, trained):
        return
    smaller = next((count for count in range(frames - 1, 0, -1) if _takes_frames(count, trained)), None)
    larger = next(count for count in range(frames + 1, trained + frames + 2) if _takes_frames(count, trained))
    deep = max(reach[0] for stage in range(STAGES) for _, reach in _reaches(trained, stage))
    raise OptionError(
        f"{frames} frames: two make a token, and the kernels of a network trained on {trained} need {deep} tokens",
        fix=f"counts that work: {' or '.join(str(count) for count in (smaller, larger) if count)}",
    )


def _takes_frames(frames: int, trained: int) -> bool:
    return frames % PATCH_KERNELS[0][0] == 0 and _find_misfit(frames, (), trained) is None


def check_selections(frames: int, selections: Sequence[Selection], trained: int | None = None) -> None:
    """Raise SelectionError, with the nearest ratios that work, when a stage cannot work on what is selected."""
    misfit = _find_misfit(frames, selections, trained) if selections else None
    if misfit is None:
        return
    blamed = [chosen for chosen in selections if chosen.kind is misfit.kind and chosen.stage <= misfit.stage][-1]
    working = [
        _describe_change(frames, selections, blamed, near) for near in _nearest(frames, selections, blamed, trained)
    ]
    raise SelectionError(
        f"{write_selections(tuple(selections))}: {misfit.reason}",
        fix=f"ratios that work: {' or '.join(working)}" if working else f"leave {blamed} out",
    )


def _reaches(trained_frames: int, stage: int) -> Iterator[tuple[str, Grid]]:
    """The pyramid levels of a stage, and how many tokens one key of the level is made of."""
    trained = trained_grid(trained_frames, stage)
    if stage in FINE_STAGES:
        yield "fine", fine_kernel(trained)
    if stage in COARSE_STAGES:
        first, second = coarse_kernels(trained)
        yield "coarse", (first[0] * second[0], first[1] * second[1], first[2] * second[2])


def _find_misfit(frames: int, selections: Sequence[Selection], trained: int | None) -> Misfit | None:
    """The first reason for which a stage cannot work on its grid."""
    grids = stage_grids(frames, selections)
    for stage in range(STAGES):
        if stage and any(
            extent % size for extent, size in zip(grids[stage - 1][-1], PATCH_KERNELS[stage], strict=True)
        ):
            reason = f"a region of {_square(grids[stage - 1][-1])} cannot be halved before stage {stage}"
            return Misfit(stage - 1, SelectionKind.SPACE, reason)
        kept_frames, height, width = grids[stage][-1]
        if not kept_frames:
            return Misfit(stage, SelectionKind.TIME, f"fewer than one of {grids[stage][0][0]} frames would be kept")
        if not height * width:
            return Misfit(stage, SelectionKind.SPACE, f"no position of {_square(grids[stage][0])} would be kept")
        for level, (deep, high, _) in _reaches(trained or frames, stage):
            if kept_frames < deep:
                whole = trained_grid(frames, stage)[0]
                reason = f"stage {stage} gets {kept_frames} of {whole} frames, a {level} key is made of {deep}"
                return Misfit(stage, SelectionKind.TIME, reason)
            if height < high:
                reason = f"stage {stage} gets regions of {height} x {width}, a {level} key is made of {high} x {high}"
                return Misfit(stage, SelectionKind.SPACE, reason)
    return None


def _nearest(
    frames: int, selections: Sequence[Selection], blamed: Selection, trained: int | None
) -> Iterator[Selection]:
    """`blamed` with the nearest smaller and the nearest larger ratio, in steps of 0.01, with which all stages work."""
    ratios = [step * RATIO_STEP for step in range(1, int(1 / RATIO_STEP) + 1)]
    smaller = [ratio for ratio in reversed(ratios) if ratio < blamed.ratio]
    larger = [ratio for ratio in ratios if ratio > blamed.ratio]
    for candidates in (smaller, larger):
        for ratio in candidates:
            changed = replace(blamed, ratio=ratio)
            if _find_misfit(frames, _exchange(selections, blamed, changed), trained) is None:
                yield changed
                break


def _describe_change(frames: int, selections: Sequence[Selection], blamed: Selection, changed: Selection) -> str:
    before, *_, after = stage_grids(frames, _exchange(selections, blamed, changed))[changed.stage]
    kept = f"{after[0]} of {before[0]} frames" if changed.kind is SelectionKind.TIME else _square(after)
    return f"{changed} ({kept})"


def _exchange(selections: Sequence[Selection], old: Selection, new: Selection) -> tuple[Selection, ...]:
    return tuple(new if selection is old else selection for selection in selections)


def _square(grid: Grid) -> str:
    return f"{grid[1]} x {grid[2]}"
