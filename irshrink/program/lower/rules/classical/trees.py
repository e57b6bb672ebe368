"""TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml 1 and 3), TreeEnsemble (5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.classical import scores
from irshrink.program.lower.rules.classical.attributes import (
    AGAIN,
    class_labels,
    finite,
    floats,
    integers,
    require_length,
    rows,
    target_count,
)
from irshrink.program.lower.rules.classical.forest import Split, flatten
from irshrink.program.ops import Aggregate, Float32, TreeEnsemble
from irshrink.program.reference.dispatch import Array

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


#: What a leaf adds: weight by target.
_Leaf = dict[int, float]


@dataclass(frozen=True)
class Trees:
    """Attributes of a node.

    Attributes:
        splits: inner nodes.
        roots: numbers of splits, or leaf l as ``-1 - l``; of each tree.
        leaves: by number; equal ones may be one.
    """

    splits: list[Split]
    roots: list[int]
    leaves: list[_Leaf]

    def named(self) -> set[int]:
        """Targets that some leaf adds to."""
        return {target for leaf in self.leaves for target in leaf}

    def positive(self) -> bool:
        return all(weight >= 0 for leaf in self.leaves for weight in leaf.values())


def classifier(lowering: Lowering, node: ir.Node) -> None:
    """Scores of the classes, and the class with the largest."""
    labels = class_labels(node, "classlabels_int64s")
    transform = scores.transform_of(node)
    trees = _from_lists(node, "class", labels.size)
    base, named = finite(node, "base_values"), trees.named()
    if labels.size == 2:
        _binary(lowering, node, trees, base)
        return
    if labels.size < 2:
        raise Refusal("it has one class", "Leave the model out: its answer is known.")
    if base.size not in (0, labels.size):
        raise Refusal(f"it has {base.size} base values for {labels.size} classes", AGAIN)
    if not base.size and len(named) < labels.size:
        # runtimes do not agree whether a class without any score may win
        raise Refusal("some of its classes have no leaf and no base value", AGAIN)
    raw = _ensemble(lowering, node, trees, base if base.size else np.zeros(labels.size, np.float32), "sum")
    scores.bind_classes(lowering, node, raw, labels)
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform))


def _binary(lowering: Lowering, node: ir.Node, trees: Trees, base: Float32) -> None:
    """Two classes: one score, of the second class, or two.

    One score wins above 0.5 where all weights are positive (it is a probability), else above 0.
    """
    labels, transform = class_labels(node, "classlabels_int64s"), scores.transform_of(node)
    named, positive = trees.named(), trees.positive()
    threshold = 0.5 if positive else 0.0
    if named <= {0} and base.size <= 1:
        raw = _ensemble(lowering, node, trees, base if base.size else np.zeros(1, np.float32), "sum")
        scores.bind_classes(lowering, node, raw, labels, threshold)
        both = scores.two_columns(lowering, node, raw, transform, probability=positive)
        scores.bind_scores(lowering, node, both)
        return
    if base.size or lowering.is_read(node.outputs[0]):
        raise Refusal(
            "runtimes do not agree about its class: it has two classes with scores of their own"
            f"{' and base values' if base.size else ''}",
            "Read its scores only, or give it the scores of the second class alone, as class 0.",
        )
    raw = _ensemble(lowering, node, trees, np.zeros(2, np.float32), "sum")
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform))


def regressor(lowering: Lowering, node: ir.Node) -> None:
    """The aggregate of each target."""
    targets = target_count(node, "n_targets")
    aggregate = edit.attribute_string(node, "aggregate_function", "SUM")
    _regress(lowering, node, _from_lists(node, "target", targets), targets, aggregate)


def tree_ensemble(lowering: Lowering, node: ir.Node) -> None:
    """TreeEnsemble 5: leaves apart from nodes, members of sets, no base values."""
    number = edit.attribute_int(node, "aggregate_function", 1)
    if not 0 <= number < len(_AGGREGATES):
        raise Refusal(f"its aggregate_function is {number}", AGAIN)
    targets = target_count(node, "n_targets")
    _regress(lowering, node, _from_arrays(node, targets), targets, _AGGREGATES[number])


def _regress(lowering: Lowering, node: ir.Node, trees: Trees, targets: int, aggregate: str) -> None:
    transform = scores.transform_of(node)
    if aggregate not in _AGGREGATES:
        raise Refusal(f"it has the aggregate {aggregate}", AGAIN)
    if targets == 1 and transform not in ("NONE", "PROBIT"):
        raise Refusal(
            f"runtimes do not agree about the transform {transform} of one target",
            "Apply it by its own node.",
        )
    base = finite(node, "base_values")
    if base.size not in (0, targets):
        raise Refusal(f"it has {base.size} base values for {targets} targets", AGAIN)
    base = base if base.size else np.zeros(targets, np.float32)
    if targets > 1:  # a target that no leaf names is 0
        base = np.where(np.isin(np.arange(targets), sorted(trees.named())), base, np.float32(0))
    raw = _ensemble(lowering, node, trees, base, cast(Aggregate, aggregate.lower()))
    scores.bind_scores(lowering, node, scores.transformed(lowering, node, raw, transform), index=0)


def _ensemble(lowering: Lowering, node: ir.Node, trees: Trees, base: Float32, aggregate: Aggregate) -> str:
    source, count, features = rows(lowering, node)
    number, contents = _shared_leaves(trees.leaves, aggregate)
    splits = [
        replace(
            s,
            true=number[s.true] if s.true < 0 else s.true,
            false=number[s.false] if s.false < 0 else s.false,
        )
        for s in trees.splits
    ]
    roots = [number[root] if root < 0 else root for root in trees.roots]
    forest = flatten(splits, roots, features)
    lowering.float_note(node, "trees compare the numbers as they are")
    return lowering.emit(
        TreeEnsemble,
        node,
        [source],
        (count, base.size),
        features=forest.features,
        thresholds=forest.thresholds,
        children=forest.children,
        roots=forest.roots,
        starts=np.cumsum([0, *map(len, contents)]).astype(np.int32),
        targets=np.array([target for leaf in contents for target in leaf], np.int32),
        weights=np.array([weight for leaf in contents for weight in leaf.values()], np.float32),
        base=base.astype(np.float32),
        aggregate=aggregate,
    )


def _shared_leaves(leaves: Sequence[_Leaf], aggregate: Aggregate) -> tuple[dict[int, int], list[_Leaf]]:
    """Leaves of equal contents as one: the new number by the old one (both ``-1 - l``), and the contents.

    A weight of 0 adds nothing to a sum.
    """
    shared: dict[tuple[tuple[int, float], ...], int] = {}
    number: dict[int, int] = {}
    for old, leaf in enumerate(leaves):
        adds = aggregate in ("sum", "average")
        contents = tuple(sorted(item for item in leaf.items() if item[1] != 0 or not adds))
        number[-1 - old] = -1 - shared.setdefault(contents, len(shared))
    return number, [dict(contents) for contents in shared]


def _from_lists(node: ir.Node, what: str, targets: int) -> Trees:
    """Trees of versions 1 and 3: lists over all nodes, leaves among them, and lists over weights.

    Args:
        what: ``class`` or ``target``.
    """
    tree, number = integers(node, "nodes_treeids"), integers(node, "nodes_nodeids")
    modes = node.attributes["nodes_modes"].as_strings() if "nodes_modes" in node.attributes else ()
    columns = [integers(node, f"nodes_{name}") for name in ("featureids", "truenodeids", "falsenodeids")]
    values, missing = floats(node, "nodes_values"), integers(node, "nodes_missing_value_tracks_true")
    missing = missing if missing.size else np.zeros(tree.size, np.int64)
    lists: list[Array] = [tree, number, *columns, values, missing]
    for column in lists:
        require_length(column, len(modes), "entries of its nodes")
    place = {key: i for i, key in enumerate(zip(tree.tolist(), number.tolist(), strict=True))}
    if len(place) != len(modes) or not place:
        raise Refusal("two of its nodes have one number, or it has none", AGAIN)
    feature, true, false = (column.tolist() for column in columns)
    leaf_of = {i: at for at, i in enumerate(i for i, mode in enumerate(modes) if mode == "LEAF")}
    inner = {i: at for at, i in enumerate(i for i in range(len(modes)) if i not in leaf_of)}
    parents: set[int] = set()

    def numbered(i: int) -> int:
        return inner[i] if i in inner else -1 - leaf_of[i]

    def child(i: int, to: int) -> int:
        found = place.get((int(tree[i]), to))
        if found is None:
            raise Refusal(f"a node of its tree {tree[i]} has the child {to}, which is not there", AGAIN)
        parents.add(found)
        return numbered(found)

    splits = [
        Split(
            feature[i], modes[i], (float(values[i]),), bool(missing[i]), child(i, true[i]), child(i, false[i])
        )
        for i in inner
    ]
    _require_modes(splits)
    tops = [i for i in range(len(modes)) if i not in parents]
    if [int(tree[i]) for i in tops] != list(dict.fromkeys(tree.tolist())):
        raise Refusal("one of its trees has no root, or several", AGAIN)
    weights = _weights(node, what, place, targets)
    return Trees(splits, [numbered(i) for i in tops], [weights.get(i, {}) for i in leaf_of])


def _weights(node: ir.Node, what: str, place: dict[tuple[int, int], int], targets: int) -> dict[int, _Leaf]:
    """What each node adds, by its place in the lists; of one target named twice the sum."""
    weights = finite(node, f"{what}_weights")
    columns = [integers(node, f"{what}_{name}") for name in ("treeids", "nodeids", "ids")]
    for column in columns:
        require_length(column, weights.size, "entries of its leaves")
    found: dict[int, _Leaf] = {}
    for tree, number, target, weight in zip(*(c.tolist() for c in columns), weights, strict=True):
        at = place.get((tree, number))
        if at is None or not 0 <= target < targets:
            raise Refusal(f"a leaf weight is for node {number} of tree {tree}, target {target}", AGAIN)
        leaf = found.setdefault(at, {})
        leaf[target] = float(np.float32(leaf.get(target, 0.0)) + weight)
    return found


def _from_arrays(node: ir.Node, targets: int) -> Trees:
    """Trees of version 5: inner nodes and leaves in arrays of their own."""
    names = ("featureids", "modes", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    columns = [integers(node, f"nodes_{name}") for name in names]
    splits, missing = floats(node, "nodes_splits"), integers(node, "nodes_missing_value_tracks_true")
    missing = missing if missing.size else np.zeros(splits.size, np.int64)
    weights, target = finite(node, "leaf_weights"), integers(node, "leaf_targetids")
    for column in (*columns, missing):
        require_length(column, splits.size, "entries of its nodes")
    require_length(target, weights.size, "targets of its leaves")
    if ((target < 0) | (target >= targets)).any():
        raise Refusal(f"a leaf is of a target above {targets - 1}", AGAIN)
    feature, modes, true, true_leaf, false, false_leaf = (column.tolist() for column in columns)
    sets = _sets(floats(node, "membership_values"))

    def child(to: int, leaf: int) -> int:
        if not 0 <= to < (weights.size if leaf else splits.size):
            raise Refusal(f"a node has the child {to}, which is not there", AGAIN)
        return -1 - to if leaf else to

    found = []
    for i, split in enumerate(splits.tolist()):
        if not 0 <= modes[i] < len(_MODES):
            raise Refusal(f"the mode of a node is {modes[i]}", AGAIN)
        mode = _MODES[modes[i]]
        values = (sets.pop(0) if sets else ()) if mode == "BRANCH_MEMBER" else (split,)
        branches = child(true[i], true_leaf[i]), child(false[i], false_leaf[i])
        found.append(Split(feature[i], mode, values, bool(missing[i]), *branches))
    leaves = [{t: float(w)} for t, w in zip(target.tolist(), weights, strict=True)]
    return Trees(found, [child(root, 0) for root in integers(node, "tree_roots").tolist()], leaves)


def _sets(values: Float32) -> list[tuple[float, ...]]:
    """Members of the sets, which NaNs end."""
    ends = np.flatnonzero(np.isnan(values))
    parts = np.split(values, ends)
    return [tuple(float(v) for v in part if not np.isnan(v)) for part in parts if (~np.isnan(part)).any()]


def _require_modes(splits: Sequence[Split]) -> None:
    unknown = next((split.mode for split in splits if split.mode not in _MODES[:-1]), None)
    if unknown is not None:
        raise Refusal(f"the mode of a node is '{unknown}'", AGAIN)
