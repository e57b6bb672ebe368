"""The elementwise functions of UnaryF32 by their names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irshrink.program.ops import Float32, UnaryKind
from irshrink.program.reference import mathematics as m
from irshrink.program.reference import transcendental as t
from irshrink.program.reference.mathematics import F

Function = Callable[[Float32, np.float32, np.float32], Float32]


def selu(x: Float32, alpha: np.float32, gamma: np.float32) -> Float32:
    """``gamma * (alpha * (exp(x) - 1))`` where x < 0, else ``gamma * x``."""
    return np.asarray(gamma * m.elu(x, alpha))


def celu(x: Float32, alpha: np.float32) -> Float32:
    """``alpha * (exp(x / alpha) - 1)`` where x < 0, else x."""
    return np.asarray(np.where(x < F(0), alpha * (m.exp(np.asarray(x / alpha)) - F(1)), x))


def shrink(x: Float32, threshold: np.float32, bias: np.float32) -> Float32:
    """``x + bias`` below ``-threshold``, ``x - bias`` above ``threshold``, else 0."""
    return np.asarray(np.where(x < -threshold, x + bias, np.where(x > threshold, x - bias, F(0))))


def sign(x: Float32) -> Float32:
    """1, -1, or 0 (of NaN, too)."""
    return np.asarray(np.where(x > F(0), F(1), np.where(x < F(0), F(-1), F(0))))


def power(x: Float32, exponent: np.float32) -> Float32:
    """``exp(exponent * log(x))``: NaN below 0."""
    return m.exp(exponent * t.log(x))


def pow_(a: Float32, b: Float32) -> Float32:
    """``exp(b * log(|a|))`` with the sign of ``a ** b``; 1 where b is 0."""
    magnitude = m.exp(b * t.log(np.abs(a)))
    whole, odd = np.trunc(b) == b, np.trunc(b * F(0.5)) * F(2) != b
    negative = np.where(whole, np.where(odd, -magnitude, magnitude), F(np.nan))
    return np.where(b == 0, F(1), np.where(a < 0, negative, magnitude))


def _plain(function: Callable[[Float32], Float32]) -> Function:
    return lambda x, a, b: function(x)


_UNARY: dict[UnaryKind, Function] = {
    "clip": m.clip,
    "sigmoid": _plain(m.sigmoid),
    "tanh": _plain(m.tanh),
    "exp": _plain(m.exp),
    "erf": _plain(m.erf),
    "gelu": lambda x, a, b: m.gelu(x, a),
    "hardswish": lambda x, a, b: x * m.hardsigmoid(x, F(1 / 6), F(0.5)),
    "hardsigmoid": m.hardsigmoid,
    "leakyrelu": lambda x, a, b: np.where(x < F(0), a * x, x),
    "elu": lambda x, a, b: m.elu(x, a),
    "sqrt": _plain(np.sqrt),
    "neg": _plain(np.negative),
    "abs": _plain(np.abs),
    "reciprocal": lambda x, a, b: F(1) / x,
    "floor": _plain(np.floor),
    "ceil": _plain(np.ceil),
    "round": _plain(np.rint),
    "sign": _plain(sign),
    "selu": selu,
    "celu": lambda x, a, b: celu(x, a),
    "thresholdedrelu": lambda x, a, b: np.where(x > a, x, F(0)),
    "shrink": shrink,
    "softsign": lambda x, a, b: x / (F(1) + np.abs(x)),
    "softplus": _plain(t.softplus),
    "mish": _plain(t.mish),
    "log": _plain(t.log),
    "power": lambda x, a, b: power(x, a),
    "sin": _plain(t.sin),
    "cos": _plain(t.cos),
    "tan": _plain(t.tan),
    "asin": _plain(t.asin),
    "acos": _plain(t.acos),
    "atan": _plain(t.atan),
    "sinh": _plain(t.sinh),
    "cosh": _plain(t.cosh),
    "asinh": _plain(t.asinh),
    "acosh": _plain(t.acosh),
    "atanh": _plain(t.atanh),
}


def unary(kind: UnaryKind, x: Float32, alpha: np.float32, beta: np.float32) -> Float32:
    """The elementwise function ``kind``, with the parameters that it takes."""
    return _UNARY[kind](x, alpha, beta)
