"""One trial: schedules of one workload built, checked byte for byte, and measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backend import Inference
from irshrink.errors import BudgetError, ToolError
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.target import Target, with_memory
from irshrink.tuning.costs import Built, CostSource
from irshrink.tuning.database import Schedule, Schedules
from irshrink.tuning.journal import Measurement
from irshrink.tuning.tasks import Task, random_inputs
from irshrink.tuning.tunable import Tunable

#: Weights of one build, bytes: more would make compilers slow.
_MOST_CONSTANTS = 4 << 20
#: Memory that is assumed: schedules side by side take more than a board has.
_FLASH, _RAM = 64 << 20, 64 << 20
WRONG = "gives other bytes than the reference"


@dataclass(frozen=True)
class Whole:
    """A whole model: its cost, the bytes of code and arena, and the cost of layers by their names.

    ``layers`` is empty where only the whole is measured.
    """

    cost: float
    code_bytes: int
    arena_bytes: int
    layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurer:
    """Measures schedules of tasks on one target."""

    backend: Tunable
    target: Target
    source: CostSource

    def trial(self, task: Task, schedules: Sequence[Schedule]) -> list[Measurement]:
        """One measurement a schedule, in order; those that fail have a reason instead of a cost.

        Raises:
            UserError: the user's command cannot be run.
        """
        inputs = task.inputs()
        wanted = run_program(task.side_by_side(1), inputs)[0]
        failures: dict[int, str] = {}
        built: list[tuple[Built, list[int]]] = []
        with ExitStack() as stack:
            for numbers in self._groups(task, len(schedules)):
                built += self._build(task, schedules, numbers, inputs, wanted, stack, failures)
            costs = self._costs(built, failures)
        code = {n: cost for one, numbers in built for n, cost in zip(numbers, one.kernels, strict=True)}
        measured = []
        for i, schedule in enumerate(schedules):
            if i in costs:
                kernel = code[i]
                one = Measurement(
                    schedule, costs[i], None, kernel.kernel, kernel.specialized, kernel.code_bytes
                )
            else:
                one = Measurement(schedule, None, failures[i])
            measured.append(one)
        return measured

    def whole(self, program: Program, schedules: Schedules) -> Whole:
        """A whole model on random inputs, by these schedules, checked like a trial.

        Raises:
            ToolError: it could not be measured, or gives other bytes than the reference.
        """
        inputs = random_inputs(program, 0)
        wanted = run_program(program, inputs)
        target, backend = with_memory(self.target, _FLASH, _RAM), self.backend.with_schedules(schedules)
        with tempfile.TemporaryDirectory(prefix="irshrink-") as folder:
            artifact = backend.compile(program, target, Path(folder), [Inference(inputs, wanted)], "model")
            run = backend.run(Path(folder), target, artifact.program, [inputs])
            if [_bytes(x) for x in run.outputs[0]] != [_bytes(x) for x in wanted]:
                raise ToolError(f"the whole model {WRONG}.")
            built = Built(Path(folder), target, program, _plain(inputs), run, artifact.costs)
            cost, layers = self.source.whole(backend, built), self.source.layers(built)
        return Whole(cost, artifact.code_bytes, artifact.plan.nbytes, layers)

    def _groups(self, task: Task, count: int) -> Iterator[list[int]]:
        room = _MOST_CONSTANTS // max(1, task.constant_bytes())
        size = max(1, min(self.source.side_by_side, room))
        for start in range(0, count, size):
            yield list(range(start, min(start + size, count)))

    def _build(
        self,
        task: Task,
        schedules: Sequence[Schedule],
        numbers: list[int],
        inputs: Sequence[NDArray[Any]],
        wanted: NDArray[Any],
        stack: ExitStack,
        failures: dict[int, str],
    ) -> list[tuple[Built, list[int]]]:
        """Builds without the schedules that fail; what does not build or run is halved to find out which."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="irshrink-")))
        program = task.side_by_side(len(numbers))
        given = {f"op{i}": schedules[n] for i, n in enumerate(numbers)}
        backend = self.backend.with_schedules(Schedules(given), measuring=True)
        target = with_memory(self.target, _FLASH, _RAM)
        vector = Inference(inputs, [wanted] * len(numbers))
        try:
            artifact = backend.compile(program, target, folder, [vector], "trial")
            run = backend.run(folder, target, artifact.program, [inputs])
        except (ToolError, BudgetError) as e:
            if len(numbers) == 1:
                failures[numbers[0]] = str(e)
                return []
            half = len(numbers) // 2
            parts = (numbers[:half], numbers[half:])
            return [
                b for n in parts for b in self._build(task, schedules, n, inputs, wanted, stack, failures)
            ]
        for number, output in zip(numbers, run.outputs[0], strict=True):
            if _bytes(output) != _bytes(wanted):
                failures[number] = WRONG
        return [(Built(folder, target, program, _plain(inputs), run, artifact.costs), numbers)]

    def _costs(self, built: Sequence[tuple[Built, list[int]]], failures: dict[int, str]) -> dict[int, float]:
        try:
            costs = self.source.costs(self.backend, [b for b, _ in built]) if built else []
        except ToolError as e:
            failures.update({n: str(e) for _, numbers in built for n in numbers})
            return {}
        found = {}
        for (_, numbers), values in zip(built, costs, strict=True):
            found.update({n: v for n, v in zip(numbers, values, strict=True) if n not in failures})
        return found


def _plain(inputs: Sequence[NDArray[Any]]) -> list[bytes]:
    return [np.ascontiguousarray(x).tobytes() for x in inputs]


def _bytes(x: NDArray[Any]) -> bytes:
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x)
    return np.ascontiguousarray(x).tobytes()
