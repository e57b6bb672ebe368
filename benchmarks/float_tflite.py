"""Float TensorFlow Lite files of ONNX nets, for LiteRT in ``host.py --float``: nobody publishes them.

    pip install tensorflow-cpu
    python benchmarks/float_tflite.py OUT models/kws.onnx [MODEL.onnx ...]

A net is cleaned up, lowered, and rebuilt from TensorFlow's operators with the same weights, NHWC as
TensorFlow has it: a transposition of the input is left to the caller, which is to LiteRT's advantage.
TensorFlow's own converter writes the file. Its outputs are compared with ONNX Runtime's: 1e-5 of the largest
value at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from irshrink import onnxrt
from irshrink.frontends.read import read_model
from irshrink.module import load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.ops import (
    AveragePoolF32,
    BinaryF32,
    ConvF32,
    DenseF32,
    Op,
    Reshape,
    SoftmaxF32,
    Transpose,
    UnaryF32,
    Window,
)
from irshrink.program.program import Program
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.verify import verify_structure

TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for model in options.models:
        content = tflite(lowered(model))
        worst = difference(model, content)
        if not worst <= TOLERANCE:
            raise SystemExit(f"{model}: outputs differ by {worst:.1e} of the largest value")
        (options.out / f"{model.stem}.float32.tflite").write_bytes(content)
        print(f"{model.stem}: {len(content):,} bytes, outputs within {worst:.1e}")


def lowered(model: Path) -> Program:
    """The float program."""
    module, _ = read_model(model)
    fix_input_shapes(module, {})
    Pipeline(cleanup_steps(), [], verify_structure).run(module, load_target("host"), 0)
    return lower(module)


def tflite(program: Program) -> bytes:
    """The program of one input and one output as a TensorFlow Lite file."""
    (given,), (wanted,) = program.inputs, program.outputs
    first = program.ops[0]
    start = first.output if isinstance(first, Transpose) else given.tensor
    ops = program.ops[1:] if isinstance(first, Transpose) else program.ops

    def net(x: Any) -> Any:
        values = {start: x}
        for op in ops:
            inputs = [values[name] for name in op.inputs]
            values[op.output] = EMIT[type(op)](op, program.tensors[op.output].shape, *inputs)
        return values[wanted.tensor]

    signature = tf.TensorSpec(program.tensors[start].shape, tf.float32)
    concrete = tf.function(net).get_concrete_function(signature)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())


def difference(model: Path, content: bytes) -> float:
    """Of the file's output from ONNX Runtime's on random inputs, over the largest value."""
    module = load_module(model)
    fix_input_shapes(module, {})
    session, interpreter = onnxrt.session(model), tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (port,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    worst = 0.0
    for feeds in random_samples(input_specs(module.graph), 4).feeds():
        (wanted,), (x,) = onnxrt.run(session, feeds).values(), feeds.values()
        if x.shape != tuple(port["shape"]):
            x = x.transpose(0, 2, 3, 1)
        interpreter.set_tensor(port["index"], np.ascontiguousarray(x))
        interpreter.invoke()
        ours = interpreter.get_tensor(result["index"]).reshape(wanted.shape)
        worst = max(worst, float(np.abs(ours - wanted).max() / np.abs(wanted).max()))
    return worst


def convolution(op: ConvF32, shape: tuple[int, ...], x: Any) -> Any:
    x, padding = _padded(x, op.window, shape[1:3])
    if op.groups == 1:
        y = tf.nn.conv2d(x, op.weight.transpose(1, 2, 3, 0), op.window.strides, padding)
    else:
        assert op.groups == len(op.weight) == x.shape[3], "depthwise"
        strides = (1, *op.window.strides, 1)
        y = tf.nn.depthwise_conv2d(x, op.weight.transpose(1, 2, 0, 3), strides, padding)
    return _clipped(y + op.bias, op.low, op.high)


def _padded(x: Any, window: Window, size: tuple[int, ...]) -> tuple[Any, str]:
    """Padding by TensorFlow's own rule where it is the same, else by an operator."""
    top, left, bottom, right = window.pads
    if not any(window.pads):
        return x, "VALID"
    totals = [
        max(0, (n - 1) * s + k - have)
        for n, s, k, have in zip(size, window.strides, window.kernel, x.shape[1:3], strict=True)
    ]
    if [(top, bottom), (left, right)] == [(total // 2, total - total // 2) for total in totals]:
        return x, "SAME"
    return tf.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)]), "VALID"


def _clipped(y: Any, low: float, high: float) -> Any:
    if (low, high) == (0.0, 6.0):
        return tf.nn.relu6(y)
    if (low, high) == (0.0, np.inf):
        return tf.nn.relu(y)
    assert (low, high) == (-np.inf, np.inf), "another clip"
    return y


def unary(op: UnaryF32, shape: tuple[int, ...], x: Any) -> Any:
    assert op.kind == "clip", op.kind
    return _clipped(x, op.alpha, op.beta)


def binary(op: BinaryF32, shape: tuple[int, ...], a: Any, b: Any) -> Any:
    assert op.kind == "add", op.kind
    return a + b


def dense(op: DenseF32, shape: tuple[int, ...], x: Any) -> Any:
    return _clipped(tf.matmul(x, op.weight, transpose_b=True) + op.bias, op.low, op.high)


def pool(op: AveragePoolF32, shape: tuple[int, ...], x: Any) -> Any:
    assert not any(op.window.pads), "padding"
    return tf.nn.avg_pool2d(x, op.window.kernel, op.window.strides, "VALID")


def reshape(op: Reshape, shape: tuple[int, ...], x: Any) -> Any:
    return tf.reshape(x, shape)


def softmax(op: SoftmaxF32, shape: tuple[int, ...], x: Any) -> Any:
    return tf.nn.softmax(x)


EMIT: dict[type[Op], Callable[..., Any]] = {
    AveragePoolF32: pool,
    BinaryF32: binary,
    ConvF32: convolution,
    DenseF32: dense,
    Reshape: reshape,
    SoftmaxF32: softmax,
    UnaryF32: unary,
}


if __name__ == "__main__":
    main()
