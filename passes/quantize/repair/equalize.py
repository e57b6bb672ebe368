"""Cross-layer equalization: layers that share channels share the work of representing them.

With one scale for all weights of a layer, a channel with small weights is rounded coarsely, and need not be:
divided by s[c] where it is written and multiplied by s[c] where it is read, it computes the same. With the
largest weights r1[c] and r2[c] of what writes and what reads a channel,

    s[c] = sqrt(r1[c] / r2[c])

gives both the range sqrt(r1[c] r2[c]), and makes the product of the precisions of all channels the largest.
Neighbouring layers disturb each other, so this is repeated until nothing moves (Nagel et al., *Data-free
quantization through weight equalization and bias correction*, ICCV 2019, section 4.1 and appendix A). Here
a channel is a whole group that residual additions, activations, pools and concatenations tie together, and
r1 and r2 are the largest in it.

The paper makes a Relu of every ReLU6 first. That is wrong for a model whose channels do reach 6; here such
channels keep their scale, as calibration data tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.analyses.scale_groups import ScaleGroups, scale_groups
from irshrink.graph.edit import constant, input_of, is_op
from irshrink.graph.linear import linear_op
from irshrink.module import Module
from irshrink.passes.quantize.repair.scaling import Bounds, note_blocked, rescale, scale_bounds
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]

#: No scale moves by more than this factor any more.
_SETTLED = 1.001


@dataclass(frozen=True)
class Equalize:
    """Scale channels between layers so that the weights of both use the same range.

    Attributes:
        margin: how far beyond calibration data's values others may lie, as a part of a channel's range: a
            channel that would reach the bound of a Clip then is not scaled up to it.
        rounds: at most so many times over all layers.
    """

    name: ClassVar[str] = "equalize"
    lossy: ClassVar[bool] = True

    margin: float = 1.0
    rounds: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 10:
            raise ValueError(f"margin is {self.margin}; it must be 0 to 10")
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least one is needed")

    def run(self, module: Module, ctx: Context) -> PassResult:
        groups = ctx.analyses.get(scale_groups)
        note_blocked(groups, ctx)
        bounds = scale_bounds(module, groups, self.margin, self.name, ctx)
        if not bounds.free.any():
            return PassResult(False, stats={"channels": 0})
        scale, rounds = _scales(groups, bounds, self.rounds)
        nodes = rescale(groups, scale)
        stats = {"channels": int((scale != 1).sum()), "layers": len(nodes), "rounds": rounds}
        return PassResult(bool(nodes), stats=stats)


def _scales(groups: ScaleGroups, bounds: Bounds, rounds: int) -> tuple[Array, int]:
    """The scale of each group, float64 [groups], and how many rounds it took: one family after the other."""
    layers = _layers(groups)
    scale = np.ones(groups.count)
    families = [
        (
            bounds.free & (groups.families == family),
            [layer for layer in layers if layer.touches(family, groups)],
        )
        for family in np.unique(groups.families[bounds.free])
    ]
    for done in range(1, rounds + 1):
        before = scale.copy()
        for members, around in families:
            _balance(members, around, bounds, scale)
        if np.exp(np.abs(np.log(scale / before)).max()) < _SETTLED:
            return scale, done
    return scale, rounds


def _balance(members: Array, around: Sequence[_Layer], bounds: Bounds, scale: Array) -> None:
    """One step for one family; ``scale`` is changed in place."""
    written, read = np.zeros(len(scale)), np.zeros(len(scale))
    for layer in around:
        layer.add_ranges(scale, written, read)
    alive = members & (written > 0) & (read > 0)
    wanted = scale[alive] * np.sqrt(written[alive] / read[alive])
    scale[alive] = np.clip(wanted, bounds.low[alive], bounds.high[alive])


@dataclass(frozen=True)
class _Layer:
    """The largest weights between channels.

    Attributes:
        magnitude: ``[g, Co/g, Ci/g]``, float64.
        written, read: groups of the output and of the input channels; None where they have none.
    """

    magnitude: Array
    written: Array | None
    read: Array | None

    def touches(self, family: int, groups: ScaleGroups) -> bool:
        sides = [side for side in (self.written, self.read) if side is not None]
        return any(bool((groups.families[side] == family).any()) for side in sides)

    def add_ranges(self, scale: Array, written: Array, read: Array) -> None:
        """Raise the ranges of the groups around by those of this layer."""
        weight = self.magnitude
        shape = weight.shape
        if self.written is not None:
            weight = weight / scale[self.written].reshape(shape[0], shape[1], 1)
        if self.read is not None:
            weight = weight * scale[self.read].reshape(shape[0], 1, shape[2])
        if self.written is not None:
            np.maximum.at(written, self.written, weight.max(axis=2).reshape(-1))
        if self.read is not None:
            np.maximum.at(read, self.read, weight.max(axis=1).reshape(-1))


def _layers(groups: ScaleGroups) -> list[_Layer]:
    written = {site.node: site.groups for site in groups.writers}
    read = {site.node: site.groups for site in groups.readers}
    return [_Layer(_magnitude(node), side, read.get(node)) for node, side in written.items()]


def _magnitude(node: ir.Node) -> Array:
    if is_op(node, "LayerNormalization"):
        weight = constant(input_of(node, 1))
        assert weight is not None, "a writer has constant weights"
        return np.abs(weight.astype(np.float64)).reshape(-1, 1, 1)
    return np.asarray(np.abs(linear_op(node).weight).max(axis=3))
