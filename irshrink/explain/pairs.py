"""Which value of the float model is which of the quantized one: by name, and only where the numbers agree.

Quantizers keep names, but not always what is behind them: batch normalization moves into weights,
equalization divides channels. A name counts only where, on a few samples, the quantized model without any
rounding of activations computes the float value, up to the noise of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink import onnxrt
from irshrink.explain.points import Point, Rounded
from irshrink.explain.tally import decibels, energy
from irshrink.explain.weave import Weave
from irshrink.graph.edit import is_op
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
#: Samples that are looked at.
_FEW = 3
#: Nobody asks further above this signal-to-noise ratio.
_NOISE_DB = 20.0
#: A channel is another's multiple when so much of its variance is explained by it, and the factor is off 1 by
#: more than that.
_EXPLAINED, _FACTOR = 0.97, 0.1
#: Share of the channels that must be so for a value not to be the one of the same name.
_SHARE = 0.25


def candidates(rounded: Rounded, graph: ir.Graph) -> dict[Point, ir.Value]:
    """The values of the float graph that have the names of points."""
    values: dict[str, ir.Value] = {str(v.name): v for v in graph.inputs}
    values |= {str(v.name): v for node in graph for v in node.outputs if v.name}
    found: dict[Point, ir.Value] = {}
    outputs = dict(zip(rounded.graph.outputs, graph.outputs, strict=False))
    for point in rounded.points:
        codes = [str(q.outputs[0].name).removesuffix("_quantized") for q in point.quantizers]
        names = [str(point.value.name), *(str(v.name) for v in point.real), *codes]
        named = next((values[name] for name in names if name in values), None)
        ends = [outputs[v] for v in (point.value, *point.real) if v in outputs]
        match = ends[0] if ends else named
        if match is not None and point.low is not None:
            match = _behind_activation(match)
        if match is not None and not _differ(point.value, match):
            found[point] = match
    return found


def agreeing(
    rounded: Rounded, graph: ir.Graph, found: Mapping[Point, ir.Value], samples: Samples, ir_version: int
) -> dict[Point, ir.Value]:
    """Those of ``found`` whose numbers agree.

    Raises:
        ModelError: ONNX Runtime cannot run one of the models.
    """
    if not found:
        return {}
    weave = Weave(rounded)
    values = weave.float_model(graph)
    twin = weave.alone({}).computed
    for number, (point, value) in enumerate(found.items()):
        weave.give(f"float {number}", values[value])
        weave.give(f"twin {number}", twin[point])
    session = onnxrt.session(weave.model(ir_version), optimize=False)
    sums = [_Sums() for _ in found]
    for feeds in samples.spread(_FEW).feeds():
        given = onnxrt.run(session, feeds)
        for number, one in enumerate(sums):
            one.add(given[weave.keys[f"float {number}"]], given[weave.keys[f"twin {number}"]])
    chosen = zip(found.items(), sums, strict=True)
    return {point: value for (point, value), one in chosen if one.is_same(point)}


@dataclass
class _Sums:
    """Moments of two arrays, per channel, over samples."""

    fits: bool = True
    signal: float = 0.0
    noise: float = 0.0
    low: float = 0.0
    moments: Array | None = None

    def add(self, a: Array, b: Array) -> None:
        if a.shape != b.shape:
            self.fits = False
            return
        self.signal += energy(a)
        self.noise += energy(a - b)
        self.low = min(self.low, float(a.min(initial=0)))
        if a.ndim < 2:
            return
        axis = a.ndim - 1 if a.ndim < 4 else 1
        x, y = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1).astype(np.float64) for v in (a, b))
        n = np.full(len(x), float(x.shape[1]))
        found = np.stack([n, x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)])
        self.moments = found if self.moments is None else self.moments + found

    def is_same(self, point: Point) -> bool:
        """Whether the arrays are the same thing up to noise: not if many channels are multiples, nor what is
        before an activation and what is behind it."""
        if not self.fits or (point.low is not None and self.low < point.low):
            return False
        if self.moments is None or decibels(self.signal, self.noise) > _NOISE_DB:
            return True
        n, x, y, xx, yy, xy = self.moments
        xx, yy, xy = xx - x * x / n, yy - y * y / n, xy - x * y / n
        alive = (xx > 0) & (yy > 0)
        explained = xy[alive] ** 2 / (xx[alive] * yy[alive])
        factors = xy[alive] / xx[alive]
        multiples = (explained > _EXPLAINED) & (np.abs(factors - 1) > _FACTOR)
        return not alive.any() or float(multiples.mean()) < _SHARE


def _behind_activation(value: ir.Value) -> ir.Value:
    """What a ReLU makes of a value that only it reads: a quantizer may keep the name of what is before."""
    readers = value.consumers()
    return readers[0].outputs[0] if len(readers) == 1 and is_op(readers[0], "Relu", "Clip") else value


def _differ(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values are known to have different shapes or types."""
    if a.shape is not None and b.shape is not None and a.shape.is_static() and b.shape.is_static():
        return a.shape != b.shape
    return b.dtype is not None and b.dtype != ir.DataType.FLOAT
