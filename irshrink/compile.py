"""The whole flow, top to bottom: a float model and samples in, a checked C package and a report out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink import artifact, onnxrt
from irshrink.backend import Artifact, Backend, RunResult, Inference
from irshrink.errors import BudgetError, InternalError, ModelError, ToolError
from irshrink.evaluate import Accuracy, compare
from irshrink.execute import mismatches
from irshrink.files import sha256, write_text
from irshrink.instruments import CheckNumerics
from irshrink.lock import LOCK_NAME, lock_text, make_lock
from irshrink.module import Module, load_module
from irshrink.output import fresh_folder
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Instrument, Pass, Pipeline
from irshrink.ports import encode_inputs
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.recipe import Recipe
from irshrink.registry import backend_for, make_pass
from irshrink.report.report import AccuracyFacts, BuildFacts, DataFacts, ModelFacts, build_report, write_report
from irshrink.samples import Samples, input_specs, load_samples
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import Target, load_target
from irshrink.verify import verify_structure

Feeds = Mapping[str, NDArray[Any]]
Progress = Callable[[str], None]


def compile_model(
    model: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    force: bool = False,
    timings: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Compile an ONNX model into ``out`` and prove the build on its target or emulator.

    Args:
        recipe: what to do, for which target, with which data.
        out: the output folder; appears complete or not at all.
        force: replace ``out`` even when it is no earlier build.
        timings: write wall-clock seconds into ``report.json``, which makes it differ from run to run.
        progress: called with what is being done.

    Returns:
        The report (``irshrink/report/schema.json``).

    Raises:
        UserError: the model, the data, the recipe or the folder; nothing was written.
        BudgetError: accuracy, flash or RAM; nothing was written.
        ToolError: the compiler or the emulator.
    """
    path = Path(model)
    target = recipe.resolved_target()
    backend = _backend(target)
    passes = _chosen_passes(recipe)

    progress("reading the model")
    module = load_module(path)
    notes = fix_input_shapes(module, recipe.shapes)
    data = _Data.load(module, recipe)
    module.calibration = data.calibration
    original = module.clone()

    progress("cleaning up")
    instruments: list[Instrument] = [CheckNumerics(data.check_samples())] if recipe.verify else []
    clean = Pipeline(cleanup_steps(), instruments, verify_structure)
    clean.run(module, target, recipe.seed)
    lower(module)  # what no kernel can run is refused before any long work
    for step in passes:
        progress(step.name)
        Pipeline([step], instruments, verify_structure).run(module, target, recipe.seed)
    Pipeline(backend.legalize(target), instruments, verify_structure).run(module, target, recipe.seed)
    program = lower(module, io=recipe.io)

    with fresh_folder(Path(out), force) as folder:
        progress("compiling")
        vectors, vector_note = _test_vectors(program, data, recipe)
        built = backend.compile(program, target, folder, vectors, path.stem)
        progress("running the test vector")
        run = backend.run(folder, target, program, [v.inputs for v in vectors])
        compared, mismatched = mismatches([list(v.outputs) for v in vectors], run.outputs)
        if mismatched:
            raise InternalError(f"{mismatched} of {compared} output bytes differ from the reference.")
        _require_stack(built, run)
        progress("measuring accuracy")
        accuracy = _accuracy(original, program, data, built, vectors)
        _require_accuracy(accuracy, recipe)
        module.save(folder / artifact.MODEL_NAME)
        digest = sha256(path)
        lock = make_lock(recipe, digest, {role: s.digest() for role, s in data.by_role().items()})
        facts = BuildFacts(
            model=_model_facts(path, digest, original),
            target=target,
            history=module.history,
            compressed_bytes=(folder / artifact.MODEL_NAME).stat().st_size,
            compressed_nodes=len(module.graph),
            artifact=built,
            run=run,
            run_inputs=len(vectors),
            mismatched_bytes=mismatched,
            compared_bytes=compared,
            accuracy=_accuracy_facts(accuracy, data, recipe),
            data={role: DataFacts(len(s), s.digest()) for role, s in data.by_role().items()},
            notes=[*notes, *vector_note, *_advice(recipe)],
            recipe=lock.recipe,
        )
        report = build_report(facts)
        write_report(report, folder, timings=timings)
        write_text(folder / LOCK_NAME, lock_text(lock))
    return report


@dataclass(frozen=True)
class _Data:
    """The user's samples by role."""

    calibration: Samples | None
    evaluation: Samples | None

    @staticmethod
    def load(module: Module, recipe: Recipe) -> _Data:
        specs = input_specs(module.graph)

        def load(path: str | None, role: Any) -> Samples | None:
            return load_samples(path, specs, image=recipe.images, role=role) if path else None

        return _Data(load(recipe.calibration, "calibration"), load(recipe.eval, "evaluation"))

    def by_role(self) -> dict[str, Samples]:
        roles = {"calibration": self.calibration, "eval": self.evaluation}
        return {role: samples for role, samples in roles.items() if samples is not None}

    def best(self) -> Samples | None:
        """What to measure with: evaluation data, else calibration data."""
        return self.evaluation if self.evaluation is not None else self.calibration

    def check_samples(self) -> Samples:
        best = self.best()
        if best is None:
            raise ModelError("--verify needs samples. Give --calibration or --eval.")
        return best.spread(8)


