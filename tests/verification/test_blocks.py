"""A broken graph is located: the block that broke is named, for every way of breaking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import pytest
from conftest import NANO_CLIP
from dualexport.clips.synthetic import moving_patterns
from dualexport.core.choices import Graph, Precision
from dualexport.core.errors import ClipError, GraphError
from dualexport.core.types import Array
from dualexport.exporter.block_taps import BlockTaps
from dualexport.exporter.dualformer.network import DualFormer
from dualexport.exporter.onnx_export import OnnxOptions, export_onnx
from dualexport.runtimes.tapped_graph import TappedGraph
from dualexport.verification.blocks import BlockError, LayerReport, compare_blocks, find_entry
from onnx import ModelProto
from support.breaking import BREAKAGES, HINTS

CLIPS = moving_patterns(1, NANO_CLIP)


@pytest.fixture(scope="module")
def taps(nano: DualFormer) -> BlockTaps:
    return BlockTaps(nano, Graph.FOLDED)


@pytest.fixture(scope="module")
def expected(taps: BlockTaps) -> Mapping[str, Array]:
    return taps.run(CLIPS[0])


def locate(path: Path, taps: BlockTaps, expected: Mapping[str, Array], precision: Precision) -> LayerReport:
    (report,) = compare_blocks({"it": (TappedGraph(path, taps.tensors), precision)}, lambda _: expected, CLIPS)
    return report


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_sound_graph_has_every_block_and_none_stands_out(
    exported: Path, taps: BlockTaps, expected: Mapping[str, Array], precision: Precision
) -> None:
    report = locate(exported / f"dualformer-n.{precision.value}.onnx", taps, expected, precision)
    assert (report.enters_at, report.missing, len(report.blocks)) == (None, (), 4 + 16 + 4 + 1)
    assert max(block.relative_error for block in report.blocks) < (5e-6 if precision is Precision.FP32 else 5e-3)


@pytest.mark.parametrize(
    ("breakage", "block"),
    BREAKAGES.items(),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_block_is_named(
    exported: Path,
    tmp_path: Path,
    taps: BlockTaps,
    expected: Mapping[str, Array],
    breakage: Callable[[ModelProto], None],
    block: str,
) -> None:
    model = onnx.load(exported / "dualformer-n.fp32.onnx")
    breakage(model)
    onnx.save(model, tmp_path / "broken.onnx")
    report = locate(tmp_path / "broken.onnx", taps, expected, Precision.FP32)
    assert report.enters_at == block
    assert HINTS.get(block, block) in report.remark


@pytest.mark.slow
def test_the_plain_graph_has_the_same_taps(nano: DualFormer, tmp_path: Path) -> None:
    export_onnx(nano, tmp_path / "plain.onnx", OnnxOptions(Graph.PLAIN), parent=None)
    taps = BlockTaps(nano, Graph.PLAIN)
    report = locate(tmp_path / "plain.onnx", taps, taps.run(CLIPS[0]), Precision.FP32)
    assert (report.enters_at, report.missing, len(report.blocks)) == (None, (), 4 + 16 + 1)
    assert max(block.relative_error for block in report.blocks) < 5e-6


def test_a_block_that_the_graph_does_not_have_is_said(exported: Path, taps: BlockTaps) -> None:
    graph = TappedGraph(exported / "dualformer-n.fp32.onnx", {**taps.tensors, "blocks.9.9.attn": "blocks.9.9/Add"})
    assert graph.missing == ("blocks.9.9.attn",)


def test_nothing_to_compare_and_no_graph_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ClipError):
        compare_blocks({}, lambda _: {}, ())
    with pytest.raises(GraphError, match=r"gone\.onnx: no such file"):
        TappedGraph(tmp_path / "gone.onnx", {})


def test_an_error_enters_where_it_grows_the_most() -> None:
    def entry(*errors: float) -> str | None:
        return find_entry([BlockError(str(number), error, error) for number, error in enumerate(errors)], 1e-3)

    assert entry(1e-4, 2e-4, 4e-3, 4e-3) is None  # above rounding, but in small steps
    assert entry(1e-4, 1e-4, 0.5, 0.6) == "2"
    assert entry(0.5, 0.6, 0.7) == "0"
    assert entry(1e-4, float("nan"), float("nan")) == "1"


def test_in_int8_a_late_block_s_error_is_not_taken_for_the_classifier_s() -> None:
    def entry(**errors: float) -> str | None:
        return find_entry([BlockError(name, error, error) for name, error in errors.items()], 2e-2)

    assert entry(first=1e-3, second=1.8e-2, third=3.4e-3, fourth=4.1e-2, logits=0.21) == "fourth"
    assert entry(first=1e-3, second=1.8e-2, third=3.4e-3, fourth=4.4e-3, logits=1.4e-2) is None
    assert entry(first=1e-3, second=1.8e-2, third=3.4e-3, fourth=4.4e-3, logits=0.41) == "logits"
