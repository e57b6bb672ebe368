"""What passes let plans decide, and which of it a plan for a model gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from irshrink.errors import RecipeError
from irshrink.frontends.read import read_model
from irshrink.knobs import PLACES, Adjustable, Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Context, PassResult, Pipeline
from irshrink.planning.knobs_of import knobs_of
from irshrink.recipe import make_recipe
from irshrink.registry import make_pass, pass_class, pass_table
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import load_target

MODELS = Path(__file__).parents[1] / "models"
EVERYTHING: frozenset[Effect] = frozenset({"size", "ram", "cost"})


def cleaned(name: str) -> Module:
    module, _ = read_model(MODELS / f"{name}.onnx")
    fix_input_shapes(module, {})
    return Pipeline(cleanup_steps()).run(module, load_target("host"))


def found(
    module: Module, effects: frozenset[Effect] = EVERYTHING, exact: bool = True, **recipe: Any
) -> dict[str, Knob]:
    """By name, in the order of a plan."""
    values = {"target": "cortex-m4", "calibration": "samples.npz", **recipe}
    wishes = Wishes(effects, exact, 64, load_target(values["target"]), cost_matters="cost" in effects)
    knobs = knobs_of(module, wishes, make_recipe(values))
    return {knob.name: knob for knob in knobs}


@pytest.fixture(scope="module")
def ic() -> Module:
    return cleaned("ic")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("ad", {"reduce-resolution", "prune-blocks"}),
        ("lenet-5", {"reduce-resolution", "prune-blocks"}),
        ("kws", {"reduce-resolution", "prune-blocks"}),
        ("ic", set()),
    ],
)
def test_a_model_has_the_knobs_that_mean_something_on_it(name: str, missing: set[str]) -> None:
    module = cleaned(name)
    before = module.text()
    knobs = found(module)
    assert module.text() == before
    everything = {"reduce-resolution", "prune-blocks", "prune-channels", "prune-channels-evenly", "low-rank"}
    everything |= {"prune-weights", "quantize-mixed"}
    assert everything - set(knobs) == missing
    places = [PLACES.index(knob.place) for knob in knobs.values()]
    assert places == sorted(places)
    for knob in knobs.values():
        for level in knob.levels:
            for step in (*level.steps, *level.behind):
                options = {key: value for key, value in step.items() if key != "pass"}
                make_pass(str(step["pass"]), options)  # refuses options that there are not


def test_sizes_of_pictures_are_told_apart(ic: Module) -> None:
    labels = [level.label for level in found(ic)["reduce-resolution"].levels]
    assert labels == ["28 x 28 pixels", "24 x 24 pixels", "20 x 20 pixels", "16 x 16 pixels"]


@pytest.mark.parametrize(
    ("effects", "exact", "by", "ranks"),
    [
        ({"size"}, True, "bytes", "parameters"),
        ({"cost"}, True, "target", "target"),
        ({"size", "cost"}, True, "target", "target"),
        ({"cost"}, False, "macs", "macs"),
    ],
)
def test_what_goes_first_is_what_a_plan_is_for(
    ic: Module, effects: set[Effect], exact: bool, by: str, ranks: str
) -> None:
    knobs = found(ic, frozenset(effects), exact)
    assert {level.steps[0]["by"] for level in knobs["prune-channels"].levels} == {by}
    assert {level.steps[0]["by"] for level in knobs["low-rank"].levels} == {ranks}
    assert "prune-channels-evenly" not in knobs
    assert ("prune-weights" in knobs) == ("size" in effects)
    assert (len(knobs["quantize-mixed"].levels) > 1) == ("size" in effects)


def test_memory_needs_all_layers_smaller(ic: Module) -> None:
    knobs = found(ic, frozenset({"ram"}))
    assert list(knobs) == ["reduce-resolution", "prune-channels-evenly", "quantize-mixed"]
    assert {level.steps[0]["by"] for level in knobs["prune-channels-evenly"].levels} == {"layer"}


def test_what_the_recipe_says_is_in_every_plan(ic: Module) -> None:
    knobs = found(ic, prune="30%", low_rank="auto", sparsity="70%", quantize="w4a8", keep_float=["dense*"])
    fixed = {name: knob.levels[0] for name, knob in knobs.items() if knob.obligatory}
    assert list(fixed) == ["channels", "rank", "weights", "numbers"]
    assert all(len(knobs[name].levels) == 1 for name in fixed)
    assert fixed["channels"].steps == ({"pass": "prune-channels", "ratio": 0.3, "steps": 2},)
    assert fixed["rank"].steps == ({"pass": "low-rank", "by": "error", "budget": 0.1},)
    assert fixed["weights"].behind == ({"pass": "store-sparse"},)
    (numbers,) = fixed["numbers"].steps
    assert (numbers["weight_bits"], numbers["keep_float"]) == (4, ["dense*"])
    assert not {"prune-channels", "prune-channels-evenly", "low-rank", "quantize-mixed"} & set(knobs)


def test_a_model_can_stay_float(ic: Module) -> None:
    knobs = found(ic, quantize="none")
    assert knobs["numbers"].levels[0].steps == ()


def test_nodes_stay_float_at_every_level(ic: Module) -> None:
    levels = found(ic, keep_float=["dense*"])["quantize-mixed"].levels
    assert all(level.steps[-1]["keep_float"] == ["dense*"] for level in levels)


def test_every_pass_with_knobs_is_one_that_plans_may_use() -> None:
    with_knobs = {name for name in pass_table() if hasattr(pass_class(name), "knobs")}
    assert all(isinstance(pass_class(name), Adjustable) for name in with_knobs)
    assert with_knobs == {
        "low-rank",
        "prune-blocks",
        "prune-channels",
        "prune-weights",
        "quantize-mixed",
        "reduce-resolution",
        "store-huffman",
    }


class Blur:
    """A pass of somebody else's, with a knob of the name of one of ours."""

    name: ClassVar[str] = "blur"
    lossy: ClassVar[bool] = True

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        level = Level("a little", 1.0, ({"pass": cls.name},))
        return (Knob("low-rank", "blur", "weights", frozenset({"size"}), (level,)),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        return PassResult(False)


def test_knobs_have_names_of_their_own(ic: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**pass_table(), "blur": ""}
    monkeypatch.setattr("irshrink.planning.knobs_of.pass_table", lambda: table)
    monkeypatch.setattr(
        "irshrink.planning.knobs_of.pass_class", lambda name: Blur if name == "blur" else pass_class(name)
    )
    with pytest.raises(RecipeError, match="two passes have a knob 'low-rank': blur, low-rank"):
        found(ic)


def test_levels_rise() -> None:
    levels = tuple(Level(str(amount), amount, ()) for amount in np.array([1.0, 3.0, 2.0]))
    with pytest.raises(ValueError, match="knob 'odd' needs levels whose amounts rise"):
        Knob("odd", "odd", "weights", frozenset(), levels)


def test_three_bits_are_tried_where_codes_are_decoded(ic: Module) -> None:
    """Files and kernels have numbers of 8, 4 and 2 bits; a code is as long as it has to be."""
    small: frozenset[Effect] = frozenset({"size"})
    wishes = [
        Wishes(small, True, 64, load_target(target), cost_matters=matters)
        for target, matters in (("cortex-m4", False), ("cortex-m4", True), ("cortex-a72", False))
    ]
    recipe = make_recipe({"target": "cortex-m4", "calibration": "samples.npz"})
    knobs = [{knob.name: knob for knob in knobs_of(ic, one, recipe)} for one in wishes]
    widths = [one["quantize-mixed"].levels[-1].steps[0].get("bits") for one in knobs]
    assert widths == [[8, 4, 3, 2], None, None]
    assert [k["store-huffman"].obligatory if "store-huffman" in k else None for k in knobs] == [
        True,
        False,
        None,
    ]
