"""Writing small TensorFlow Lite files in tests.

    w = TfliteWriter()
    x = w.tensor("x", (1, 8), "int8", scale=0.1, zero_point=3)
    y = w.tensor("y", (1, 8), "int8", scale=1 / 256, zero_point=-128)
    w.operator("LOGISTIC", [x], [y])
    data = w.finish([x], [y])

Needs the packages ``tflite`` and ``flatbuffers`` (the extra ``tflite``).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TfliteWriter:
    """A graph that grows tensor by tensor and operator by operator."""

    def __init__(self) -> None:
        self._schema: Any = importlib.import_module("tflite")
        self._builder: Any = importlib.import_module("flatbuffers").Builder(1024)
        self._buffers: list[bytes] = [b""]  # the first one is empty by convention
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._codes: list[str] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: Array | None = None,
    ) -> int:
        """Declare a tensor and return its index.

        Args:
            dtype: NumPy name.
            scale: one number, or one per index of ``axis``.
            data: its contents, for a constant.
        """
        quantization = None if scale is None else self._quantization(np.atleast_1d(scale), zero_point, axis)
        b, s = self._builder, self._schema
        label = b.CreateString(name)
        dimensions = b.CreateNumpyVector(np.array(shape, np.int32))
        s.TensorStart(b)
        s.TensorAddName(b, label)
        s.TensorAddShape(b, dimensions)
        s.TensorAddType(b, getattr(s.TensorType, dtype.upper()))
        if quantization is not None:
            s.TensorAddQuantization(b, quantization)
        if data is not None:
            self._buffers.append(np.ascontiguousarray(data).tobytes())
            s.TensorAddBuffer(b, len(self._buffers) - 1)
        self._tensors.append(s.TensorEnd(b))
        return len(self._tensors) - 1

    def constant(self, name: str, data: Array, **quantization: Any) -> int:
        """A tensor with contents."""
        return self.tensor(name, data.shape, data.dtype.name, data=data, **quantization)

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **fields: Any
    ) -> None:
        """Append an operator.

        Args:
            kind: its name in ``BuiltinOperator``.
            options: name of its table, such as ``Conv2DOptions``; ``fields`` are its numbers.
        """
        b, s = self._builder, self._schema
        table = None
        if options:
            getattr(s, f"{options}Start")(b)
            for name, value in fields.items():
                getattr(s, f"{options}Add{name}")(b, value)
            table = getattr(s, f"{options}End")(b)
        if kind not in self._codes:
            self._codes.append(kind)
        reads, writes = (b.CreateNumpyVector(np.array(x, np.int32)) for x in (inputs, outputs))
        s.OperatorStart(b)
        s.OperatorAddOpcodeIndex(b, self._codes.index(kind))
        s.OperatorAddInputs(b, reads)
        s.OperatorAddOutputs(b, writes)
        if table is not None:
            s.OperatorAddBuiltinOptionsType(b, getattr(s.BuiltinOptions, options))
            s.OperatorAddBuiltinOptions(b, table)
        self._operators.append(s.OperatorEnd(b))

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The finished file; the writer is used up."""
        b, s = self._builder, self._schema
        tensors = self._vector(s.SubGraphStartTensorsVector, self._tensors)
        operators = self._vector(s.SubGraphStartOperatorsVector, self._operators)
        reads, writes = (b.CreateNumpyVector(np.array(x, np.int32)) for x in (inputs, outputs))
        s.SubGraphStart(b)
        s.SubGraphAddTensors(b, tensors)
        s.SubGraphAddInputs(b, reads)
        s.SubGraphAddOutputs(b, writes)
        s.SubGraphAddOperators(b, operators)
        graph = s.SubGraphEnd(b)
        codes = self._vector(s.ModelStartOperatorCodesVector, [self._code(kind) for kind in self._codes])
        graphs = self._vector(s.ModelStartSubgraphsVector, [graph])
        buffers = self._vector(s.ModelStartBuffersVector, [self._buffer(data) for data in self._buffers])
        s.ModelStart(b)
        s.ModelAddVersion(b, 3)
        s.ModelAddOperatorCodes(b, codes)
        s.ModelAddSubgraphs(b, graphs)
        s.ModelAddBuffers(b, buffers)
        b.Finish(s.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    def _quantization(self, scale: Array, zero_point: int, axis: int) -> int:
        b, s = self._builder, self._schema
        scales = b.CreateNumpyVector(scale.astype(np.float32))
        zeros = b.CreateNumpyVector(np.full(scale.shape, zero_point, np.int64))
        s.QuantizationParametersStart(b)
        s.QuantizationParametersAddScale(b, scales)
        s.QuantizationParametersAddZeroPoint(b, zeros)
        s.QuantizationParametersAddQuantizedDimension(b, axis)
        return int(s.QuantizationParametersEnd(b))

    def _code(self, kind: str) -> int:
        b, s = self._builder, self._schema
        number = getattr(s.BuiltinOperator, kind)
        s.OperatorCodeStart(b)
        s.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
        s.OperatorCodeAddBuiltinCode(b, number)
        s.OperatorCodeAddVersion(b, 1)
        return int(s.OperatorCodeEnd(b))

    def _buffer(self, data: bytes) -> int:
        b, s = self._builder, self._schema
        if not data:
            s.BufferStart(b)
            return int(s.BufferEnd(b))
        b.StartVector(1, len(data), 16)  # tensors are read in place: aligned
        b.head = b.head - len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        contents = b.EndVector()
        s.BufferStart(b)
        s.BufferAddData(b, contents)
        return int(s.BufferEnd(b))

    def _vector(self, start: Any, offsets: Sequence[int]) -> int:
        start(self._builder, len(offsets))
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())
