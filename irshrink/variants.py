"""One model on one or several sets of input shapes: what is done for each, and what they share.

Passes run on each variant by itself, because they fold what the shapes decide. Calibration runs once, on the
first variant that the samples fit; the others take its ranges over by the names of the values. So all have
the same scales, and weights of equal content, which the package stores once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from irshrink import proof
from irshrink.backend import Artifact, Backend, Inference, Variant
from irshrink.console import Progress
from irshrink.errors import SamplesError
from irshrink.module import Module
from irshrink.names import Names
from irshrink.program.lower import lower_for
from irshrink.recipe import Recipe
from irshrink.samples import Samples
from irshrink.shapes import variant_names
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import Target


@dataclass
class Shaped:
    """The model on one set of input shapes, on its way to a program.

    Attributes:
        name: the word for it in C names; None where there is only one set.
        module: what passes work on.
        original: the model as it was given.
        data: the samples that fit these shapes.
        notes: what the shapes were set to.
    """

    name: str | None
    module: Module
    original: Module
    data: proof.Data
    notes: list[str]


def shaped_variants(module: Module, recipe: Recipe) -> list[Shaped]:
    """The model on each set of shapes that the recipe names, in its order; takes ``module`` over.

    Raises:
        RecipeError, ModelError: see :func:`irshrink.static_shapes.fix_input_shapes`.
        SamplesError: samples that fit no variant, or are refused for what they hold.
    """
    modules = [module.clone() for _ in recipe.variants[1:]]
    modules.insert(0, module)
    notes = []
    for one, shapes in zip(modules, recipe.variants or ({},), strict=True):
        notes.append(fix_input_shapes(one, {**recipe.shapes, **shapes}))
        require_sound(one)
    names: Sequence[str | None] = variant_names([_input_shapes(one) for one in modules]) or [None]
    data = _data(modules, names, recipe)
    for one, samples in zip(modules, data, strict=True):
        one.calibration = fitted_to(samples.calibration, recipe.fit)
    variants = [
        Shaped(name, one, one.clone(), samples, said)
        for name, one, samples, said in zip(names, modules, data, notes, strict=True)
    ]
    _share_calibration(variants)
    return variants


@dataclass(frozen=True)
class Made:
    """A variant in a finished build, with what it was tested on and how that ended."""

    variant: Shaped
    built: Artifact
    tests: Sequence[Inference]
    checked: proof.Checked


def make_package(
    backend: Backend,
    variants: Sequence[Shaped],
    recipe: Recipe,
    target: Target,
    folder: Path,
    title: str,
    progress: Progress,
) -> list[Made]:
    """Lower all variants, write and build their package, and run the test vectors of each.

    Raises:
        ModelError: no test vector can be made.
        BudgetError: flash or RAM of the target are too small.
        ToolError: the compiler or the emulator failed.
        InternalError: a byte differs from the reference.
    """
    programs = [lower_for(v.module, target, io=recipe.io, requantize=recipe.requantize) for v in variants]
    progress("compiling and linking")
    tests = [proof.test_vector(p, v.data, recipe) for p, v in zip(programs, variants, strict=True)]
    names = Names(recipe.prefix, tuple(v.name for v in variants if v.name is not None))
    first, *others = map(Variant, programs, tests)
    built = backend.compile(first.program, target, folder, first.vectors, title, names=names, others=others)
    parts = [built, *built.others]
    checked = [proof.run_tests(backend, b, t, progress) for b, t in zip(parts, tests, strict=True)]
    return [Made(*one) for one in zip(variants, parts, tests, checked, strict=True)]


def in_order(variants: Sequence[Shaped]) -> list[Shaped]:
    """The one that calibration measures before those that take its ranges over."""
    return sorted(variants, key=lambda variant: variant.module.taken_over is not None)


def most_telling(variants: Sequence[Shaped]) -> int:
    """Which variant accuracy is measured on: the first with evaluation data, else with calibration data."""
    for samples in ([v.data.evaluation for v in variants], [v.data.calibration for v in variants]):
        found = [index for index, given in enumerate(samples) if given is not None]
        if found:
            return found[0]
    return 0


def samples_by_role(variants: Sequence[Shaped]) -> dict[str, Samples]:
    """The samples by role, each from the first variant that they fit."""
    found: dict[str, Samples] = {}
    for variant in variants:
        for role, samples in variant.data.by_role().items():
            found.setdefault(role, samples)
    return found


def variant_notes(variants: Sequence[Shaped]) -> list[str]:
    """What the user should know about several variants."""
    if len(variants) == 1:
        return []
    notes = []
    calibrated = next((v for v in variants if v.data.calibration is not None), None)
    if calibrated is not None:
        notes.append(f"Calibration ran on variant {calibrated.name}; all variants have its scales.")
    best = variants[most_telling(variants)]
    if best.data.best() is not None:
        notes.append(f"Accuracy was measured on variant {best.name}.")
    without = [str(v.name) for v in variants if v.data.best() is None]
    if without and len(without) < len(variants):
        listed = ", ".join(without)
        notes.append(f"Random inputs test {listed}: the samples have the shapes of other variants.")
    return notes


def _input_shapes(module: Module) -> list[tuple[int, ...]]:
    given = (v for v in module.graph.inputs if v.name not in module.graph.initializers)
    return [v.shape.numpy() for v in given if v.shape is not None]


def _data(modules: Sequence[Module], names: Sequence[str | None], recipe: Recipe) -> list[proof.Data]:
    """The samples for each variant; of one role at least one variant has any, if the recipe names them."""
    if len(modules) == 1:
        return [proof.Data.load(modules[0], recipe)]
    calibration = _fitting(
        modules, names, lambda m: proof.opened(m, recipe, recipe.calibration, "calibration")
    )
    evaluation = _fitting(modules, names, lambda m: proof.opened(m, recipe, recipe.eval, "evaluation"))
    return [proof.Data(*both) for both in zip(calibration, evaluation, strict=True)]


def _fitting(
    modules: Sequence[Module], names: Sequence[str | None], load: Callable[[Module], Samples | None]
) -> list[Samples | None]:
    found: list[Samples | None] = []
    refusals = []
    for module, name in zip(modules, names, strict=True):
        try:
            found.append(load(module))
        except SamplesError as e:
            found.append(None)
            refusals.append(f"Variant {name}: {e}")
    if len(refusals) == len(modules):
        raise SamplesError("the samples fit no variant. " + " ".join(refusals))
    return found


def fitted_to(samples: Samples | None, fit: int | None) -> Samples | None:
    """Of calibration data what passes fit to."""
    return samples if samples is None or fit is None else samples.spread(fit)


def _share_calibration(variants: Sequence[Shaped]) -> None:
    source = next((v.module for v in variants if v.data.calibration is not None), None)
    for variant in variants:
        if source is not None and variant.module is not source:
            variant.module.calibration = source.calibration
            variant.module.taken_over = source.measured
