"""Tuning, top to bottom: a model in, a database of measured schedules out. ``irshrink tune``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irshrink import proof
from irshrink.compile import chosen_passes, usable_backend
from irshrink.console import Progress, count, plural, table
from irshrink.errors import OutputError, RecipeError, ToolError
from irshrink.files import write_text
from irshrink.frontends.read import read_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Fixpoint, Pass, Pipeline
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.recipe import Recipe
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import Target
from irshrink.tuning.choice import Measured, choose
from irshrink.tuning.costs import CostSource
from irshrink.tuning.database import Database, Schedules, database_text, read_database
from irshrink.tuning.journal import Journal, Measurement
from irshrink.tuning.measure import WRONG, Measurer, Whole
from irshrink.tuning.session import Limits, Outcome, Session
from irshrink.tuning.tasks import find_tasks
from irshrink.tuning.tunable import Tunable
from irshrink.verify import verify_structure

#: By how much measurements that are not exact have to differ to say something.
_NOISE = 0.02
#: What a layer may take more to save code, where code has to fit into flash.
_SLACK = 0.01


def tune_model(
    model: Path | str,
    recipe: Recipe,
    out: Path | str,
    source: CostSource,
    limits: Limits,
    *,
    slack: float | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Measure schedules for every layer of a model, and write the best ones into a database.

    What was measured stays in ``OUT.journal``, whence a run that was stopped goes on. Workloads that ``out``
    holds already and the model does not have are kept, so that one database can serve several models.

    Args:
        model: any format that ``compile`` reads.
        recipe: as for ``compile``; the target is the one to tune for.
        out: the database.
        source: what a schedule costs.
        limits: how long to search.
        slack: how much more than its best cost a layer may take to save code, as a fraction; not given, it is
            1 % without an operating system and nothing with one.
        progress: called with what is being done.

    Returns:
        What was found, layer by layer, and what the whole model costs by rule and tuned.

    Raises:
        UserError: the model, the data, the recipe or the file.
        ToolError: nothing can be measured here, or a workload got no measurement.
    """
    recipe, out = Recipe.checked(recipe), Path(out)
    target = recipe.resolved_target()
    backend = tunable_backend(target)
    missing = source.missing(backend, target)
    if missing is not None:
        raise ToolError(missing)
    if slack is None:
        slack = _SLACK if "-freestanding-" in target.triple else 0.0
    earlier = _earlier(out, target, source)
    program = program_of(model, recipe, backend, target, progress)
    tasks = find_tasks(backend, program, target)
    if not tasks:
        raise ToolError(f"{model}: no layer has a choice of schedules for {target.name}.")
    identity = {"target": target.name, "measured": source.measured, "kernels": backend.kernels_digest()}
    journal = Journal(Path(f"{out}.journal"), identity)
    measurer = Measurer(backend, target, source)
    outcomes = Session(tasks, measurer, journal, limits).run(progress)
    _require_all(outcomes, journal)
    measured = [Measured(o.task.workload, len(o.task.layers), o.found, o.rule) for o in outcomes]
    chosen = choose(measured, slack, 0.0 if source.exact else _NOISE)
    found = _database(outcomes, chosen, target, source)
    progress("measuring the whole model")
    wholes = [measurer.whole(program, Schedules(databases=d)) for d in ((), (found,))]
    database = Database(
        target=found.target, measured=found.measured, schedules={**earlier.schedules, **found.schedules}
    )
    write_text(out, database_text(database))
    return _facts(out, outcomes, chosen, wholes, source, journal, slack)


def render(facts: dict[str, Any]) -> str:
    """The facts for the terminal."""
    rows = []
    for layer in facts["layers"]:
        ratio = f"{layer['cost'] / layer['rule_cost']:.2f} x" if layer["rule_cost"] else "-"
        rule = count_of(layer["rule_cost"])
        schedule = " ".join(f"{v}" if k == "kernel" else f"{k}={v}" for k, v in layer["schedule"].items())
        measured = f"{layer['measured']} of {layer['candidates']}"
        name = layer["layers"][0] + (f" +{len(layer['layers']) - 1}" if len(layer["layers"]) > 1 else "")
        rows.append((name, measured, rule, count_of(layer["cost"]), ratio, schedule))
    by = facts["measured"]
    text = table(rows, ("layer", "schedules", f"{by} by rule", "tuned", "", "schedule"))
    whole = facts["model"]
    lines = [
        text,
        "",
        f"whole model, {by}: {count_of(whole['rule'])} by rule, {count_of(whole['tuned'])} tuned "
        f"({whole['tuned'] / whole['rule']:.3f} x); code {count(whole['rule_code_bytes'])} -> "
        f"{count(whole['tuned_code_bytes'])} bytes, arena {count(whole['rule_arena_bytes'])} -> "
        f"{count(whole['tuned_arena_bytes'])} bytes",
    ]
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"written to {facts['out']}"])


