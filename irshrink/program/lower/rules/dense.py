"""Gemm and MatMul."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import Sink, clamp_behind, sink
from irshrink.program.lower.constants import Constant
from irshrink.program.lower.fitting import broadcast, require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import OUT_OF_RANGE, fits_int32, layer_multiplier, usable
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import elementwise
from irshrink.program.lower.rules.int16 import wide_layer
from irshrink.program.lower.rules.layer import IntegerLayer, float_bias, integer_layer, weight_codes
from irshrink.program.lower.rules.repetition import expanded
from irshrink.program.lower.stored import Blocks, Scattered
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import (
    BinaryF32,
    DenseF32,
    DenseInt8,
    DenseInt16,
    MatMulF32,
    MatMulInt8,
    Requantization,
)
from irshrink.program.program import Quantization


def gemm(lowering: Lowering, node: ir.Node) -> None:
    """``alpha * x @ w + beta * c``; a dense layer where w is constant and c a constant row."""
    for value in node.inputs[:2]:
        known = lowering.constants.array(value)
        rank = lowering.view(value).rank if known is None else known.ndim
        require(rank == 2, f"an operand has {rank} axes, and a matrix has 2")
    if not _is_layer(lowering, node):
        _general(lowering, node)
        return
    x = lowering.real(node, 0)
    if edit.attribute_int(node, "transA", 0):
        x = x.transposed((1, 0))
    weight = lowering.weights(node, 1, "weights")
    if not edit.attribute_int(node, "transB", 0):
        weight = _transposed(weight)
    weight = _scaled(weight, edit.attribute_float(node, "alpha", 1.0))
    bias = None if edit.input_of(node, 2) is None else lowering.weights(node, 2, "biases")
    if bias is not None:
        bias = _scaled(_row(bias, weight.array.shape[0]), edit.attribute_float(node, "beta", 1.0))
    _dense(lowering, node, x, (weight, bias), ())


def _is_layer(lowering: Lowering, node: ir.Node) -> bool:
    weight = lowering.constants.get(edit.input_of(node, 1))
    if weight is None or lowering.constants.get(edit.input_of(node, 0)) is not None:
        return False
    c = edit.input_of(node, 2)
    bias = lowering.constants.array(c)
    return c is None or (bias is not None and bias.shape[-1:] in ((), (bias.size,)))


def _general(lowering: Lowering, node: ir.Node) -> None:
    """A product of computed matrices, times alpha, plus beta times any third one."""
    a, b = lowering.real(node, 0), lowering.real(node, 1)
    a = a.transposed((1, 0)) if edit.attribute_int(node, "transA", 0) else a
    b = b.transposed((1, 0)) if edit.attribute_int(node, "transB", 0) else b
    alpha, beta = (edit.attribute_float(node, name, 1.0) for name in ("alpha", "beta"))
    if alpha == 1.0 and edit.input_of(node, 2) is None:
        lowering.bind(node.outputs[0], _product_of(lowering, node, a, b))
        return
    lowering.float_note(node, "its matrices are computed")
    factors = [lowering.builder.dense(lowering.builder.as_float(view), (0, 1)) for view in (a, b)]
    require(a.shape[1] == b.shape[0], f"{list(a.shape)} and {list(b.shape)} do not fit each other")
    shape = (a.shape[0], b.shape[1])
    y = view_of(lowering.emit(MatMulF32, node, factors, shape), shape)
    y = _times(lowering, node, y, alpha)
    if edit.input_of(node, 2) is not None:
        c = _times(lowering, node, lowering.floating(node, 2), beta)
        y = elementwise(lowering, node, BinaryF32, [y, c], "float32", kind="add")
    lowering.bind(node.outputs[0], y)


def _times(lowering: Lowering, node: ir.Node, x: View, factor: float) -> View:
    if factor == 1.0:
        return x
    shape = lowering.builder.shape(x.tensor)
    number = np.full((1,) * len(shape), factor, np.float32)
    return x.on(lowering.emit(BinaryF32, node, [x.tensor], shape, kind="mul", constant=number))


def matmul(lowering: Lowering, node: ir.Node) -> None:
    """A product by a constant matrix, with the Add of a bias behind it, or of two computed tensors."""
    factor = lowering.constants.get(edit.input_of(node, 1))
    varying = lowering.constants.get(edit.input_of(node, 0)) is None
    if factor is None or factor.array.ndim != 2 or not varying:
        _matmul(lowering, node)
        return
    weight = _transposed(lowering.weights(node, 1, "weights"))
    add, bias = _bias_behind(lowering, node, weight.array.shape[0])
    _dense(lowering, node, lowering.real(node, 0), (weight, bias), add)


def _dense(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    add: tuple[ir.Node, ...],
) -> None:
    """A product with weights [N, K], the ``add`` of its bias included.

    The input's last axis may lie in memory in any order (a flattened channels-last image): the weights'
    columns are put into that order instead of the bytes.
    """
    weight, bias = constants
    channels, features = weight.array.shape
    if x.shape[-1] != features:
        raise Refusal(f"{x.shape[-1]} features do not fit {features} weights", "Export the model again.")
    offsets = _column_offsets(x)
    if offsets is None or isinstance(weight.stored, Blocks):  # whose columns share scales in their order
        x = lowering.builder.row_major(x)
    else:
        weight = _columns_moved(weight, offsets)
    end = (*add, node)[0].outputs[0]
    shape = (*x.shape[:-1], channels)
    lowering.absorbed.update(add)
    if lowering.builder.wide(x) is not None:
        wide = _wide(lowering, node, x, (weight, bias), add)
        tensor = wide or _float(lowering, node, x, (weight, bias), add)
        lowering.bind(node.outputs[0], view_of(tensor, shape))
        return
    layer = integer_layer(lowering.builder.quantization(x), weight, bias, sink(end, lowering.constants))
    if isinstance(layer, IntegerLayer):
        source = lowering.builder.reshaped(x.tensor, x.shape)
        tensor = lowering.emit_int8(
            DenseInt8,
            node,
            [source],
            shape,
            sink=layer.sink,
            weight_scale=layer.scale,
            also=add,
            weight=layer.weight,
            weight_bits=layer.weight_bits,
            sparse=layer.sparse,
            huffman=layer.huffman,
            bias=layer.bias,
            requantization=layer.requantization,
        )
    else:
        lowering.float_note(node, layer)
        tensor = _float(lowering, node, x, (weight, bias), add)
    lowering.bind(node.outputs[0], view_of(tensor, shape))


def _wide(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    add: tuple[ir.Node, ...],
) -> str | None:
    """Between int16 activations; None, with a note, where that cannot be."""
    target = sink((*add, node)[0].outputs[0], lowering.constants, wide=True)
    found = wide_layer(lowering.builder.wide(x), *constants, target)
    if isinstance(found, str) or target is None:
        lowering.float_note(node, str(found))
        return None
    weights, result = found
    return lowering.emit_int16(
        DenseInt16,
        node,
        [lowering.builder.reshaped(x.tensor, x.shape)],
        (*x.shape[:-1], len(weights.weight)),
        sink=target,
        also=add,
        weight=np.ascontiguousarray(weights.weight),
        bias=weights.bias.astype(np.int32),
        result=result,
    )


def _float(
    lowering: Lowering,
    node: ir.Node,
    x: View,
    constants: tuple[Constant, Constant | None],
    add: tuple[ir.Node, ...],
) -> str:
    weight, bias = constants
    clamp = clamp_behind((*add, node)[0].outputs[0], lowering.constants)
    lowering.absorbed.update(clamp.absorbed)
    source = lowering.builder.reshaped(lowering.builder.as_float(x).tensor, x.shape)
    return lowering.emit(
        DenseF32,
        node,
        [source],
        (*x.shape[:-1], weight.array.shape[0]),
        also=(*add, *clamp.absorbed),
        weight=np.ascontiguousarray(weight.array),
        codes=weight_codes(weight),
        sparse=isinstance(weight.stored, Scattered),
        bias=float_bias(bias, weight.array.shape[0]),
        low=clamp.low,
        high=clamp.high,
    )


def _column_offsets(x: View) -> NDArray[np.int64] | None:
    """Where each feature lies within its row of memory, None when rows are not whole and in order."""
    features = x.shape[-1]
    offsets = x.offsets(x.rank - 1)
    rows = View(x.tensor, (*x.axes[:-1], ((features, 1),) if features > 1 else ()))
    if not np.array_equal(np.sort(offsets), np.arange(features)) or not rows.is_dense(range(x.rank)):
        return None
    return offsets


def _columns_moved(weight: Constant, offsets: NDArray[np.int64]) -> Constant:
    """Column k of [N, K] goes to ``offsets[k]``."""
    order = np.argsort(offsets)
    codes = weight.codes
    if codes is not None:
        per_column = codes.axis == 1
        scale = codes.scale[order] if per_column else codes.scale
        zero_point = codes.zero_point[order] if per_column else codes.zero_point
        codes = replace(codes, integers=codes.integers[:, order], scale=scale, zero_point=zero_point)
    return weight.moved(lambda array: array[:, order], codes)


def _transposed(weight: Constant) -> Constant:
    codes = weight.codes
    if codes is not None:
        axis = None if codes.axis is None else 1 - codes.axis
        codes = replace(codes, integers=codes.integers.T, axis=axis)
    return weight.moved(np.transpose, codes)


def _scaled(constant: Constant, factor: float) -> Constant:
    """Times ``alpha`` or ``beta`` of Gemm; then it is not the stored integers any more."""
    return constant if factor == 1.0 else Constant(constant.array * np.float32(factor))


def _row(bias: Constant, channels: int) -> Constant:
    if bias.array.size not in (1, channels) or (bias.array.ndim and bias.array.shape[-1] != bias.array.size):
        raise Refusal(
            f"a bias of shape {list(bias.array.shape)} is not one number per output",
            "Add it by an Add behind the product.",
        )
    return bias


def _bias_behind(
    lowering: Lowering, node: ir.Node, channels: int
) -> tuple[tuple[ir.Node, ...], Constant | None]:
    """The Add of one constant per output column that alone reads a MatMul, and the constant."""
    users = tuple(node.outputs[0].uses())
    if len(users) != 1 or node.outputs[0].is_graph_output() or users[0].node.op_type != "Add":
        return (), None
    add = users[0].node
    constant = lowering.constants.get(add.inputs[1 - users[0].idx])
    rank = lowering.real(node, 0).rank
    if constant is None or constant.array.dtype != np.float32 or constant.array.ndim > rank:
        return (), None
    if constant.array.size != channels or constant.array.shape[-1:] != (channels,):
        return (), None
    return (add,), constant


def _matmul(lowering: Lowering, node: ir.Node) -> None:
    """A product of two tensors; an axis that NumPy's rules add to a vector goes again."""
    a, b = lowering.real(node, 0), lowering.real(node, 1)
    vectors = (a.rank == 1, b.rank == 1)
    if vectors[0]:
        a = lowering.builder.view_as(a, (1, *a.shape))
    if vectors[1]:
        b = lowering.builder.view_as(b, (*b.shape, 1))
    batches = broadcast(a.shape[:-2], b.shape[:-2])
    wanted = (*batches, *a.shape[-2 + vectors[0] : -1], *b.shape[-1 + vectors[1] :][: 1 - vectors[1]])
    y = _product_of(lowering, node, *_same_batches(lowering, node, a, b))
    lowering.bind(node.outputs[0], lowering.builder.view_as(y, wanted))


