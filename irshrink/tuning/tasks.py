"""What is to be tuned: the distinct workloads of a program, each as a program of its own."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.program.ops import Op
from irshrink.program.program import Port, Program
from irshrink.target import Target
from irshrink.tuning.database import Schedule
from irshrink.tuning.tunable import Tunable
from irshrink.tuning.workload import workload


@dataclass(frozen=True, eq=False)
class Task:
    """One workload.

    Attributes:
        workload: its key.
        op: the first operator of that workload, with the model's own weights.
        layers: names of all of them.
        candidates: every schedule there is, the rule's first.
    """

    workload: str
    op: Op
    program: Program
    layers: tuple[str, ...]
    candidates: tuple[Schedule, ...]

    def constant_bytes(self) -> int:
        """Weights and other constants of the operator."""
        return sum(v.nbytes for v in vars(self.op).values() if isinstance(v, np.ndarray))

    def side_by_side(self, count: int) -> Program:
        """The operator ``count`` times, on the same inputs, as ``op0``, ``op1``..."""
        given = [name for name in dict.fromkeys(self.op.inputs) if name not in self.program.constants]
        result = self.program.tensors[self.op.output]
        outputs = [f"y{i}" for i in range(count)]
        tensors = {name: self.program.tensors[name] for name in self.op.inputs}
        tensors |= {name: replace(result, name=name) for name in outputs}
        ops = [replace(self.op, name=f"op{i}", origin=(), output=name) for i, name in enumerate(outputs)]
        constants = {n: v for n, v in self.program.constants.items() if n in self.op.inputs}
        inputs = [Port(name, name, tensors[name].shape) for name in given]
        return Program(
            tensors, list(ops), inputs, [Port(n, n, result.shape) for n in outputs], constants=constants
        )

    def inputs(self) -> list[NDArray[Any]]:
        """Random values of every input, always the same for a workload."""
        return random_inputs(self.side_by_side(1), zlib.crc32(self.workload.encode("utf-8")))


def find_tasks(backend: Tunable, program: Program, target: Target) -> list[Task]:
    """The workloads that have more than one schedule, in the order of the program."""
    by_key: dict[str, list[Op]] = {}
    for op in program.ops:
        by_key.setdefault(workload(op, program), []).append(op)
    tasks = []
    for key, ops in by_key.items():
        candidates = backend.candidates(ops[0], program, target)
        if len(candidates) > 1:
            tasks.append(Task(key, ops[0], program, tuple(op.name for op in ops), tuple(candidates)))
    return tasks


def random_inputs(program: Program, seed: int) -> list[NDArray[Any]]:
    """A value of every input: floats standard normal, int8 from the whole range, other integers 0 or 1."""
    rng = np.random.default_rng(seed)
    return [_random(rng, program.tensors[port.tensor].dtype, port.shape) for port in program.inputs]


def same_schedule(a: Schedule, b: Schedule) -> bool:
    """Whether all choices are the same."""
    return schedule_key(a) == schedule_key(b)


def without(schedules: Sequence[Schedule], known: Sequence[Schedule]) -> list[Schedule]:
    """Those of ``schedules`` that are not in ``known``, in order."""
    keys = {schedule_key(one) for one in known}
    return [one for one in schedules if schedule_key(one) not in keys]


def schedule_key(schedule: Schedule) -> tuple[tuple[str, Any], ...]:
    """Equal where all choices are the same."""
    return tuple(sorted(schedule.items()))


def _random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if dtype.startswith("float"):
        return rng.standard_normal(shape).astype(dtype)
    if dtype == "int8":
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.integers(0, 2, shape).astype(dtype)
