"""A smaller picture: what a convolutional network computes costs as much as its maps have positions.

A network that ends in a pool over all positions computes with a picture of any size. Scaled to a share s of
its height and width it takes s^2 of the multiplications, and loses detail, not channels: of depth, width and
resolution the last is the cheapest to give back a little of (Tan and Le, *EfficientNet*, ICML 2019). The
input of the model stays as it is; a Resize stands before the first convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.analyses.cost import graph_macs
from irshrink.changes import ChangeLog
from irshrink.errors import ModelError
from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_ints,
    become,
    insert_before,
    is_constant,
    is_op,
    static_shape,
)
from irshrink.graph.shapes import infer_shapes
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: What may stand between an input and the first convolutions: it works on each pixel alone.
_BEFORE = ("Add", "Cast", "Div", "Identity", "Mul", "Sub", "Transpose")
_GLOBAL = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}
#: What plans try.
_SCALES = (0.9375, 0.875, 0.75, 0.625, 0.5)
#: Sizes are looked for this far from the one asked for: strides, and sums of maps, do not fit all.
_NEAR = 0.1


@dataclass(frozen=True)
class ReduceResolution:
    """Let the network look at a smaller picture.

    Attributes:
        scale: of height and width; the nearest size with which the network still fits together is taken.
    """

    name: ClassVar[str] = "reduce-resolution"
    lossy: ClassVar[bool] = True

    scale: float = 0.9

    def __post_init__(self) -> None:
        if not 0.25 <= self.scale < 1:
            raise ValueError(f"scale is {self.scale}; it must be at least 0.25 and below 1")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """The scales at which the network still fits together."""
        copy = module.clone()
        infer_shapes(copy.model)
        levels: dict[tuple[int, ...], Level] = {}
        for scale in _SCALES:
            try:
                sizes = _fitting(copy, scale)
            except Refusal:
                continue
            step = {"pass": cls.name, "scale": scale}
            levels.setdefault(sizes, Level(f"{' x '.join(map(str, sizes))} pixels", 1 - scale, (step,)))
        if not levels:
            return ()
        helps: frozenset[Effect] = frozenset({"ram", "cost"})
        return (Knob(cls.name, "size of the picture", "resolution", helps, (*levels.values(),), 1.0),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        infer_shapes(module.model)
        log, before = ChangeLog(module.graph), _macs(module.graph)
        try:
            sizes = _fitting(module, self.scale)
        except Refusal as reason:
            ctx.note(f"the resolution stays: {reason}")
            return PassResult(False, stats={"saved": 0.0})
        _shrink(module, sizes)
        saved = 1 - _macs(module.graph) / before if before else 0.0
        ctx.note(f"pictures are scaled to {' x '.join(map(str, sizes))} before the first convolution")
        return PassResult(True, stats={"saved": round(saved, 4), **log.stats(module.graph)})


def _fitting(module: Module, scale: float) -> tuple[int, ...]:
    """The size nearest to the one asked for with which all shapes fit together.

    Raises:
        Refusal: there is none, or no picture.
    """
    entry = _entry(module.graph)
    old = static_shape(entry)
    if old is None or len(old) < 3:
        raise Refusal("the shape of the picture is not known")
    factors = sorted(np.arange(scale - _NEAR, min(scale + _NEAR, 1.0), 0.005), key=lambda f: abs(f - scale))
    reason = "no size near it does"
    tried = set()
    for factor in factors:
        sizes = tuple(max(1, round(factor * size)) for size in old[2:])
        if sizes in tried or sizes == old[2:]:
            continue
        tried.add(sizes)
        try:
            _shrink(module.clone(), sizes)
        except (ModelError, Refusal) as e:
            reason = str(e)
            continue
        return sizes
    raise Refusal(f"the network does not fit together at any size near {scale:g} of it: {reason}")


def _entry(graph: ir.Graph) -> ir.Value:
    """The value that the first convolutions read, between them and the only picture that comes in.

    Raises:
        Refusal: there is none, or something else depends on the picture.
    """
    convolutions = [node for node in graph if is_op(node, "Conv")]
    if not convolutions or convolutions[0].inputs[0] is None:
        raise Refusal("there is no convolution")
    entry = value = convolutions[0].inputs[0]
    path: list[ir.Value] = [entry]
    while not value.is_graph_input():
        node = value.producer()
        varying = [] if node is None else [v for v in node.inputs if v is not None and not is_constant(v)]
        if node is None or not is_op(node, *_BEFORE) or len(varying) != 1:
            raise Refusal("there is more than the values of pixels between the picture and the convolution")
        value = varying[0]
        path.append(value)
    for before in path[1:]:
        if len(before.uses()) > 1:
            raise Refusal(f"'{before.name}' is read beside the convolution")
    return entry


def _shrink(module: Module, sizes: Sequence[int]) -> None:
    """
    Raises:
        ModelError, Refusal: shapes contradict each other; the module is of no use then.
    """
    graph = module.graph
    entry = _entry(graph)
    outputs = [static_shape(value) for value in graph.outputs]
    readers = [(node, index) for node, index in entry.uses()]
    anchor = next(node for node in graph if any(node is reader for reader, _ in readers))
    whole = static_shape(entry)
    assert whole is not None
    for node in graph:
        _make_global(node)
    shape = np.array([*whole[:2], *sizes], np.int64)
    target = add_constant(graph, shape, f"{entry.name}_sizes")
    options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    resized = insert_before(anchor, "Resize", [entry, None, None, target], options).outputs[0]
    resized.shape, resized.type = ir.Shape(shape.tolist()), entry.type
    for node, index in readers:
        node.replace_input_with(index, resized)
    _forget_shapes(graph, resized)
    infer_shapes(module.model)
    if [static_shape(value) for value in graph.outputs] != outputs:
        raise Refusal("an output of the model would have another shape")
    open_ended = next((v for n in graph for v in n.outputs if v.uses() and static_shape(v) is None), None)
    if open_ended is not None:
        raise Refusal(f"the shape of '{open_ended.name}' would not be known")


def _make_global(node: ir.Node) -> None:
    """A pool whose window is the whole map stays one."""
    value = node.inputs[0] if node.inputs else None
    shape, out = static_shape(value), static_shape(node.outputs[0])
    if not is_op(node, *_GLOBAL) or shape is None or out is None or set(out[2:]) != {1}:
        return
    if attribute_ints(node, "kernel_shape") == shape[2:] and not any(attribute_ints(node, "pads") or ()):
        become(node, _GLOBAL[node.op_type], [value])


def _forget_shapes(graph: ir.Graph, start: ir.Value) -> None:
    """Of all values behind ``start``."""
    behind = {start}
    for node in graph:
        if any(value in behind for value in node.inputs):
            behind.update(node.outputs)
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None


def _macs(graph: ir.Graph) -> int:
    return sum(count or 0 for count in graph_macs(graph).values())
