"""The cleanup list as a whole: on the product's models, and on what converters are known to write."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from irshrink.errors import ModelError
from irshrink.graph.edit import constant
from irshrink.instruments import CheckNumerics
from irshrink.module import Module, load_module, module_from_text
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target
from irshrink.verify import verify_static, verify_structure

MODELS = Path(__file__).parents[1] / "models"

#: Operators after cleanup: what converters wrote around them is in the weights.
EXPECTED = {
    "ad": {"Gemm": 10, "Relu": 9, "Reshape": 2},
    "ic": {
        **{"Transpose": 1, "Conv": 9, "Relu": 7, "Add": 3, "AveragePool": 1, "Reshape": 1},
        **{"Gemm": 1, "Softmax": 1},
    },
    "kws": {"Reshape": 2, "Conv": 9, "Relu": 9, "AveragePool": 1, "Gemm": 1, "Softmax": 1},
    "lenet-300-100": {"Flatten": 1, "Gemm": 3, "Relu": 2},
    "lenet-5": {"Conv": 2, "MaxPool": 2, "Flatten": 1, "Gemm": 2, "Relu": 1},
    "vww": {
        **{"Transpose": 1, "Conv": 27, "Relu": 27, "AveragePool": 1, "Reshape": 1},
        **{"Gemm": 1, "Softmax": 1},
    },
}


def clean(module: Module) -> Module:
    """Cleaned up; every pass that changed something was checked in structure and in numbers."""
    check = CheckNumerics(random_samples(input_specs(module.graph), 2))
    Pipeline(cleanup_steps(), [check], verify_structure).run(module, load_target("host"))
    verify_static(module)
    return module


def load(name: str) -> Module:
    module = load_module(MODELS / f"{name}.onnx")
    fix_input_shapes(module, {})
    return module


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_product_models(name: str) -> None:
    module = clean(load(name))
    assert Counter(node.op_type for node in module.graph) == EXPECTED[name]
    for node in module.graph:
        if node.op_type in ("Add", "Mul"):
            assert all(constant(value) is None for value in node.inputs)
    assert not [note for record in module.history for note in record.notes]


def test_cleaning_twice_changes_nothing_more() -> None:
    module = clean(load("kws"))
    done = len(module.history)
    before = module.to_proto().SerializeToString(deterministic=True)
    clean(module)
    assert not [record.name for record in module.history[done:] if record.changed]
    assert module.to_proto().SerializeToString(deterministic=True) == before


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (clean(load("ic")).to_proto().SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_the_module_that_was_cloned_stays() -> None:
    module = load("lenet-5")
    before = module.to_proto().SerializeToString(deterministic=True)
    clean(module.clone())
    assert module.to_proto().SerializeToString(deterministic=True) == before


def test_a_shape_computation_folds_away() -> None:
    """What PyTorch exports for ``x.view(x.size(0), -1)``, with a static batch."""
    module = clean(
        module_from_text("""<ir_version: 7, opset_import: ["" : 11]>
        g (float[1, 2, 3] x) => (float[N, M] y)
        {
           shape = Shape (x)
           zero = Constant <value = int64 {0}> ()
           batch = Gather <axis = 0> (shape, zero)
           first = Unsqueeze <axes = [0]> (batch)
           rest = Constant <value = int64[1] {-1}> ()
           target = Concat <axis = 0> (first, rest)
           flat = Reshape (x, target)
           y = Relu (flat)
        }""")
    )
    assert [node.op_type for node in module.graph] == ["Reshape", "Relu"]


def test_a_channels_last_block_loses_its_transposes() -> None:
    """NHWC in and out, with the affine part of a BatchNormalization and ReLU6 between."""
    module = clean(
        module_from_text("""<ir_version: 8, opset_import: ["" : 13]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
           <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] s = {2, 3}, float[2] t = {1, -1},
            float zero = {0}, float six = {6}>
        {
           a = Conv (x, w)
           b = Transpose <perm = [0, 2, 3, 1]> (a)
           c = Relu (b)
           d = Min (c, six)
           e = Transpose <perm = [0, 3, 1, 2]> (d)
           y = Conv (e, w)
        }""")
    )
    assert [node.op_type for node in module.graph] == ["Conv", "Clip", "Conv"]


def test_a_transformer_block_is_recognized() -> None:
    module = clean(
        module_from_text("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 4] x) => (float[1, 3, 4] y)
           <float two = {2}, float eps = {0.00001}, float root = {1.4142135}, float one = {1},
            float half = {0.5}, float[4] gamma = {1, 2, 3, 4}, float[4] beta = {1, 0, 1, 0},
            float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
            float[4] b = {1, 2, 3, 4}>
        {
           mean = ReduceMean <axes = [-1]> (x)
           d = Sub (x, mean)
           again = Sub (x, mean)
           p = Pow (d, two)
           v = ReduceMean <axes = [-1]> (p)
           e = Add (v, eps)
           s = Sqrt (e)
           n = Div (again, s)
           m = Mul (n, gamma)
           o = Add (m, beta)
           f = MatMul (o, w)
           g0 = Add (f, b)
           g1 = Div (g0, root)
           g2 = Erf (g1)
           g3 = Add (g2, one)
           g4 = Mul (g0, g3)
           g5 = Mul (g4, half)
           y = Add (x, g5)
        }""")
    )
    assert [node.op_type for node in module.graph] == ["LayerNormalization", "MatMul", "Add", "Gelu", "Add"]


