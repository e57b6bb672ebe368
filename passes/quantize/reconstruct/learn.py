"""Gradient descent on the roundings of one block; see the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_int, constant
from irshrink.passes.quantize.reconstruct.blocks import Block
from irshrink.passes.quantize.reconstruct.operators import OPERATORS, Tensor
from irshrink.passes.quantize.rounding.layer import Layer, stored
from irshrink.passes.quantize.weights import WEIGHT_LIMITS

Array = np.ndarray[Any, np.dtype[Any]]

BATCH = 16
RATE = 0.05
#: Of the term that drives every sigmoid to 0 or 1, against an error that starts at 1.
PULL = 0.3
BETA = (20.0, 2.0)
WARM_UP = 0.2
LOW, HIGH = -0.1, 1.1
#: How far a share starts on the way from the integer that is there to the float weight.
AWAY = 0.3


class SoftWeights:
    """Weights of a layer between two integers each."""

    def __init__(self, torch: Any, layer: Layer) -> None:
        stored_integers, stored_scale = (constant(value) for value in stored(layer.node, 1))
        weight = constant(layer.original.inputs[1])
        assert weight is not None
        assert stored_integers is not None
        assert stored_scale is not None
        dequantize = layer.node.inputs[1].producer() if layer.node.inputs[1] else None
        assert dequantize is not None, "the graph is quantized"
        shape = [1] * weight.ndim
        if stored_scale.ndim:
            shape[attribute_int(dequantize, "axis", 1)] = -1
        scale = stored_scale.reshape(shape).astype(np.float32)
        integers = stored_integers.astype(np.float32)
        ratio = weight / scale
        base = np.where(ratio >= integers, integers, integers - 1)
        start = (1 - AWAY) * (integers - base) + AWAY * np.clip(ratio - base, 0, 1)
        start = np.clip(start, 0.02, 0.98)
        self._torch, self._limits = torch, WEIGHT_LIMITS[layer.bits]
        self.integers = torch.tensor(integers)
        self._base, self._scale = torch.tensor(base), torch.tensor(scale)
        self.choice = torch.tensor(np.log((start - LOW) / (HIGH - start)), dtype=torch.float32)
        self.choice.requires_grad_(True)

    def share(self) -> Tensor:
        """Of the way from the lower integer to the upper one, 0 to 1."""
        return self._torch.clamp(self._torch.sigmoid(self.choice) * (HIGH - LOW) + LOW, 0, 1)

    def soft(self) -> Tensor:
        """The real weights, on the way."""
        return self._torch.clamp(self._base + self.share(), *self._limits) * self._scale

    def hard(self, integers: Tensor) -> Tensor:
        return integers * self._scale

    def chosen(self) -> Tensor:
        """The integers that the shares are nearer to."""
        return self._torch.clamp(self._base + (self.share() >= 0.5).float(), *self._limits)


def learn(
    torch: Any,
    block: Block,
    nodes: Sequence[ir.Node],
    result: ir.Value,
    given: Array,
    wanted: Array,
    steps: int,
    seed: int,
) -> list[Array] | None:
    """Integers of the layers of a block, or None where they come no closer.

    Args:
        nodes: what computes ``result`` from the source of the block.
        given: values of the source in the quantized model, [samples, ...].
        wanted: values of the result in the float model, [samples, ...].
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        return _Learner(torch, block, nodes, result).run(given, wanted, steps, seed)
    finally:
        torch.set_num_threads(threads)


class _Learner:
    def __init__(self, torch: Any, block: Block, nodes: Sequence[ir.Node], result: ir.Value) -> None:
        self._torch, self._block, self._nodes, self._result = torch, block, nodes, result
        self._weights = [SoftWeights(torch, layer) for layer in block.layers]
        self._places = [layer.node.inputs[1] for layer in block.layers]
        self._constants: dict[ir.Value, Tensor] = {}
        for node in nodes:
            for value in node.inputs:
                array = constant(value)
                if value is not None and array is not None:
                    wide = array.astype(np.int8) if array.dtype.kind == "V" else array
                    self._constants[value] = torch.tensor(np.ascontiguousarray(wide).reshape(array.shape))

    def run(self, given: Array, wanted: Array, steps: int, seed: int) -> list[Array] | None:
        torch = self._torch
        x, y = torch.tensor(given), torch.tensor(wanted)
        start = [one.hard(one.integers) for one in self._weights]
        usual = self._error(start, x, y)
        if usual == 0:
            return None
        generator = np.random.default_rng(seed)
        adam = torch.optim.Adam([one.choice for one in self._weights], lr=RATE)
        for step in range(1, steps + 1):
            picked = torch.tensor(generator.choice(len(x), min(BATCH, len(x)), replace=False))
            made = self._run([one.soft() for one in self._weights], x[picked])
            loss = (made - y[picked]).square().mean() / usual + self._pull(step / steps)
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            integers = [one.chosen() for one in self._weights]
            learned = [one.hard(q) for one, q in zip(self._weights, integers, strict=True)]
            if self._error(learned, x, y) >= usual:
                return None
        return [q.numpy() for q in integers]

    def _pull(self, done: float) -> Tensor:
        """Small where every share is 0 or 1."""
        progress = (done - WARM_UP) / (1 - WARM_UP)
        if progress <= 0:
            return self._torch.zeros(())
        beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - progress)
        count = sum(one.choice.numel() for one in self._weights)
        return PULL * sum((1 - (2 * one.share() - 1).abs() ** beta).sum() for one in self._weights) / count

    def _error(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> float:
        """The mean square error over all samples."""
        total = 0.0
        with self._torch.no_grad():
            for start in range(0, len(x), BATCH):
                made = self._run(weights, x[start : start + BATCH])
                total += float((made - y[start : start + BATCH]).square().sum())
        return total / int(y.numel())

    def _run(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        values: dict[ir.Value, Tensor] = {self._block.source: x}
        values.update((place, w) for place, w in zip(self._places, weights, strict=True) if place is not None)
        for node in self._nodes:
            if node.outputs[0] not in values:
                inputs = [_find(value, values, self._constants) for value in node.inputs]
                values[node.outputs[0]] = OPERATORS[node.op_type](self._torch, node, inputs)
        return values[self._result]


def _find(
    value: ir.Value | None, values: Mapping[ir.Value, Tensor], constants: Mapping[ir.Value, Tensor]
) -> Tensor:
    """None for an input that is left out."""
    if value is None:
        return None
    return values[value] if value in values else constants[value]
