"""The choice of layers by estimates: it falls to the least one, and says what each group of layers is worth."""

from __future__ import annotations

import numpy as np
import pytest
from dualexport.calibration.linear_layers import LinearLayer
from dualexport.calibration.placement import StageTimes, free_layers, group_layers, search_placement
from dualexport.core.errors import QuantizationError
from hypothesis import given
from hypothesis import strategies as st

WEIGHT = np.ones((8, 8), np.float32)
KINDS = {0: ("attn.qkv",), 1: ("attn.kv", "attn.q"), 2: ("attn.kv", "attn.q")}  # of a block; local attention first
BESIDE_CONVOLUTIONS = (2, "attn.q")
STAGES = 3
LEAST_GAIN = 1e-3


def make_layers() -> tuple[LinearLayer, ...]:
    return tuple(
        LinearLayer(
            f"blocks.{stage}.{block}.{kind}",
            *("node", "x", WEIGHT),
            parts={"qkv": 3, "kv": 2}.get(kind[5:], 1),
            shares_input=(block, kind) == BESIDE_CONVOLUTIONS,
        )
        for stage in range(STAGES)
        for block, first in KINDS.items()
        for kind in (*first, "attn.proj", "mlp.fc1", "mlp.fc2")
    )


LAYERS = make_layers()
GROUPS = group_layers(LAYERS)


class Estimates:
    """Every group in 8 bits saves so much; two kinds of a stage together save `bonus` besides."""

    def __init__(self, saved: dict[str, float], bonus: float = 0.0) -> None:
        self.saved, self.bonus = saved, bonus
        self.asked: list[frozenset[str]] = []

    def __call__(self, chosen: frozenset[str]) -> StageTimes:
        self.asked.append(chosen)
        times = {**{str(stage): 20.0 for stage in range(STAGES)}, "": 1.0}
        for group in GROUPS:
            times[group.stage] -= self.saved[group.name] if group.layers <= chosen else 0.0
        for stage in map(str, range(STAGES)):
            kinds = {group.kind for group in GROUPS if group.stage == stage and group.layers <= chosen}
            times[stage] -= self.bonus if {"q", "proj"} <= kinds else 0.0
        return times


def test_groups_hold_every_layer_once_and_both_layers_of_an_mlp() -> None:
    assert sorted(name for group in GROUPS for name in group.layers) == sorted(layer.name for layer in LAYERS)
    (mlps,) = (group.layers for group in GROUPS if "blocks.1.2.mlp.fc1" in group.layers)
    assert mlps == {f"blocks.1.{block}.mlp.{kind}" for block in KINDS for kind in ("fc1", "fc2")}


def test_what_is_free_is_what_attention_reads_and_no_convolution_beside_it() -> None:
    free = {name for name in free_layers(LAYERS) if name.startswith("blocks.1.")}
    assert free == {f"blocks.1.{name}" for name in ("0.attn.qkv", "1.attn.kv", "1.attn.q", "2.attn.kv")}


def test_the_search_finds_what_pays_in_few_plans_and_tells_what_each_group_saves() -> None:
    saved = {group.name: (1.0 if group.stage == "1" else -0.5) for group in GROUPS}
    estimates = Estimates(saved)
    placement = search_placement(LAYERS, estimates, LEAST_GAIN)
    assert placement.layers == {layer.name for layer in LAYERS if layer.name.startswith("blocks.1.")}
    assert (placement.rest_ms, placement.placed_ms) == (61.0, 55.0)
    assert {gain.group: gain.saved_ms for gain in placement.gains} == pytest.approx(saved)
    assert all(gain.chosen == (gain.saved_ms > 0) for gain in placement.gains)
    assert len(estimates.asked) == len(set(estimates.asked)) <= 12


@given(st.lists(st.floats(-1.0, 1.0), min_size=len(GROUPS), max_size=len(GROUPS)), st.floats(-0.5, 0.5))
def test_no_change_of_a_group_lowers_the_estimate_of_what_was_chosen(savings: list[float], bonus: float) -> None:
    estimates = Estimates(dict(zip((group.name for group in GROUPS), savings, strict=True)), bonus)

    def total(chosen: frozenset[str]) -> float:
        return sum(estimates(chosen).values())

    price = LEAST_GAIN * total(frozenset())  # a group's
    try:
        placement = search_placement(LAYERS, estimates, LEAST_GAIN)
    except QuantizationError:
        assert all(total(group.layers) >= total(frozenset()) - price - 1e-9 for group in GROUPS)
        return
    chosen = placement.layers
    assert placement.placed_ms == pytest.approx(total(chosen))
    assert total(chosen) < total(frozenset()) - price * sum(group.layers <= chosen for group in GROUPS)
    for group in GROUPS:
        other, least = total(chosen ^ group.layers), -price if group.layers <= chosen else price
        assert total(chosen) <= other + least + 1e-9


def test_what_saves_next_to_nothing_is_not_worth_its_rounding() -> None:
    saved = {group.name: (0.06 if group.kind == "qkv" else 0.0605 if group.kind == "kv" else -1.0) for group in GROUPS}
    placement = search_placement(LAYERS, Estimates(saved), least_gain=0.0605 / 61.0 - 1e-6)
    assert {name.rpartition(".")[2] for name in placement.layers} == {"kv"}
    assert {gain.chosen for gain in placement.gains if "qkv" in gain.group} == {False}
    with pytest.raises(QuantizationError, match="no linear layer is worth 8 bits"):
        search_placement(LAYERS, Estimates(saved), least_gain=0.002)


def test_where_nothing_pays_there_is_no_choice() -> None:
    with pytest.raises(QuantizationError, match=r"no linear layer is worth 8 bits there: 61\.000 ms"):
        search_placement(LAYERS, Estimates({group.name: -0.1 for group in GROUPS}), LEAST_GAIN)
