"""Keras (.keras, .h5) and SavedModel folders to ONNX: ``convert_tensorflow.py MODEL OUTPUT.onnx OPTIONS``.

Runs apart from irshrink and imports nothing of it. TensorFlow traces the network in its own layout (channels
last stays channels last), tf2onnx converts the trace. Inputs and outputs keep the framework's names, nodes
are called after layers. The batch stays open: with a fixed one tf2onnx does not recognize recurrent layers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OPSET = 18
MOST_STEPS = 256

#: Operators by which a SavedModel reaches files, or code outside of it, when it is loaded.
UNSAFE = frozenset(
    {
        "DeleteFile", "EagerPyFunc", "FileSystemSetConfiguration", "LoadLibrary", "MatchingFiles", "PyFunc",
        "PyFuncStateless", "ReadFile", "RpcCall", "RpcClient", "WriteFile", "XlaLaunch", "CollectiveReduce",
    }
)  # fmt: skip


class RefusedModelError(Exception):
    """What this script does not convert, as a sentence."""


def main(model: str, output: str, options: dict[str, str]) -> None:
    """Convert ``model`` into the file ``output``.

    Args:
        options: ``signature`` of a SavedModel.
    """
    import onnx

    proto = from_saved_model(model, options) if Path(model).is_dir() else from_keras(model)
    replace_erfc(proto)
    require_onnx_operators(proto)
    name_values(proto)
    onnx.save(proto, output)


def from_keras(path: str) -> Any:
    """The ONNX model of a network saved by Keras 3, or of a legacy HDF5 file."""
    import keras
    import tensorflow as tf

    network = load_keras(path)
    unroll(network)
    outputs = getattr(network, "output_names", None) or [network.layers[-1].name]

    def call(*inputs: Any) -> list[Any]:
        packed = list(inputs) if len(inputs) > 1 else inputs[0]
        results: list[Any] = keras.tree.flatten(network(packed, training=False))
        return results

    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in network.inputs]
    proto = convert(call, specs)
    sort_nodes(proto)
    rename_ports(proto, [t.name for t in network.inputs], [str(name) for name in outputs])
    layers = {str(layer.name) for layer in network._flatten_layers()}
    name_nodes(proto, {str(network.name)}, layers)
    return proto


def load_keras(path: str) -> Any:
    """The network with its weights; code inside the file is never run.

    Raises:
        RefusedModelError: the network needs code that is not Keras', or was never built.
    """
    import keras

    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as e:
        text = " ".join(str(e).split())
        if "ambda" in text:
            raise RefusedModelError(
                "the model holds a Lambda layer, Python code that irshrink does not run. Replace it by "
                "layers of Keras, or export the model as a SavedModel: model.export('folder')."
            ) from e
        if "Could not locate class" in text or "custom_objects" in text:
            name = re.search(r"[Cc]lass '(\w+)'|class_name': '(\w+)'|layer '(\w+)'", text)
            which = next((group for group in name.groups() if group), "?") if name else "?"
            raise RefusedModelError(
                f"the model needs the user's own class '{which}', which is not in the file. Export the model "
                "as a SavedModel: model.export('folder')."
            ) from e
        raise
    if not getattr(network, "inputs", None):
        raise RefusedModelError(
            "the model has no declared inputs. Start it with keras.Input, or call it on an example, "
            "and save it again."
        )
    return network


def unroll(network: Any) -> None:
    """Write the steps of GRU and SimpleRNN layers one by one: tf2onnx knows the loop of LSTM alone."""
    import keras

    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.GRU | keras.layers.SimpleRNN):
            steps = layer.input.shape[1]
            layer.unroll = steps is not None and steps <= MOST_STEPS


def from_saved_model(path: str, options: dict[str, str]) -> Any:
    """The ONNX model of one signature of a SavedModel.

    Raises:
        RefusedModelError: no such signature, or operators that reach outside.
    """
    import tensorflow as tf

    require_safe(path)
    loaded = tf.saved_model.load(path)
    signatures = dict(loaded.signatures)
    wanted = options.get("signature", "serving_default")
    if wanted not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise RefusedModelError(
            f"the SavedModel has no signature '{wanted}'. It has: {known}. Choose with --frontend signature="
        )
    signature = signatures[wanted]
    declared = signature.structured_input_signature[1]
    inputs, outputs = sorted(declared), sorted(signature.structured_outputs)

    def call(*values: Any) -> list[Any]:
        results = signature(**dict(zip(inputs, values, strict=True)))
        return [results[name] for name in outputs]

    specs = [tf.TensorSpec(declared[name].shape, declared[name].dtype, name=name) for name in inputs]
    proto = convert(call, specs)
    sort_nodes(proto)
    rename_ports(proto, inputs, outputs)
    name_nodes(proto, set(), set())
    return proto


def require_safe(path: str) -> None:
    """A SavedModel is a program that loading it may run: refuse those that reach files or code.

    Raises:
        RefusedModelError: names the operator.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((Path(path) / "saved_model.pb").read_bytes())
    except DecodeError as e:
        raise RefusedModelError("saved_model.pb is damaged. Export the model again.") from e
    for meta in saved.meta_graphs:
        functions = (node for function in meta.graph_def.library.function for node in function.node_def)
        for node in (*meta.graph_def.node, *functions):
            if node.op in UNSAFE:
                raise RefusedModelError(
                    f"node '{node.name}' ({node.op}) reaches outside the model, to files or code. Export the "
                    "model without it."
                )


