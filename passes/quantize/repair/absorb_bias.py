"""High bias absorption: what is always there need not be in the activation.

A channel y whose values are never below c > 0 passes a Relu unchanged, and

    r(y) = r(y - c) + c,      W2 r(y) + b2 = W2 r(y - c) + (b2 + W2 c)

so c can go from the bias of the layer that writes the channel to that of the layer that reads it, and the
range of the activation in between shrinks by c (Nagel et al., *Data-free quantization through weight
equalization and bias correction*, ICCV 2019, section 4.1.3). The paper takes c from the statistics of a
BatchNormalization; here calibration data says how low a channel goes. Equalization makes such channels: it
raises biases together with weights.

A Clip's upper bound h must stay out of reach as well, and a reader that pads would pad with 0 instead of c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.calibration import channel_extremes
from irshrink.errors import RecipeError
from irshrink.graph.edit import Refusal, describe, input_of, is_op, rank, scalar
from irshrink.graph.linear import (
    LinearOp,
    is_linear,
    linear_op,
    scale_and_shift_input,
    scale_and_shift_output,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class AbsorbBias:
    """Move constant parts of activations into the bias of the next layer.

    Attributes:
        margin: how far beyond calibration data's values others may lie, as a part of a channel's range.
    """

    name: ClassVar[str] = "absorb-bias"
    lossy: ClassVar[bool] = True

    margin: float = 0.25

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}; it must not be negative")

    def run(self, module: Module, ctx: Context) -> PassResult:
        if module.calibration is None:
            raise RecipeError(
                "absorb-bias needs calibration data. "
                "Give --calibration with an .npz file or a folder of images."
            )
        pairs = _pairs(module.graph, ctx)
        if not pairs:
            return PassResult(False, stats={"channels": 0})
        axes = {pair.written: pair.writer.channel_axis for pair in pairs}
        seen = channel_extremes(
            module,
            module.calibration,
            axes,
            self.name,
            progress=lambda done, total: ctx.progress(f"measuring channels, sample {done:,} of {total:,}"),
        )
        absorbed = [
            pair.absorb(seen[pair.written].low, seen[pair.written].high, self.margin) for pair in pairs
        ]
        stats = {"channels": sum(absorbed), "layers": sum(count > 0 for count in absorbed)}
        return PassResult(stats["channels"] > 0, stats=stats)


@dataclass(frozen=True)
class _Pair:
    """A layer, and those that read it through a Relu or a Clip.

    Attributes:
        bound: upper bound of the Clip, infinite for a Relu.
        readers: their nodes; weights may change until they are asked for.
    """

    writer: LinearOp
    bound: float
    readers: tuple[ir.Node, ...]

    @property
    def written(self) -> str:
        return str(self.writer.node.outputs[0].name)

    def absorb(self, low: Array, high: Array, margin: float) -> int:
        """Move what is below ``low``, [channels]; returns of how many channels."""
        low, high = low.astype(np.float64), high.astype(np.float64)
        room = margin * (high - low)
        moved = np.where(high + room <= self.bound, np.maximum(low - room, 0.0), 0.0)
        if not moved.any():
            return 0
        ones = np.ones_like(moved)
        scale_and_shift_output(linear_op(self.writer.node), ones, -moved)
        for reader in self.readers:
            op = linear_op(reader)
            scale_and_shift_input(op, np.ones(op.inputs), moved)
        return int((moved > 0).sum())


def _pairs(graph: ir.Graph, ctx: Context) -> list[_Pair]:
    pairs: list[_Pair] = []
    for node in graph:
        activation = _activation(node)
        if activation is None:
            continue
        try:
            writer = linear_op(node)
            _require_bias(writer)
            readers = _readers(activation, writer)
        except Refusal as reason:
            ctx.note(f"the bias of {describe(node)} is not absorbed: {reason}")
            continue
        high = scalar(input_of(activation, 2)) if is_op(activation, "Clip") else None
        pairs.append(_Pair(writer, np.inf if high is None else high, readers))
    return pairs


def _activation(node: ir.Node) -> ir.Node | None:
    """The Relu, or the Clip from 0 on, that alone reads a linear operator."""
    if not is_linear(node) or node.outputs[0].is_graph_output():
        return None
    readers = list(node.outputs[0].consumers())
    if len(readers) != 1:
        return None
    if is_op(readers[0], "Relu"):
        return readers[0]
    if not is_op(readers[0], "Clip") or scalar(input_of(readers[0], 1)) != 0.0:
        return None
    upper = input_of(readers[0], 2)
    return readers[0] if upper is None or scalar(upper) is not None else None


def _readers(activation: ir.Node, writer: LinearOp) -> tuple[ir.Node, ...]:
    """Who reads what the activation gives.

    Raises:
        Refusal: one of them cannot take a constant.
    """
    value = activation.outputs[0]
    if value.is_graph_output():
        raise Refusal(f"'{value.name}' is an output of the model")
    for use in value.uses():
        if use.idx != 0 or not is_linear(use.node):
            raise Refusal(f"{describe(use.node)} reads it")
        op = linear_op(use.node)
        if op.pads() or is_op(use.node, "ConvTranspose"):
            raise Refusal(f"{describe(use.node)} pads")
        if op.channel_axis != writer.channel_axis or op.inputs != writer.outputs:
            raise Refusal(f"{describe(use.node)} reads another axis")
        _require_bias(op)
    return tuple(use.node for use in value.uses())


def _require_bias(op: LinearOp) -> None:
    if is_op(op.node, "MatMul") and rank(op.node.inputs[0]) != 2:
        raise Refusal(f"{describe(op.node)} has no bias")
