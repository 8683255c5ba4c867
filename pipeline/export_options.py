"""The options of an export, and what is refused before the work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.choices import Graph, InputType, Precision, choose
from ..core.errors import OptionError
from ..core.reading import format_bytes
from ..runtimes.machine.memory import read_available_bytes
from .clips import Clips
from .load import Network

FLOATS = (Precision.FP32, Precision.FP16)
OPSETS = range(18, 21)  # TensorRT 10.0 reads up to 20
# Of each clip of a batch, while ONNX Runtime runs it on a CPU: measured with sizes n and t, to within a third.
INPUT_COPIES, TOKEN_COPIES = 8, 21
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The files to write, and how closely they are compared with the PyTorch network.

    INT8 or FP8 needs clips, and is made from FP32 and FP16 files of the folded graph. `batch` clips are one inference,
    with (1, 8) any number from 1 to 8. With selection the token frames that were kept are a second output. Files are
    compared on `proof_clips` clips; `tolerance` is the largest logit difference, None for that of each precision.
    """

    precisions: Sequence[Precision | str] = FLOATS
    graph: Graph | str = Graph.FOLDED
    input: InputType | str = InputType.FLOAT32
    batch: int | tuple[int, int] = 1
    opset: int = OPSETS[-1]
    with_selection: bool = False
    tolerance: float | None = None
    proof_clips: int = 8


def check_options(options: ExportOptions, clips: Clips | None) -> tuple[Precision, ...]:
    """The precisions asked for, each once; raises OptionError for what does not go together."""
    precisions = tuple(dict.fromkeys(choose(Precision, one, "precision") for one in options.precisions))
    graph, input_type = choose(Graph, options.graph, "graph"), choose(InputType, options.input, "input type")
    if not precisions:
        raise OptionError("no precision was given", fix="choose fp32, fp16, fp8 or int8")
    if graph is Graph.PLAIN and input_type is InputType.UINT8:
        raise OptionError(
            "the plain graph takes float32 clips, not uint8", fix="leave --graph plain or --input uint8 out"
        )
    eight = [precision.value for precision in precisions if precision.is_eight_bit]
    if len(eight) > 1:
        raise OptionError("int8 and fp8 are two calibrations", fix="make one of them with `dualexport fp8`")
    if eight and (clips is None or graph is Graph.PLAIN):
        raise OptionError(
            f"{eight[0]} is calibrated on --clips, on the folded graph", fix="give --clips, and no --graph plain"
        )
    if options.opset not in OPSETS:
        raise OptionError(f"opset {options.opset}", fix=f"choose one from {OPSETS[0]} to {OPSETS[-1]}")
    least, most = bounds_of(options.batch)
    if min(most, options.proof_clips) < 1 or (least is not None and not 1 <= least < most):
        raise OptionError(
            f"batch {options.batch} and {options.proof_clips} proof clips",
            fix="take at least 1 of each, and a larger second number of a range",
        )
    return precisions


def bounds_of(batch: int | tuple[int, int]) -> tuple[int | None, int]:
    """The smallest batch of a range, None for one batch, and the largest."""
    return batch if isinstance(batch, tuple) else (None, batch)


def require_memory(network: Network, batch: int) -> None:
    """Refuse a batch whose comparison with the network would take more memory than there is."""
    config, free = network.module.config, read_available_bytes()
    tokens = math.prod(config.embedded_grid(0)) * config.widths[0] * FLOAT_BYTES
    needed = batch * (INPUT_COPIES * math.prod(config.clip_shape) * FLOAT_BYTES + TOKEN_COPIES * tokens)
    if free is not None and needed > free:
        raise OptionError(
            f"a batch of {batch} clips takes about {format_bytes(needed)} to compare with the network, "
            f"{format_bytes(free)} are free",
            fix="export a smaller batch, or on a machine with more memory",
        )
