"""Classical models on Cortex-M4, emulated, beside their own framework and beside other generators of C.

    pip install 'irshrink[sklearn,boosting]' emlearn m2cgen
    python benchmarks/classical.py [--target cortex-m4] [--only forest,svm] [--samples 1797]

Trained on half of scikit-learn's digits (64 features, 10 classes), run on all 1,797. ``labels`` counts
samples whose class equals the framework's own ``predict``; ``scores`` is the largest difference to
``predict_proba``. Flash is that of the whole firmware (model, start-up code and a main of a few
instructions), from the same compiler and flags; instructions are the mean over the first samples, exact.
Rivals get what they are made for: scaled inputs, m2cgen float64, emlearn int16 for trees (digits are whole
numbers).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from classical_rivals import RIVALS, rival_package
from numpy.typing import NDArray

from irshrink.artifact import load_build
from irshrink.backends.unicorn.firmware import Firmware
from irshrink.backends.unicorn.runner import build_firmware
from irshrink.compiler import compile_model
from irshrink.console import count, table
from irshrink.recipe import Recipe
from irshrink.target import load_target

HEADER = ("model", "by", "flash", "RAM", "instructions", "labels", "scores")
COUNTED = 8
#: Instructions that are emulated for one row at most: slow ones see fewer samples.
BUDGET = 1_000_000_000


@dataclass(frozen=True)
class Net:
    """A trained model.

    Attributes:
        file: what irshrink reads.
        model: the estimator; the last step of its pipeline is what rivals convert.
        labels, scores: what the framework itself answers for every sample.
    """

    name: str
    file: Path
    model: Any
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--only", default="")
    parser.add_argument("--samples", type=int, default=1797)
    parser.add_argument("--rival-samples", type=int, default=200)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    x, y = digits()
    chosen = [name for name in options.only.split(",") if name] or list(MODELS)
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            net = trained(name, x, y, Path(folder))
            ours, theirs = x[: options.samples], x[: options.rival_samples]
            rows += rows_of(net, ours, theirs, options.target, Path(folder))
            print(table(rows[-4:], HEADER), file=sys.stderr, flush=True)
    print(table(rows, HEADER))


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].astype(np.float32), y[order].astype(np.int64)


def mlp() -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=300, random_state=0))


def svm() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(probability=True, random_state=0))


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, max_depth=8, random_state=0)


def histogram() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=10, random_state=0)


def xgboost() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=10, max_depth=4)


def lightgbm() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=10, verbose=-1, random_state=0)


#: Name -> estimator, and the suffix of the file that its own library writes without pickles.
MODELS = {
    "mlp": (mlp, ".skops"),
    "svm": (svm, ".skops"),
    "forest": (forest, ".skops"),
    "histogram": (histogram, ".skops"),
    "xgboost": (xgboost, ".json"),
    "lightgbm": (lightgbm, ".txt"),
}


def trained(name: str, x: NDArray[np.float32], y: NDArray[np.int64], folder: Path) -> Net:
    """Fit on the first half and save as the library itself saves."""
    make, suffix = MODELS[name]
    model, half, file = make(), len(x) // 2, folder / f"{name}{suffix}"
    model.fit(x[:half], y[:half])
    if suffix == ".skops":
        import skops.io

        skops.io.dump(model, file)
    else:
        (model.booster_ if name == "lightgbm" else model).save_model(file)
    return Net(name, file, model, model.predict(x), model.predict_proba(x))


def rows_of(
    net: Net, x: NDArray[np.float32], few: NDArray[np.float32], target: str, folder: Path
) -> list[tuple[str, ...]]:
    """Our row on the samples ``x``, then one on ``few`` of them for each rival that takes the model."""
    build = folder / f"{net.name}-build"
    compile_model(net.file, Recipe(target=target, test_inputs=1), build)
    names = [port.name for port in load_build(build).program.outputs]
    scores_at = next(i for i, name in enumerate(names) if "prob" in name)
    places = (1 - scores_at, scores_at)
    rows = [measured(net, "irshrink", build, x, target, places)]
    for by, convert in RIVALS.items():
        package = rival_package(by, convert, net.model, build, folder / f"{net.name}-{by}", places)
        if package is not None:
            prepared = net.model[:-1].transform(few) if hasattr(net.model, "steps") else few
            rows.append(measured(net, by, package, prepared.astype(np.float32), target, places))
    return rows


def measured(
    net: Net, by: str, package: Path, x: NDArray[np.float32], target: str, places: tuple[int, int]
) -> tuple[str, ...]:
    """Run every sample in the emulator.

    Args:
        places: numbers of the outputs that are the class and its scores.
    """
    core = load_target(target)
    image = package / "measured.elf"
    build_firmware(package, core, image)
    firmware = Firmware(image, core)
    results = [firmware.run([row.tobytes()]) for row in x[:COUNTED]]
    mean = int(np.mean([r.instructions or 0 for r in results]))
    x = x[: max(COUNTED, BUDGET // mean)]
    results += [firmware.run([row.tobytes()], count=False) for row in x[COUNTED:]]
    labels = np.array([np.frombuffer(r.outputs[places[0]], np.int32)[0] for r in results])
    scores = np.array([np.frombuffer(r.outputs[places[1]], np.float32) for r in results])
    equal = int((labels == net.labels[: len(x)]).sum())
    error = float(np.abs(scores - net.scores[: len(x)]).max())
    sizes = firmware.elf.sizes
    return (
        net.name if by == "irshrink" else "",
        by,
        f"{sizes.flash:,}",
        f"{sizes.ram:,}",
        count(mean),
        f"{equal:,} / {len(x):,}",
        f"{error:.1e}",
    )


if __name__ == "__main__":
    main()
