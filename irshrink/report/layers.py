"""Rows of the per-layer table: what each operator of the program is, weighs and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from irshrink.backend import OpCost
from irshrink.program.ops import (
    ConvF16,
    ConvF32,
    ConvInt8,
    ConvInt16,
    DenseF16,
    DenseF32,
    DenseInt8,
    DenseInt16,
    Dequantize,
    DequantizeInt16,
    MatMulF16,
    MatMulF32,
    MatMulInt8,
    Op,
    Quantize,
    QuantizeInt16,
    Reshape,
    RoundF16,
    WidenF16,
)
from irshrink.program.program import Program, Quantization

#: Operators at the border between integers and float32, and those that compute nothing: they need no reason.
_UNREMARKABLE = (Quantize, QuantizeInt16, Dequantize, DequantizeInt16, RoundF16, WidenF16, Reshape)


def layer_rows(
    program: Program,
    costs: Mapping[str, OpCost],
    instructions: Mapping[str, int],
) -> list[dict[str, Any]]:
    """One row per operator, in execution order.

    Args:
        costs: by operator name.
        instructions: of one inference by operator name; empty when they were not counted.
    """
    return [_row(program, op, costs.get(op.name), instructions.get(op.name)) for op in program]


def macs(program: Program, op: Op) -> int:
    """Multiply-accumulates of one inference: those of convolutions and matrix products."""
    elements = program.tensors[op.output].elements
    if isinstance(op, ConvInt8 | ConvInt16 | ConvF16 | ConvF32):
        return elements * int(prod(op.weight.shape[1:]))
    if isinstance(op, DenseInt8 | DenseInt16 | DenseF16 | DenseF32):
        return elements * int(op.weight.shape[1])
    if isinstance(op, MatMulInt8 | MatMulF16 | MatMulF32):
        return elements * program.tensors[op.inputs[0]].shape[-1]
    return 0


def element_type(program: Program, op: Op) -> str:
    """The type an operator computes in, or the type of the data that it moves."""
    name = type(op).__name__
    for ending in ("Int8", "Int16"):
        if name.endswith(ending):
            return ending.lower()
    if name.endswith(("F16", "F32")):
        return f"float{name[-2:]}"
    return program.tensors[op.output].dtype


def quantization(value: Quantization | None) -> dict[str, Any] | None:
    """Scale and zero point as plain data."""
    return None if value is None else {"scale": value.scale, "zero_point": value.zero_point}


def float_lines(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What runs in float and why, a line a node of the model: ``lstm (DenseF32, Slice): no integer form``.

    Nodes go by the names that ``--keep-float`` takes. One that became several operators is one line.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for layer in layers:
        if layer["why_float"]:
            name = ", ".join(layer["origin"]) or str(layer["name"])
            found.setdefault((name, layer["why_float"]), {})[layer["op"]] = None
    return [f"{name} ({', '.join(ops)}): {why}" for (name, why), ops in found.items()]


def _row(program: Program, op: Op, cost: OpCost | None, instructions: int | None) -> dict[str, Any]:
    output = program.tensors[op.output]
    dtype = element_type(program, op)
    return {
        "name": op.name,
        "op": type(op).__name__,
        "kernel": cost.kernel if cost else None,
        "origin": list(op.origin),
        "dtype": dtype,
        "why_float": _why_float(program, op, dtype),
        "input_shapes": [list(program.tensors[name].shape) for name in op.inputs],
        "output_shape": list(output.shape),
        "output_bytes": output.nbytes,
        "quantization": quantization(output.quantization),
        "macs": macs(program, op),
        "weights_bytes": cost.weights_bytes if cost else 0,
        "workspace_bytes": cost.workspace_bytes if cost else 0,
        "instructions": instructions,
    }


def _why_float(program: Program, op: Op, dtype: str) -> str | None:
    reasons = program.float_reasons
    if dtype != "float32" or isinstance(op, _UNREMARKABLE):
        return None
    return next((reasons[node] for node in op.origin if node in reasons), "it is not quantized")
