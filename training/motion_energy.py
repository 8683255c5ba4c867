"""A start for training in which the first block measures motion energy and the rest hands it on.

Sources: Adelson and Bergen, "Spatiotemporal energy models for the perception of motion" (1985): waves in two phases,
rectified and summed, respond to one direction of motion whatever the pattern is. From purely random weights the
network sees colours and places first, and takes many thousand clips to find motion.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from dualexport.exporter.dualformer.network import Block, DualFormer, Mlp, PatchEmbed
from torch import nn

HEADINGS = 8
WAVELENGTHS = (4.0, 6.0)  # pixels
PHASES = (0.0, math.pi / 2)
TIME_SHIFT = math.pi / 2  # of a wave's phase from one frame to the next
WAVE_GAIN = 0.15
RECTIFIER_GAIN = 2.0
ENERGY_GAIN = 0.75
QUIET = 0.05  # what everything else starts at, of its random values


@torch.no_grad()
def init_network(network: DualFormer) -> DualFormer:
    """Set the start in place: 32 waves in the first layer and their energies in 16 channels."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    first, *others = (module for module in network.modules() if isinstance(module, PatchEmbed))
    quiet = (output for block in blocks for output in (block.attn.proj, block.mlp.fc2))
    for module in (*quiet, network.backbone.pos_block):
        for parameter in module.parameters():
            parameter.mul_(QUIET)
    _set_waves(first.proj)
    _set_rectifiers(blocks[0].mlp)
    for embed in others:
        _set_averaging(embed.proj)
    return network


def _set_waves(first: nn.Conv3d) -> None:
    """Grey waves over a patch of 2 frames x 4 x 4 pixels, without response to an even area."""
    rows, columns = torch.meshgrid(torch.arange(4) - 1.5, torch.arange(4) - 1.5, indexing="ij")
    for number, (heading, length, phase) in enumerate(product(range(HEADINGS), WAVELENGTHS, PHASES)):
        angle = heading * math.tau / HEADINGS
        place = math.tau / length * (math.cos(angle) * columns + math.sin(angle) * rows) + phase
        wave = torch.stack([torch.cos(place - TIME_SHIFT * time) for time in (-0.5, 0.5)])
        first.weight[number] = WAVE_GAIN * (wave - wave.mean(dim=(1, 2), keepdim=True))
    assert first.bias is not None
    first.bias.zero_()


def _set_rectifiers(mlp: Mlp) -> None:
    """Hidden units: each channel and its negative; output: a pair's rectified responses, summed, in one channel."""
    channels = mlp.fc1.in_features
    for channel in range(channels):
        for unit, sign in ((channel, 1.0), (channels + channel, -1.0)):
            mlp.fc1.weight[unit] = 0
            mlp.fc1.weight[unit, channel] = sign * RECTIFIER_GAIN
            mlp.fc1.bias[unit] = 0
            mlp.fc2.weight[:, unit] = 0
            mlp.fc2.weight[channel // 2 * 2, unit] = ENERGY_GAIN
    mlp.fc2.bias.zero_()


def _set_averaging(embed: nn.Conv3d) -> None:
    """The first half of the outputs: the inputs, averaged over the patch.

    Two constant outputs outweigh them, so that the LayerNorm that follows divides every token by about the same.
    """
    assert embed.bias is not None
    size = math.prod(embed.kernel_size)
    for channel in range(embed.in_channels):
        embed.weight[channel] = 0
        embed.weight[channel, channel] = 1 / size
        embed.bias[channel] = 0
    embed.weight[embed.in_channels :] *= QUIET
    embed.bias[embed.in_channels :] *= QUIET
    ballast = math.sqrt(embed.out_channels / 2)
    embed.bias[-2:] = torch.tensor((ballast, -ballast))
