"""Attributes of classical operators as arrays; what is missing or of another length is refused."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.conversion import converted
from irshrink.program.ops import Float32, Int32
from irshrink.program.reference.dispatch import Array

Int64 = NDArray[np.int64]
INT32 = np.iinfo(np.int32)
_MOST_TARGETS = 1 << 16
AGAIN = "Export the model again."


def floats(node: ir.Node, name: str) -> Float32:
    """A list of numbers, which may be given as ``<name>_as_tensor``; float64 rounds to float32."""
    tensor = node.attributes.get(f"{name}_as_tensor") or node.attributes.get(name)
    if tensor is None:
        return np.zeros(0, np.float32)
    if tensor.type == ir.AttributeType.TENSOR:
        with np.errstate(over="ignore"):
            return np.asarray(tensor.as_tensor().numpy(), np.float32).reshape(-1)
    return np.asarray(tensor.as_floats(), np.float32)


def integers(node: ir.Node, name: str) -> Int64:
    """A list of int64, empty when it is left out."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return np.zeros(0, np.int64)
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().numpy().astype(np.int64).reshape(-1)
    return np.asarray(attribute.as_ints(), np.int64)


def strings(node: ir.Node, name: str) -> tuple[str, ...]:
    attribute = node.attributes.get(name)
    return () if attribute is None else tuple(attribute.as_strings())


def finite(node: ir.Node, name: str) -> Float32:
    """Numbers that a model computes with.

    Raises:
        Refusal: NaN or infinity among them.
    """
    values = floats(node, name)
    if not np.isfinite(values).all():
        raise Refusal(f"its {name} hold NaN or infinity", "Was the training finished? Export sound weights.")
    return values


def require_length(values: Array, length: int, name: str) -> None:
    """
    Raises:
        Refusal: a list has another length than what it describes.
    """
    if values.size != length:
        raise Refusal(f"it has {values.size} {name} where {length} are needed", AGAIN)


def as_int32(values: Int64, what: str) -> Int32:
    """
    Raises:
        Refusal: one does not fit.
    """
    if values.size and (values.min() < INT32.min or values.max() > INT32.max):
        raise Refusal(f"its {what} do not fit 32 bits", "Number them from 0.")
    return values.astype(np.int32)


def target_count(node: ir.Node, name: str) -> int:
    """How many targets a regressor has.

    Raises:
        Refusal: none, or absurdly many.
    """
    count = edit.attribute_int(node, name, 1)
    if not 1 <= count <= _MOST_TARGETS:
        raise Refusal(f"it has {count} targets", AGAIN)
    return count


def class_labels(node: ir.Node, name: str = "classlabels_ints") -> Int32:
    """The numbers of the classes.

    Raises:
        Refusal: there are none, or strings, which a compiler replaced by numbers before
            (``irshrink.class_names``).
    """
    labels = integers(node, name)
    if not labels.size:
        raise Refusal("it has no class labels that are numbers", "Give every class a number.")
    return as_int32(labels, "class labels")


def rows(lowering: Lowering, node: ir.Node, index: int = 0) -> tuple[str, int, int]:
    """Input ``index`` as a float32 tensor [N, F] in row-major order, N and F; a vector is one row.

    Raises:
        Refusal: of another rank.
    """
    view = converted(lowering, node, lowering.view(edit.input_of(node, index)), "float32")
    view = lowering.builder.as_float(view)
    if view.rank not in (1, 2):
        raise Refusal(f"its input has {view.rank} dimensions", "Give it rows of features, [N, F].")
    count, features = (1, *view.shape)[-2:]
    return (
        lowering.builder.reshaped(lowering.builder.row_major(view).tensor, (count, features)),
        count,
        features,
    )
