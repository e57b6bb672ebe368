"""scikit-learn (.skops), XGBoost (.json, .ubj) and LightGBM (.txt) to ONNX.

Runs apart from irshrink as ``convert_classical.py MODEL OUTPUT.onnx OPTIONS``, and inside the user's own
process for ``irshrink.from_sklearn``. It imports nothing of irshrink. skl2onnx and onnxmltools convert; two
things that they get wrong are mended on the way:

- LightGBM and HistGradientBoosting compare with float64 thresholds. Rounded to nearest, one may pass a
  float32 input that lies between; rounded down, ``x <= t`` takes the same branch for every float32 x.
- Some attributes are booleans, which newer versions of onnx refuse.

Nodes are called after the steps of the pipeline: ``standardscaler/Scaler``, ``svc/SVMClassifier``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

OPSET = {"": 20, "ai.onnx.ml": 3}

#: Types that skops asks about and that hold plain arrays and numbers: nothing here calls into what they do.
PLAIN_TYPES = frozenset(
    {
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
_UNPACKED_BYTES = 1 << 31


class RefusedModelError(Exception):
    """What this script does not convert, as a sentence."""


def main(model: str, output: str, options: dict[str, str]) -> None:
    """Convert the file ``model`` into ``output``.

    Args:
        options: ``features``, where the model does not know how many it takes.
    """
    import onnx

    suffix = Path(model).suffix.lower()
    features = int(options["features"]) if "features" in options else None
    if suffix == ".skops":
        proto = convert_estimator(load_skops(model), features)
    elif suffix == ".txt":
        proto = convert_lightgbm(model)
    else:
        proto = convert_xgboost(model)
    onnx.save(proto, output)


def load_skops(path: str) -> Any:
    """The estimator in a .skops file, which names every type that it holds.

    Raises:
        RefusedModelError: a type that is not known to be harmless, a damaged archive, or another version of
            scikit-learn.
    """
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as e:
        raise RefusedModelError("the file is damaged. Save it again with skops.io.dump.") from e
    if size > _UNPACKED_BYTES:
        raise RefusedModelError("the file unpacks to more than 2 GB.")
    unknown = skops.io.get_untrusted_types(file=path)
    foreign = sorted(set(unknown) - PLAIN_TYPES)
    if foreign:
        raise RefusedModelError(
            f"the file holds '{foreign[0]}', which is no type of scikit-learn or NumPy that is known to be "
            "harmless. Convert it where you trained it, with irshrink.from_sklearn(model, 'model.onnx')."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            return skops.io.load(path, trusted=unknown)
        except InconsistentVersionWarning as e:
            raise RefusedModelError(
                f"{e.estimator_name} was saved by scikit-learn {e.original_sklearn_version}, the converter "
                f"has {e.current_sklearn_version}. Install the first one for it, or save the model again."
            ) from e


def convert_estimator(estimator: Any, features: int | None = None) -> Any:
    """The ``onnx.ModelProto`` of a fitted estimator or pipeline: rows of float32 in, classes and scores out.

    Args:
        features: number of columns, where the estimator does not know it.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    count = features or getattr(estimator, "n_features_in_", None)
    if count is None:
        raise RefusedModelError("it does not know its number of features. Is it fitted? Give features=N.")
    register_boosters()
    steps = steps_of(estimator)
    for name, step in steps:
        if hasattr(step, "_predictors") and any(() if step.is_categorical_ is None else step.is_categorical_):
            raise RefusedModelError(f"'{name}' splits by categories, which skl2onnx converts wrongly.")
    options = {id(estimator): {"zipmap": False}} if takes_zipmap(estimator) else None
    with names_and_numbers(steps), float32_thresholds():
        return convert_sklearn(
            estimator,
            initial_types=[("x", FloatTensorType([None, int(count)]))],
            options=options,
            target_opset=OPSET,
        )


def takes_zipmap(estimator: Any) -> bool:
    """Whether skl2onnx would give dictionaries as scores."""
    from sklearn.base import is_classifier

    last = estimator
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    return bool(is_classifier(estimator)) and hasattr(last, "predict_proba")


def convert_xgboost(path: str) -> Any:
    """The model of an XGBoost file."""
    import xgboost
    from onnxmltools import convert_xgboost as convert
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = xgboost.Booster()
    booster.load_model(path)
    kind = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    if kind != "gbtree":
        raise RefusedModelError(f"its booster is '{kind}'. Only trees (gbtree) are converted.")
    booster.feature_names = None  # the converter numbers the columns
    proto = convert(booster, initial_types=[("x", FloatTensorType([None, booster.num_features()]))])
    return named(proto, "booster")


def convert_lightgbm(path: str) -> Any:
    """The model of a LightGBM text file."""
    import lightgbm
    from onnxmltools import convert_lightgbm as convert
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_file=path)
    features = FloatTensorType([None, booster.num_feature()])
    with float32_thresholds():
        proto = convert(booster, initial_types=[("x", features)], zipmap=False)
    return named(proto, "booster")


def named(proto: Any, step: str) -> Any:
    """Nodes called after the step that they belong to, each by a name of its own."""
    taken: dict[str, int] = {}
    for node in proto.graph.node:
        base = f"{step}/{node.op_type}"
        taken[base] = taken.get(base, 0) + 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base] - 1}"
    return proto


