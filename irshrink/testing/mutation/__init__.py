"""Mutated models: real ones with something wrong, as a broken exporter or an enemy would write them.

:func:`mutate` is structure-aware: most of what it makes still parses, so that it reaches what lies behind
the parser. The same generator state gives the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import onnx

from irshrink.errors import ModelError
from irshrink.testing.mutation import structure, values

Mutation = Callable[[Any, random.Random, Sequence[bytes]], None]


def mutate(model: bytes, donors: Sequence[bytes], seed: int) -> bytes:
    """A mutated copy of a serialized model: one to four changes of its structure, at times of its bytes.

    Args:
        donors: serialized models to take nodes from.
    """
    rng = random.Random(seed)
    if rng.random() < 0.04:
        return _bytes(model, rng)
    proto = onnx.ModelProto.FromString(model)
    wanted = rng.choice((1, 1, 1, 2, 2, 3, 4))
    while wanted:
        kind = rng.choice(MUTATIONS)
        try:
            kind(proto, rng, donors)
        except (ValueError, TypeError, IndexError, ModelError):
            continue  # this model has nothing of the kind, or protobuf refuses the value
        wanted -= 1
    data = bytes(proto.SerializeToString(deterministic=True))
    return _bytes(data, rng) if rng.random() < 0.02 else data


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, lost, doubled or foreign bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not out:
            break
        place, length = rng.randrange(len(out)), rng.choice((1, 1, 2, 8, 64, 1024))
        kind = rng.randrange(5)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place : place + length]
        elif kind == 2:
            out[place:place] = out[place : place + length]
        elif kind == 3:
            out[place:place] = rng.randbytes(length)
        else:
            del out[rng.randrange(len(out)) :]
    return bytes(out)


MUTATIONS: tuple[Mutation, ...] = (
    values.tensor_dims,
    values.tensor_type,
    values.tensor_data,
    values.tensor_data,
    values.tensor_external,
    values.value_shape,
    values.value_shape,
    values.value_type,
    values.attribute_value,
    values.attribute_value,
    values.attribute_value,
    values.attribute_type,
    values.attribute_name,
    values.attribute_lost,
    values.attribute_new,
    values.attribute_new,
    structure.node_operator,
    structure.node_operator,
    structure.node_lost,
    structure.node_twice,
    structure.node_order,
    structure.node_edges,
    structure.node_edges,
    structure.node_foreign,
    structure.node_foreign,
    structure.rename,
    structure.rename,
    structure.model_texts,
    structure.opsets,
    structure.graph_ports,
    structure.subgraph,
    structure.function,
)
