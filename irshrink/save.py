"""Writing a model: one file, or where it is large the graph in one and the weights in another.

Either way everything is written beside first and renamed when it is whole. Weights are written tensor by
tensor: those that are mapped from another file, or computed when asked for, are never all in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import onnx_ir as ir

from irshrink.errors import OutputError
from irshrink.external import SMALL_BYTES, external_tensors, release_tensor, stored_bytes
from irshrink.files import write_bytes, written_beside
from irshrink.graph.declarations import drop_inferable_declarations

#: Up to here a model is one file. protobuf would take 2 GB, but holds it in memory three times.
SINGLE_FILE_LIMIT = 2**28
#: Weights begin at multiples of this: a page, so that they can be mapped.
_ALIGNMENT = 4096


def save_model(model: ir.Model, path: Path, limit: int = SINGLE_FILE_LIMIT) -> None:
    """Write a model, complete or not at all; it is not changed.

    Args:
        limit: bytes of weights above which they go into ``NAME.data`` beside the graph.

    Raises:
        OutputError: the folder cannot be written, or the file that would be written holds weights of this
            very model.
    """
    data = path.with_name(f"{path.name}.data")
    _require_no_source(model, path, data)
    large = [
        value for value in model.graph.initializers.values() if stored_bytes(value.const_value) > SMALL_BYTES
    ]
    if sum(stored_bytes(value.const_value) for value in large) < limit:
        with _embedded(model):
            write_bytes(path, _message(model))
        return
    with written_beside(data) as stream:
        places = [_append(stream, value.const_value) for value in large]
    with _replaced({v: _reference(v, data.name, place) for v, place in zip(large, places, strict=True)}):
        write_bytes(path, _message(model))


def _message(model: ir.Model) -> bytes:
    proto = ir.to_proto(model)
    drop_inferable_declarations(proto, model)
    return bytes(proto.SerializeToString(deterministic=True))


def _require_no_source(model: ir.Model, *written: Path) -> None:
    """Writing over mapped weights would change them under our hands."""
    sources = {os.path.realpath(tensor.path) for tensor in external_tensors(model)}
    for path in written:
        if os.path.realpath(path) in sources:
            raise OutputError(f"{path}: holds weights of the model itself. Choose another name.")


def _append(stream: IO[bytes], tensor: Any) -> tuple[int, int]:
    """Write one tensor at the next page; returns offset and length."""
    offset = -(-stream.tell() // _ALIGNMENT) * _ALIGNMENT
    stream.seek(offset)
    tensor.tofile(stream)
    release_tensor(tensor)
    return offset, stream.tell() - offset


def _reference(value: ir.Value, location: str, place: tuple[int, int]) -> ir.ExternalTensor:
    tensor = value.const_value
    assert tensor is not None
    return ir.ExternalTensor(
        location,
        *place,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=str(value.name),
    )


@contextmanager
def _embedded(model: ir.Model) -> Iterator[None]:
    """The model with the weights that lie beside it as its own."""
    values = model.graph.initializers.values()
    outside = {v: v.const_value for v in values if isinstance(v.const_value, ir.ExternalTensor)}
    loaded = {v: ir.Tensor(t.numpy(), dtype=t.dtype, name=v.name) for v, t in outside.items()}
    with _replaced(loaded):
        yield
    for tensor in outside.values():
        release_tensor(tensor)


@contextmanager
def _replaced(tensors: dict[ir.Value, Any]) -> Iterator[None]:
    before = {value: value.const_value for value in tensors}
    try:
        for value, tensor in tensors.items():
            value.const_value = tensor
        yield
    finally:
        for value, old in before.items():
            value.const_value = old
