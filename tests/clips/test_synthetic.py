"""The data set as files: videos and a list that a clip source reads, with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import NANO_CLIP
from dualexport.clips import scenes, synthetic
from dualexport.clips.scenes import ACTIONS, Scene
from dualexport.clips.source import ClipSource
from dualexport.clips.synthetic import generated_clips, write_dataset
from dualexport.core.errors import OutputError

CODEC_LOSS = 4.0  # of 255, mean over a clip


def test_written_videos_are_the_scenes_up_to_codec_loss(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "videos", 3, seed=5)
    assert dataset.clips_by_action == dict.fromkeys(ACTIONS[:3], 1)
    clips = list(ClipSource(dataset.labels, NANO_CLIP))
    assert [clip.name for clip in clips] == [video.name for video in dataset.videos]
    for clip, scene in zip(clips, generated_clips(3, NANO_CLIP, seed=5), strict=True):
        assert clip.label == scene.label
        assert clip.frame_indices == scene.frame_indices
        assert np.abs(clip.data.astype(int) - scene.data).mean() < CODEC_LOSS


def test_a_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = scenes.render_scene

    def fail_at_the_second(scene: Scene) -> np.ndarray:
        if scene.action == ACTIONS[1]:
            raise OutputError("no space", fix="make room")
        return rendered(scene)

    monkeypatch.setattr(synthetic, "render_scene", fail_at_the_second)
    with pytest.raises(OutputError):
        write_dataset(tmp_path / "videos", 3, seed=0)
    assert not list(tmp_path.iterdir())
