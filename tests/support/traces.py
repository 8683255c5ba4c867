"""Traces that are made once for all worker processes: the same network for the same options gives the same graph."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn

MOST_BYTES = 200_000_000  # of weights that are worth the writing
Trace = Callable[[nn.Module, Tensor, Sequence[str], int], ir.Model]


class SharedTraces:
    """Stands in for `trace_network`, and keeps in a folder what that gave."""

    def __init__(self, folder: Path, trace: Trace) -> None:
        self._folder, self._trace = folder, trace
        folder.mkdir(exist_ok=True)

    def __call__(self, network: nn.Module, example: Tensor, outputs: Sequence[str], opset: int) -> ir.Model:
        if sum(value.nbytes for value in network.parameters()) > MOST_BYTES:
            return self._trace(network, example, outputs, opset)
        path = self._folder / f"{identify(network, example, outputs, opset)}.onnx"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return ir.load(path)
            model = self._trace(network, example, outputs, opset)
            ir.save(model, path.with_suffix(".made"))
            path.with_suffix(".made").rename(path)
            return model


def identify(network: nn.Module, example: Tensor, outputs: Sequence[str], opset: int) -> str:
    """A hash of all that a trace depends on: the modules with their attributes and tensors, the input, the options."""
    found = hashlib.sha256(repr((example.shape, example.dtype, tuple(outputs), opset)).encode())
    for name, module in network.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in vars(nn.Module())}
        assert not any(isinstance(value, Tensor) for value in own.values()), name  # repr shows no long ones whole
        found.update(repr((name, type(module), own)).encode())
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        found.update(repr((name, value.shape, value.dtype)).encode())
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
