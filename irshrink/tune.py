"""Tuning, top to bottom: a model in, a database of measured schedules out. ``irshrink tune``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irshrink import proof
from irshrink.console import Progress, plural, table
from irshrink.errors import OutputError, RecipeError, ToolError
from irshrink.files import write_text
from irshrink.frontends.read import read_model
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Fixpoint, Pass, Pipeline
from irshrink.program.lower import lower, lower_for
from irshrink.program.program import Program
from irshrink.recipe import Recipe
from irshrink.shorthands import chosen_passes
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import Target
from irshrink.tuning.contest import Contender, Terms, contest
from irshrink.tuning.costs import CostSource
from irshrink.tuning.database import BY_RULE, Database, Schedules, database_text, read_database
from irshrink.tuning.journal import Journal, Measurement
from irshrink.tuning.measure import WRONG, Measurer, Whole
from irshrink.tuning.session import Limits, Outcome, Session
from irshrink.tuning.tasks import find_tasks
from irshrink.tuning.tunable import Tunable
from irshrink.usable import usable_backend
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
        slack: how much more than the best cost may be taken to save code, as a fraction; not given, it is
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

    def whole(chosen: Sequence[Measurement]) -> Whole:
        progress("measuring the whole model")
        database = _database(outcomes, chosen, target, source)
        return measurer.whole(program, Schedules(databases=[database]))

    rule, best = contest(outcomes, whole, _terms(target, source, slack))
    found = _database(outcomes, best.chosen, target, source)
    database = Database(
        target=found.target, measured=found.measured, schedules={**earlier.schedules, **found.schedules}
    )
    write_text(out, database_text(database))
    return _facts(out, outcomes, best, rule, source, journal)


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
    lines = [text, "", _in_words(facts["model"]["rule"], facts["model"]["tuned"], by)]
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"written to {facts['out']}"])


def _in_words(rule: dict[str, Any] | None, tuned: dict[str, Any], by: str) -> str:
    """The whole model in one line."""
    if rule is None:
        return f"whole model, {by}: {count_of(tuned['cost'])} tuned"
    return (
        f"whole model, {by}: {count_of(rule['cost'])} by rule, {count_of(tuned['cost'])} tuned "
        f"({tuned['cost'] / rule['cost']:.3f} x); code {rule['code_bytes']:,} -> {tuned['code_bytes']:,} "
        f"bytes, arena {rule['arena_bytes']:,} -> {tuned['arena_bytes']:,} bytes"
    )


def count_of(cost: float | None) -> str:
    """Whole numbers with separators, seconds in microseconds."""
    if cost is None:
        return "-"
    return f"{cost:,.0f}" if cost >= 1 else f"{cost * 1e6:,.1f} us"


def _terms(target: Target, source: CostSource, slack: float | None) -> Terms:
    small = "-freestanding-" in target.triple
    if slack is None:
        slack = _SLACK if small else 0.0
    return Terms(slack, 0.0 if source.exact else _NOISE, small)


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
    return lower_for(module, target, io=recipe.io, requantize=recipe.requantize)


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
        schedule = BY_RULE if best == outcome.rule else best.schedule
        schedules[outcome.task.workload] = {**schedule, "cost": number}
    return Database(target=target.name, measured=source.measured, schedules=schedules)


def _facts(
    out: Path,
    outcomes: Sequence[Outcome],
    best: Contender,
    rule: Contender | None,
    source: CostSource,
    journal: Journal,
) -> dict[str, Any]:
    notes = list(journal.notes)
    wrong = sum(f.failure == WRONG for o in outcomes for f in o.failures)
    if wrong:
        notes.append(
            f"{plural(wrong, 'schedule')} gave other bytes than the reference: a bug, please report."
        )
    if rule is not None and best.chosen == rule.chosen:
        notes.append("The rule's schedules are the best for the model as a whole.")
    return {
        "out": os.fspath(out),
        "measured": source.measured,
        "model": {"rule": _whole(rule.whole) if rule else None, "tuned": _whole(best.whole)},
        "layers": [
            {
                "workload": o.task.workload,
                "layers": list(o.task.layers),
                "candidates": len(o.task.candidates),
                "measured": len(o.found),
                "rule_cost": o.rule.cost if o.rule else None,
                "cost": chosen.cost,
                "code_bytes": chosen.code_bytes,
                "schedule": dict(chosen.schedule),
                "failures": [{"schedule": dict(f.schedule), "why": f.failure} for f in o.failures],
            }
            for o, chosen in zip(outcomes, best.chosen, strict=True)
        ],
        "notes": notes,
    }


def _whole(whole: Whole) -> dict[str, Any]:
    return {"cost": whole.cost, "code_bytes": whole.code_bytes, "arena_bytes": whole.arena_bytes}
