"""Recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from irshrink.program.ops.base import Float32, Op
from irshrink.program.ops.stored import WeightCodes

ActivationKind = Literal[
    "sigmoid", "tanh", "relu", "hardsigmoid", "leakyrelu", "elu", "affine", "scaledtanh", "thresholdedrelu"
]  # fmt: skip

#: Gates of each cell, and how many states it carries from step to step.
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STATES = {"lstm": 2, "gru": 1, "rnn": 1}


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A function of one number; ``alpha`` and ``beta`` as ONNX has them for recurrent layers."""

    kind: ActivationKind
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RecurrentF32(Op):
    """One direction of an LSTM, GRU or RNN of H cells over T steps and N sequences, float32.

    Inputs are ``gates`` [T, N, G * H], the part of the gates that does not depend on the state (a DenseF32:
    x times the input weights, plus biases), then the initial state ``h`` [1, N, H] and, of an LSTM, ``c``.
    The output [T + S, N, H] holds h after each step at the place of the step, then the last h, then the last
    c. Gates lie in the order of ONNX: LSTM i, o, f, c; GRU z, r, h. One step, for each sequence:

    ``a = gates + sum of h[k] * recurrent[:, k]``, one product after the other; with peepholes
    ``a = a + peephole * c``; ``s(v)`` is the activation of ``clip(v, -limit, limit)``. The cell state (in s2)
    is not clipped, as in ONNX Runtime.

    - lstm: ``C = s0(f) * c + s0(i) * s1(g)``, ``h = s0(o) * s2(C)`` with the new C in the peephole of o;
      ``input_forget`` puts ``1 - s0(i)`` for ``s0(f)``.
    - gru: ``z = s0(z)``, ``r = s0(r)``, ``n = s1(gates + (sum + recurrent_bias) * r)`` with
      ``linear_before_reset``, else the sum is of ``(r * h)[k]``; ``h = (1 - z) * n + z * h``.
    - rnn: ``h = s0(a)``.

    Attributes:
        recurrent: weights [G * H, H].
        recurrent_bias: [H], of the gate h of a GRU with ``linear_before_reset``.
        peephole: [3 * H] for i, o, f, or None.
        reverse: the last step first.
        codes: of the recurrent weights.
    """

    cell: Literal["lstm", "gru", "rnn"]
    recurrent: Float32
    activations: tuple[Activation, ...]
    recurrent_bias: Float32 | None = None
    peephole: Float32 | None = None
    limit: float = inf
    reverse: bool = False
    linear_before_reset: bool = False
    input_forget: bool = False
    codes: WeightCodes | None = None
