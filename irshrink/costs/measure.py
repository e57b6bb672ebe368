"""Layers built side by side, run once, and read off: what each of them costs on the target."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from irshrink.backend import Inference
from irshrink.costs.sizes import Single
from irshrink.errors import ToolError
from irshrink.program.ops import Op
from irshrink.program.program import Port, Program
from irshrink.target import Target, with_memory
from irshrink.tuning.costs import Built, CostSource
from irshrink.tuning.database import Schedules
from irshrink.tuning.tasks import random_inputs
from irshrink.tuning.tunable import Tunable

#: Memory that is assumed: layers side by side take more than a board has.
_FLASH, _RAM = 64 << 20, 64 << 20
#: Weights, and memory for values, of one build, bytes.
_MOST_CONSTANTS, _MOST_VALUES = 4 << 20, 8 << 20


#: Which layers call a C function decides what compilers know of its sizes: ``any`` layers nothing, ``kin`` of
#: one family all but channels, and one layer, or several ``alike``, everything.
Callers = Literal["any", "kin", "alike"]


@dataclass(frozen=True)
class Reading:
    """One layer's cost and the machine code of its C function, bytes."""

    cost: float
    code_bytes: int


@dataclass(frozen=True)
class Meter:
    """Measures layers on one target.

    Args:
        schedules: what kernels are chosen by.
        backend: as it is to compile.
    """

    backend: Tunable
    target: Target
    source: CostSource
    schedules: Schedules

    def read(self, layers: Sequence[Single], callers: Callers) -> list[Reading]:
        """One reading a layer, in order.

        Args:
            callers: of the layers' C functions in the model that they stand for.

        Raises:
            ToolError: the compiler or the emulator failed.
        """
        most = 1 if callers == "alike" else self.source.side_by_side
        return [one for group in _groups(layers, most) for one in self._build(group, callers == "any")]

    def _build(self, layers: Sequence[Single], opaque: bool) -> list[Reading]:
        program = side_by_side(layers)
        backend = self.backend.with_schedules(self.schedules, measuring=opaque)
        target = with_memory(self.target, _FLASH, _RAM)
        # of each layer by itself: what stands beside it must not change what it takes
        inputs = [x for one in layers for x in random_inputs(one.program, zlib.crc32(one.workload.encode()))]
        with tempfile.TemporaryDirectory(prefix="irshrink-") as scratch:
            folder = Path(scratch)
            # nothing is compared here: the outputs of the test vector are those of no reference
            vector = Inference(inputs, inputs[:0])
            artifact = backend.compile(program, target, folder, [vector], "cost")
            run = backend.run(folder, target, artifact.program, [inputs])
            built = Built(folder, target, program, [x.tobytes() for x in inputs], run, artifact.costs)
            costs = self.source.costs(backend, [built])[0]
        code = {kernel.op: kernel.code_bytes for kernel in artifact.costs}
        if len(costs) != len(program.ops):
            raise ToolError(f"{len(program.ops)} layers were built, and {len(costs)} have a cost.")
        return [Reading(cost, code[op.name]) for op, cost in zip(program.ops, costs, strict=True)]


def side_by_side(layers: Sequence[Single]) -> Program:
    """All layers in one program, each on inputs of its own."""
    whole = Program({}, [], [], [])
    for index, layer in enumerate(layers):
        names = {name: f"{name}_{index}" for name in layer.program.tensors}
        whole.tensors |= {
            names[name]: replace(tensor, name=names[name]) for name, tensor in layer.program.tensors.items()
        }
        whole.constants |= {names[name]: value for name, value in layer.program.constants.items()}
        whole.ops.append(_renamed(layer.op, index, names))
        for ports, given in ((whole.inputs, layer.program.inputs), (whole.outputs, layer.program.outputs)):
            ports += [Port(names[p.tensor], names[p.tensor], p.shape) for p in given]
    return whole


def _renamed(op: Op, index: int, names: dict[str, str]) -> Op:
    inputs = tuple(names[name] for name in op.inputs)
    return replace(op, name=f"op{index}", origin=(), inputs=inputs, output=names[op.output])


def _groups(layers: Sequence[Single], most: int) -> Iterator[list[Single]]:
    """What is built together: at most so many, and no more weights and values than compilers stand."""
    group: list[Single] = []
    constants = values = 0
    for layer in layers:
        size = _constant_bytes(layer.op)
        held = sum(tensor.nbytes for tensor in layer.program.tensors.values())
        full = len(group) == most or constants + size > _MOST_CONSTANTS or values + held > _MOST_VALUES
        if group and full:
            yield group
            group, constants, values = [], 0, 0
        group.append(layer)
        constants, values = constants + size, values + held
    if group:
        yield group


def _constant_bytes(op: Op) -> int:
    return sum(int(getattr(value, "nbytes", 0)) for value in vars(op).values())
