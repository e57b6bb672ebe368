"""Arrays that constants make: what constant folding left in the graph because the file would grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import data_type, positive, require
from irshrink.program.reference.dispatch import Array

#: Elements of an array that nothing but its sizes has to be read for.
LARGEST = 1 << 26
#: Integers of less than a byte, NumPy's names.
_SMALL_INTEGERS = ("int2", "int4", "uint2", "uint4")
#: Inputs that are left out are None.
Inputs = Sequence[Array | None]


def _concat(node: ir.Node, inputs: Inputs) -> Array | None:
    arrays = [array for array in inputs if array is not None]
    require(len({array.ndim for array in arrays}) == 1, "its parts have different numbers of axes")
    axis = positive(edit.attribute_int(node, "axis", 0), arrays[0].ndim)
    sizes = {array.shape[:axis] + array.shape[axis + 1 :] for array in arrays}
    require(len(sizes) == 1, "its parts do not fit each other")
    return np.concatenate(arrays, axis=axis)


def _slice(node: ir.Node, inputs: Inputs) -> Array | None:
    x, *given = inputs
    if x is None or len(given) < 2:
        return None  # before opset 10 its bounds were attributes
    starts, ends, axes, steps = (
        [] if a is None else a.reshape(-1).tolist() for a in (*given, None, None)[:4]
    )
    index = [slice(None)] * x.ndim
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    require(len(starts) == len(ends) == len(axes) == len(steps), "it has not one bound for each axis")
    require(0 not in steps, "it makes no steps")
    places = [positive(axis, x.ndim) for axis in axes]
    for start, end, axis, step in zip(starts, ends, places, steps, strict=True):
        size = x.shape[axis]
        kept = range(*slice(start, end, step).indices(size))
        index[axis] = slice(kept.start, kept.stop if kept.stop >= 0 else None, step)
    return x[tuple(index)]


def _cast(node: ir.Node, inputs: Inputs) -> Array | None:
    target = data_type(node, "to", 1)
    if inputs[0] is None or target == ir.DataType.STRING:
        return None
    if inputs[0].dtype.kind not in "iub" and inputs[0].dtype.name not in _SMALL_INTEGERS:
        return None  # a cast of reals rounds, or saturates in ways of its own
    return inputs[0].astype(target.numpy())


def _constant_of_shape(node: ir.Node, inputs: Inputs) -> Array | None:
    attribute = node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    if inputs[0] is None:
        return None
    shape = [int(size) for size in inputs[0].reshape(-1)]
    return np.full(shape, value.reshape(()), value.dtype) if 0 <= prod(shape) <= LARGEST else None


def _range(node: ir.Node, inputs: Inputs) -> Array | None:
    start, limit, delta = inputs
    if any(array is not None and array.size != 1 for array in inputs):
        return None
    if start is None or limit is None or delta is None or start.dtype.kind not in "iu":
        return None
    numbers = [int(array.reshape(())) for array in (start, limit, delta)]
    if numbers[2] == 0 or len(range(*numbers)) > LARGEST:
        return None
    return np.arange(*numbers).astype(start.dtype)


def _bitwise_and(node: ir.Node, inputs: Inputs) -> Array | None:
    a, b = inputs
    if a is None or b is None or a.dtype != b.dtype or a.dtype.kind not in "iu":
        return None
    try:
        return np.asarray(a & b)
    except ValueError:  # shapes that do not broadcast
        return None


def _non_zero(node: ir.Node, inputs: Inputs) -> Array | None:
    return None if inputs[0] is None else np.array(np.nonzero(inputs[0]), np.int64)


def _cumulative_sum(node: ir.Node, inputs: Inputs) -> Array | None:
    x, axis = inputs
    given = edit.attribute_int(node, "exclusive", 0) or edit.attribute_int(node, "reverse", 0)
    if x is None or axis is None or axis.size != 1 or given or x.dtype.kind not in "iu":
        return None
    return np.asarray(np.cumsum(x, positive(int(axis.reshape(())), x.ndim), dtype=x.dtype))


def _scatter(node: ir.Node, inputs: Inputs) -> Array | None:
    """Numbers put into an array, each place at most once."""
    data, places, numbers = inputs
    if data is None or places is None or numbers is None or "reduction" in node.attributes:
        return None
    depth = places.shape[-1] if places.ndim else 0
    require(0 < depth <= data.ndim, "its places are none of its data")
    limits = np.array(data.shape[:depth])
    require(bool(((places >= -limits) & (places < limits)).all()), "a place lies outside of its data")
    wanted = (*places.shape[:-1], *data.shape[depth:])
    require(numbers.shape == wanted and numbers.dtype == data.dtype, "its updates do not fit its places")
    result: Array = data.copy()
    result[tuple(np.moveaxis(places, -1, 0))] = numbers
    return result


COMPUTED: dict[str, Callable[[ir.Node, Inputs], Array | None]] = {
    "BitwiseAnd": _bitwise_and,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cumulative_sum,
    "NonZero": _non_zero,
    "Range": _range,
    "ScatterND": _scatter,
    "Slice": _slice,
}
