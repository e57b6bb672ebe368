"""The other process: reads a step and its arguments, answers, and dies alone when native code does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from irshrink.isolation.frames import read_message, write_message

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

#: Bytes that a folded constant may take while it is computed, besides what it is made of.
_ROOM = 2 << 30


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


def evaluate(model: bytes) -> list[bytes]:
    """The outputs of a model without inputs: dtype, shape and bytes of each, as the graph orders them."""
    from irshrink import onnxrt

    session = onnxrt.session(model)
    with _limited_memory(_ROOM + 4 * len(model)):
        results = onnxrt.run(session, {})
    parts = []
    for array in (results[output.name] for output in session.get_outputs()):
        if array.dtype.kind not in "biufc":
            raise ValueError(f"its result is {array.dtype}")
        parts += [array.dtype.str.encode(), ",".join(map(str, array.shape)).encode(), array.tobytes()]
    return parts


@contextmanager
def _limited_memory(nbytes: int) -> Iterator[None]:
    """An operator may make gigabytes of a few bytes; more than ``nbytes`` of data are refused."""
    if resource is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = nbytes if before[1] == resource.RLIM_INFINITY else min(nbytes, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


_STEPS: dict[bytes, Callable[..., list[bytes]]] = {
    b"check": check,
    b"check-file": check_file,
    b"infer": infer,
    b"convert": convert,
    b"evaluate": evaluate,
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
            answer = [b"ok", *_STEPS[step](*parts)]
        except Exception as e:
            answer = [b"error", (str(e) or type(e).__name__).encode("utf-8", "replace")]
        write_message(answers, answer)
    sys.exit(0)
