"""The notation of selections, and the refusals of what the network's grids cannot take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dualexport.core.choices import ModelSize
from dualexport.core.errors import SelectionError
from dualexport.core.selection import parse_selections, write_selections
from dualexport.exporter.dualformer.architecture import CONFIGS, DualFormerConfig
from dualexport.exporter.dualformer.token_grids import describe_selections, describe_uncovered, local_window


def select(text: str, size: ModelSize = ModelSize.B) -> DualFormerConfig:
    return replace(CONFIGS[size], selections=parse_selections(text))


def test_ratios_become_integers_as_published() -> None:
    config = select("S2:0.74,T0:0.5")  # floor(0.5 * 16) frames, floor(sqrt(floor(0.74 * 14 * 14))) rows
    assert [config.token_grid(stage) for stage in range(4)] == [(8, 56, 56), (8, 28, 28), (8, 12, 12), (8, 6, 6)]
    assert config.embedded_grid(2) == (8, 14, 14)
    assert config.trained_grid(2) == (16, 14, 14)
    assert describe_selections(config.frames, config.selections) == (
        "T0:0.5 keeps 8 x 56 x 56 of 16 x 56 x 56 tokens",
        "S2:0.74 keeps 8 x 12 x 12 of 8 x 14 x 14 tokens",
    )


@pytest.mark.parametrize(("ratio", "kept"), [("0.29", 29), ("0.57", 57), ("0.58", 58)])
def test_ratios_are_decimal_and_not_rounded_by_binary_fractions(ratio: str, kept: int) -> None:
    (selection,) = parse_selections(f"T0:{ratio}")
    assert int(float(ratio) * 100) == kept - 1
    assert selection.apply((100, 7, 7))[0] == kept


def test_time_comes_before_space_and_stages_in_order_however_they_are_written() -> None:
    assert write_selections(parse_selections("S2:0.740, T2:.5,T0:1.0")) == "T0:1,T2:0.5,S2:0.74"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not a token selection"),
        ("T0", "'T0' is not a token selection"),
        ("X0:0.5", "'X0:0.5' is not a token selection"),
        ("T0:1e-1", "'T0:1e-1' is not a token selection"),
        ("T0:0.5,", "'' is not a token selection"),
        ("T0:0", "the ratio is 0, it must be above 0"),
        ("T0:1.5", "the ratio is 1.5, it must be above 0 and at most 1"),
        ("T4:0.5", "there is no stage 4, DualFormer has stages 0 to 3"),
        ("T0:0.5,S2:0.74,T0:0.25", "two selections of one kind at one stage: T0:0.5, T0:0.25"),
    ],
)
def test_what_is_not_the_notation_is_refused(text: str, words: str) -> None:
    with pytest.raises(SelectionError) as error:
        parse_selections(text)
    assert words in str(error.value)
    assert error.value.fix


@pytest.mark.parametrize(
    ("text", "words", "neighbours"),
    [
        ("S2:0.73", "a region of 11 x 11 cannot be halved", ("S2:0.61 (10 x 10)", "S2:0.74 (12 x 12)")),
        ("S0:0.3", "a region of 15 x 15 cannot be halved", ("S0:0.19 (24 x 24)", "S0:0.33 (32 x 32)")),
        ("T0:0.5,S1:0.03", "stage 1 gets regions of 4 x 4, a coarse key is made of 7 x 7", ("S1:0.09 (8 x 8)",)),
        ("S3:0.01", "no position of 7 x 7 would be kept", ("S3:0.03 (1 x 1)",)),
        ("T0:0.2", "stage 0 gets 3 of 16 frames, a coarse key is made of 4", ("T0:0.25 (4 of 16 frames)",)),
        ("T3:0.05", "fewer than one of 16 frames would be kept", ("T3:0.07 (1 of 16 frames)",)),
        ("T0:0.5,T1:0.4", "stage 1 gets 3 of 16 frames, a coarse key", ("T1:0.5 (4 of 8 frames)",)),
    ],
)
def test_what_cannot_work_is_refused_with_the_nearest_ratios_that_do(
    text: str, words: str, neighbours: tuple[str, ...]
) -> None:
    with pytest.raises(SelectionError) as error:
        select(text)
    assert words in str(error.value)
    assert error.value.fix == f"ratios that work: {' or '.join(neighbours)}"
    for neighbour in neighbours:
        ratio = neighbour.split()[0]
        select(",".join([*text.split(",")[:-1], ratio]))


def test_windows_are_the_largest_that_divide_the_grid() -> None:
    assert [local_window(grid) for grid in ((16, 56, 56), (12, 10, 10), (9, 40, 40), (4, 6, 6), (11, 5, 5))] == [
        (8, 7, 7),
        (6, 5, 5),
        (3, 5, 5),
        (4, 6, 6),
        (1, 5, 5),
    ]


def test_tokens_that_no_key_is_made_of_are_reported() -> None:
    assert describe_uncovered(32, parse_selections("T0:0.5,S2:0.74")) == ()
    lines = describe_uncovered(32, parse_selections("T0:0.6,S0:0.52"))
    assert "stage 0: 1 of 9 frames have no part in the fine keys" in lines
    assert "stage 0: 12 of 40 rows and columns have no part in the coarse keys" in lines
