"""Smaller weights for channels that saturate their activation anyway.

With one scale for all weights of a layer, the largest weight decides how coarsely all are rounded; where a
Clip with the upper bound h follows, it is often one of a channel that jumps from 0 to h and is rarely in
between. Multiplied by t < 1, weights and bias alike, the channel changes sign where it did, and only values
below h / t come out lower:

    E_c(t) = E[(min(t y, h) - min(y, h))^2]      over calibration data with y > 0

Per layer, the limit T of the largest weight, and with it t = T / max |W_c| of the channels above, is the one
with the least

    sum_c E_c(t_c)  +  sum_c (T / 127)^2 / 12 * sum_i E[x_i^2] * P(0 < y_c < h)

what is changed, and what the rounding of all weights of the layer to steps of T / 127 adds as noise, which
reaches the output where the channel does not saturate. (Krishnamoorthi, arXiv:1806.08342, names such ranges
as what makes per-tensor weights fail; Banner et al., NeurIPS 2019, weigh clipping against rounding in the
same way, for single weights.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.calibration import each_sample
from irshrink.errors import RecipeError
from irshrink.graph.edit import Refusal, base_name, input_of, is_op, scalar
from irshrink.graph.linear import LinearOp, is_linear, linear_op, scale_and_shift_output
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Bins for the positive values of a channel, in parts of the bound: squares of equal steps up to _REACH.
_BINS, _REACH = 256, 36.0
#: Limits that are tried, as parts of the largest weight.
_LIMITS = np.geomspace(1.0, 0.1, 24)
_LEVELS = 127


@dataclass(frozen=True)
class ShrinkSaturated:
    """Scale down channels whose large weights only saturate a Clip, for one weight scale per tensor.

    Attributes:
        max_samples: use at most so many samples, at even distances; None for all.
    """

    name: ClassVar[str] = "shrink-saturated"
    lossy: ClassVar[bool] = True

    max_samples: int | None = 32

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"max_samples is {self.max_samples}; at least one sample is needed")

    def run(self, module: Module, ctx: Context) -> PassResult:
        layers = [layer for node in module.graph if (layer := _layer(node)) is not None]
        if not layers:
            return PassResult(False, stats={"channels": 0})
        if module.calibration is None:
            raise RecipeError(
                "shrink-saturated needs calibration data. "
                "Give --calibration with an .npz file or a folder of images."
            )
        factors = self._factors(module, module.calibration, layers, ctx)
        module.measured.steps[self.name] = factors
        shrunk = [layer.scale(factors[base_name(layer.op.node)]) for layer in layers]
        stats = {"channels": sum(shrunk), "layers": sum(count > 0 for count in shrunk)}
        return PassResult(stats["channels"] > 0, stats=stats)

    def _factors(
        self, module: Module, samples: Samples, layers: Sequence[_Layer], ctx: Context
    ) -> dict[str, Array]:
        """What each layer's channels are multiplied by, [Co], by the layer's name.

        Raises:
            ModelError: another variant of the model decided, and has no such layer.
        """
        if module.taken_over is not None:
            return module.taken_over.step_of(self.name)
        count = len(samples) if self.max_samples is None else self.max_samples
        _observe(module, samples.spread(count), layers, ctx)
        return {base_name(layer.op.node): layer.factors() for layer in layers}


@dataclass
class _Layer:
    """A linear operator, the Clip behind it, and what calibration data says of both.

    Attributes:
        bound: of the Clip.
        counts: values of each channel: at most 0, then bins of y / bound; int64 [Co, 1 + _BINS].
        power: mean square of each input channel, summed over samples, float64 [Ci].
        samples: how many were seen.
    """

    op: LinearOp
    bound: float
    counts: Array
    power: Array
    samples: int = 0

    @property
    def ends(self) -> tuple[str, str]:
        """The names of what the operator reads and of what it computes."""
        source = self.op.node.inputs[0]
        assert source is not None, "a linear operator has an input"
        return str(source.name), str(self.op.node.outputs[0].name)

    def update(self, read: Array, made: Array) -> None:
        """Add one sample: input and output of the operator."""
        axis = self.op.channel_axis
        rows = np.moveaxis(made, axis, 0).reshape(self.op.outputs, -1)
        part = np.sqrt(np.maximum(rows, 0) * np.float32(1 / self.bound))
        bins = np.ceil(np.minimum(part * np.float32(_BINS / np.sqrt(_REACH)), _BINS)).astype(np.int64)
        bins += np.arange(len(rows))[:, np.newaxis] * (_BINS + 1)
        self.counts += np.bincount(bins.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)
        inputs = np.moveaxis(read, axis, 0).reshape(self.op.inputs, -1)
        self.power += np.square(inputs, dtype=np.float64).mean(axis=1)
        self.samples += 1

    def factors(self) -> Array:
        """What the weights of each channel are best multiplied by, [Co], at most 1."""
        largest = np.abs(self.op.weight).max(axis=(2, 3)).reshape(-1)
        if not largest.any():
            return np.ones(len(largest))
        limits = _LIMITS * largest.max()
        costs = [self._cost(limit, largest) for limit in limits]
        limit = limits[int(np.argmin(costs))]
        return np.asarray(np.minimum(1.0, limit / np.maximum(largest, limit)))

    def scale(self, factors: Array) -> int:
        """Multiply the weights; returns how many channels changed."""
        scale_and_shift_output(self.op, factors, np.zeros_like(factors))
        return int((factors < 1).sum())

    def _cost(self, limit: float, largest: Array) -> float:
        """Mean squared error of what the Clip gives, summed over channels, in parts of the bound's square."""
        share = self.counts / self.counts.sum(axis=1, keepdims=True)
        part = np.square((np.arange(_BINS) + 0.5) / _BINS) * _REACH
        above = largest > limit
        factors = limit / largest[above]
        moved = np.minimum(factors[:, np.newaxis] * part, 1) - np.minimum(part, 1)
        changed = (share[above, 1:] * np.square(moved)).sum()
        groups, outputs, _, taps = self.op.weight.shape
        power = self.power.reshape(groups, -1).sum(axis=1) * taps / self.samples / self.bound**2
        passing = share[:, 1:][:, part < 1].sum(axis=1)
        noise = (limit / _LEVELS) ** 2 / 12 * (np.repeat(power, outputs) * passing).sum()
        return float(changed + noise)


def _layer(node: ir.Node) -> _Layer | None:
    """``node`` with the Clip that alone reads it; None for other nodes."""
    if not is_linear(node):
        return None
    readers = list(node.outputs[0].consumers())
    if len(readers) != 1 or node.outputs[0].is_graph_output() or not is_op(readers[0], "Clip"):
        return None
    low, high = (scalar(input_of(readers[0], index)) for index in (1, 2))
    if low != 0.0 or high is None or high <= 0:
        return None
    try:
        op = linear_op(node)
    except Refusal:
        return None
    return _Layer(op, high, np.zeros((op.outputs, 1 + _BINS), np.int64), np.zeros(op.inputs))


def _observe(module: Module, samples: Samples, layers: Sequence[_Layer], ctx: Context) -> None:
    """Run the samples once for all layers."""
    ends = [layer.ends for layer in layers]
    wanted = list(dict.fromkeys(name for pair in ends for name in pair))
    for done, arrays in enumerate(each_sample(module, samples, wanted), start=1):
        for layer, (read, made) in zip(layers, ends, strict=True):
            layer.update(arrays[read], arrays[made])
        ctx.progress(f"measuring activations, sample {done:,} of {len(samples):,}")
