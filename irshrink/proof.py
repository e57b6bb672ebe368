"""What a build is proved and measured with: test vectors, the float model beside it, the budgets."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink import onnxrt
from irshrink.artifact import Build
from irshrink.backend import Artifact, Backend, Inference, RunResult, Values
from irshrink.budgets import exceeds
from irshrink.class_names import score_names
from irshrink.console import Progress, counted
from irshrink.errors import AccuracyError, BudgetError, InternalError, ModelError, RecipeError
from irshrink.evaluate import Accuracy, compare, rehearse
from irshrink.execute import mismatches
from irshrink.external import files_of
from irshrink.module import Module
from irshrink.ports import encode_inputs
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.recipe import Recipe
from irshrink.registry import backend_for
from irshrink.report.report import AccuracyFacts
from irshrink.samples import Role, Samples, input_specs, load_samples
from irshrink.target import load_target

#: Samples on which ``--verify`` runs the model after every pass.
FEW = 8


@dataclass(frozen=True)
class Data:
    """The user's samples by role."""

    calibration: Samples | None
    evaluation: Samples | None

    @staticmethod
    def load(module: Module, recipe: Recipe) -> Data:
        """Open and check what the recipe names.

        Raises:
            SamplesError: see :func:`irshrink.samples.load_samples`.
        """
        return Data(
            opened(module, recipe, recipe.calibration, "calibration"),
            opened(module, recipe, recipe.eval, "evaluation"),
        )

    def by_role(self) -> dict[str, Samples]:
        roles = {"calibration": self.calibration, "eval": self.evaluation}
        return {role: samples for role, samples in roles.items() if samples is not None}

    def best(self) -> Samples | None:
        """What to measure with: evaluation data, else calibration data."""
        return self.evaluation if self.evaluation is not None else self.calibration

    def few(self) -> Samples:
        """Some samples for ``--verify``; :func:`require_data` has made sure that there are any."""
        best = self.best()
        assert best is not None
        return best.spread(FEW)


def opened(module: Module, recipe: Recipe, path: str | None, role: Role) -> Samples | None:
    """The samples in one place, checked; None where no place is named.

    Raises:
        SamplesError: see :func:`irshrink.samples.load_samples`.
    """
    if path is None:
        return None
    names = score_names(module.model)
    return load_samples(path, input_specs(module.graph), **recipe.reading, role=role, class_names=names)


@dataclass(frozen=True)
class Checked:
    """The test vector as the build computed it; where it could not run, ``run`` is None for ``why_not``."""

    run: RunResult | None
    inputs: int
    compared_bytes: int
    mismatched_bytes: int
    why_not: str | None = None


def require_data(recipe: Recipe) -> None:
    """Refuse what cannot be done or measured without data, before any work.

    Raises:
        RecipeError: a budget or check that needs samples, and none are given.
    """
    if recipe.calibration is not None or recipe.eval is not None:
        return
    asked = {
        "--max-drop": recipe.max_drop is not None,
        "--metric": recipe.metric is not None,
        "--verify": recipe.verify,
    }
    for option, wanted in asked.items():
        if wanted:
            raise RecipeError(f"{option} needs data to measure with. Give --eval or --calibration.")


def require_size(model: Path, limit: int | None) -> None:
    """
    Raises:
        BudgetError: the compressed model is larger than ``max_size``.
    """
    size = sum(file.stat().st_size for file in files_of(model))
    if limit is not None and size > limit:
        raise BudgetError(
            f"size: the ONNX model takes {size:,} bytes, {size - limit:,} more than the {limit:,} allowed. "
            "Fewer bits (--quantize mixed) would help, or a larger --max-size."
        )


def require_scorable(original: Module, data: Data, metric: str | None = None) -> None:
    """Run the float model once, so that labels that do not fit it are refused before any work.

    Raises:
        SamplesError, ModelError: see :func:`irshrink.evaluate.rehearse`.
    """
    samples = data.best()
    if samples is not None:
        session = onnxrt.session(original.model)
        rehearse(lambda feeds: onnxrt.run(session, feeds), samples, metric)


def test_vector(program: Program, data: Data, recipe: Recipe) -> list[Inference]:
    """``recipe.test_inputs`` inferences by the reference; inputs are random where there are no samples.

    Raises:
        ModelError: an output is NaN, which says nothing about the build.
    """
    samples = data.best()
    if samples is not None:
        feeds = samples.spread(recipe.test_inputs).feeds()
        inputs = [encode_inputs(program, one) for one in feeds]
    else:
        rng = np.random.default_rng(recipe.seed)
        inputs = [_random_inputs(program, rng) for _ in range(recipe.test_inputs)]
    tests = [Inference(x, run_program(program, x)) for x in inputs]
    _require_numbers(program, tests, "the samples" if samples is not None else "random inputs")
    return tests


def _require_numbers(program: Program, tests: Sequence[Inference], what: str) -> None:
    for test in tests:
        for port, values in zip(program.outputs, test.outputs, strict=True):
            if values.dtype.kind == "f" and np.isnan(values).any():
                raise ModelError(
                    f"output '{port.name}' is NaN on {what}, so the build could not be checked. "
                    "Give inputs for which the model is defined, with --eval or --calibration."
                )


