"""Quantization as a caller of the API asks for it, and the choice of the layers that stay unquantized."""

from __future__ import annotations

from pathlib import Path

import pytest
from dualexport.calibration.sensitivity import LayerNoise
from dualexport.core.errors import OptionError, QuantizationError
from dualexport.core.reporter import SILENT
from dualexport.pipeline.clips import Clips
from dualexport.pipeline.quantize import QuantizeOptions, quantize
from dualexport.pipeline.sensitivity import find_fewest_kept

RANKING = tuple(LayerNoise(name, 0.2, 20.0) for name in ("worst", "bad", "fair", "good", "best"))


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        (None, QuantizeOptions(sensitivity=True), "measure on clips"),
        (None, QuantizeOptions(target_agreement=0.9), "measure on clips"),
        (Clips("videos", views=3, max_clips=2), QuantizeOptions(), "2 clips are fewer than the 3 views"),
        (None, QuantizeOptions(base="int8"), "cannot be int8"),
        (None, QuantizeOptions(base="half"), "'half' is no base"),
        (Clips("videos"), QuantizeOptions(method="mean"), "'mean' is no method"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(
    clips: Clips | None, options: QuantizeOptions, message: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        quantize(tmp_path, clips, options)


def test_a_target_on_held_out_videos_needs_enough_of_them(exported: Path, video: Path) -> None:
    with pytest.raises(OptionError, match="holds each 5th video out, and there are 1"):
        quantize(exported, Clips(video), QuantizeOptions(target_agreement=0.9))


def test_the_fewest_of_the_worst_layers_are_kept_beside_those_kept_already() -> None:
    kept = find_fewest_kept(RANKING, frozenset({"bad"}), lambda names: len(names) / 5, 0.6, SILENT)
    assert kept == {"bad", "worst", "fair"}


def test_a_target_that_no_choice_reaches_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"no choice of layers agrees with FP32 on 100\.0%"):
        find_fewest_kept(RANKING, frozenset(), lambda names: len(names) / 10, 1.0, SILENT)
