"""A ``.tflite`` file as plain records, every size checked.

Schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import ModelError, ToolError

Array = NDArray[Any]

_IDENTIFIER = b"TFL3"
_LONGEST_SHAPE = 8
#: What reading a damaged flatbuffer raises: every access is an offset into the file.
DAMAGE = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

#: NumPy types by ``TensorType``; int4 is unpacked to int8.
_TYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "INT4": "int8",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (stored - zero_point)``; one number each, or one per index of ``axis``."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph; ``data`` when its contents are in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None
    data: Array | None


@dataclass(frozen=True)
class Operator:
    """One operator: ``kind`` is its name in ``BuiltinOperator``, ``options`` its table, None without one.

    Inputs and outputs are indices of tensors; -1 is an input that is left out.
    """

    kind: str
    options: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The main graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_graph(path: Path) -> Graph:
    """The first subgraph of a file, in its own order.

    Raises:
        ModelError: not a TFLite file, truncated, or beyond what can be read (sparse weights, subgraphs).
        ToolError: the ``tflite`` package is not installed.
    """
    data = path.read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise ModelError(f"{path}: not a TensorFlow Lite model (it does not say TFL3). Convert it again.")
    schema = _schema(path)
    try:
        model = schema.Model.GetRootAs(data, 0)
        if model.SubgraphsLength() < 1:
            raise ModelError(f"{path}: has no graph. Convert it again.")
        return _graph(schema, model, data)
    except DAMAGE as e:
        raise ModelError(
            f"{path}: damaged or truncated TensorFlow Lite model. Convert it again, or copy the whole file."
        ) from e
    except _Unreadable as e:
        raise ModelError(f"{path}: {e}") from e


class _Unreadable(Exception):  # noqa: N818 - an answer, not an error
    """Half a sentence about a file that is sound and beyond us."""


def _schema(path: Path) -> Any:
    try:
        return importlib.import_module("tflite")
    except ImportError as e:
        raise ToolError(
            f"{path}: a TensorFlow Lite model needs the package tflite. "
            "Install it with pip install 'irshrink[tflite]'."
        ) from e


def _graph(schema: Any, model: Any, data: bytes) -> Graph:
    graph = model.Subgraphs(0)
    kinds = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    tensors = tuple(_tensor(graph.Tensors(i), types, model, data) for i in range(graph.TensorsLength()))
    return Graph(
        tensors=tensors,
        operators=tuple(
            _operator(schema, graph.Operators(i), kinds, model) for i in range(graph.OperatorsLength())
        ),
        inputs=tuple(_port(graph.Inputs(i), tensors) for i in range(graph.InputsLength())),
        outputs=tuple(_port(graph.Outputs(i), tensors) for i in range(graph.OutputsLength())),
    )


def _port(index: int, tensors: tuple[Tensor, ...]) -> int:
    if not 0 <= index < len(tensors) or min(tensors[index].shape, default=0) < 0:
        raise ValueError("an input or output is no tensor of the graph")
    return index


def _names(enumeration: Any) -> dict[int, str]:
    """Name by number of a generated enumeration."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _operator(schema: Any, operator: Any, kinds: dict[int, str], model: Any) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    if kind == "CUSTOM":
        kind = f"CUSTOM {(code.CustomCode() or b'?').decode('utf-8', 'replace')}"
    table, options = operator.BuiltinOptions(), None
    if table is not None:
        name = _names(schema.BuiltinOptions)[operator.BuiltinOptionsType()]
        options = getattr(schema, name)()
        options.Init(table.Bytes, table.Pos)
    return Operator(
        kind,
        options,
        tuple(operator.Inputs(i) for i in range(operator.InputsLength())),
        tuple(operator.Outputs(i) for i in range(operator.OutputsLength())),
    )


def _tensor(tensor: Any, types: dict[int, str], model: Any, data: bytes) -> Tensor:
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    kind = types[tensor.Type()]
    if kind not in _TYPES:
        raise _Unreadable(f"tensor '{name}' is {kind}, which cannot be compiled. Cut the model before it.")
    if tensor.ShapeLength() > _LONGEST_SHAPE:
        raise _Unreadable(f"tensor '{name}' has {tensor.ShapeLength()} axes. At most 8 can be read.")
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    if tensor.Sparsity() is not None:
        raise _Unreadable(f"the weights '{name}' are stored sparse. Convert the model with dense weights.")
    raw = _buffer(model.Buffers(tensor.Buffer()), data)
    contents = None if raw is None else _contents(raw, kind, shape)
    return Tensor(name, shape, _TYPES[kind], _quantization(tensor.Quantization(), len(shape)), contents)


def _buffer(buffer: Any, data: bytes) -> NDArray[np.uint8] | None:
    """The bytes of a buffer, None for the empty one of a tensor that is computed."""
    if buffer.Offset() > 1:  # large files keep their weights behind the flatbuffer
        start, size = buffer.Offset(), buffer.Size()
        if start + size > len(data):
            raise ValueError("a buffer lies behind the end of the file")
        return np.frombuffer(data, np.uint8, size, start)
    if buffer.DataLength() == 0:
        return None
    raw: NDArray[np.uint8] = buffer.DataAsNumpy()
    return raw


def _contents(raw: NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> Array:
    if kind == "INT4":
        packed = raw.view(np.int8)
        pairs = np.stack([np.left_shift(packed, 4) >> 4, packed >> 4], axis=-1).reshape(-1)
        return pairs[: prod(shape)].reshape(shape)
    array: Array = raw.view(np.dtype(_TYPES[kind]).newbyteorder("<")).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))


def _quantization(table: Any, rank: int) -> Quantization | None:
    if table is None or table.ScaleLength() == 0:
        return None
    scale = table.ScaleAsNumpy().astype(np.float32)
    zero_point = np.zeros(scale.shape, np.int64)
    if table.ZeroPointLength():
        zero_point = np.broadcast_to(table.ZeroPointAsNumpy().astype(np.int64), scale.shape)
    axis = int(table.QuantizedDimension())
    if scale.size > 1 and not 0 <= axis < rank:
        raise ValueError("a tensor is quantized along an axis that it does not have")
    return Quantization(scale, zero_point, axis)