def _backend(target: Target) -> Backend:
    backend = backend_for(target)
    if not backend.supports(target):
        raise ToolError(f"backend '{backend.name}' cannot compile for target '{target.name}'.")
    reason = backend.available(target)
    if reason is not None:
        raise ToolError(reason)
    return backend


def _chosen_passes(recipe: Recipe) -> list[Pass]:
    """The recipe's explicit steps, or what its shorthands stand for; options are checked here."""
    steps = recipe.passes()
    if steps is not None:
        return steps
    if not recipe.quantizes:
        return []
    return [make_pass("quantize-int8", {"keep_float": list(recipe.keep_float)})]


def _advice(recipe: Recipe) -> list[str]:
    if recipe.calibration is None and recipe.steps is None:
        return [
            "float32 build: without calibration data nothing was quantized. For int8, give typical inputs with "
            "--calibration samples.npz (arrays named like the model's inputs, first axis the samples)."
        ]
    return []


def _test_vectors(program: Program, data: _Data, recipe: Recipe) -> tuple[list[Inference], list[str]]:
    """Inputs for the build's own test with the outputs of the reference, and a note where they are made up."""
    samples, notes = data.best(), []
    if samples is not None:
        feeds: list[Feeds] = list(samples.spread(recipe.test_inputs).feeds())
        inputs = [encode_inputs(program, one) for one in feeds]
    else:
        rng = np.random.default_rng(recipe.seed)
        inputs = [_random_inputs(program, rng) for _ in range(recipe.test_inputs)]
        notes = ["the test vector holds random inputs, because no samples were given"]
    return [Inference(x, run_program(program, x)) for x in inputs], notes


def _random_inputs(program: Program, rng: np.random.Generator) -> list[NDArray[Any]]:
    arrays: list[NDArray[Any]] = []
    for port in program.inputs:
        dtype = np.dtype(program.tensors[port.tensor].dtype)
        values = rng.standard_normal(port.shape) * (1 if dtype.kind == "f" else 40)
        arrays.append(np.clip(values, -128, 127).astype(dtype))
    return arrays


def _require_stack(built: Artifact, run: RunResult) -> None:
    limit, stack = built.target.ram_bytes, run.stack_bytes or 0
    if limit is not None and built.ram_bytes + stack > limit:
        raise BudgetError(
            f"RAM: arena and variables take {built.ram_bytes} bytes and the stack {stack}, "
            f"{built.ram_bytes + stack - limit} more than the {limit} of {built.target.name}."
        )


def _accuracy(
    original: Module, program: Program, data: _Data, built: Artifact, vectors: Sequence[Inference]
) -> Accuracy | None:
    """The float model in ONNX Runtime against the compiled program on this host.

    A Cortex-M build is measured through a host build of the same program: both equal the reference byte for
    byte, which the test vector has just shown for the one and shows here for the other.
    """
    samples = data.best()
    if samples is None:
        return None
    session = onnxrt.session(original.to_proto())
    with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
        host = _host_build(program, built, vectors, Path(scratch))
        return compare(lambda feeds: onnxrt.run(session, feeds), host, samples)


def _host_build(
    program: Program, built: Artifact, vectors: Sequence[Inference], scratch: Path
) -> artifact.Build:
    target = load_target("host")
    backend = _backend(target)
    if built.target.emulation is None:
        return artifact.Build(built.folder, built.target, program, backend)
    backend.compile(program, target, scratch, vectors, "host")
    host = artifact.Build(scratch, target, program, backend)
    outputs = host.run([v.inputs for v in vectors]).outputs
    if mismatches([list(v.outputs) for v in vectors], outputs)[1]:
        raise InternalError("the host build differs from the reference.")
    return host


def _require_accuracy(accuracy: Accuracy | None, recipe: Recipe) -> None:
    if recipe.max_drop is None:
        return
    if accuracy is None:
        raise ModelError("--max-drop needs data to measure with. Give --eval or --calibration.")
    drop = accuracy.original.value - accuracy.compiled.value
    if drop > recipe.max_drop:
        raise BudgetError(
            f"accuracy: {accuracy.original.metric} falls from {accuracy.original.value:.2%} to "
            f"{accuracy.compiled.value:.2%}, by {drop * 100:.2f} points; {recipe.max_drop * 100:.2f} are allowed. "
            "More calibration samples, another method, or --keep-float for the layers that lose most may help."
        )


def _accuracy_facts(accuracy: Accuracy | None, data: _Data, recipe: Recipe) -> AccuracyFacts | None:
    if accuracy is None:
        return None
    return AccuracyFacts(
        metric=accuracy.compiled.metric,
        original=accuracy.original.value,
        compiled=accuracy.compiled.value,
        samples=accuracy.compiled.samples,
        source="eval" if data.evaluation is not None else "calibration",
        max_drop=recipe.max_drop,
    )


def _model_facts(path: Path, digest: str, original: Module) -> ModelFacts:
    tensors = [v.const_value for v in original.graph.initializers.values()]
    return ModelFacts(
        name=path.stem,
        sha256=digest,
        nbytes=path.stat().st_size,
        parameters=sum(int(t.size) for t in tensors if t is not None),
        nodes=len(original.graph),
    )
