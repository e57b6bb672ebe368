"""What a pass took away from a layer, and what that costs and saves: the record behind the report's table.

Pruning, low rank and sparsity all fill it the same way. A pass opens a :class:`ChangeLog` before it changes
the graph, says why each layer is changed, and puts what comes out into its statistics::

    log = ChangeLog(module.graph)
    ...                                                  # the graph is changed
    log.because("conv1", kind="channels", score="l2", output_error=0.013)
    log.because("fc1", kind="rank", detail="rank 12 of 64 (SVD)", into=("fc1_a", "fc1_b"))
    return PassResult(True, stats={"removed": 8, **log.stats(module.graph)})

Sizes are compared by the log itself. A layer that changed and was given no reason, for example because it
reads fewer channels now, has a row all the same. What the target saves by it is in the report: instructions
are predicted for the model before and counted for the one that was built (docs/cost.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import onnx_ir as ir

from irshrink.analyses.cost import graph_macs, graph_parameter_bytes
from irshrink.errors import InternalError
from irshrink.graph.edit import base_name, static_shape

#: Where the rows stand in the statistics of a pass.
STATS_KEY = "layer_changes"

#: ``channels``: channels, filters or neurons are gone; ``heads``: of attention; ``block``: the layer is gone
#: with the block it was in; ``rank``: it became a product of smaller ones; ``zeros``: single weights are
#: zero; ``pattern``: N of M weights or whole blocks of them are zero.
Kind = Literal["channels", "heads", "block", "rank", "zeros", "pattern"]


#: What the first axes of weights are.
_AXES = {"Conv": ("outputs", "inputs"), "ConvTranspose": ("inputs", "outputs")}


@dataclass(frozen=True)
class LayerSize:
    """A layer, or the layers it became.

    Attributes:
        weights: shape of its largest constant, as ONNX has it; empty where there is none.
        bytes: of its constants as the graph stores them.
        macs: multiply-accumulates of one inference; None where shapes are open.
        output_bytes: of its outputs, which is what it adds to the arena.
    """

    weights: tuple[int, ...] = ()
    bytes: int = 0
    macs: int | None = 0
    output_bytes: int = 0


@dataclass(frozen=True)
class LayerChange:
    """One row of the table.

    Attributes:
        layer: name of the node before the pass.
        op_type: its operator.
        kind: what was done to it; None where only its neighbours were changed on purpose.
        detail: what was removed, in words: ``8 of 32 output channels``.
        score: by which score it was chosen what to remove: ``l2``; None where none decided.
        output_error: relative squared error of its output after any repair, on data that the repair did not
            see where there is some; None where it was not measured.
        before, after: of the layer, and of what it became.
        into: names of the nodes it became, if they are others.
    """

    layer: str
    op_type: str
    kind: Kind | None
    detail: str
    score: str | None
    output_error: float | None
    before: LayerSize
    after: LayerSize
    into: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Reason:
    kind: Kind
    detail: str | None
    score: str | None
    output_error: float | None
    into: tuple[str, ...]


class ChangeLog:
    """Sizes of all layers at one time, and why they are changed after it.

    Args:
        graph: before the change.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._before = layer_sizes(graph)
        self._reasons: dict[str, _Reason] = {}
        self._otherwise: _Reason | None = None

    def because(
        self,
        layer: str,
        *,
        kind: Kind,
        detail: str | None = None,
        score: str | None = None,
        output_error: float | None = None,
        into: Sequence[str] = (),
    ) -> None:
        """Say why a layer is changed; the last word on a layer counts. One that keeps its size has no row
        unless ``detail`` says what was done to it.

        Args:
            layer: name of its node before the change (:func:`irshrink.graph.edit.base_name`).
            detail: what was removed; by default what the shapes of its weights say.
            score, output_error: see :class:`LayerChange`.
            into: names of the nodes that it becomes, where they are not called like itself.

        Raises:
            InternalError: the graph had no such layer.
        """
        if layer not in self._before:
            raise InternalError(f"there was no layer '{layer}' when the log was opened")
        self._reasons[layer] = _Reason(kind, detail, score, output_error, tuple(into))

    def otherwise(self, *, kind: Kind, score: str | None = None) -> None:
        """Say why layers are changed that multiply, give less than before, and are given no other reason."""
        self._otherwise = _Reason(kind, None, score, None, ())

    def changes(self, graph: ir.Graph) -> list[LayerChange]:
        """Every layer that was given a reason or is of another size in ``graph``, in the order of before."""
        after = layer_sizes(graph)
        return [
            row
            for layer, (op_type, size) in self._before.items()
            if (row := self._row(layer, op_type, size, after)) is not None
        ]

    def stats(self, graph: ir.Graph) -> dict[str, Any]:
        """:meth:`changes` for the statistics of a pass; the report finds them there."""
        return {STATS_KEY: [dataclasses.asdict(one) for one in self.changes(graph)]}

    def _row(
        self, layer: str, op_type: str, before: LayerSize, after: Mapping[str, tuple[str, LayerSize]]
    ) -> LayerChange | None:
        reason = self._reasons.get(layer)
        into = () if reason is None else reason.into
        parts = [after[name][1] for name in into or (layer,) if name in after]
        became = _together(parts) if parts else LayerSize()
        if before == became and (reason is None or reason.detail is None):
            return None  # looked at, and kept as it was
        difference = _difference(op_type, before, became) if parts else "removed"
        if reason is None and before.macs and became.output_bytes < before.output_bytes:
            reason = self._otherwise
        if reason is None:
            return LayerChange(layer, op_type, None, difference, None, None, before, became)
        return LayerChange(
            layer,
            op_type,
            reason.kind,
            reason.detail or difference,
            reason.score,
            reason.output_error,
            before,
            became,
            into,
        )