def convert(call: Callable[..., list[Any]], specs: list[Any]) -> Any:
    """The ONNX model of a TensorFlow function of ``specs``."""
    import tensorflow as tf
    import tf2onnx

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator, unused-ignore]
    def function(*inputs: Any) -> list[Any]:
        return [tf.identity(result, name=f"port_{i}") for i, result in enumerate(call(*inputs))]

    proto, external = tf2onnx.convert.from_function(function, input_signature=specs, opset=OPSET)
    if external is not None:
        raise RefusedModelError("the weights are more than 2 GB, which tf2onnx cannot put into one file.")
    return proto


def sort_nodes(proto: Any) -> None:
    """Order nodes by the graph alone, in place: tf2onnx's own order changes from run to run.

    Depth first from the outputs, inputs in their order, with a stack of its own.
    """
    made = {name: node for node in proto.graph.node for name in node.output}
    done: dict[int, Any] = {}
    stack = [(made[value.name], False) for value in reversed(proto.graph.output) if value.name in made]
    while stack:
        node, complete = stack.pop()
        if id(node) in done:
            continue
        if complete:
            done[id(node)] = node
            continue
        stack.append((node, True))
        stack += [(made[name], False) for name in reversed(_reads(node)) if name in made]
    nodes = list(done.values())
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _reads(node: Any) -> list[str]:
    """Values that a node reads, those that its subgraphs take from outside too."""
    inner = (n for attribute in node.attribute for g in (attribute.g, *attribute.graphs) for n in nodes_of(g))
    return [*node.input, *(name for n in inner for name in n.input)]


def name_values(proto: Any) -> None:
    """Call values after the nodes that make them and constants after the first that reads them, in place.

    tf2onnx numbers both as they come, which changes from run to run.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = {value.name for value in (*graph.input, *graph.output)}
    renamed: dict[str, str] = {name: name for name in taken}
    ordered = []
    for node in graph.node:
        for index, name in enumerate(_reads(node)):
            if name in constants and name not in renamed:
                renamed[name] = free(f"{node.name}.{index}", taken)
                taken.add(renamed[name])
                ordered.append(constants[name])
        for name in node.output:
            if name and name not in renamed:
                renamed[name] = free(node.name, taken)
                taken.add(renamed[name])
    kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in ordered]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    _rename(graph, renamed)


def rename_ports(proto: Any, inputs: list[str], outputs: list[str]) -> None:
    """Give inputs and outputs the framework's names, in place."""
    graph = proto.graph
    given = dict(zip([v.name for v in graph.input], inputs, strict=True))
    taken = set(inputs)
    for value, name in zip(graph.output, outputs, strict=True):
        given[value.name] = free(name, taken)
        taken.add(given[value.name])
    inner = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    for name in sorted((inner - set(given)) & taken):
        given[name] = free(f"{name}_inner", inner | taken)
    _rename(graph, given)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in nodes_of(graph):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def nodes_of(graph: Any) -> Iterator[Any]:
    """Every node, those of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def free(name: str, taken: set[str]) -> str:
    """``name``, or ``name_1``, ``name_2``, ..."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def name_nodes(proto: Any, models: set[str], layers: set[str]) -> None:
    """Call every node ``layer/part``, in place.

    TensorFlow prefixes scopes of calls and of the network, Keras numbers a layer that is called again
    (``conv_1``). What tf2onnx adds by itself (``LSTM__60``, ``conv/Conv2D__6``) is called after the layer
    whose weights it reads, whose value it makes, or whose output it reads; and a convolution after its
    weights in any case, since what follows it is folded into it.
    """
    known = models | layers
    constants = {tensor.name for tensor in proto.graph.initializer}
    scopes: dict[str, list[str]] = {}
    taken: set[str] = set()
    for node in proto.graph.node:
        parts = _path(node.name, models, known)
        own = re.sub(r"__\d+$", "", parts[-1]) if parts else str(node.op_type)
        weights = [_path(name, models, known)[:-1] for name in node.input if name in constants]
        made = [_path(name, models, known)[:-1] for name in node.output]
        read = [scopes.get(name, []) for name in node.input]
        scope = parts[:-1] or next((path for path in (*weights, *made, *read) if path), [])
        if node.op_type in ("Conv", "ConvTranspose") and weights and weights[0][:1] not in ([], scope[:1]):
            scope, own = weights[0][:1], str(node.op_type)
        added = [node.op_type] if own not in (node.op_type, *parts) else []
        node.name = free("/".join([*scope, own, *added]), taken)
        taken.add(node.name)
        scopes |= dict.fromkeys(node.output, scope)


