"""The NumPy reference against plain loops over Python numbers, and its own mathematics against scipy."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from irshrink.errors import InternalError, SamplesError
from irshrink.program import ops
from irshrink.program.ops import Addition, Op, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.program.reference import evaluate_op, mathematics, run_program, values

NOWHERE: dict[str, Any] = {"name": "op", "origin": (), "inputs": ("x", "y"), "output": "z"}


def evaluate(op: Op, arrays: list[np.ndarray], shape: tuple[int, ...], dtype: str = "int8") -> np.ndarray:
    with np.errstate(all="ignore"):
        return evaluate_op(op, arrays, Program({"z": Tensor("z", shape, dtype)}, [op], [], []))


def half_even(value: float) -> int:
    return round(value)  # Python rounds halves to even


def saturated(value: int, low: int = -128, high: int = 127) -> int:
    return min(max(value, low), high)


def requantized(acc: int, multiplier: np.float32, zero_point: int) -> int:
    return saturated(half_even(float(np.float32(np.float32(acc) * multiplier))) + zero_point)


windows = st.builds(
    Window,
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)


def places(window: Window, y: int, x: int) -> list[tuple[int, int, int, int]]:
    """``(ky, kx, row, column)`` that output pixel (y, x) sees, padding included."""
    (sh, sw), (dh, dw), (top, left, _, _) = window.strides, window.dilations, window.pads
    return [
        (ky, kx, y * sh + ky * dh - top, x * sw + kx * dw - left)
        for ky, kx in product(range(window.kernel[0]), range(window.kernel[1]))
    ]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(windows, st.sampled_from([(2, 3, 1), (4, 4, 2), (3, 3, 3), (2, 4, 2)]), st.integers(0, 2**32 - 1))
def test_conv_int8_equals_plain_loops(window: Window, sizes: tuple[int, int, int], seed: int) -> None:
    ci, co, groups = sizes
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (1, 5, 6, ci)).astype(np.int8)
    height, width = window.output(5, 6)
    weight = rng.integers(-128, 128, (co, *window.kernel, ci // groups)).astype(np.int8)
    bias = rng.integers(-5000, 5000, co).astype(np.int32)
    multiplier = rng.uniform(1e-4, 1e-2, co).astype(np.float32)
    addition = Addition(
        multipliers=(3 << 18, 5 << 17), shift=20, zero_points=(5, -7), zero_point=9, low=-100, high=90
    )
    other = rng.integers(-128, 128, (1, height, width, co)).astype(np.int8)
    op = ops.ConvInt8(
        **NOWHERE,
        weight=weight,
        bias=bias,
        window=window,
        groups=groups,
        input_zero_point=-4,
        requantization=Requantization(multiplier=multiplier, zero_point=5),
        residual=addition,
    )
    got = evaluate(op, [x, other], other.shape)
    per_group = ci // groups
    for i, j, c in product(range(height), range(width), range(co)):
        acc = int(bias[c])
        for ky, kx, row, column in places(window, i, j):
            inside = 0 <= row < 5 and 0 <= column < 6
            first = c // (co // groups) * per_group
            for k in range(per_group):
                value = int(x[0, row, column, first + k]) if inside else -4
                acc += value * int(weight[c, ky, kx, k])
        y = requantized(acc, multiplier[c], 5)
        total = (y - 5) * (3 << 18) + (int(other[0, i, j, c]) + 7) * (5 << 17)
        assert got[0, i, j, c] == saturated(half_even(total / 2**20) + 9, -100, 90)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(windows, st.integers(0, 2**32 - 1))
def test_conv_f32_adds_one_product_after_the_other(window: Window, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 4, 5, 4)).astype(np.float32)
    weight = rng.normal(size=(2, *window.kernel, 2)).astype(np.float32)
    bias = rng.normal(size=2).astype(np.float32)
    height, width = window.output(4, 5)
    if min(height, width) < 1:
        return
    op = ops.ConvF32(
        **NOWHERE, weight=weight, bias=bias, window=window, groups=2, low=-1.0, high=float("inf")
    )
    got = evaluate(op, [x], (1, height, width, 2), "float32")
    for i, j, c in product(range(height), range(width), range(2)):
        acc = bias[c]
        for ky, kx, row, column in places(window, i, j):
            inside = 0 <= row < 4 and 0 <= column < 5
            for k in range(2):
                value = x[0, row, column, 2 * c + k] if inside else np.float32(0)
                acc = np.float32(acc + np.float32(value * weight[c, ky, kx, k]))
        assert got[0, i, j, c] == max(acc, np.float32(-1))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(windows, st.booleans(), st.integers(0, 2**32 - 1))
def test_average_pool_counts_what_is_inside(window: Window, count_padding: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (1, 5, 6, 2)).astype(np.int8)
    height, width = window.output(5, 6)
    multipliers = {n: float(np.float32(0.7 / n)) for n in range(1, 10)} | {0: 0.0}
    op = ops.AveragePoolInt8(
        **NOWHERE,
        window=window,
        input_zero_point=3,
        count_padding=count_padding,
        multipliers=multipliers,
        zero_point=-2,
    )
    got = evaluate(op, [x], (1, height, width, 2))
    for i, j, c in product(range(height), range(width), range(2)):
        seen = [(r, s) for _, _, r, s in places(window, i, j) if 0 <= r < 5 and 0 <= s < 6]
        acc = sum(int(x[0, r, s, c]) - 3 for r, s in seen)
        count = window.kernel[0] * window.kernel[1] if count_padding else len(seen)
        assert got[0, i, j, c] == requantized(acc, np.float32(multipliers[count]), -2)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_max_pool_ignores_padding(dtype: str) -> None:
    x = np.full((1, 3, 3, 1), -128 if dtype == "int8" else -1e30, dtype)
    op = ops.MaxPool(**NOWHERE, window=Window(kernel=(3, 3), pads=(1, 1, 1, 1)))
    assert np.array_equal(evaluate(op, [x], x.shape, dtype), x)


def test_addition_rounds_halves_to_even() -> None:
    addition = Addition(multipliers=(1, 1), shift=1, zero_points=(0, 0), zero_point=0)
    x = np.arange(-6, 7, dtype=np.int8)
    got = evaluate(ops.AddInt8(**NOWHERE, addition=addition), [x, np.zeros_like(x)], x.shape)
    assert got.tolist() == [-3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3]


def test_requantization_rounds_halves_to_even_before_the_zero_point() -> None:
    form = Requantization(multiplier=np.array([0.5], np.float32), zero_point=1)
    op = ops.MulInt8(**NOWHERE, zero_points=(0, 0), requantization=form)
    got = evaluate(op, [np.array([1, 3, 5, -1], np.int8), np.ones(4, np.int8)], (4,))
    assert got.tolist() == [1, 3, 3, 1]  # 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, -0.5 -> 0


def test_requantization_saturates_beyond_int32() -> None:
    form = Requantization(multiplier=np.array([1e30], np.float32), zero_point=100)
    op = ops.MulInt8(**NOWHERE, zero_points=(0, 0), requantization=form)
    assert evaluate(op, [np.array([1, -1, 0], np.int8), np.ones(3, np.int8)], (3,)).tolist() == [
        127,
        -128,
        100,
    ]


def test_quantize_saturates_and_maps_nan_to_the_zero_point() -> None:
    op = ops.Quantize(**NOWHERE, scale=0.5, zero_point=3)
    x = np.array([0.25, 0.75, -0.25, 1e38, -np.inf, np.nan], np.float32)
    assert evaluate(op, [x], (6,)).tolist() == [3, 5, 3, 127, -128, 3]


def test_dense_and_matmul() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (2, 3, 7)).astype(np.int8)
    w = rng.integers(-128, 128, (5, 7)).astype(np.int8)
    form = Requantization(multiplier=np.full(5, 0.004, np.float32), zero_point=-3)
    op = ops.DenseInt8(**NOWHERE, weight=w, bias=np.arange(5, dtype=np.int32), requantization=form)
    acc = x.astype(np.int64) @ w.astype(np.int64).T + np.arange(5)
    expected = np.vectorize(lambda a: requantized(int(a), np.float32(0.004), -3))(acc)
    assert np.array_equal(evaluate(op, [x], (2, 3, 5)), expected)
    one = Requantization(multiplier=np.array([0.004], np.float32), zero_point=-3)
    product_op = ops.MatMulInt8(**NOWHERE, zero_points=(4, -9), requantization=one)
    y = rng.integers(-128, 128, (2, 7, 5)).astype(np.int8)
    acc = (x.astype(np.int64) - 4) @ (y.astype(np.int64) + 9)
    expected = np.vectorize(lambda a: requantized(int(a), np.float32(0.004), -3))(acc)
    assert np.array_equal(evaluate(product_op, [x, y], (2, 3, 5)), expected)


def test_float_sums_run_from_the_first_to_the_last() -> None:
    x = np.array([[1e8, 1.0, -1e8, 1.0]], np.float32)
    total = evaluate(ops.ReduceF32(**NOWHERE, kind="sum", axes=(1,)), [x], (1, 1), "float32")
    assert total.item() == 1.0  # 1e8 + 1 is 1e8
    ones = np.ones((1, 4), np.float32)
    dense = ops.DenseF32(**NOWHERE, weight=x, bias=np.ones(1, np.float32), low=-1e9, high=1e9)
    assert evaluate(dense, [ones], (1, 1), "float32").item() == 1.0
    matmul = evaluate(ops.MatMulF32(**NOWHERE), [ones, x.T], (1, 1), "float32")
    assert matmul.item() == 1.0


def test_softmax_of_equal_values() -> None:
    table = np.exp(-0.1 * np.arange(256)).astype(np.float32)
    op = ops.SoftmaxInt8(**NOWHERE, exp_table=table, inverse_scale=256.0, zero_point=-128)
    assert evaluate(op, [np.full((1, 4), -7, np.int8)], (1, 4)).tolist() == [[-64] * 4]


@pytest.mark.parametrize(
    ("ours", "exact", "relative", "absolute"),
    [
        (mathematics.exp, np.exp, 1e-7, 0.0),
        (mathematics.sigmoid, special.expit, 1.5e-7, 0.0),
        (mathematics.tanh, np.tanh, 1.5e-7, 0.0),
        (mathematics.erf, special.erf, 2.5e-7, 0.0),
        (lambda x: mathematics.gelu(x, np.float32(0)), lambda x: x * special.ndtr(x), 0.0, 5e-7),
    ],
)
def test_mathematics(ours: Any, exact: Any, relative: float, absolute: float) -> None:
    x = np.concatenate([np.linspace(-87, 88, 400_001), np.linspace(-3, 3, 400_001)]).astype(np.float32)
    expected = exact(x.astype(np.float64))
    error = np.abs(ours(x) - expected)
    assert np.all(error <= relative * np.abs(expected) + absolute)


def test_mathematics_at_the_ends() -> None:
    inf = np.float32(np.inf)
    x = np.array([inf, -inf, np.nan, 0.0, 200.0, -200.0, 88.72283, -87.33654], np.float32)
    exp = mathematics.exp(x)
    assert exp[[0, 4]].tolist() == [inf, inf]
    assert exp[[1, 5]].tolist() == [0, 0]
    assert np.isnan(exp[2])
    assert exp[3] == 1
    assert 3.4e38 < exp[6] < inf
    assert 0 < exp[7] < 1.2e-38
    with np.errstate(all="ignore"):
        tanh, erf = mathematics.tanh(x), mathematics.erf(x)
    assert tanh[[0, 1, 3, 4]].tolist() == [1, -1, 0, 1]
    assert mathematics.sigmoid(x)[[0, 1, 3, 5]].tolist() == [1, 0, 0.5, 0]
    assert erf[[0, 1, 3, 4]].tolist() == [1, -1, 0, 1]


def test_clip_lets_nan_and_negative_zero_pass() -> None:
    x = np.array([np.nan, -0.0, -1.0], np.float32)
    op = ops.UnaryF32(**NOWHERE, kind="clip", alpha=0.0, beta=6.0)
    got = evaluate(op, [x], (3,), "float32")
    assert np.isnan(got[0])
    assert np.signbit(got[1])
    assert got[2] == 0


@pytest.mark.parametrize("kind", list(get_args(ops.UnaryKind)))
def test_every_elementwise_function_stays_in_float32(kind: ops.UnaryKind) -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    op = ops.UnaryF32(**NOWHERE, kind=kind, alpha=0.25, beta=0.5)
    assert evaluate(op, [x], (33,), "float32").dtype == np.float32


def two_step_program() -> Program:
    tensors = {name: Tensor(name, (2, 3)) for name in ("x", "y")} | {"c": Tensor("c", (1, 3))}
    addition = Addition(multipliers=(1, 1), shift=0, zero_points=(0, 0), zero_point=0)
    add = ops.AddInt8(name="add", origin=("n",), inputs=("x", "c"), output="y", addition=addition)
    port = Port("input", "x", (1, 6))
    constants = {"c": np.array([[1, 2, 3]], np.int8)}
    return Program(tensors, [add], [port], [Port("output", "y", (6,))], constants=constants)


def test_program_runs_in_port_shapes_and_reads_constants() -> None:
    x = np.arange(6, dtype=np.int8).reshape(1, 6)
    assert run_program(two_step_program(), [x])[0].tolist() == [1, 3, 5, 4, 6, 8]
    assert values(two_step_program(), [x])["y"].shape == (2, 3)


def test_inputs_that_do_not_fit_are_refused() -> None:
    program = two_step_program()
    with pytest.raises(SamplesError, match=r"Input 'input' is int8 of shape \[1, 6\], not float32 of shape"):
        run_program(program, [np.zeros((1, 6), np.float32)])
    with pytest.raises(SamplesError, match="takes 1 input, not 0"):
        run_program(program, [])


def test_operator_without_reference_is_our_bug() -> None:
    with pytest.raises(InternalError, match="operator 'op': no reference for Op"):
        evaluate_op(Op(**NOWHERE), [], Program({}, [], [], []))
