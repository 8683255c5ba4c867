"""From what the user named, or what a manifest recorded, to the reference network."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..core.choices import ModelSize
from ..core.errors import CheckpointError, ManifestError
from ..core.files import hash_file
from ..core.manifest import Manifest
from ..core.selection import Selection
from ..core.types import Weights
from .checkpoint import build_network, build_random_network, read_checkpoint
from .checkpoint_file import CHECKPOINT
from .demo_model import find_demo_weights
from .dualformer.architecture import DualFormerConfig
from .dualformer.network import DualFormer


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network, where its weights came from, the names that its checkpoint holds beyond it, and its classes."""

    module: DualFormer
    weights: Weights
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def load_network(
    size: ModelSize | None,
    checkpoint: Path | None,
    seed: int,
    selections: tuple[Selection, ...] = (),
    untrained_selector: bool = False,
) -> LoadedNetwork:
    """The network of a checkpoint.

    Without a checkpoint the weights are random, of `seed` and `size`; with an untrained selector, which a checkpoint
    without selectors needs where tokens are selected, only the selectors are. Raises CheckpointError, and
    SelectionError for selections that the network's grids cannot take.
    """
    if checkpoint is not None:
        selector_seed = seed if untrained_selector else None
        read = read_checkpoint(checkpoint, size, selections, selector_seed)
        weights = Weights(checkpoint=checkpoint.absolute(), sha256=read.sha256, selector_seed=selector_seed)
        return LoadedNetwork(build_network(read), weights, read.ignored, read.labels)
    if size is None:
        raise CheckpointError("neither a checkpoint nor a size was given", fix="pass --checkpoint or --model")
    return LoadedNetwork(build_random_network(size, seed, selections), Weights(seed=seed))


def load_demo(seed: int, selections: tuple[Selection, ...] = (), untrained_selector: bool = False) -> LoadedNetwork:
    """The trained network that comes with dualexport.

    Raises CheckpointError for selections that it was not trained with, unless the selectors are to be random.
    """
    path = find_demo_weights(selections, untrained_selector)
    found = load_network(None, path, seed, selections, untrained_selector)
    return replace(found, weights=replace(found.weights, demo=True))


def find_checkpoint(manifest: Manifest, checkpoint: Path | None = None) -> Path | None:
    """The file that the artifacts were made from, None for random weights; `checkpoint` is where it lies by now.

    Raises ManifestError when it is gone or is another file.
    """
    weights = manifest.weights
    if weights.seed is not None:
        if checkpoint is not None:
            raise ManifestError(
                f"{manifest.path} was made from random weights (seed {weights.seed}), not from {checkpoint.name}",
                fix="leave --checkpoint out, or export the checkpoint with `dualexport onnx --checkpoint`",
            )
        return None
    known = weights.checkpoint
    if weights.demo:
        known = find_demo_weights(manifest.selections, weights.selector_seed is not None)
    path = checkpoint or known
    if path is None or not os.path.lexists(path):
        raise ManifestError(f"{path}: the checkpoint is not there any more", fix="say where it is with --checkpoint")
    found = hash_file(CHECKPOINT.require(path))
    if found != weights.sha256:
        raise ManifestError(
            f"{path.name} is not the checkpoint that was exported: SHA-256 {found[:12]}, the manifest says "
            f"{str(weights.sha256)[:12]}",
            fix="give the exported checkpoint with --checkpoint, or export again",
        )
    return path


def restore_network(manifest: Manifest, checkpoint: Path | None = None) -> DualFormer:
    """The network that the manifest's artifacts were made from; raises as `find_checkpoint` does."""
    clip = manifest.preprocessing
    network = use_on_clips(restore_whole(manifest, checkpoint), clip.frames, clip.stride)
    _require_listed(network.config, manifest)
    return network


def restore_whole(manifest: Manifest, checkpoint: Path | None = None) -> DualFormer:
    """The same network on the clips that it was trained on; raises as `find_checkpoint` does."""
    path = find_checkpoint(manifest, checkpoint)
    if path is None:
        return build_random_network(manifest.size, manifest.weights.seed or 0, manifest.selections)
    return build_network(read_checkpoint(path, manifest.size, manifest.selections, manifest.weights.selector_seed))


def _require_listed(config: DualFormerConfig, manifest: Manifest) -> None:
    """Raise ManifestError where the manifest is of other clips or classes than its network."""
    taken, listed = config.preprocessing, manifest.preprocessing
    if (taken.frames, taken.size, config.classes) != (listed.frames, listed.size, manifest.classes):
        raise ManifestError(
            f"{manifest.path} lists clips of {listed.frames} frames of {listed.size}x{listed.size} and "
            f"{manifest.classes} classes, its network takes {taken.frames} of {taken.size}x{taken.size} and gives "
            f"{config.classes}",
            fix="export again with `dualexport onnx`",
        )


def use_on_clips(network: DualFormer, frames: int | None, stride: int | None) -> DualFormer:
    """The same parameters for clips of another number of frames, and another stride between them; None for its own.

    Without a stride a clip of fewer frames spans as much time as one of all. Raises OptionError and SelectionError
    for a number of frames that the network cannot work on.
    """
    config = network.config
    frames = config.frames if frames is None else frames
    if stride is None:
        stride = max(1, round(config.stride * config.frames / frames))
    if (frames, stride) == (config.frames, config.stride):
        return network
    trained = config.trained_frames or config.frames
    with torch.device("meta"):
        made = DualFormer(replace(config, frames=frames, stride=stride, trained_frames=trained))
    made.load_state_dict(network.state_dict(), strict=True, assign=True)
    return made.eval().requires_grad_(False)