def count_of(cost: float | None) -> str:
    """Whole numbers with separators, seconds in microseconds."""
    if cost is None:
        return "-"
    return f"{cost:,.0f}" if cost >= 1 else f"{cost * 1e6:,.1f} us"


def tunable_backend(target: Target) -> Tunable:
    """The backend of a target, which can be tuned.

    Raises:
        ToolError: it has no schedules, or cannot compile here.
    """
    backend = usable_backend(target)
    if not isinstance(backend, Tunable):
        raise ToolError(f"backend '{backend.name}' of target '{target.name}' has no schedules to tune.")
    return backend


def _earlier(out: Path, target: Target, source: CostSource) -> Database:
    """The database that is at ``out`` already; an empty one where there is none."""
    if out.is_dir():
        raise OutputError(f"{out}: is a folder. Give the name of the database to write with -o.")
    if not out.exists():
        return Database(target=target.name, measured=source.measured)
    earlier = read_database(out)
    if (earlier.target, earlier.measured) != (target.name, source.measured):
        raise RecipeError(
            f"{out}: holds {earlier.measured} of {earlier.target}, these are {source.measured} of "
            f"{target.name}. Choose another file with -o."
        )
    return earlier


def program_of(
    model: Path | str,
    recipe: Recipe,
    backend: Tunable,
    target: Target,
    progress: Progress = lambda _: None,
) -> Program:
    """The program that ``compile`` would build.

    Raises:
        RecipeError: the recipe names several sets of input shapes.
    """
    if recipe.variants:
        raise RecipeError(
            f"the recipe has {len(recipe.variants)} variants of input shapes, tune takes one. Give --shape."
        )
    progress("reading the model and the data")
    passes = chosen_passes(recipe)
    module, _ = read_model(Path(model), recipe.frontend, progress)
    fix_input_shapes(module, recipe.shapes)
    require_sound(module)
    module.calibration = proof.Data.load(module, recipe).calibration

    def run(*steps: Pass | Fixpoint) -> None:
        Pipeline(steps, [], verify_structure, progress).run(module, target, recipe.seed)

    run(*cleanup_steps())
    lower(module)
    for step in passes:
        progress(step.name)
        run(step)
    run(*backend.legalize(target))
    return lower(module, io=recipe.io, requantize=recipe.requantize)


def _require_all(outcomes: Sequence[Outcome], journal: Journal) -> None:
    """Refuse to call a model tuned when some of it is not.

    Raises:
        ToolError: a workload has no measurement; says why.
    """
    without = [o for o in outcomes if not o.found]
    if not without:
        return
    name = without[0].task.layers[0]
    failed = without[0].failures
    if failed:
        why = f"its schedules failed, the first one because: {failed[0].failure}"
    else:
        why = "the time limit came first. Run again with a longer --time-limit"
    more = f" and {plural(len(without) - 1, 'other layer')}" if len(without) > 1 else ""
    raise ToolError(
        f"'{name}'{more} got no trial: {why.rstrip('.')}. What was measured is kept in {journal.path}."
    )


def _database(
    outcomes: Sequence[Outcome], chosen: Sequence[Measurement], target: Target, source: CostSource
) -> Database:
    schedules = {}
    for outcome, best in zip(outcomes, chosen, strict=True):
        assert best.cost is not None
        number = int(best.cost) if best.cost == int(best.cost) else best.cost
        schedules[outcome.task.workload] = {**best.schedule, "cost": number}
    return Database(target=target.name, measured=source.measured, schedules=schedules)


def _facts(
    out: Path,
    outcomes: Sequence[Outcome],
    chosen: Sequence[Measurement],
    wholes: Sequence[Whole],
    source: CostSource,
    journal: Journal,
    slack: float,
) -> dict[str, Any]:
    rule, tuned = wholes
    notes = list(journal.notes)
    wrong = sum(f.failure == WRONG for o in outcomes for f in o.failures)
    if wrong:
        notes.append(
            f"{plural(wrong, 'schedule')} gave other bytes than the reference: a bug, please report."
        )
    if tuned.cost > rule.cost * (1 + slack):
        notes.append("The whole model is not better: what layers share by rule outweighs what each gained.")
    return {
        "out": os.fspath(out),
        "measured": source.measured,
        "model": {
            "rule": rule.cost,
            "tuned": tuned.cost,
            "rule_code_bytes": rule.code_bytes,
            "tuned_code_bytes": tuned.code_bytes,
            "rule_arena_bytes": rule.arena_bytes,
            "tuned_arena_bytes": tuned.arena_bytes,
        },
        "layers": [
            {
                "workload": o.task.workload,
                "layers": list(o.task.layers),
                "candidates": len(o.task.candidates),
                "measured": len(o.found),
                "rule_cost": o.rule.cost if o.rule else None,
                "cost": best.cost,
                "code_bytes": best.code_bytes,
                "schedule": dict(best.schedule),
                "failures": [{"schedule": dict(f.schedule), "why": f.failure} for f in o.failures],
            }
            for o, best in zip(outcomes, chosen, strict=True)
        ],
        "notes": notes,
    }
