"""Tree ensembles: keys, walks from root to leaf, and what the leaves add up to."""

from __future__ import annotations

import numpy as np

from irshrink.program.ops import Float32, Int32, TreeEnsemble
from irshrink.program.program import Program
from irshrink.program.reference.dispatch import Array, evaluate_op, float32

_INT32 = np.iinfo(np.int32)


def order_keys(x: Float32, nan: int) -> Int32:
    """The int32 that orders like each float32, -0 and 0 alike; ``nan`` for a NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, bits, _INT32.min - bits)
    return np.where(np.isnan(x), nan, keys).astype(np.int32)


@evaluate_op.register
def _(op: TreeEnsemble, arrays: list[Array], program: Program) -> Array:
    x = arrays[0]
    keys = np.concatenate([order_keys(x, _INT32.max), order_keys(x, _INT32.min)], axis=1)
    leaves = _leaves(op, keys)
    scores = np.stack([_aggregated(op, leaves, target) for target in range(op.base.size)], axis=1)
    result: Array = scores + op.base
    return result


def _leaves(op: TreeEnsemble, keys: Int32) -> Int32:
    """The leaf [N, trees] that each row reaches in each tree."""
    rows = np.arange(keys.shape[0])[:, None]
    at = np.tile(op.roots, (keys.shape[0], 1))
    while (inner := at >= 0).any():
        node = np.where(inner, at, 0)
        right = keys[rows, op.features[node]] > op.thresholds[node]
        at = np.where(inner, op.children[node, right.astype(np.int32)], at)
    return -1 - at


def _aggregated(op: TreeEnsemble, leaves: Int32, target: int) -> Float32:
    """The aggregate [N] of one target's weights before the base value."""
    weights, named = np.zeros(op.starts.size - 1, np.float32), np.zeros(op.starts.size - 1, bool)
    leaf_of = np.repeat(np.arange(op.starts.size - 1), np.diff(op.starts))
    own = op.targets == target
    weights[leaf_of[own]], named[leaf_of[own]] = op.weights[own], True
    taken = weights[leaves]
    if op.aggregate in ("sum", "average"):
        # adding 0 for leaves that do not name the target changes nothing: no sum from 0 becomes -0
        zero = np.zeros((leaves.shape[0], 1), np.float32)
        total = np.add.accumulate(np.concatenate([zero, taken], axis=1), axis=1, dtype=np.float32)[:, -1]
        result: Float32 = (total / float32(op.roots.size) if op.aggregate == "average" else total).astype(
            np.float32
        )
        return result
    worst = np.float32(np.inf if op.aggregate == "min" else -np.inf)
    marked = np.where(named[leaves], taken, worst)
    extreme = marked.min(axis=1) if op.aggregate == "min" else marked.max(axis=1)
    found: Float32 = np.where(extreme == worst, np.float32(0), extreme)
    return found
