"""The network of a checkpoint: its size, classes and selectors follow from the tensors, which have to fit it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.choices import ModelSize
from ..core.errors import CheckpointError
from ..core.files import hash_file
from ..core.selection import Selection, SelectionKind
from .checkpoint_file import read_tensors
from .distilled import DistilledRecord, choose_selections, read_record
from .dualformer.architecture import CONFIGS, DualFormerConfig
from .dualformer.network import DualFormer

FIRST_WEIGHT = "backbone.patch_embeds.0.proj.weight"
HEAD_WEIGHT = "cls_head.fc_cls.weight"
SELECTOR = re.compile(r"backbone\.(time|space)_score_predictor\.\d+\.")
MAX_CLASSES = 100_000
LISTED = 3  # parameters named per kind of mismatch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trained parameters, in float32, and the network they belong to.

    `ignored` names what the file holds that inference does not need; `labels` are the classes where it names them.
    """

    path: Path
    sha256: str
    config: DualFormerConfig
    state: Mapping[str, Tensor]
    ignored: tuple[str, ...]
    labels: tuple[str, ...] = ()


def read_checkpoint(
    path: Path,
    expected: ModelSize | None = None,
    selections: tuple[Selection, ...] = (),
    untrained_seed: int | None = None,
) -> Checkpoint:
    """Read and check a checkpoint; its size and number of classes follow from its shapes, its `selections` do not.

    A distilled one says itself which selections and clips it is for; `selections` may be left out then.
    With `untrained_seed` the selectors are random, of that seed. Raises CheckpointError for a file that is missing,
    unreadable, needs code to be unpickled, is another network, or is not the `expected` size, and when it holds
    selectors that `selections` do not place, or none where they need some; SelectionError for what cannot work.
    """
    tensors, ignored = read_tensors(path)
    config = _infer_config(path, tensors)
    if expected is not None and config.size != expected:
        raise CheckpointError(
            f"{path.name} is a DualFormer-{config.size.value}, --model says {expected.value}",
            fix=f"use --model {config.size.value}, or leave --model out",
        )
    record = read_record(path)
    config = _place_student(config, record, choose_selections(path, record, selections))
    _check_selectors(path, tensors, config, untrained_seed)
    if untrained_seed is not None:
        tensors.update(draw_selectors(config, untrained_seed))
    _check_fit(path, tensors, config)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return Checkpoint(path, hash_file(path), config, state, ignored, record.labels if record else ())


def _place_student(
    config: DualFormerConfig, record: DistilledRecord | None, selections: tuple[Selection, ...]
) -> DualFormerConfig:
    """The configuration with the selections, on the clips that a distilled checkpoint is for."""
    if record is None or (record.frames, record.stride) == (config.frames, config.stride):
        return replace(config, selections=selections)
    return replace(
        config, selections=selections, frames=record.frames, stride=record.stride, trained_frames=config.frames
    )


