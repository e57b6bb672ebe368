"""A Caffe network as ONNX: what the table of formats calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irshrink.errors import ModelError
from irshrink.frontends.caffe.graph import Graph, Value
from irshrink.frontends.caffe.layers.table import CONVERT, INPUT, KNOWN, SILENCE
from irshrink.frontends.caffe.network import Layer, Network, read_network

if TYPE_CHECKING:
    from onnx import ModelProto


def files(path: Path, options: Mapping[str, str]) -> tuple[Path, ...]:
    """The .prototxt and the .caffemodel, whichever of the two ``path`` is.

    Raises:
        ModelError: the other one is not beside it, and not given by the option ``weights``.
    """
    if path.suffix.lower() == ".caffemodel":
        return _beside(path, ".prototxt"), path
    if "weights" in options:
        weights = Path(options["weights"])
        if not weights.is_file():
            raise ModelError(f"{weights}: no such file. Give the .caffemodel of {path}.")
        return path, weights
    return path, _beside(path, ".caffemodel")


def read(path: Path, options: Mapping[str, str]) -> ModelProto:
    """The ONNX model; layouts stay Caffe's [N, C, H, W], inputs get a batch of one.

    Raises:
        ModelError: see :func:`irshrink.frontends.caffe.network.read_network`; or shapes that do not fit.
    """
    prototxt, caffemodel = files(path, options)
    network = read_network(prototxt, caffemodel, KNOWN)
    try:
        return convert(network)
    except ModelError as e:
        raise ModelError(f"{prototxt}: {e}") from e


def convert(network: Network) -> ModelProto:
    """The ONNX model of a network.

    Raises:
        ModelError: a layer reads a blob that nothing has written, or does not fit its input.
    """
    blobs = {name for layer in network.layers for name in (*layer.bottoms, *layer.tops)}
    graph = Graph(blobs | set(network.inputs))
    values = {name: graph.input(name, _one_sample(shape)) for name, shape in network.inputs.items()}
    unread = dict.fromkeys(values)
    for layer in network.layers:
        if layer.kind == INPUT:
            values |= _inputs(graph, layer)
            unread |= dict.fromkeys(layer.tops)
            continue
        read = [_value(values, name, layer) for name in layer.bottoms]
        for name in layer.bottoms:
            unread.pop(name, None)
        if layer.kind == SILENCE:
            continue
        written = _apply(graph, layer, read)
        values |= zip(layer.tops, written, strict=True)
        unread |= dict.fromkeys(layer.tops)
    inputs = {value.name for value in graph.inputs}
    outputs = {name: values[name] for name in unread if name not in inputs or values[name].name != name}
    if not outputs:
        raise ModelError("the network has no output.")
    return graph.model(network.name, outputs)


def _apply(graph: Graph, layer: Layer, inputs: Sequence[Value]) -> list[Value]:
    convert_layer, least, most = CONVERT[layer.kind]
    if not least <= len(inputs) <= most:
        raise ModelError(f"layer '{layer.name}' ({layer.kind}) cannot have {len(inputs)} inputs.")
    outputs = convert_layer(graph, layer, inputs)
    if len(outputs) != len(layer.tops):
        raise ModelError(
            f"layer '{layer.name}' ({layer.kind}) gives {len(outputs)} blobs, the network names "
            f"{len(layer.tops)}."
        )
    return outputs


def _inputs(graph: Graph, layer: Layer) -> dict[str, Value]:
    shapes = [tuple(shape.dim) for shape in layer.parameters.input_param.shape]
    if len(shapes) == 1:
        shapes = shapes * len(layer.tops)
    if len(shapes) != len(layer.tops):
        raise ModelError(
            f"layer '{layer.name}' (Input) has {len(layer.tops)} blobs and {len(shapes)} shapes."
        )
    return {top: graph.input(top, _one_sample(shape)) for top, shape in zip(layer.tops, shapes, strict=True)}


def _one_sample(shape: Sequence[int]) -> tuple[int, ...]:
    """A device computes one sample at a time; the batch of a deploy.prototxt is somebody's benchmark."""
    if any(d < 1 for d in shape):
        raise ModelError(f"an input has the shape {list(shape)}. Write its sizes into the .prototxt.")
    return (1, *shape[1:]) if len(shape) > 1 else tuple(shape)


def _value(values: Mapping[str, Value], name: str, layer: Layer) -> Value:
    if name not in values:
        raise ModelError(
            f"layer '{layer.name}' ({layer.kind}) reads '{name}', which no layer before it writes."
        )
    return values[name]


def _beside(path: Path, suffix: str) -> Path:
    """The file of the same name; or the only one of its kind in the folder."""
    same = path.with_suffix(suffix)
    if same.is_file():
        return same
    others = sorted(file for file in path.parent.iterdir() if file.suffix.lower() == suffix)
    if len(others) == 1:
        return others[0]
    if suffix == ".caffemodel":
        raise ModelError(
            f"{path}: its weights are not in '{same.name}'. Give --frontend weights=net.caffemodel."
        )
    raise ModelError(
        f"{path}: its network is not in '{same.name}'. Give the .prototxt, and --frontend "
        f"weights={path.name}."
    )
