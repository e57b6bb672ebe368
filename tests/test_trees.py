"""Tree ensembles against a naive evaluator and against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from irshrink import onnxrt
from irshrink.errors import UnsupportedModelError
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.program.lower import lower
from irshrink.program.reference import run_program
from irshrink.testing.trees import (
    AGGREGATES,
    MODES,
    NUMBERS,
    Node,
    aggregated,
    arrays,
    leaf_of,
    listed,
    ml_model,
    random_tree,
)

FEATURES = 3
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def ours(proto: Any, *inputs: Any) -> list[Any]:
    model = ir.from_proto(proto)
    infer_shapes(model)
    return run_program(lower(Module(model)), list(inputs))


def theirs(proto: Any, x: Any) -> list[Any]:
    return list(onnxrt.run(onnxrt.session(proto), {"x": x}).values())


def rows(pick: Any, count: int = 6) -> Any:
    values = [[pick([*NUMBERS, np.nan]) for _ in range(FEATURES)] for _ in range(count)]
    return np.array(values, np.float32)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_regressors_of_all_modes(data: st.DataObject) -> None:
    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(list(options)))

    targets, aggregate = pick([1, 1, 2, 3]), pick(AGGREGATES)
    trees = [random_tree(pick, FEATURES, range(targets), MODES[:-1], 4) for _ in range(pick([1, 3]))]
    x = rows(pick)
    proto = ml_model(
        "TreeEnsembleRegressor", FEATURES, {"y": FLOAT}, len(x), n_targets=targets,
        aggregate_function=aggregate, **listed(trees, "target"),
    )  # fmt: skip
    (y,) = ours(proto, x)
    naive = np.stack([aggregated(trees, row, targets, aggregate) for row in x])
    np.testing.assert_array_equal(y.reshape(naive.shape), naive)
    close(y.reshape(naive.shape), theirs(proto, x)[0].reshape(naive.shape))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data())
def test_version_5_with_sets(data: st.DataObject) -> None:
    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(list(options)))

    def tree() -> Node:
        branches = [random_tree(pick, FEATURES, [pick([0, 1])], MODES, 3) for _ in range(2)]
        members = tuple(sorted({float(np.float32(pick(NUMBERS[2:-1]))) for _ in range(3)}))
        return Node(pick(range(FEATURES)), "BRANCH_MEMBER", members, pick([True, False]), *branches)

    trees, number = [tree() for _ in range(2)], pick(range(4))
    x = rows(pick)
    proto = ml_model(
        "TreeEnsemble", FEATURES, {"y": FLOAT}, len(x), n_targets=2, aggregate_function=number,
        post_transform=0, **arrays(trees),
    )  # fmt: skip
    naive = np.stack([aggregated(trees, row, 2, AGGREGATES[number]) for row in x])
    np.testing.assert_array_equal(ours(proto, x)[0], naive)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data())
def test_classifiers_and_their_transforms(data: st.DataObject) -> None:
    """Every class has a leaf or a base value. Two classes: one score, of the second."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(list(options)))

    classes = pick([2, 3, 4])
    transform = pick(TRANSFORMS[: 5 if classes > 2 else 2])
    base = pick([[], [0.25] * classes] if classes > 2 else [[], [0.25]])
    each = [[t] for t in range(classes)] if classes > 2 else [[0]]
    trees = [random_tree(pick, FEATURES, t, MODES[:-1], 3) for t in each for _ in range(2)]
    x = rows(pick)
    attributes = {**listed(trees, "class"), **({"base_values": base} if base else {})}
    proto = ml_model(
        "TreeEnsembleClassifier", FEATURES, {"label": INT64, "scores": FLOAT}, len(x),
        classlabels_int64s=[7, 3, 20, 5][:classes], post_transform=transform, **attributes,
    )  # fmt: skip
    (label, scores), (wanted_label, wanted) = ours(proto, x), theirs(proto, x)
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, wanted_label)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_several_targets(transform: str) -> None:
    tree = Node(
        0, "BRANCH_LEQ", (0.5,), False, Node(weights={0: 0.3, 1: 0.6}), Node(weights={0: 0.2, 1: 0.9})
    )
    proto = ml_model(
        "TreeEnsembleRegressor", 1, {"y": FLOAT}, 3, n_targets=3, post_transform=transform,
        base_values=[0.01, 0.02, 0.03], **listed([tree], "target"),
    )  # fmt: skip
    x = np.array([[0.0], [1.0], [np.nan]], np.float32)
    np.testing.assert_allclose(ours(proto, x)[0], theirs(proto, x)[0], rtol=1e-5)


