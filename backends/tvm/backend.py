"""The backend: kernels chosen, memory planned, C written and built, builds run."""

from __future__ import annotations

import tempfile
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from irshrink import files
from irshrink.backend import Artifact, Counter, Inference, OpCost, RunResult, Values, Variant
from irshrink.backends.toolchain import zig
from irshrink.backends.tvm.memory import plan_steps
from irshrink.backends.tvm.striped import call_order
from irshrink.backends.tvm.threads import workspace_bytes
from irshrink.backends.tvm.transformed import transform_notes
from irshrink.errors import BudgetError, ToolError
from irshrink.names import DEFAULT_NAMES, Names
from irshrink.pipeline import Pass
from irshrink.program.ops import Op, Reshape
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.database import Schedule, Schedules, schedules_for
from irshrink.tuning.tunable import Clock

if TYPE_CHECKING:
    from irshrink.backends.package.files import Vector
    from irshrink.backends.toolchain.elf import Sizes
    from irshrink.backends.tvm.emit import Planned, Step
    from irshrink.backends.tvm.kernels.call import KernelCall
    from irshrink.backends.tvm.schedules import Chooser
    from irshrink.costs.sketch import Kernel, Sketch


class TvmBackend:
    """TIR kernels printed as C; the host, Linux and every Cortex-M that a TOML file describes.

    Args:
        schedules: what kernels are chosen by; by default the database that ships for the target.
        measuring: no kernel knows the sizes it is called with unless it is specialized, as where layers share
            it.
        optimize: what the C compiler is told; by default what suits the kernels.
    """

    name: ClassVar[str] = "tvm"

    def __init__(
        self, schedules: Schedules | None = None, *, measuring: bool = False, optimize: str | None = None
    ) -> None:
        self._schedules, self._measuring, self._optimize = schedules, measuring, optimize

    def available(self, target: Target) -> str | None:
        import importlib.util

        if importlib.util.find_spec("tvm") is None:
            return "TVM is missing: pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1."
        return zig.available()

    def unrunnable(self, target: Target) -> str | None:
        from irshrink.backends.runners import runner_for

        return runner_for(target).missing(target)

    def supports(self, target: Target) -> bool:
        return target.backend == self.name

    def legalize(self, target: Target) -> list[Pass]:
        return []

    def compile(
        self,
        program: Program,
        target: Target,
        folder: Path,
        vectors: Sequence[Inference],
        title: str,
        *,
        names: Names = DEFAULT_NAMES,
        others: Sequence[Variant] = (),
    ) -> Artifact:
        from irshrink.backends.package.build import compile_library, link_libraries
        from irshrink.backends.package.files import write_package
        from irshrink.backends.package.loader import loader_text
        from irshrink.backends.package.measure import library_sizes
        from irshrink.backends.runners import runner_for
        from irshrink.backends.tvm.emit import emit_sources

        chooser = self._chooser(target)
        variants = [Variant(program, vectors), *others]
        planned = [plan_program(v.program, target, chooser, thorough=not self._measuring) for v in variants]
        sources = emit_sources(planned, target, title, names)
        for name, content in sources.items():
            files.write(folder / "src" / name, content)
        compiled = sorted(name for name in sources if name.endswith((".c", ".S")))
        optimize = self._optimize or optimization(target, [step.call for v in planned for step in v.steps])
        tests = [[_vector(one) for one in v.vectors] for v in variants]
        write_package(folder, target, compiled, tests, optimize=optimize, names=names)
        if not zig.is_bare_metal(target):
            ports = [(v.program, v.plan.nbytes) for v in planned]
            files.write_text(folder / names.loader, loader_text(ports, target, title, names))
        with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
            flags = _OPAQUE if self._measuring else ()
            objects = compile_library(folder, target, Path(scratch), optimize=optimize, flags=flags)
            sizes = library_sizes(objects, target, names)
            _require_flash(sizes, [step for v in planned for step in v.steps], target)
            link_libraries(folder, target, objects, names)
            runner_for(target).build(folder, target, objects, optimize, names)
            code = _code_sizes(planned, objects)
        made = [
            _artifact(v, code[i], sizes, target, folder, names, i, chooser) for i, v in enumerate(planned)
        ]
        return replace(made[0], others=tuple(made[1:]))

    def run(
        self,
        folder: Path,
        target: Target,
        program: Program,
        inputs: Sequence[Values],
        progress: Counter = lambda done: None,
        *,
        names: Names = DEFAULT_NAMES,
        variant: int = 0,
        threads: int = 1,
    ) -> RunResult:
        from irshrink.backends.runners import runner_for
        from irshrink.backends.running import Call

        sizes = [program.tensors[port.tensor].nbytes for port in program.outputs]
        data = [[_bytes(v) for v in x] for x in inputs]
        # what is chosen in the end is looked at when it is built for good
        call = Call(data, sizes, names, variant, threads, alignment=not self._measuring)
        runner = runner_for(target)
        run = runner.run(folder, target, call, progress)
        callers = self._call_order(program, target) if run.calls or run.cycles else []
        return RunResult(
            outputs=[_arrays(outputs, program) for outputs in run.outputs],
            instructions=run.instructions,
            stack_bytes=run.stack_bytes,
            op_instructions=_by_operator(run.calls, callers) if run.calls else {},
            op_cycles=_by_operator(run.calls_by_cycles(), callers) if run.cycles else {},
            op_code=_code_by_operator(run.code, callers) if run.code else {},
            native=runner.native,
        )

    def _call_order(self, program: Program, target: Target) -> list[str]:
        """The operator of every kernel call, of a program as it was planned or as it was lowered."""
        if not program.planned:
            program = plan_program(program, target, self._chooser(target)).program
        order = call_order(program)
        return list(dict.fromkeys(order)) if target.threads > 1 else order  # there, one function an operator

    def with_schedules(self, schedules: Schedules, *, measuring: bool = False) -> TvmBackend:
        return TvmBackend(schedules, measuring=measuring, optimize=self._optimize)

    def optimized(self, optimize: str) -> TvmBackend:
        return TvmBackend(self._schedules, measuring=self._measuring, optimize=optimize)

    def sketch(self, program: Program, target: Target) -> Sketch:
        from irshrink.backends.tvm.sketched import sketched

        return sketched(program, target, self._chooser(target))

    def kernel(self, op: Op, program: Program, target: Target) -> Kernel:
        from irshrink.backends.tvm.sketched import kernel_of

        return kernel_of(op, self._chooser(target).quick(op, program), program, target)

    def candidates(self, op: Op, program: Program, target: Target) -> list[Schedule]:
        from irshrink.backends.tvm.schedules import plain_options

        return plain_options(op, program, target)

    def kernels_digest(self) -> str:
        from irshrink.backends.tvm.schedules import kernels_digest

        return kernels_digest()

    def clock(
        self,
        folder: Path,
        target: Target,
        inputs: Sequence[bytes],
        *,
        names: Names = DEFAULT_NAMES,
        variant: int = 0,
        threads: int = 1,
    ) -> Clock:
        from irshrink.backends.native.clock import native_clock

        return native_clock(folder, inputs, threads, names=names, variant=variant)

    def _chooser(self, target: Target) -> Chooser:
        from irshrink.backends.tvm.schedules import Chooser

        return Chooser(target, schedules_for(target) if self._schedules is None else self._schedules)


