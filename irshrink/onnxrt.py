"""ONNX Runtime, the only place that imports it.

Its Linux wheels report usage over the network by default; ``ORT_DISABLE_TELEMETRY`` must be set before
the import, which is why everything goes through here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irshrink.errors import ModelError
from irshrink.external import stored_bytes
from irshrink.save import save_model
from irshrink.vetting import PROTOBUF_LIMIT

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

__all__ = ["run", "session"]

#: Where references to external data lead, for models that are not a file themselves.
_FOLDER = "session.model_external_initializers_file_folder_path"

_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(e for e in vars(_state).values() if isinstance(e, type) and issubclass(e, Exception)),
)


def session(
    model: bytes | Path | ir.Model | onnx.ModelProto, *, optimize: bool = True, threads: int = 1
) -> InferenceSession:
    """A CPU session whose results do not depend on the number of threads or on the machine's load.

    Args:
        model: a file, its bytes, or a model in memory. An ``onnx_ir`` model above protobuf's 2 GB goes
            through a temporary file.
        optimize: ONNX Runtime's own graph optimizations, which turn QDQ into its integer kernels.
        threads: threads inside one operator.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its own.
    """
    options = _options(optimize, threads)
    if isinstance(model, Path):
        return _load(str(model), options, str(model))
    if isinstance(model, bytes):
        return _load(model, options, "the model")
    if isinstance(model, ir.Model):
        return _load_ir(model, options)
    return _load(model.SerializeToString(), options, "the model")


def run(
    session: InferenceSession, feeds: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """One run: arrays by input name in, arrays by output name out.

    Raises:
        ModelError: an input is missing, has another type or shape, or a node fails.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        values = session.run(names, dict(feeds))
    except _ERRORS as e:
        raise ModelError(f"ONNX Runtime cannot run the model: {_reason(e)}") from e
    return dict(zip(names, values, strict=True))


def _options(optimize: bool, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # fatal: errors arrive as exceptions, no need to print them as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # On x86-64 it would otherwise turn some int8 tensors into uint8, and leave what is between the two float.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    # A MatMul by a DequantizeLinear of weights computes in float32, as the model says, not in int8.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return options


def _load(model: str | bytes, options: Any, what: str) -> InferenceSession:
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _ERRORS as e:
        raise ModelError(f"ONNX Runtime cannot load {what}: {_reason(e)}") from e


def _load_ir(model: ir.Model, options: Any) -> InferenceSession:
    """Weights that lie beside the model are mapped by ONNX Runtime itself."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    folders = {str(tensor.base_dir) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    inside = sum(stored_bytes(t) for t in tensors if not isinstance(t, ir.ExternalTensor))
    if inside < PROTOBUF_LIMIT and len(folders) < 2:
        for folder in folders:
            options.add_session_config_entry(_FOLDER, folder)
        return _load(ir.to_proto(model).SerializeToString(), options, "the model")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.onnx")
        save_model(model, path, limit=0)
        return _load(str(path), options, "the model")


def _reason(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its code."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("[ONNXRuntimeError] : ").strip()
