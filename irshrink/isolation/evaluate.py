"""ONNX Runtime on a model that is a constant, in the other process."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.errors import ModelError
from irshrink.external import stored_bytes
from irshrink.isolation.client import StepError, call
from irshrink.vetting import PROTOBUF_LIMIT


def evaluate_constant(model: ir.Model) -> list[NDArray[Any]]:
    """The outputs of a model without inputs, in order.

    Raises:
        ModelError: ONNX Runtime refuses the model, or the model is too large for it.
        NativeError: ONNX Runtime crashes on it, or takes longer than any reasonable constant.
    """
    if sum(stored_bytes(value.const_value) for value in model.graph.initializers.values()) > PROTOBUF_LIMIT:
        raise ModelError("it reads more than 2 GB")
    try:
        data = ir.to_proto(model).SerializeToString()
    except (ir.serde.SerdeError, ValueError, TypeError) as e:
        raise ModelError(f"it cannot be written: {e}") from e
    try:
        parts = call("evaluate", data)
    except StepError as e:
        raise ModelError(str(e)) from e
    return [_array(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def _array(dtype: bytes, shape: bytes, data: bytes) -> NDArray[Any]:
    dims = [int(size) for size in shape.split(b",") if size]
    return np.frombuffer(bytearray(data), np.dtype(dtype.decode())).reshape(dims)