#: Functions that anything might call: the compiler does not look where the sizes come from.
_OPAQUE = ("-DIRS_NOINLINE=__attribute__((noinline,unused))",)


def optimization(target: Target, calls: Sequence[KernelCall]) -> str:
    """-O3 where the vectorizer pays, -O2 where code size does, -Os around loops in assembly.

    The last where those read nine tenths of the weights: what is left to the compiler is then small.
    """
    if target.has("simd"):
        return "-O3"
    nbytes = [(call.assembly, sum(c.array.nbytes for c in call.constants())) for call in calls]
    in_assembly = sum(n for assembly, n in nbytes if assembly)
    return "-Os" if zig.is_bare_metal(target) and 10 * in_assembly > 9 * sum(n for _, n in nbytes) else "-O2"


def plan_program(
    program: Program, target: Target, chooser: Chooser | None = None, *, thorough: bool = True
) -> Planned:
    """Kernels and places in memory; what :func:`irshrink.backends.tvm.emit.emit_sources` writes as C.

    Args:
        thorough: look for the smallest arena, not for any.

    Raises:
        BudgetError: the arena does not fit the target's RAM.
    """
    from irshrink.backends.tvm.emit import Planned

    steps = choose_kernels(program, target, chooser)
    return Planned(*plan_steps(program, steps, target, thorough=thorough))


def choose_kernels(program: Program, target: Target, chooser: Chooser | None = None) -> list[Step]:
    """A kernel call for every operator that computes something; by default as the shipped database says."""
    from irshrink.backends.tvm.emit import Step
    from irshrink.backends.tvm.schedules import Chooser

    chooser = chooser or Chooser(target, schedules_for(target))
    ops = [op for op in program.ops if not isinstance(op, Reshape)]
    return [Step(op, chooser.call(op, program)) for op in ops]