def test_symbolic_shapes_are_no_obstacle() -> None:
    module = module_from_text("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 1, H, W] x) => (float[N, 2, P, Q] y)
       <float[2, 1, 1, 1] w = {1, 2}, float[1, 2, 1, 1] s = {2, 3}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
    {
       p = Pad (x, pads)
       a = Conv (p, w)
       y = Mul (a, s)
    }""")
    Pipeline(cleanup_steps()).run(module, load_target("host"))
    assert [node.op_type for node in module.graph] == ["Conv"]


def test_subgraphs_are_left_alone_and_keep_what_they_read() -> None:
    module = clean(
        module_from_text("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, bool c) => (float[2] y)
           <float[2] w = {1, 2}>
        {
           r = Identity (x)
           k = Add (w, w)
           unread = Neg (k)
           y = If (c) <
              then_branch = t () => (float[2] u) { u = Mul (r, k) },
              else_branch = e () => (float[2] v) { v = Identity (x) }
           >
        }""")
    )
    assert [node.op_type for node in module.graph] == ["If"]
    assert sorted(module.graph.initializers) == ["k"]


def test_equal_outputs_stay_two_outputs() -> None:
    module = clean(
        module_from_text("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) z = Relu (x) }""")
    )
    assert [value.name for value in module.graph.outputs] == ["y", "z"]
    assert [node.op_type for node in module.graph] == ["Relu", "Identity"]


def test_a_constant_output_stays() -> None:
    module = clean(
        module_from_text("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y, float[2] z, float[2] w)
           <float[2] w = {1, 2}>
        {
           y = Add (x, w)
           z = Constant <value_floats = [1.0, 2.0]> ()
        }""")
    )
    assert [value.name for value in module.graph.outputs] == ["y", "z", "w"]


def test_a_function_that_is_no_valid_onnx_is_the_fault_of_the_file() -> None:
    module = module_from_text("""<ir_version: 9, opset_import: ["" : 20, "local" : 1]>
        g (float[1, 4] x) => (float[1, 4] y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 20]> f (v) => (w) { w = Relu <slope = 1.0> (v) }""")
    with pytest.raises(
        ModelError, match="function of the model is not valid ONNX: Unrecognized attribute: slope"
    ):
        Pipeline(cleanup_steps()).run(module, load_target("host"))
