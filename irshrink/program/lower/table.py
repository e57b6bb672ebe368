"""ONNX operator -> rule. What is not here cannot be lowered; ADVICE says what would help."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.rules import (
    binary,
    blocks,
    choice,
    conversion,
    convolution,
    dense,
    dynamic,
    functions,
    indexing,
    integers,
    masks,
    movement,
    normalization,
    padding,
    pooling,
    power,
    quantization,
    recurrent,
    reduction,
    repetition,
    resize,
    search,
    shapes,
    standardize,
    transposed,
    unary,
)
from irshrink.program.lower.rules.classical import categories, linear, preparation, trees, vectors

Rule = Callable[[Lowering, ir.Node], None]

RULES: dict[str, Rule] = {
    "Conv": convolution.conv,
    "ConvTranspose": transposed.conv_transpose,
    "Gemm": dense.gemm,
    "MatMul": dense.matmul,
    "QuantizeLinear": quantization.quantize_linear,
    "DequantizeLinear": quantization.dequantize_linear,
    "DynamicQuantizeLinear": dynamic.dynamic_quantize_linear,
    "MatMulInteger": dynamic.matmul_integer,
    "Cast": conversion.cast,
    "CastLike": conversion.cast_like,
    "Relu": unary.clip,
    "Clip": unary.clip,
    **dict.fromkeys(functions.FUNCTIONS, unary.unary),
    **dict.fromkeys(functions.BINARY, binary.binary),
    "Mean": binary.mean,
    "Pow": power.power,
    **dict.fromkeys(
        ("And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Or", "Xor"), integers.binary
    ),
    **dict.fromkeys(("BitwiseNot", "Not"), integers.unary),
    "Mod": integers.mod,
    **dict.fromkeys(choice.COMPARISONS, choice.compare),
    "IsInf": choice.is_inf,
    "IsNaN": choice.is_nan,
    "Where": choice.where,
    "MaxPool": pooling.max_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average_pool,
    "LpPool": pooling.lp_pool,
    "GlobalLpPool": pooling.lp_pool,
    **dict.fromkeys(reduction.KINDS, reduction.reduce),
    "ReduceLogSumExp": reduction.reduce,
    "CumSum": reduction.cumulative_sum,
    "Softmax": normalization.softmax,
    "LogSoftmax": standardize.log_softmax,
    "InstanceNormalization": standardize.instance_normalization,
    "GroupNormalization": standardize.group_normalization,
    "MeanVarianceNormalization": standardize.mean_variance_normalization,
    "LpNormalization": standardize.lp_normalization,
    "LRN": standardize.local_response_normalization,
    "LayerNormalization": normalization.layer_normalization,
    "BatchNormalization": normalization.batch_normalization,
    "Identity": shapes.identity,
    "Dropout": shapes.dropout,
    "Transpose": shapes.transpose,
    "Reshape": shapes.reshape,
    "Flatten": shapes.flatten,
    "Squeeze": shapes.squeeze,
    "Unsqueeze": shapes.unsqueeze,
    "Expand": repetition.expand,
    "Tile": repetition.tile,
    "Resize": resize.resize,
    "Upsample": resize.upsample,
    "DepthToSpace": blocks.depth_to_space,
    "SpaceToDepth": blocks.space_to_depth,
    "Concat": movement.concat,
    "Split": movement.split,
    "Slice": movement.slice_,
    "Gather": indexing.gather,
    "GatherElements": indexing.gather_elements,
    "GatherND": indexing.gather_nd,
    "OneHot": indexing.one_hot,
    "ScatterElements": indexing.scatter_elements,
    "ScatterND": indexing.scatter_nd,
    "ArgMax": search.arg_reduce,
    "ArgMin": search.arg_reduce,
    "TopK": search.top_k,
    "EyeLike": masks.eye_like,
    "Hardmax": masks.hardmax,
    "Trilu": masks.trilu,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent.recurrent),
    "Pad": padding.pad,
}

#: Rules of the domain of classical machine learning.
ML_RULES: dict[str, Rule] = {
    "TreeEnsemble": trees.tree_ensemble,
    "TreeEnsembleClassifier": trees.classifier,
    "TreeEnsembleRegressor": trees.regressor,
    "SVMClassifier": vectors.classifier,
    "SVMRegressor": vectors.regressor,
    "LinearClassifier": linear.classifier,
    "LinearRegressor": linear.regressor,
    "Scaler": preparation.scaler,
    "Normalizer": preparation.normalizer,
    "Binarizer": preparation.binarizer,
    "Imputer": preparation.imputer,
    "FeatureVectorizer": preparation.feature_vectorizer,
    "ArrayFeatureExtractor": categories.array_feature_extractor,
    "LabelEncoder": categories.label_encoder,
    "OneHotEncoder": categories.one_hot_encoder,
}

#: Operators of which more than the first output is computed.
SEVERAL_OUTPUTS = frozenset(
    {
        *("DynamicQuantizeLinear", "GRU", "LSTM", "RNN", "Split", "TopK"),
        *("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"),
    }
)

#: Operators that live in Microsoft's domain too, with the same meaning.
MICROSOFT = frozenset({"DequantizeLinear", "Gelu", "QuantizeLinear"})

_DOMAINS: dict[str, Mapping[str, Rule]] = {
    **dict.fromkeys(edit.ONNX_DOMAINS, RULES),
    "ai.onnx.ml": ML_RULES,
    "com.microsoft": {name: RULES[name] for name in sorted(MICROSOFT)},
}


#: Operators whose rules know int16; all others read it in float32.
TAKES_INT16 = frozenset(
    {
        *("Add", "Conv", "DequantizeLinear", "Gemm", "MatMul", "QuantizeLinear", "Sub"),
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
        *("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    }
)

#: Axes that the first input has at least, where the operator speaks of them: images, channels, positions.
LEAST_AXES: dict[str, int] = {
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool"), 3),
    **dict.fromkeys(("Conv", "ConvTranspose", "GRU", "LSTM", "MaxPool", "RNN"), 3),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), 4),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LRN"), 2),
}


def rule_of(node: ir.Node) -> Rule | None:
    """The rule that lowers a node, by domain and operator."""
    return _DOMAINS.get(node.domain, {}).get(node.op_type)


_CONTROL = "Export the model with static shapes and without control flow."
_BRANCHES = (
    "A build always runs the same operators: make the condition a constant, or choose between both by Where."
)
_TURNS = "A build always runs the same operators: make the number of turns a constant."
_QOPERATOR = (
    "Export the quantized model in QDQ format (QuantizeLinear and DequantizeLinear around float nodes)."
)
_MAPS = "Give the model rows of numbers: a device has no dictionaries."
_STRINGS = "Number the categories before the model: a device has no strings."

ADVICE: dict[str, str] = {
    "CastMap": _MAPS,
    "CategoryMapper": _STRINGS,
    "ConvInteger": _QOPERATOR,
    "DictVectorizer": _MAPS,
    "If": _BRANCHES,
    "Loop": _TURNS,
    "NonZero": "The size of its result is not known before it runs: use Where, or cut the model before it.",
    "NonMaxSuppression": "Cut the model before it and do this step in the application.",
    "QGemm": _QOPERATOR,
    "QLinearConv": _QOPERATOR,
    "QLinearMatMul": _QOPERATOR,
    "Scan": _CONTROL,
    "Shape": "Export the model with static shapes; fold-constants then removes it.",
}
#: Of a node without a rule, why there is none; by default, that there is no kernel for it.
REASONS: dict[str, str] = {
    "If": "which branch it takes depends on the data",
    "Loop": "how often it runs depends on the data",
}
DEFAULT_ADVICE = (
    "Replace it by supported operators, or cut the model there and do this step in the application."
)
