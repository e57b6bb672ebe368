"""What a layer multiplies its weights with: rows of numbers, one for each output position.

A Conv computes, at every output position and in every group, a product of its weights ``[Co/g, n]`` with a
vector of ``n = Ci/g * kernel`` numbers cut out of its padded input (im2col). Gemm and MatMul are the case of
one group and a kernel of one; ConvTranspose is a Conv over its input with zeros between the values and a
mirrored kernel (Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285,
chapter 4). With these vectors at hand every linear layer is a matrix product, which is how rounding methods
see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_int, attribute_ints, attribute_string, constant
from irshrink.graph.linear import from_grouped, is_linear, to_grouped

Array = np.ndarray[Any, np.dtype[Any]]


def weight_rows(node: ir.Node, weight: Array) -> Array:
    """Weights in the layout of ``node`` as float64 ``[g, Co/g, n]``, in the order of :func:`input_rows`."""
    grouped = to_grouped(node, weight.astype(np.float64))
    return grouped.reshape(*grouped.shape[:2], -1)


def row_shapes(graph: ir.Graph) -> Iterator[tuple[int, int, int]]:
    """Of the :func:`weight_rows` of every layer with constant weights, (g, Co/g, n)."""
    for node in graph:
        weight = constant(node.inputs[1]) if is_linear(node) else None
        if weight is not None:
            groups, outputs, inputs = weight_rows(node, weight).shape
            yield groups, outputs, inputs


def moment_macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of multiplying every layer's weights with the second moments of what it reads."""
    return sum(groups * outputs * inputs**2 for groups, outputs, inputs in row_shapes(graph))


def from_rows(node: ir.Node, rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of :func:`weight_rows`: weights of ``shape`` in the layout of ``node``."""
    taps = int(np.prod(shape[2:])) if node.op_type in ("Conv", "ConvTranspose") else 1
    return np.asarray(from_grouped(node, rows.reshape(*rows.shape[:2], -1, taps), shape))


def why_no_rows(node: ir.Node) -> str | None:
    """Why :func:`input_rows` does not know this node, half a sentence, or None."""
    if node.op_type != "ConvTranspose":
        return None
    given = attribute_string(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes
    return "its padding follows from the shape of its output" if given else None


def input_rows(
    node: ir.Node, shape: tuple[int, ...], x: Array, count: int | None, rng: np.random.Generator
) -> Array:
    """Vectors that the weights are multiplied with.

    Args:
        node: Conv, ConvTranspose, Gemm without transA, or MatMul with a matrix of weights.
        shape: of its weights.
        x: its first input.
        count: at most so many output positions, drawn by ``rng`` without repetition; None for all.

    Returns:
        ``[g, positions, n]`` in the type of ``x``.
    """
    if node.op_type in ("Gemm", "MatMul"):
        rows = x.reshape(-1, x.shape[-1])
        return rows[_chosen(len(rows), count, rng)][np.newaxis]
    spread = node.op_type == "ConvTranspose"
    windows = _transposed_windows(node, shape, x) if spread else _windows(node, shape, x)
    axes = x.ndim - 2
    windows = np.moveaxis(windows, 1, axes + 1)  # [N, *positions, C, *kernel]
    places = windows.shape[: axes + 1]
    chosen = _chosen(int(np.prod(places)), count, rng)
    cut = windows[np.unravel_index(chosen, places)]
    groups = attribute_int(node, "group", 1)
    return np.asarray(cut.reshape(len(chosen), groups, -1).swapaxes(0, 1))


def output_rows(node: ir.Node, groups: int, y: Array, count: int | None, rng: np.random.Generator) -> Array:
    """What a layer gives at the places that :func:`input_rows` draws with an equal generator.

    Args:
        y: its output, or what should be in its place.

    Returns:
        ``[g, positions, Co/g]`` in the type of ``y``.
    """
    rows = y if node.op_type in ("Gemm", "MatMul") else np.moveaxis(y, 1, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    chosen = rows[_chosen(len(rows), count, rng)]
    return np.asarray(chosen.reshape(len(chosen), groups, -1).swapaxes(0, 1))


def _chosen(total: int, count: int | None, rng: np.random.Generator) -> Array:
    if count is None or count >= total:
        return np.arange(total)
    return np.sort(rng.choice(total, count, replace=False))


def _windows(node: ir.Node, shape: tuple[int, ...], x: Array) -> Array:
    """A view [N, C, *positions, *kernel] of the padded input."""
    kernel, axes = shape[2:], x.ndim - 2
    strides = attribute_ints(node, "strides") or (1,) * axes
    dilations = attribute_ints(node, "dilations") or (1,) * axes
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = _pads(node, x.shape[2:], extents, strides)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    return _view(padded, extents, strides, dilations)


def _pads(
    node: ir.Node, sizes: tuple[int, ...], extents: list[int], strides: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Zeros before and behind, for each axis."""
    axes = len(sizes)
    auto = attribute_string(node, "auto_pad", "NOTSET")
    if not auto.startswith("SAME"):
        given = attribute_ints(node, "pads") or (0,) * (2 * axes)
        given = (0,) * (2 * axes) if auto == "VALID" else given
        return list(zip(given[:axes], given[axes:], strict=True))
    pads = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return pads


def _transposed_windows(node: ir.Node, shape: tuple[int, ...], x: Array) -> Array:
    """As :func:`_windows`, for the equivalent Conv of stride 1."""
    kernel, axes = shape[2:], x.ndim - 2
    strides = attribute_ints(node, "strides") or (1,) * axes
    dilations = attribute_ints(node, "dilations") or (1,) * axes
    begins_ends = attribute_ints(node, "pads") or (0,) * (2 * axes)
    more = attribute_ints(node, "output_padding") or (0,) * axes
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    spread = np.zeros((*x.shape[:2], *sizes), x.dtype)
    places = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    spread[places] = x
    for axis, extent in enumerate(extents):
        before = extent - 1 - begins_ends[axis]
        behind = extent - 1 - begins_ends[axes + axis] + more[axis]
        spread = _grown(spread, axis + 2, before, behind)
    view = _view(spread, extents, (1,) * axes, dilations)
    return np.flip(view, tuple(range(view.ndim - axes, view.ndim)))


def _grown(x: Array, axis: int, before: int, behind: int) -> Array:
    """Zeros added at both ends of an axis, or values cut off where a number is negative."""
    kept = np.moveaxis(np.moveaxis(x, axis, 0)[max(0, -before) : x.shape[axis] - max(0, -behind)], 0, axis)
    pads = [(0, 0)] * x.ndim
    pads[axis] = (max(0, before), max(0, behind))
    return np.pad(kept, pads)


def _view(padded: Array, extents: list[int], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Array:
    axes = len(extents)
    view = np.lib.stride_tricks.sliding_window_view(padded, extents, tuple(range(2, 2 + axes)))
    steps = (slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))
    return np.asarray(view[steps])
