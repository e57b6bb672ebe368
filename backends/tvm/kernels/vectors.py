"""Support vectors: kernel values, and from them scores and votes of pairs of classes."""

from __future__ import annotations

from functools import cache

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output
from irshrink.backends.tvm.tir import (
    Expr,
    Function,
    TirFunction,
    constant,
    f32,
    i32,
    inline,
    quotient,
    read,
    scalar,
    scalars,
    select,
    write,
)
from irshrink.program.ops import PairwiseScores, PairwiseVotes, SupportVectors
from irshrink.program.program import Program
from irshrink.target import Target

_ZERO = i32(0)
#: Vectors at a time: a feature is loaded once for all of them, and their sums do not wait for each other.
_BLOCK = 4


def select_support_vectors(op: SupportVectors, program: Program, target: Target) -> KernelCall:
    """Vectors four at a time, then the ones left over; sums are in order for each."""
    count, features = program.tensors[op.inputs[0]].shape
    vectors = op.vectors.shape[0]
    numbers: dict[str, list[Argument]] = {
        "linear": [],
        "rbf": [float(np.float32(-op.gamma))],
        "sigmoid": [float(np.float32(op.gamma)), float(np.float32(op.coef0))],
        "poly": [float(np.float32(op.gamma)), float(np.float32(op.coef0)), op.degree],
    }
    whole = vectors // _BLOCK * _BLOCK
    arguments: list[Argument] = [Input(0), Output(), Constant("vectors", np.ascontiguousarray(op.vectors))]
    arguments += [count, features, vectors, whole, *numbers[op.kind]]
    return KernelCall(_kernel_values(op.kind), tuple(arguments))


@cache
def _kernel_values(kind: str) -> TirFunction:
    extra = [] if kind == "linear" else [scalar("gamma", "float32")]
    extra += [scalar("coef0", "float32")] if kind in ("poly", "sigmoid") else []
    extra += scalars("degree") if kind == "poly" else []
    with Function(f"vectors_{kind}_f32", f"Values of the {kind} kernel against support vectors.") as f:
        x, y, v, rows, n, count, whole, *numbers = f.parameters(
            read("x", "float32"),
            write("y", "float32"),
            constant("vectors", "float32"),
            *scalars("rows", "columns", "count", "whole"),
            *extra,
        )
        sums = f.local("sums", "float32", _BLOCK)
        power = f.local("power", "float32", 1) if kind == "poly" else None

        def block(first: Expr, size: int, x_at: Expr, y_at: Expr) -> None:
            for lane in range(size):
                f.store(sums, lane, f32(-0.0))
            v_at = f.bind("v_at", first * n)
            with f.loop("k", n) as k:
                value = f.bind("value", x[x_at + k])
                for lane in range(size):
                    other = v[v_at + n * lane + k]
                    term = (value - other) * (value - other) if kind == "rbf" else value * other
                    f.store(sums, lane, sums[i32(lane)] + term)
            for lane in range(size):
                f.store(y, y_at + first + lane, _transformed(f, kind, sums[i32(lane)], numbers, power))

        with f.loop("row", rows) as row:
            x_at, y_at = f.bind("x_at", row * n), f.bind("y_at", row * count)
            with f.loop("i", quotient(whole, _BLOCK)) as i:
                block(f.bind("first", i * _BLOCK), _BLOCK, x_at, y_at)
            with f.loop("rest", count - whole) as rest:
                block(f.bind("first", whole + rest), 1, x_at, y_at)
    return f.result


def _transformed(f: Function, kind: str, total: Expr, numbers: list[Expr], power: Expr | None) -> Expr:
    if kind == "linear":
        return total
    if kind == "rbf":
        return inline("float32", "irs_math_exp", total * numbers[0])
    z = f.bind("z", total * numbers[0] + numbers[1])
    if power is None:
        return inline("float32", "irs_math_tanh", z)
    f.store(power, 0, z)
    with f.loop("again", numbers[2] - 1):
        f.store(power, 0, power[_ZERO] * z)
    return power[_ZERO]


def select_pairwise_scores(op: PairwiseScores, program: Program, target: Target) -> KernelCall:
    """Pair after pair."""
    count, vectors = program.tensors[op.inputs[0]].shape
    arguments: list[Argument] = [Input(0), Output()]
    for role, array in (("coefficients", op.coefficients), ("starts", op.starts), ("rho", op.rho)):
        arguments.append(Constant(role, np.ascontiguousarray(array)))
    return KernelCall(_pairwise_scores(), (*arguments, count, vectors, op.starts.size - 1, op.rho.size))


@cache
def _pairwise_scores() -> TirFunction:
    with Function("pairwise_scores_f32", "Scores of all pairs of classes from kernel values.") as f:
        x, y, coefficients, starts, rho, rows, vectors, classes, pairs = f.parameters(
            read("x", "float32"),
            write("y", "float32"),
            constant("coefficients", "float32"),
            constant("starts", "int32"),
            constant("rho", "float32"),
            *scalars("rows", "vectors", "classes", "pairs"),
        )
        total, pair = f.local("total", "float32", 1), f.local("pair", "int32", 1)
        with f.loop("row", rows) as row:
            x_at = f.bind("x_at", row * vectors)
            f.store(pair, 0, row * pairs)
            with f.loop("i", classes - 1) as i, f.loop("after", classes - 1 - i) as after:
                j = f.bind("j", i + after + 1)
                f.store(total, 0, f32(0.0))
                for own, line in ((i, j - 1), (j, i)):
                    first = f.bind("first", starts[own])
                    line_at = f.bind("line_at", line * vectors)
                    with f.loop("k", starts[own + 1] - first) as k:
                        product = coefficients[line_at + first + k] * x[x_at + first + k]
                        f.store(total, 0, total[_ZERO] + product)
                f.store(y, pair[_ZERO], total[_ZERO] + rho[pair[_ZERO] - row * pairs])
                f.store(pair, 0, pair[_ZERO] + 1)
    return f.result


def select_votes(op: PairwiseVotes, program: Program, target: Target) -> KernelCall:
    count, pairs = program.tensors[op.inputs[0]].shape
    classes = program.tensors[op.output].shape[1]
    return KernelCall(_votes(), (Input(0), Output(), count, pairs, classes))


@cache
def _votes() -> TirFunction:
    with Function("pairwise_votes_f32", "Pairs that each class wins.") as f:
        x, y, rows, pairs, classes = f.parameters(
            read("x", "float32"), write("y", "float32"), *scalars("rows", "pairs", "classes")
        )
        pair = f.local("pair", "int32", 1)
        with f.loop("row", rows) as row:
            y_at = f.bind("y_at", row * classes)
            f.store(pair, 0, row * pairs)
            with f.loop("k", classes) as k:
                f.store(y, y_at + k, f32(0.0))
            with f.loop("i", classes - 1) as i, f.loop("after", classes - 1 - i) as after:
                winner = f.bind("winner", y_at + select(x[pair[_ZERO]] > f32(0.0), i, i + after + 1))
                f.store(y, winner, y[winner] + f32(1.0))
                f.store(pair, 0, pair[_ZERO] + 1)
    return f.result
