"""ONNX nodes of a Caffe network, with every shape known as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import ModelError
from irshrink.frontends.caffe.network import Layer

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
IR_VERSION = 9
_MOST_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name so far, and its shape (NCHW as in Caffe)."""

    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    def axis(self, axis: int, layer: Layer) -> int:
        """``axis`` from 0, where negative ones count from the end.

        Raises:
            ModelError: there is no such axis.
        """
        if not -self.rank <= axis < self.rank:
            raise ModelError(
                f"layer '{layer.name}' ({layer.kind}): a blob of {list(self.shape)} has no axis {axis}."
            )
        return axis % self.rank


class Graph:
    """Collects nodes. A node is called after its layer, ``layer/Operator`` where a layer needs several."""

    def __init__(self, blobs: Iterable[str] = ()) -> None:
        """
        Args:
            blobs: names that inputs and outputs may take.
        """
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.inputs: list[Value] = []
        self._made: list[Value] = []
        self._names = set(blobs)

    def input(self, name: str, shape: Sequence[int]) -> Value:
        """A graph input; float32."""
        self._names.add(name)
        value = Value(name, tuple(shape))
        _require_sane(value, f"input '{name}'")
        self.inputs.append(value)
        return value

    def constant(self, layer: Layer, what: str, array: NDArray[Any]) -> str:
        """The name of an initializer that holds ``array``."""
        name = self._free(f"{layer.name}.{what}")
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def node(
        self,
        layer: Layer,
        operator: str,
        inputs: Sequence[Value | str],
        *shapes: Sequence[int],
        **attributes: Any,
    ) -> list[Value]:
        """Add a node of ``layer`` with one output for each of ``shapes``."""
        from onnx import helper

        names = [value if isinstance(value, str) else value.name for value in inputs]
        outputs = [Value(self._free(f"{layer.name}/{operator}"), tuple(shape)) for shape in shapes]
        if any(d < 1 for value in outputs for d in value.shape):
            raise ModelError(
                f"layer '{layer.name}' ({layer.kind}) gives the empty shape {list(outputs[0].shape)}. Its "
                "input is too small for it."
            )
        for value in outputs:
            _require_sane(value, f"layer '{layer.name}' ({layer.kind})")
        self._made += outputs
        produced = [value.name for value in outputs]
        self.nodes.append(helper.make_node(operator, names, produced, name=layer.name, **attributes))
        return outputs

    def one(
        self,
        layer: Layer,
        operator: str,
        inputs: Sequence[Value | str],
        shape: Sequence[int],
        **attributes: Any,
    ) -> Value:
        """Add a node with one output."""
        return self.node(layer, operator, inputs, shape, **attributes)[0]

    def model(self, name: str, outputs: dict[str, Value]) -> ModelProto:
        """The finished model; outputs are called after their blobs."""
        from onnx import helper, numpy_helper

        renamed = self._publish(outputs)
        for node in self.nodes:
            node.input[:] = [renamed.get(n, n) for n in node.input]
            node.output[:] = [renamed.get(n, n) for n in node.output]
        self._number_nodes()
        graph = helper.make_graph(
            self.nodes,
            name or "network",
            [_info(value.name, value.shape) for value in self.inputs],
            [_info(blob, value.shape) for blob, value in outputs.items()],
            [numpy_helper.from_array(array, key) for key, array in self.constants.items()],
            value_info=[_info(value.name, value.shape) for value in self._made if value.name not in renamed],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _publish(self, outputs: dict[str, Value]) -> dict[str, str]:
        """New names of values that are outputs; one that is an input, or an output already, is copied."""
        from onnx import helper

        renamed: dict[str, str] = {}
        given = {value.name for value in self.inputs}
        for blob, value in outputs.items():
            if value.name in given or value.name in renamed:
                source = renamed.get(value.name, value.name)
                self.nodes.append(helper.make_node("Identity", [source], [blob], name=f"{blob}/Identity"))
            else:
                renamed[value.name] = blob
        return renamed

    def _number_nodes(self) -> None:
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.name] = counts.get(node.name, 0) + 1
        seen: set[str] = set()
        for node in self.nodes:
            base = node.name if counts[node.name] == 1 else f"{node.name}/{node.op_type}"
            name, number = base, 0
            while name in seen:
                number += 1
                name = f"{base}_{number}"
            seen.add(name)
            node.name = name

    def _free(self, name: str) -> str:
        candidate, number = name, 0
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate


def _require_sane(value: Value, what: str) -> None:
    if prod(value.shape) > _MOST_ELEMENTS:
        raise ModelError(f"{what} has the shape {list(value.shape)}, too large for any device.")


def _info(name: str, shape: Sequence[int]) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
