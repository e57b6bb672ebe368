"""Recurrent layers, step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from irshrink.program.ops import Activation, ActivationKind, RecurrentF32
from irshrink.program.program import Program
from irshrink.program.reference import mathematics as m
from irshrink.program.reference.dispatch import Array, evaluate_op, float32

_FUNCTIONS: dict[ActivationKind, Callable[[Array, np.float32, np.float32], Array]] = {
    "affine": lambda x, alpha, beta: np.asarray(alpha * x + beta),
    "elu": lambda x, alpha, beta: m.elu(x, alpha),
    "hardsigmoid": m.hardsigmoid,
    "leakyrelu": lambda x, alpha, beta: np.where(x < float32(0), alpha * x, x),
    "relu": lambda x, alpha, beta: np.where(x < float32(0), float32(0), x),
    "scaledtanh": lambda x, alpha, beta: np.asarray(alpha * m.tanh(beta * x)),
    "sigmoid": lambda x, alpha, beta: m.sigmoid(x),
    "tanh": lambda x, alpha, beta: m.tanh(x),
    "thresholdedrelu": lambda x, alpha, beta: np.where(x > alpha, x, float32(0)),
}


def activate(activation: Activation, x: Array) -> Array:
    """The function of one gate."""
    return _FUNCTIONS[activation.kind](x, float32(activation.alpha), float32(activation.beta))


def accumulated(start: Array, state: Array, weights: Array) -> Array:
    """``start + sum of state[:, k] * weights[:, k]``, one product after the other; [N, rows]."""
    products = state.T[:, :, None] * weights.T[:, None, :]
    total: Array = np.add.accumulate(np.concatenate([start[None], products]), axis=0)[-1]
    return total


class _Cell:
    """The state of one layer."""

    def __init__(self, op: RecurrentF32, states: list[Array]) -> None:
        self.op = op
        self.h = states[0]
        self.c = states[-1]
        self.size = op.recurrent.shape[1]

    def activated(self, number: int, gate: Array) -> Array:
        limited = m.clip(gate, float32(-self.op.limit), float32(self.op.limit))
        return activate(self.op.activations[number], limited)

    def rows(self, gate: int) -> slice:
        return slice(gate * self.size, (gate + 1) * self.size)

    def step(self, gates: Array) -> None:
        {"lstm": self.lstm, "gru": self.gru, "rnn": self.rnn}[self.op.cell](gates)

    def lstm(self, gates: Array) -> None:
        op = self.op
        total = accumulated(gates, self.h, op.recurrent)
        i, o, f, g = (total[:, self.rows(gate)] for gate in range(4))
        if op.peephole is not None:
            i = i + op.peephole[self.rows(0)] * self.c
            f = f + op.peephole[self.rows(2)] * self.c
        i = self.activated(0, i)
        f = float32(1) - i if op.input_forget else self.activated(0, f)
        self.c = f * self.c + i * self.activated(1, g)
        if op.peephole is not None:
            o = o + op.peephole[self.rows(1)] * self.c
        self.h = self.activated(0, o) * activate(op.activations[2], self.c)

    def gru(self, gates: Array) -> None:
        op, both = self.op, slice(0, 2 * self.size)
        total = accumulated(gates[:, both], self.h, op.recurrent[both])
        z, r = (self.activated(0, total[:, self.rows(gate)]) for gate in range(2))
        weights, candidate = op.recurrent[self.rows(2)], gates[:, self.rows(2)]
        if op.linear_before_reset:
            assert op.recurrent_bias is not None
            start = np.broadcast_to(op.recurrent_bias, self.h.shape)
            candidate = candidate + accumulated(start, self.h, weights) * r
        else:
            candidate = accumulated(candidate, r * self.h, weights)
        n = self.activated(1, candidate)
        self.h = (float32(1) - z) * n + z * self.h

    def rnn(self, gates: Array) -> None:
        self.h = self.activated(0, accumulated(gates, self.h, self.op.recurrent))


@evaluate_op.register
def _(op: RecurrentF32, arrays: list[Array], program: Program) -> Array:
    gates, *states = arrays
    cell = _Cell(op, [state[0] for state in states])
    rows = np.empty(program.tensors[op.output].shape, np.float32)
    steps = range(len(gates))
    for t in reversed(steps) if op.reverse else steps:
        cell.step(gates[t])
        rows[t] = cell.h
    rows[len(gates)] = cell.h
    if op.cell == "lstm":
        rows[len(gates) + 1] = cell.c
    return rows
