"""Checkpoints: the published `.pth` format and `.safetensors`, read without ever running code from the file."""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core.choices import ModelSize
from ..core.errors import CheckpointError, CheckpointNotFoundError, DualExportError
from ..core.files import hash_file
from ..core.reading import FileKind
from ..core.selection import Selection, SelectionKind
from .distilled import DistilledRecord, choose_selections, read_record
from .dualformer.architecture import CONFIGS, DualFormerConfig
from .dualformer.network import DualFormer

FIRST_WEIGHT = "backbone.patch_embeds.0.proj.weight"
HEAD_WEIGHT = "cls_head.fc_cls.weight"
SELECTOR = re.compile(r"backbone\.(time|space)_score_predictor\.\d+\.")
TRAINING_ONLY = re.compile(r"(^|\.)token_linear(\.|$)")
MAX_CLASSES = 100_000
PLAIN_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)  # the latter counts batches
CHECKPOINT = FileKind(
    "a checkpoint",
    CheckpointError,
    "give the path of a .pth or .safetensors checkpoint",
    max_bytes=16 << 30,
    missing=CheckpointNotFoundError,
)
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
    content = _load(CHECKPOINT.require(path))
    tensors, ignored = _select_parameters(content)
    for name, tensor in tensors.items():
        _require_plain(path, name, tensor)
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


def _load(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            _require_unpacked(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except DualExportError:
        raise
    except SafetensorError as error:
        raise _unreadable(path, f"not a safetensors file ({error})") from error
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        raise _unreadable(path, _explain_unpickling(reason)) from error
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except Exception as error:  # PyTorch's reader raises whatever damaged bytes lead it to
        raise _unreadable(path, "not a PyTorch checkpoint") from error
    if not isinstance(content, Mapping):
        raise _unreadable(path, f"holds a {type(content).__name__}, a dict of tensors is needed")
    return content


def _require_unpacked(path: Path) -> None:
    """Refuse an archive with compressed members, which PyTorch never writes and which may unpack to anything."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise _unreadable(path, "it is a compressed archive")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise _unreadable(path, "its members overlap")


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is no block of plain numbers: sparse, nested, quantized, or larger than its storage."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta:
        raise _unreadable(path, f"{name} is sparse, nested or quantized, a plain tensor is needed")
    if tensor.dtype not in PLAIN_TYPES:
        raise _unreadable(path, f"{name} is {kind}, floating point of at least 16 bits is needed")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _unreadable(path, f"{name} repeats its values to the shape {tuple(tensor.shape)}")


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} cannot be read: {reason}",
        fix="save it again as torch.save({'state_dict': model.state_dict()}, path), or as .safetensors",
    )


def _explain_unpickling(lines: list[str]) -> str:
    found = next((match for line in lines if (match := re.search(r"GLOBAL (\S+)", line))), None)
    if found:
        return f"it needs {found[1]} to be unpickled, and code from a checkpoint is never run"
    return "not a PyTorch checkpoint of plain tensors"


def _select_parameters(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The named tensors of a checkpoint, `module.` taken off, and the names of what inference does not need."""
    ignored = []
    state = content
    if isinstance(content.get("state_dict"), Mapping):
        state = content["state_dict"]
        ignored += [key for key in content if key != "state_dict"]
    tensors = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and not TRAINING_ONLY.search(str(name)):
            tensors[str(name).removeprefix("module.")] = value
        else:
            ignored.append(str(name))
    return tensors, tuple(ignored)


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
            fix="give a checkpoint trained with STTS, or pass --untrained-selector for a random one",
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
