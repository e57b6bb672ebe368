"""What `irshrink explain` names first when a fault is planted, and on models that other tools quantized.

    python benchmarks/explain.py --efficientnet FILE.onnx --photos FOLDER [--nncf PYTHON] [--samples N]

Photos: 224x224 images named by their class. 64 at even distances calibrate; others are explained. PYTHON is
an interpreter with nncf and onnx, which need not have irshrink. Neither model nor photos are part of the
project.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

import irshrink.onnxrt  # noqa: F401  (turns ONNX Runtime's telemetry off, before it is imported below)
from irshrink.console import table
from irshrink.explain.explain import explain_model
from irshrink.explain.text import decibel
from irshrink.optimize import optimize_model
from irshrink.registry import make_pass
from irshrink.testing import faults

Array = np.ndarray[Any, np.dtype[Any]]
_NNCF = """
import sys, numpy as np, nncf, onnx
model, data, out = sys.argv[1:]
file = np.load(data)
name = file.files[0]
samples = [{name: x[None]} for x in file[name]]
onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(samples), subset_size=len(samples)), out)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--efficientnet", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--nncf", metavar="PYTHON")
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options.efficientnet, options.photos, options.samples, Path(name))
        for case in bench.cases(options.nncf):
            rows.append(bench.row(*case))
            print(*rows[-1], sep=" | ", flush=True)
    header = ("model", "output", "answers", "first cause", "layer", "what its remedy buys", "CPU s")
    print(table(rows, header))


class Bench:
    """Models and samples in a scratch folder."""

    def __init__(self, model: Path, photos: Path, samples: int, scratch: Path) -> None:
        self.model, self.scratch = model, scratch
        self.input = onnx.load(model, load_external_data=False).graph.input[0].name
        files = sorted(photos.glob("*.jpg"))
        chosen = set(range(0, len(files), max(1, len(files) // 64)))
        pixels = [np.asarray(Image.open(file).convert("RGB"), np.float32) for file in files]
        images = np.stack(pixels).transpose(0, 3, 1, 2)
        labels = np.array([int(file.stem) for file in files])
        others = [i for i in range(len(files)) if i not in chosen]
        judged = others[:: max(1, len(others) // samples)][:samples]
        self.calibration = self._save("calibration", (images[sorted(chosen)] - 127) / 128)
        self.good = self._save("good", (images[judged] - 127) / 128, labels[judged])
        self.raw = self._save("raw", images[judged], labels[judged])
        self.unit = self._save("unit", images[judged] / 255, labels[judged])
        more = others[:: max(1, len(others) // 64)][:64]
        self.swapped = self._save("swapped", (images[more][:, ::-1] - 127) / 128, labels[more])
        bad = (images[sorted(chosen)] - 127) / 128
        bad[9] *= 40
        self.bad = self._save("bad", bad)

    def cases(self, nncf: str | None) -> Iterator[tuple[str, Path, Path] | tuple[str, Path, Path, Path]]:
        """What to explain: a name, a model, samples; and the float model where it is another."""
        int8 = self.quantized("int8")
        yield "int8", int8, self.good
        outlier = self.scratch / "outlier.onnx"
        optimize_model(self.model, outlier, shapes={self.input: (1, 3, 224, 224)})
        self.changed(outlier, faults.plant_outlier, outlier)
        planted = self.quantized("outlier-int8", model=outlier, method="minmax")
        yield "one channel x 300", planted, self.good, outlier
        yield "one scale x 40", self.changed(int8, lambda m: faults.scale_grid(m, 40)), self.good
        yield "one scale / 8", self.changed(int8, lambda m: faults.scale_grid(m, 1 / 8)), self.good
        yield "a bias clipped", self.changed(int8, faults.clip_bias), self.good
        yield "a bias at the end of int32", self.changed(int8, faults.saturate_bias), self.good
        yield "samples 0..255", int8, self.raw
        yield "samples 0..1", int8, self.unit
        yield "samples BGR", int8, self.swapped
        yield "one bad calibration photo", self.quantized("bad", self.bad, method="minmax"), self.bad
        yield "per tensor", self.quantized("per-tensor", per_channel=False), self.good
        yield "4-bit weights", self.quantized("w4", weight_bits=4), self.good
        for per_channel in (True, False):
            title = "ONNX Runtime, per channel" if per_channel else "ONNX Runtime, its default"
            yield title, self.by_ort(per_channel), self.good
        if nncf:
            out = self.scratch / "nncf.onnx"
            arguments = [nncf, "-c", _NNCF, str(self.model), str(self.calibration), str(out)]
            subprocess.run(arguments, check=True, capture_output=True)
            yield "NNCF", out, self.good

    def row(self, name: str, model: Path, samples: Path, floats: Path | None = None) -> tuple[str, ...]:
        start = time.process_time()
        result = explain_model(model, samples, floats=floats or self.model)
        seconds = time.process_time() - start
        score, cause = result["score"], next(iter(result["causes"]), None)
        answers = f"{100 * score['value']:.1f} of {100 * score['best']:.1f} %"
        if cause is None:
            return name, decibel(score["snr_db"]), answers, "none", "", "", f"{seconds:.0f}"
        gain = "not measured" if cause["gain_db"] is None else f"{cause['gain_db']:+.1f} dB"
        return (
            name,
            decibel(score["snr_db"]),
            answers,
            cause["cause"],
            cause["layer"] or "",
            gain,
            f"{seconds:.0f}",
        )

    def quantized(
        self, name: str, samples: Path | None = None, model: Path | None = None, **options: Any
    ) -> Path:
        out = self.scratch / f"{name}.onnx"
        steps = [make_pass("quantize-int8", options)]
        optimize_model(
            model or self.model,
            out,
            steps,
            calibration=samples or self.calibration,
            shapes={self.input: (1, 3, 224, 224)},
        )
        return out

    def changed(
        self, model: Path, change: Callable[[onnx.ModelProto], object], out: Path | None = None
    ) -> Path:
        proto = onnx.load(model)
        change(proto)
        out = out or self.scratch / "changed.onnx"
        onnx.save(proto, out)
        return out

    def by_ort(self, per_channel: bool) -> Path:
        """ONNX Runtime's own quantizer, behind its own preparation."""
        from onnxruntime.quantization import CalibrationDataReader, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        name, samples = self.input, np.load(self.calibration)[self.input]

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._feeds = iter([{name: x[None]} for x in samples])

            def get_next(self) -> dict[str, Array] | None:
                return next(self._feeds, None)

        prepared, out = self.scratch / "prepared.onnx", self.scratch / f"ort-{per_channel}.onnx"
        quant_pre_process(str(self.model), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(out), Reader(), per_channel=per_channel)
        return out

    def _save(self, name: str, images: Array, labels: Array | None = None) -> Path:
        path = self.scratch / f"{name}.npz"
        arrays = {self.input: images.astype(np.float32)} | ({} if labels is None else {"y": labels})
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path


if __name__ == "__main__":
    main()
