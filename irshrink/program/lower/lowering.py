"""The state of one lowering, and what every rule asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program import elements
from irshrink.program.lower.builder import Builder, label
from irshrink.program.lower.chains import Sink, sink
from irshrink.program.lower.constants import Codes, Constant, Constants
from irshrink.program.lower.fitting import require
from irshrink.program.lower.names import identifier
from irshrink.program.lower.numbers import table
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.tflm import Emission, adapted
from irshrink.program.lower.tflm_tables import change_of_scale
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Float32, Int8, Op
from irshrink.program.program import Quantization
from irshrink.program.reference.dispatch import Array

Requantize = Literal["float32", "tflm"]


class Lowering:
    """Values lowered so far.

    Attributes:
        builder: the program under construction.
        constants: of the graph.
        opset: version of the ONNX operator set.
        requantize: whose arithmetic takes accumulators to int8 (docs/integer-semantics.md).
        absorbed: clamp nodes that an earlier operator already computes.
        notes: sentences for the report.
        float_reasons: why a node of a quantized model runs in float, by its name.
        takes_int16: whether the rule at work looks at real numbers that int16 hold; others get float32.
    """

    def __init__(self, graph: ir.Graph, requantize: Requantize = "float32") -> None:
        self.builder = Builder()
        self.constants = Constants()
        self.opset = edit.opset(graph)
        self.requantize = requantize
        self.absorbed: set[ir.Node] = set()
        self.notes: list[str] = []
        self.float_reasons: dict[str, str] = {}
        self.takes_int16 = False
        self._views: dict[ir.Value, View] = {}
        self._quantized = any(node.op_type == "QuantizeLinear" for node in graph)

    def knows(self, value: ir.Value) -> bool:
        return value in self._views or self.constants.get(value) is not None

    @staticmethod
    def is_read(value: ir.Value) -> bool:
        """Whether a node or the caller uses ``value``."""
        return bool(value.uses()) or value.is_graph_output()

    def bind(self, value: ir.Value, view: View) -> None:
        """``value`` is ``view`` from here on."""
        self._views[value] = view

    def view(self, value: ir.Value | None) -> View:
        """Where a value lies; a constant becomes a constant tensor."""
        if value is None:
            raise Refusal("an input is missing", "Export the model again.")
        if value not in self._views:
            constant = self.constants.get(value)
            assert constant is not None, value.name
            self._views[value] = self._constant_view(identifier(value.name or "constant"), constant)
        view = self._views[value]
        narrow = view.stored is not None or self.takes_int16
        return view if narrow or self.builder.wide(view) is None else self.builder.as_float(view)

    def real(self, node: ir.Node, index: int) -> View:
        """Input ``index`` as real numbers.

        Raises:
            Refusal: it is integers, which only a DequantizeLinear or a Cast may read.
        """
        view = self.view(edit.input_of(node, index))
        if view.stored is not None:
            eight = elements.codes(view.stored) is not None
            advice = (
                "Put a DequantizeLinear between (QDQ format)." if eight else "Cast them to float32 before."
            )
            raise Refusal(f"it computes with {'stored ' if eight else ''}{view.stored}", advice)
        return view

    def floating(self, node: ir.Node, index: int) -> View:
        """Input ``index`` in float32."""
        return self.builder.as_float(self.real(node, index))

    def weights(self, node: ir.Node, index: int, what: str) -> Constant:
        """A constant float input.

        Raises:
            Refusal: it is computed at run time, or not float32.
        """
        constant = self.constants.get(edit.input_of(node, index))
        if constant is None:
            raise Refusal(f"its {what} are computed at run time", "Make them constants of the model.")
        if constant.array.dtype != np.float32:
            raise Refusal(f"its {what} are {constant.array.dtype}", "Export the model in float32.")
        return constant

    def integers(self, node: ir.Node, index: int, what: str) -> tuple[int, ...] | None:
        """A constant integer input as a tuple, None when it is left out.

        Raises:
            Refusal: it is computed at run time.
        """
        value = edit.input_of(node, index)
        if value is None:
            return None
        array = self.constants.array(value)
        if array is None:
            raise Refusal(f"its {what} are computed at run time", "Fold constants, or export static shapes.")
        return tuple(int(number) for number in array.reshape(-1))

    def sink(self, node: ir.Node) -> Sink | None:
        """The QuantizeLinear to int8 behind a node."""
        return sink(node.outputs[0], self.constants)

    def wide_sink(self, node: ir.Node) -> Sink | None:
        """The QuantizeLinear to int16 behind a node."""
        return sink(node.outputs[0], self.constants, wide=True)

    def note_width(self, element: str) -> None:
        """Say that real numbers of another width are float32 on the target."""
        sentence = f"Numbers that are {element} in the model are float32 on the target."
        if sentence not in self.notes:
            self.notes.append(sentence)

    def float_note(self, node: ir.Node, reason: str) -> None:
        """Say why a node of a quantized model runs in float."""
        if self._quantized:
            self.float_reasons[label(node)] = node.meta.get(edit.WHY_FLOAT, reason)

    def emit_int8(
        self,
        operator: type[Op],
        node: ir.Node,
        inputs: Sequence[str],
        shape: Sequence[int],
        /,
        *,
        sink: Sink,
        also: Sequence[ir.Node] = (),
        weight_scale: Float32 | None = None,
        **fields: Any,
    ) -> str:
        """Append an operator that computes a node and the clamps up to its QuantizeLinear.

        Args:
            shape: physical shape of the output.
            also: further nodes that the operator computes.
            weight_scale: of a layer, per output channel of the operator or one in all.
        """
        self.absorbed.update(sink.absorbed)
        origin = (node, *also, *sink.absorbed)
        if self.requantize == "tflm":
            held = [self.builder.tensors[name].quantization for name in inputs]
            known = tuple(quantization for quantization in held if quantization is not None)
            emission = Emission(operator, node, known, shape, sink, fields, weight_scale, self.constants)
            operator, fields = self._as_tflm(emission)
        output = self.builder.tensor(_value_name(origin[-1]), shape, "int8", sink.quantization)
        return self.builder.emit(operator, identifier(label(node)), origin, inputs, output, **fields)

    def emit_int16(
        self,
        operator: type[Op],
        node: ir.Node,
        inputs: Sequence[str],
        shape: Sequence[int],
        /,
        *,
        sink: Sink,
        also: Sequence[ir.Node] = (),
        **fields: Any,
    ) -> str:
        """As :meth:`emit_int8`, with a result in int16."""
        self.absorbed.update(sink.absorbed)
        return self.emit(
            operator, node, inputs, shape, quantization=sink.quantization, dtype="int16",
            also=(*also, *sink.absorbed), **fields,
        )  # fmt: skip

    def _as_tflm(self, emission: Emission) -> tuple[type[Op], dict[str, Any]]:
        """The operator in TensorFlow Lite Micro's arithmetic; ours, and a note, where it has none."""
        found = adapted(emission)
        if found is None:
            node = emission.node
            self.notes.append(
                f"{node.op_type} '{label(node)}' has no form in TensorFlow Lite Micro's arithmetic here; "
                "it keeps irshrink's."
            )
        return found or (emission.operator, dict(emission.fields))

    def change_of_scale(self, held: Quantization, wanted: Quantization) -> Int8:
        """The table that takes stored integers to another quantization."""
        if self.requantize == "tflm":
            return change_of_scale(held, wanted)
        return table(lambda real: real, held, wanted)

    def emit(
        self,
        operator: type[Op],
        node: ir.Node,
        inputs: Sequence[str],
        shape: Sequence[int],
        /,
        *,
        quantization: Quantization | None = None,
        dtype: str | None = None,
        also: Sequence[ir.Node] = (),
        **fields: Any,
    ) -> str:
        """Append an operator: float32, or int8 of the given quantization, or another element type."""
        dtype = dtype or ("float32" if quantization is None else "int8")
        origin = (node, *also)
        output = self.builder.tensor(_value_name(origin[-1]), shape, dtype, quantization)
        return self.builder.emit(operator, identifier(label(node)), origin, inputs, output, **fields)

    def emit_like(
        self,
        x: View,
        operator: type[Op],
        node: ir.Node,
        inputs: Sequence[str],
        shape: Sequence[int],
        /,
        **fields: Any,
    ) -> str:
        """Append an operator whose output has the element type of ``x`` and is read as ``x`` is."""
        held = self.builder.tensors[x.tensor]
        return self.emit(
            operator, node, inputs, shape, quantization=held.quantization, dtype=held.dtype, **fields
        )

    def _constant_view(self, name: str, constant: Constant) -> View:
        require(constant.array.size > 0, f"its constant '{name}' is empty")
        coded = None if constant.codes is None else int8_codes(constant.codes)
        if coded is not None:
            return view_of(self.builder.constant(name, *coded), constant.array.shape)
        element = constant.array.dtype.name
        if element not in elements.STORAGE:
            raise Refusal(
                f"it computes with {element} values", "Only numbers and truth values run on the target."
            )
        array = elements.stored(constant.array)
        if array is None:
            raise Refusal(
                f"its constant '{name}' does not fit 32 bits",
                f"Integers ({element}) are 32 bits wide on the target.",
            )
        tensor = self.builder.constant(name, array, elements.codes(element))
        view = view_of(tensor, array.shape)
        return view if elements.is_real(element) else replace(view, stored=element)


def int8_codes(codes: Codes) -> tuple[Array, Quantization] | None:
    """Codes of a constant operand as int8, None when they are per channel or do not fit."""
    if codes.axis is not None or not codes.integers.size:
        return None
    zero_point = int(codes.zero_point.reshape(()))
    for shift in (0, 128):  # uint8 codes lie 128 higher
        shifted = codes.integers - shift
        if min(shifted.min(), zero_point - shift) >= -128 and max(shifted.max(), zero_point - shift) <= 127:
            scale = float(codes.scale.reshape(()))
            return shifted.astype(np.int8), Quantization(scale, zero_point - shift)
    return None


def broadcast_constant(array: Array, rank: int, order: Sequence[int]) -> Float32:
    """A constant operand in the physical axes of a view: rank padded in front, axes in ``order``."""
    padded = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.asarray(padded.transpose(order), order="C")


def _value_name(node: ir.Node) -> str:
    return identifier(node.outputs[0].name or node.op_type)
