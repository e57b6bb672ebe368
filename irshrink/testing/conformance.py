"""Cases of the onnx package: models with inputs and what they must give, run before and after a change.

``onnx.backend.test`` makes a case for every operator and variant in memory, and stores models that
PyTorch exported long ago. ONNX Runtime decides: a case that it does not pass as it came says nothing
about what was done to it.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irshrink.errors import IrshrinkError, ModelError

#: Kinds of stored cases whose models lie in the onnx package with their data.
_STORED = ("pytorch-converted", "pytorch-operator", "simple")
#: Element types that ONNX Runtime has no NumPy arrays for.
_PACKED = ("bfloat16", "float4", "float8", "int4", "int2")


@dataclass(frozen=True)
class Case:
    """A model and what it must compute.

    Attributes:
        model: an ``onnx.ModelProto``.
        data: pairs of inputs and outputs in the order of the model's; arrays, lists of arrays, None, or
            ``onnx.TensorProto`` where NumPy has no such type.
    """

    name: str
    model: Any
    data: tuple[tuple[Sequence[Any], Sequence[Any]], ...]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Verdict:
    """What became of a case: ``equal``, ``refused`` by us, ``wrong``, or ``not run`` by ONNX Runtime itself.

    Attributes:
        reason: a sentence, unless it is equal.
        nodes: before and after, where it was cleaned up.
    """

    case: str
    kind: str
    reason: str = ""
    nodes: tuple[int, int] | None = None


def node_cases() -> list[Case]:
    """The cases that the onnx package makes, one for every variant of every operator."""
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it casts out of range on purpose
        found: list[Any] = list(collect_testcases(None))
    return [Case(c.name, c.model, tuple(c.data_sets), c.rtol, c.atol) for c in found]


def stored_cases() -> list[Case]:
    """The cases whose models and data the onnx package stores."""
    from onnx.backend.test import loader

    found: list[Any] = [case for kind in _STORED for case in loader.load_model_tests(kind=kind)]
    return [_stored(case.name, Path(case.model_dir), case.rtol, case.atol) for case in found]


def light_models() -> list[Path]:
    """Nine well-known networks without their weights: every one is a constant."""
    from onnx.backend.test import loader

    return sorted(Path(loader.DATA_DIR, "light").glob("light_*.onnx"))


def judge(case: Case, change: Callable[[Path], Path], folder: Path) -> Verdict:
    """Run a case as it comes and as ``change`` leaves it.

    Args:
        change: takes the file of a model and returns the file of another one.
        folder: where the files may lie.
    """
    reason = why_different(case.model.SerializeToString(), case)
    if reason is not None:
        return Verdict(case.name, "not run", reason)
    file = folder / "case.onnx"
    file.write_bytes(case.model.SerializeToString())
    try:
        changed = change(file).read_bytes()
    except IrshrinkError as e:
        return Verdict(case.name, "refused", str(e).replace(f"{file}: ", ""))
    nodes = len(case.model.graph.node), len(type(case.model).FromString(changed).graph.node)
    reason = why_different(changed, case)
    return Verdict(case.name, "equal" if reason is None else "wrong", reason or "", nodes)


def why_different(model: bytes, case: Case) -> str | None:
    """Why ONNX Runtime does not get what the case expects from a model; None when it does."""
    from irshrink import onnxrt

    try:
        session = onnxrt.session(model)
    except ModelError as e:
        return str(e)
    for inputs, expected in case.data:
        try:
            outputs = run_values(session, inputs)
        except Exception as e:  # ONNX Runtime's own exceptions have no common class
            return f"ONNX Runtime: {str(e).splitlines()[0]}"
        if len(outputs) != len(expected):
            return f"{len(outputs)} outputs, not {len(expected)}"
        for index, (got, wanted) in enumerate(zip(outputs, expected, strict=True)):
            reason = _difference(got, wanted, case)
            if reason is not None:
                return f"output {index}: {reason}"
    return None


def run_values(session: Any, inputs: Sequence[Any]) -> list[Any]:
    """Run an ONNX Runtime session on values of any type, sequences and 4-bit numbers included."""
    names = [value.name for value in session.get_inputs()]
    kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    if not any(packed in kind for kind in kinds for packed in _PACKED):
        return list(session.run(None, dict(zip(names, map(_plain, inputs), strict=False))))
    binding, kept = session.io_binding(), []
    for name, value in zip(names, inputs, strict=False):
        tensor = _tensor(value)
        buffer = ctypes.create_string_buffer(tensor.raw_data, max(len(tensor.raw_data), 1))
        kept.append(buffer)  # until the run is over
        address = ctypes.addressof(buffer)
        binding.bind_input(name, "cpu", 0, tensor.data_type, list(tensor.dims), address)
    for value in session.get_outputs():
        binding.bind_output(value.name, "cpu")
    session.run_with_iobinding(binding)
    return [_unpacked(value) for value in binding.get_outputs()]


def _plain(value: Any) -> Any:
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _tensor(value: Any) -> Any:
    """A value as ``onnx.TensorProto`` with its numbers in ``raw_data``, 4-bit ones two to a byte."""
    import onnx

    return onnx.numpy_helper.from_array(np.asarray(_plain(value)))


def _unpacked(value: Any) -> Any:
    import onnx

    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    tensor = onnx.TensorProto(data_type=value.element_type(), dims=value.shape(), raw_data=raw)
    return onnx.numpy_helper.to_array(tensor)


def _difference(got: Any, wanted: Any, case: Case) -> str | None:
    """Why two values differ, as ``onnx.backend.test`` would compare them."""
    if wanted is None or got is None:
        return None if wanted is got else f"{got}, not {wanted}"
    if isinstance(wanted, list):
        if not isinstance(got, list) or len(got) != len(wanted):
            return "another sequence"
        reasons = [_difference(a, b, case) for a, b in zip(got, wanted, strict=True)]
        return next((reason for reason in reasons if reason is not None), None)
    a, b = np.asarray(_plain(got)), np.asarray(_plain(wanted))
    if b.dtype.kind in "OUST":
        return None if a.shape == b.shape and (a.astype(str) == b.astype(str)).all() else "other strings"
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
    if a.dtype.kind not in "biufc":
        a, b = a.astype(np.float32), b.astype(np.float32)
    if a.dtype.kind != "b" and np.allclose(a, b, case.rtol, case.atol, equal_nan=True):
        return None
    return None if np.array_equal(a, b) else "other numbers"


def _stored(name: str, folder: Path, rtol: float, atol: float) -> Case:
    import onnx

    model = onnx.load(folder / "model.onnx")
    data = []
    for data_set in sorted(folder.glob("test_data_set_*")):
        inputs = [_read(data_set, "input", i, value) for i, value in enumerate(_inputs(model.graph))]
        outputs = [_read(data_set, "output", i, value) for i, value in enumerate(model.graph.output)]
        data.append((inputs, outputs))
    return Case(name, model, tuple(data), rtol, atol)


def _inputs(graph: Any) -> list[Any]:
    """What must be fed: old models list their weights as inputs as well."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _read(folder: Path, role: str, index: int, value: Any) -> Any:
    import onnx

    raw = (folder / f"{role}_{index}.pb").read_bytes()
    if value.type.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if value.type.HasField("optional_type"):
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    tensor = onnx.TensorProto.FromString(raw)
    return onnx.numpy_helper.to_array(tensor)
