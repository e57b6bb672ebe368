"""What a model must be before any work: a fault of the file is told as one, not as the failure of a pass."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir

from irshrink.errors import ModelError
from irshrink.external import release_tensor
from irshrink.graph.edit import constant, describe, opset
from irshrink.graph.shapes import inferred_proto, proto_without_weights
from irshrink.module import Module

#: Operators whose constants are weights: an infinite one makes every output infinite or NaN. Elsewhere
#: infinities have a meaning (the open side of a Clip, a mask before a Softmax).
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu"})

#: Elements that are looked at together.
_BLOCK = 1 << 20


def require_sound(module: Module) -> None:
    """Refuse what no pass could mend and no kernel could run.

    Raises:
        ModelError: no inputs or outputs, a newer opset than ONNX here knows, shapes that contradict each
            other, or weights that are NaN or infinite; the message names the node or the weights.
    """
    where = "the model" if module.source is None else str(module.source)
    _require_ports(module.graph, where)
    _require_known_opset(module.graph, where)
    _require_finite(module.graph, where)
    try:
        inferred_proto(proto_without_weights(module.model))
    except ModelError as e:
        raise ModelError(f"{where}: {_first_contradiction(str(e))}. Export the model again.") from e


def _require_ports(graph: ir.Graph, where: str) -> None:
    if not graph.outputs:
        raise ModelError(f"{where}: the model has no outputs. Export it with what it should compute.")
    if all(value.name in graph.initializers for value in graph.inputs):
        raise ModelError(f"{where}: the model has no inputs: its outputs are constants.")


def _require_known_opset(graph: ir.Graph, where: str) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset(graph) > newest:
        raise ModelError(
            f"{where}: opset {opset(graph)} is newer than what the installed onnx {onnx.__version__} knows, "
            f"{newest}. Export the model with opset {newest} or lower, or install a newer onnx."
        )


def _require_finite(graph: ir.Graph, where: str) -> None:
    seen: set[tuple[ir.Value, bool]] = set()
    for node in graph.all_nodes():
        weighted = node.op_type in _WEIGHTED
        for value in node.inputs:
            if value is None or (value, weighted) in seen:
                continue
            seen.add((value, weighted))
            nan, infinite = _not_finite(value)
            if nan or (infinite and weighted):
                raise ModelError(
                    f"{where}: '{value.name}', which {describe(node)} reads, holds "
                    f"{'NaN' if nan else 'infinity'}. Was the training finished? Export sound weights."
                )


def _not_finite(value: ir.Value) -> tuple[bool, bool]:
    """Whether a constant holds NaN, and infinity. Weights beside the model are read once, in blocks."""
    values = constant(value)
    if values is None or values.dtype.kind != "f":
        return False, False
    nan = infinite = False
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        if not np.isfinite(block).all():
            nan |= bool(np.isnan(block).any())
            infinite |= bool(np.isinf(block).any())
    del values, flat
    release_tensor(value.const_value)
    return nan, infinite


def _first_contradiction(message: str) -> str:
    """ONNX's list of errors as one: ``Conv 'conv0': Attribute strides has incorrect size``."""
    found = re.search(
        r"\(op_type:(\w+)(?:, node name: ([^)]*))?\): \[\w+\] (.*?)(?= \(op_type:|$)", message, re.DOTALL
    )
    if found is None:
        return message.rstrip(".")
    name = f" '{found[2]}'" if found[2] else ""
    return f"shapes contradict each other at {found[1]}{name}: {found[3].strip().rstrip('.')}"
