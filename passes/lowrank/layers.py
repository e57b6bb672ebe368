"""Which layers can be factorized, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.patches import weight_rows
from irshrink.graph.edit import (
    Refusal,
    attribute_int,
    attribute_ints,
    attribute_string,
    constant,
    describe,
    input_of,
    is_op,
    require_private,
    static_shape,
)

Array = np.ndarray[Any, np.dtype[Any]]

LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose weights are a constant of its own.

    Attributes:
        node: Conv of one group, Gemm without transA, or MatMul with a matrix of weights.
        rows: its weights, float64 [outputs, n] in the order of
            :func:`irshrink.calibration.patches.input_rows`.
        kernel: of a Conv; () for a matrix.
        bias: the node that adds it and the number of its input, which may be left out; None where there is
            none and no place for one.
    """

    node: ir.Node
    rows: Array
    kernel: tuple[int, ...]
    bias: tuple[ir.Node, int] | None

    @property
    def name(self) -> str:
        return describe(self.node)

    @property
    def outputs(self) -> int:
        return int(self.rows.shape[0])

    @property
    def channels(self) -> int:
        """Of what it reads."""
        return int(self.rows.shape[1] // prod(self.kernel))

    @property
    def parameters(self) -> int:
        return int(self.rows.size)

    @property
    def itemsize(self) -> int:
        """Bytes of a weight."""
        value = self.node.inputs[1]
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        assert tensor is not None, "its weights are constant"
        return int(tensor.nbytes // max(1, tensor.size))

    def bias_array(self) -> Array | None:
        """What is added to the outputs, float64 [outputs] or [1]; None without."""
        if self.bias is None:
            return None
        array = constant(input_of(*self.bias))
        return None if array is None else array.astype(np.float64).reshape(-1)

    def positions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How often the weights are applied: batch and size of the input, and of the output, of a Conv; rows
        of a matrix product twice. What is open counts as 1: the cost is then that of one position."""
        read, written = _sizes(self.node.inputs[0]), _sizes(self.node.outputs[0])
        if self.node.op_type != "Conv":
            rows = read[:-1] if read else (1,)
            return rows, rows
        axes = len(self.kernel)
        found = [(s[0], *s[2:]) if s else (1,) * (axes + 1) for s in (read, written)]
        return found[0], found[1]

    def strides(self) -> tuple[int, ...]:
        return attribute_ints(self.node, "strides") or (1,) * len(self.kernel)

    def dilations(self) -> tuple[int, ...]:
        return attribute_ints(self.node, "dilations") or (1,) * len(self.kernel)

    def pads(self) -> tuple[int, ...]:
        """Before each axis, then behind each."""
        return attribute_ints(self.node, "pads") or (0,) * (2 * len(self.kernel))

    def auto_pad(self) -> str:
        return attribute_string(self.node, "auto_pad", "NOTSET")


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return ()
    return tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)


def find_layers(graph: ir.Graph) -> tuple[list[Layer], list[tuple[str, str]]]:
    """The layers that can be factorized, in the order of the graph; name of others, and why they cannot."""
    found, left = [], []
    for node in graph:
        if not is_op(node, *LAYER_OPS) or (node.op_type == "MatMul" and constant(node.inputs[1]) is None):
            continue
        try:
            found.append(layer_of(node))
        except Refusal as reason:
            left.append((describe(node), str(reason)))
    return found, left


def layer_of(node: ir.Node) -> Layer:
    """
    Raises:
        Refusal: it cannot be factorized.
    """
    value = input_of(node, 1)
    weight = constant(value)
    if weight is None or value is None:
        raise Refusal("its weights are not constant")
    if weight.dtype.kind != "f" or not np.isfinite(weight).all():
        raise Refusal(f"its weights are {weight.dtype}" if weight.dtype.kind != "f" else "it is not finite")
    if constant(node.inputs[0]) is not None:
        raise Refusal("it reads a constant")
    if node.op_type == "ConvTranspose":
        raise Refusal("transposed convolutions are not factorized")
    if node.op_type in ("Gemm", "MatMul") and (weight.ndim != 2 or attribute_int(node, "transA", 0)):
        raise Refusal("its weights are not one matrix that it multiplies from the right")
    groups = attribute_int(node, "group", 1) if node.op_type == "Conv" else 1
    if groups > 1:
        kind = "depthwise" if weight.shape[1] == 1 else f"of {groups} groups"
        raise Refusal(f"a convolution that is {kind} has few weights for each value that it computes")
    if not weight.size:
        raise Refusal("it has no weights")
    require_private(value, node)
    kernel = tuple(weight.shape[2:]) if node.op_type == "Conv" else ()
    return Layer(node, weight_rows(node, weight)[0], kernel, _bias_place(node, weight))


def _bias_place(node: ir.Node, weight: Array) -> tuple[ir.Node, int] | None:
    """Where a bias [outputs] is added, or can be."""
    outputs = weight.shape[0] if node.op_type == "Conv" else 0
    if node.op_type != "MatMul":
        outputs = outputs or weight.shape[0 if attribute_int(node, "transB", 0) else 1]
        value = input_of(node, 2)
        array = constant(value)
        fits = array is not None and array.size in (1, outputs) and array.shape[-1:] in ((), (1,), (outputs,))
        return (node, 2) if value is None or fits else None
    output = node.outputs[0]
    uses: Sequence[Any] = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or not is_op(uses[0].node, "Add"):
        return None
    add: ir.Node = uses[0].node
    index = 1 - int(uses[0].idx)
    array = constant(add.inputs[index])
    if array is None or array.shape[-1:] != weight.shape[1:] or array.size != weight.shape[1]:
        return None
    return (add, index) if static_rank(add.outputs[0]) == static_rank(output) else None


def static_rank(value: ir.Value) -> int | None:
    shape = static_shape(value)
    return len(shape) if shape is not None else (None if value.shape is None else value.shape.rank())
