"""Support vectors: kernel values, scores of pairs of classes, votes and probabilities."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from irshrink.program.ops import (
    Float32,
    PairwiseProbabilities,
    PairwiseScores,
    PairwiseVotes,
    SupportVectors,
)
from irshrink.program.program import Program
from irshrink.program.reference import mathematics as m
from irshrink.program.reference.dispatch import Array, evaluate_op, float32, output_shape
from irshrink.program.reference.floating import ordered_sum

#: Bounds of the probability of one pair, and rounds of the fixed-point iteration at most.
PAIR_LOW, PAIR_HIGH, ROUNDS = np.float32(1e-7), np.float32(1 - 1e-7), 100


@evaluate_op.register
def _(op: SupportVectors, arrays: list[Array], program: Program) -> Array:
    x, vectors = arrays[0][:, None, :], op.vectors[None]
    if op.kind == "rbf":
        difference = x - vectors
        return m.exp(ordered_sum(difference * difference)[..., 0] * float32(-op.gamma))
    dot = ordered_sum(x * vectors)[..., 0]
    if op.kind == "linear":
        return dot
    z = dot * float32(op.gamma) + float32(op.coef0)
    if op.kind == "sigmoid":
        return m.tanh(z)
    power = z
    for _round in range(op.degree - 1):
        power = power * z
    return power


@evaluate_op.register
def _(op: PairwiseScores, arrays: list[Array], program: Program) -> Array:
    scores = []
    for pair, (i, j) in enumerate(combinations(range(op.starts.size - 1), 2)):
        of_i, of_j = (slice(op.starts[c], op.starts[c + 1]) for c in (i, j))
        terms = [
            arrays[0][:, of_i] * op.coefficients[j - 1, of_i],
            arrays[0][:, of_j] * op.coefficients[i, of_j],
        ]
        start = np.zeros((arrays[0].shape[0], 1), np.float32)
        total = ordered_sum(np.concatenate([start, *terms], axis=1))[:, 0]
        scores.append(total + op.rho[pair])
    return np.stack(scores, axis=1)


@evaluate_op.register
def _(op: PairwiseVotes, arrays: list[Array], program: Program) -> Array:
    votes = np.zeros(output_shape(op, program), np.float32)
    for pair, (i, j) in enumerate(combinations(range(votes.shape[1]), 2)):
        won = arrays[0][:, pair] > 0
        votes[won, i] += 1
        votes[~won, j] += 1
    return votes


@evaluate_op.register
def _(op: PairwiseProbabilities, arrays: list[Array], program: Program) -> Array:
    classes = output_shape(op, program)[1]
    return np.stack([_coupled(_pairs(op, row, classes)) for row in arrays[0]])


def _pairs(op: PairwiseProbabilities, scores: Float32, classes: int) -> Float32:
    """``r[i, j]``, the probability of class i against class j [C, C]; 0 on the diagonal."""
    below = m.sigmoid(-(scores * op.prob_a + op.prob_b))
    below = np.where(below > PAIR_LOW, below, PAIR_LOW)
    below = np.where(below < PAIR_HIGH, below, PAIR_HIGH)
    r = np.zeros((classes, classes), np.float32)
    for value, (i, j) in zip(below, combinations(range(classes), 2), strict=True):
        r[i, j], r[j, i] = value, np.float32(1) - value
    return r


def _coupled(r: Float32) -> Float32:
    """The fixed point: ``p`` that minimizes ``sum of (r[j, i] p[i] - r[i, j] p[j])**2``."""
    classes, one, two = r.shape[0], np.float32(1), np.float32(2)
    q = -(r.T * r)
    for i in range(classes):
        q[i, i] = ordered_sum(
            np.concatenate([[np.float32(0)], (r[:, i] * r[:, i])[np.arange(classes) != i]])
        )[0]
    p = np.full(classes, one / np.float32(classes), np.float32)
    for _round in range(ROUNDS):
        qp = ordered_sum(from_zero(q * p))[:, 0]
        pqp = ordered_sum(from_zero((p * qp)[None]))[0, 0]
        errors = np.abs(qp - pqp)
        if not (errors >= np.float32(0.005) / np.float32(classes)).any():
            break
        for i in range(classes):
            diff = (pqp - qp[i]) / q[i, i]
            scale = one + diff
            p[i] += diff
            pqp = (pqp + diff * (diff * q[i, i] + two * qp[i])) / scale / scale
            qp = (qp + diff * q[i]) / scale
            p = p / scale
    return p


def from_zero(rows: Float32) -> Float32:
    """Rows with a 0 in front, where ordered sums start."""
    return np.concatenate([np.zeros((rows.shape[0], 1), np.float32), rows], axis=1)
