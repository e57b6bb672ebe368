"""DFT and STFT of constant sizes become products with a matrix of sines and cosines.

    DFT:  [..., N * parts] times [N * parts, K * parts]    MatMul
    STFT: a filter of the frame's length for each output   Conv with the frame's step as its stride

A number has 1 part (real) or 2 (complex); a window goes into the filters. Exact but for rounding. The matrix
grows with the square of the length, so long transforms stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_int,
    base_name,
    constant,
    input_of,
    insert_before,
    is_op,
    opset,
    remove,
    replace_value,
    rewrite_each,
    static_shape,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

Matrix = npt.NDArray[np.float64]

#: What a zero of sine or cosine comes out as, at most.
_ZERO = 1e-15


@dataclass(frozen=True)
class DecomposeDft:
    """Write DFT and STFT as MatMul and Conv.

    Attributes:
        max_elements: numbers that the matrix may have.
    """

    max_elements: int = 1 << 22

    name: ClassVar[str] = "decompose-dft"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        count = rewrite_each(module.graph, ctx, ("DFT", "STFT"), self._decompose)
        return PassResult(count > 0, stats={"decomposed": count})

    def _decompose(self, node: ir.Node) -> bool:
        shape = static_shape(node.inputs[0])
        if shape is None or shape[-1] not in (1, 2):
            raise Refusal("the shape of its input is not known")
        result = (_dft if is_op(node, "DFT") else _stft)(node, shape, self.max_elements)
        replace_value(node.outputs[0], result)
        remove(node)
        return True


def _dft(node: ir.Node, shape: tuple[int, ...], largest: int) -> ir.Value:
    rank = len(shape)
    axis = _axis(node, rank)
    inverse, onesided = (bool(attribute_int(node, name, 0)) for name in ("inverse", "onesided"))
    half = inverse and onesided  # the other half of the frequencies is the conjugate of this one
    length = _number(node, 1, "length") or (2 * (shape[axis] - 1) if half else shape[axis])
    frequencies = length // 2 + 1 if onesided and not inverse else length
    if min(length, *shape) < 1:
        raise Refusal("its input is empty")
    _require_size(shape[axis] * shape[-1] * frequencies * 2, largest)
    given = min(shape[axis], length // 2 + 1 if half else length)  # further ones are cut off
    rotations = _rotations(length, inverse=inverse)[:given, : shape[-1], :frequencies]
    if half:
        twice = np.array([1.0 if 2 * k in (0, length) else 2.0 for k in range(given)])
        rotations = rotations[..., :1] * twice[:, None, None, None]
    parts = rotations.shape[-1]
    matrix = np.zeros((shape[axis], shape[-1], frequencies, parts))
    matrix[:given] = rotations
    last = rank - 2
    order = [place for place in range(rank) if place not in (axis, rank - 1)] + [axis, rank - 1]
    x = node.inputs[0]
    if axis != last:
        x = insert_before(node, "Transpose", [x], {"perm": order}).outputs[0]
    kept = [shape[place] for place in order[:-2]]
    flat = _reshape(node, x, [*kept, shape[axis] * shape[-1]])
    weights = _constant(node, matrix.reshape(shape[axis] * shape[-1], frequencies * parts), "matrix")
    product = insert_before(node, "MatMul", [flat, weights]).outputs[0]
    y = _reshape(node, product, [*kept, frequencies, parts])
    if axis == last:
        return y
    return insert_before(node, "Transpose", [y], {"perm": [order.index(i) for i in range(rank)]}).outputs[0]


def _stft(node: ir.Node, shape: tuple[int, ...], largest: int) -> ir.Value:
    """[B, samples, parts] as a row of ``parts`` channels; the frequencies are channels of the result."""
    batch, samples, parts = shape
    step = _number(node, 1, "step")
    window = constant(input_of(node, 2))
    if window is None and input_of(node, 2) is not None:
        raise Refusal("its window is computed at run time")
    length = _number(node, 3, "length of a frame") or (None if window is None else window.size)
    if step is None or length is None or length > samples:
        raise Refusal("its step or the length of its frames is missing, or longer than the signal")
    frequencies = length // 2 + 1 if attribute_int(node, "onesided", 1) else length
    _require_size(length * parts * frequencies * 2, largest)
    filters = _rotations(length, inverse=False)[:, :parts, :frequencies]
    if window is not None:
        filters = filters * window.astype(np.float64).reshape(-1, 1, 1, 1)
    weights = filters.transpose(2, 3, 1, 0).reshape(frequencies * 2, parts, length)
    x = node.inputs[0]
    if parts == 1:
        signal = _reshape(node, x, [batch, 1, samples])
    else:
        signal = insert_before(node, "Transpose", [x], {"perm": [0, 2, 1]}).outputs[0]
    inputs = [signal, _constant(node, weights, "filters")]
    conv = insert_before(node, "Conv", inputs, {"strides": [step], "kernel_shape": [length]}).outputs[0]
    frames = insert_before(node, "Transpose", [conv], {"perm": [0, 2, 1]}).outputs[0]
    return _reshape(node, frames, [batch, (samples - length) // step + 1, frequencies, 2])


def _rotations(length: int, *, inverse: bool) -> Matrix:
    """[n, part of the input, k, part of the output]: what input n adds to output k, float64."""
    turns = np.outer(np.arange(length), np.arange(length)) % length  # exact, before it is an angle
    angle = turns * (2 * np.pi / length) * (1 if inverse else -1)
    scale = 1 / length if inverse else 1.0
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    rotations = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
    return np.where(np.abs(rotations) < _ZERO, 0.0, rotations)


def _axis(node: ir.Node, rank: int) -> int:
    assert node.graph is not None
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    axis = attribute_int(node, "axis", 1) if opset(graph) < 20 else _number(node, 2, "axis")
    axis = -2 if axis is None else axis
    place = axis + rank if axis < 0 else axis
    if not 0 <= place < rank - 1:
        raise Refusal(f"its axis {axis} is not one of the signal")
    return place


def _number(node: ir.Node, index: int, what: str) -> int | None:
    value = input_of(node, index)
    if value is None:
        return None
    array = constant(value)
    if array is None or array.size != 1:
        raise Refusal(f"its {what} is computed at run time")
    number = int(array.reshape(()))
    if number <= 0 and what != "axis":
        raise Refusal(f"its {what} is {number}")
    return number


def _require_size(elements: int, largest: int) -> None:
    if elements > largest:
        raise Refusal(
            f"its matrix would have {elements:,} numbers; more than max_elements are not written out"
        )


def _reshape(node: ir.Node, value: ir.Value | None, shape: list[int]) -> ir.Value:
    sizes = add_constant(_graph(node), np.array(shape, np.int64), f"{base_name(node)}_shape")
    return insert_before(node, "Reshape", [value, sizes]).outputs[0]


def _constant(node: ir.Node, array: Matrix, name: str) -> ir.Value:
    return add_constant(_graph(node), array.astype(np.float32), f"{base_name(node)}_{name}")


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph
