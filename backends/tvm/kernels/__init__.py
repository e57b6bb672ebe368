"""Kernel families, one file each: an operator and a target in, a call of a TIR kernel out.

``SELECTORS`` is the list of what can be compiled. A selector looks at one operator, picks a kernel and its
tile, packs the constants, and returns a :class:`~irshrink.backends.tvm.kernels.call.KernelCall`. Sizes are
run-time arguments, so that layers of different shapes share one C function; tiles, unrolling and instruction
sets are arguments of the Python generator and part of the C function's name.
"""

from __future__ import annotations

import importlib
from functools import cache

from irshrink.backends.tvm.kernels.call import KernelCall, Selector
from irshrink.errors import InternalError
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target

_HERE = "irshrink.backends.tvm.kernels"

#: operator -> "module:selector". A Reshape has none: it shares its input's memory.
SELECTORS: dict[str, str] = {
    "ConvInt8": f"{_HERE}.convolution:select_convolution",
    "DenseInt8": f"{_HERE}.dense:select_dense",
    "MatMulInt8": f"{_HERE}.matmul:select_matmul_int8",
    "AddInt8": f"{_HERE}.elementwise:select_add",
    "MulInt8": f"{_HERE}.elementwise:select_mul",
    "PReluInt8": f"{_HERE}.prelu:select_prelu",
    "TableInt8": f"{_HERE}.elementwise:select_table",
    "Quantize": f"{_HERE}.elementwise:select_quantize",
    "Dequantize": f"{_HERE}.elementwise:select_dequantize",
    "AveragePoolInt8": f"{_HERE}.pooling:select_average_pool_int8",
    "MaxPool": f"{_HERE}.pooling:select_max_pool",
    "SoftmaxInt8": f"{_HERE}.normalization:select_softmax_int8",
    "AddTflm": f"{_HERE}.tflm:select_add",
    "AveragePoolTflm": f"{_HERE}.tflm:select_average_pool",
    "MeanTflm": f"{_HERE}.tflm:select_mean",
    "SoftmaxTflm": f"{_HERE}.tflm:select_softmax",
    "Transpose": f"{_HERE}.movement:select_transpose",
    "Pad": f"{_HERE}.movement:select_pad",
    "Concat": f"{_HERE}.movement:select_concat",
    "Slice": f"{_HERE}.movement:select_slice",
    "Expand": f"{_HERE}.movement:select_expand",
    "Take": f"{_HERE}.take:select_take",
    "BinaryInteger": f"{_HERE}.integers:select_binary",
    "Compare": f"{_HERE}.integers:select_compare",
    "Where": f"{_HERE}.integers:select_where",
    "Cast": f"{_HERE}.integers:select_cast",
    "Gather": f"{_HERE}.indexing:select_gather",
    "GatherElements": f"{_HERE}.indexing:select_gather_elements",
    "Scatter": f"{_HERE}.indexing:select_scatter",
    "ScatterElements": f"{_HERE}.indexing:select_scatter_elements",
    "ArgReduce": f"{_HERE}.search:select_arg_reduce",
    "TopK": f"{_HERE}.search:select_top_k",
    "ReduceInteger": f"{_HERE}.search:select_reduce",
    "RecurrentF32": f"{_HERE}.recurrent:select_recurrent",
    "ConvF32": f"{_HERE}.floating:select_convolution_f32",
    "DenseF32": f"{_HERE}.floating:select_dense_f32",
    "MatMulF32": f"{_HERE}.matmul:select_matmul_f32",
    "BinaryF32": f"{_HERE}.elementwise_f32:select_binary",
    "UnaryF32": f"{_HERE}.elementwise_f32:select_unary",
    "AveragePoolF32": f"{_HERE}.pooling:select_average_pool_f32",
    "ResampleInt8": f"{_HERE}.resample:select_resample_int8",
    "ResampleF32": f"{_HERE}.resample:select_resample_f32",
    "SoftmaxF32": f"{_HERE}.normalization:select_softmax_f32",
    "LayerNormF32": f"{_HERE}.normalization:select_layer_norm",
    "CumSumF32": f"{_HERE}.normalization:select_cumulative_sum",
    "ReduceF32": f"{_HERE}.normalization:select_reduce",
    "TreeEnsemble": f"{_HERE}.trees:select_trees",
    "SupportVectors": f"{_HERE}.vectors:select_support_vectors",
    "PairwiseScores": f"{_HERE}.vectors:select_pairwise_scores",
    "PairwiseVotes": f"{_HERE}.vectors:select_votes",
    "PairwiseProbabilities": f"{_HERE}.coupling:select_probabilities",
    "ChooseClass": f"{_HERE}.classical:select_class",
    "NormalizeF32": f"{_HERE}.classical:select_normalize",
    "SoftmaxZeroF32": f"{_HERE}.classical:select_softmax_zero",
    "Impute": f"{_HERE}.lookup:select_impute",
    "Lookup": f"{_HERE}.lookup:select_lookup",
    "OneHot": f"{_HERE}.lookup:select_one_hot",
}


def kernel_for(op: Op, program: Program, target: Target) -> KernelCall:
    """The kernel call that computes ``op`` on ``target``."""
    return _selector(type(op).__name__)(op, program, target)


@cache
def _selector(kind: str) -> Selector:
    if kind not in SELECTORS:
        raise InternalError(f"no kernel for operator {kind}")
    module, _, name = SELECTORS[kind].partition(":")
    selector: Selector = getattr(importlib.import_module(module), name)
    return selector
