"""Lowered float graphs against the node cases that the onnx package itself carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from irshrink.errors import UserError
from irshrink.module import Module
from irshrink.ports import decode
from irshrink.program.lower import lower
from irshrink.program.lower.table import RULES
from irshrink.program.reference import run_program


def node_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        cases = collect_testcases(None)
    known = [case for case in cases if {node.op_type for node in case.model.graph.node} <= set(RULES)]
    return [case for case in known if case.name not in OTHERWISE]


#: Cases whose expected numbers have four digits.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}

#: Cases that ONNX Runtime computes otherwise, and so do we: it takes the rounded size for the last corner.
OTHERWISE = {
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}

#: Inputs of these operators are all data; of the others only the first is, the rest become constants.
DATA = {"Add", "Concat", "Div", "MatMul", "Max", "Min", "Mul", "Sub", "Sum"}


def with_constants(case: Any, inputs: list[Any]) -> tuple[onnx.ModelProto, list[np.ndarray]] | None:
    """The case as a model of its float32 data alone, one output; None when it has other data."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    several = len(graph.node) == 1 and graph.node[0].op_type in DATA
    names, feeds = [value.name for value in graph.input], []
    for index, (name, array) in enumerate(zip(names, inputs, strict=False)):
        if not isinstance(array, np.ndarray):
            return None
        if array.dtype == np.float32 and (index == 0 or several):
            feeds.append(array)
            continue
        graph.initializer.append(numpy_helper.from_array(array, name))
        graph.input.remove(next(value for value in graph.input if value.name == name))
    if len(graph.node) == 1 and graph.node[0].op_type == "LayerNormalization":
        del graph.output[1:]
    return (model, feeds) if feeds and len(feeds) == len(graph.input) else None


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx")
def test_cases_of_the_onnx_package() -> None:
    passed: set[str] = set()
    for case in node_cases():
        for inputs, outputs in case.data_sets:
            prepared = with_constants(case, inputs)
            if prepared is None:
                continue
            model, feeds = prepared
            try:
                program = lower(Module(ir.from_proto(model)), io="float")
            except UserError:
                continue
            made = [
                decode(program, *pair)
                for pair in zip(program.outputs, run_program(program, feeds), strict=True)
            ]
            for got, expected in zip(made, outputs, strict=False):
                assert got.shape == expected.shape, case.name
                relative = 5e-4 if case.name in ROUNDED else 2e-5
                np.testing.assert_allclose(got, expected, relative, 2e-6, err_msg=case.name)
            passed.add(case.name)
    assert len(passed) > 220
