"""Checks an ONNX file against what TensorRT reads, in a second and without TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..core.choices import TensorRTRelease
from ..core.errors import GraphError
from ..core.types import Array
from .batch import fix_batch
from .load import STANDARD_DOMAINS, infer_shapes, list_nodes, load_graph
from .tensorrt_support import (
    MAX_DIMENSIONS,
    MAX_TOPK,
    READ_SINCE,
    REPLACEMENTS,
    UINT8_OPERATORS,
    UNREAD_OPERATORS,
    UNREAD_TYPES,
)

_10 = (TensorRTRelease.V10_0, TensorRTRelease.V10_3)


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One thing that TensorRT will not read: the node (or input) it is about, what is wrong and what to do.

    `releases` are the TensorRT releases it concerns.
    """

    node: str
    operator: str
    problem: str
    fix: str
    releases: tuple[TensorRTRelease, ...]


@dataclass(frozen=True, slots=True)
class _GraphFacts:
    """A model and what is known of its tensors: element type names, shapes (None where unknown), constant values."""

    model: onnx.ModelProto
    opset: int
    types: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        """The numbers that input `index` of `node` always has, None where it is absent or no constant."""
        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        if tensor is None or tensor.data_type == onnx.TensorProto.STRING:
            return None
        return numpy_helper.to_array(tensor)


@dataclass(frozen=True, slots=True)
class _Problem:
    """A finding of one rule, and the releases it concerns."""

    problem: str
    fix: str
    releases: Sequence[TensorRTRelease] = tuple(TensorRTRelease)


def lint_onnx(
    model_path: Path, releases: Sequence[TensorRTRelease] = tuple(TensorRTRelease)
) -> tuple[LintFinding, ...]:
    """Find what TensorRT will not read in an ONNX file, in the graph's order; nothing when all of `releases` read it.

    Raises GraphError when the file is not ONNX.
    """
    model = load_graph(model_path)
    fix_batch(model)
    facts = _gather_facts(model)
    findings = [*_lint_opset(facts), *_lint_inputs(facts)]
    for node in list_nodes(facts.model.graph):
        name = node.name or f"the {node.op_type} that makes {node.output[0]}"
        for problem in (problem for rule in _NODE_RULES for problem in rule(node, facts)):
            findings.append(_finding(name, node.op_type, problem))
    return tuple(_restrict(findings, releases))


def _gather_facts(model: onnx.ModelProto) -> _GraphFacts:
    opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)
    facts = _GraphFacts(model, opset)
    try:
        graph = infer_shapes(model)
    except GraphError:
        graph = model.graph
    for entry in (*graph.input, *graph.value_info, *graph.output):
        tensor = entry.type.tensor_type
        facts.types[entry.name] = onnx.TensorProto.DataType.Name(tensor.elem_type)
        if tensor.HasField("shape"):
            facts.shapes[entry.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
            )
    for tensor in (*graph.initializer, *_constant_nodes(graph)):
        facts.constants[tensor.name] = tensor
        facts.types[tensor.name] = onnx.TensorProto.DataType.Name(tensor.data_type)
        facts.shapes[tensor.name] = tuple(tensor.dims)
    return facts


