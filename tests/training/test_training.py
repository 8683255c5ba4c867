"""The training of the demo model relies on faster convolutions that are the same, and on honest augmentation."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dualexport.clips.scenes import ACTIONS
from dualexport.exporter.checkpoint import build_network, read_checkpoint
from dualexport.exporter.dualformer.fast_convolution import speed_up
from dualexport.exporter.dualformer.network import Block, DualFormer, PatchEmbed
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

from augment import augment
from motion_energy import init_network
from train import save_weights
from training_head import TrainingHead

HALF_TOLERANCE = 0.02  # of the largest logit: the weights are stored in half precision
HEADINGS = {"moving left": (0, -1), "moving right": (0, 1), "moving up": (-1, 0), "moving down": (1, 0)}


def test_the_folded_head_computes_what_the_trained_one_does() -> None:
    torch.manual_seed(0)
    head = TrainingHead(8, 3)
    nn.init.normal_(head.fc_cls.weight)
    features = 3 + 0.2 * torch.randn(16, 8)
    for _ in range(50):
        head(features)
    head.eval()
    assert (head(features) - head.folded()(features)).abs().max() < 1e-4


def test_trained_weights_are_a_checkpoint_that_computes_the_same(nano: DualFormer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = speed_up(init_network(DualFormer(replace(nano.config, classes=len(ACTIONS))))).eval()
    head = TrainingHead(nano.config.widths[-1], len(ACTIONS)).eval()
    nn.init.normal_(head.fc_cls.weight, std=0.1)
    trained.cls_head = head
    clip = torch.randn(1, *nano.config.clip_shape)
    with torch.no_grad():
        logits = trained(clip)
        save_weights(trained, tmp_path / "trained.safetensors")
        read = build_network(read_checkpoint(tmp_path / "trained.safetensors"))
        assert read.config.classes == len(ACTIONS)
        assert (read(clip) - logits).abs().max() < HALF_TOLERANCE * logits.abs().max()


@pytest.mark.parametrize("action", HEADINGS)
def test_an_augmented_clip_moves_as_its_label_says(action: str) -> None:
    clip = np.zeros((8, 32, 32, 3), np.uint8)
    for frame, picture in enumerate(clip):
        row, column = (14 + (frame - 4) * step for step in HEADINGS[action])
        picture[row : row + 4, column : column + 4] = 255
    seen = set()
    for seed in range(40):
        changed, label = augment(clip, ACTIONS.index(action), np.random.default_rng(seed))
        first, last = (np.argwhere(changed[frame, ..., 0]).mean(axis=0) for frame in (0, -1))
        assert tuple(np.sign(last - first)) == HEADINGS[ACTIONS[label]]
        seen.add(ACTIONS[label])
    assert seen == set(HEADINGS)


@pytest.mark.parametrize("action", ["shaking", "blinking", "background drifting", "standing still"])
def test_actions_without_a_direction_keep_their_label(action: str) -> None:
    clip = np.zeros((4, 8, 8, 3), np.uint8)
    labels = {augment(clip, ACTIONS.index(action), np.random.default_rng(seed))[1] for seed in range(20)}
    assert labels == {ACTIONS.index(action)}


def test_the_start_tells_left_from_right_before_any_training(nano: DualFormer) -> None:
    torch.manual_seed(0)
    network = init_network(DualFormer(nano.config))
    embed = next(module for module in network.modules() if isinstance(module, PatchEmbed))
    block = next(module for module in network.modules() if isinstance(module, Block))
    columns = torch.arange(32.0)
    frames = [torch.cos(1.2 * (columns - step)).expand(32, 32) for step in range(16)]
    right = torch.stack(frames).expand(1, 3, 16, 32, 32)
    energies = []
    with torch.no_grad():
        for clip in (right, right.flip(4)):
            x = embed(clip.permute(0, 2, 3, 4, 1))
            x = x + block.mlp(block.norm2(x))
            energies.append(x.mean(dim=(0, 1, 2, 3)))
    eastward, westward = (slice(4 * heading, 4 * heading + 4, 2) for heading in (0, 4))
    for energy, ahead, back in ((energies[0], eastward, westward), (energies[1], westward, eastward)):
        assert energy[ahead].sum() > energy[back].sum() + 1
