"""A .prototxt and its .caffemodel as a list of layers with parameters and weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.errors import ModelError
from irshrink.frontends.caffe.schema import text_message, weights_message

Array = NDArray[np.float32]

#: A network is written by hand or script; what is longer is no network.
_TEXT_BYTES = 64 << 20
_PROTOBUF_BYTES = 1 << 31

#: Old layer types, which were an enumeration, by their names now; others differ in spelling only.
_V1_NAMES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU",
    "TANH": "TanH", "SOFTMAX_LOSS": "SoftmaxWithLoss", "HDF5_DATA": "HDF5Data",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer of the network.

    Attributes:
        kind: Caffe's type, such as ``Convolution``.
        bottoms, tops: names of blobs read and written; one name in both is computed in place.
        parameters: the message of the layer; ``layer.parameters.pooling_param.stride``.
        blobs: weights in Caffe's order.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    parameters: Any
    blobs: tuple[Array, ...] = ()

    def blob(self, index: int, shape: Sequence[int]) -> Array:
        """Weights ``index`` in the shape that the layer needs; old files pad shapes with ones.

        Raises:
            ModelError: there are none, or not as many numbers.
        """
        if index >= len(self.blobs):
            raise ModelError(
                f"layer '{self.name}' ({self.kind}) has no weights in the .caffemodel. Give the one that "
                "belongs to this network."
            )
        found = self.blobs[index]
        if found.size != prod(shape):
            raise ModelError(
                f"layer '{self.name}' ({self.kind}): its weights have the shape {list(found.shape)}, the "
                f"network needs {list(shape)}. Give the .caffemodel that belongs to this network."
            )
        return found.reshape(tuple(shape))


@dataclass(frozen=True)
class Network:
    """Layers in order, and the inputs that are no layers: shape by blob name."""

    name: str
    inputs: dict[str, tuple[int, ...]]
    layers: tuple[Layer, ...]


def read_network(prototxt: Path, caffemodel: Path, known: Sequence[str]) -> Network:
    """Read the network with the weights of its layers.

    Args:
        known: layer types that can be converted.

    Raises:
        ModelError: a file is damaged, a layer type is not known (every one is named), a field is not known.
    """
    net = _parse(prototxt, known)
    blobs = _weights(caffemodel)
    layers = tuple(
        Layer(
            str(layer.name),
            _kind(layer),
            tuple(layer.bottom),
            tuple(layer.top),
            layer,
            blobs.get(layer.name, ()),
        )
        for layer in (*net.layer, *net.layers)
        if _runs(layer)
    )
    return Network(str(net.name), _inputs(net, prototxt), layers)


def _parse(path: Path, known: Sequence[str]) -> Any:
    from google.protobuf import text_format

    if path.stat().st_size > _TEXT_BYTES:
        raise ModelError(f"{path}: larger than 64 MB, so it describes no network.")
    try:
        text = path.read_text("utf-8")
        net = text_format.Parse(text, text_message()(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as e:
        raise ModelError(f"{path}: not a network description of Caffe: {_where(e)}.") from e
    layers = [layer for layer in (*net.layer, *net.layers) if _runs(layer)]
    if not layers:
        raise ModelError(f"{path}: has no layers. Give the deploy.prototxt of the network.")
    unknown = {f"'{layer.name}' ({_kind(layer)})": None for layer in layers if _kind(layer) not in known}
    if unknown:
        raise ModelError(
            f"{path}: these layers have no counterpart here: {', '.join(unknown)}. {_advice(layers, known)}"
        )
    try:
        return text_format.Parse(text, text_message()())
    except text_format.ParseError as e:
        raise ModelError(f"{path}: a field that this version of irshrink does not know: {_where(e)}.") from e


def _advice(layers: Sequence[Any], known: Sequence[str]) -> str:
    kinds = {_kind(layer) for layer in layers}
    if any(kind.endswith(("Data", "Loss", "Accuracy")) for kind in kinds - set(known)):
        return "Give the deploy.prototxt, which has Input layers and no loss, not the one for training."
    return "Replace them, or cut the network before them."


def _where(error: Exception) -> str:
    """``line 3: ...`` out of ``3:14 : '...': ...``."""
    text = "".join(char if char.isprintable() else " " for char in str(error))
    text = " ".join(text.split())
    match = re.match(r"(\d+):\d+ : (.*)", text)
    return (f"line {match[1]}: {match[2]}" if match else text)[:300].rstrip(".")


def _runs(layer: Any) -> bool:
    """Whether a layer is there in the test phase, by its rules."""
    if layer.include:
        return any(_meets(rule) for rule in layer.include)
    return not any(_meets(rule) for rule in layer.exclude)


def _meets(rule: Any) -> bool:
    if rule.HasField("phase") and rule.phase == 0:  # TRAIN
        return False
    return not rule.stage and rule.min_level <= 0 <= (rule.max_level if rule.HasField("max_level") else 0)


def _kind(layer: Any) -> str:
    if layer.DESCRIPTOR.name == "Layer":
        return str(layer.type)
    name = str(layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name)
    return _V1_NAMES.get(name, name.title().replace("_", ""))


def _inputs(net: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Inputs in the old style: names, and a shape each or four numbers each."""
    names = list(net.input)
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    if not shapes and net.input_dim:
        dims = list(net.input_dim)
        shapes = [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if len(names) != len(shapes) or any(len(shape) == 0 for shape in shapes):
        raise ModelError(f"{path}: {len(names)} inputs but {len(shapes)} shapes of inputs.")
    return dict(zip(names, shapes, strict=True))


def _weights(path: Path) -> dict[str, tuple[Array, ...]]:
    from google.protobuf.message import DecodeError

    if path.stat().st_size >= _PROTOBUF_BYTES:
        raise ModelError(f"{path}: 2 GB or more, which no protocol buffer holds.")
    try:
        net = weights_message().FromString(path.read_bytes())
    except DecodeError as e:
        raise ModelError(f"{path}: not a .caffemodel, or a truncated one. Copy it again.") from e
    layers = [*net.layers, *net.layer]
    if not layers:
        raise ModelError(f"{path}: holds no layers. Give a .caffemodel.")
    return {layer.name: tuple(_array(blob, layer.name, path) for blob in layer.blobs) for layer in layers}


def _array(blob: Any, name: str, path: Path) -> Array:
    single, double = b"".join(blob.data), b"".join(blob.double_data)
    if len(single) % 4 or len(double) % 8:
        raise ModelError(f"{path}: the weights of layer '{name}' are cut off. Copy the file again.")
    values = np.frombuffer(single, "<f4") if single else np.frombuffer(double, "<f8")
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    if any(d < 0 for d in shape) or prod(shape) != values.size:
        raise ModelError(
            f"{path}: the weights of layer '{name}' should have the shape {list(shape)} and are "
            f"{values.size} numbers. Copy the file again."
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)
