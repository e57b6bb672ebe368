"""Plans in the report: its schema and the structs of a plan are the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from irshrink.planning import plan as planned
from irshrink.report.report import build_report
from irshrink.testing.plans import example_plan
from irshrink.testing.reports import facts

SCHEMA = json.loads((Path(__file__).parents[1] / "irshrink" / "report" / "schema.json").read_text("utf-8"))
#: Structs of a plan by their name in the schema.
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "plan": planned.Plan,
    "plan_figures": planned.Figures,
    "plan_prediction": planned.Prediction,
    "plan_evaluation": planned.Evaluation,
    "plan_budget": planned.Budget,
    "plan_option": planned.Option,
    "plan_decision": planned.Decision,
    "plan_alternative": planned.Alternative,
    "plan_relaxation": planned.Relaxation,
}


def built(plan: dict[str, Any] | None) -> dict[str, Any]:
    return build_report(dataclasses.replace(facts(), plan=plan))


@pytest.mark.parametrize("name", STRUCTS)
def test_the_schema_says_what_the_structs_hold(name: str) -> None:
    described = SCHEMA["$defs"][name]
    fields = [field.encode_name for field in msgspec.structs.fields(STRUCTS[name])]
    assert list(described["properties"]) == fields
    assert described["required"] == fields
    assert all(
        "description" in one or "$ref" in one or "const" in one for one in described["properties"].values()
    )


def test_every_struct_is_described() -> None:
    structs = {
        value
        for value in vars(planned).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
    }
    assert structs == set(STRUCTS.values())


@pytest.mark.parametrize("met", [True, False])
def test_plans_fit_the_schema_and_the_structs(met: bool) -> None:
    example = example_plan(met=met)
    plan = msgspec.convert(example, planned.Plan)
    plain = msgspec.to_builtins(plan)
    assert json.loads(json.dumps(plain)) == example
    made = built(plain)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(made)))
    assert made["plan"] == example


def test_a_report_without_a_plan_says_so() -> None:
    made = built(None)
    assert made["plan"] is None
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
