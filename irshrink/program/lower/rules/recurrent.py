"""LSTM, GRU and RNN: the inputs' share of the gates in a dense layer, then the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.constants import Constant
from irshrink.program.lower.fitting import require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.layer import plain_codes, weight_codes
from irshrink.program.lower.rules.movement import joined, sliced
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import Activation, ActivationKind, DenseF32, Float32, RecurrentF32
from irshrink.program.ops.recurrent import GATES, STATES

_KINDS: dict[str, tuple[ActivationKind, float, float]] = {
    "Affine": ("affine", 1.0, 0.0),
    "Elu": ("elu", 1.0, 0.0),
    "HardSigmoid": ("hardsigmoid", 0.2, 0.5),
    "LeakyRelu": ("leakyrelu", 0.01, 0.0),
    "Relu": ("relu", 0.0, 0.0),
    "ScaledTanh": ("scaledtanh", 1.0, 1.0),
    "Sigmoid": ("sigmoid", 0.0, 0.0),
    "Tanh": ("tanh", 0.0, 0.0),
    "ThresholdedRelu": ("thresholdedrelu", 1.0, 0.0),
}
#: Of these, ``activation_alpha`` and ``activation_beta`` list the parameters that the functions have.
_ALPHA = frozenset({"affine", "elu", "hardsigmoid", "leakyrelu", "scaledtanh", "thresholdedrelu"})
_BETA = frozenset({"affine", "hardsigmoid", "scaledtanh"})
_DEFAULTS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}


@dataclass(frozen=True)
class Layer:
    """Constants of all directions: input weights [D, G * H, I], recurrent weights, biases [D, 2 * G * H]."""

    weight: Constant
    recurrent: Constant
    bias: Float32
    peephole: Float32 | None

    @property
    def directions(self) -> int:
        return len(self.weight.array)

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.recurrent.array.shape[2])


def recurrent(lowering: Lowering, node: ir.Node) -> None:
    """Every direction by itself; outputs Y, Y_h and Y_c are cut out of its rows."""
    cell = node.op_type.lower()
    layer = _layer(lowering, node, cell)
    x = lowering.floating(node, 0)
    batch_first = bool(edit.attribute_int(node, "layout", 0))
    require(
        x.rank == 3 and x.shape[2] == layer.weight.array.shape[2],
        f"its input of shape {list(x.shape)} does not fit weights {list(layer.weight.array.shape)}",
    )
    if batch_first:
        x = x.transposed((1, 0, 2))
    steps, sequences, _ = x.shape
    _require_full_length(lowering, node, steps)
    lowering.float_note(node, "it has no integer form")
    rows: list[View] = []
    for direction, reverse in enumerate(_reversed(node, layer.directions)):
        gates = _gates(lowering, node, x, layer, direction)
        states = [
            _state(lowering, node, index, direction, (layer.directions, sequences, layer.size), batch_first)
            for index in (5, 6)[: STATES[cell]]
        ]
        tensor = lowering.emit(
            RecurrentF32, node, [gates, *states], (steps + STATES[cell], sequences, layer.size),
            **_fields(node, layer, direction), reverse=reverse,
        )  # fmt: skip
        rows.append(view_of(tensor, lowering.builder.shape(tensor)))
    _bind_outputs(lowering, node, rows, steps, batch_first)


def _layer(lowering: Lowering, node: ir.Node, cell: str) -> Layer:
    inputs, states = lowering.weights(node, 1, "weights"), lowering.weights(node, 2, "recurrent weights")
    weight, matrix = inputs.array, states.array
    fits = weight.ndim == matrix.ndim == 3 and matrix.shape[:2] == weight.shape[:2]
    require(
        fits and matrix.shape[2] * GATES[cell] == weight.shape[1],
        f"weights {list(weight.shape)} and {list(matrix.shape)} do not fit each other",
    )
    rows = (len(weight), weight.shape[1])
    bias = np.zeros((rows[0], 2 * rows[1]), np.float32)
    if edit.input_of(node, 3) is not None:
        bias = lowering.weights(node, 3, "biases").array
        require(bias.shape == (rows[0], 2 * rows[1]), f"its biases have the shape {list(bias.shape)}")
    peephole = None
    if edit.input_of(node, 7) is not None:
        peephole = lowering.weights(node, 7, "peepholes").array
        wanted = (rows[0], 3 * matrix.shape[2])
        require(peephole.shape == wanted, f"its peepholes have the shape {list(peephole.shape)}")
    return Layer(inputs, states, bias, peephole)


def _direction(constant: Constant, direction: int) -> Constant:
    """The matrix of one direction, its rows the gates."""
    codes = constant.codes
    if codes is not None:
        axis = {None: None, 1: 0}.get(codes.axis, 1)
        codes = replace(codes, integers=codes.integers[direction], axis=axis)
    return constant.moved(lambda array: np.ascontiguousarray(array[direction]), codes)


def _require_full_length(lowering: Lowering, node: ir.Node, steps: int) -> None:
    lengths = lowering.integers(node, 4, "lengths of sequences")
    if lengths is not None and set(lengths) != {steps}:
        raise Refusal(
            f"its sequences are shorter than {steps} steps", "Give the model inputs of the sequences' length."
        )


def _reversed(node: ir.Node, directions: int) -> Sequence[bool]:
    """Of each direction, whether its last step comes first."""
    direction = edit.attribute_string(node, "direction", "forward")
    found = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(direction)
    if found is None or len(found) != directions:
        raise Refusal(
            f"its weights are for {directions} directions", "The model is damaged; export it again."
        )
    return found


def _gates(lowering: Lowering, node: ir.Node, x: View, layer: Layer, direction: int) -> str:
    """The share of the inputs [T, N, G * H]: x times weights, plus all biases that stand outside of sums."""
    source = lowering.builder.dense(x, (0, 1, 2))
    weight, total = _direction(layer.weight, direction), layer.bias[direction]
    gates = len(weight.array)
    bias = total[:gates] + total[gates:]
    if _linear_before_reset(node):
        bias[2 * layer.size :] = total[2 * layer.size : gates]
    return lowering.emit(
        DenseF32, node, [source], (*x.shape[:2], gates), weight=weight.array, codes=weight_codes(weight),
        bias=bias + np.float32(0), low=-inf, high=inf,
    )  # fmt: skip


def _state(
    lowering: Lowering, node: ir.Node, index: int, direction: int, shape: tuple[int, ...], batch_first: bool
) -> str:
    """An initial state [1, N, H]; zeros when the node has none."""
    if edit.input_of(node, index) is None:
        return lowering.builder.constant("zeros", np.zeros((1, *shape[1:]), np.float32))
    state = lowering.floating(node, index)
    wanted = (shape[1], shape[0], shape[2]) if batch_first else shape
    require(state.shape == wanted, f"its initial state has the shape {list(state.shape)}")
    if batch_first:
        state = state.transposed((1, 0, 2))
    one = sliced(lowering, node, state, {0: (direction, direction + 1, 1)})
    return lowering.builder.dense(one, (0, 1, 2))


def _fields(node: ir.Node, layer: Layer, direction: int) -> dict[str, Any]:
    cell, linear = node.op_type.lower(), _linear_before_reset(node)
    last = layer.bias[direction][-layer.size :]
    matrix = _direction(layer.recurrent, direction)
    return {
        "cell": cell,
        "recurrent": matrix.array,
        "codes": plain_codes(matrix),
        "activations": _activations(node, cell, layer.directions, direction),
        "recurrent_bias": np.ascontiguousarray(last) if linear else None,
        "peephole": None if layer.peephole is None else np.ascontiguousarray(layer.peephole[direction]),
        "limit": edit.attribute_float(node, "clip", inf),
        "linear_before_reset": linear,
        "input_forget": bool(edit.attribute_int(node, "input_forget", 0)),
    }


def _linear_before_reset(node: ir.Node) -> bool:
    return bool(edit.attribute_int(node, "linear_before_reset", 0))


def _activations(node: ir.Node, cell: str, directions: int, direction: int) -> tuple[Activation, ...]:
    """Those of one direction; the lists of parameters name only functions that have them."""
    attribute = node.attributes.get("activations")
    names = list(attribute.as_strings()) if attribute is not None else [*_DEFAULTS[cell]] * directions
    alphas, betas = (_floats(node, name) for name in ("activation_alpha", "activation_beta"))
    found: list[Activation] = []
    for name in names:
        known = next((key for key in _KINDS if key.lower() == name.lower()), None)
        if known is None:
            raise Refusal(f"there is no kernel for its activation {name}", "Use Sigmoid, Tanh or Relu.")
        kind, alpha, beta = _KINDS[known]
        alpha = alphas.pop(0) if kind in _ALPHA and alphas else alpha
        beta = betas.pop(0) if kind in _BETA and betas else beta
        found.append(Activation(kind=kind, alpha=alpha, beta=beta))
    count = len(_DEFAULTS[cell])
    return tuple(found[direction * count : (direction + 1) * count])


def _floats(node: ir.Node, name: str) -> list[float]:
    attribute = node.attributes.get(name)
    return [] if attribute is None else list(attribute.as_floats())


def _bind_outputs(lowering: Lowering, node: ir.Node, rows: list[View], steps: int, batch_first: bool) -> None:
    """Y [T, D, N, H], then the states after the last step [D, N, H]; with ``layout`` 1 sequences first."""
    outputs = node.outputs
    if lowering.is_read(outputs[0]):
        parts = []
        for row in rows:
            part = sliced(lowering, node, row, {0: (0, steps, 1)})
            parts.append(lowering.builder.view_as(part, (steps, 1, *part.shape[1:])))
        y = parts[0] if len(parts) == 1 else joined(lowering, node, parts, 1)
        lowering.bind(outputs[0], y.transposed((2, 0, 1, 3)) if batch_first else y)
    for number, output in enumerate(outputs[1:]):
        if not lowering.is_read(output):
            continue
        place = steps + number
        parts = [sliced(lowering, node, row, {0: (place, place + 1, 1)}) for row in rows]
        state = parts[0] if len(parts) == 1 else joined(lowering, node, parts, 0)
        lowering.bind(output, state.transposed((1, 0, 2)) if batch_first else state)
