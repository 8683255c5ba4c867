"""The two formats of 8 bits that linear layers are computed in, and how values are rounded to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..core.choices import Method, Precision


@dataclass(frozen=True, slots=True)
class EightBits:
    """A format: its NumPy type, ONNX's number for it, and the largest magnitude that it holds.

    `method` is how ranges are chosen where nobody says: integers gain by clipping outliers, whose steps grow with the
    range; floating point does not.
    """

    precision: Precision
    dtype: np.dtype[Any]
    onnx_type: int
    largest: float
    method: Method

    def round(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest values that the format holds; what lies beyond becomes its largest."""
        clipped = np.clip(values, -self.largest, self.largest)
        if self.precision is Precision.INT8:
            return np.rint(clipped)
        rounded: NDArray[np.float64] = clipped.astype(np.float32).astype(self.dtype).astype(np.float64)
        return rounded


INT8 = EightBits(Precision.INT8, np.dtype(np.int8), TensorProto.INT8, 127.0, Method.PERCENTILE)
FP8 = EightBits(
    Precision.FP8, np.dtype(ml_dtypes.float8_e4m3fn), TensorProto.FLOAT8E4M3FN, 448.0, Method.MAX
)  # E4M3: four bits of exponent, three of mantissa, no infinity
FORMATS = {format_.precision: format_ for format_ in (INT8, FP8)}
