"""The node cases of the onnx package through cleanup, lowering and the NumPy reference: which operators run.

    python benchmarks/operators.py [OPERATOR ...]

A case is tried with all its inputs as inputs of the model, then with all but the first as constants. Kernels
equal the reference byte for byte (tests/test_kernels*.py), so what is right here is right on a device.
float16 cases compare to 2e-3, bfloat16 to 2e-2, all others to 2e-5.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from irshrink.errors import IrshrinkError
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.ports import decode
from irshrink.program import elements
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference import run_program
from irshrink.target import load_target

TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}


def main() -> None:
    from onnx.backend.test.case.node import collect_testcases

    warnings.simplefilter("ignore")
    chosen = set(sys.argv[1:])
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for case in collect_testcases(None):
            if chosen and not chosen & {node.op_type for node in case.model.graph.node}:
                continue
            verdict, reason = judged(case)
            verdicts[verdict] += 1
            if verdict != "right":
                reasons[f"{verdict}: {reason}"] += 1
    for reason, count in sorted(reasons.items()):
        print(f"{count:4} {reason}")
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())))


def judged(case: Any) -> tuple[str, str]:
    """``right``, ``wrong`` or ``refused``, and why."""
    reason = ""
    for fixed in (False, True):
        inputs, outputs = case.data_sets[0]
        if not all(isinstance(value, np.ndarray | np.generic) for value in (*inputs, *outputs)):
            return "refused", "it has sequences or optional values"
        model, feeds = prepared(case.model, [np.asarray(value) for value in inputs], fixed)
        try:
            program = lower(cleaned(model), io="float")
        except IrshrinkError as e:
            reason = str(e).splitlines()[-1].strip()[:120]
            continue
        return compared(case.name, program, feeds, outputs)
    operators = "+".join(sorted({node.op_type for node in case.model.graph.node}))[:40]
    return "refused", f"{operators}: {reason}"


def prepared(model: onnx.ModelProto, inputs: list[Any], fixed: bool) -> tuple[onnx.ModelProto, list[Any]]:
    """The model with all inputs open, or all but the first constant."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [value.name for value in model.graph.input]
    if not fixed:
        return copy, inputs
    for name, array in list(zip(names, inputs, strict=False))[1:]:
        copy.graph.initializer.append(numpy_helper.from_array(array, name))
        copy.graph.input.remove(next(value for value in copy.graph.input if value.name == name))
    return copy, inputs[:1]


def cleaned(model: onnx.ModelProto) -> Module:
    module = Module(ir.from_proto(model))
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    return module


def compared(name: str, program: Program, feeds: list[Any], outputs: Any) -> tuple[str, str]:
    stored = [elements.stored(array) for array in feeds[: len(program.inputs)]]
    if any(array is None for array in stored) or len(stored) != len(program.inputs):
        return "refused", "its numbers do not fit 32 bits"
    results = run_program(program, [array for array in stored if array is not None])
    for port, array, given in zip(program.outputs, results, outputs, strict=False):
        found, wanted = decode(program, port, array), np.asarray(given)
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            return (
                "wrong",
                f"{name}: {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}",
            )
        close = TOLERANCE.get(wanted.dtype.name, 2e-5)
        if not np.allclose(found.astype(np.float64), wanted.astype(np.float64), close, close, equal_nan=True):
            return "wrong", f"{name}: other values"
    return "right", ""


if __name__ == "__main__":
    main()
