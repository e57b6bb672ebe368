"""TensorFlow Lite operators as ONNX, in float: ONNX Runtime against TensorFlow Lite Micro."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irshrink import onnxrt
from irshrink.frontends.tflite.reader import read
from irshrink.testing.tflite import TfliteWriter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None, reason="needs TFLite Micro: pip install tflite-micro"
)

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass
class Case:
    """One operator; ``x`` in ``operands`` stands for the next input, arrays are constants."""

    kind: str
    operands: Sequence[Any]
    outputs: Sequence[Shape]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    positive: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.fields}" if self.fields else self.kind


def ints(*numbers: Any) -> Array:
    return np.array(numbers, np.int32)


def normal(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


IMAGE = (1, 6, 4, 3)
SAME = {"Padding": 0, "StrideH": 2, "StrideW": 1}
POOL = {**SAME, "FilterHeight": 3, "FilterWidth": 2}
RESIZE_TO = ints(9, 5)
SLICE = (ints(0, 4, 0, 1), ints(1, 1, 4, 3), ints(1, -1, 2, 1))

CASES = [
    *(Case(kind, [IMAGE], [IMAGE]) for kind in ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "NEG", "SIN")),
    *(Case(kind, [IMAGE], [IMAGE]) for kind in ("HARD_SWISH", "LOGISTIC", "RELU", "RELU6", "SQUARE", "TANH")),
    *(Case(kind, [IMAGE], [IMAGE], positive=True) for kind in ("LOG", "SQRT", "RSQRT")),
    Case("ROUND", [IMAGE], [IMAGE]),
    Case("LEAKY_RELU", [IMAGE], [IMAGE], "LeakyReluOptions", {"Alpha": 0.3}),
    Case("PRELU", [IMAGE, normal(1, 1, 3)], [IMAGE]),
    *(Case(kind, [IMAGE, (1, 1, 1, 3)], [IMAGE]) for kind in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")),
    Case("ADD", [IMAGE, normal(3)], [IMAGE], "AddOptions", {"FusedActivationFunction": 3}),
    Case("DIV", [IMAGE, IMAGE], [IMAGE], "DivOptions", {"FusedActivationFunction": 0}, positive=True),
    Case("CONV_2D", [IMAGE, normal(5, 3, 2, 3), normal(5)], [(1, 3, 4, 5)], "Conv2DOptions",
         {**SAME, "FusedActivationFunction": 1, "DilationHFactor": 1, "DilationWFactor": 1}),
    Case("CONV_2D", [IMAGE, normal(5, 2, 2, 3), normal(5)], [(1, 4, 3, 5)], "Conv2DOptions",
         {"Padding": 1, "StrideH": 1, "StrideW": 1, "DilationHFactor": 2, "DilationWFactor": 1}),
    Case("DEPTHWISE_CONV_2D", [IMAGE, normal(1, 3, 2, 6), normal(6)], [(1, 6, 4, 6)],
         "DepthwiseConv2DOptions", {"Padding": 0, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 2,
                                    "DilationHFactor": 1, "DilationWFactor": 1}),
    Case("TRANSPOSE_CONV", [ints(1, 12, 4, 5), normal(5, 3, 2, 3), IMAGE], [(1, 12, 4, 5)],
         "TransposeConvOptions", SAME),
    Case("FULLY_CONNECTED", [(2, 3, 4), normal(5, 4), normal(5)], [(2, 3, 5)], "FullyConnectedOptions",
         {"KeepNumDims": True}),
    Case("FULLY_CONNECTED", [IMAGE, normal(5, 72)], [(1, 5)], "FullyConnectedOptions",
         {"FusedActivationFunction": 2}),
    Case("BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], [(2, 3, 5)], "BatchMatMulOptions", {"AdjY": True}),
    Case("AVERAGE_POOL_2D", [IMAGE], [(1, 3, 4, 3)], "Pool2DOptions", POOL),
    Case("MAX_POOL_2D", [IMAGE], [(1, 3, 4, 3)], "Pool2DOptions", POOL),
    Case("MEAN", [IMAGE, ints(1, -2)], [(1, 1, 1, 3)], "ReducerOptions", {"KeepDims": True}),
    Case("SUM", [IMAGE, ints(3)], [(1, 6, 4)], "ReducerOptions"),
    Case("REDUCE_MAX", [IMAGE, ints(1)], [(1, 4, 3)], "ReducerOptions"),
    Case("SOFTMAX", [(2, 7)], [(2, 7)], "SoftmaxOptions", {"Beta": 0.5}),
    Case("LOG_SOFTMAX", [(2, 7)], [(2, 7)]),
    Case("L2_NORMALIZATION", [(2, 7)], [(2, 7)], "L2NormOptions"),
    Case("ARG_MAX", [(2, 7), ints(1)], [(2,)], "ArgMaxOptions", {"OutputType": 2}, "int32"),
    Case("RESHAPE", [IMAGE, ints(1, -1)], [(1, 72)], "ReshapeOptions"),
    Case("EXPAND_DIMS", [(2, 7), ints(1)], [(2, 1, 7)]),
    Case("SQUEEZE", [(1, 2, 7)], [(2, 7)], "SqueezeOptions"),
    Case("TRANSPOSE", [IMAGE, ints(0, 3, 1, 2)], [(1, 3, 6, 4)]),
    Case("CONCATENATION", [IMAGE, (1, 6, 4, 2)], [(1, 6, 4, 5)], "ConcatenationOptions", {"Axis": -1}),
    Case("PACK", [(2, 3), (2, 3)], [(2, 2, 3)], "PackOptions", {"Axis": 1, "ValuesCount": 2}),
    Case("UNPACK", [(2, 3)], [(2,), (2,), (2,)], "UnpackOptions", {"Axis": 1, "Num": 3}),
    Case("SPLIT", [ints(1), (2, 6)], [(2, 3), (2, 3)], "SplitOptions", {"NumSplits": 2}),
    Case("SPLIT_V", [(2, 6), ints(2, 4), ints(1)], [(2, 2), (2, 4)], "SplitVOptions", {"NumSplits": 2}),
    Case("SLICE", [(2, 6), ints(1, 2), ints(1, -1)], [(1, 4)]),
    Case("STRIDED_SLICE", [IMAGE, *SLICE], [(1, 3, 2, 2)], "StridedSliceOptions"),
    Case("STRIDED_SLICE", [IMAGE, *SLICE], [(5, 2)], "StridedSliceOptions",
         {"ShrinkAxisMask": 1 | 8, "BeginMask": 4, "EndMask": 2}),
    Case("GATHER", [(5, 3), ints(4, 0)], [(2, 3)], "GatherOptions", {"Axis": 0}),
    Case("PAD", [IMAGE, ints([0, 0], [1, 2], [0, 3], [0, 0])], [(1, 9, 7, 3)]),
    Case("PADV2", [(2, 3), ints([1, 0], [0, 2]), np.array(2.5, np.float32)], [(3, 5)]),
    Case("MIRROR_PAD", [(3, 4), ints([1, 2], [0, 3])], [(6, 7)], "MirrorPadOptions", {"Mode": 0}),
    Case("BROADCAST_TO", [(1, 3), ints(4, 3)], [(4, 3)]),
    Case("SPACE_TO_DEPTH", [IMAGE], [(1, 3, 2, 12)], "SpaceToDepthOptions", {"BlockSize": 2}),
    Case("DEPTH_TO_SPACE", [(1, 3, 2, 12)], [IMAGE], "DepthToSpaceOptions", {"BlockSize": 2}),
    *(Case("RESIZE_BILINEAR", [IMAGE, RESIZE_TO], [(1, 9, 5, 3)], "ResizeBilinearOptions", fields)
      for fields in ({}, {"AlignCorners": True}, {"HalfPixelCenters": True})),
    *(Case("RESIZE_NEAREST_NEIGHBOR", [IMAGE, RESIZE_TO], [(1, 9, 5, 3)], "ResizeNearestNeighborOptions",
           fields)
      for fields in ({}, {"AlignCorners": True}, {"HalfPixelCenters": True})),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator(case: Case, tmp_path: Path) -> None:
    runtime: Any = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    data, shapes = _file(case)
    file = tmp_path / "model.tflite"
    file.write_bytes(data)
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    values = [np.abs(x) + np.float32(0.1) if case.positive else x for x in values]
    theirs = runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
    for index, x in enumerate(values):
        theirs.set_input(x, index)
    theirs.invoke()
    session = onnxrt.session(read(file, {}))
    outputs = onnxrt.run(session, {f"x{i}": x for i, x in enumerate(values)})
    for index in range(len(case.outputs)):
        np.testing.assert_allclose(outputs[f"y{index}"], theirs.get_output(index), rtol=2e-5, atol=2e-6)


def _file(case: Case) -> tuple[bytes, list[Shape]]:
    w = TfliteWriter()
    inputs: list[int] = []
    shapes: list[Shape] = []
    reads: list[int] = []
    for number, operand in enumerate(case.operands):
        if isinstance(operand, tuple):
            reads.append(w.tensor(f"x{len(inputs)}", operand, "float32"))
            inputs.append(reads[-1])
            shapes.append(operand)
        else:
            reads.append(w.constant(f"c{number}", operand))
    outputs = [w.tensor(f"y{i}", shape, case.dtype) for i, shape in enumerate(case.outputs)]
    w.operator(case.kind, reads, outputs, case.options, **case.fields)
    return w.finish(inputs, outputs), shapes