def _require_flash(sizes: Sizes, steps: Sequence[Step], target: Target) -> None:
    if target.flash_bytes is None or sizes.flash <= target.flash_bytes:
        return
    weights = {s.op.name: sum(c.array.nbytes for c in s.call.constants()) for s in steps}
    largest = sorted(weights, key=lambda name: (-weights[name], name))[:4]
    named = ", ".join(f"{name} ({weights[name]:,} bytes)" for name in largest)
    over = sizes.flash - target.flash_bytes
    raise BudgetError(
        f"flash: code and weights take {sizes.flash:,} bytes, {over:,} more than {target.limit('flash')}. "
        f"The largest layers: {named}. "
        "Fewer weights there, fewer bits (--quantize mixed), or a target with more flash would help.",
        over=over,
    )


def _code_sizes(variants: Sequence[Planned], objects: Sequence[Path]) -> list[list[int]]:
    """Machine code of the kernel of every step of each variant; 0 where the object format does not say."""
    from irshrink.backends.toolchain.elf import read_elf
    from irshrink.backends.tvm.functions import Functions

    sizes = {s.name: s.size for one in objects for s in read_elf(one).symbols if s.is_function}
    functions = Functions()
    return [[sizes.get(functions.name(step.call), 0) for step in v.steps] for v in variants]


def _artifact(
    planned: Planned,
    code: Sequence[int],
    sizes: Sizes,
    target: Target,
    folder: Path,
    names: Names,
    variant: int,
    chooser: Chooser,
) -> Artifact:
    from irshrink.backends.tvm.kernels.huffman import huffman_notes
    from irshrink.backends.tvm.kernels.packed import wider_notes
    from irshrink.backends.tvm.kernels.sparse import sparse_notes

    calls = [(step.op, step.call) for step in planned.steps]
    costs = tuple(
        OpCost(
            op=step.op.name,
            kernel=step.call.function.name,
            weights_bytes=sum(c.array.nbytes for c in step.call.constants()),
            workspace_bytes=workspace_bytes(step.op, step.call, planned.program, target),
            code_bytes=nbytes,
            specialized=step.call.specialized,
        )
        for step, nbytes in zip(planned.steps, code, strict=True)
    )
    return Artifact(
        folder=folder,
        target=target,
        program=planned.program,
        plan=planned.plan,
        costs=costs,
        code_bytes=sizes.code,
        weights_bytes=sizes.rodata,
        flash_bytes=sizes.flash,
        ram_bytes=sizes.ram,
        names=names,
        variant=variant,
        notes=(
            *chooser.notes(),
            *wider_notes(calls),
            *sparse_notes(calls, planned.program, target),
            *huffman_notes(calls, planned.program, target),
            *transform_notes(planned.program, {c.op: c.weights_bytes for c in costs}),
        ),
        choices=chooser.choices(),
    )


def _by_operator(calls: Sequence[tuple[str, int]], callers: Sequence[str]) -> dict[str, int]:
    """Instructions of every operator; ``callers`` names the one that each call belongs to."""
    if len(calls) != len(callers):
        raise ToolError(f"the emulator saw {len(calls)} kernel calls, not {len(callers)}.")
    instructions = dict.fromkeys(callers, 0)
    for op, (_, count) in zip(callers, calls, strict=True):
        instructions[op] += count
    return instructions


def _code_by_operator(
    code: Sequence[Mapping[bytes, int]], callers: Sequence[str]
) -> dict[str, Mapping[bytes, int]]:
    """Basic blocks of every operator, all of its calls together."""
    found: dict[str, Tally[bytes]] = {op: Tally() for op in callers}
    for op, blocks in zip(callers, code, strict=True):
        found[op].update(blocks)
    return dict(found)


def _arrays(outputs: Sequence[bytes], program: Program) -> list[NDArray[np.generic]]:
    tensors = [program.tensors[port.tensor] for port in program.outputs]
    return [
        np.frombuffer(data, tensor.dtype).reshape(port.shape)
        for data, tensor, port in zip(outputs, tensors, program.outputs, strict=True)
    ]


def _vector(inference: Inference) -> Vector:
    from irshrink.backends.package.files import Vector

    return Vector(tuple(map(_bytes, inference.inputs)), tuple(map(_bytes, inference.outputs)))


def _bytes(value: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(value).tobytes()
