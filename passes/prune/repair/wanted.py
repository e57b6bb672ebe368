"""What each layer of a changed model should compute: what the original computes in the same place.

Values keep their names when a model shrinks, so a layer's output is compared with the value of that name in
the original, as far as its channels are left. A layer whose output is added to a shortcut is asked for more:
the sum should be the original's, so what is wrong with the shortcut is taken back as well,

    t = original sum - shortcut as it has become

(He, Zhang and Sun, *Channel pruning for accelerating very deep neural networks*, ICCV 2017, section 3.3).
Only the later one of the two that are added can do so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.patches import why_no_rows
from irshrink.graph.edit import Refusal, constant, describe, input_of, is_constant, is_op, same_shape, scalar
from irshrink.graph.linear import LinearOp, is_linear, linear_op
from irshrink.module import Original
from irshrink.pipeline import Context

Array = np.ndarray[Any, np.dtype[Any]]

#: Inputs of an output above which there is no matrix of second moments.
LARGEST_MATRIX = 4608


@dataclass(frozen=True)
class Wanted:
    """A layer of the changed model and what it should give.

    Attributes:
        node: the layer.
        like: the value of the original that its output, or the sum with ``shortcut``, should be like.
        before: the layer that computes ``like`` in the original, or its part of it.
        shortcut: a value of the changed model that is added to the layer's output; None for none.
        bounds: of the Relu or Clip that alone reads the output or the sum; None for no such activation.
    """

    node: ir.Node
    like: ir.Value
    before: ir.Node
    shortcut: ir.Value | None
    bounds: tuple[float, float] | None

    def op(self) -> LinearOp:
        """The layer as it is now."""
        return linear_op(self.node)

    def target(self, original: Original, reference: Mapping[str, Array], now: Mapping[str, Array]) -> Array:
        """What the layer's output should be on one sample, in its layout.

        Args:
            reference, now: values of the original and of the changed model, by name.
        """
        wanted = original.restricted(str(self.like.name), reference[str(self.like.name)])
        return wanted if self.shortcut is None else np.asarray(wanted - now[str(self.shortcut.name)])


def wanted_layers(graph: ir.Graph, original: Original, ctx: Context) -> list[Wanted]:
    """The layers that can be repaired, in the order of ``graph``; why others cannot becomes a note."""
    places = {node: index for index, node in enumerate(graph)}
    values = {str(v.name): v for node in original.module.graph for v in node.outputs}
    found = []
    for node in graph:
        if not is_linear(node) or is_constant(node.inputs[0]) or constant(node.inputs[1]) is None:
            continue
        like = values.get(str(node.outputs[0].name))
        before = None if like is None else like.producer()
        if like is None or before is None:
            continue
        try:
            require_repairable(node)
        except Refusal as reason:
            ctx.note(f"{describe(node)} is not repaired: {reason}")
            continue
        added = _sum_of(node, values, places)
        total, shortcut = added if added is not None else (like, None)
        if _shape_left(total, original) == tuple(node.outputs[0].shape or ()):
            result = (
                node.outputs[0] if shortcut is None else next(iter(node.outputs[0].consumers())).outputs[0]
            )
            found.append(Wanted(node, total, before, shortcut, _bounds(result)))
    return found


def require_repairable(node: ir.Node) -> None:
    """
    Raises:
        Refusal: its weights must stay, or there are too many.
    """
    reason = why_no_rows(node)
    if reason is not None:
        raise Refusal(reason)
    size = linear_op(node).weight[0, 0].size
    if size > LARGEST_MATRIX:
        raise Refusal(f"{size:,} weights of an output are more than {LARGEST_MATRIX:,}")


def _sum_of(
    node: ir.Node, values: Mapping[str, ir.Value], places: Mapping[ir.Node, int]
) -> tuple[ir.Value, ir.Value] | None:
    """The original's sum that the layer's output goes into, and what is added to it here."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or not is_op(uses[0].node, "Add") or output.is_graph_output():
        return None
    other = uses[0].node.inputs[1 - uses[0].idx]
    like = values.get(str(uses[0].node.outputs[0].name))
    if (
        like is None
        or other is None
        or other is output
        or is_constant(other)
        or not same_shape(output, other)
    ):
        return None
    producer = other.producer()
    earlier = producer is not None and places.get(producer, len(places)) < places[node]
    return (like, other) if earlier and not other.is_graph_input() else None


def _bounds(value: ir.Value) -> tuple[float, float] | None:
    """The widest bounds of the activations that read a value, if nothing else does."""
    found = []
    for node, index in value.uses():
        low, high = input_of(node, 1), input_of(node, 2)
        if is_op(node, "Relu"):
            found.append((0.0, np.inf))
        elif is_op(node, "Clip") and index == 0 and all(v is None or is_constant(v) for v in (low, high)):
            ends = scalar(low), scalar(high)
            found.append((-np.inf if ends[0] is None else ends[0], np.inf if ends[1] is None else ends[1]))
        else:
            return None
    if not found or value.is_graph_output():
        return None
    return min(low for low, _ in found), max(high for _, high in found)


def _shape_left(value: ir.Value, original: Original) -> tuple[Any, ...]:
    """The shape of what is left of a value of the original."""
    left = original.kept.get(str(value.name), ())
    shape = tuple(value.shape or ())
    return tuple(
        len(left[axis]) if axis < len(left) and left[axis] is not None else size  # type: ignore[arg-type]
        for axis, size in enumerate(shape)
    )


def in_reference_order(layers: Sequence[Wanted], original: Original) -> Iterator[list[Wanted]]:
    """The layers in runs that have the same order in the original."""
    places = {node: index for index, node in enumerate(original.module.graph)}
    run: list[Wanted] = []
    for layer in layers:
        if run and places[layer.before] < places[run[-1].before]:
            yield run
            run = []
        run.append(layer)
    if run:
        yield run
