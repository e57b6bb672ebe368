"""The integer form of a layer with weights: Conv, Gemm, MatMul by a constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irshrink.program.lower.chains import Sink
from irshrink.program.lower.constants import Codes, Constant
from irshrink.program.lower.numbers import OUT_OF_RANGE, extreme_sums, fits_int32, layer_multiplier, usable
from irshrink.program.lower.refusal import Refusal
from irshrink.program.ops import Float32, Int8, Int32, Requantization, StoredWeights, WeightCodes
from irshrink.program.program import Quantization


@dataclass(frozen=True)
class IntegerLayer:
    """Weights [Co, ...], bias [Co] with the input's zero point folded in, and the way to int8.

    ``scale`` is that of the weights, one number per output channel or one in all; ``weight_bits`` what is
    stored of each weight: 8, 4 or 2; ``sparse`` whether those that are 0 are left out, ``huffman`` whether
    they are wished in a code.
    """

    weight: Int8
    weight_bits: int
    sparse: bool
    huffman: bool
    scale: Float32
    bias: Int32
    requantization: Requantization
    sink: Sink


@dataclass(frozen=True)
class IntegerWeights:
    """Weights [Co, ...] and bias [Co] in integers, the bias in steps of ``x_scale * scale``, int64."""

    weight: Int8
    weight_bits: int
    sparse: bool
    huffman: bool
    scale: Float32
    bias: NDArray[np.int64]


def integer_weights(x_scale: float, weight: Constant, bias: Constant | None) -> IntegerWeights | str:
    """The constants of a layer in integers, or the reason why it must run in float.

    Args:
        weight: output channels first.
        bias: one number per output channel.
    """
    codes = weight.codes
    if codes is None:
        return "its weights are not quantized"
    if codes.axis not in (None, 0):
        return "its weights are not quantized along the output channels"
    integers = codes.integers - codes.broadcast(codes.zero_point)
    if integers.min(initial=0) < -128 or integers.max(initial=0) > 127:
        return "its weights less their zero point need more than 8 bits"
    if not np.all(codes.scale > 0):
        return OUT_OF_RANGE
    return IntegerWeights(
        weight=integers.astype(np.int8),
        weight_bits=stored_bits(integers, codes.bits),
        sparse=codes.sparse,
        huffman=codes.huffman,
        scale=codes.scale.reshape(-1),
        bias=_bias(bias, x_scale, codes, len(integers)),
    )


def integer_layer(
    x: Quantization | None, weight: Constant, bias: Constant | None, sink: Sink | None
) -> IntegerLayer | str:
    """The layer in integers, or the reason why it must run in float.

    Args:
        weight: output channels first.
        bias: one number per output channel.
    """
    if x is None or weight.codes is None or sink is None:
        what = "input is" if x is None else "weights are" if weight.codes is None else "output is"
        return f"its {what} not quantized"
    found = integer_weights(x.scale, weight, bias)
    if isinstance(found, str):
        return found
    multiplier = layer_multiplier(x.scale, found.scale, sink.quantization.scale)
    if not usable(multiplier):
        return OUT_OF_RANGE
    integers = found.weight.astype(np.int64)
    folded = found.bias - x.zero_point * integers.reshape(len(integers), -1).sum(axis=1)
    if not fits_int32(*extreme_sums(integers, folded)):
        return "its accumulator could overflow 32 bits"
    requantization = Requantization(
        multiplier=multiplier, zero_point=sink.quantization.zero_point, low=sink.low, high=sink.high
    )
    return IntegerLayer(
        weight=found.weight,
        weight_bits=found.weight_bits,
        sparse=found.sparse,
        huffman=found.huffman,
        scale=found.scale,
        bias=folded.astype(np.int32),
        requantization=requantization,
        sink=sink,
    )


def stored_bits(integers: NDArray[np.int64], bits: int) -> int:
    """``bits`` (2, 4) where two's complement of that width holds all integers; 8 else.

    A zero point that is not 0 can push 4-bit integers beyond [-8, 7].
    """
    if bits >= 8:
        return 8
    half = 1 << (bits - 1)
    fits = integers.min(initial=0) >= -half and integers.max(initial=0) < half
    return bits if fits else 8


def _bias(bias: Constant | None, x_scale: float, weight: Codes, channels: int) -> NDArray[np.int64]:
    """The bias in steps of ``x_scale * weight_scale``: as stored when those are its steps, else rounded."""
    if bias is None:
        return np.zeros(channels, np.int64)
    steps = np.float64(np.float32(x_scale)) * weight.scale.astype(np.float64).reshape(-1)
    codes = bias.codes
    if codes is not None and not codes.zero_point.any():
        stored = codes.scale.astype(np.float64).reshape(-1)
        if np.allclose(stored, steps, rtol=1e-5, atol=0.0):
            return np.broadcast_to(codes.integers.reshape(-1), (channels,))
    rounded = np.rint(bias.array.astype(np.float64).reshape(-1) / steps)
    return np.broadcast_to(np.clip(rounded, -(2.0**40), 2.0**40).astype(np.int64), (channels,))


def weight_codes(weight: Constant) -> StoredWeights | None:
    """How weights, output channels first, can be stored in fewer bits; None when the file has them in 32."""
    if weight.stored is not None:
        return weight.stored.form(weight.array)
    codes = weight.codes
    if codes is None or codes.axis not in (None, 0):
        return None
    plain = plain_codes(weight)
    if plain is not None and plain.bits == codes.bits:
        return plain
    half = 1 << (codes.bits - 1)
    low = half if codes.integers.max(initial=0) >= half else 0
    if stored_bits(codes.integers - low, codes.bits) != codes.bits:
        return plain  # they were moved by their zero points
    zero = np.broadcast_to(codes.zero_point.reshape(-1), (len(codes.integers),)) - low
    if codes.bits > 8 or zero.min(initial=0) < -128 or zero.max(initial=0) > 127:
        return plain
    made = WeightCodes(
        integers=np.ascontiguousarray(codes.integers - low, np.int8),
        scale=_per_channel(codes),
        zero_point=zero.astype(np.int8),
        bits=codes.bits,
    )
    return made if np.array_equal(made.real(), weight.array) else plain


def plain_codes(weight: Constant) -> WeightCodes | None:
    """Integers without zero points and their scales, output channels first; None when 8 bits do not do."""
    codes = weight.codes
    if codes is None or codes.axis not in (None, 0):
        return None
    integers = codes.integers - codes.broadcast(codes.zero_point)
    if integers.min(initial=0) < -128 or integers.max(initial=0) > 127:
        return None
    return WeightCodes(
        integers=np.ascontiguousarray(integers, np.int8),
        scale=_per_channel(codes),
        bits=stored_bits(integers, codes.bits),
    )


def _per_channel(codes: Codes) -> Float32:
    return np.broadcast_to(codes.scale.reshape(-1), (len(codes.integers),)).astype(np.float32)


def float_bias(bias: Constant | None, channels: int) -> Float32:
    """float32 [Co]; adding 0 turns -0 into 0, so that padding with zeros never shows in the sign."""
    if bias is None:
        return np.zeros(channels, np.float32)
    if bias.array.size not in (1, channels):
        raise Refusal(
            f"its bias has {bias.array.size} numbers for {channels} channels", "Export the model again."
        )
    result: Float32 = np.broadcast_to(bias.array.reshape(-1), (channels,)).astype(np.float32) + np.float32(0)
    return result
