"""One graph that computes a model several times: in float, layer by layer, rounded, and with changes.

All branches read the same inputs, so one run of one sample gives everything there is to compare, and weights
are held once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.explain.points import MOVES, Point, Rounded
from irshrink.explain.stored import Stored
from irshrink.graph.edit import is_constant, is_op
from irshrink.graph.quantized import Affine

Array = np.ndarray[Any, np.dtype[Any]]
#: Values of one graph in the woven one.
Map = dict[ir.Value, ir.Value]


@dataclass(frozen=True)
class Change:
    """What is done to the rounded model.

    Attributes:
        drop: points that are not rounded any more.
        grids: other grids.
        constants: other real numbers for rounded constants.
    """

    drop: frozenset[Point] = frozenset()
    grids: Mapping[Point, Affine] = field(default_factory=dict)
    constants: Mapping[Stored, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Alone:
    """A model with float activations, point by point.

    Attributes:
        computed: what each point computes from what it reads.
        going_on: what goes on from there.
        outputs: of the model.
    """

    computed: Mapping[Point, ir.Value]
    going_on: Mapping[Point, ir.Value]
    outputs: Sequence[ir.Value]


class Weave:
    """A graph under construction; ``outputs`` are what a run gives, by the key that :meth:`give` was told.

    Args:
        rounded: the quantized graph, whose inputs the woven one has.
    """

    def __init__(self, rounded: Rounded) -> None:
        self.rounded = rounded
        self.keys: dict[str, str] = {}
        self._inputs = [v for v in rounded.graph.inputs if v.name not in rounded.graph.initializers]
        taken = [ir.Value(name=v.name, shape=v.shape, type=v.type) for v in self._inputs]
        versions = dict(rounded.graph.opset_imports)
        self._graph = ir.Graph(taken, [], nodes=[], opset_imports=versions, name="explained")
        self._given: Map = dict(zip(self._inputs, taken, strict=True))
        self._constants: dict[Any, ir.Value] = {}
        self._count = 0

    def model(self, ir_version: int) -> ir.Model:
        return ir.Model(self._graph, ir_version=ir_version)

    def give(self, key: str, value: ir.Value, dtype: ir.DataType = ir.DataType.FLOAT) -> None:
        """Make a value an output of the graph; two keys may share one."""
        if value.is_graph_input() or value.is_initializer():
            value = self._add("Identity", [value])
        if not value.is_graph_output():
            value.type = ir.TensorType(dtype)
            self._graph.outputs.append(value)
        self.keys[key] = str(value.name)

    def float_model(self, graph: ir.Graph) -> Map:
        """Append a float model that takes the same inputs, in order.

        Raises:
            ModelError: it does not.
        """
        inputs = [v for v in graph.inputs if v.name not in graph.initializers]
        if len(inputs) != len(self._inputs):
            raise ModelError(
                f"the float model has {len(inputs)} inputs, the quantized one {len(self._inputs)}. Give the "
                "model that was quantized."
            )
        made = {theirs: self._input(ours, theirs) for ours, theirs in zip(self._inputs, inputs, strict=True)}
        for domain, version in graph.opset_imports.items():
            known = self._graph.opset_imports.setdefault(domain, version)
            assert domain not in ("", "ai.onnx") or known == version, "both were raised to one opset"
        for node in graph:
            self._copy(node, made)
        return made

    def _input(self, ours: ir.Value, theirs: ir.Value) -> ir.Value:
        """The quantized model's input as the float model takes it."""
        given = self._given[ours]
        if ours.shape is not None and theirs.shape is not None and ours.shape != theirs.shape:
            raise ModelError(
                f"input '{ours.name}' is {list(ours.shape)} in the quantized model and {list(theirs.shape)} "
                "in the float one. Give the model that was quantized."
            )
        if ours.dtype == theirs.dtype:
            return given
        for node in ours.consumers():
            if is_op(node, "DequantizeLinear"):
                return self._copy(node, dict(self._given))[0]
        raise ModelError(
            f"input '{ours.name}' is {ours.dtype} in the quantized model and {theirs.dtype} in the float one."
        )

    def alone(self, matched: Mapping[Point, ir.Value]) -> Alone:
        """Append the model with rounded constants and float activations.

        Args:
            matched: float values that go on in place of what a point computes: each layer then reads what
                it would read in the float model.
        """
        made: Map = dict(self._given)
        real: dict[ir.Value, Point] = {}
        computed: dict[Point, ir.Value] = {}
        going_on: dict[Point, ir.Value] = {}

        def reached(point: Point, value: ir.Value) -> ir.Value:
            if point not in computed:
                computed[point] = self._clamp(point, value)
                going_on[point] = matched.get(point, computed[point])
            return going_on[point]

        for node in self.rounded.graph:
            point = self.rounded.of.get(node)
            if self._is_constant(node, made, {}):
                continue
            if point is not None:
                source = node.inputs[0]
                assert source is not None, "found by its input"
                value = self._value(source, made)
                made[node.outputs[0]] = reached(point, value) if source is point.value else value
                real[node.outputs[0]] = point
            elif not self._pass_on(node, made, real):
                self._copy(node, made, real=real)
            for out in node.outputs:
                if out in self.rounded.at:
                    made[out] = reached(self.rounded.at[out], made[out])
        return Alone(computed, going_on, [self._value(v, made) for v in self.rounded.graph.outputs])

    def whole(self, change: Change | None = None) -> tuple[dict[Point, ir.Value], list[ir.Value]]:
        """Append the rounded model, changed.

        Returns:
            What stands for every point behind its rounding, and the outputs as real numbers.
        """
        change = change or Change()
        made: Map = dict(self._given)
        real: dict[ir.Value, Point] = {}
        behind: dict[Point, ir.Value] = {}
        for node in self.rounded.graph:
            point = self.rounded.of.get(node)
            if self._is_constant(node, made, change.constants):
                continue
            if point is not None and point in change.drop:
                source = node.inputs[0]
                assert source is not None, "found by its input"
                value = self._value(source, made)
                made[node.outputs[0]] = self._clamp(point, value) if source is point.value else value
                behind.setdefault(point, made[node.outputs[0]])
                real[node.outputs[0]] = point
            elif point is not None:
                behind.setdefault(point, self._round(node, point, made, change.grids.get(point)))
            elif not self._pass_on(node, made, real):
                self._copy(node, made, self._other_grid(node, change), real)
            behind |= {self.rounded.at[out]: made[out] for out in node.outputs if out in self.rounded.at}
        return behind, [self._output(value, made, real) for value in self.rounded.graph.outputs]

    def _output(self, value: ir.Value, made: Map, real: Mapping[ir.Value, Point]) -> ir.Value:
        """An output of the model as real numbers."""
        producer = value.producer()
        if producer in self.rounded.of and value not in real:
            scale, zero = (self._value(v, made) for v in producer.inputs[1:3] if v is not None)
            return self._add("DequantizeLinear", [made[value], scale, zero])
        return self._value(value, made)

    def _round(self, node: ir.Node, point: Point, made: Map, grid: Affine | None) -> ir.Value:
        """QuantizeLinear, and its own DequantizeLinear for who wants to see the numbers."""
        source = node.inputs[0]
        assert source is not None, "found by its input"
        assert point.grid is not None, "found by its grid"
        parameters = self._grid(grid or point.grid)
        value = self._value(source, made)
        attributes = [a for a in node.attributes.values() if a.name == "saturate"]
        codes = self._add("QuantizeLinear", [value, *parameters], attributes)
        made[node.outputs[0]] = codes
        return self._add("DequantizeLinear", [codes, *parameters])

    def _other_grid(self, node: ir.Node, change: Change) -> Affine | None:
        """The grid that a DequantizeLinear of a changed point has."""
        if not is_op(node, "DequantizeLinear"):
            return None
        return next((grid for point, grid in change.grids.items() if node.outputs[0] in point.real), None)

    def _grid(self, grid: Affine) -> tuple[ir.Value, ir.Value]:
        key = ("grid", grid)
        scale = self._constant((*key, 0), np.array(grid.scale, np.float32))
        return scale, self._constant((*key, 1), np.array(grid.zero_point, np.dtype(grid.dtype)))

    def _clamp(self, point: Point, value: ir.Value) -> ir.Value:
        """The activation that the point's grid stands for."""
        if point.low is not None:
            value = self._add("Relu", [value])
        if point.high is None:
            return value
        return self._add(
            "Min", [value, self._constant(("high", point.high), np.array(point.high, np.float32))]
        )

    def _is_constant(self, node: ir.Node, made: Map, other: Mapping[Stored, Array]) -> bool:
        """Whether a node is a rounded constant, which then is there in real numbers."""
        stored = self.rounded.stored.get(node.outputs[0]) if node.outputs else None
        if stored is not None:
            if stored in other:
                made[stored.value] = self._constant((stored, id(other[stored])), other[stored])
            else:
                made[stored.value] = self._constant((stored, None), stored.real)
            return True
        return is_op(node, "QuantizeLinear") and is_constant(node.inputs[0]) and self._feeds_stored(node)

    def _feeds_stored(self, node: ir.Node) -> bool:
        return all(out in self.rounded.stored for n in node.outputs[0].consumers() for out in n.outputs)

    def _pass_on(self, node: ir.Node, made: Map, real: dict[ir.Value, Point]) -> bool:
        """Integers that are real numbers here stay so through moves, and need no DequantizeLinear.

        Returns:
            Whether nothing is left to compute.
        """
        source = node.inputs[0] if node.inputs else None
        if source is None or source not in real:
            return False
        if is_op(node, "DequantizeLinear"):
            made[node.outputs[0]] = made[source]
            return True
        if is_op(node, *MOVES):
            real.update(dict.fromkeys(node.outputs, real[source]))
        return False

    def _copy(
        self,
        node: ir.Node,
        made: Map,
        grid: Affine | None = None,
        real: Mapping[ir.Value, Point] | None = None,
    ) -> Sequence[ir.Value]:
        """
        Args:
            grid: of a DequantizeLinear, in place of its own.
            real: integers that are real numbers here; who computes with codes gets codes.
        """
        known = {} if is_op(node, *MOVES) else real or {}
        inputs = [None if v is None else self._as_read(v, made, known) for v in node.inputs]
        if grid is not None:
            inputs[1:] = self._grid(grid)
        outputs = [self._name(ir.Value()) for _ in node.outputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(node.attributes.values()),
            overload=node.overload,
            outputs=outputs,
            name=f"n{self._count}",
        )
        for old, new in zip(node.outputs, outputs, strict=True):
            if old.name == "":
                new.name = ""  # an optional output that is left out
        self._graph.append(copy)
        made.update(zip(node.outputs, outputs, strict=True))
        return outputs

    def _add(self, op_type: str, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr] = ()) -> ir.Value:
        out = self._name(ir.Value())
        self._graph.append(ir.Node("", op_type, inputs, attributes, outputs=[out], name=f"n{self._count}"))
        return out

    def _as_read(self, value: ir.Value, made: Map, real: Mapping[ir.Value, Point]) -> ir.Value:
        grid = real[value].grid if value in real else None
        if grid is None:
            return self._value(value, made)
        return self._add("QuantizeLinear", [made[value], *self._grid(grid)])

    def _value(self, value: ir.Value, made: Map) -> ir.Value:
        """A value of a copied graph in the woven one; constants come over when they are first read."""
        if value in made:
            return made[value]
        tensor = value.const_value
        assert tensor is not None, f"'{value.name}' is read before it is made"
        if value not in self._constants:
            self._constants[value] = self._register(tensor)
        return self._constants[value]

    def _constant(self, key: Any, array: Array) -> ir.Value:
        if key not in self._constants:
            self._constants[key] = self._register(ir.tensor(array))
        return self._constants[key]

    def _register(self, tensor: Any) -> ir.Value:
        value = self._name(ir.Value(shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor))
        self._graph.register_initializer(value)
        return value

    def _name(self, value: ir.Value) -> ir.Value:
        self._count += 1
        value.name = f"v{self._count}"
        return value
