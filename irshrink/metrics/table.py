"""Which metric a name stands for, and which one a model gets that was given none."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from irshrink.errors import RecipeError
from irshrink.metrics.classes import F1, Auc, SameAnswer, TopK
from irshrink.metrics.metric import Metric
from irshrink.metrics.numbers import Cosine, KullbackLeibler, MeanAbsoluteError
from irshrink.metrics.own import OwnMetric, load_function

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[[], Metric]

#: By name, where more is to say than how many classes count: see :func:`metric_named`.
METRICS: Mapping[str, type[Metric]] = {
    "agreement": SameAnswer,
    "auc": Auc,
    "cosine": Cosine,
    "f1": F1,
    "kl": KullbackLeibler,
    "mae": MeanAbsoluteError,
}
_CLASSES = frozenset({"auc", "f1"})


def require_metric(name: str) -> None:
    """
    Raises:
        RecipeError: there is no such metric.
    """
    if ":" not in name and name not in METRICS and not _top(name):
        known = ", ".join(["top-1", "top-5", *METRICS])
        raise RecipeError(
            f"metric '{name}' is not known. There are {known}, and functions of your own: file.py:function."
        )


def metric_named(name: str, labels: Array | None) -> Make:
    """What makes instances of a metric.

    Args:
        labels: of the samples, or None.

    Raises:
        RecipeError: there is no such metric, or it needs labels of another kind.
    """
    require_metric(name)
    if ":" in name:
        function = load_function(name)
        falls = bool(getattr(function, "lower_is_better", False))
        return functools.partial(OwnMetric, name, function, falls)
    top = _top(name)
    if (top or name in _CLASSES) and (labels is None or labels.dtype.kind == "f"):
        raise RecipeError(
            f"metric '{name}' compares with the classes of samples, and these have none. "
            "Give class indices as the array 'y', or take a metric without labels."
        )
    if top:
        return functools.partial(TopK, top)
    if name == "mae":
        return functools.partial(MeanAbsoluteError, labelled=labels is not None)
    return METRICS[name]


def is_share(name: str) -> bool:
    """Whether a metric is a fraction, a hundredth of which is a point."""
    if ":" in name:
        return OwnMetric.share
    return bool(METRICS.get(name, TopK).share)


def fitting_metric(labels: Array | None, classifier: bool) -> str:
    """What a model is judged by that was given no metric."""
    if labels is not None:
        return "mae" if labels.dtype.kind == "f" else "top-1"
    return "agreement" if classifier else "cosine"


def _top(name: str) -> int:
    match = re.fullmatch(r"top-([1-9]\d{0,3})", name)
    return int(match[1]) if match else 0
