"""Weights in a Huffman code on targets that decode it: fewer bytes in flash, more instructions.

What the model computes, and its file, stay the same: a mark in the metadata of the DequantizeLinear says it
(:mod:`irshrink.graph.huffman`). Which layers are worth a code is seen when kernels are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph import huffman
from irshrink.graph.edit import constant, static_shape
from irshrink.graph.linear import is_linear
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: Integers that kernels have weights of.
_TYPES = (
    *(ir.DataType.INT8, ir.DataType.INT4, ir.DataType.INT2),
    *(ir.DataType.UINT8, ir.DataType.UINT4, ir.DataType.UINT2),
)
#: What stands between stored weights and their DequantizeLinear.
_UNPACKING = (
    *("BitwiseAnd", "Cast", "ConstantOfShape", "CumSum", "Identity", "NonZero", "Reshape", "ScatterND"),
    *("Squeeze", "Transpose", "Unsqueeze"),
)
#: The version of ONNX's file format in which nodes have metadata.
_IR_VERSION = 10


@dataclass(frozen=True)
class StoreHuffman:
    """Mark quantized weights of two axes or more to be stored in a Huffman code in flash.

    Attributes:
        min_elements: smaller weights stay as they are; tables would take what codes save.
    """

    name: ClassVar[str] = "store-huffman"
    lossy: ClassVar[bool] = False

    min_elements: int = 512

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> Sequence[Knob]:
        """A code that loses nothing: in every plan that is to be small, unless instructions matter."""
        large = any(_elements(node) >= cls.min_elements for node in module.graph if is_linear(node))
        if not large or wishes.target.has("simd"):
            return ()
        level = Level("weights in a Huffman code", 1.0, (), ({"pass": cls.name},))
        helps: frozenset[Effect] = frozenset({"size"})
        free = "size" in wishes.effects and not wishes.cost_matters
        return (Knob(cls.name, "weights coded", "weights", helps, (level,), 0.0, obligatory=free),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        found = [node for node in module.graph if self._is_worth_it(node)]
        if not found:
            ctx.note("no quantized weights are large enough for a code")
            return PassResult(False, stats={"weights": 0})
        for node in found:
            huffman.wish(node)
        module.model.ir_version = max(module.model.ir_version, _IR_VERSION)
        return PassResult(True, stats={"weights": len(found)})

    def _is_worth_it(self, node: ir.Node) -> bool:
        if node.op_type != "DequantizeLinear" or huffman.is_wished(node):
            return False
        value = node.inputs[0]
        shape = None if value is None else static_shape(value)
        if value is None or shape is None or len(shape) < 2 or value.dtype not in _TYPES:
            return False
        return prod(map(int, shape)) >= self.min_elements and _is_constant(value)


def _elements(node: ir.Node) -> int:
    """Of the weights that a layer has."""
    weight = constant(node.inputs[1])
    return 0 if weight is None else int(weight.size)


def _is_constant(value: ir.Value) -> bool:
    """Whether it is an initializer, or what moves and unpacking make of some (``store-sparse``)."""
    waiting, seen = [value], {value}
    while waiting:
        one = waiting.pop()
        node = one.producer()
        if constant(one) is not None:
            continue
        if node is None or node.op_type not in _UNPACKING:
            return False
        more = [source for source in node.inputs if source is not None and source not in seen]
        waiting.extend(more)
        seen.update(more)
    return True
