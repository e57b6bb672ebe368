"""Random tree ensembles as ONNX nodes, and what they compute node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Pick = Callable[[Sequence[Any]], Any]
Float32 = NDArray[np.float32]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
#: Thresholds and features come from here, so that ties are frequent.
NUMBERS = (-np.inf, -2.0, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.1, 1.0, 1.0000001, 2.0, 3.0, np.inf)


@dataclass
class Node:
    """An inner node or, with weights, a leaf."""

    feature: int = 0
    mode: str = "LEAF"
    values: tuple[float, ...] = (0.0,)
    missing: bool = False
    true: Node | None = None
    false: Node | None = None
    weights: dict[int, float] = field(default_factory=dict)


def random_tree(pick: Pick, features: int, targets: Sequence[int], modes: Sequence[str], depth: int) -> Node:
    """A tree of at most ``depth``.

    Args:
        pick: chooses one of a sequence.
        targets: what a leaf may add to; each leaf names one to all of them.
    """
    if depth == 0 or pick([True, False, False]):
        named = targets[: pick(range(1, len(targets) + 1))]
        return Node(weights={t: float(np.float32(pick([-1.5, -0.1, 0.0, 0.3, 0.7, 2.0]))) for t in named})
    mode = pick(modes)
    count = pick([1, 2, 3]) if mode == "BRANCH_MEMBER" else 1
    values = tuple(float(np.float32(pick(NUMBERS))) for _ in range(count))
    children = [random_tree(pick, features, targets, modes, depth - 1) for _ in range(2)]
    return Node(pick(range(features)), mode, values, pick([True, False]), children[0], children[1])


def leaf_of(node: Node, row: Float32) -> Node:
    """The leaf that a row of features reaches."""
    while node.true is not None and node.false is not None:
        x = row[node.feature]
        values = np.array(node.values, np.float32)
        holds = {
            "BRANCH_LEQ": x <= values[0],
            "BRANCH_LT": x < values[0],
            "BRANCH_GTE": x >= values[0],
            "BRANCH_GT": x > values[0],
            "BRANCH_EQ": x == values[0],
            "BRANCH_NEQ": x != values[0],
            "BRANCH_MEMBER": bool((values == x).any()),
        }[node.mode]
        node = node.true if holds or (node.missing and np.isnan(x)) else node.false
    return node


def aggregated(trees: Sequence[Node], row: Float32, targets: int, aggregate: str) -> Float32:
    """The aggregate of each target, float32, tree after tree."""
    found: list[list[np.float32]] = [[] for _ in range(targets)]
    for tree in trees:
        for target, number in leaf_of(tree, row).weights.items():
            found[target].append(np.float32(number))
    if aggregate in ("MIN", "MAX"):
        choose = min if aggregate == "MIN" else max
        return np.array([choose(weights, default=0.0) for weights in found], np.float32)
    total = np.zeros(targets, np.float32)
    for target, weights in enumerate(found):
        for weight in weights:
            total[target] += weight
    result: Float32 = total / np.float32(len(trees)) if aggregate == "AVERAGE" else total
    return result


def listed(trees: Sequence[Node], what: str) -> dict[str, Any]:
    """Attributes of TreeEnsembleClassifier (``class``) and TreeEnsembleRegressor (``target``)."""
    columns: dict[str, list[Any]] = {}

    def put(name: str, value: Any) -> None:
        columns.setdefault(name, []).append(value)

    for tree, root in enumerate(trees):
        nodes = _in_order(root)
        number = {id(node): i for i, node in enumerate(nodes)}
        for i, node in enumerate(nodes):
            put("nodes_treeids", tree)
            put("nodes_nodeids", i)
            put("nodes_featureids", node.feature)
            put("nodes_modes", node.mode)
            put("nodes_values", node.values[0])
            put("nodes_missing_value_tracks_true", int(node.missing))
            put("nodes_truenodeids", number.get(id(node.true), 0))
            put("nodes_falsenodeids", number.get(id(node.false), 0))
            for target, weight in node.weights.items():
                put(f"{what}_treeids", tree)
                put(f"{what}_nodeids", i)
                put(f"{what}_ids", target)
                put(f"{what}_weights", weight)
    return columns


def arrays(trees: Sequence[Node]) -> dict[str, Any]:
    """Attributes of TreeEnsemble (version 5); every leaf names one target, a root is no leaf."""
    nodes = [node for tree in trees for node in _in_order(tree)]
    inner = {id(n): i for i, n in enumerate(n for n in nodes if n.true is not None)}
    leaves = {id(n): i for i, n in enumerate(n for n in nodes if n.true is None)}
    splits = [n for n in nodes if n.true is not None]
    ends = [next(iter(n.weights.items())) for n in nodes if n.true is None]
    members = [v for n in splits if n.mode == "BRANCH_MEMBER" for v in (*n.values, np.nan)]

    def branch(name: str) -> dict[str, list[int]]:
        children = [getattr(n, name) for n in splits]
        places = [inner[id(c)] if id(c) in inner else leaves[id(c)] for c in children]
        return {
            f"nodes_{name}nodeids": places,
            f"nodes_{name}leafs": [int(id(c) in leaves) for c in children],
        }

    return {
        "nodes_featureids": [n.feature for n in splits],
        "nodes_modes": _tensor(np.array([MODES.index(n.mode) for n in splits], np.uint8)),
        "nodes_splits": _tensor(np.array([n.values[0] for n in splits], np.float32)),
        "nodes_missing_value_tracks_true": [int(n.missing) for n in splits],
        **branch("true"),
        **branch("false"),
        **({"membership_values": _tensor(np.array(members, np.float32))} if members else {}),
        "tree_roots": [inner[id(tree)] for tree in trees],
        "leaf_targetids": [target for target, _ in ends],
        "leaf_weights": _tensor(np.array([weight for _, weight in ends], np.float32)),
    }


def ml_model(op_type: str, features: int, outputs: dict[str, int], rows: int = 1, **attributes: Any) -> Any:
    """A model of one node of ``ai.onnx.ml`` on float32 [rows, features].

    Args:
        outputs: element type by name.
    """
    return ml_graph(
        [helper.make_node(op_type, ["x"], list(outputs), op_type.lower(), domain="ai.onnx.ml", **attributes)],
        {"x": (TensorProto.FLOAT, (rows, features))},
        outputs,
    )


def ml_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, tuple[int, ...]]],
    outputs: dict[str, int],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A model of nodes of both domains."""
    graph = helper.make_graph(
        nodes,
        "classical",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        constants,
    )
    version = max({"TreeEnsemble": 5, "LabelEncoder": 4}.get(node.op_type, 3) for node in nodes)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _in_order(root: Node) -> list[Node]:
    """Depth first, the true branch before the false one."""
    found, pending = [], [root]
    while pending:
        node = pending.pop()
        found.append(node)
        pending += [child for child in (node.false, node.true) if child is not None]
    return found


def _tensor(array: NDArray[Any]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(array)
