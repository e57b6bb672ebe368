"""Names of classes leave the graph: a device has no strings and no dictionaries.

A classifier of scikit-learn may answer with strings, and ZipMap makes a dictionary of every row of scores.
Here strings become their numbers (int64 in the graph, int32 on the target), ZipMap goes, and the names stay
in the model's metadata, from where they reach the report and the C header:

``irshrink.classes.OUTPUT``  what the numbers of a class output stand for, a JSON list;
``irshrink.columns.OUTPUT``  the class of each column of an output of scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.graph import edit

CLASSES, COLUMNS = "irshrink.classes.", "irshrink.columns."

_DOMAIN = "ai.onnx.ml"
#: Classifier -> its attribute for classes that are integers.
_CLASSIFIERS = {
    "TreeEnsembleClassifier": "classlabels_int64s",
    "SVMClassifier": "classlabels_ints",
    "LinearClassifier": "classlabels_ints",
}
#: Nodes that pass labels on as they are, and those that keep the columns of scores.
_MOVES = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast")
_KEEPS_COLUMNS = ("Identity", "Cast", "Mul", "Normalizer", "Softmax")


def drop_zipmaps(proto: Any) -> None:
    """Give an ``onnx.ModelProto`` the scores themselves as output where it has ZipMaps, in place.

    Raises:
        ModelError: something else reads the dictionaries.
    """
    import onnx

    graph = proto.graph
    for node in [n for n in graph.node if n.domain == _DOMAIN and n.op_type == "ZipMap"]:
        name = node.output[0]
        if any(name in other.input for other in graph.node):
            raise ModelError(f"ZipMap '{node.name or name}': its dictionaries are read in the model")
        columns = [
            entry.decode("utf-8", "replace") if isinstance(entry, bytes) else entry
            for attribute in node.attribute
            for entry in onnx.helper.get_attribute_value(attribute)
        ]
        for output in graph.output:
            if output.name == name:
                output.type.CopyFrom(
                    onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None, len(columns)])
                )
        onnx.helper.set_model_props(proto, {**_props(proto), COLUMNS + name: json.dumps(columns)})
        scores = node.input[0]
        node.CopyFrom(onnx.helper.make_node("Identity", [scores], [name], name=node.name))


def index_class_names(model: ir.Model) -> None:
    """Replace names of classes by numbers, in place; most models have none.

    Raises:
        ModelError: strings that are no names of classes.
    """
    graph = model.graph
    classes: dict[ir.Value, list[str]] = {}
    columns: dict[ir.Value, Sequence[object]] = {}
    for node in tuple(graph):
        if node.domain == _DOMAIN and node.op_type in _CLASSIFIERS:
            _index_classifier(node, classes, columns)
        elif node.domain == _DOMAIN and node.op_type == "ArrayFeatureExtractor":
            _index_table(graph, node, classes)
        elif node.domain == _DOMAIN and node.op_type == "LabelEncoder":
            _index_encoder(node, classes)
        elif node.inputs:
            _pass_on(node, classes, columns)
    _remember(model, classes, columns)


def class_names(metadata: Mapping[str, str], output: str) -> tuple[str, ...]:
    """What the numbers of a class output stand for; () where they are the classes themselves."""
    return _listed(metadata, CLASSES + output)


def column_names(metadata: Mapping[str, str], output: str) -> tuple[str, ...]:
    """The class of each column of an output of scores; () where nothing is known."""
    return _listed(metadata, COLUMNS + output)


def score_names(model: ir.Model) -> tuple[str, ...]:
    """What classes are called, in the order of their scores; () where outputs do not agree."""
    found = {
        names
        for output in model.graph.outputs
        for read in (class_names, column_names)
        if (names := read(model.metadata_props, str(output.name)))
    }
    return found.pop() if len(found) == 1 else ()


def _listed(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """A JSON list of names; () for anything else, which a stranger's file may hold."""
    try:
        found = json.loads(metadata.get(key, "[]"))
    except ValueError:
        return ()
    good = isinstance(found, list) and all(isinstance(name, str | int) for name in found)
    return tuple(str(name) for name in found) if good else ()


