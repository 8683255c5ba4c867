"""The generated data set: the same on every machine, balanced, and told apart by time alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dualexport.clips.scenes import ACTIONS, DIRECTIONS, SCENE_FRAMES, Scene, make_scene, render_scene

OPPOSITES = (
    ("moving left", "moving right"),
    ("moving up", "moving down"),
    ("approaching", "receding"),
    ("turning clockwise", "turning counter-clockwise"),
)


def make_clean(action: str, **changes: Any) -> Scene:
    """A scene without noise or flicker whose action fills the whole time."""
    scene = make_scene(3, ACTIONS.index(action))
    motion = replace(scene.motion, start=0.0, end=SCENE_FRAMES - 1.0, **changes)
    return replace(scene, motion=motion, noise=0.0, flicker=(0.0, 0.0, 0.0))


def test_a_scene_is_that_of_its_seed_and_index() -> None:
    clips = {place: render_scene(make_scene(*place), range(0, 32, 8)) for place in ((0, 1), (0, 13), (1, 1))}
    assert clips[0, 1].shape == (4, 224, 224, 3)
    assert np.array_equal(clips[0, 1], render_scene(make_scene(0, 1), range(0, 32, 8)))
    assert not np.array_equal(clips[0, 1], clips[0, 13])
    assert not np.array_equal(clips[0, 1], clips[1, 1])


def test_a_frame_does_not_depend_on_which_others_are_rendered() -> None:
    scene = make_scene(2, 4)
    assert np.array_equal(render_scene(scene, (3, 20)), render_scene(scene)[[3, 20]])


def test_any_twelve_in_a_row_show_each_action_once() -> None:
    assert len(set(ACTIONS)) == 12
    assert {make_scene(0, index).action for index in range(5, 17)} == set(ACTIONS)


@pytest.mark.parametrize(("one", "other"), OPPOSITES)
def test_opposite_actions_are_the_same_frames_in_reverse_order(one: str, other: str) -> None:
    scene = make_clean(one)
    motion = replace(
        scene.motion,
        action=other,
        direction=DIRECTIONS.get(other, scene.motion.direction),
        growth=1 / scene.motion.growth,
        turn=-scene.motion.turn,
    )
    frames, reverse = render_scene(scene), render_scene(replace(scene, motion=motion))[::-1]
    assert np.abs(frames.astype(int) - reverse).max() <= 1  # of 255, from rounding
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50


def test_every_frame_of_a_blinking_object_is_one_of_an_object_that_stands_still() -> None:
    scene = make_clean("blinking")
    still = replace(scene, motion=replace(scene.motion, action="standing still"))
    looks = [render_scene(replace(still, sprites=sprites), (0,))[0] for sprites in (scene.sprites, scene.sprites[::-1])]
    shown = [[np.array_equal(frame, look) for look in looks] for frame in render_scene(scene)]
    assert all(any(matches) for matches in shown)
    assert all(any(matches) for matches in zip(*shown, strict=True))


def test_nothing_but_the_background_drifts() -> None:
    scene = make_clean("background drifting")
    scene = replace(scene, distractors=())
    first, last = render_scene(scene, (0, SCENE_FRAMES - 1)).astype(int)
    middle = (round(112 + scene.pose.y), round(112 + scene.pose.x))
    assert np.array_equal(first[middle], last[middle])
    assert np.abs(first - last).mean() > 10


def test_in_a_good_part_of_the_clips_the_action_takes_only_a_part_of_the_time() -> None:
    motions = [make_scene(0, index).motion for index in range(60)]
    partial = [motion for motion in motions if motion.end - motion.start < SCENE_FRAMES - 1]
    assert 0.2 < len(partial) / len(motions) < 0.6
    motion = next(motion for motion in partial if motion.start > 1)
    assert motion.progress(0) == motion.progress(motion.start) == pytest.approx(-motion.progress(motion.end))