def test_neighbours_of_a_threshold_part() -> None:
    """The next float on either side of every threshold takes its own branch."""
    for threshold in (0.1, -0.1, 0.0, 1e-45, 3e38):
        t = np.float32(threshold)
        x = np.array([[np.nextafter(t, np.float32(-np.inf))], [t], [np.nextafter(t, np.float32(np.inf))]])
        for mode in MODES[:-1]:
            tree = Node(0, mode, (float(t),), False, Node(weights={0: 1.0}), Node(weights={0: 2.0}))
            proto = ml_model(
                "TreeEnsembleRegressor", 1, {"y": FLOAT}, 3, n_targets=1, **listed([tree], "target")
            )
            wanted = [[leaf_of(tree, row).weights[0]] for row in x]
            np.testing.assert_array_equal(ours(proto, x)[0], np.array(wanted, np.float32), err_msg=mode)


def test_depth_is_no_recursion() -> None:
    deep = Node(weights={0: 1.0})
    for i in range(3000):
        deep = Node(0, "BRANCH_LEQ", (float(i),), False, Node(weights={0: 2.0}), deep)
    proto = ml_model("TreeEnsembleRegressor", 1, {"y": FLOAT}, 1, n_targets=1, **listed([deep], "target"))
    assert ours(proto, np.array([[5000.0]], np.float32))[0] == 1
    assert ours(proto, np.array([[-1.0]], np.float32))[0] == 2


STUMP = Node(0, "BRANCH_LEQ", (0.5,), False, Node(weights={0: 0.3}), Node(weights={0: 0.7}))

REFUSED = [
    ({"nodes_featureids": [3, 0, 0]}, "it asks for feature 3 of 1"),
    ({"nodes_truenodeids": [0, 0, 0]}, "some cannot be reached from a root"),
    ({"nodes_truenodeids": [9, 0, 0]}, "has the child 9, which is not there"),
    ({"nodes_falsenodeids": [1, 0, 0], "nodes_truenodeids": [1, 0, 0]}, "no root, or several"),
    ({"nodes_modes": ["BRANCH_SAME", "LEAF", "LEAF"]}, "the mode of a node is 'BRANCH_SAME'"),
    ({"nodes_values": [float("nan"), 0.0, 0.0]}, "a node compares with NaN"),
    ({"nodes_values": [0.0]}, "1 entries of its nodes where 3 are needed"),
    ({"nodes_nodeids": [0, 1, 1]}, "two of its nodes have one number"),
    ({"target_ids": [0, 4]}, "a leaf weight is for node 2 of tree 0, target 4"),
    ({"target_weights": [0.0, float("inf")]}, "hold NaN or infinity"),
    ({"base_values": [1.0, 2.0]}, "2 base values for 1 targets"),
    ({"post_transform": "SOFTMAX"}, "runtimes do not agree about the transform SOFTMAX of one target"),
    ({"aggregate_function": "MEDIAN"}, "the aggregate MEDIAN"),
    ({"n_targets": 2**17}, "it has 131072 targets"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_broken_trees_are_refused(changes: dict[str, Any], reason: str) -> None:
    attributes = {"n_targets": 1, **listed([STUMP], "target"), **changes}
    proto = ml_model("TreeEnsembleRegressor", 1, {"y": FLOAT}, **attributes)
    with pytest.raises(UnsupportedModelError, match=reason):
        ours(proto)


def test_the_class_of_two_scores_is_refused() -> None:
    """ONNX Runtime answers 1 whenever the second score is above 0, the specification with the larger one."""
    both = Node(
        0, "BRANCH_LEQ", (0.5,), False, Node(weights={0: 0.7, 1: 0.3}), Node(weights={0: 0.4, 1: 0.6})
    )
    proto = ml_model(
        "TreeEnsembleClassifier", 1, {"label": INT64, "scores": FLOAT}, classlabels_int64s=[0, 1],
        **listed([both], "class"),
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="runtimes do not agree about its class"):
        ours(proto)
