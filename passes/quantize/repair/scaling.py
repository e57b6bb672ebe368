"""Scaling channels: what equalize and smooth have in common.

With a positive scale s[g] for each group of channels (:mod:`irshrink.analyses.scale_groups`), what writes a
channel is divided by the scale of its group, what reads it is multiplied by it, and the model computes what
it did. Only a Clip's upper bound h does not scale along,

    min(x / s, h) = min(x, h s) / s

so a channel that reaches it keeps the scale 1, and one whose largest value is m < h may have any s >= m / h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.analyses.scale_groups import ScaleGroups, Site
from irshrink.calibration import channel_extremes
from irshrink.calibration.observers import ChannelExtremes
from irshrink.graph.edit import base_name, constant, input_of, is_op, scalar, set_constant, static_shape
from irshrink.graph.linear import linear_op, scale_and_shift_input, scale_and_shift_output
from irshrink.module import Module
from irshrink.passes.quantize.plan import listed
from irshrink.pipeline import Context

Array = np.ndarray[Any, np.dtype[Any]]

#: Scales further from 1 than this lose precision of float32 somewhere, and no layer needs them.
LARGEST_SCALE = 2.0**10


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest scale of each group, float64 [groups]; both 1 where it cannot be scaled."""

    low: Array
    high: Array

    @property
    def free(self) -> Array:
        """Whether a group has a choice, bool [groups]."""
        return np.asarray(self.low < self.high)


def scale_bounds(module: Module, groups: ScaleGroups, margin: float, step: str, ctx: Context) -> Bounds:
    """What is allowed: nothing for blocked groups, and behind a Clip only what calibration says.

    Args:
        margin: how far beyond the values of calibration data others may lie, as a part of a channel's range.
        step: the pass that asks.
    """
    free = groups.free()
    low, high = np.where(free, 1 / LARGEST_SCALE, 1.0), np.where(free, LARGEST_SCALE, 1.0)
    clips = [site for site in groups.clips if free[site.groups].any()]
    if not clips:
        return Bounds(low, high)
    if module.calibration is None:
        for site in clips:
            low[site.groups] = high[site.groups] = 1.0
        names = listed([base_name(site.node) for site in clips])
        ctx.note(
            f"Clip {names} bounds channels, which are scaled only where calibration data says that it may be"
        )
        return Bounds(low, high)
    extremes = _extremes(module, groups, clips, f"{step}, clips", ctx)
    fixed = np.zeros(groups.count, bool)
    for site, seen in zip(clips, extremes, strict=True):
        bound = scalar(input_of(site.node, 2)) or 0.0
        largest = seen.high.astype(np.float64) + margin * (seen.high - seen.low)
        np.maximum.at(low, site.groups, largest / bound)
        np.logical_or.at(fixed, site.groups, largest >= bound)
    low[fixed] = high[fixed] = 1.0
    low, high = np.where(free, low, 1.0), np.where(free, high, 1.0)
    return Bounds(low, np.maximum(low, high))


def _extremes(
    module: Module, groups: ScaleGroups, clips: Sequence[Site], step: str, ctx: Context
) -> list[ChannelExtremes]:
    """Of what each Clip reads."""
    assert module.calibration is not None
    inputs = [value for site in clips if (value := site.node.inputs[0]) is not None]
    axes = {str(value.name): groups.values[value].axis for value in inputs}
    found = channel_extremes(
        module,
        module.calibration,
        axes,
        step,
        progress=lambda done, total: ctx.progress(f"measuring channels, sample {done:,} of {total:,}"),
    )
    return [found[str(value.name)] for value in inputs]


def rescale(groups: ScaleGroups, scale: Array) -> list[ir.Node]:
    """Divide writers and multiply readers by the scale of each group, float64 [groups].

    Returns:
        The nodes that changed, in the order of the graph.
    """
    changed: dict[ir.Node, None] = {}

    def touched(sites: Sequence[Site]) -> list[tuple[ir.Node, Array]]:
        pairs = [(site.node, scale[site.groups]) for site in sites]
        pairs = [(node, factors) for node, factors in pairs if (factors != 1).any()]
        changed.update(dict.fromkeys(node for node, _ in pairs))
        return pairs

    for node, factors in touched(groups.writers):
        _divide_output(node, factors)
    for node, factors in touched(groups.shifts):
        _divide_shift(node, factors, groups)
    for node, factors in touched(groups.readers):
        scale_and_shift_input(linear_op(node), factors, np.zeros_like(factors))
    return list(changed)


def _divide_output(node: ir.Node, factors: Array) -> None:
    if not is_op(node, "LayerNormalization"):
        scale_and_shift_output(linear_op(node), 1 / factors, np.zeros_like(factors))
        return
    for index in (1, 2):
        array = constant(input_of(node, index))
        if array is not None:
            set_constant(node, index, (array / factors).astype(array.dtype), f"{base_name(node)}_{index}")


def _divide_shift(node: ir.Node, factors: Array, groups: ScaleGroups) -> None:
    """The constant of an addition, spread along the channels where it was one number for all."""
    shape = static_shape(node.outputs[0])
    assert shape is not None, "channels are followed through known shapes only"
    index = 1 if constant(node.inputs[0]) is None else 0
    array = constant(node.inputs[index])
    assert array is not None
    spread = factors.reshape(-1, *[1] * (len(shape) - groups.values[node.outputs[0]].axis - 1))
    set_constant(node, index, (array / spread).astype(array.dtype), f"{base_name(node)}_constant")


def note_blocked(groups: ScaleGroups, ctx: Context) -> None:
    """Say which layers write channels that cannot be scaled, and why."""
    why: dict[str, list[str]] = {}
    for site in groups.writers:
        reasons = {groups.blocked[int(g)]: None for g in site.groups if int(g) in groups.blocked}
        for reason in reasons:
            why.setdefault(reason, []).append(base_name(site.node))
    for reason, names in why.items():
        ctx.note(f"channels of {listed(names)} are not scaled: {reason}")
