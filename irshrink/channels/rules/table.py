"""Which rule leads the channels of which ONNX operator along. What is not here keeps everything around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from irshrink.channels.linker import Linker
from irshrink.channels.rules import linear, movement, pointwise, recurrent, reduction

Rule = Callable[[Linker, ir.Node], None]

_ALONG = (
    "Abs Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu "
    "Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tan Tanh "
    "ThresholdedRelu"
)
_MEETING = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum "
    "Where Xor"
)
_REDUCTIONS = (
    "GlobalAveragePool GlobalMaxPool ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_ALONG.split(), pointwise.along),
    **dict.fromkeys(_MEETING.split(), pointwise.meeting),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), pointwise.quantization),
    **dict.fromkeys(_REDUCTIONS.split(), reduction.reduce),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), reduction.windows),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), reduction.over_axis),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), reduction.batch_norm),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), reduction.layer_norm),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), movement.reshape),
    **dict.fromkeys(recurrent.GATES, recurrent.recurrent),
    "Concat": movement.concat,
    "ConstantOfShape": movement.constant_of_shape,
    "Conv": linear.conv,
    "ConvTranspose": linear.conv_transpose,
    "DepthToSpace": movement.depth_to_space,
    "Expand": movement.expand,
    "Gather": movement.gather,
    "Gemm": linear.gemm,
    "GroupNormalization": reduction.group_norm,
    "MatMul": linear.matmul,
    "Pad": movement.pad,
    "Resize": reduction.resize,
    "Slice": movement.slice_,
    "SpaceToDepth": movement.space_to_depth,
    "Split": movement.split,
    "Transpose": movement.transpose,
}
