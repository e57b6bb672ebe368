"""How a graph quantizes what enters it: what a QuantizeLinear behind an input says about the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_type, constant, input_of, is_op

#: Operators that hand elements on as they are.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Affine:
    """``real = scale * (integer - zero_point)``, the integers of type ``dtype`` (NumPy's name)."""

    scale: float
    zero_point: int
    dtype: str

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number that there is an integer for."""
        limits = np.iinfo(self.dtype)
        low, high = (self.scale * (int(end) - self.zero_point) for end in (limits.min, limits.max))
        return low, high


def quantization_of(value: ir.Value) -> Affine | None:
    """How all that read ``value`` quantize it, behind moves; None where they differ or one does not."""
    found = _readers(value)
    return found.pop() if len(found) == 1 else None


def _readers(value: ir.Value) -> set[Affine | None]:
    found: set[Affine | None] = {None} if value.is_graph_output() else set()
    for node, index in value.uses():
        if index == 0 and is_op(node, *_MOVES):
            found |= _readers(node.outputs[0])
        else:
            found.add(affine_of(node) if index == 0 and is_op(node, "QuantizeLinear") else None)
    return found


def affine_of(node: ir.Node) -> Affine | None:
    """Of a QuantizeLinear with one constant scale to whole integers; None for others."""
    scale, zero = constant(input_of(node, 1)), constant(input_of(node, 2))
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        return None
    if zero is None and input_of(node, 2) is not None:
        return None
    dtype = _default_type(node) if zero is None else zero.dtype.name
    if not dtype.startswith(("int", "uint")) or dtype not in np.sctypeDict:
        return None
    return Affine(float(scale.reshape(())), 0 if zero is None else int(zero.reshape(())), dtype)


def _default_type(node: ir.Node) -> str:
    kind = attribute_type(node, "output_dtype")
    return "uint8" if kind == ir.DataType.UNDEFINED else kind.name.lower()
