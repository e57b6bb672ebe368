"""Kernel families, one file each: an operator and a target in, a call of a TIR kernel out.

``SELECTORS`` is the list of what can be compiled. A selector looks at one operator, picks a kernel and its
tile, packs the constants, and returns a :class:`~irshrink.backends.tvm.kernels.call.KernelCall`. Sizes are
run-time arguments, so that layers of different shapes share one C function; tiles, unrolling and instruction
sets are arguments of the Python generator and part of the C function's name.

``CANDIDATES`` lists the operators whose kernels can be tuned: which schedules there are. Their selectors take
one of those instead of choosing by rule, and name the one they took in ``KernelCall.schedule``.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from irshrink.backends.tvm.kernels.call import Candidates, KernelCall, Schedule, Selector
from irshrink.backends.tvm.kernels.packed import unpacked_first
from irshrink.errors import InternalError
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target

_HERE = "irshrink.backends.tvm.kernels"

#: operator -> "module:selector". A Reshape has none: it shares its input's memory.
SELECTORS: dict[str, str] = {
    "ConvInt8": f"{_HERE}.vector.select:select_convolution",
    "DenseInt8": f"{_HERE}.vector.select:select_dense",
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
    "ConvInt16": f"{_HERE}.int16_layers:select_convolution",
    "DenseInt16": f"{_HERE}.int16_layers:select_dense",
    "AddInt16": f"{_HERE}.int16:select_add",
    "AveragePoolInt16": f"{_HERE}.int16:select_average_pool",
    "QuantizeInt16": f"{_HERE}.int16:select_quantize",
    "DequantizeInt16": f"{_HERE}.int16:select_dequantize",
    "ConvF16": f"{_HERE}.vector.half:select_convolution",
    "DenseF16": f"{_HERE}.vector.half:select_dense",
    "MatMulF16": f"{_HERE}.matmul:select_matmul_f16",
    "BinaryF16": f"{_HERE}.float16:select_binary",
    "UnaryF16": f"{_HERE}.float16:select_unary",
    "AveragePoolF16": f"{_HERE}.float16:select_average_pool",
    "ReduceF16": f"{_HERE}.normalization:select_reduce",
    "RoundF16": f"{_HERE}.float16:select_round",
    "WidenF16": f"{_HERE}.float16:select_widen",
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
    "DenseInteger": f"{_HERE}.dynamic:select_dense",
    "DynamicQuantize": f"{_HERE}.dynamic:select_quantize",
    "DynamicScale": f"{_HERE}.dynamic:select_scale",
    "DynamicZeroPoint": f"{_HERE}.dynamic:select_zero_point",
    "GatherRows": f"{_HERE}.rows:select_gather_rows",
    "Scatter": f"{_HERE}.indexing:select_scatter",
    "ScatterElements": f"{_HERE}.indexing:select_scatter_elements",
    "ArgReduce": f"{_HERE}.search:select_arg_reduce",
    "TopK": f"{_HERE}.search:select_top_k",
    "ReduceInteger": f"{_HERE}.search:select_reduce",
    "RecurrentF32": f"{_HERE}.recurrent:select_recurrent",
    "ConvF32": f"{_HERE}.vector.floating:select_convolution",
    "DenseF32": f"{_HERE}.vector.floating:select_dense",
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


#: operator -> "module:function" that lists its schedules (docs/tuning.md).
CANDIDATES: dict[str, str] = {
    "ConvInt8": f"{_HERE}.vector.select:convolution_candidates",
    "DenseInt8": f"{_HERE}.vector.select:dense_candidates",
    "ConvF16": f"{_HERE}.vector.half:candidates",
    "DenseF16": f"{_HERE}.vector.half:candidates",
    "ConvF32": f"{_HERE}.vector.floating:candidates",
    "DenseF32": f"{_HERE}.vector.floating:candidates",
}


#: Feature of a target -> module of kernels for its instructions, asked before the general ones. Its functions
#: ``select`` and ``candidates`` take what those of the tables above take; the first gives None, the second
#: nothing, where it has no kernel for an operator.
INSTRUCTION_SETS: dict[str, str] = {
    "mve": f"{_HERE}.mve.select",
    "dsp": f"{_HERE}.dsp.select",
}


def kernel_for(op: Op, program: Program, target: Target, schedule: Schedule | None = None) -> KernelCall:
    """The kernel call that computes ``op`` on ``target``, by one of its candidates or by rule."""
    call = _stored(op, program, target)
    if call is not None:
        return call
    call = unpacked_first(_select(op, program, target, schedule), getattr(op, "weight_bits", 8))
    if schedule is not None and call.schedule != schedule:
        raise InternalError(f"{op.name}: the kernel of {schedule} was asked for, not of {call.schedule}")
    return call


def candidates_for(op: Op, program: Program, target: Target) -> list[Schedule]:
    """The schedules that ``op`` can have on ``target``, each once; empty where there is nothing to choose."""
    if _stored(op, program, target) is not None:
        return []
    for module in _modules(target):
        found = _load(f"{module}:candidates")(op, program, target)
        if found:
            return list(dict.fromkeys(found))
    kind = type(op).__name__
    if kind not in CANDIDATES:
        return []
    candidates: Candidates = _function(CANDIDATES, kind)
    return list(dict.fromkeys(candidates(op, program, target)))


def _select(op: Op, program: Program, target: Target, schedule: Schedule | None) -> KernelCall:
    for module in _modules(target):
        call: KernelCall | None = _load(f"{module}:select")(op, program, target, schedule)
        if call is not None:
            return call
    selector: Selector = _function(SELECTORS, type(op).__name__)
    return selector(op, program, target) if schedule is None else selector(op, program, target, schedule)


def _stored(op: Op, program: Program, target: Target) -> KernelCall | None:
    """The kernel of a layer that is stored in a code or without its zeros, where that is what it takes."""
    modules = []
    if getattr(op, "huffman", False):
        modules.append("huffman")
    if getattr(op, "sparse", False):
        modules.append("sparse_floating" if type(op).__name__ == "DenseF32" else "sparse")
    calls = (_load(f"{_HERE}.{module}:select")(op, program, target) for module in modules)
    call: KernelCall | None = next((call for call in calls if call is not None), None)
    return call


def _modules(target: Target) -> list[str]:
    return [module for feature, module in INSTRUCTION_SETS.items() if target.has(feature)]


def _function(table: dict[str, str], kind: str) -> Any:
    if kind not in table:
        raise InternalError(f"no kernel for operator {kind}")
    return _load(table[kind])


@cache
def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