def build_network(checkpoint: Checkpoint) -> DualFormer:
    """The checkpoint's network, ready for inference; shares the checkpoint's memory."""
    with torch.device("meta"):
        network = DualFormer(checkpoint.config)
    network.load_state_dict(dict(checkpoint.state), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def build_random_network(size: ModelSize, seed: int, selections: tuple[Selection, ...] = ()) -> DualFormer:
    """A network of that size with seeded random weights, scaled so that activations and logits are of order one.

    The weights outside of the selectors are the same with and without `selections`.
    """
    network = DualFormer(replace(CONFIGS[size], selections=selections)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if not SELECTOR.match(name):
            _draw(name, parameter, generator)
    network.load_state_dict(draw_selectors(network.config, seed), strict=False)
    return network


def draw_selectors(config: DualFormerConfig, seed: int) -> dict[str, Tensor]:
    """Seeded random parameters for the selectors of a network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in DualFormer(config).named_parameters() if SELECTOR.match(name)}
    return {name: _draw(name, torch.empty(shape), generator) for name, shape in shapes.items()}


def _draw(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Fill the parameter: matrices keep the spread of what they multiply, gains are about 1, biases about 0."""
    if parameter.ndim > 1:
        return parameter.normal_(std=1 / math.sqrt(math.prod(parameter.shape[1:])), generator=generator)
    return parameter.normal_(mean=1.0 if name.endswith("weight") else 0.0, std=0.1, generator=generator)


def _infer_config(path: Path, tensors: Mapping[str, Tensor]) -> DualFormerConfig:
    first = tensors.get(FIRST_WEIGHT)
    if first is None or first.ndim != 5:
        names = ", ".join(list(tensors)[:LISTED]) or "none"
        raise CheckpointError(
            f"{path.name} is not a DualFormer: no {FIRST_WEIGHT} among its {len(tensors)} tensors (first: {names})",
            fix="give a checkpoint in the published format: names starting with backbone. and cls_head.",
        )
    width = first.shape[0]
    config = next((config for config in CONFIGS.values() if config.widths[0] == width), None)
    if config is None:
        known = ", ".join(f"{config.size.value}: {config.widths[0]}" for config in CONFIGS.values())
        raise CheckpointError(
            f"{path.name} is a DualFormer of first width {width}; the known sizes have {known}",
            fix="only the published sizes and n can be exported",
        )
    head = tensors.get(HEAD_WEIGHT)
    if head is None or head.ndim != 2:
        return config
    if not 1 <= head.shape[0] <= MAX_CLASSES:
        raise CheckpointError(
            f"{path.name} has {head.shape[0]} classes, 1 to {MAX_CLASSES} are read",
            fix="give the checkpoint of a trained network",
        )
    return replace(config, classes=head.shape[0])


def _check_selectors(
    path: Path, tensors: Mapping[str, Tensor], config: DualFormerConfig, untrained_seed: int | None
) -> None:
    """Refuse a checkpoint whose selectors and the selections asked for do not go together."""
    held = any(SELECTOR.match(name) for name in tensors)
    if held and not config.selections:
        raise CheckpointError(
            f"{path.name} was trained with token selection, and does not say which ratios",
            fix=f"pass them as they were in training: --stts {_place_selectors(tensors, config)}",
        )
    if held and untrained_seed is not None:
        raise CheckpointError(f"{path.name} holds trained selectors", fix="leave --untrained-selector out")
    if config.selections and not held and untrained_seed is None:
        raise CheckpointError(
            f"{path.name} holds no selector for {', '.join(map(str, config.selections))}",
            fix="make them with `dualexport distill`, or pass --untrained-selector for random ones, to measure speed",
        )


def _place_selectors(tensors: Mapping[str, Tensor], config: DualFormerConfig) -> str:
    """The selections that a checkpoint has selectors for, as far as their widths tell: `T0:RATIO,S2:RATIO`."""
    kinds = (("time", SelectionKind.TIME, 2), ("space", SelectionKind.SPACE, 1))  # widths, as multiples of the stage's
    found = [
        f"{kind.value}{stage}:RATIO"
        for name, kind, multiple in kinds
        for key, value in tensors.items()
        if re.fullmatch(rf"backbone\.{name}_score_predictor\.\d+\.score_network\.in_conv\.0\.weight", key)
        for stage, width in enumerate(config.widths)
        if value.shape == (multiple * width,)
    ]
    return ",".join(found) or "T0:RATIO"


def _check_fit(path: Path, tensors: Mapping[str, Tensor], config: DualFormerConfig) -> None:
    with torch.device("meta"):
        expected = DualFormer(config).state_dict()
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name}: got {tuple(tensors[name].shape)}, expected {tuple(shape)}"
        for name, shape in ((name, value.shape) for name, value in expected.items())
        if name in tensors and tensors[name].shape != shape
    ]
    mistyped = [
        f"{name}: got {tensors[name].dtype}"
        for name, value in expected.items()
        if name in tensors and tensors[name].is_floating_point() != value.is_floating_point()
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "mistyped": mistyped}
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''})"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path.name} does not fit DualFormer-{config.size.value}: {'; '.join(problems)}",
            fix="give the whole recognizer's state_dict (backbone and cls_head), as it was trained",
        )
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{path.name} holds NaN or infinity in {len(broken)} parameters ({', '.join(broken[:LISTED])})",
            fix="give a checkpoint from before the training diverged",
        )