def _product_of(lowering: Lowering, node: ir.Node, a: View, b: View) -> View:
    require(a.shape[-1] == b.shape[-2], f"{list(a.shape)} and {list(b.shape)} do not fit each other")
    shape = (*a.shape[:-1], b.shape[-1])
    builder, target = lowering.builder, lowering.sink(node)
    form = _product(builder.quantization(a), builder.quantization(b), target, a.shape[-1])
    if isinstance(form, str) or target is None:
        lowering.float_note(node, str(form))
        factors = [builder.dense(builder.as_float(view), range(view.rank)) for view in (a, b)]
        tensor = lowering.emit(MatMulF32, node, factors, shape)
    else:
        zero_points, requantization = form
        tensor = lowering.emit_int8(
            MatMulInt8,
            node,
            [builder.dense(a, range(a.rank)), builder.dense(b, range(b.rank))],
            shape,
            sink=target,
            zero_points=zero_points,
            requantization=requantization,
        )
    return view_of(tensor, shape)


def _product(
    a: Quantization | None, b: Quantization | None, sink: Sink | None, length: int
) -> tuple[tuple[int, int], Requantization] | str:
    """Zero points and requantization of a product of sums of ``length``, or why it must run in float."""
    if a is None or b is None:
        return "its inputs are not both quantized"
    if sink is None:
        return "its output is not quantized"
    if not fits_int32(-length * 255 * 255, length * 255 * 255):
        return "its accumulator could overflow 32 bits"
    y = sink.quantization
    multiplier = layer_multiplier(a.scale, np.array([b.scale], np.float32), y.scale)
    if not usable(multiplier):
        return OUT_OF_RANGE
    requantization = Requantization(
        multiplier=multiplier, zero_point=y.zero_point, low=sink.low, high=sink.high
    )
    return (a.zero_point, b.zero_point), requantization


def _same_batches(lowering: Lowering, node: ir.Node, a: View, b: View) -> tuple[View, View]:
    """Both with the same leading axes: one matrix on the right takes all rows on the left as one matrix."""
    builder = lowering.builder
    if a.shape[:-2] == b.shape[:-2]:
        return a, b
    if prod(b.shape[:-2]) == 1:
        rows = builder.view_as(a, (prod(a.shape[:-1]), a.shape[-1]))
        return rows, builder.view_as(b, b.shape[-2:])
    batches = broadcast(a.shape[:-2], b.shape[:-2])
    return (
        expanded(lowering, node, a, (*batches, *a.shape[-2:])),
        expanded(lowering, node, b, (*batches, *b.shape[-2:])),
    )
