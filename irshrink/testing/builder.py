"""A random graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Pick = Callable[[Sequence[Any]], Any]
Shape = tuple[int, ...]
Array = npt.NDArray[Any]

#: Names that passes give to what they add: a model may have them already.
_SUFFIXES = ("_quantized", "_scale", "_dequantized", "_zero_point", "_float", "_bias", "_1", "_shape")
_LARGEST = 4096


class Impossible(Exception):  # noqa: N818 - an answer, not an error
    """The layer does not fit the value."""


class ModelBuilder:
    """A graph that grows node by node.

    Attributes:
        shapes: of every float value that a layer may read, by name.
        rng: for the numbers of constants; they matter less than the structure.
    """

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.rng = np.random.default_rng(pick(range(1000)))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.shapes: dict[str, Shape] = {}
        self._style = pick(["plain", "plain", "paths", "suffixes"])
        self._count = 0

    def input(self, shape: Shape) -> str:
        name = "x" if not self.inputs else self._name("x")
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.shapes[name] = shape
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; returns its first output.

        Raises:
            Impossible: shape inference refuses it, or a result is empty or large.
        """
        names = [self._name(op_type.lower()) for _ in range(outputs)]
        if len(set(names)) < outputs:
            names = [f"{name}_{i}" for i, name in enumerate(names)]
        label = self.pick(["", f"n{self._count}", f"n{self._count}"])
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=label, **attributes))
        known = self._inferred()
        if any(name not in known or min(known[name][1], default=1) <= 0 for name in names):
            raise Impossible
        if any(np.prod(known[name][1]) > _LARGEST for name in names):
            raise Impossible
        self.shapes.update((name, known[name][1]) for name in names if known[name][0] == TensorProto.FLOAT)
        return names[0]

    def constant(self, array: Any, own: bool = False) -> str:
        """An initializer, an earlier one at times unless it must be its ``own``, or a ``Constant`` node."""
        array = np.asarray(array)
        if not own and array.size > 1 and array.dtype == np.float32 and self.pick([False] * 3 + [True]):
            for known in self.initializers:
                old = numpy_helper.to_array(known)
                if old.shape == array.shape and old.dtype == array.dtype:
                    return known.name
        name = self._name("c")
        tensor = numpy_helper.from_array(array, name)
        if self.pick([False, False, False, True]):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def floats(self, *shape: int) -> str:
        """Magnitudes from 0.25 to 1.5, both signs."""
        signs = self.rng.choice([-1.0, 1.0], shape)
        return self.constant(np.asarray(self.rng.uniform(0.25, 1.5, shape) * signs, np.float32))

    def weights(self, *shape: int, fan_in: int) -> str:
        """Normal, scaled so that a sum over ``fan_in`` products keeps the magnitude."""
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def shape(self, x: str, *ranks: int) -> Shape:
        """The shape of a value.

        Raises:
            Impossible: its rank is none of ``ranks``.
        """
        if len(self.shapes[x]) not in ranks:
            raise Impossible
        return self.shapes[x]

    def model(self, outputs: Sequence[str], opset: int = 20, as_inputs: bool = False) -> onnx.ModelProto:
        """The graph so far; with ``as_inputs`` its initializers are inputs as well."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, self.shapes.get(o)) for o in outputs]
        defaults = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.initializers]
        inputs = [*self.inputs, *(defaults if as_inputs else [])]
        graph = helper.make_graph(self.nodes, "g", inputs, infos, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)

    def _inferred(self) -> dict[str, tuple[int, Shape]]:
        """Element type and shape of every value whose shape is static."""
        try:
            model = onnx.shape_inference.infer_shapes(self.model([]), strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as e:
            raise Impossible from e
        found = {}
        for info in model.graph.value_info:
            tensor = info.type.tensor_type
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                found[info.name] = tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)
        return found

    def _name(self, stem: str) -> str:
        self._count += 1
        if self._style == "paths":
            return f"/layer.{self._count}/{stem}:0"
        if self._style == "suffixes" and self.shapes:
            made = {name for node in self.nodes for name in node.output}
            taken = {*self.shapes, *(tensor.name for tensor in self.initializers), *made}
            base = self.pick(list(self.shapes))
            free = (base + suffix for suffix in _SUFFIXES if base + suffix not in taken)
            return next(free, f"{stem}{self._count}")
        return f"{stem}{self._count}"
