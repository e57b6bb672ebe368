"""Classical operators other than trees: against ONNX Runtime, onnx's own cases, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from irshrink import onnxrt
from irshrink.class_names import class_names, column_names
from irshrink.errors import ModelError, UnsupportedModelError
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module, load_module
from irshrink.program.lower import lower
from irshrink.program.lower.table import ML_RULES
from irshrink.program.reference import run_program
from irshrink.testing.trees import Node, listed, ml_graph, ml_model

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
CLASSIFIER = {"label": INT64, "scores": FLOAT}
RNG = np.random.default_rng(0)


def numbers(*shape: int) -> list[float]:
    return [float(v) for v in RNG.normal(size=shape).astype(np.float32).reshape(-1)]


def ours(proto: Any, *inputs: Any) -> list[Any]:
    model = ir.from_proto(proto)
    infer_shapes(model)
    return run_program(lower(Module(model)), list(inputs))


def agree(proto: Any, x: Any, tolerance: float = 1e-5) -> None:
    stored = x.astype(np.int32) if x.dtype == np.int64 else x
    theirs = onnxrt.run(onnxrt.session(proto), {"x": x})
    for (name, wanted), got in zip(theirs.items(), ours(proto, stored), strict=True):
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(got, wanted, err_msg=name)


def rows(count: int = 9, features: int = 4) -> Any:
    return RNG.normal(size=(count, features)).astype(np.float32)


def svm(classes: int, kernel: str, probabilities: bool) -> dict[str, Any]:
    pairs, vectors = classes * (classes - 1) // 2, [2 + c for c in range(classes)]
    chance = {"prob_a": numbers(pairs), "prob_b": numbers(pairs)} if probabilities else {}
    return {
        "classlabels_ints": [5, 2, 9, 4][:classes],
        "coefficients": numbers(classes - 1, sum(vectors)),
        "kernel_params": [0.3, 0.5, 3.0],
        "kernel_type": kernel,
        "rho": numbers(pairs),
        "support_vectors": numbers(sum(vectors), 4),
        "vectors_per_class": vectors,
        **chance,
    }


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("probabilities", [False, True])
def test_svm_classifiers(kernel: str, classes: int, probabilities: bool) -> None:
    proto = ml_model("SVMClassifier", 4, CLASSIFIER, 9, **svm(classes, kernel, probabilities))
    agree(proto, rows(), 2e-4 if probabilities else 2e-5)


@pytest.mark.parametrize("one_class", [0, 1])
@pytest.mark.parametrize("supports", [0, 5])
def test_svm_regressors(one_class: int, supports: int) -> None:
    vectors = {"support_vectors": numbers(5, 4), "kernel_type": "RBF"} if supports else {}
    proto = ml_model(
        "SVMRegressor", 4, {"y": FLOAT}, 9, coefficients=numbers(supports or 4), rho=[0.1],
        n_supports=supports, one_class=one_class, kernel_params=[0.3, 0.5, 3.0], **vectors,
    )  # fmt: skip
    agree(proto, rows())


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_linear_classifiers(transform: str, classes: int) -> None:
    proto = ml_model(
        "LinearClassifier", 4, CLASSIFIER, 9, coefficients=numbers(classes, 4), intercepts=numbers(classes),
        classlabels_ints=[4, 8, 1][: max(classes, 2)], post_transform=transform,
    )  # fmt: skip
    agree(proto, rows())


PREPARATION: dict[str, tuple[str, dict[str, Any]]] = {
    "scaler": ("Scaler", {"offset": numbers(4), "scale": numbers(4)}),
    "one number": ("Scaler", {"offset": [0.5], "scale": [2.0]}),
    "max": ("Normalizer", {"norm": "MAX"}),
    "l1": ("Normalizer", {"norm": "L1"}),
    "l2": ("Normalizer", {"norm": "L2"}),
    "binarizer": ("Binarizer", {"threshold": 0.25}),
    "nan": ("Imputer", {"imputed_value_floats": numbers(4), "replaced_value_float": float("nan")}),
    "zero": ("Imputer", {"imputed_value_floats": [7.0], "replaced_value_float": 0.0}),
    "regressor": ("LinearRegressor", {"coefficients": numbers(2, 4), "intercepts": numbers(2), "targets": 2}),
}


@pytest.mark.parametrize("case", PREPARATION)
def test_preparation(case: str) -> None:
    op_type, attributes = PREPARATION[case]
    x = rows()
    x[0], x[1, 2], x[2, 1] = 0, -0.0, 0.25
    if case == "nan":
        x[3, 1] = np.nan
    agree(ml_model(op_type, 4, {"y": FLOAT}, 9, **attributes), x)


ENCODERS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "table": (
        INT64,
        FLOAT,
        {"keys_int64s": [3, 4, 5], "values_floats": [0.5, 0.25, 0.125], "default_float": 9.0},
    ),
    "search": (INT64, INT64, {"keys_int64s": [5, -3, 900], "values_int64s": [1, 2, 3], "default_int64": -7}),
    "floats": (FLOAT, INT64, {"keys_floats": [1.5, -0.5, float("nan")], "values_int64s": [1, 2, 3]}),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_label_encoders(case: str) -> None:
    source, target, attributes = ENCODERS[case]
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    values = (
        [[3, 4, 5, 6], [-3, 900, 2, -900]] if source == INT64 else [[1.5, -0.5, 1.0, np.nan], [0, 9, -9, 1]]
    )
    x = np.array(values, np.int64 if source == INT64 else np.float32)
    agree(ml_graph([node], {"x": (source, (2, 4))}, {"y": target}), x)


def test_one_hot_features_and_columns() -> None:
    nodes = [
        helper.make_node(
            "OneHotEncoder", ["x"], ["hot"], domain="ai.onnx.ml", cats_int64s=[2, 0, 7], zeros=1
        ),
        helper.make_node("Reshape", ["hot", "wide"], ["flat"]),
        helper.make_node("Cast", ["x"], ["real"], to=FLOAT),
        helper.make_node(
            "FeatureVectorizer", ["flat", "real"], ["joined"], domain="ai.onnx.ml", inputdimensions=[6, 2]
        ),
        helper.make_node("ArrayFeatureExtractor", ["joined", "chosen"], ["y"], domain="ai.onnx.ml"),
    ]
    constants = [
        numpy_helper.from_array(np.array([3, 6], np.int64), "wide"),
        numpy_helper.from_array(np.array([7, 0, 4, 4], np.int64), "chosen"),
    ]
    proto = ml_graph(nodes, {"x": (INT64, (3, 2))}, {"y": FLOAT}, constants)
    agree(proto, np.array([[0, 2], [7, 7], [1, -5]], np.int64))


def onnx_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        cases = collect_testcases(None)
    return [c for c in cases if any(node.op_type in ML_RULES for node in c.model.graph.node)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx")
def test_cases_of_the_onnx_package() -> None:
    """Those of ``ai.onnx.ml`` that have no strings; constant inputs become constants."""
    passed = set()
    for case in onnx_cases():
        for inputs, outputs in case.data_sets:
            if any(array.dtype.kind not in "fi" for array in (*inputs, *outputs)):
                continue
            proto = onnx.ModelProto()
            proto.CopyFrom(case.model)
            for value, array in list(zip(proto.graph.input, inputs, strict=True))[1:]:
                proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
                proto.graph.input.remove(value)
            x = inputs[0].astype(np.int32) if inputs[0].dtype == np.int64 else inputs[0].astype(np.float32)
            for got, wanted in zip(ours(proto, x), outputs, strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-6, err_msg=case.name)
            passed.add(case.name)
    assert passed >= {
        "test_ai_onnx_ml_array_feature_extractor",
        "test_ai_onnx_ml_binarizer",
        "test_ai_onnx_ml_tree_ensemble_set_membership",
        "test_ai_onnx_ml_tree_ensemble_single_tree",
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "SVMClassifier": (svm(3, "RBF", False) | {"rho": [0.0]}, "1 rho where 3 are needed"),
    "SVMRegressor": (
        {"coefficients": [1.0], "rho": [0.0], "n_supports": 1, "support_vectors": [1.0] * 3},
        "3 numbers",
    ),
    "LinearClassifier": ({"coefficients": [1.0] * 4, "classlabels_ints": [0, 1]}, "it has no intercepts"),
    "LinearRegressor": ({"coefficients": [1.0] * 3, "targets": 1}, "3 coefficients where 4 are needed"),
    "Scaler": ({"offset": [1.0, 2.0], "scale": [1.0]}, "2 offset where 4 are needed"),
    "Normalizer": ({"norm": "L3"}, "its norm is 'L3'"),
    "OneHotEncoder": ({"cats_strings": ["a"]}, "its categories are strings"),
    "DictVectorizer": ({"string_vocabulary": ["a"]}, "a device has no dictionaries"),
}


@pytest.mark.parametrize("op_type", REFUSED)
def test_refusals(op_type: str) -> None:
    attributes, reason = REFUSED[op_type]
    outputs = CLASSIFIER if op_type.endswith("Classifier") else {"y": FLOAT}
    model = ir.from_proto(ml_model(op_type, 4, outputs, 1, **attributes))
    with pytest.raises(UnsupportedModelError, match=reason):
        lower(Module(model))


def test_a_polynomial_of_broken_degree_is_refused() -> None:
    attributes = svm(2, "POLY", False) | {"kernel_params": [0.3, 0.5, 2.5]}
    with pytest.raises(UnsupportedModelError, match=r"polynomial is of degree 2\.5"):
        ours(ml_model("SVMClassifier", 4, CLASSIFIER, **attributes))


def named_model(zipmap: dict[str, Any] | None) -> onnx.ModelProto:
    """A classifier of the classes 'cat' and 'dog', with dictionaries of scores or without."""
    tree = Node(0, "BRANCH_LEQ", (0.5,), False, Node(weights={0: -0.3}), Node(weights={0: 0.7}))
    attributes = {**listed([tree], "class"), "classlabels_strings": ["cat", "dog"]}
    nodes = [
        helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **attributes)
    ]
    if zipmap is not None:
        nodes.append(helper.make_node("ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", **zipmap))
    else:
        nodes.append(helper.make_node("Identity", ["p"], ["scores"]))
    proto = ml_graph(nodes, {"x": (FLOAT, (1, 1))}, {"label": STRING, "scores": FLOAT})
    for output, shape in zip(proto.graph.output, ([1], [1, 2]), strict=True):
        output.CopyFrom(helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, shape))
    if zipmap is not None:
        entry = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
        proto.graph.output[1].type.CopyFrom(helper.make_sequence_type_proto(entry))
    return proto


@pytest.mark.parametrize("zipmap", [None, {"classlabels_strings": ["cat", "dog"]}])
def test_names_of_classes_become_numbers(zipmap: dict[str, Any] | None, tmp_path: Path) -> None:
    onnx.save(named_model(zipmap), tmp_path / "m.onnx")
    module = load_module(tmp_path / "m.onnx")
    infer_shapes(module.model)
    label, scores = run_program(lower(module), [np.array([[0.7]], np.float32)])
    assert label.tolist() == [1]
    np.testing.assert_allclose(scores, [[-0.7, 0.7]], rtol=1e-6)
    assert class_names(module.model.metadata_props, "label") == ("cat", "dog")
    assert column_names(module.model.metadata_props, "scores") == ("cat", "dog")


def test_dictionaries_that_are_read_are_refused(tmp_path: Path) -> None:
    proto = named_model({"classlabels_strings": ["cat", "dog"]})
    proto.graph.node.append(helper.make_node("ZipMap", ["scores"], ["again"], domain="ai.onnx.ml"))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError):
        load_module(tmp_path / "m.onnx")


def test_metadata_of_strangers_is_no_list_of_names() -> None:
    for text in ("{", "3", '[{"a": 1}]', "null"):
        assert class_names({"irshrink.classes.y": text}, "y") == ()


def test_names_of_classes_reach_the_header(tmp_path: Path) -> None:
    from irshrink.compiler import compile_model
    from irshrink.recipe import Recipe

    proto = named_model({"classlabels_strings": ["cat", 'd"o\\g\n*/é']})
    for entry in proto.graph.node[0].attribute:
        if entry.name == "classlabels_strings":
            entry.strings[1] = 'd"o\\g\n*/é'.encode()
    onnx.save(proto, tmp_path / "m.onnx")
    report = compile_model(tmp_path / "m.onnx", Recipe(target="host"), tmp_path / "build")
    header = (tmp_path / "build" / "src" / "model.h").read_text()
    assert header.count(r'"d\042o\134g\012*/\303\251",') == 2
    assert "model_output_0_class(int32_t index)" in header
    assert any(
        note.startswith("Output 'label' is the number of a class: 0 is 'cat'") for note in report["notes"]
    )
