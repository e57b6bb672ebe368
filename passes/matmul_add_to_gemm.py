"""A matrix times constant weights, with or without a constant row added, is a Gemm.

    x [N, K] @ W [K, M] (+ b [M])  ->  Gemm(x, W, b)

so that later passes and backends see one dense operator with one bias. Only rank 2: a MatMul on more axes
(``[batch, time, K] @ [K, M]``) has no Gemm form in ONNX and stays MatMul and Add; products of two varying
matrices stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.edit import (
    become,
    constant,
    rank,
    remove,
    replace_value,
    rewrite_each,
    set_constant,
    split_constant,
    why_not_private,
)
from irshrink.graph.linear import bias_name
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class MatMulAddToGemm:
    """Turn MatMul (and a following Add of one number per column) into Gemm."""

    name: ClassVar[str] = "matmul-add-to-gemm"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        converted = rewrite_each(module.graph, ctx, {"MatMul"}, _convert)
        return PassResult(converted > 0, stats={"converted": converted})


def _convert(node: ir.Node) -> bool:
    weights = constant(node.inputs[1])
    if weights is None or weights.ndim != 2 or rank(node.inputs[0]) != 2 or weights.dtype.kind != "f":
        return False
    become(node, "Gemm", tuple(node.inputs))
    _absorb_add(node, int(weights.shape[1]))
    return True


def _absorb_add(gemm: ir.Node, columns: int) -> None:
    output = gemm.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].node.graph is not gemm.graph:
        return
    add = uses[0].node
    found = split_constant(add)
    if found is None or why_not_private(output, add) is not None:
        return
    bias = found[1]
    if bias.ndim > 2 or bias.shape[-1:] != (columns,) or bias.size != columns:
        return
    set_constant(gemm, 2, bias.reshape(columns), bias_name(gemm))
    replace_value(add.outputs[0], output)
    remove(add)
