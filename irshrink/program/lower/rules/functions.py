"""The elementwise functions of ONNX: exact in float64 for tables, and their UnaryF32 for float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.numbers import Function
from irshrink.program.ops import BinaryKind, UnaryKind

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Elementwise:
    """A function in both worlds: ``exact`` in float64 for tables, ``kind`` with its parameters in float."""

    exact: Function
    kind: UnaryKind
    alpha: float = 0.0
    beta: float = 0.0


def _gelu(node: ir.Node) -> Elementwise:
    if edit.attribute_string(node, "approximate", "none") == "tanh":
        c = np.sqrt(2 / np.pi)
        return Elementwise(lambda x: 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3))), "gelu", 1.0)
    return Elementwise(lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2.0))), "gelu", 0.0)


def _hardsigmoid(node: ir.Node) -> Elementwise:
    alpha, beta = edit.attribute_float(node, "alpha", 0.2), edit.attribute_float(node, "beta", 0.5)
    return Elementwise(lambda x: np.clip(alpha * x + beta, 0.0, 1.0), "hardsigmoid", alpha, beta)


def _leakyrelu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 0.01)
    return Elementwise(lambda x: np.where(x < 0, alpha * x, x), "leakyrelu", alpha)


def _elu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 1.0)
    return Elementwise(lambda x: _exponential(x, alpha), "elu", alpha)


def _selu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 1.67326319217681884765625)
    gamma = edit.attribute_float(node, "gamma", 1.05070102214813232421875)
    return Elementwise(lambda x: gamma * _exponential(x, alpha), "selu", alpha, gamma)


def _celu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 1.0)
    return Elementwise(
        lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x), "celu", alpha
    )


def _thresholdedrelu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 1.0)
    return Elementwise(lambda x: np.where(x > alpha, x, 0.0), "thresholdedrelu", alpha)


def _shrink(node: ir.Node) -> Elementwise:
    threshold, bias = edit.attribute_float(node, "lambd", 0.5), edit.attribute_float(node, "bias", 0.0)
    return Elementwise(
        lambda x: np.where(x < -threshold, x + bias, np.where(x > threshold, x - bias, 0.0)),
        "shrink", threshold, bias,
    )  # fmt: skip


def _exponential(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _softplus(x: F64) -> F64:
    return np.logaddexp(0.0, x)


def _erf(x: F64) -> F64:
    from scipy.special import erf

    result: F64 = erf(x)
    return result


def _plain(kind: UnaryKind, exact: Function) -> Callable[[ir.Node], Elementwise]:
    return lambda node: Elementwise(exact, kind)


FUNCTIONS: dict[str, Callable[[ir.Node], Elementwise]] = {
    "Abs": _plain("abs", np.abs),
    "Acos": _plain("acos", np.arccos),
    "Acosh": _plain("acosh", np.arccosh),
    "Asin": _plain("asin", np.arcsin),
    "Asinh": _plain("asinh", np.arcsinh),
    "Atan": _plain("atan", np.arctan),
    "Atanh": _plain("atanh", np.arctanh),
    "Ceil": _plain("ceil", np.ceil),
    "Celu": _celu,
    "Cos": _plain("cos", np.cos),
    "Cosh": _plain("cosh", np.cosh),
    "Elu": _elu,
    "Erf": _plain("erf", _erf),
    "Exp": _plain("exp", np.exp),
    "Floor": _plain("floor", np.floor),
    "Gelu": _gelu,
    "HardSigmoid": _hardsigmoid,
    "HardSwish": _plain("hardswish", lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    "LeakyRelu": _leakyrelu,
    "Log": _plain("log", np.log),
    "Mish": _plain("mish", lambda x: x * np.tanh(_softplus(x))),
    "Neg": _plain("neg", np.negative),
    "Reciprocal": _plain("reciprocal", lambda x: 1.0 / x),
    "Round": _plain("round", np.rint),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _plain("sigmoid", lambda x: 1.0 / (1.0 + np.exp(-x))),
    "Sign": _plain("sign", np.sign),
    "Sin": _plain("sin", np.sin),
    "Sinh": _plain("sinh", np.sinh),
    "Softplus": _plain("softplus", _softplus),
    "Softsign": _plain("softsign", lambda x: x / (1.0 + np.abs(x))),
    "Sqrt": _plain("sqrt", np.sqrt),
    "Tan": _plain("tan", np.tan),
    "Tanh": _plain("tanh", np.tanh),
    "ThresholdedRelu": _thresholdedrelu,
}

#: Operators of two operands, NumPy broadcasting.
BINARY: dict[str, BinaryKind] = {
    "Add": "add",
    "Div": "div",
    "Max": "max",
    "Min": "min",
    "Mul": "mul",
    "PRelu": "prelu",
    "Sub": "sub",
    "Sum": "add",
}
#: The same in float64.
EXACT: dict[BinaryKind, Callable[[F64, F64], F64]] = {
    "add": np.add,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "prelu": lambda a, b: np.where(a < 0, a * b, a),
    "sub": np.subtract,
}
