"""TensorFlow Lite Micro's arithmetic instead of ours, for teams that move over and need the same bytes.

Rules decide what runs in int8 and how it is laid out; what they emit passes through :func:`adapted`, which
puts 31-bit fixed point in place of float32 requantization. Multipliers are computed in double precision from
the scales, as TFLite Micro's ``Prepare`` functions do (tensorflow/lite/kernels/kernel_util.cc and
micro/kernels/*_common.cc).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, frexp
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.chains import Sink
from irshrink.program.lower.constants import Constants
from irshrink.program.lower.tflm_tables import TABLES
from irshrink.program.ops import (
    AddInt8,
    AddTflm,
    AveragePoolInt8,
    AveragePoolTflm,
    ConvInt8,
    DenseInt8,
    FixedPoint,
    Float32,
    MatMulInt8,
    MeanTflm,
    MulInt8,
    Op,
    SoftmaxInt8,
    SoftmaxTflm,
    TableInt8,
)
from irshrink.program.ops.tflm import ADDITION_LEFT_SHIFT
from irshrink.program.program import Quantization
from irshrink.program.reference.fixed_point import exp_of_negative, scaled

#: Integer bits of the differences that go into softmax's exponentials.
_DIFFERENCE_BITS = 5
#: Rows of a softmax whose sum of exponentials, each at most 1, has 12 integer bits.
_LONGEST_SOFTMAX = 4095


@dataclass(frozen=True)
class Emission:
    """An int8 operator as a rule emits it.

    Attributes:
        inputs: quantization of the tensors that it reads.
        shape: of its output, physical.
        fields: the operator's own.
        weight_scale: of a layer, per output channel or one in all.
    """

    operator: type[Op]
    node: ir.Node
    inputs: tuple[Quantization, ...]
    shape: Sequence[int]
    sink: Sink
    fields: Mapping[str, Any]
    weight_scale: Float32 | None
    constants: Constants


Adapted = tuple[type[Op], dict[str, Any]]


def adapted(emission: Emission) -> Adapted | None:
    """The operator in TFLite Micro's arithmetic; None where that has no such form, and ours stays."""
    adapter = _ADAPTERS.get(emission.operator)
    return None if adapter is None else adapter(emission)


