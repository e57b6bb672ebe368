"""Where a quantized graph rounds: the structure that every measurement hangs on.

A *point* is a value of the graph that is rounded to a grid of integers (QuantizeLinear), or the float result
of a layer whose weights are rounded. The nodes between the points before it and a point are its *segment*;
the layer that the segment computes gives the point its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.explain.stored import Stored, is_stored, read_stored
from irshrink.graph.edit import base_name, describe, inner_graphs, is_constant, is_op
from irshrink.graph.quantized import Affine, affine_of

#: Operators that only hand on elements of what they read: rounding behind them to the same grid is no
#: rounding.
MOVES = (
    *("DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Reshape"),
    *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
#: Operators with weights.
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: The largest real number of a grid from 0 that is taken for a ReLU6 inside of the layer.
_SIX = (5.9, 6.01)


@dataclass(eq=False)
class Point:
    """One value that is rounded, or one layer whose weights are.

    Attributes:
        value: before rounding.
        grid: None where the value stays float.
        node: the layer; None for an input of the graph.
        entry: the input of the graph that the value is, behind moves.
        stored: the rounded constants of its segment.
        sources: the points that its segment reads.
        quantizers: the QuantizeLinear nodes of this point, those behind moves included.
        real: what stands for the value behind DequantizeLinear.
        low, high: the clamp that the layer's own activation became when a quantizer folded it into the grid.
    """

    value: ir.Value
    grid: Affine | None
    node: ir.Node | None = None
    entry: ir.Value | None = None
    stored: list[Stored] = field(default_factory=list)
    sources: list[Point] = field(default_factory=list)
    quantizers: list[ir.Node] = field(default_factory=list)
    real: list[ir.Value] = field(default_factory=list)
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        if self.entry is not None:
            return str(self.entry.name)
        return str(self.value.name) if self.node is None else base_name(self.node)

    @property
    def op_type(self) -> str:
        return "input" if self.node is None else self.node.op_type

    @property
    def weight(self) -> Stored | None:
        """Of the layer itself."""
        return next((s for s in self.stored if s.reader is self.node and s.role == "weight"), None)

    @property
    def bias(self) -> Stored | None:
        return next((s for s in self.stored if s.reader is self.node and s.role == "bias"), None)


@dataclass(frozen=True)
class Rounded:
    """A graph and its points.

    Attributes:
        points: in the order of the graph.
        of: the point of every QuantizeLinear that belongs to one.
        at: the point of every float value that is one.
        stored: rounded constants by the value that DequantizeLinear makes of them.
    """

    graph: ir.Graph
    points: tuple[Point, ...]
    of: dict[ir.Node, Point]
    at: dict[ir.Value, Point]
    stored: dict[ir.Value, Stored]

    def readers(self, point: Point) -> list[Point]:
        """The points whose segments read ``point``."""
        return [other for other in self.points if point in other.sources]


def find_points(graph: ir.Graph, where: str) -> Rounded:
    """
    Args:
        where: the model's name in messages.

    Raises:
        ModelError: nothing in the graph is quantized, or a subgraph hides what is.
    """
    stored = {s.value: s for node in graph if (s := read_stored(node)) is not None}
    found = _Finder(graph, stored)
    found.quantized()
    if not found.of and not stored:
        raise ModelError(
            f"{where}: nothing in it is quantized: there is no QuantizeLinear and no DequantizeLinear that "
            "can be read. Give a quantized model; `irshrink compile` and `irshrink optimize` make one."
        )
    for node in graph:
        if inner_graphs(node):
            raise ModelError(
                f"{where}: {describe(node)} holds a graph of its own, which explain does not look into. "
                "Fix the input shapes, and run `irshrink optimize` first, which resolves it where it can."
            )
    found.float_layers()
    found.outputs()
    return found.finish()


class _Finder:
    """Collects points; see :func:`find_points`."""

    def __init__(self, graph: ir.Graph, stored: dict[ir.Value, Stored]) -> None:
        self.graph = graph
        self.stored = stored
        self.of: dict[ir.Node, Point] = {}
        self.at: dict[ir.Value, Point] = {}
        self._behind: dict[ir.Value, Point] = {}  # what carries a point's numbers: codes, reals, moved ones
        self._rounded: dict[tuple[ir.Value, Affine], Point] = {}

    def quantized(self) -> None:
        """A point for every QuantizeLinear on an activation, one for all that round alike."""
        for node in self.graph:
            if is_stored(node):
                continue
            source = node.inputs[0] if node.inputs else None
            if is_op(node, "QuantizeLinear"):
                self._quantize(node)
            elif source in self._behind and is_op(node, "DequantizeLinear"):
                point = self._behind[source]
                point.real.append(node.outputs[0])
                self._behind[node.outputs[0]] = point
            elif source in self._behind and is_op(node, *MOVES):
                self._behind.update((out, self._behind[source]) for out in node.outputs)

    def _quantize(self, node: ir.Node) -> None:
        value, grid = node.inputs[0], affine_of(node)
        if value is None or grid is None or is_constant(value):
            return
        point = self._behind.get(value)
        if point is None or point.grid != grid:
            point = self._rounded.get((value, grid)) or Point(value, grid)
            self._rounded[value, grid] = point
        point.quantizers.append(node)
        self.of[node] = point
        self._behind[node.outputs[0]] = point

    def float_layers(self) -> None:
        """A point for every layer whose weights are rounded and whose result is not."""
        for node in self.graph:
            if any(value in self.stored for value in node.inputs) and not is_op(node, "QuantizeLinear"):
                self._layer(node)

    def _layer(self, node: ir.Node) -> None:
        if not node.outputs:
            return
        value = node.outputs[0]
        while not self._is_rounded(value):
            readers = value.consumers()
            follower = readers[0] if len(readers) == 1 and not value.is_graph_output() else None
            if follower is None or not _is_part_of_a_layer(follower, value):
                break
            value = follower.outputs[0]
        if not self._is_rounded(value) and _is_float(value):
            self.at.setdefault(value, Point(value, None))

    def _is_rounded(self, value: ir.Value) -> bool:
        return any(reader in self.of for reader in value.consumers())

    def outputs(self) -> None:
        """A point for every float output of the graph that is none yet."""
        for value in self.graph.outputs:
            if value not in self._behind and value not in self.at and _is_float(value) and value.producer():
                self.at[value] = Point(value, None)

    def finish(self) -> Rounded:
        """Layers, constants and sources of all points, which then are in graph order."""
        sources: dict[ir.Value, dict[Point, None]] = {}
        inside: dict[ir.Value, dict[ir.Node, None]] = {}
        order: dict[Point, None] = {}
        for node in self.graph:
            if node in self.of:
                self._settle(self.of[node], sources, inside, order)
            read = [v for v in node.inputs if v is not None]
            points = [self._behind[v] for v in read if v in self._behind]
            gathered = {p: None for v in read for p in sources.get(v, {})}
            for out in node.outputs:
                inside[out] = {n: None for v in read for n in inside.get(v, {})} | {node: None}
                sources[out] = gathered | dict.fromkeys(points)
                if out in self._behind:
                    sources[out], inside[out] = {}, {}
                if out in self.at:
                    self._settle(self.at[out], sources, inside, order)
                    self._behind[out] = self.at[out]
                    sources[out], inside[out] = {}, {}
        return Rounded(self.graph, tuple(order), self.of, self.at, self.stored)

    def _settle(
        self,
        point: Point,
        sources: dict[ir.Value, dict[Point, None]],
        inside: dict[ir.Value, dict[ir.Node, None]],
        order: dict[Point, None],
    ) -> None:
        if point in order:
            return
        order[point] = None
        point.sources = [*sources.get(point.value, {})]
        nodes = [n for n in inside.get(point.value, {}) if not is_stored(n)]
        point.stored = [self.stored[v] for n in nodes for v in n.inputs if v in self.stored]
        point.entry = None if point.sources else _entry(point.value)
        point.node = None if point.entry is not None else _layer_of(nodes, point)
        point.low, point.high = _folded_clamp(point, nodes)


def _layer_of(nodes: list[ir.Node], point: Point) -> ir.Node | None:
    """The node that a segment is named after: the last one with weights, else the first that computes."""
    linear = [n for n in nodes if is_op(n, *LINEAR)]
    if linear:
        return linear[-1]
    computing = [
        n for n in nodes if not is_op(n, *MOVES, "Relu", "Clip", "DequantizeLinear", "QuantizeLinear")
    ]
    return computing[-1] if computing else (nodes[0] if nodes else point.value.producer())


def _entry(value: ir.Value) -> ir.Value | None:
    """The input of the graph that a value is, behind moves."""
    node = value.producer()
    while node is not None and is_op(node, *MOVES) and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value if value.is_graph_input() else None


def _folded_clamp(point: Point, nodes: list[ir.Node]) -> tuple[float | None, float | None]:
    """The clamp of a Relu that a quantizer left to the grid: of layers with weights and sums alone."""
    grid, producer = point.grid, point.value.producer()
    if grid is None or grid.range[0] != 0 or not nodes:
        return None, None
    if producer is None or not is_op(producer, *LINEAR, "Add", "BatchNormalization"):
        return None, None
    return 0.0, 6.0 if _SIX[0] <= grid.range[1] <= _SIX[1] else None


def _is_part_of_a_layer(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node reads one thing that varies and no rounded constant of its own."""
    if is_op(node, *LINEAR) or len(node.outputs) != 1:
        return False
    return all(v is value or v is None or is_constant(v) for v in node.inputs)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype == ir.DataType.FLOAT