def layer_sizes(graph: ir.Graph) -> dict[str, tuple[str, LayerSize]]:
    """Operator and size of every node that has constants or multiplies, by its name."""
    macs, nbytes = graph_macs(graph), graph_parameter_bytes(graph)
    found = {}
    for node in graph:
        if node in macs or node in nbytes:
            size = LayerSize(
                weights=_largest_constant(node),
                bytes=nbytes.get(node, 0),
                macs=macs.get(node, 0),
                output_bytes=sum(_nbytes(value) for value in node.outputs),
            )
            found[base_name(node)] = (node.op_type, size)
    return found


def _largest_constant(node: ir.Node) -> tuple[int, ...]:
    shapes = [static_shape(v) or () for v in node.inputs if v is not None and v.is_initializer()]
    return max(shapes, key=prod, default=())


def _nbytes(value: ir.Value) -> int:
    shape = static_shape(value)
    if shape is None or value.dtype is None:
        return 0
    return -(-prod(shape) * value.dtype.bitwidth // 8)


def _together(parts: Sequence[LayerSize]) -> LayerSize:
    """Several layers as one."""
    if len(parts) == 1:
        return parts[0]
    return LayerSize(
        bytes=sum(one.bytes for one in parts),
        macs=None if any(one.macs is None for one in parts) else sum(one.macs or 0 for one in parts),
        output_bytes=sum(one.output_bytes for one in parts),
    )


def _difference(op_type: str, before: LayerSize, after: LayerSize) -> str:
    """``12 of 64 outputs and 4 of 32 inputs removed``, or ``weights 64x12 became 32x12``."""
    if before.weights == after.weights or not after.weights:
        return "other inputs or outputs"
    axes = _AXES.get(op_type, ())
    if len(before.weights) != len(after.weights) or before.weights[2:] != after.weights[2:] or not axes:
        return f"weights {_dims(before.weights)} became {_dims(after.weights)}"
    gone = [
        f"{old - new} of {old} {axis}"
        for axis, old, new in sorted(zip(axes, before.weights, after.weights, strict=False), reverse=True)
        if old > new
    ]
    return f"{' and '.join(gone)} removed" if gone else "more inputs or outputs"


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
