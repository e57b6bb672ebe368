"""SmoothQuant: channels of activations get a range that one scale for all of them serves.

What LayerNormalization writes often has a few channels that are many times as large as the others, and one
int8 scale for all leaves the others a handful of levels. Weights are easier to round, so the difficulty
moves there:

    s[c] = max |X_c|^alpha / max |W_c|^(1 - alpha),      X_c / s[c],  W_c s[c]

with X_c what is read and W_c the weights that read it (Xiao et al., *SmoothQuant: accurate and efficient
post-training quantization for large language models*, ICML 2023, equation 4). Only ratios matter; the
scales of channels that are tied together are multiplied by one number, so that the largest activation stays
what it was.

Here X is whatever layers with weights read and something can be divided that writes it: a
LayerNormalization, or another layer, behind activations, additions and pools
(:mod:`irshrink.analyses.scale_groups`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from irshrink.analyses.scale_groups import ScaleGroups, scale_groups
from irshrink.calibration import channel_extremes
from irshrink.errors import RecipeError
from irshrink.graph.edit import is_op
from irshrink.graph.linear import linear_op
from irshrink.module import Module
from irshrink.passes.quantize.repair.scaling import note_blocked, rescale, scale_bounds
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Smooth:
    """Scale channels of activations to similar ranges, and the weights that read them the other way.

    Attributes:
        alpha: 0 leaves activations to what suits the weights, 1 makes the ranges of all channels the same.
        layernorm_only: leave channels alone that no LayerNormalization writes.
        margin: as for ``equalize``.
    """

    name: ClassVar[str] = "smooth"
    lossy: ClassVar[bool] = True

    alpha: float = 0.5
    layernorm_only: bool = True
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be 0 to 1")
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin}; it must not be negative")

    def run(self, module: Module, ctx: Context) -> PassResult:
        if module.calibration is None:
            raise RecipeError(
                "smooth needs calibration data. Give --calibration with an .npz file or a folder of images."
            )
        groups = ctx.analyses.get(scale_groups)
        note_blocked(groups, ctx)
        bounds = scale_bounds(module, groups, self.margin, self.name, ctx)
        chosen = bounds.free & (_normalized(groups) if self.layernorm_only else True)
        if not chosen.any():
            return PassResult(False, stats={"channels": 0})
        scale = np.clip(self._scales(module, groups, chosen, ctx), bounds.low, bounds.high)
        nodes = rescale(groups, scale)
        return PassResult(bool(nodes), stats={"channels": int((scale != 1).sum()), "layers": len(nodes)})

    def _scales(self, module: Module, groups: ScaleGroups, chosen: Array, ctx: Context) -> Array:
        """The scale of each group, float64 [groups]; 1 for those that are not chosen."""
        read, weights = _read(module, groups, chosen, ctx), np.zeros(groups.count)
        for site in groups.readers:
            if chosen[site.groups].any():
                columns = np.abs(linear_op(site.node).weight).max(axis=(1, 3)).reshape(-1)
                np.maximum.at(weights, site.groups, columns)
        alive = chosen & (read > 0) & (weights > 0)
        scale = np.ones(groups.count)
        scale[alive] = read[alive] ** self.alpha / weights[alive] ** (1 - self.alpha)
        for family in np.unique(groups.families[alive]):
            members = alive & (groups.families == family)
            scale[members] *= (read[members] / scale[members]).max() / read[members].max()
        return scale


def _normalized(groups: ScaleGroups) -> Array:
    """Whether a LayerNormalization writes a group, bool [groups]."""
    found = np.zeros(groups.count, bool)
    for site in groups.writers:
        if is_op(site.node, "LayerNormalization"):
            found[site.groups] = True
    return found


def _read(module: Module, groups: ScaleGroups, chosen: Array, ctx: Context) -> Array:
    """Largest magnitude of what is read of each group, float64 [groups]."""
    assert module.calibration is not None, "asked before"
    values = {site.node.inputs[0] for site in groups.readers if chosen[site.groups].any()}
    by_name = {str(value.name): groups.values[value] for value in groups.values if value in values}
    found = channel_extremes(
        module,
        module.calibration,
        {name: channels.axis for name, channels in by_name.items()},
        Smooth.name,
        progress=lambda done, total: ctx.progress(f"measuring channels, sample {done:,} of {total:,}"),
    )
    largest = np.zeros(groups.count)
    for name, channels in by_name.items():
        seen = found[name]
        np.maximum.at(largest, channels.groups, np.maximum(np.abs(seen.low), np.abs(seen.high)))
    return largest
