"""Kernels of classical operators against the NumPy reference: the same bits on every core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irshrink.backends.tvm.backend import TvmBackend
from irshrink.backends.tvm.kernels import kernel_for
from irshrink.backends.tvm.printer import print_function
from irshrink.program import ops
from irshrink.target import load_target
from irshrink.testing.kernels import EXTREMES, KernelBench

TARGETS = ("host", "cortex-m3", "cortex-m4")


def forest(b: KernelBench, features: int, targets: int, trees: int, depth: int, each: int) -> dict[str, Any]:
    """Complete random trees; every leaf adds to ``each`` targets, the tree's own where it is one."""
    inner = 2**depth - 1
    nodes, leaves = trees * inner, trees * (inner + 1)
    children = np.zeros((nodes, 2), np.int32)
    for node in range(nodes):
        tree, place = divmod(node, inner)
        for side in (0, 1):
            child = 2 * place + 1 + side
            children[node, side] = (
                tree * inner + child if child < inner else -1 - (tree * (inner + 1) + child - inner)
            )
    own = np.repeat(np.arange(trees) % targets, inner + 1)
    targets_of = own if each == 1 else np.tile(np.arange(each), leaves)
    return {
        "features": b.rng.integers(0, 2 * features, nodes).astype(np.int32),
        "thresholds": b.rng.integers(-(2**31), 2**31, nodes).astype(np.int32),
        "children": children,
        "roots": (np.arange(trees) * inner).astype(np.int32),
        "starts": (np.arange(leaves + 1) * each).astype(np.int32),
        "targets": targets_of.astype(np.int32),
        "weights": b.f32(leaves * each),
        "base": b.f32(targets),
    }


def trees(b: KernelBench) -> None:
    """Own targets and several a leaf, narrow and wide arrays, all aggregates, NaN and signed zeros."""
    x = np.concatenate([EXTREMES, -EXTREMES])[:48].reshape(6, 8)
    for aggregate in ("sum", "average", "min", "max"):
        for each in (1, 3):
            fields = forest(b, 8, 3, 7, 3, each)
            b.add(ops.TreeEnsemble, x, shape=(6, 3), dtype="float32", aggregate=aggregate, **fields)
    wide = forest(b, 300, 1, 2, 4, 1)
    wide["thresholds"] = np.resize(wide["thresholds"][:5], wide["thresholds"].size)  # numbered
    b.add(ops.TreeEnsemble, b.f32(2, 300), shape=(2, 1), dtype="float32", aggregate="sum", **wide)
    many = forest(b, 4, 2, 2100, 3, 1)  # more leaves than int16 holds below 0
    many["children"][many["children"] < 0] -= 30000
    shift = np.zeros(30000, np.int32)
    many["starts"] = np.concatenate([shift, many["starts"]])
    b.add(ops.TreeEnsemble, b.f32(1, 4), shape=(1, 2), dtype="float32", aggregate="sum", **many)
    leaf = {**forest(b, 4, 1, 1, 1, 1), "roots": np.array([0, -1, -2], np.int32)}  # trees of one leaf
    b.add(ops.TreeEnsemble, b.f32(2, 4), shape=(2, 1), dtype="float32", aggregate="average", **leaf)


