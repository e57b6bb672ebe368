"""Probabilities of classes from the scores of their pairs (docs/classical.md)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.call import Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    TirFunction,
    constant,
    f32,
    i32,
    inline,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import PairwiseProbabilities
from irshrink.program.program import Program
from irshrink.program.reference.vectors import PAIR_HIGH, PAIR_LOW, ROUNDS
from irshrink.target import Target

_ZERO = i32(0)


def select_probabilities(op: PairwiseProbabilities, program: Program, target: Target) -> KernelCall:
    """The matrix Q and the vector Qp wait in the workspace, p in the output."""
    count, pairs = program.tensors[op.inputs[0]].shape
    classes = program.tensors[op.output].shape[1]
    constants = (
        Constant("prob_a", np.ascontiguousarray(op.prob_a)),
        Constant("prob_b", np.ascontiguousarray(op.prob_b)),
    )
    numbers = (
        float(np.float32(1) / np.float32(classes)),
        float(np.float32(0.005) / np.float32(classes)),
    )
    return KernelCall(
        _probabilities(),
        (Input(0), Output(), Workspace(), *constants, count, pairs, classes, *numbers),
        workspace_bytes=4 * classes * (classes + 1),
    )


@cache
def _probabilities() -> TirFunction:
    with Function("pairwise_probabilities_f32", "Probabilities of classes by pairwise coupling.") as f:
        x, p, q, a, b, rows, pairs, n, uniform, tolerance = f.parameters(
            read("x", "float32"),
            write("y", "float32"),
            write("q", "float32"),
            constant("prob_a", "float32"),
            constant("prob_b", "float32"),
            *scalars("rows", "pairs", "classes"),
            scalar("uniform", "float32"),
            scalar("tolerance", "float32"),
        )
        state = {name: f.local(name, "float32", 1) for name in ("total", "pqp", "worst")}
        count = {name: f.local(name, "int32", 1) for name in ("pair", "going")}
        with f.loop("row", rows) as row:
            p_at = f.bind("p_at", row * n)
            _write_pairs(f, x, row * pairs, q, (a, b), n, count["pair"])
            _write_matrix(f, q, n, state["total"])
            with f.loop("i", n) as i:
                f.store(p, p_at + i, uniform)
            f.store(count["going"], 0, i32(1))
            with f.loop("round", ROUNDS), f.when(count["going"][_ZERO] != 0):
                _write_products(f, q, (p, p_at), n, state)
                _find_worst(f, q, n, state)
                f.store(count["going"], 0, select(state["worst"][_ZERO] >= tolerance, i32(1), i32(0)))
                with f.when(count["going"][_ZERO] != 0), f.loop("i", n) as i:
                    _update(f, q, (p, p_at), n, state["pqp"], i)
    return f.result


def _write_pairs(
    f: Function, x: Buffer, x_at: Expr, q: Buffer, sigmoids: tuple[Buffer, Buffer], n: Expr, pair: Buffer
) -> None:
    """``q[i, j]``: the probability of class i against class j."""
    a, b = sigmoids
    f.store(pair, 0, i32(0))
    with f.loop("i", n - 1) as i, f.loop("after", n - 1 - i) as after:
        j = f.bind("j", i + after + 1)
        z = f.bind("z", x[x_at + pair[_ZERO]] * a[pair[_ZERO]] + b[pair[_ZERO]])
        first = inline("float32", "irs_math_sigmoid", f32(0.0) - z)
        first = inline("float32", "irs_max_f32", first, f32(float(PAIR_LOW)))
        first = f.bind("first", inline("float32", "irs_min_f32", first, f32(float(PAIR_HIGH))))
        f.store(q, i * n + j, first)
        f.store(q, j * n + i, f32(1.0) - first)
        f.store(pair, 0, pair[_ZERO] + 1)


def _write_matrix(f: Function, q: Buffer, n: Expr, total: Buffer) -> None:
    """Q from the probabilities of pairs, in their place."""
    with f.loop("i", n) as i:
        f.store(total, 0, f32(0.0))
        with f.loop("j", n) as j, f.when(j != i):
            value = f.bind("value", q[j * n + i])
            f.store(total, 0, total[_ZERO] + value * value)
        f.store(q, i * n + i, total[_ZERO])
    with f.loop("i", n - 1) as i, f.loop("after", n - 1 - i) as after:
        j = f.bind("j", i + after + 1)
        product = f.bind("product", f32(0.0) - q[j * n + i] * q[i * n + j])
        f.store(q, i * n + j, product)
        f.store(q, j * n + i, product)


def _write_products(f: Function, q: Buffer, p: tuple[Buffer, Expr], n: Expr, state: dict[str, Any]) -> None:
    """``Qp`` behind Q, and ``pQp``."""
    values, p_at = p
    f.store(state["pqp"], 0, f32(0.0))
    with f.loop("i", n) as i:
        f.store(state["total"], 0, f32(0.0))
        with f.loop("j", n) as j:
            f.store(state["total"], 0, state["total"][_ZERO] + q[i * n + j] * values[p_at + j])
        f.store(q, n * n + i, state["total"][_ZERO])
        f.store(state["pqp"], 0, state["pqp"][_ZERO] + values[p_at + i] * state["total"][_ZERO])


def _find_worst(f: Function, q: Buffer, n: Expr, state: dict[str, Any]) -> None:
    """The largest error of a class."""
    f.store(state["worst"], 0, f32(0.0))
    with f.loop("i", n) as i:
        error = inline("float32", "irs_math_abs", q[n * n + i] - state["pqp"][_ZERO])
        f.store(state["worst"], 0, inline("float32", "irs_max_f32", error, state["worst"][_ZERO]))


def _update(f: Function, q: Buffer, p: tuple[Buffer, Expr], n: Expr, pqp: Buffer, i: Expr) -> None:
    """One class moves; Qp, pQp and all p follow."""
    values, p_at = p

    def over(number: Expr, divisor: Expr) -> Expr:
        return inline("float32", "irs_math_div", number, divisor)

    own, qp = f.bind("own", q[i * n + i]), f.bind("qp", q[n * n + i])
    diff = f.bind("diff", over(pqp[_ZERO] - qp, own))
    scale = f.bind("scale", diff + f32(1.0))
    f.store(values, p_at + i, values[p_at + i] + diff)
    inner = diff * (diff * own + qp * f32(2.0))
    f.store(pqp, 0, over(over(pqp[_ZERO] + inner, scale), scale))
    with f.loop("j", n) as j:
        f.store(q, n * n + j, over(q[n * n + j] + diff * q[i * n + j], scale))
        f.store(values, p_at + j, over(values[p_at + j], scale))
