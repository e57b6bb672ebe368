"""Wrong constants, types, shapes and attributes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import prod
from typing import Any

import onnx

from irshrink.testing.mutation.pick import (
    FLOATS,
    NAMES,
    NUMBERS,
    PLACES,
    pick_attribute,
    pick_node,
    pick_tensor,
    pick_value,
)
from irshrink.vetting import tensor_bytes

_MOST_ELEMENTS = 1 << 18
_ATTRIBUTE_TYPES = dict(onnx.AttributeProto.AttributeType.items())


def change_numbers(numbers: Any, rng: random.Random) -> None:
    """Of a repeated field of integers."""
    kind = rng.randrange(6)
    if kind == 0 or not numbers:
        numbers.append(rng.choice(NUMBERS))
    elif kind == 1:
        numbers.pop(rng.randrange(len(numbers)))
    elif kind == 2:
        shuffled = rng.sample(list(numbers), len(numbers))
        numbers[:] = shuffled
    elif kind == 3:
        index = rng.randrange(len(numbers))
        numbers[index] = numbers[index] + rng.choice((-1, 1))
    else:
        numbers[rng.randrange(len(numbers))] = rng.choice(NUMBERS)


def tensor_dims(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """Half the time with as much data as the new shape needs."""
    tensor = pick_tensor(proto, rng)
    change_numbers(tensor.dims, rng)
    elements = prod(tensor.dims)
    if tensor.raw_data and 0 <= elements < _MOST_ELEMENTS and rng.random() < 0.5:
        raw, needed = tensor.raw_data, tensor_bytes(tensor)
        tensor.raw_data = (raw * (needed // len(raw) + 1))[:needed]


def tensor_type(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    pick_tensor(proto, rng).data_type = rng.choice((*range(30), -1, 2**31 - 1))


def tensor_data(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """Other values, of the right length or of a wrong one."""
    tensor = pick_tensor(proto, rng)
    raw = bytearray(tensor.raw_data)
    kind = rng.randrange(5)
    if not raw:
        for field in (tensor.int64_data, tensor.int32_data, tensor.float_data, tensor.double_data):
            if field:
                change_numbers(field, rng)
        return
    if kind == 0:
        raw = raw[: rng.randrange(len(raw))]
    elif kind == 1:
        raw += rng.randbytes(rng.randrange(1, 64))
    elif kind == 2:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif kind == 3:
        raw = bytearray(rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * len(raw))
    else:
        width = 8 if tensor.data_type == onnx.TensorProto.INT64 else 4
        start = rng.randrange(max(1, len(raw) // width)) * width
        number = rng.choice(NUMBERS) % (1 << 8 * width)
        raw[start : start + width] = number.to_bytes(width, "little")
    tensor.raw_data = bytes(raw)


def tensor_external(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    tensor = pick_tensor(proto, rng)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")
    entries = {"location": rng.choice(PLACES[:1] * 10 + PLACES)}
    if rng.random() < 0.5:
        entries["offset"] = str(rng.choice((0, 0, 4096, *NUMBERS)))
    if rng.random() < 0.5:
        entries["length"] = str(rng.choice(NUMBERS))
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def value_shape(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    kind = pick_value(proto, rng).type.tensor_type
    dims = kind.shape.dim
    choice = rng.randrange(6)
    if choice == 0:
        kind.ClearField("shape")
    elif choice == 1 or not dims:
        dims.add(dim_value=rng.choice(NUMBERS))
    elif choice == 2:
        del dims[rng.randrange(len(dims))]
    elif choice == 3:
        dims[rng.randrange(len(dims))].dim_param = rng.choice((*NAMES, "N"))
    else:
        dims[rng.randrange(len(dims))].dim_value = rng.choice(NUMBERS)


def value_type(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    value = pick_value(proto, rng)
    kind = rng.randrange(5)
    if kind == 0:
        value.ClearField("type")
    elif kind == 1:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == 2:
        value.type.optional_type.elem_type.tensor_type.elem_type = 1
    else:
        value.type.tensor_type.elem_type = rng.choice((*range(30), -1, 2**31 - 1))


def attribute_value(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    attribute = pick_attribute(proto, rng)
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(NUMBERS)
    elif attribute.type == onnx.AttributeProto.INTS:
        change_numbers(attribute.ints, rng)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    elif attribute.type == onnx.AttributeProto.FLOATS:
        attribute.floats.append(rng.choice(FLOATS))
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"SAME_UPPER", b"VALID", b"edge", b"\xff\xfe", b"DCR", b"x" * 999))
    else:
        attribute.type = rng.randrange(16)


def attribute_type(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    pick_attribute(proto, rng).type = rng.randrange(16)


def attribute_name(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    attribute = pick_attribute(proto, rng)
    attribute.name = rng.choice(("axis", "axes", "to", "pads", "strides", "group", "perm", "value", *NAMES))


def attribute_lost(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    node = pick_node(proto, rng)
    del node.attribute[rng.randrange(len(node.attribute))]


def attribute_new(proto: Any, rng: random.Random, donors: Sequence[bytes]) -> None:
    """One that the operator knows, with a value of its type; or that of another node."""
    node = pick_node(proto, rng)
    if rng.random() < 0.3:
        node.attribute.append(pick_attribute(proto, rng))
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, node.domain)
    except onnx.defs.SchemaError:
        return
    name, known = rng.choice(sorted(schema.attributes.items()))
    attribute = node.attribute.add(name=name, type=_ATTRIBUTE_TYPES[str(known.type).rpartition(".")[2]])
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(NUMBERS)
    elif attribute.type == onnx.AttributeProto.INTS:
        attribute.ints.extend(rng.choices(NUMBERS, k=rng.randrange(6)))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