def _constant_nodes(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensor = onnx.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                yield tensor


def _lint_opset(facts: _GraphFacts) -> Iterator[LintFinding]:
    for release in TensorRTRelease:
        if facts.opset not in release.opsets:
            wanted = f"{release.opsets.start} to {release.opsets.stop - 1}"
            problem = f"opset {facts.opset}; TensorRT {release.value} reads {wanted}"
            yield _finding("the file", "", _Problem(problem, f"export with an opset from {wanted}", (release,)))


def _lint_inputs(facts: _GraphFacts) -> Iterator[LintFinding]:
    for entry in facts.model.graph.input:
        if entry.name in facts.constants:
            continue
        if None in (shape := facts.shapes.get(entry.name, (None,))):
            shown = ", ".join("?" if extent is None else str(extent) for extent in shape)
            problem = _Problem(f"input of dynamic shape ({shown})", "export with a fixed batch size and clip length")
            yield _finding(entry.name, "", problem)


def _lint_operator(node: onnx.NodeProto, _: _GraphFacts) -> Iterator[_Problem]:
    if node.domain not in STANDARD_DOMAINS:
        yield _Problem(
            f"operator {node.domain}.{node.op_type} is no standard operator; TensorRT would need a plugin for it",
            "export without fusions made for another runtime",
        )
    elif node.op_type in UNREAD_OPERATORS:
        fix = REPLACEMENTS.get(node.op_type, "express it in other operators")
        yield _Problem(f"TensorRT does not read {node.op_type}", fix)
    elif since := READ_SINCE.get(node.op_type):
        older = [release for release in TensorRTRelease if release.version < since]
        yield _Problem(
            f"TensorRT reads {node.op_type} since {since[0]}.{since[1]}", "express it in other operators", older
        )


def _lint_types(node: onnx.NodeProto, facts: _GraphFacts) -> Iterator[_Problem]:
    used = {facts.types[name] for name in (*node.input, *node.output) if name in facts.types}
    for name in sorted(used & UNREAD_TYPES.keys()):
        yield _Problem(f"TensorRT does not compute in {name.lower()}", f"use {UNREAD_TYPES[name]}")
    takes_uint8 = any(facts.types.get(name) == "UINT8" for name in node.input)
    if takes_uint8 and node.op_type not in UINT8_OPERATORS:
        yield _Problem(f"{node.op_type} does not take uint8", "cast to float16 or float32 before it")


def _lint_dimensions(node: onnx.NodeProto, facts: _GraphFacts) -> Iterator[_Problem]:
    most = max((len(facts.shapes[name]) for name in node.output if name in facts.shapes), default=0)
    if most > MAX_DIMENSIONS:
        yield _Problem(
            f"a tensor of {most} dimensions; TensorRT allows {MAX_DIMENSIONS}",
            "merge axes, or split the permutation in two",
        )


def _lint_attributes(node: onnx.NodeProto, facts: _GraphFacts) -> Iterator[_Problem]:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Einsum":
        left = attributes["equation"].decode().replace(" ", "").split("->")[0]
        if "..." in left or any(len(set(term)) < len(term) for term in left.split(",")):
            yield _Problem("ellipsis and repeated indices in Einsum are not read", "use MatMul or name each axis", _10)
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield _Problem("the Indices output of MaxPool is not supported", "use its first output only")
    if node.op_type == "TopK" and (k := facts.constant(node, 1)) is not None and k.max(initial=0) > MAX_TOPK:
        yield _Problem(f"K is {int(k.max())}; TensorRT allows {MAX_TOPK}", "take fewer, or select on the host")
    trained = facts.constant(node, 2) if node.op_type == "Dropout" else attributes.get("training_mode")
    if trained is not None and np.any(trained):
        yield _Problem(f"{node.op_type} is in training mode", "call .eval() on the network before exporting it")


def _lint_quantization(node: onnx.NodeProto, facts: _GraphFacts) -> Iterator[_Problem]:
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    scale, zero_point = facts.constant(node, 1), facts.constant(node, 2)
    if scale is None:
        yield _Problem("the scale is computed in the graph", "quantize statically: scales must be constants")
    elif not bool(np.all(scale > 0)):
        yield _Problem(f"scales must be positive, the least is {float(scale.min()):g}", "quantize again")
    if zero_point is not None and bool(np.any(zero_point.astype(np.int32) != 0)):
        yield _Problem("TensorRT takes symmetric quantization only: zero points must be 0", "quantize symmetrically")
    if facts.types.get(node.input[1]) == "FLOAT16" and facts.opset < 19:
        yield _Problem(f"float16 scales need opset 19, the file has {facts.opset}", "export with opset 19 or 20")


_NODE_RULES: tuple[Callable[[onnx.NodeProto, _GraphFacts], Iterator[_Problem]], ...] = (
    _lint_operator,
    _lint_types,
    _lint_dimensions,
    _lint_attributes,
    _lint_quantization,
)


def _finding(node: str, operator: str, problem: _Problem) -> LintFinding:
    return LintFinding(node, operator, problem.problem, problem.fix, tuple(problem.releases))


def _restrict(findings: Sequence[LintFinding], releases: Sequence[TensorRTRelease]) -> Iterator[LintFinding]:
    """Only what concerns `releases`, and of each finding only those of its releases."""
    for finding in findings:
        if concerned := tuple(release for release in finding.releases if release in releases):
            yield replace(finding, releases=concerned)
