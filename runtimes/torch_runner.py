"""Runs the PyTorch network: the reference of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

import torch

from ..core.runner import DeviceTime
from ..core.types import Array, TensorSpec


def use_threads(threads: int) -> None:
    """Compute with so many threads from now on, in the whole process."""
    torch.set_num_threads(threads)


class TorchRunner:
    """A network as a runner; `network` takes its inputs in the order of `inputs` and returns one tensor."""

    def __init__(
        self, network: torch.nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self.name = f"PyTorch {torch.__version__} (CPU, FP32)"
        self.inputs = inputs
        self.outputs = outputs
        self._network = network.eval()

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; shapes and types as `inputs` and `outputs` say."""
        tensors = [torch.from_numpy(feeds[spec.name]) for spec in self.inputs]
        with torch.inference_mode():
            result: torch.Tensor = self._network(*tensors)
        return {self.outputs[0].name: result.numpy()}

    @contextmanager
    def prepared(self, feeds: Mapping[str, Array]) -> Iterator[Callable[[], DeviceTime | None]]:
        """A function that runs one batch; on the CPU its time is the wall clock's."""
        tensors = [torch.from_numpy(feeds[spec.name]) for spec in self.inputs]

        def run() -> None:
            with torch.inference_mode():
                self._network(*tensors)

        yield run

    def __enter__(self) -> TorchRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
