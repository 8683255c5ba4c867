"""The tensors of a `.pth` or `.safetensors` checkpoint, read without ever running code from the file."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core.errors import CheckpointError, CheckpointNotFoundError, DualExportError
from ..core.reading import FileKind

TRAINING_ONLY = re.compile(r"(^|\.)token_linear(\.|$)")
PLAIN_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)  # the latter counts batches
CHECKPOINT = FileKind(
    "a checkpoint",
    CheckpointError,
    "give the path of a .pth or .safetensors checkpoint",
    max_bytes=16 << 30,
    missing=CheckpointNotFoundError,
)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The named tensors of a checkpoint, `module.` taken off, and the names of what inference does not need.

    Raises CheckpointError for a file that is missing, unreadable, needs code to be unpickled, or holds what is no block
    of plain numbers.
    """
    tensors, ignored = _select_parameters(_load(CHECKPOINT.require(path)))
    for name, tensor in tensors.items():
        _require_plain(path, name, tensor)
    return tensors, ignored


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
