"""More layers of random models: what fewer networks have."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from irshrink.testing.builder import Impossible, ModelBuilder

_UNARY = (
    *("Celu", "Mish", "Round", "Selu", "Shrink", "Sign", "Softplus", "Softsign", "ThresholdedRelu"),
    *("Atan", "Cos", "Sin", "Sinh", "Asinh"),
)


def conv_transpose(b: ModelBuilder, x: str) -> str:
    _, channels, *spatial = b.shape(x, 3, 4)
    groups = b.pick([1, 1, channels, *[g for g in range(2, channels) if channels % g == 0]])
    kernel = [b.pick([1, 2, 3, 4]) for _ in spatial]
    strides = [b.pick([1, 2, 3]) for _ in spatial]
    options: dict[str, Any] = {"group": groups, "strides": strides}
    if b.pick([True, False]):
        options["pads"] = [b.pick(range(size)) for size in (*kernel, *kernel)]
        options["output_padding"] = [b.pick(range(size)) for size in strides]
    outputs = b.pick([1, 2, 3])
    weight = b.weights(channels, outputs, *kernel, fan_in=channels * prod(kernel))
    return b.op("ConvTranspose", x, weight, *b.pick([[], [b.floats(outputs * groups)]]), **options)


def resize(b: ModelBuilder, x: str) -> str:
    n, channels, *spatial = b.shape(x, 3, 4)
    mode = b.pick(["nearest", "nearest", "linear", "cubic"] if len(spatial) == 2 else ["nearest", "linear"])
    modes = ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"]
    options = {"mode": mode, "coordinate_transformation_mode": b.pick(modes)}
    if mode == "nearest":
        options["nearest_mode"] = b.pick(["floor", "ceil", "round_prefer_floor"])
    sizes = [b.pick([size, size + 1, size * 2, max(1, size // 2)]) for size in spatial]
    if sizes == spatial:
        raise Impossible
    return b.op("Resize", x, "", "", b.ints([n, channels, *sizes]), **options)


def prelu(b: ModelBuilder, x: str) -> str:
    shape = b.shape(x, 3, 4)
    form = b.pick([(1,), (shape[1], *(1,) * (len(shape) - 2)), shape[1:]])
    return b.op("PRelu", x, b.floats(*form))


def unary(b: ModelBuilder, x: str) -> str:
    return b.op(b.pick(_UNARY), x)


def copies(b: ModelBuilder, x: str) -> str:
    shape = b.shape(x, 2, 3, 4)
    kind = b.pick(["Pad", "Pad", "Tile", "Expand", "Slice"])
    if kind == "Pad":
        limits = [min(2, size - 1) for size in shape]
        amounts = [b.pick(range(limit + 1)) if i % len(shape) else 0 for i, limit in enumerate(limits * 2)]
        return b.op("Pad", x, b.ints(amounts), mode=b.pick(["reflect", "edge", "wrap"]))
    if kind == "Tile":
        return b.op("Tile", x, b.ints([b.pick([1, 1, 2]) for _ in shape]))
    if kind == "Expand":
        return b.op("Expand", x, b.ints([b.pick([2, 3]) if size == 1 else size for size in shape]))
    ends = (b.ints([-1]), b.ints([-1000]), b.ints([len(shape) - 1]), b.ints([b.pick([-1, -2])]))
    return b.op("Slice", x, *ends)


def blocks(b: ModelBuilder, x: str) -> str:
    _, channels, height, width = b.shape(x, 4)
    if channels % 4 == 0:
        return b.op("DepthToSpace", x, blocksize=2, mode=b.pick(["DCR", "CRD"]))
    if height % 2 or width % 2:
        raise Impossible
    return b.op("SpaceToDepth", x, blocksize=2)


def reduce(b: ModelBuilder, x: str) -> str:
    axes = len(b.shape(x, 2, 3, 4))
    kind = b.pick(["ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceMax"])
    chosen = b.pick([[axes - 1], [1], list(range(2, axes)) or [0]])
    return b.op(kind, x, b.ints(chosen), keepdims=b.pick([0, 1]))


def normalize(b: ModelBuilder, x: str) -> str:
    channels = b.shape(x, 3, 4)[1]
    kind = b.pick(["InstanceNormalization", "LRN", "LpNormalization", "LogSoftmax"])
    if kind == "InstanceNormalization":
        return b.op(kind, x, b.floats(channels), b.floats(channels), epsilon=0.5)
    if kind == "LRN" and len(b.shapes[x]) < 4:  # ONNX Runtime wants images
        raise Impossible
    options: dict[str, Any] = {"size": 3} if kind == "LRN" else {"axis": b.pick([1, -1])}
    return b.op(kind, x, **options)


def run(b: ModelBuilder, x: str) -> str:
    """A function of one value in several nodes, some of which others may read."""
    number = b.constant(np.float32(b.pick([0.5, 2.0, -1.5])))
    gate = b.op(b.pick(["Sigmoid", "Tanh", "HardSigmoid"]), b.op("Mul", x, number))
    y = b.op(b.pick(["Mul", "Add"]), *b.pick([[x, gate], [gate, x]]))
    return b.op(b.pick(["Div", "Sub"]), y, number)


RARE_LAYERS: tuple[Callable[[ModelBuilder, str], str], ...] = (
    *(blocks, conv_transpose, conv_transpose, copies, copies, normalize, prelu, reduce, resize, resize),
    *(run, run, unary),
)
