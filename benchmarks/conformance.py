"""All cases of the onnx package through import, cleanup and saving; with ``--compile`` through lowering too.

    python benchmarks/conformance.py [--compile] [--list] [--every N]

A case counts where ONNX Runtime gets what it expects from the model as it came. After cleanup it must again
(`equal`), or we must have refused the model (`refused`, tests/conformance/refused.toml says why); anything
else is `wrong`, and the exit code is 1. ``--compile`` is information: how many also lower to a program whose
reference computes the expected values within 1e-4 of the largest, and what keeps the others from it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.console import table
from irshrink.errors import IrshrinkError
from irshrink.module import Module, load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.ports import decode, encode_inputs
from irshrink.program.lower import lower
from irshrink.program.reference import run_program
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.testing.conformance import Case, Verdict, judge, node_cases, stored_cases
from irshrink.verify import verify_structure

_STEPS, _HOST = cleanup_steps(), load_target("host")
_TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="lower the cases too, and run the reference")
    parser.add_argument("--list", action="store_true", help="name every case that is not equal")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth case only")
    options = parser.parse_args()
    groups = {"node": node_cases()[:: options.every], "stored": stored_cases()[:: options.every]}
    wrong, rows = 0, []
    for name, cases in groups.items():
        with tempfile.TemporaryDirectory() as folder:
            verdicts = [judge(case, _cleaned, Path(folder)) for case in cases]
        kinds = Counter(verdict.kind for verdict in verdicts)
        wrong += kinds["wrong"]
        rows.append((name, *(str(n) for n in (len(cases), *map(kinds.__getitem__, _KINDS)))))
        _tell(verdicts, everything=options.list)
        if options.compile:
            counted = {verdict.case for verdict in verdicts if verdict.kind != "not run"}
            _compile([case for case in cases if case.name in counted], everything=options.list)
    print(table(rows, ("cases", "all", *_KINDS)))
    sys.exit(1 if wrong else 0)


_KINDS = ("not run", "equal", "refused", "wrong")


def _tell(verdicts: list[Verdict], *, everything: bool) -> None:
    for verdict in verdicts:
        if verdict.kind in ("refused", "wrong") or (everything and verdict.kind == "not run"):
            print(f"{verdict.kind}: {verdict.case}: {verdict.reason}")


def _cleaned(file: Path) -> Path:
    module = load_module(file)
    Pipeline(_STEPS, verify=verify_structure).run(module, _HOST)
    module.save(file.with_name("cleaned.onnx"))
    return file.with_name("cleaned.onnx")


def _compile(cases: list[Case], *, everything: bool) -> None:
    """Print how many cases lower and compute what they should, and the operators of the others."""
    right, refused, differing = Counter[str](), Counter[str](), []
    for case in cases:
        answers = [_lowered(case, fixed) for fixed in (False, True)]
        good = [how for how, answer in zip(("as it is", "constant"), answers, strict=True) if answer == ""]
        if good:
            right[good[0]] += 1
        elif any(answer == "differs" for answer in answers):
            differing.append(case.name)
        else:
            refused[_blamed(answers[1])] += 1
            if everything:
                print(f"not lowered: {case.name}: {answers[1]}")
    print(f"lowered and right: {right['as it is']} as they are, {right['constant']} more with all inputs but")
    print(f"the first constant, of {len(cases)}; others than expected: {', '.join(differing) or 'none'}")
    print("not lowered, by operator: " + ", ".join(f"{op} {count}" for op, count in refused.most_common()))


def _lowered(case: Case, fixed: bool) -> str:
    """Nothing when the program of a case computes what it should; ``differs``, or why there is none.

    Args:
        fixed: all inputs but the first are constants, as weights and axes are in a real model.
    """
    inputs, expected = (
        [np.asarray(v) if isinstance(v, np.generic) else v for v in side] for side in case.data[0]
    )
    if not all(isinstance(value, np.ndarray) for value in (*inputs, *expected)):
        return "sequences, optionals or types that NumPy does not have"
    model = type(case.model).FromString(case.model.SerializeToString())
    if fixed:
        _fix(model, inputs[1:])
    try:
        module = Module(ir.from_proto(model))
        fix_input_shapes(module, {})
        Pipeline(_STEPS).run(module, _HOST)
        program = lower(module, io="float")
        names = [value.name for value in case.model.graph.input]
        stored = run_program(program, encode_inputs(program, dict(zip(names, inputs, strict=False))))
        outputs = [decode(program, port, one) for port, one in zip(program.outputs, stored, strict=True)]
    except IrshrinkError as e:
        return str(e).splitlines()[-1].strip()
    same = [_close(got, np.asarray(wanted)) for got, wanted in zip(outputs, expected, strict=False)]
    return "" if all(same) else "differs"


def _blamed(answer: str) -> str:
    """The operator that a refusal names, or all of it."""
    first = answer.split(" ", 1)[0]
    return first if first and first[0].isupper() and "'" in answer else answer


def _fix(model: Any, values: list[Any]) -> None:
    import onnx

    ports = list(model.graph.input)[1:]
    for port, value in zip(ports, values, strict=False):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, port.name))
        model.graph.input.remove(port)


def _close(got: Any, wanted: Any) -> bool:
    if got.shape != wanted.shape:
        return False
    peak = max((float(np.abs(x).max()) for x in (wanted[np.isfinite(wanted)],) if x.size), default=0.0)
    return bool(np.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * peak, equal_nan=True))


if __name__ == "__main__":
    main()