def register_boosters() -> None:
    """Let skl2onnx convert the boosters' estimators as steps of a pipeline, where they are installed."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    shapes = {
        "Classifier": calculate_linear_classifier_output_shapes,
        "Regressor": calculate_linear_regressor_output_shapes,
    }
    choices = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    for library, prefix, module in (("lightgbm", "LGBM", "LightGbm"), ("xgboost", "XGB", "XGBoost")):
        for kind, shape in shapes.items():
            found = _estimator_and_converter(library, f"{prefix}{kind}", module)
            if found is not None:
                estimator, converter = found
                options = choices if kind == "Classifier" else None
                alias = f"{library.capitalize()}{prefix}{kind}"
                update_registered_converter(
                    estimator, alias, shape, converter, options=options, overwrite=True
                )


def _estimator_and_converter(library: str, name: str, module: str) -> tuple[Any, Any] | None:
    if library not in sys.modules:
        return None  # then no step of the pipeline is of it
    try:
        converters = importlib.import_module(f"onnxmltools.convert.{library}.operator_converters.{module}")
    except ImportError:
        return None
    return getattr(sys.modules[library], name), getattr(converters, f"convert_{library}")


@contextmanager
def float32_thresholds() -> Iterator[None]:
    """Make LightGBM and scikit-learn's trees tell their thresholds rounded down to float32."""
    with ExitStack() as stack:
        if "lightgbm" in sys.modules and importlib.util.find_spec("onnxmltools"):
            stack.enter_context(_of_lightgbm())
        if "skl2onnx" in sys.modules:
            stack.enter_context(_of_sklearn())
        yield


@contextmanager
def _of_sklearn() -> Iterator[None]:
    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.add_node

    def add_node(*arguments: Any, **options: Any) -> Any:
        changed = list(arguments)  # mode and threshold are the seventh and the eighth
        if changed[6] == "BRANCH_LEQ":
            changed[7] = rounded_down(float(changed[7]))
        return original(*changed, **options)

    tree_ensemble.add_node = add_node
    try:
        yield
    finally:
        tree_ensemble.add_node = original


@contextmanager
def _of_lightgbm() -> Iterator[None]:
    converter: Any = importlib.import_module("onnxmltools.convert.lightgbm.operator_converters.LightGbm")
    original = converter.dump_booster_model

    def dump_booster_model(*arguments: Any, **options: Any) -> Any:
        dumped, places = original(*arguments, **options)
        pending = [tree["tree_structure"] for tree in dumped["tree_info"]]
        while pending:
            node = pending.pop()
            if node.get("missing_type") == "Zero":
                raise RefusedModelError("its trees take 0 for missing (zero_as_missing). Train without it.")
            if node.get("decision_type") == "<=":
                node["threshold"] = rounded_down(float(node["threshold"]))
            pending += [node[child] for child in ("left_child", "right_child") if child in node]
        return dumped, places

    converter.dump_booster_model = dump_booster_model
    try:
        yield
    finally:
        converter.dump_booster_model = original


def rounded_down(number: float) -> float:
    """The largest float32 that is not above a float64."""
    import numpy as np

    with np.errstate(over="ignore"):
        nearest = np.float32(number)
        return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > number else nearest)


@contextmanager
def names_and_numbers(estimators: list[tuple[str, Any]]) -> Iterator[None]:
    """Name nodes after steps and write integers for booleans while skl2onnx converts."""
    from skl2onnx.common._container import ModelComponentContainer as Container
    from skl2onnx.common._topology import Topology

    steps, current = {id(step): name for name, step in estimators}, ["model"]
    add_node, call_converter = Container.add_node, Topology.call_converter

    def call(self: Any, operator: Any, *arguments: Any, **options: Any) -> Any:
        own = operator.raw_operator
        current[0] = steps.get(id(own), type(own).__name__.lower() if own is not None else current[0])
        return call_converter(self, operator, *arguments, **options)

    def add(self: Any, op_type: str, *arguments: Any, name: str | None = None, **attributes: Any) -> Any:
        plain = {key: as_numbers(value) for key, value in attributes.items()}
        taken = {node.name for node in self.nodes}
        base = f"{current[0]}/{op_type}"
        number, chosen = 0, base
        while chosen in taken:
            number += 1
            chosen = f"{base}_{number}"
        return add_node(self, op_type, *arguments, name=chosen, **plain)

    Container.add_node, Topology.call_converter = add, call
    try:
        yield
    finally:
        Container.add_node, Topology.call_converter = add_node, call_converter


def as_numbers(value: Any) -> Any:
    """A list of booleans as integers; anything else as it is."""
    import numpy as np

    if isinstance(value, list) and any(isinstance(entry, bool | np.bool_) for entry in value):
        return [int(entry) for entry in value]
    return value


def steps_of(estimator: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Names and estimators inside a pipeline, a union or a column transformer, however nested."""
    steps = getattr(estimator, "steps", None) or getattr(estimator, "transformer_list", None) or []
    steps = [*steps, *getattr(estimator, "transformers_", ())]
    if not steps:
        return [(prefix or type(estimator).__name__.lower(), estimator)]
    found: list[tuple[str, Any]] = []
    for name, step, *_ in steps:
        if hasattr(step, "get_params"):
            found += steps_of(step, f"{prefix}/{name}" if prefix else str(name))
    return found


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    except RefusedModelError as refusal:
        sys.exit(f"error: {refusal}")
