"""Errors of the elementwise functions against float64, as the documentation states them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from irshrink.program.reference import functions
from irshrink.program.reference import transcendental as t

Array = np.ndarray[Any, np.dtype[Any]]

_LINE = np.linspace(-12, 12, 200_001)
_UNIT = np.linspace(-1, 1, 200_001)
_POSITIVE = np.concatenate([np.geomspace(1e-44, 3e38, 200_001), np.linspace(0.4, 2.5, 100_001)])


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


@pytest.mark.parametrize(
    ("ours", "exact", "x", "relative", "absolute"),
    [
        (t.log, np.log, _POSITIVE, 1e-7, 0.0),
        (t.log1p, np.log1p, _POSITIVE, 2e-7, 0.0),
        (t.softplus, _softplus, _LINE, 3e-7, 0.0),
        (t.mish, lambda x: x * np.tanh(_softplus(x)), _LINE, 3e-7, 0.0),
        (t.sin, np.sin, np.concatenate([_LINE, _LINE * 680]), 0.0, 8e-8),
        (t.cos, np.cos, np.concatenate([_LINE, _LINE * 680]), 0.0, 8e-8),
        (t.tan, np.tan, _UNIT * 1.5, 3e-7, 0.0),
        (t.atan, np.arctan, np.concatenate([_LINE, _LINE * 1e5]), 3e-7, 0.0),
        (t.asin, np.arcsin, _UNIT, 3e-7, 0.0),
        (t.acos, np.arccos, _UNIT, 2e-7, 0.0),
        (t.sinh, np.sinh, _LINE * 6, 2e-7, 0.0),
        (t.cosh, np.cosh, _LINE * 6, 2e-7, 0.0),
        (t.asinh, np.arcsinh, np.concatenate([_LINE, _LINE * 1e5]), 3e-7, 0.0),
        (t.acosh, np.arccosh, 1 + np.abs(np.concatenate([_LINE, _LINE * 1e5])), 2e-7, 0.0),
        (t.atanh, np.arctanh, _UNIT * 0.999, 2e-7, 0.0),
    ],
)
def test_errors(
    ours: Callable[[Array], Array],
    exact: Callable[[Array], Array],
    x: Array,
    relative: float,
    absolute: float,
) -> None:
    single = x.astype(np.float32)
    expected = exact(single.astype(np.float64))
    with np.errstate(all="ignore"):  # branches that are not taken overflow
        error = np.abs(ours(single) - expected)
    assert np.all(error <= relative * np.abs(expected) + absolute)


def test_ends() -> None:
    x = np.array([0.0, np.inf, -1.0, np.nan], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(t.log(x), np.array([-np.inf, np.inf, np.nan, np.nan], np.float32))
        assert np.isnan(t.sin(x)[[1, 3]]).all()
        assert t.cos(x)[0] == 1
        assert t.atan(x)[1] == np.float32(np.pi / 2)
        assert np.isnan(t.asin(np.float32([1.5]))).all()


def test_powers_of_negative_numbers() -> None:
    a = np.array([-2, -2, -2, 0, 0, 3], np.float32)
    b = np.array([3, 2, 0.5, 0, 2, -1], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(functions.pow_(a, b), [-8, 4, np.nan, 1, 0, 1 / 3], rtol=1e-6)