def vectors(b: KernelBench) -> None:
    """Whole blocks of vectors and ones left over; three classes with their votes and probabilities."""
    for kind, count in (("linear", 1), ("poly", 9), ("rbf", 6), ("sigmoid", 4)):
        b.add(
            ops.SupportVectors, b.f32(2, 5), shape=(2, count), dtype="float32", kind=kind,
            vectors=b.f32(count, 5), gamma=0.25, coef0=-0.5, degree=3,
        )  # fmt: skip
    starts = np.array([0, 2, 5, 6, 6], np.int32)
    b.add(
        ops.PairwiseScores, b.f32(3, 6), shape=(3, 6), dtype="float32", coefficients=b.f32(3, 6),
        starts=starts, rho=b.f32(6),
    )  # fmt: skip
    scores = b.f32(8, 6)
    scores[0], scores[1, 2], scores[2] = np.nan, np.nan, 90.0
    b.add(ops.PairwiseVotes, scores, shape=(8, 4), dtype="float32")
    sigmoids = {"prob_a": -np.abs(b.f32(6)), "prob_b": b.f32(6)}
    b.add(ops.PairwiseProbabilities, scores, shape=(8, 4), dtype="float32", **sigmoids)
    b.add(
        ops.PairwiseProbabilities,
        b.f32(2, 1),
        shape=(2, 2),
        dtype="float32",
        prob_a=b.f32(1),
        prob_b=b.f32(1),
    )


def around(b: KernelBench) -> None:
    """Classes, norms, softmax without zeros, imputed values, look-ups; with NaN, infinities and zeros."""
    x = np.concatenate([EXTREMES, b.f32(35)])[:54].reshape(9, 6)
    labels = np.array([5, -3, 2, 900, 4, 7], np.int32)
    b.add(ops.ChooseClass, x, shape=(9,), dtype="int32", labels=labels)
    b.add(
        ops.ChooseClass,
        EXTREMES[:, None],
        shape=(EXTREMES.size,),
        dtype="int32",
        labels=labels[:2],
        threshold=0.5,
    )
    zeros = np.zeros((2, 6), np.float32)
    for norm in ("max", "l1", "l2"):
        for rows in (x, zeros, b.f32(4, 6)):
            b.add(ops.NormalizeF32, rows, shape=rows.shape, dtype="float32", norm=norm)
    sparse = np.where(b.rng.random((4, 6)) < 0.5, b.f32(4, 6), np.float32(0))
    sparse[3] = [0.5, 0, 1e-8, -1e-8, 0.25, -0.5]
    b.add(ops.SoftmaxZeroF32, sparse, shape=(4, 6), dtype="float32")
    for replaced in (np.nan, 0.25):
        b.add(ops.Impute, x, shape=x.shape, dtype="float32", values=b.f32(6), replaced=replaced)
    whole = b.rng.integers(-5, 6, (3, 6)).astype(np.int32)
    b.add(ops.Impute, whole, shape=(3, 6), dtype="int32", values=labels, replaced=3)
    b.add(
        ops.Lookup, whole, shape=(3, 6), dtype="float32", keys=np.arange(-2, 2).astype(np.int32),
        values=b.f32(4), default=0.5,
    )  # fmt: skip
    keys = np.array([-4, 0, 5], np.int32)
    b.add(ops.Lookup, whole, shape=(3, 6), dtype="int32", keys=keys, values=labels[:3], default=-1)
    real = np.array([-1.0, 0.0, 0.25, np.nan], np.float32)
    b.add(ops.Lookup, x, shape=x.shape, dtype="int32", keys=real, values=labels[:4], default=-1)
    b.add(ops.Lookup, x, shape=x.shape, dtype="float32", keys=real[:3], values=b.f32(3), default=9.0)
    b.add(ops.OneHot, whole, shape=(3, 6, 3), dtype="float32", categories=keys)


FAMILIES = (trees, vectors, around)


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_equal_the_reference(target: str, tmp_path: Path) -> None:
    bench = KernelBench()
    for family in FAMILIES:
        family(bench)
    bench.check(TvmBackend(), load_target(target), tmp_path)


def test_equal_names_mean_equal_functions() -> None:
    texts: dict[str, str] = {}
    bench = KernelBench()
    for family in FAMILIES:
        family(bench)
    for op in bench.program.ops:
        function = kernel_for(op, bench.program, load_target("cortex-m4")).function
        text = print_function(function)
        assert texts.setdefault(function.name, text) == text
    assert {"trees_sum_u8_x_s16_x_u8_nan", "trees_max_u8_x_s16_u8_u8_nan"} <= texts.keys()
