"""What people are told where no plan keeps the budgets: only what they can do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from irshrink.module import module_from_text
from irshrink.planning.advice import advice
from irshrink.planning.plan import Plan
from irshrink.planning.subject import Subject
from irshrink.recipe import make_recipe
from irshrink.target import load_target
from irshrink.testing.plans import example_plan

NET = """<ir_version: 9, opset_import: ["" : 20]>
net (float[1,4] x) => (float[1,3] y)
<float[4,3] w = {0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,-1.1,-1.2}> { y = MatMul(x, w) }"""


def subject(macs: int = 12, **keys: Any) -> Subject:
    """As much of one as advice looks at."""
    parts = {"recipe": make_recipe({"target": "cortex-m4", **keys}), "target": load_target("cortex-m4")}
    return cast(Subject, SimpleNamespace(module=module_from_text(NET), macs=macs, **parts))


def missed(layers: list[dict[str, Any]] | None = None, **keys: Any) -> Plan:
    """A plan that misses 1 point by 0.24 and 24,576 bytes of flash; judged on 1,000 samples."""
    plan = example_plan(met=False)
    plan["evaluations"][plan["chosen"]] |= {} if layers is None else {"layers": layers}
    return msgspec.convert({**plan, **keys}, Plan)


def layer(name: str, bits: int, nbytes: int, **loss: float) -> dict[str, Any]:
    widths = {width.removeprefix("at_"): value for width, value in loss.items()}
    return {"name": name, "op_type": "Conv", "bits": bits, "bytes": nbytes, "loss": widths}


FIRST = layer("/first", 8, 300, at_8=0.09, at_4=0.8)
LARGE = layer("/large", 8, 3000, at_8=0.01, at_4=0.1)


def test_a_board_that_the_plan_fits() -> None:
    assert advice(missed(), subject()) == ("It would fit the board nucleo-f446re.",)
    kept = [{"quantity": "flash_bytes", "option": "--flash", "limit": 1e6}]
    assert advice(missed(budgets=kept), subject()) == ()


def test_a_small_layer_that_loses_most_with_all_bits() -> None:
    said = (
        "Layer '/first' has 90% of what rounding weights loses, at 8 bits. In float it takes about 900 bytes "
    )
    assert advice(missed([FIRST, LARGE]), subject(objective="smallest", max_drop="1%"))[1] == (
        f"{said}more: try --keep-float '/first'."
    )
    # without an objective, what the user says of numbers would be no search
    assert advice(missed([FIRST, LARGE]), subject())[1].endswith("'/first' --objective accurate.")


@pytest.mark.parametrize(
    "layers",
    [
        [FIRST],
        [FIRST, layer("/other", 8, 300, at_8=0.1)],
        [layer("/first", 4, 150, at_8=0.09, at_4=0.8), LARGE],
        [FIRST, layer("/large", 2, 750, at_8=0.01, at_2=3.0)],
        [layer("/first", 8, 300, at_8=0.0), layer("/large", 8, 3000, at_8=0.0)],
        [{"name": "/first", "op_type": "Conv", "cost": 12.0}],
    ],
    ids=["alone", "many", "bits are left", "a large one loses more", "nothing is lost", "no bits"],
)
def test_no_layer_is_named_where_float_is_no_way_out(layers: list[dict[str, Any]]) -> None:
    assert len(advice(missed(layers), subject())) == 1


def test_a_layer_is_not_named_where_accuracy_is_not_what_is_missing() -> None:
    budgets = [
        {"quantity": "drop", "option": "--max-drop", "limit": 0.02},
        {"quantity": "flash_bytes", "option": "--flash", "limit": 24_576},
    ]
    assert len(advice(missed([FIRST, LARGE], budgets=budgets), subject())) == 1


def test_how_many_samples_would_tell_more() -> None:
    few = missed(judged_on=85)
    assert advice(few, subject())[1:] == (
        "Accuracy was judged on 85 samples, few for a budget of 1.00 points; 1,000 tell more. Give more as "
        "--calibration: at least a third of them judges.",
    )
    assert advice(few, subject(fit=100))[1].endswith("--calibration: all but --fit of them judge.")


@pytest.mark.parametrize(("limit", "told"), [(0.002, False), (0.008, True), (0.02, False)])
def test_samples_are_asked_for_where_chance_may_be_in_the_way(limit: float, told: bool) -> None:
    """The plan loses 1.08 points, with a standard error of 0.16."""
    budgets = [{"quantity": "drop", "option": "--max-drop", "limit": limit}]
    assert bool(advice(missed(budgets=budgets, judged_on=85), subject())) == told


def test_more_samples_than_ever_judge_are_not_asked_for() -> None:
    assert len(advice(missed(judged_on=519), subject(macs=385_187_552))) == 1
