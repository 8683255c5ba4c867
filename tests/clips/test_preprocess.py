"""Sampling, resizing and normalization are the published test pipeline's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN
from dualexport.clips.preprocess import resize_and_crop, sample_frames
from dualexport.core.types import Preprocessing
from golden import recipe

SAMPLING = json.loads((GOLDEN / "sampling.json").read_text())


@pytest.mark.parametrize("case", SAMPLING, ids=lambda case: f"{case['total_frames']}-{case['num_clips']}")
def test_samples_the_published_frames(case: dict[str, Any]) -> None:
    indices = sample_frames(case["total_frames"], case["clip_len"], case["frame_interval"], case["num_clips"])
    assert [list(view) for view in indices] == case["indices"]


@pytest.mark.parametrize("name", ["land", "big"])  # "port" was cropped from another size than it was resized to
def test_resizes_and_normalizes_as_published(name: str) -> None:
    expected = np.load(GOLDEN / "preprocess.npz")
    seed, count, height, width, size = (int(value) for value in expected[f"{name}_case"])
    frames = np.stack([resize_and_crop(frame, size) for frame in recipe.frames(seed, count, height, width)])
    corner = expected[f"{name}_uint8_corner"].astype(int)
    assert np.abs(frames[:, :16, :16] - corner).max() <= 1
    np.testing.assert_allclose(frames.mean((1, 2)), expected[f"{name}_uint8_mean"], atol=0.05)
    clip = Preprocessing().normalize(frames)
    np.testing.assert_allclose(clip.mean((2, 3)).T, expected[f"{name}_norm_mean"], atol=1e-3)


def test_portrait_videos_are_resized_by_their_width() -> None:
    frame = np.zeros((480, 270, 3), np.uint8)
    frame[128:352, :] = 255  # the middle 224 of 398 rows, once the 270 columns have become 224
    assert resize_and_crop(frame, 224).shape == (224, 224, 3)


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    assert np.array_equal(resize_and_crop(frame, 224), frame)