def run_tests(
    backend: Backend, built: Artifact, tests: Sequence[Inference], progress: Progress = lambda _: None
) -> Checked:
    """Run the test vector on the target or its emulator, if this machine has what that needs.

    Raises:
        InternalError: a byte differs from the reference.
        BudgetError: RAM is too small for the arena and the stack that was measured.
    """
    why_not = backend.unrunnable(built.target)
    if why_not is not None:
        return Checked(None, 0, 0, 0, why_not)
    say = counted(progress, "running the test vector, input")
    inputs = [t.inputs for t in tests]
    run = backend.run(
        built.folder,
        built.target,
        built.program,
        inputs,
        lambda done: say(done + 1, len(tests)),
        names=built.names,
        variant=built.variant,
    )
    compared, mismatched = mismatches([list(t.outputs) for t in tests], run.outputs)
    if mismatched:
        raise InternalError(
            f"{mismatched} of {compared} output bytes on {built.target.name} differ from the reference."
        )
    if built.target.threads > 1:
        _require_same_on_threads(backend, built, inputs, run)
    limit, stack = built.target.ram_bytes, run.stack_bytes or 0
    if limit is not None and built.ram_bytes + stack > limit:
        raise BudgetError(
            f"RAM: arena and variables take {built.ram_bytes:,} bytes and the stack {stack:,}, "
            f"{built.ram_bytes + stack - limit:,} more than {built.target.limit('ram')}. "
            "A smaller input, fewer channels, or a target with more RAM would help."
        )
    return Checked(run, len(tests), compared, mismatched)


def _require_same_on_threads(
    backend: Backend, built: Artifact, inputs: Sequence[Values], run: RunResult
) -> None:
    """All threads together must give the bytes of one."""
    threads = built.target.threads
    again = backend.run(
        built.folder, built.target, built.program, inputs,
        names=built.names, variant=built.variant, threads=threads,
    )  # fmt: skip
    compared, mismatched = mismatches(run.outputs, again.outputs)
    if mismatched:
        raise InternalError(
            f"{mismatched} of {compared} output bytes of {threads} threads differ from those of one."
        )


def thread_notes(built: Artifact, checked: Checked) -> list[str]:
    """What a build for several threads can do."""
    threads = built.target.threads
    if threads == 1:
        return []
    proved = f"; the test vector gave the same bytes on 1 and on {threads}" if checked.run is not None else ""
    return [f"{built.names.prefix}_threads({threads}) lets inferences use {threads} threads{proved}."]


def measure(
    original: Module,
    built: Artifact,
    data: Data,
    tests: Sequence[Inference],
    recipe: Recipe,
    progress: Progress = lambda _: None,
) -> AccuracyFacts | None:
    """The float model in ONNX Runtime against the compiled program, on this machine.

    A build for another machine is measured through a host build of the same program, which must equal the
    reference byte for byte on the test vector, as must the build itself wherever it runs.

    Raises:
        AccuracyError: the accuracy falls by more than the recipe's ``max_drop``.
    """
    samples = data.best()
    if samples is None:
        return None
    session = onnxrt.session(original.model)
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        host = _host_build(built, tests, Path(scratch))
        say = counted(progress, "measuring accuracy, sample")
        accuracy = compare(lambda feeds: onnxrt.run(session, feeds), host, samples, say, recipe.metric)
    lost = accuracy.relative_drop if recipe.relative_drop else accuracy.drop
    if recipe.max_drop is not None and exceeds(lost, recipe.max_drop):
        raise AccuracyError(_missed(accuracy, recipe.max_drop, recipe.relative_drop))
    return AccuracyFacts(
        metric=accuracy.compiled.metric,
        title=accuracy.title,
        share=accuracy.share,
        original=accuracy.original.value,
        compiled=accuracy.compiled.value,
        samples=accuracy.compiled.samples,
        source="eval" if data.evaluation is not None else "calibration",
        max_drop=recipe.max_drop,
        relative_drop=recipe.relative_drop,
        outputs=accuracy.outputs,
    )


def _missed(accuracy: Accuracy, max_drop: float, relative: bool) -> str:
    before, after = accuracy.original, accuracy.compiled
    worst = min(accuracy.outputs, key=lambda output: output.cosine)
    which = f" of '{worst.name}'" if before.metric == "cosine" and len(accuracy.outputs) > 1 else ""
    verb = "rises" if accuracy.falls else "falls"
    if relative:
        cost = f"{accuracy.relative_drop:.2%} of it; {max_drop:.2%} are allowed"
    elif accuracy.share:
        cost = f"{accuracy.drop * 100:.2f} points; {max_drop * 100:.2f} are allowed"
    else:
        cost = f"{accuracy.drop:.4g}; {max_drop:.4g} is allowed"
    values = [f"{s.value:.2%}" if accuracy.share else f"{s.value:.4g}" for s in (before, after)]
    return (
        f"accuracy: {before.metric}{which} {verb} from {values[0]} to {values[1]}, by {cost}. "
        "More calibration samples, another calibration method, or --keep-float for the layers that lose "
        "most may help."
    )


def _host_build(built: Artifact, tests: Sequence[Inference], scratch: Path) -> Build:
    if built.target.emulation is None:
        return Build(
            built.folder, built.target, built.program, backend_for(built.target), built.names, built.variant
        )
    target = load_target("host")
    backend = backend_for(target)
    backend.compile(built.program, target, scratch, tests, "host")
    host = Build(scratch, target, built.program, backend)
    outputs = host.run([t.inputs for t in tests]).outputs
    if mismatches([list(t.outputs) for t in tests], outputs)[1]:
        raise InternalError("the host build differs from the reference.")
    return host


def _random_inputs(program: Program, rng: np.random.Generator) -> list[NDArray[Any]]:
    arrays: list[NDArray[Any]] = []
    for port in program.inputs:
        dtype = np.dtype(program.tensors[port.tensor].dtype)
        if dtype.kind == "f" or dtype == np.int8:
            values = rng.standard_normal(port.shape) * (1 if dtype.kind == "f" else 40)
            arrays.append(np.clip(values, -128, 127).astype(dtype))
        else:  # truth values; other integers are often indices
            arrays.append(rng.integers(0, 2 if dtype == np.uint8 else 128, port.shape).astype(dtype))
    return arrays
