"""What scores look at: the graph, its channels, and what calibration data is like where layers read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.calibrate import each_sample
from irshrink.calibration.moments import Moments, input_moments
from irshrink.calibration.patches import weight_rows
from irshrink.channels.groups import ChannelGroups, Site
from irshrink.errors import InternalError
from irshrink.graph.edit import constant, static_shape
from irshrink.module import Module
from irshrink.passes.prune.families import Family
from irshrink.passes.prune.repair.least_squares import is_held
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Split:
    """Samples to fit to, and those held back, which decide."""

    fitted: Samples
    held: Samples

    @classmethod
    def of(cls, samples: Samples) -> Split:
        held = np.array([is_held(index, len(samples)) for index in range(len(samples))])
        return cls(*(replace(samples, select=samples.select[mask]) for mask in (~held, held)))


@dataclass(frozen=True)
class ReaderMoments:
    """Second moments of what a layer reads, on the samples to fit to and on those held back."""

    fitted: Moments
    held: Moments


@dataclass
class Scene:
    """Attributes:
    split: calibration samples; None where there are none, and nothing of the data can be asked.
    """

    module: Module
    groups: ChannelGroups
    split: Split | None
    ctx: Context
    _moments: dict[ir.Node, ReaderMoments] = field(default_factory=dict)
    _alive: dict[str, Array] = field(default_factory=dict)

    def constants(self, family: Family) -> list[tuple[ir.Value, int, Array]]:
        """The constants that lose rows with channels of the family: axis, and the group of each row."""
        return [one for one in self.groups.constants() if np.isin(one[2], family.members).any()]

    def rows(self, node: ir.Node) -> Array:
        """Weights of a layer that is not grouped, float64 [o, n]."""
        weight = constant(node.inputs[1])
        assert weight is not None, "readers have constant weights"
        return np.asarray(weight_rows(node, weight)[0])

    def measure(self, families: Sequence[Family]) -> None:
        """Run the samples once for all that the families' readers read."""
        split = self._required()
        known = {site.node for family in families for site in family.readers}
        nodes = [node for node in self.module.graph if node in known]
        both = [
            input_moments(
                self.module,
                samples,
                nodes,
                progress=lambda done, total: self.ctx.progress(f"measuring channels, {done:,} of {total:,}"),
            )
            for samples in (split.fitted, split.held)
        ]
        for node in nodes:
            name = str(node.outputs[0].name)
            self._moments[node] = ReaderMoments(both[0][name], both[1][name])

    def moments(self, node: ir.Node) -> ReaderMoments:
        return self._moments[node]

    def alive(self, site: Site) -> Array:
        """Share of values that are not zero, of each channel that a layer reads, float64 [channels]."""
        name = str(site.node.inputs[0].name) if site.node.inputs[0] is not None else ""
        if name not in self._alive:
            self._measure_alive()
        return self._alive[name]

    def _measure_alive(self) -> None:
        split = self._required()
        axes = {}
        for node in self._moments:
            source = node.inputs[0]
            shape = static_shape(source)
            assert source is not None
            assert shape is not None
            axes[str(source.name)] = len(shape) - 1 if node.op_type in ("Gemm", "MatMul") else 1
        for arrays in each_sample(self.module, split.fitted, list(axes)):
            for name, axis in axes.items():
                rows = np.moveaxis(arrays[name], axis, 0).reshape(arrays[name].shape[axis], -1)
                share = (rows != 0).mean(axis=1) / len(split.fitted)
                self._alive[name] = self._alive[name] + share if name in self._alive else share

    def _required(self) -> Split:
        if self.split is None:
            raise InternalError("channels are measured without calibration data")
        return self.split
