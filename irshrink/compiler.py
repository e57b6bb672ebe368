"""The whole flow, top to bottom: a float model and samples in, a checked C package and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irshrink import proof
from irshrink.analyses.cost import graph_parameters
from irshrink.artifact import model_name
from irshrink.blas import one_thread
from irshrink.console import Progress, plural
from irshrink.costs.planned import costs_if_any, footprint_before, needs_costs
from irshrink.errors import BudgetError
from irshrink.files import sha256, write_text
from irshrink.fit import within_flash
from irshrink.frontends.convert import ImportedModel
from irshrink.frontends.read import read_model
from irshrink.instruments import CheckNumerics
from irshrink.lock import LOCK_NAME, lock_text, make_lock, settled
from irshrink.module import Module
from irshrink.output import fresh_folder
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Fixpoint, Instrument, Pass, Pipeline
from irshrink.planning.compiling import PLAN_NAME, Searching, compile_planned, is_open, plain_plan, plan_text
from irshrink.planning.plan import Plan
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.recipe import Recipe
from irshrink.report.graph import graph_rows
from irshrink.report.report import (
    BuildFacts,
    DataFacts,
    ModelFacts,
    VariantFacts,
    build_report,
    write_report,
)
from irshrink.samples import Samples, unread
from irshrink.shorthands import chosen_passes
from irshrink.speed import require_instructions, require_latency, require_measurable
from irshrink.trade import memory_notes
from irshrink.tuning.database import schedules_for
from irshrink.usable import backend_going_by
from irshrink.variants import (
    Made,
    Shaped,
    in_order,
    make_package,
    most_telling,
    samples_by_role,
    shaped_variants,
    variant_notes,
)
from irshrink.verify import verify_structure


@one_thread()
def compile_model(
    model: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    force: bool = False,
    timings: bool = False,
    searching: Searching | None = None,
    plan: Plan | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Compile a model into ``out`` and prove the build on its target or emulator.

    Args:
        model: ONNX, or any other format of docs/frontends.md.
        recipe: what to do, for which target, with which data. What it leaves open for an objective, or for
            budgets that int8 does not keep, is searched (docs/planning.md).
        out: the output folder; appears complete or not at all.
        force: replace ``out`` even when it is no earlier build.
        timings: write wall-clock seconds into ``report.json``, which makes it differ from run to run.
        searching: who tries plans, where one is searched.
        plan: how the steps of the recipe were found, for the report.
        progress: called with what is being done.

    Returns:
        The report (``irshrink/report/schema.json``).

    Raises:
        UserError: the model, the data, the recipe or the folder; nothing was written.
        BudgetError: accuracy, flash or RAM; nothing was written.
        ToolError: the compiler or the emulator.
    """
    recipe = Recipe.checked(recipe)

    def build(attempt: Recipe, plan: Plan | None) -> dict[str, Any]:
        return _compile(Path(model), attempt, Path(out), force, timings, plan, progress)

    if recipe.objective is not None or is_open(recipe):
        return compile_planned(build, Path(model), recipe, searching or Searching(), progress)
    return within_flash(lambda attempt: build(attempt, plan), recipe)