def _path(name: str, models: set[str], known: set[str]) -> list[str]:
    """Scopes of a node or a value, from the layer on, and its own name last."""
    parts = [_layer(part, known) for part in name.partition(":")[0].split("/") if part]
    while len(parts) > 1 and (parts[0] in models or "PartitionedCall" in parts[0]):
        parts = parts[1:]
    return parts


def _layer(part: str, known: set[str]) -> str:
    base = re.sub(r"_\d+$", "", part)
    return base if part not in known and base in known else part


def replace_erfc(proto: Any) -> None:
    """erfc(x) = 1 - erf(x), in place: GELU of Keras; ONNX has no Erfc.

    In GELU x = -v * c, and 1 - erf(-v * c) = 1 + erf(v * c), the form that everybody recognizes.
    """
    from onnx import helper, numpy_helper

    made = {name: node for node in proto.graph.node for name in node.output}
    found = []
    for node in proto.graph.node:
        if node.op_type != "Erfc":
            found.append(node)
            continue
        argument, combine = node.input[0], "Sub"
        scaled = made.get(argument)
        negated = made.get(scaled.input[0]) if scaled is not None and scaled.op_type == "Mul" else None
        if scaled is not None and negated is not None and negated.op_type == "Neg":
            argument, combine = f"{argument}_negated", "Add"
            product = [negated.input[0], scaled.input[1]]
            found.append(helper.make_node("Mul", product, [argument], name=f"{node.name}/Mul"))
        one, erf = f"{node.output[0]}_one", f"{node.output[0]}_erf"
        proto.graph.initializer.append(numpy_helper.from_array(_one(), one))
        found.append(helper.make_node("Erf", [argument], [erf], name=f"{node.name}/Erf"))
        found.append(helper.make_node(combine, [one, erf], list(node.output), name=node.name))
    del proto.graph.node[:]
    proto.graph.node.extend(found)
    drop_unread(proto)


def _one() -> Any:
    import numpy as np

    return np.float32(1)


def drop_unread(proto: Any) -> None:
    """Remove nodes whose outputs nobody reads, in place."""
    while True:
        read = {name for node in nodes_of(proto.graph) for name in node.input}
        read |= {value.name for value in proto.graph.output}
        unread = [node for node in proto.graph.node if not read & set(node.output)]
        if not unread:
            return
        for node in unread:
            proto.graph.node.remove(node)


def require_onnx_operators(proto: Any) -> None:
    """tf2onnx leaves what it cannot convert as it was, and only logs it.

    Raises:
        RefusedModelError: names the first operator and its layer.
    """
    from onnx import defs

    for node in nodes_of(proto.graph):
        if not node.domain and not defs.has(node.op_type):
            raise RefusedModelError(
                f"'{node.name}' is TensorFlow's {node.op_type}, for which tf2onnx has no ONNX operator. "
                "Replace it in the network."
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    except RefusedModelError as refusal:
        sys.exit(f"error: {refusal}")
