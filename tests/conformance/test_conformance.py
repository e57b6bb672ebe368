"""The onnx package's own cases through import, cleanup and saving; benchmarks/conformance.py runs all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irshrink.module import load_module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.testing.conformance import Case, Verdict, judge, light_models, node_cases, stored_cases
from irshrink.verify import verify_static, verify_structure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REFUSED: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("refused.toml").read_text(encoding="utf-8")
)
#: Of the others every eighth: neighbours are variants of one operator.
ALWAYS = ("affine_grid", "bfloat16", "FLOAT8", "INT4", "if_", "loop", "optional", "scan", "sequence", "mvn")
STRIDE = 8


def cleaned(file: Path) -> Path:
    module = load_module(file)
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, load_target("host"))
    module.save(file.with_name("cleaned.onnx"))
    return file.with_name("cleaned.onnx")


def judged(cases: list[Case], folder: Path) -> list[Verdict]:
    return [judge(case, cleaned, folder) for case in cases]


def equal(verdicts: list[Verdict]) -> int:
    """How many cases are equal; all others must be known and have their reason."""
    assert not [verdict for verdict in verdicts if verdict.kind == "wrong"]
    refused = {verdict.case: verdict.reason for verdict in verdicts if verdict.kind == "refused"}
    for name, message in refused.items():
        assert REFUSED.get(name, {"message": "not listed"})["message"] in message, name
    assert refused.keys() == REFUSED.keys() & {v.case for v in verdicts}, "listed, but not refused"
    return sum(verdict.kind == "equal" for verdict in verdicts)


@pytest.mark.long
def test_a_sample_of_the_node_cases(tmp_path: Path) -> None:
    cases = node_cases()
    assert REFUSED.keys() <= {case.name for case in cases}
    sample = [c for i, c in enumerate(cases) if i % STRIDE == 0 or any(part in c.name for part in ALWAYS)]
    assert equal(judged(sample, tmp_path)) > 230


def test_the_stored_cases(tmp_path: Path) -> None:
    assert equal(judged(stored_cases(), tmp_path)) >= 100


@pytest.mark.parametrize("model", light_models(), ids=lambda path: path.stem)
def test_networks_of_known_shapes(model: Path, tmp_path: Path) -> None:
    module = load_module(model)
    fix_input_shapes(module, {})
    Pipeline(cleanup_steps(), verify=verify_structure).run(module, load_target("host"))
    verify_static(module)


def test_a_network_of_computed_weights_lowers() -> None:
    module = load_module(next(path for path in light_models() if path.stem == "light_squeezenet"))
    fix_input_shapes(module, {})
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    operators = [type(op).__name__ for op in lower(module).ops]
    assert len(operators) == 42


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    def broken(file: Path) -> Path:
        model: Any = onnx.load(file)
        model.graph.node[0].op_type = "Neg"
        onnx.save(model, file)
        return file

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Abs (x) }'
    x = np.array([1, -2], np.float32)
    case = Case("abs", onnx.parser.parse_model(text), (([x], [np.abs(x)]),), 1e-3, 1e-7)
    assert judge(case, cleaned, tmp_path) == Verdict("abs", "equal", "", (1, 1))
    assert judge(case, broken, tmp_path) == Verdict("abs", "wrong", "output 0: other numbers", (1, 1))