def _props(proto: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}


def _index_classifier(
    node: ir.Node, classes: dict[ir.Value, list[str]], columns: dict[ir.Value, Sequence[object]]
) -> None:
    attribute, name = node.attributes.get("classlabels_strings"), _CLASSIFIERS[node.op_type]
    names = [] if attribute is None else list(attribute.as_strings())
    if names:
        del node.attributes["classlabels_strings"]
        node.attributes[name] = ir.AttrInt64s(name, range(len(names)))
        classes[node.outputs[0]] = names
        _retype(node.outputs[0])
    labels = names or (node.attributes[name].as_ints() if name in node.attributes else ())
    if len(node.outputs) > 1:
        columns[node.outputs[1]] = list(labels)


def _index_table(graph: ir.Graph, node: ir.Node, classes: dict[ir.Value, list[str]]) -> None:
    """A table of names by number, as skl2onnx writes the classes of most models."""
    table = edit.constant(edit.input_of(node, 0))
    if table is None or table.dtype.kind not in "OUS":
        return
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in table.reshape(-1)]
    numbers = np.arange(len(names), dtype=np.int64).reshape(table.shape)
    value = ir.Value(
        name=edit.free_name(f"{edit.base_name(node)}_classes", _names(graph)),
        const_value=ir.tensor(numbers),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape(numbers.shape),
    )
    graph.register_initializer(value)
    old = node.inputs[0]
    node.replace_input_with(0, value)
    if old is not None and old.is_initializer() and not old.uses() and old.name:
        del graph.initializers[old.name]
    classes[node.outputs[0]] = names
    _retype(node.outputs[0])


def _index_encoder(node: ir.Node, classes: dict[ir.Value, list[str]]) -> None:
    """Numbers to names: their places, the default last."""
    attribute = node.attributes.get("values_strings")
    if attribute is None or "keys_strings" in node.attributes:
        return
    names = list(attribute.as_strings())
    default = edit.attribute_string(node, "default_string", "_Unused")
    del node.attributes["values_strings"]
    node.attributes["values_int64s"] = ir.AttrInt64s("values_int64s", range(len(names)))
    node.attributes["default_int64"] = ir.AttrInt64("default_int64", len(names))
    classes[node.outputs[0]] = [*names, default]
    _retype(node.outputs[0])


def _pass_on(
    node: ir.Node, classes: dict[ir.Value, list[str]], columns: dict[ir.Value, Sequence[object]]
) -> None:
    source = node.inputs[0]
    if source in classes:
        if node.op_type not in _MOVES:
            raise ModelError(f"{edit.describe(node)}: computes with strings, which no device has.")
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.INT64))
        classes[node.outputs[0]] = classes[source]
        _retype(node.outputs[0])
    if source in columns and node.op_type in _KEEPS_COLUMNS:
        columns[node.outputs[0]] = columns[source]


def _remember(
    model: ir.Model, classes: dict[ir.Value, list[str]], columns: dict[ir.Value, Sequence[object]]
) -> None:
    for output in model.graph.outputs:
        if output in classes:
            model.metadata_props[f"{CLASSES}{output.name}"] = json.dumps(classes[output])
        found = list(columns.get(output, []))
        if found != list(range(len(found))):
            model.metadata_props[f"{COLUMNS}{output.name}"] = json.dumps(found)


def _retype(value: ir.Value) -> None:
    value.type = ir.TensorType(ir.DataType.INT64)


def _names(graph: ir.Graph) -> set[str]:
    made = (value.name for node in graph for value in node.outputs)
    return {name for name in (*made, *graph.initializers, *(v.name for v in graph.inputs)) if name}
