"""The network computes what the authors' code computes, and counts what they published."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from dualexport.core.choices import ModelSize
from dualexport.exporter.dualformer.network import CONFIGS, DualFormer, count_macs
from dualexport.exporter.folding.fold import fold
from golden import recipe

PUBLISHED = {ModelSize.T: (21.8e6, 240e9), ModelSize.S: (48.9e6, 636e9), ModelSize.B: (86.8e6, 1072e9)}


def golden_network(size: ModelSize) -> tuple[DualFormer, dict[str, np.ndarray]]:
    expected = dict(np.load(GOLDEN / f"dualformer_{size.value}.npz"))
    shapes = json.loads((GOLDEN / f"dualformer_{size.value}_shapes.json").read_text())
    state = recipe.state_dict(int(expected["weight_seed"]), shapes)
    with torch.device("meta"):
        network = DualFormer(CONFIGS[size])
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, assign=True)
    return network.eval(), expected


@pytest.mark.slow
@pytest.mark.parametrize("size", PUBLISHED)
def test_plain_and_folded_agree_with_the_authors_code(size: ModelSize) -> None:
    network, expected = golden_network(size)
    outputs: dict[str, np.ndarray] = {}
    for stage, blocks in enumerate(network.backbone.blocks):
        for index, block in enumerate(blocks.children()):

            def keep(
                _module: object, _inputs: object, output: torch.Tensor, key: str = f"block{stage}_{index}"
            ) -> None:
                outputs[key] = output.permute(0, 4, 1, 2, 3).numpy()  # (1, channels, frames, height, width)

            if f"block{stage}_{index}_mean" in expected:
                block.register_forward_hook(keep)

    clip = torch.from_numpy(recipe.clip(int(expected["clip_seed"])))
    with torch.inference_mode():
        logits = network(clip).numpy()
        folded_logits = fold(network)(clip).numpy()

    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=2e-4)
    np.testing.assert_allclose(folded_logits, logits, rtol=0, atol=1e-4)
    for key, output in outputs.items():
        np.testing.assert_allclose(output.mean((0, 2, 3, 4)), expected[f"{key}_mean"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(output.std((0, 2, 3, 4), ddof=1), expected[f"{key}_std"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(output[0, :8, :4, :4, :4], expected[f"{key}_corner"], rtol=0, atol=1e-4)
    assert len(outputs) == sum(key.endswith("_mean") for key in expected)


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameter_names_and_shapes_are_the_published_ones(size: ModelSize) -> None:
    shapes = json.loads((GOLDEN / f"dualformer_{size.value}_shapes.json").read_text())
    with torch.device("meta"):
        network = DualFormer(CONFIGS[size])
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == shapes


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(size: ModelSize) -> None:
    parameters, macs_of_four_views = PUBLISHED[size]
    with torch.device("meta"):
        backbone = DualFormer(CONFIGS[size]).backbone
    assert sum(one.numel() for one in backbone.parameters()) == pytest.approx(parameters, rel=0.01)
    assert 4 * count_macs(CONFIGS[size]) == pytest.approx(macs_of_four_views, rel=0.01)


@pytest.mark.slow
def test_clips_of_a_batch_do_not_influence_each_other(nano: DualFormer) -> None:
    clips = torch.from_numpy(recipe.clip(7, (2, *nano.config.clip_shape)))
    with torch.inference_mode():
        together = nano(clips)
        alone = torch.cat([nano(clips[:1]), nano(clips[1:])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_number_of_classes_is_free(nano: DualFormer) -> None:
    network = DualFormer(replace(nano.config, classes=7)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, *nano.config.clip_shape)).shape == (1, 7)
