"""Models as text: ONNX's own syntax (``onnx.parser`` reads it), constants one a line.

ONNX's printer writes every number of every weight. Here constants above a size are replaced by a digest,
so that dumps stay readable and a difference in the weights still shows.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from irshrink.external import release_tensor
from irshrink.graph.shapes import proto_without_weights

if TYPE_CHECKING:
    import onnx

#: Type names of the textual syntax whose numbers it can spell.
_SPELLED = {
    "FLOAT": "float",
    "DOUBLE": "double",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "BOOL": "bool",
    "INT2": "int2",
    "INT4": "int4",
    "UINT2": "uint2",
    "UINT4": "uint4",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
}
#: Of these ``onnx.parser`` (1.23) reads the numbers wrongly or not at all; what they are spelled as for it.
_READ_AS = {
    **dict.fromkeys(("int2", "int4"), "int8"),
    **dict.fromkeys(("uint2", "uint4"), "uint8"),
    **dict.fromkeys(("float16", "bfloat16"), "float"),
}
_CONSTANT = re.compile(rf"\b({'|'.join(_READ_AS)})((?:\[[0-9, ]*\])? +(\S+) *= *\{{)")


def model_text(model: ir.Model, *, max_elements: int | None = 16, shapes: bool = False) -> str:
    """Print a model.

    Args:
        max_elements: larger constants are written as ``{... sha256:1234abcd}``; None writes all numbers,
            and then the text can be parsed again.
        shapes: also declare types and shapes of intermediate values.
    """
    import onnx

    proto = proto_without_weights(model)
    constants = [_constant_text(value, max_elements) for value in model.graph.initializers.values()]
    names = set(model.graph.initializers)
    declared = [info for info in proto.graph.value_info if shapes and info.name not in names]
    inputs = [info for info in proto.graph.input if info.name in {value.name for value in model.graph.inputs}]
    del proto.graph.initializer[:]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    del proto.graph.value_info[:]
    declarations = [*constants, *(_type_text(info) for info in declared)]
    text = str(onnx.printer.to_text(proto))
    if not declarations:
        return text
    signature, _, body = text.partition(" {\n")
    block = ",\n    ".join(declarations)
    return f"{signature}\n   <{block}>\n{{\n{body}"


def parse_text(text: str) -> onnx.ModelProto:
    """The model that a text spells; reads what :func:`model_text` writes.

    Raises:
        onnx.parser.ParseError: see there.
    """
    import onnx

    kinds = {name: kind for kind, _, name in _CONSTANT.findall(text)}
    proto = onnx.parser.parse_model(_CONSTANT.sub(lambda found: _READ_AS[found[1]] + found[2], text))
    for tensor in proto.graph.initializer:
        if tensor.name in kinds:
            number = onnx.TensorProto.DataType.Value(kinds[tensor.name].upper())
            array = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(number))
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return proto


def canonical(model: ir.Model) -> ir.Model:
    """A copy that is equal to another model's exactly if both have the same structure.

    Inputs and outputs keep their names, other values and constants are numbered in the order of their use;
    names of nodes and metadata are gone.
    """
    model = tidy(model)
    graph = model.graph
    fixed = {*graph.inputs, *graph.outputs}
    values = [output for node in graph for output in node.outputs if output.name and output not in fixed]
    constants = [value for value in graph.initializers.values() if value not in fixed]
    # First to names that nothing has, then to the final ones: a rename must not meet a taken name.
    for stage in ("__{}", "_{}"):
        for prefix, group in (("v", values), ("c", constants)):
            for number, value in enumerate(group):
                value.name = stage.format(f"{prefix}{number}")
    return model


def tidy(model: ir.Model) -> ir.Model:
    """A copy with constants in the order of their first use, attributes by name, and no names of nodes."""
    model = model.clone()
    graph = model.graph
    used = [v for node in graph for v in node.inputs if v is not None and v.is_initializer()]
    ordered = list(dict.fromkeys([*used, *graph.initializers.values()]))
    graph.initializers.clear()
    for value in ordered:
        graph.register_initializer(value)
    for node in graph:
        node.name = ""
        node.metadata_props.clear()
        attributes = sorted(node.attributes.values(), key=lambda a: a.name)
        node.attributes.clear()
        for attribute in attributes:
            node.attributes.add(attribute)
    return model


def without_numbers(model: ir.Model) -> ir.Model:
    """A copy whose constants keep their types and shapes only; all numbers are 0."""
    model = model.clone()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            zeros = np.zeros_like(value.const_value.numpy())
            value.const_value = ir.tensor(zeros, name=value.name)
    return model


def _constant_text(value: ir.Value, max_elements: int | None) -> str:
    tensor = value.const_value
    assert tensor is not None
    dims = list(tensor.shape.numpy())
    kind = _SPELLED.get(tensor.dtype.name, tensor.dtype.name.lower())
    head = f"{kind}{dims if dims else ''} {value.name} = "
    array = tensor.numpy()
    if tensor.dtype.name not in _SPELLED or (max_elements is not None and array.size > max_elements):
        digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
        release_tensor(tensor)
        return f"{head}{{... sha256:{digest[:8]}}}"
    return f"{head}{{{', '.join(_number(x) for x in array.reshape(-1))}}}"


def _number(x: Any) -> str:
    """The shortest spelling that reads back as the same number."""
    if x.dtype.name == "bfloat16":
        x = np.float32(x)
    if isinstance(x, np.floating):
        return np.format_float_scientific(x, trim="0") if 0 < abs(x) < 1e-4 else _plain(x)
    return str(int(x))


def _plain(x: np.floating[npt.NBitBase]) -> str:
    return str(x) if not np.isfinite(x) else np.format_float_positional(x, trim="0")


def _type_text(info: Any) -> str:
    """``float[1,4] t``, as the printer writes the type of a graph's input."""
    import onnx

    graph = onnx.GraphProto(name="g", input=[info])
    signature = str(onnx.printer.to_text(graph))
    return signature[signature.index("(") + 1 : signature.index(") =>")]