def quantized_multiplier(number: float) -> tuple[int, int] | None:
    """``(multiplier, shift)`` with ``number = multiplier * 2**(shift - 31)``: QuantizeMultiplier.

    None when the shift is above 30; below 2**-31 numbers are 0.
    """
    mantissa, shift = frexp(number)
    multiplier = floor(mantissa * 2.0**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return (multiplier, shift) if shift <= 30 else None


def _fixed_point(numbers: Sequence[float], sink: Sink) -> FixedPoint | None:
    pairs = [quantized_multiplier(number) for number in numbers]
    if any(pair is None for pair in pairs):
        return None
    multipliers, shifts = np.array(pairs, np.int64).T.astype(np.int32)
    return FixedPoint(
        multiplier=multipliers,
        shift=shifts,
        zero_point=sink.quantization.zero_point,
        low=sink.low,
        high=sink.high,
    )


def _layer(emission: Emission) -> Adapted | None:
    """Conv and dense layers. A dense layer with one scale rounds the product of scales to float32 first."""
    scales = emission.weight_scale
    if scales is None:
        return None
    x, y = emission.inputs[0].scale, emission.sink.quantization.scale
    if emission.operator is DenseInt8 and scales.size == 1:
        numbers = [float(np.float32(x) * scales[0]) / y]
    else:
        numbers = [x * float(scale) / y for scale in scales]
    return _requantized(emission, numbers)


def _product(emission: Emission) -> Adapted | None:
    a, b = emission.inputs
    return _requantized(emission, [a.scale * b.scale / emission.sink.quantization.scale])


def _matrix_product(emission: Emission) -> Adapted | None:
    a, b = emission.inputs
    number = float(np.float32(a.scale) * np.float32(b.scale)) / emission.sink.quantization.scale
    return _requantized(emission, [number])


def _requantized(emission: Emission, numbers: Sequence[float]) -> Adapted | None:
    form = _fixed_point(numbers, emission.sink)
    if form is None:
        return None
    return emission.operator, {**emission.fields, "requantization": form}


def _addition(emission: Emission) -> Adapted | None:
    a, b = emission.inputs
    widest = 2 * max(a.scale, b.scale)
    pairs = [quantized_multiplier(scale / widest) for scale in (a.scale, b.scale)]
    number = widest / ((1 << ADDITION_LEFT_SHIFT) * emission.sink.quantization.scale)
    form = _fixed_point([number], emission.sink)
    if form is None or number >= 1:
        return None
    (ma, sa), (mb, sb) = (pair for pair in pairs if pair is not None)
    return AddTflm, {
        "zero_points": (a.zero_point, b.zero_point),
        "operands": ((ma, -sa), (mb, -sb)),
        "subtract": emission.fields["addition"].multipliers[1] < 0,
        "requantization": form,
    }


def _average(emission: Emission) -> Adapted | None:
    x, fields, sink = emission.inputs[0], emission.fields, emission.sink
    window = fields["window"]
    if emission.node.op_type == "ReduceMean":
        count = window.kernel[0] * window.kernel[1]
        form = _mean(x.scale / sink.quantization.scale, count, sink)
        if form is None:
            return None
        zero_point = fields["input_zero_point"]
        return MeanTflm, {"window": window, "input_zero_point": zero_point, "requantization": form}
    if x != sink.quantization or fields["count_padding"]:
        return None
    return AveragePoolTflm, {"window": window, "low": sink.low, "high": sink.high}


def _mean(number: float, count: int, sink: Sink) -> FixedPoint | None:
    """The multiplier of ``number / count``: that of ``number``, divided in integers."""
    form = _fixed_point([number], sink)
    if form is None or (sink.low, sink.high) != (-128, 127):
        return None
    shift = int(form.shift[0])
    more = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier = (int(form.multiplier[0]) << more) // count
    return FixedPoint(
        multiplier=np.array([multiplier], np.int32),
        shift=np.array([shift - more], np.int32),
        zero_point=form.zero_point,
    )


def _softmax(emission: Emission) -> Adapted | None:
    """Exponentials of the differences in 5.26 bits; those too small for it are 0."""
    x, y = emission.inputs[0], emission.sink.quantization
    if y != Quantization(1 / 256, -128) or emission.shape[-1] > _LONGEST_SOFTMAX:
        return None
    fraction = 31 - _DIFFERENCE_BITS
    pair = quantized_multiplier(min(x.scale * (1 << fraction), 2.0**31 - 1))
    if pair is None or pair[1] < 0:
        return None
    multiplier, shift = pair
    radius = floor(((1 << _DIFFERENCE_BITS) - 1) * (1 << fraction) / (1 << shift))
    differences = -np.arange(256)
    moved = scaled(np.maximum(differences, -radius), multiplier, shift)
    table = np.where(differences >= -radius, exp_of_negative(moved, _DIFFERENCE_BITS), 0)
    return SoftmaxTflm, {"exp_table": table.astype(np.int32)}


def _table(emission: Emission) -> Adapted | None:
    make = TABLES.get(emission.node.op_type)
    if make is None:
        return None
    entries = make(emission.node, emission.inputs[0], emission.sink, emission.constants)
    return None if entries is None else (TableInt8, {"table": entries})


_ADAPTERS: dict[type[Op], Callable[[Emission], Adapted | None]] = {
    AddInt8: _addition,
    AveragePoolInt8: _average,
    ConvInt8: _layer,
    DenseInt8: _layer,
    MatMulInt8: _matrix_product,
    MulInt8: _product,
    SoftmaxInt8: _softmax,
    TableInt8: _table,
}
