"""The other process: reads a step and its arguments, answers, and dies alone when native code does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from types import ModuleType
from typing import Any

from irshrink.isolation.frames import read_message, write_message

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

#: Bytes that a folded constant may take while it is computed, besides what it is made of.
_ROOM = 2 << 30
#: Seconds of processor time for it: constants are made in milliseconds, or from many bytes.
_PATIENCE, _BYTES_A_SECOND = 4, 20_000_000
#: Seconds of processor time for any step: the caller gives up earlier, but it may be gone, and native code
#: that never ends would never learn of it.
_LONGEST = 900


def check(model: bytes) -> list[bytes]:
    """ONNX's checker on a serialized model."""
    import onnx

    onnx.checker.check_model(model)
    return []


def check_file(path: bytes) -> list[bytes]:
    """ONNX's checker on a file, and the external data beside it."""
    import onnx

    onnx.checker.check_model(os.fsdecode(path))
    return []


def infer(model: bytes) -> list[bytes]:
    """Strict shape inference, small constants propagated."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return [inferred.SerializeToString()]


def convert(model: bytes, version: bytes) -> list[bytes]:
    """The same model in another operator set, its shapes inferred."""
    import onnx

    proto = onnx.version_converter.convert_version(onnx.ModelProto.FromString(model), int(version))
    return [onnx.shape_inference.infer_shapes(proto).SerializeToString()]


def expand(node: bytes, version: bytes, *types: bytes) -> list[bytes]:
    """The body that ONNX defines for an operator: a serialized function.

    Args:
        node: the serialized node, whose attributes the body may depend on.
        version: of the operator set.
        types: serialized types of its inputs, empty for those that are left out.
    """
    import onnx

    call = onnx.NodeProto.FromString(node)
    schema: Any = onnx.defs.get_schema(call.op_type, int(version), "")
    known = (schema.context_dependent_function_opset_versions, schema.function_opset_versions)
    usable = [[v for v in versions if v <= int(version)] for versions in known]
    if usable[0]:
        body = schema.get_context_dependent_function_with_opset_version(max(usable[0]), node, list(types))
    elif usable[1]:
        body = schema.get_function_with_opset_version(max(usable[1]))
    else:
        raise ValueError(f"ONNX defines no body of {call.op_type} in opset {int(version)}")
    function = onnx.FunctionProto.FromString(body)
    for name in tuple(function.attribute):
        default = schema.attributes[name].default_value
        if default.type:
            function.attribute.remove(name)
            function.attribute_proto.append(default)
    return [function.SerializeToString()]


def evaluate(model: bytes) -> list[bytes]:
    """The outputs of a model without inputs: dtype, shape and bytes of each, as the graph orders them."""
    from irshrink import onnxrt

    with _limited(_ROOM + 4 * len(model), _PATIENCE + len(model) // _BYTES_A_SECOND):
        session = onnxrt.session(model)
        results = onnxrt.run(session, {})
    parts = []
    for array in (results[output.name] for output in session.get_outputs()):
        if array.dtype.kind not in "biufc":
            raise ValueError(f"its result is {array.dtype}")
        parts += [array.dtype.str.encode(), ",".join(map(str, array.shape)).encode(), array.tobytes()]
    return parts


@contextmanager
def _limited(nbytes: int | None, seconds: int) -> Iterator[None]:
    """An operator may make gigabytes of a few bytes, or count to 2^31: the first is refused, the second ends
    this process by SIGXCPU.

    Args:
        nbytes: how far the process may grow, None for as far as it can.
        seconds: of processor time.
    """
    if resource is None:
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {resource.RLIMIT_CPU: ceil(used.ru_utime + used.ru_stime) + seconds}
    if nbytes is not None:
        wanted[resource.RLIMIT_DATA] = nbytes
    before = {kind: resource.getrlimit(kind) for kind in wanted}
    for kind, value in wanted.items():
        hard = before[kind][1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


_STEPS: dict[bytes, Callable[..., list[bytes]]] = {
    b"check": check,
    b"check-file": check_file,
    b"infer": infer,
    b"convert": convert,
    b"evaluate": evaluate,
    b"expand": expand,
}


def main() -> None:
    """Answer until the other side has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the caller, who ends us
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)  # native code prints where it likes
    while (message := read_message(requests)) is not None:
        step, *parts = message
        answer: list[bytes]
        try:
            with _limited(None, _LONGEST):
                answer = [b"ok", *_STEPS[step](*parts)]
        except Exception as e:
            answer = [b"error", (str(e) or type(e).__name__).encode("utf-8", "replace")]
        write_message(answers, answer)
    sys.exit(0)
