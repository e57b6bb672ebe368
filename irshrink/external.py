"""External data: weights that lie in files beside the model and are mapped into memory, never loaded.

A tensor of such a model is an ``onnx_ir.ExternalTensor``: reading its array maps the file, and only the
pages that are touched become resident. :func:`release` lets go of them again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.vetting import Parts, tensor_bytes

#: Constants up to this size are never external: shape inference must find the shape of a Reshape.
SMALL_BYTES = 1024


def require_external_data(proto: Any, path: Path) -> None:
    """Name the first external data that is missing, short, or not in the model's own folder.

    Raises:
        ModelError: as said; nothing was opened.
    """
    folder = Path(os.path.realpath(path.parent))
    for tensor in Parts(proto).tensors:
        if tensor.data_location == tensor.EXTERNAL:
            _require(tensor, path, folder)


def map_weights(model: ir.Model, folder: Path) -> tuple[Path, ...]:
    """Tell the external initializers of a model where their files are.

    Small ones, and what lies outside elsewhere (in subgraphs and attributes), are loaded.

    Returns:
        The files, sorted.
    """
    base, files = os.path.realpath(folder), set()
    for tensor in external_tensors(model):
        tensor.base_dir = base
        files.add(Path(tensor.path))
    small = [
        v for v in model.graph.initializers.values() if v.const_value and v.const_value.nbytes <= SMALL_BYTES
    ]
    for value in (*_inner_values(model), *small):
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _loaded(value.const_value)
    for attributes, attribute in list(_attributes(model)):
        found = [attribute.value] if attribute.type == ir.AttributeType.TENSOR else attribute.value
        if any(isinstance(tensor, ir.ExternalTensor) for tensor in found):
            held = [_loaded(tensor) for tensor in found]
            content: Any = held[0] if attribute.type == ir.AttributeType.TENSOR else held
            attributes.add(ir.Attr(attribute.name, attribute.type, content))
    return tuple(sorted(files))


def load_weights(model: ir.Model) -> None:
    """Read all external weights into memory: for files that will not stay."""
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = _loaded(value.const_value)


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Those of initializers and of nodes' attributes, in subgraphs and functions too."""
    held: list[Any] = [value.const_value for value in model.graph.initializers.values()]
    held += [value.const_value for value in _inner_values(model)]
    for _, attribute in _attributes(model):
        held += [attribute.value] if attribute.type == ir.AttributeType.TENSOR else attribute.value
    yield from (tensor for tensor in held if isinstance(tensor, ir.ExternalTensor))


def files_of(path: Path) -> tuple[Path, ...]:
    """A model's file, and those beside it that its weights are in, sorted."""
    import onnx

    proto = onnx.ModelProto.FromString(path.read_bytes())
    places = {
        path.parent / entry.value
        for tensor in Parts(proto).tensors
        if tensor.data_location == tensor.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return (path, *sorted(places))


def stored_bytes(tensor: ir.TensorProtocol | None) -> int:
    """Of the numbers of a constant; text counts nothing."""
    return 0 if tensor is None or tensor.dtype == ir.DataType.STRING else int(tensor.nbytes)


def release(model: ir.Model) -> None:
    """Unmap the weights: their pages are no longer resident. The next reader maps them again."""
    for value in model.graph.initializers.values():
        release_tensor(value.const_value)


def release_tensor(tensor: ir.TensorProtocol | None) -> None:
    """Unmap one tensor; nothing for those in memory.

    Where someone still holds a view the mapping stays, and only its pages go until they are read again.
    """
    if not isinstance(tensor, ir.ExternalTensor):
        return
    try:
        tensor.release()
    except BufferError:
        if tensor.raw is not None and hasattr(mmap, "MADV_DONTNEED"):
            tensor.raw.madvise(mmap.MADV_DONTNEED)


def _inner_values(model: ir.Model) -> Iterator[ir.Value]:
    """Constants of subgraphs and functions."""
    for graph in _all_graphs(model):
        if graph is not model.graph:
            yield from graph.initializers.values()


def _attributes(model: ir.Model) -> Iterator[tuple[Any, ir.Attr]]:
    """Attributes that hold tensors, with the table each is in."""
    for graph in _all_graphs(model):
        for node in graph:
            for attribute in node.attributes.values():
                if not attribute.is_ref() and attribute.type in _TENSORS:
                    yield node.attributes, attribute


_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)


def _all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.subgraphs()


def _loaded(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    array = tensor.numpy().copy()
    release_tensor(tensor)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


def _require(tensor: Any, path: Path, folder: Path) -> None:
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    where = f"{path}: the weights of '{tensor.name}' are in '{location}', "
    if tensor.data_type == ir.DataType.STRING:
        raise ModelError(f"{where}but text cannot be external data. Export it again.")
    if not _is_inside(location, folder):
        raise ModelError(
            f"{where}which is not inside the model's folder. Copy the file itself next to the model."
        )
    file = folder / location
    if not file.is_file():
        raise ModelError(f"{where}which is not beside the model. Copy that file next to it.")
    if file.stat().st_nlink > 1:
        raise ModelError(f"{where}a file with several hard links. Copy the file next to the model.")
    end = _end(tensor, info, path)
    if file.stat().st_size < end:
        raise ModelError(
            f"{path}: '{file.name}' has {file.stat().st_size} bytes, but '{tensor.name}' ends at {end}. "
            "The external data file is truncated; copy it again."
        )


def _is_inside(location: str, folder: Path) -> bool:
    """Whether a location is relative and stays in the folder, links followed."""
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or ".." in parts or os.path.isabs(location) or ":" in parts[0]:
        return False
    real = os.path.realpath(folder / location)
    return os.path.commonpath([real, folder]) == str(folder) and real != str(folder)


def _end(tensor: Any, info: dict[str, str], path: Path) -> int:
    """Where the data of a tensor ends in its file.

    The length is optional; where it is given it must be what the shape needs.
    """
    offset, length = (info.get(key) or "0" for key in ("offset", "length"))
    if not (_is_number(offset) and _is_number(length)):
        raise ModelError(
            f"{path}: offset '{offset}' and length '{length}' of the data of '{tensor.name}' "
            "must be numbers. Export it again."
        )
    needed = tensor_bytes(tensor)
    if int(length) not in (0, needed):
        raise ModelError(
            f"{path}: the data of '{tensor.name}' is {length} bytes long, but its shape {list(tensor.dims)} "
            f"needs {needed}. Export it again."
        )
    return int(offset) + needed


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
