"""Trees as one kind of test: every node mode of ONNX comes down to ``key(x) <= threshold``.

A float32 comparison is one of int32 keys that order alike (``TreeEnsemble``), and there is nothing between
two neighbouring keys: ``x < t`` is ``key(x) <= key(t) - 1``. Where a NaN goes is part of the feature's
number: those of the second half take it to the first child. ``x == t`` is two tests, membership in a set
two a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.classical.attributes import AGAIN
from irshrink.program.ops import Int32
from irshrink.program.reference.trees import order_keys

LOWEST = -(2**31)

#: Mode -> (test that it is made of, whether its branches are swapped).
_INEQUALITIES = {
    "BRANCH_LEQ": (0, False),
    "BRANCH_LT": (1, False),
    "BRANCH_GT": (0, True),
    "BRANCH_GTE": (1, True),
}


@dataclass(frozen=True)
class Split:
    """An inner node as ONNX has it.

    Attributes:
        mode: ``BRANCH_LEQ``..., ``BRANCH_MEMBER`` too.
        values: the threshold, or the members of the set.
        missing: whether a NaN takes the true branch, whatever the comparison says.
        true, false: numbers of nodes at or above 0; leaf l is ``-1 - l``.
    """

    feature: int
    mode: str
    values: tuple[float, ...]
    missing: bool
    true: int
    false: int


@dataclass(frozen=True)
class Forest:
    """What a ``TreeEnsemble`` needs of its trees."""

    features: Int32
    thresholds: Int32
    children: Int32
    roots: Int32


@dataclass
class _Tests:
    """Tests so far: first child, second child, in the numbering of the result."""

    features: list[int] = field(default_factory=list)
    thresholds: list[int] = field(default_factory=list)
    children: list[list[int]] = field(default_factory=list)

    def new(self, feature: int, threshold: int) -> int:
        self.features.append(feature)
        self.thresholds.append(threshold)
        self.children.append([0, 0])
        return len(self.features) - 1


#: A place where the number of a child is still to be written: (test, which child).
_Slot = tuple[int, int]


def flatten(splits: Sequence[Split], roots: Sequence[int], features: int) -> Forest:
    """All trees as tests, each tree in depth-first order, its first child next.

    Args:
        features: number of columns of the input.

    Raises:
        Refusal: a node belongs to several parents or to none, or asks for a feature that is not there.
    """
    tests, starts, seen = _Tests(), [], set[int]()
    for root in roots:
        starts.append(len(tests.features) if root >= 0 else root)
        pending: list[tuple[int, list[_Slot]]] = [(root, [])]
        while pending:
            node, slots = pending.pop()
            if node >= 0:
                _require_fresh(node, seen, splits[node], features)
                place = len(tests.features)
                true, false = _tests_of(tests, splits[node], features)
                pending += [(splits[node].false, false), (splits[node].true, true)]
            else:
                place = node
            for test, child in slots:
                tests.children[test][child] = place
    if len(seen) < len(splits):
        raise Refusal("its nodes form no trees: some cannot be reached from a root", AGAIN)
    return Forest(
        np.array(tests.features, np.int32),
        np.array(tests.thresholds, np.int32),
        np.array(tests.children, np.int32).reshape(-1, 2),
        np.array(starts, np.int32),
    )


def _require_fresh(node: int, seen: set[int], split: Split, features: int) -> None:
    if node in seen:
        raise Refusal("its nodes form no trees: one has two parents, or is its own ancestor", AGAIN)
    seen.add(node)
    if not 0 <= split.feature < features:
        raise Refusal(f"it asks for feature {split.feature} of {features}", AGAIN)


def _tests_of(tests: _Tests, split: Split, features: int) -> tuple[list[_Slot], list[_Slot]]:
    """Append the tests of one node; the slots of its true and of its false branch."""
    values = np.array(split.values, np.float32)
    if not values.size or np.isnan(values).any():
        raise Refusal("a node compares with NaN, or with nothing", AGAIN)
    keys = sorted({int(key) for key in order_keys(values, LOWEST)})
    if split.mode in _INEQUALITIES:
        less, swapped = _INEQUALITIES[split.mode]
        nan_first = split.missing != swapped
        test = tests.new(split.feature + features * nan_first, keys[0] - less)
        return ([(test, 1)], [(test, 0)]) if swapped else ([(test, 0)], [(test, 1)])
    if split.mode == "BRANCH_NEQ":  # true for a NaN, whatever is said of missing values
        equal, other = _members(tests, split.feature, keys, 0)
        return other, equal
    return _members(tests, split.feature, keys, features * split.missing)


def _members(tests: _Tests, feature: int, keys: Sequence[int], first: int) -> tuple[list[_Slot], list[_Slot]]:
    """Slots for members and for others. Up the values: ``x <= v``? If ``x <= v - 1``, too, it is none.

    Args:
        first: added to the feature of the first test: a NaN takes it, and is a member.
    """
    members: list[_Slot] = []
    others: list[_Slot] = []
    before: int | None = None
    for number, key in enumerate(keys):
        upto = tests.new(feature + (first if number == 0 else 0), key)
        below = tests.new(feature, key - 1)
        tests.children[upto][0] = below
        others.append((below, 0))
        members.append((below, 1))
        if before is not None:
            tests.children[before][1] = upto
        before = upto
    assert before is not None, "a set has a member"
    return members, [*others, (before, 1)]
