"""Which knobs a search turns, where a recipe names some."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from irshrink.errors import RecipeError
from irshrink.knobs import Wishes
from irshrink.module import Module, module_from_text
from irshrink.planning.knobs_of import knobs_of
from irshrink.recipe import make_recipe
from irshrink.target import load_target

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,64] x, float[64,64] v, float[64,8] w) => (float[1,8] y) {
    h = MatMul(x, v)
    r = Relu(h)
    y = MatMul(r, w)
}"""
WISHES = Wishes(
    frozenset({"size", "ram", "cost"}),
    exact_costs=True,
    samples=40,
    target=load_target("cortex-m4"),
    cost_matters=True,
)


@pytest.fixture(scope="module")
def net() -> Module:
    module = module_from_text(NET)
    rng = np.random.default_rng(0)
    for value in list(module.graph.inputs)[1:]:
        assert value.shape is not None
        value.const_value = ir.tensor(rng.standard_normal(value.shape.numpy()).astype(np.float32))
        module.graph.inputs.remove(value)
        module.graph.register_initializer(value)
    return module


def found(net: Module, **keys: Any) -> dict[str, int]:
    recipe = make_recipe({"target": "cortex-m4", "calibration": "x.npz", **keys})
    return {knob.name: len(knob.levels) for knob in knobs_of(net, WISHES, recipe)}


def test_all_knobs_without_a_word(net: Module) -> None:
    assert {"prune-weights", "quantize-mixed"} <= set(found(net))


def test_what_is_not_named_stays_off_and_what_must_be_stays_at_its_first_level(net: Module) -> None:
    everything = found(net)
    one = found(net, knobs=["prune-weights"])
    assert one == {"prune-weights": everything["prune-weights"], "quantize-mixed": 1}
    assert found(net, knobs=["quantize-mixed"]) == {"quantize-mixed": everything["quantize-mixed"]}


def test_a_knob_that_there_is_not(net: Module) -> None:
    with pytest.raises(RecipeError, match=r"no knob 'prune-weight'. Did you mean 'prune-weights'\?"):
        found(net, knobs=["prune-weight"])


def test_steps_leave_nothing_to_search() -> None:
    with pytest.raises(RecipeError, match="steps decide everything"):
        make_recipe({"target": "host", "knobs": ["low-rank"], "steps": [{"pass": "quantize-int8"}]})
