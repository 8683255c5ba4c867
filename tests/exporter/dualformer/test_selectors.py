"""Selectors choose what the authors' code chooses, and choose the same in every runtime."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from dualexport.exporter.dualformer.selectors import (
    SpatialSelector,
    TemporalSelector,
    normalize_scores,
    select_best,
)
from golden import recipe

CASES = json.loads((GOLDEN / "stts.json").read_text())
EXPECTED = np.load(GOLDEN / "stts.npz")


def golden_selector(case: str) -> tuple[TemporalSelector | SpatialSelector, torch.Tensor]:
    """A case's selector, and its tokens (batch, frames, height, width, channels)."""
    seed, sizes = CASES["weight_seed"], CASES["cases"][case]
    batch, frames, height, width, channels = (sizes[name] for name in ("batch", "T", "H", "W", "C"))
    tokens = recipe.parameter(seed, f"{case}.tokens", (batch, frames * height * width, channels))
    selector = (
        TemporalSelector(channels, sizes["k"])
        if sizes["kind"] == "time"
        else SpatialSelector(channels, height, sizes["anchor"])
    )
    state = recipe.state_dict(seed, sizes["shapes"])
    selector.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    return selector.eval(), torch.from_numpy(tokens).reshape(batch, frames, height, width, channels)


@pytest.mark.parametrize("case", CASES["cases"])
def test_agrees_with_the_authors_code(case: str) -> None:
    selector, tokens = golden_selector(case)
    with torch.inference_mode():
        scores = normalize_scores(selector.score(tokens))
        selected = selector(tokens)
    np.testing.assert_allclose(scores, EXPECTED[f"{case}_scores"], rtol=0, atol=5e-5)
    if isinstance(selector, TemporalSelector):
        selected, chosen = selected
    else:
        assert selector.stride == CASES["cases"][case]["stride"]
        chosen = scores.argmax(dim=1, keepdim=True)
    np.testing.assert_array_equal(chosen, EXPECTED[f"{case}_indices"])
    kept = selected.flatten(1, 3)  # (batch, tokens, channels)
    np.testing.assert_allclose(kept.sum(dim=-1), EXPECTED[f"{case}_tokens_sum"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept[:, :5], EXPECTED[f"{case}_tokens_head"])


@pytest.mark.parametrize("case", CASES["cases"])
def test_clips_of_a_batch_are_selected_from_independently(case: str) -> None:
    selector, tokens = golden_selector(case)
    with torch.inference_mode():
        together, alone = selector(tokens), [selector(clip.unsqueeze(0)) for clip in tokens]
    if isinstance(selector, TemporalSelector):
        assert not torch.equal(together[1][0], together[1][1])  # else the test would show nothing
        together, alone = together[0], [tokens for tokens, _ in alone]
    assert torch.equal(together, torch.cat(alone))


def test_the_best_are_kept_in_their_order_and_the_earliest_of_equal_ones() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, 4.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 2.0, 5.0, 2.0]])
    assert select_best(scores, 3).tolist() == [[0, 2, 3], [0, 1, 2], [1, 2, 3]]
    assert select_best(scores, 1).tolist() == [[3], [0], [1]]
    assert select_best(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_scores_that_are_not_numbers_select_no_frame_that_is_not_there() -> None:
    assert select_best(torch.full((1, 4), float("nan")), 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("case", CASES["cases"])
def test_keeping_everything_changes_nothing(case: str) -> None:
    selector, tokens = golden_selector(case)
    if isinstance(selector, TemporalSelector):
        selector.kept = tokens.shape[1]
        assert torch.equal(selector(tokens)[0], tokens)
    else:
        selector.side, selector.stride = tokens.shape[2], 1
        assert torch.equal(selector(tokens), tokens)
