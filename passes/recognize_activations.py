"""Activations that exporters write out in parts become one node again.

    HardSigmoid(x) = clip(x / 6 + 1/2, 0, 1)  = clip(x + 3, 0, 6) / 6
    HardSwish(x)   = x * HardSigmoid(x)                                 Howard et al. 2019, section 5.2
    Gelu(x)        = x/2 (1 + erf(x / sqrt 2))                          Hendrycks and Gimpel 2016
                   ~ x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))      approximate="tanh"

x * Sigmoid(x) stays: ONNX has no operator for it before opset 24.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from irshrink.graph.edit import Refusal, become, opset, rewrite_each
from irshrink.graph.patterns import Pattern, match, remove_dead
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_SIXTH = 1.0 / 6.0
_ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True)
class RecognizeActivations:
    """Recognize HardSigmoid, HardSwish and Gelu."""

    name: ClassVar[str] = "recognize-activations"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        present = {node.op_type for node in module.graph}
        stats: dict[str, int] = {}
        for activation in _ACTIVATIONS:
            if not activation.needs <= present:
                continue  # spares the matcher, and its import
            count = rewrite_each(module.graph, ctx, {"Mul", "Div"}, _rule(activation, module))
            if count:
                stats[activation.op_type] = stats.get(activation.op_type, 0) + count
                present.add(activation.op_type)
        return PassResult(bool(stats), stats=stats)


@dataclass(frozen=True)
class _Activation:
    op_type: str
    since: int
    needs: frozenset[str]
    patterns: tuple[Pattern, ...]
    attributes: dict[str, Any]


def _rule(activation: _Activation, module: Module) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        for pattern in activation.patterns:
            found = match(pattern, module, node)
            if found is None or found["x"].dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                continue
            if opset(module.graph) < activation.since:
                raise Refusal(
                    f"this is {activation.op_type}, which needs opset {activation.since} and the model has "
                    f"{opset(module.graph)}; run raise-opset first"
                )
            inputs = tuple(node.inputs)
            become(node, activation.op_type, [found["x"]], activation.attributes)
            remove_dead(inputs)
            return True
        return False

    return rule


def _hard_swish_divided_last(op: Any, x: Any) -> Any:
    return (x * op.Clip(x + 3.0, 0.0, 6.0)) / 6.0


def _hard_swish_scaled_last(op: Any, x: Any) -> Any:
    return (x * op.Clip(x + 3.0, 0.0, 6.0)) * _SIXTH


def _hard_swish_of_hard_sigmoid(op: Any, x: Any) -> Any:
    return x * op.HardSigmoid(x, alpha=_SIXTH, beta=0.5)


def _hard_sigmoid_divided(op: Any, x: Any) -> Any:
    return op.Clip(x + 3.0, 0.0, 6.0) / 6.0


def _hard_sigmoid_scaled(op: Any, x: Any) -> Any:
    return op.Clip(x + 3.0, 0.0, 6.0) * _SIXTH


def _erf(op: Any, x: Any) -> Any:
    return op.Erf(x / math.sqrt(2.0)) + 1.0


def _erf_scaled(op: Any, x: Any) -> Any:
    return op.Erf(x * math.sqrt(0.5)) + 1.0


def _tanh(op: Any, x: Any) -> Any:
    return op.Tanh((x + op.Pow(x, 3.0) * 0.044715) * _ROOT_2_OVER_PI) + 1.0


def _tanh_of_products(op: Any, x: Any) -> Any:
    return op.Tanh((x + x * x * x * 0.044715) * _ROOT_2_OVER_PI) + 1.0


def _halved(gate: Pattern) -> tuple[Pattern, ...]:
    """The three places where exporters put the factor of one half."""

    def last(op: Any, x: Any) -> Any:
        return (x * gate(op, x)) * 0.5

    def first(op: Any, x: Any) -> Any:
        return (x * 0.5) * gate(op, x)

    def on_gate(op: Any, x: Any) -> Any:
        return x * (gate(op, x) * 0.5)

    return last, first, on_gate


_SIXTH_AND_HALF = {"alpha": _SIXTH, "beta": 0.5}

#: In this order: HardSwish with the division last would otherwise lose its Clip to HardSigmoid.
_ACTIVATIONS = (
    _Activation(
        "HardSwish", 14, frozenset({"Clip"}), (_hard_swish_divided_last, _hard_swish_scaled_last), {}
    ),
    _Activation(
        "HardSigmoid", 6, frozenset({"Clip"}), (_hard_sigmoid_divided, _hard_sigmoid_scaled), _SIXTH_AND_HALF
    ),
    _Activation("HardSwish", 14, frozenset({"HardSigmoid"}), (_hard_swish_of_hard_sigmoid,), {}),
    _Activation("Gelu", 20, frozenset({"Erf"}), (*_halved(_erf), *_halved(_erf_scaled)), {}),
    _Activation(
        "Gelu",
        20,
        frozenset({"Tanh"}),
        (*_halved(_tanh), *_halved(_tanh_of_products)),
        {"approximate": "tanh"},
    ),
)
