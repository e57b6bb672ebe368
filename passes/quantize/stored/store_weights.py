"""Weights in 16 bits: half of the file, and float32 or, where targets have it, float16 arithmetic.

float16 (IEEE 754 binary16) has 11 bits of precision between 6e-5 and 65,504: a relative error of at most
2^-12. bfloat16 has the range of float32 and 8 bits of precision (Kalamkar et al., arXiv:1905.12322). A Cast
in front of the reader makes float32 of them again, exactly; sums, activations and biases stay float32, unless
float16 arithmetic is asked for and the target computes it (docs/element-types.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from irshrink.graph import float16
from irshrink.graph.edit import Array, base_name
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.passes.quantize.stored.weight_only import Choice, Writer, array_of, chunks, shape_of
from irshrink.pipeline import Context, PassResult

_TYPES: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
#: Cast knows bfloat16 since this opset.
_OPSET = 13


@dataclass(frozen=True)
class StoreWeights:
    """Store the weights of MatMul, Gemm, Conv, ConvTranspose, Gather, LSTM, GRU and RNN in 16 bits.

    Attributes:
        dtype: ``float16``, or ``bfloat16``.
        min_elements: smaller constants stay float32; they save nothing.
        arithmetic: ``float16`` computes in float16 on targets that have instructions for it, activations
            included; other targets compute in float32.
        keep_float: nodes whose weights and arithmetic stay float32, by name or operator type; ``*`` and ``?``
            as in files.
    """

    name: ClassVar[str] = "store-weights"
    lossy: ClassVar[bool] = True

    dtype: Literal["float16", "bfloat16"] = "float16"
    min_elements: int = 1024
    arithmetic: Literal["float32", "float16"] = "float32"
    keep_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.arithmetic == "float16" and self.dtype != "float16":
            raise ValueError("float16 arithmetic needs weights of dtype 'float16'.")

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep_float)
        if self.arithmetic == "float16":
            kept = (base_name(node) for node in module.graph if matches(node, self.keep_float))
            float16.wish(module.model, kept)
        choice, kind = Choice(self.min_elements, self.keep_float), _TYPES[self.dtype]
        raised = bool(choice.weights(module.graph, _silent)) and raise_opset(module, _OPSET)
        writer, stats = Writer(module.graph), {"weights": 0, "bytes_before": 0, "bytes_after": 0}
        for value in choice.weights(module.graph, ctx.note):
            tensor, shape = array_of(value), shape_of(value)
            if tensor.dtype != ir.DataType.FLOAT:
                continue
            if not all(np.isfinite(_narrowed(chunk, kind)).all() for _, chunk in chunks(tensor)):
                ctx.note(f"'{value.name}' stays float32: it has numbers beyond {self.dtype}")
                continue
            stored = writer.stored(value, self.dtype, kind, shape, partial(_stored, tensor, kind))
            real = writer.node(
                value, ("real", tensor.dtype, ir.Shape(shape)), "Cast", [stored], to=ir.DataType.FLOAT
            )
            writer.replace(value, real)
            stats["weights"] += 1
            stats["bytes_before"] += tensor.nbytes
            stats["bytes_after"] += 2 * tensor.size
        changed = raised or stats["weights"] > 0 or self.arithmetic == "float16"
        return PassResult(changed, stats=stats)


def _silent(text: str) -> None:
    """Notes are given when the weights are chosen again, after the opset is raised."""


def _narrowed(chunk: Array, kind: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return chunk.astype(kind)


def _stored(tensor: ir.TensorProtocol, kind: np.dtype[Any]) -> Array:
    stored = np.empty(tensor.shape.numpy(), kind)
    for at, chunk in chunks(tensor):
        stored[at] = _narrowed(chunk, kind)
    return stored
