"""The numbers of the integer contract that the lowering computes, at the ends of their ranges."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.module import Module, module_from_text
from irshrink.program import ops
from irshrink.program.lower import lower
from irshrink.program.lower.numbers import (
    addition_multipliers,
    extreme_sums,
    layer_multiplier,
    mean_multiplier,
    usable,
)
from irshrink.program.ops import Addition
from irshrink.program.reference import run_program
from irshrink.program.reference.requantize import add

SCALES = st.floats(2.0**-12, 2.0**12, width=32)
CODES = np.arange(-128, 128).astype(np.int8)


@pytest.mark.parametrize(
    "scales", [(0.1, 0.2, 0.3), (1.0, 1.0, 1.0), (1e-6, 1.0, 1.0), (1e4, 1e-4, 1.0), (1e-9, 1e-9, 1.0)]
)
def test_addition_uses_all_the_bits_that_cannot_overflow(scales: tuple[float, float, float]) -> None:
    found = addition_multipliers(*scales)
    assert found is not None
    (a, b), shift = found
    assert 255 * (a + b) + (1 << shift) // 2 < 2**31
    finer = [
        round(float(np.float32(s)) / float(np.float32(scales[2])) * 2.0 ** (shift + 1)) for s in scales[:2]
    ]
    assert shift == 30 or 255 * sum(finer) + (1 << shift) >= 2**31


@settings(deadline=None, max_examples=60, derandomize=True)
@given(SCALES, SCALES, SCALES, *[st.integers(-128, 127)] * 3, st.booleans())
def test_addition_is_off_by_less_than_a_step(
    sa: float, sb: float, sy: float, za: int, zb: int, zy: int, subtract: bool
) -> None:
    """All pairs of codes at the ends and around zero, against exact arithmetic."""
    found = addition_multipliers(sa, sb, sy)
    if found is None:
        assert max(sa, sb) / sy > 2**14  # 2**15 alone, half of it each
        return
    (ma, mb), shift = found
    multipliers = (ma, -mb if subtract else mb)
    addition = Addition(multipliers=multipliers, shift=shift, zero_points=(za, zb), zero_point=zy)
    near = [np.clip(np.arange(z - 2, z + 3), -128, 127) for z in (za, zb)]
    a, b = (np.unique([-128, 127, *codes]).astype(np.int8) for codes in near)
    given_codes = add(a[:, None], b[None, :], addition)
    sign = -1 if subtract else 1
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            real = (x - za) * Fraction(sa) + sign * (y - zb) * Fraction(sb)
            exact = min(max(real / Fraction(sy) + zy, Fraction(-128)), Fraction(127))
            assert abs(int(given_codes[i, j]) - exact) < 1 + Fraction(1, 2)


def test_addition_of_absurd_scales_has_no_fixed_point() -> None:
    assert addition_multipliers(1e9, 1.0, 1.0) is None
    assert addition_multipliers(4e4, 0.5, 1.0) is None
    assert addition_multipliers(3e4, 0.5, 1.0) is not None


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(-(2**31), 2**31 - 1))
def test_extreme_sums_bound_every_partial_sum(seed: int, length: int, bias: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (1, length))
    low, high = extreme_sums(weight, np.array([bias]))
    for x in (
        rng.integers(-128, 128, length),
        np.where(weight[0] > 0, 127, -128),
        rng.choice([-128, 127], length),
    ):
        order = rng.permutation(length)
        partial = np.cumsum(weight[0][order] * x[order])
        for start in (0, bias):
            sums = start + np.array([0, *partial])
            assert sums.min() >= min(low, bias)
            assert sums.max() <= max(high, bias)


def test_multipliers_of_absurd_scales_are_not_usable() -> None:
    tiny, huge = np.array([1e-30], np.float32), np.array([1e30], np.float32)
    assert not usable(layer_multiplier(1e-30, tiny, 1.0))
    assert not usable(layer_multiplier(1e30, huge, 1.0))
    assert not usable(np.array([mean_multiplier(1e-30, 1e30, 4)], np.float32))
    assert usable(layer_multiplier(0.1, np.array([0.01, 2.0], np.float32), 0.3))


def qdq(body: str, scale: str, out_scale: str = "1.0", shape: str = "1,2,2,2", more: str = "") -> Module:
    """``xd`` is x behind a QDQ pair of scale ``s``; ``r`` goes through one of scale ``t`` to the output."""
    return module_from_text(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[{shape}] x) => (float[{shape}] y)
        <float s = {{{scale}}}, float t = {{{out_scale}}}, int8 z = {{3}} {more}>
        {{
           xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)
           {body}
           rq = QuantizeLinear(r, t, z) y = DequantizeLinear(rq, t, z)
        }}"""
    )


@pytest.mark.parametrize(
    ("body", "scale", "out_scale"),
    [
        ("xt = Transpose <perm = [0, 1, 3, 2]> (xd) r = Mul(xd, xt)", "1e-30", "1.0"),
        ("r = MatMul(xd, xd)", "1e30", "1.0"),
        ("r = AveragePool <kernel_shape = [1, 1]> (xd)", "1e-30", "1e30"),
        ("xt = Transpose <perm = [0, 1, 3, 2]> (xd) r = Add(xd, xt)", "100000.0", "1.0"),
    ],
)
def test_operators_between_absurd_scales_run_in_float(body: str, scale: str, out_scale: str) -> None:
    program = lower(qdq(body, scale, out_scale))
    (reason,) = program.float_reasons.values()
    assert "scales" in reason
    assert run_program(program, [CODES[:8].reshape(1, 2, 2, 2)])[0].dtype == np.int8


def test_a_constant_operand_is_laid_out_at_compile_time() -> None:
    """Only operators write into the arena: a reshaped constant must be another constant."""
    module = qdq(
        "kd = DequantizeLinear(k, t, z) ku = Unsqueeze(kd, axes) r = Add(xd, ku)",
        scale="0.5",
        shape="1,6",
        more=", int8[6] k = {1,2,3,4,5,6}, int64[1] axes = {0}",
    )
    program = lower(module)
    written = {op.output for op in program} | {port.tensor for port in program.inputs}
    read = {name for op in program for name in op.inputs}
    assert read - written == set(program.constants) != set()
    for op in program:
        if isinstance(op, ops.Reshape):
            assert op.inputs[0] not in program.constants


def test_a_constant_output_of_no_axes() -> None:
    module = module_from_text(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y, float z)
        <float k = {1.5}> { y = Relu(x) z = Identity(k) }"""
    )
    y, z = run_program(lower(module), [np.array([-1, 2], np.float32)])
    assert y.tolist() == [0.0, 2.0]
    assert z.shape == ()
    assert z == 1.5
