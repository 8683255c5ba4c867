"""Check that TensorRT can read a model, without TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.choices import TensorRTRelease, choose

if TYPE_CHECKING:
    from ..graphs.lint import LintFinding


def lint(path: Path | str, releases: Sequence[TensorRTRelease | str] = ()) -> tuple[LintFinding, ...]:
    """Find what `releases` of TensorRT (default: all) will not read in an ONNX file; raises LintError if it is none."""
    from ..graphs.lint import lint_onnx

    chosen = tuple(choose(TensorRTRelease, one, "release of TensorRT") for one in releases)
    return lint_onnx(Path(path), chosen or tuple(TensorRTRelease))
