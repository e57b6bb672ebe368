"""The layers of random models: each reads a value and appends nodes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from irshrink.testing.builder import Impossible, ModelBuilder, Shape

_UNARY = (
    *("Abs", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg"),
    *("Relu", "Relu", "Sigmoid", "Tanh"),
)


def conv(b: ModelBuilder, x: str) -> str:
    _, channels, *spatial = b.shape(x, 3, 4)
    divisors = [g for g in range(2, channels) if channels % g == 0]
    groups = b.pick([1, 1, channels, channels, *divisors])
    outputs, inputs = groups * b.pick([1, 1, 2, 3]), channels // groups
    kernel = [
        b.pick(range(1, min(3, size) + 1)) for size in spatial
    ]  # of larger ones tools think differently
    options: dict[str, Any] = {"group": groups, **_padding(b, [2] * len(spatial))}
    if b.pick([True, False]):
        options["strides"] = [b.pick([1, 2, 3]) for _ in spatial]
    if "auto_pad" not in options and b.pick([True, False, False]):
        fits = [2 * k <= size for k, size in zip(kernel, spatial, strict=True)]
        options["dilations"] = [b.pick([1, 2]) if fit else 1 for fit in fits]
    weight = b.weights(outputs, inputs, *kernel, fan_in=inputs * prod(kernel))
    return b.op("Conv", x, weight, *b.pick([[], [b.floats(outputs)], [""]]), **options)


def batchnorm(b: ModelBuilder, x: str) -> str:
    channels = b.shape(x, 2, 3, 4)[1]
    variance = b.constant(b.rng.uniform(0.25, 1.5, channels).astype(np.float32), own=True)
    parameters = [b.floats(channels) for _ in range(3)]
    return b.op("BatchNormalization", x, *parameters, variance, epsilon=b.pick([1e-5, 1e-3]))


def pool(b: ModelBuilder, x: str) -> str:
    spatial = b.shape(x, 3, 4)[2:]
    kind = b.pick(["MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if kind.startswith("Global"):
        return b.op(kind, x)
    kernel = [b.pick(range(min(2, size), min(3, size) + 1)) for size in spatial]
    strides = [b.pick(range(1, size + 1)) for size in kernel]  # larger ones crop in ONNX Runtime's SAME
    options = {"kernel_shape": kernel, "strides": strides, **_padding(b, [size - 1 for size in kernel])}
    if not {"auto_pad", "pads"} & options.keys() and b.pick([True, False, False]):
        options["ceil_mode"] = 1  # with pads, shape inference before opset 22 counts a window too many
    elif kind == "AveragePool" and b.pick([True, False]):
        options["count_include_pad"] = 1
    return b.op(kind, x, **options)


def _padding(b: ModelBuilder, most: list[int]) -> dict[str, Any]:
    how = b.pick(["none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if how == "pads":
        return {"pads": [b.pick(range(size + 1)) for size in most * 2]}
    return {} if how == "none" else {"auto_pad": how}


def pad(b: ModelBuilder, x: str) -> str:
    axes = len(b.shape(x, 2, 3, 4))
    value = [b.constant(np.float32(b.pick([0.0, 0.0, 1.0, -5.0])))] if b.pick([True, False]) else []
    if axes > 2 and b.pick([True, False, False]):
        one = b.ints([b.pick([0, 1]) for _ in range(2)])
        return b.op("Pad", x, one, *(value or [""]), b.ints([b.pick([-1, 2])]))
    spatial = b.pick([True, True, False])
    amounts = [0 if spatial and i % axes < 2 else b.pick([0, 1]) for i in range(2 * axes)]
    y = b.op("Pad", x, b.ints(amounts), *value)
    return b.pick([conv, pool])(b, y) if axes > 2 and spatial else y


def transpose(b: ModelBuilder, x: str) -> str:
    axes = len(b.shape(x, 2, 3, 4))
    if b.pick([True] + [False] * 5):
        return b.op("Transpose", x)
    order = b.pick([[0, 2, 3, 1], [0, 3, 1, 2], None, None])
    if order is None or axes != 4:
        order = [int(axis) for axis in b.rng.permutation(axes)]
    y = b.op("Transpose", x, perm=order)
    if b.pick([True, False]):
        return y
    y = b.pick([unary, affine, two])(b, y)
    return b.op("Transpose", y, perm=[order.index(axis) for axis in range(axes)])


def unary(b: ModelBuilder, x: str) -> str:
    kind = b.pick(_UNARY)
    options: dict[str, Any] = {}
    if kind in ("LeakyRelu", "Elu"):
        options["alpha"] = b.pick([0.1, 0.5])
    if kind == "HardSigmoid" and b.pick([True, False]):
        options.update(alpha=1 / 6, beta=0.5)
    if kind == "Gelu":
        options["approximate"] = b.pick(["none", "tanh"])
    return b.op(kind, x, **options)


def clamp(b: ModelBuilder, x: str) -> str:
    bounds = [b.constant(np.float32(b.pick([-1.0, 0.0, 0.5, 1.0, 6.0]))) for _ in range(2)]
    kind = b.pick(["Clip", "Clip", "Max", "Min"])
    if kind == "Clip":
        return b.op("Clip", x, *b.pick([bounds[:1], ["", bounds[0]], bounds]))
    bound = b.constant(np.full(b.pick([(), (1,), (1, 1)]), b.pick([-1.0, 0.0, 6.0]), np.float32))
    return b.op(kind, *b.pick([[x, bound], [bound, x]]))


def affine(b: ModelBuilder, x: str) -> str:
    shape = b.shapes[x]
    ones = (1,) * len(shape)
    forms: list[Shape] = [(), (1,), shape[-1:], ones, (1, *shape), shape]
    if len(shape) > 1:
        forms += [(1, shape[1], *ones[2:]), (shape[1], *ones[2:])]
    number = b.floats(*b.pick(forms)) if b.pick([True] * 6 + [False]) else b.constant(np.float32(1))
    kind = b.pick(["Add", "Add", "Mul", "Mul", "Sub", "Div"])
    return b.op(kind, *b.pick([[x, number], [number, x] if kind != "Div" else [x, number]]))


def two(b: ModelBuilder, x: str) -> str:
    shape = b.shapes[x]
    fits = [y for y, s in b.shapes.items() if len(s) == len(shape) and _broadcasts(s, shape)]
    other = b.pick(fits)
    return b.op(b.pick(["Add", "Add", "Mul", "Sub", "Max", "Min"]), *b.pick([[x, other], [other, x]]))


def _broadcasts(small: Shape, large: Shape) -> bool:
    return all(a in (1, n) for a, n in zip(small, large, strict=True))


def concat(b: ModelBuilder, x: str) -> str:
    shape = b.shape(x, 1, 2, 3, 4)
    axis = b.pick(range(len(shape)))
    rest = shape[:axis] + shape[axis + 1 :]
    fits = [y for y, s in b.shapes.items() if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == rest]
    parts = [x, *(b.pick(fits) for _ in range(b.pick([0, 1, 1, 2])))]
    parts += [b.floats(*shape)] if b.pick([True] + [False] * 5) else []
    return b.op("Concat", *parts, axis=b.pick([axis, axis - len(shape)]))


def stacked(b: ModelBuilder, x: str) -> str:
    """One part after another, as a converter unrolls a loop."""
    axis = len(b.shape(x, 1, 2, 3)) - 1
    y = x
    for _ in range(b.pick([2, 3])):
        y = b.op("Concat", *b.pick([[x, y], [y, x]]), axis=b.pick([axis, -1]))
    return y


def channels_last(b: ModelBuilder, x: str) -> str:
    """What a channels-last framework puts around its operators."""
    b.shape(x, 4)
    y = unary(b, b.op("Transpose", x, perm=[0, 2, 3, 1]))
    pads = b.pick([[0, 0, 0, 0] * 2, [0, 0, 1, 0, 0, 1, 0, 0]])
    return b.op("Transpose", b.op("Pad", y, b.ints(pads)), perm=[0, 3, 1, 2])


def split(b: ModelBuilder, x: str) -> str:
    axes = [axis for axis, size in enumerate(b.shapes[x]) if size > 1]
    if not axes:
        raise Impossible
    axis = b.pick(axes)
    size = b.shapes[x][axis]
    first = b.pick(range(1, size))
    return b.op("Split", x, b.ints([first, size - first]), outputs=2, axis=axis)


def slice_(b: ModelBuilder, x: str) -> str:
    shape = b.shape(x, 1, 2, 3, 4)
    axis = b.pick(range(len(shape)))
    start = b.pick(range(shape[axis]))
    end = b.pick([shape[axis], 1000])
    steps = [b.ints([b.pick([1, 2])])] if b.pick([True, False]) else []
    return b.op(
        "Slice", x, b.ints([start]), b.ints([end]), b.ints([b.pick([axis, axis - len(shape)])]), *steps
    )


def gather(b: ModelBuilder, x: str) -> str:
    shape = b.shape(x, 1, 2, 3, 4)
    axis = b.pick(range(len(shape)))
    indices = b.pick([np.array(0), np.array(-1), np.array([0]), np.arange(shape[axis])])
    return b.op("Gather", x, b.constant(indices.astype(np.int64)), axis=axis)


def reshape(b: ModelBuilder, x: str) -> str:
    left, target = prod(b.shapes[x]), []
    for _ in range(b.pick(range(4))):
        target.append(b.pick([d for d in range(1, left + 1) if left % d == 0]))
        left //= target[-1]
    target.append(left)
    if b.pick([True, False, False]):
        target[b.pick(range(len(target)))] = -1
    return b.op("Reshape", x, b.ints(target))


def computed_reshape(b: ModelBuilder, x: str) -> str:
    """``view(x.size(0), -1)`` as PyTorch exports it."""
    b.shape(x, 1, 2, 3, 4)
    first = b.op("Gather", b.op("Shape", x), b.constant(np.array(0, np.int64)))
    return b.op("Reshape", x, b.op("Concat", b.op("Unsqueeze", first, b.ints([0])), b.ints([-1]), axis=0))


def rank(b: ModelBuilder, x: str) -> str:
    shape = b.shapes[x]
    kind = b.pick(["Flatten", "Squeeze", "Unsqueeze", "Unsqueeze"])
    if kind == "Flatten":
        return b.op("Flatten", x, axis=b.pick(range(len(shape) + 1)))
    if kind == "Unsqueeze" and len(shape) < 4:
        return b.op("Unsqueeze", x, b.ints([b.pick([0, len(shape), -1])]))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if not ones:
        raise Impossible
    return b.op("Squeeze", x, *b.pick([[], [b.ints([b.pick(ones)])]]))


def gemm(b: ModelBuilder, x: str) -> str:
    rows, features = b.shape(x, 2)
    columns, transposed = b.pick([1, 2, 3, 5]), b.pick([0, 1])
    sizes = (columns, features) if transposed else (features, columns)
    forms: list[Shape | None] = [None, (columns,), (1, columns), (1,), (), (rows, columns)]
    form = b.pick(forms)
    options: dict[str, Any] = {"transB": transposed}
    if b.pick([True] + [False] * 4):
        options.update(alpha=0.5, beta=b.pick([1.0, 0.25]))
    return b.op(
        "Gemm", x, b.weights(*sizes, fan_in=features), *([] if form is None else [b.floats(*form)]), **options
    )


def matmul(b: ModelBuilder, x: str) -> str:
    *batch, rows, features = b.shape(x, 2, 3, 4)
    how = b.pick(["weights", "weights", "left", "batched", "self"])
    if how == "left":
        return b.op("MatMul", b.weights(*batch, 2, rows, fan_in=rows), x)
    if how == "batched":
        return b.op("MatMul", x, b.weights(*batch, features, 3, fan_in=features))
    if how == "self":
        axes = len(batch)
        return b.op("MatMul", x, b.op("Transpose", x, perm=[*range(axes), axes + 1, axes]))
    columns = b.pick([1, 2, 4])
    y = b.op("MatMul", x, b.weights(features, columns, fan_in=features))
    bias = b.floats(*b.pick([(columns,), (1, columns), (), (1,)]))
    return b.op("Add", *b.pick([[y, bias], [bias, y]])) if b.pick([True, False]) else y


def softmax(b: ModelBuilder, x: str) -> str:
    axes = len(b.shape(x, 1, 2, 3, 4))
    return b.op("Softmax", x, axis=b.pick([-1, -1, 0, axes - 1]))


def reduce(b: ModelBuilder, x: str) -> str:
    last = len(b.shape(x, 1, 2, 3, 4)) - 1
    axes = b.pick([[last], [-1], list(range(last + 1)), list(range(2, last + 1)) or [0], [0]])
    kind = b.pick(["ReduceMean", "ReduceMean", "ReduceMax", "ReduceSum"])
    return b.op(kind, x, b.ints(axes), keepdims=b.pick([0, 1]))


def layernorm(b: ModelBuilder, x: str) -> str:
    size = b.shape(x, 2, 3, 4)[-1]
    if b.pick([True, False]):
        return b.op("LayerNormalization", x, b.floats(size), *b.pick([[], [b.floats(size)]]), axis=-1)
    axes = b.ints([-1])
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes))
    square = b.op("Pow", centred, b.constant(np.float32(2)))
    deviation = b.op("Sqrt", b.op("Add", b.op("ReduceMean", square, axes), b.constant(np.float32(0.5))))
    y = b.op("Mul", b.op("Div", centred, deviation), b.floats(*b.pick([(size,), (1, size), ()])))
    return b.op("Add", y, b.floats(size))


def written_out(b: ModelBuilder, x: str) -> str:
    """Activations in parts, their constants in forms that broadcast, or that raise the rank."""
    axes = len(b.shapes[x])
    form = b.pick([(), (), (1,), (1,) * axes, (1,) * (axes + 1)])

    def number(value: float) -> str:
        return b.constant(np.full(form, value, np.float32))

    kind = b.pick(["hardswish", "hardsigmoid", "gelu", "silu"])
    if kind == "silu":
        return b.op("Mul", x, b.op("Sigmoid", x))
    if kind == "gelu":
        gate = b.op("Add", b.op("Erf", b.op("Div", x, number(np.sqrt(2)))), number(1.0))
        return b.op("Mul", b.op("Mul", x, gate), number(0.5))
    bounds = [b.constant(np.float32(bound)) for bound in (0, 6)]
    clipped = b.op("Clip", b.op("Add", x, number(3.0)), *bounds)
    return b.op("Div", clipped if kind == "hardsigmoid" else b.op("Mul", x, clipped), number(6.0))


def casts(b: ModelBuilder, x: str) -> str:
    return b.op("Cast", b.op("Cast", x, to=b.pick([11, 1])), to=1)  # by way of float64, or not


def constant_branch(b: ModelBuilder, x: str) -> str:
    return b.op("Add", x, b.op(b.pick(["Relu", "Neg", "Identity", "Exp"]), b.floats(*b.shapes[x])))


def dropout(b: ModelBuilder, x: str) -> str:
    return b.op("Dropout", x)


#: What is there twice is picked twice as often.
LAYERS: tuple[Callable[[ModelBuilder, str], str], ...] = (
    *(affine, affine, batchnorm, casts, channels_last, clamp, computed_reshape, concat, constant_branch),
    *(conv, conv, conv, stacked),
    *(dropout, gather, gemm, gemm, layernorm, matmul, pad, pool, pool, rank, reduce, reshape, slice_),
    *(softmax, split, transpose, two, two, unary, unary, written_out),
)
