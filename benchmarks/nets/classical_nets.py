"""Small classical models with what their own libraries answer: ``classical_nets.py FOLDER [CONVERTERS]``.

Writes models in the formats that irshrink reads, ``x.npy`` and ``NAME-y.npz`` with classes and scores.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path, converters: str | None = None) -> None:
    import skops.io
    from lightgbm import LGBMClassifier
    from sklearn.base import BaseEstimator
    from sklearn.datasets import load_iris
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from xgboost import XGBClassifier

    warnings.filterwarnings("ignore")
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    x[::7, 1] = np.nan
    np.save(folder / "x.npy", x)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    scaled = [("fill", SimpleImputer()), ("scale", StandardScaler())]
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    models: dict[str, tuple[Any, Any]] = {
        "mlp": (Pipeline([*scaled, ("net", MLPClassifier((8,), max_iter=300, random_state=0))]), y),
        "svm": (Pipeline([*scaled, ("vectors", SVC(probability=True, random_state=0))]), names),
        "forest": (Pipeline([*scaled[:1], ("trees", forest)]), names),
        "histogram": (HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5), y),
        "xgboost": (XGBClassifier(n_estimators=4, max_depth=3), y),
        "lightgbm": (LGBMClassifier(n_estimators=4, min_child_samples=5, verbose=-1), y),
        "booster": (Pipeline([("fill", SimpleImputer()), ("trees", XGBClassifier(n_estimators=3))]), y),
    }
    for name, (model, target) in models.items():
        model.fit(x, target)
        numbers = np.searchsorted(np.unique(target), model.predict(x))
        np.savez(folder / f"{name}-y.npz", label=numbers, scores=model.predict_proba(x))
    for name in ("mlp", "svm", "forest", "histogram"):
        skops.io.dump(models[name][0], folder / f"{name}.skops")
    near = np.float32(0.1) + np.arange(4, dtype=np.float32) * np.spacing(np.float32(0.1))
    close = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=1).fit(
        np.tile(near, 25)[:, None], np.tile([0, 1, 0, 1], 25)
    )
    skops.io.dump(close, folder / "close.skops")  # thresholds between neighbouring float32 numbers
    np.savez(folder / "close-y.npz", x=near[:, None], scores=close.predict_proba(near[:, None]))
    zeros = LGBMClassifier(n_estimators=2, zero_as_missing=True, verbose=-1).fit(np.abs(x), y)
    zeros.booster_.save_model(folder / "zeros.txt")
    for suffix in ("json", "ubj"):
        models["xgboost"][0].save_model(folder / f"xgboost.{suffix}")
    models["lightgbm"][0].booster_.save_model(folder / "lightgbm.txt")

    class Foreign(BaseEstimator):  # type: ignore[misc]
        """A type of nobody's."""

    skops.io.dump(Foreign(), folder / "foreign.skops")
    if converters is not None:  # what from_sklearn does, without irshrink
        sys.path.insert(0, converters)
        import convert_classical  # type: ignore[import-not-found]

        proto = convert_classical.convert_estimator(models["booster"][0])
        (folder / "booster.onnx").write_bytes(proto.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
