"""Mixed precision: the smallest files within a loss of accuracy, and how well cheap sensitivities rank.

    python benchmarks/mixed.py [--mnist FOLDER] [--cifar FILE.npz] [--photos FOLDER --efficientnet FILE.onnx]
    python benchmarks/mixed.py --ranks ...

Data as for benchmarks/accuracy.py; of the photos 200 calibrate and 600 judge. Budgets are kept by the
estimate on calibration data; the accuracy in the table is that of the QDQ model in ONNX Runtime on the other
samples, which nothing was chosen by.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import MODELS, cifar, mnist, photos

from irshrink import onnxrt
from irshrink.console import table
from irshrink.evaluate import compare
from irshrink.frontends.read import read_model
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.passes.quantize.mixed.layers import find_layers
from irshrink.passes.quantize.mixed.sensitivity import Losses, sensitivity
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import ImageOptions, Samples, input_specs, load_samples
from irshrink.shorthands import LAYER_BY_LAYER
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

WIDTHS = (8, 4, 2)


@dataclass(frozen=True)
class Net:
    """A model, its data, and the budgets to try: loss in points, or bytes of the file.

    Of LeNets bytes: they are right on all calibration samples, which therefore show no small loss.
    """

    model: Path
    calibration: Path
    scored: Path
    budgets: tuple[float | int, ...]
    images: ImageOptions | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--mnist", "--cifar", "--photos", "--efficientnet"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--ranks", action="store_true", help="compare sensitivities instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for net in nets(options, Path(name)):
            found = (
                table(list(ranks(net)), RANKS)
                if options.ranks
                else table(list(rows(net, Path(name))), HEADER)
            )
            print(found, flush=True)


def nets(options: argparse.Namespace, scratch: Path) -> Iterator[Net]:
    if options.mnist:
        data = mnist(options.mnist, scratch)
        yield Net(MODELS / "lenet-300-100.onnx", *data, (125_000, 100_000))
        yield Net(MODELS / "lenet-5.onnx", *data, (200_000, 150_000))
    if options.cifar:
        yield Net(MODELS / "ic.onnx", *cifar(options.cifar, scratch), (1.0, 2.0))
    if options.photos and options.efficientnet:
        images = ImageOptions(mean=(127,), std=(128,), labels="stem")
        data = photos(options.photos, scratch, 200)
        yield Net(options.efficientnet, *data, (0.5,), images, {"bits": [8, 4]})


HEADER = (
    "model",
    "budget",
    "bytes",
    "layers at 8, 4, 2 bits",
    "expected",
    "float %",
    "mixed %",
    "lost",
    "agree %",
)


def rows(net: Net, scratch: Path) -> Iterator[tuple[str, ...]]:
    """One for int8, and one for each budget."""
    module, scored = opened(net)
    for budget in (None, *net.budgets):
        result = module.clone()
        step = make_pass("quantize-int8")
        if budget is not None:
            limit = {"max_size": budget} if isinstance(budget, int) else {"max_drop": budget / 100}
            step = make_pass("quantize-mixed", {**limit, "quantize": LAYER_BY_LAYER, **net.options})
        Pipeline([step]).run(result, load_target("host"))
        stats = result.history[-1].stats
        file = scratch / "mixed.onnx"
        result.save(file)
        count = Counter(row["bits"] for row in stats.get("layer_decisions", ()))
        expected = f"{stats['expected_drop'] * 100:.2f}" if count else ""
        widths = ", ".join(str(count[bits]) for bits in WIDTHS) if count else "all at 8"
        said = (
            "int8" if budget is None else f"{budget:,} B" if isinstance(budget, int) else f"{budget:g} points"
        )
        yield (
            net.model.stem,
            said,
            f"{file.stat().st_size:,}",
            widths,
            expected,
            *accuracy(module, result, scored),
        )


def accuracy(before: Module, after: Module, samples: Samples) -> tuple[str, ...]:
    """Top-1 of both in %, the points between them, and how often they agree."""
    first, second = (onnxrt.session(one.model) for one in (before, after))
    same: list[bool] = []
    last: dict[str, Any] = {}

    def original(feeds: dict[str, Any]) -> dict[str, Any]:
        last.update(onnxrt.run(first, feeds))
        return dict(last)

    def compiled(feeds: dict[str, Any]) -> dict[str, Any]:
        given = onnxrt.run(second, feeds)
        same.extend(int(np.argmax(last[name])) == int(np.argmax(given[name])) for name in given)
        return given

    found = compare(original, compiled, samples)
    values = (found.original.value * 100, found.compiled.value * 100, found.drop * 100, np.mean(same) * 100)
    return tuple(f"{value:.2f}" for value in values)


RANKS = ("model", "bits", "sum of losses, measured", "rank correlation of: scaled", "output-error")


def ranks(net: Net) -> Iterator[tuple[str, ...]]:
    """How the layers' order by cheap sensitivities agrees with the measured one (Spearman)."""
    from scipy.stats import spearmanr

    module, _ = opened(net)
    quantized = {bits: module.clone() for bits in WIDTHS}
    for bits, one in quantized.items():
        Pipeline([make_pass("quantize-int8", {"weight_bits": bits})]).run(one, load_target("host"))
    assert module.calibration is not None
    layers, samples = find_layers(module, quantized), module.calibration.spread(16)
    found: dict[str, list[Losses]] = {
        method: sensitivity(module, layers, samples, method, lambda done, total: None)
        for method in ("measured", "scaled", "output-error")
    }
    for bits in WIDTHS:
        by_method = {method: [losses[bits] for losses in found[method]] for method in found}
        measured = by_method.pop("measured")
        correlations = [spearmanr(measured, other).statistic for other in by_method.values()]
        yield net.model.stem, str(bits), f"{sum(measured):.4f}", *(f"{c:.2f}" for c in correlations)


def opened(net: Net) -> tuple[Module, Samples]:
    """The cleaned-up float model with its calibration data, and the samples that judge."""
    module, _ = read_model(net.model)
    fix_input_shapes(module, {})
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    specs = input_specs(module.graph)
    module.calibration = load_samples(net.calibration, specs, image=net.images, role="calibration")
    return module, load_samples(net.scored, specs, image=net.images, role="evaluation")


if __name__ == "__main__":
    main()