def _compile(
    path: Path, recipe: Recipe, out: Path, force: bool, timings: bool, plan: Plan | None, progress: Progress
) -> dict[str, Any]:
    target = recipe.resolved_target()
    schedules = schedules_for(target, recipe.schedules)
    backend = backend_going_by(schedules, target, recipe)
    passes = chosen_passes(recipe)
    proof.require_data(recipe)
    require_measurable(recipe, backend, target)

    progress("reading the model and the data")
    module, imported = read_model(path, recipe.frontend, progress)
    variants = shaped_variants(module, recipe)
    samples = samples_by_role(variants)
    costs = costs_if_any(target, passes, schedules) if needs_costs(passes) else None

    def run(*steps: Pass | Fixpoint) -> None:
        for variant in in_order(variants):
            watched = recipe.verify and variant.data.best() is not None
            instruments: list[Instrument] = [CheckNumerics(variant.data.few())] if watched else []
            pipeline = Pipeline(steps, instruments, verify_structure, progress, costs)
            pipeline.run(variant.module, target, recipe.seed)

    progress("cleaning up")
    run(*cleanup_steps())
    for variant in variants:
        lower(variant.module)  # what no kernel can run is refused here, before any long work
        proof.require_scorable(variant.original, variant.data, recipe.metric)
    whole = module.clone()
    for step in passes:
        progress(step.name)
        run(step)
    run(*backend.legalize(target))

    with fresh_folder(out, force) as folder:
        for variant in variants:
            variant.module.save(folder / model_name(variant.name))
            proof.require_size(folder / model_name(variant.name), recipe.max_size)
        try:
            made = make_package(backend, variants, recipe, target, folder, path.stem, progress)
        except BudgetError as e:
            e.model_bytes = (folder / model_name(variants[0].name)).stat().st_size
            raise
        latency = None
        for one in made:
            require_instructions(one.checked.run, target, recipe.instructions)
            slow = require_latency(backend, one.built, one.tests[0].inputs, recipe.latency)
            latency = max(slow or 0.0, latency or 0.0) or None
        told = made[most_telling(variants)]
        accuracy = proof.measure(
            told.variant.original, told.built, told.variant.data, told.tests, recipe, progress
        )
        memory = memory_notes(backend, made[0].built, made[0].checked.run, made[0].tests, progress)
        digests: dict[str, str | None] = {role: given.digest() for role, given in samples.items()}
        digests |= {"schedules": schedules.digest(), **_weights_digest(module)}
        if plan is not None:
            write_text(folder / PLAN_NAME, plan_text(plan))
            digests["plan"] = sha256(folder / PLAN_NAME)
        found = settled(recipe, passes, module.history)
        lock = make_lock(found, imported.sha256, digests, imported.versions)
        facts = BuildFacts(
            model=_model_facts(path, imported, variants[0].original),
            target=target,
            history=module.history,
            variants=[_variant_facts(one, folder) for one in made],
            accuracy=accuracy,
            data={role: DataFacts(len(given), lock.data[role]) for role, given in samples.items()},
            notes=[
                *_notes(variants),
                *_advice(recipe, samples, made[0].built.program),
                *proof.thread_notes(made[0].built, made[0].checked),
                *memory,
            ],
            recipe=lock.recipe,
            plan=None if plan is None else plain_plan(plan),
            latency=latency,
            before=footprint_before(whole, module.history, target, passes, costs, progress),
            graph=graph_rows(whole.graph),
        )
        report = build_report(facts)
        write_report(report, folder, timings=timings)
        write_text(folder / LOCK_NAME, lock_text(lock))
    return report


def _notes(variants: Sequence[Shaped]) -> list[str]:
    return list(dict.fromkeys([*(note for v in variants for note in v.notes), *variant_notes(variants)]))


def _advice(recipe: Recipe, given: Mapping[str, Samples], program: Program) -> list[str]:
    """What the user may not have meant, and what would help."""
    notes = []
    samples = given.get("eval", given.get("calibration"))
    if samples is None:
        notes.append("The test vector holds random inputs, because no samples were given.")
    elif len(samples) < recipe.test_inputs:
        notes.append(f"The test vector holds {plural(len(samples), 'input')}: there are no more samples.")
    notes += [
        f"What is declared of {what} was not used: no data is one."
        for what in unread(recipe.reading, given.values())
    ]
    quantized = any(tensor.dtype in ("int8", "int16") for tensor in program.tensors.values())
    if not quantized and recipe.calibration is None and recipe.steps is None and recipe.quantize is None:
        notes.append(
            "For int8, give typical inputs with --calibration samples.npz: arrays named like the model's "
            "inputs, first axis the samples."
        )
    return notes


def _weights_digest(module: Module) -> dict[str, str]:
    """Of the files beside the model that hold its weights, if there are any."""
    return {"weights": sha256(*module.external)} if module.external else {}


def _variant_facts(made: Made, folder: Path) -> VariantFacts:
    variant, checked = made.variant, made.checked
    model = folder / model_name(variant.name)
    return VariantFacts(
        name=variant.name,
        artifact=made.built,
        run=checked.run,
        run_inputs=checked.inputs,
        why_not_run=checked.why_not,
        mismatched_bytes=checked.mismatched_bytes,
        compared_bytes=checked.compared_bytes,
        compressed_sha256=sha256(model),
        compressed_bytes=model.stat().st_size,
        compressed_nodes=len(variant.module.graph),
    )


def _model_facts(path: Path, imported: ImportedModel, original: Module) -> ModelFacts:
    return ModelFacts(
        name=path.stem,
        sha256=imported.sha256,
        nbytes=sum(file.stat().st_size for file in (*imported.files, *original.external)),
        parameters=graph_parameters(original.graph),
        nodes=len(original.graph),
        format=imported.frontend.title,
        converter=imported.versions,
    )
