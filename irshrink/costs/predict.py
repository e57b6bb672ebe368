"""Costs of operators: families are calibrated by a few members, the first time that one of them is asked for.

Which members depends on the family alone, so that answers do not depend on what was asked before. Operators
without a family, and C functions that too few members have, are measured as they are.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from math import isqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from irshrink.costs.fit import Fit, Line, Loops, fit, line
from irshrink.costs.measure import Callers, Meter, Reading
from irshrink.costs.sizes import Resize, Single, Sizes, coupled, family, fixed_inputs, single, sizes_of
from irshrink.costs.sketch import Kernel, Sketching
from irshrink.costs.store import Row, Store
from irshrink.layer_cost import Cost, Unit
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.costs import CostSource
from irshrink.tuning.database import Schedules

#: Members that are looked at, that calibrate a family, and with which they do where channels are coupled.
_TRIED, _MEMBERS, _COUPLED = 48, 12, 6
#: As many of one C function that a fit makes sense.
_FEWEST = 4
#: Members that say what it saves to have a C function to itself.
_ALIKE = 3
#: Products in one member at most: emulators take their time.
_MOST_MACS = 3_000_000


@dataclass(frozen=True)
class Asked:
    """How an operator is compiled.

    Attributes:
        optimize: what the C compiler is told.
        callers: which layers of the model call its C function.
        loosely: functions of one kind predict each other: quick where nearly every layer has its own.
    """

    optimize: str
    callers: Callers = "any"
    loosely: bool = False


@dataclass(frozen=True)
class _Family:
    """What is known of a family on one C function."""

    fit: Fit
    alike: Line
    error: float
    code_bytes: int

    def cost(self, loops: Loops) -> float:
        return self.alike.of(self.fit.cost(loops))


@dataclass
class Predictor:
    """Costs of operators on one target.

    Args:
        source: of measurements.
        schedules: what kernels are chosen by.
    """

    backend: Sketching
    target: Target
    source: CostSource
    schedules: Schedules
    unit: Unit
    store: Store
    _names: WeakKeyDictionary[Op, tuple[str, Resize] | None] = field(default_factory=WeakKeyDictionary)
    _families: dict[tuple[Any, ...], _Family | None] = field(default_factory=dict)
    _tried: dict[str, list[tuple[Sizes, Kernel]]] = field(default_factory=dict)

    def cost(self, op: Op, program: Program, kernel: Kernel, asked: Asked) -> Cost:
        """Of one operator, which ``kernel`` computes.

        Raises:
            ToolError: the compiler or the emulator failed.
        """
        sizes = sizes_of(op, program)
        if sizes is not None:
            found = self.of_member(op, program, sizes, kernel, asked)
            if found is not None:
                return found
        return Cost(self._exact(op, program, asked).cost, self.unit, "measured")

    def of_member(self, op: Op, program: Program, sizes: Sizes, kernel: Kernel, asked: Asked) -> Cost | None:
        """Of the member of the operator's family that has these sizes and that ``kernel`` computes.

        None where too few members have its C function to predict anything.
        """
        known = self._family(op, program, kernel, asked)
        if known is None:
            return None
        amount = known.cost(loops_of(op, sizes, kernel))
        return Cost(
            float(round(amount)) if self.source.exact else amount, self.unit, "predicted", known.error
        )

    def code_bytes(self, op: Op, program: Program, kernel: Kernel, asked: Asked) -> int:
        """Machine code of its C function."""
        known = self._family(op, program, kernel, asked)
        return self._exact(op, program, asked).code_bytes if known is None else known.code_bytes

    def family_name(self, op: Op, program: Program) -> str | None:
        """What the operator's family is called, if it has one."""
        if op not in self._names:
            self._names[op] = family(op, program)
        found = self._names[op]
        return None if found is None else found[0]

    def _family(self, op: Op, program: Program, kernel: Kernel, asked: Asked) -> _Family | None:
        self.family_name(op, program)
        found = self._names[op]
        if found is None:
            return None
        name, resize = found
        known = not self.source.exact or kernel.specialized
        callers: Callers = "any" if known else asked.callers
        function = _called(kernel, asked)
        key = (name, function, kernel.specialized, asked.optimize, callers)
        if key not in self._families:
            members = self._members(name, resize, op, program, kernel, asked)
            text = f"{asked.optimize} {function}{' specialized' if kernel.specialized else ''} {name}"
            self._families[key] = self._calibrated(op, members, resize, text, asked.optimize, callers)
        return self._families[key]

    def _calibrated(
        self,
        op: Op,
        members: Sequence[tuple[Sizes, Kernel]],
        resize: Resize,
        text: str,
        optimize: str,
        callers: Callers,
    ) -> _Family | None:
        if len(members) < _FEWEST:
            return None
        layers = [resize(sizes) for sizes, _ in members]
        shared = self._readings(text, layers, optimize, "kin" if callers == "kin" else "any")
        loops = [loops_of(op, sizes, kernel) for sizes, kernel in members]
        found = fit(loops, [one.cost for one in shared])
        if callers != "alike":
            return _Family(found, Line(), found.error, shared[0].code_bytes)
        some = _spread([one.cost for one in shared], _ALIKE)
        apart = self._readings(text, [layers[i] for i in some], optimize, "alike")
        saved = line([shared[i].cost for i in some], [one.cost for one in apart])
        return _Family(found, saved, (found.error**2 + saved.error**2) ** 0.5, apart[0].code_bytes)

    def _members(
        self, name: str, resize: Resize, op: Op, program: Program, kernel: Kernel, asked: Asked
    ) -> list[tuple[Sizes, Kernel]]:
        """Those of the family that calibrate one C function, or one kind of them."""
        if name not in self._tried:
            sizes = sizes_of(op, program)
            assert sizes is not None
            made = [(one, resize(one)) for one in drawn(name, op, sizes)]
            self._tried[name] = [
                (one, self.backend.kernel(layer.op, layer.program, self.target)) for one, layer in made
            ]
        same = [
            (sizes, one)
            for sizes, one in self._tried[name]
            if (_called(one, asked), one.specialized) == (_called(kernel, asked), kernel.specialized)
        ]
        return same[: _COUPLED if coupled(op, 1) is not None else _MEMBERS]

    def _exact(self, op: Op, program: Program, asked: Asked) -> Reading:
        """The operator as it is, weights and all."""
        layer = single(op, program)
        text = f"{asked.optimize} {layer.workload} {_digest(layer)}"
        callers: Callers = "alike" if asked.callers == "alike" and self.source.exact else "any"
        return self._readings(text, [layer], asked.optimize, callers)[0]

    def _readings(
        self, text: str, layers: Sequence[Single], optimize: str, callers: Callers
    ) -> list[Reading]:
        text = f"{callers} {text}"
        known = self.store.get(text)
        if known is None or len(known) != len(layers) or any(len(row) != 2 for row in known):
            meter = Meter(self.backend.optimized(optimize), self.target, self.source, self.schedules)
            known = [_row(one) for one in meter.read(layers, callers)]
            self.store.put(text, known)
        return [Reading(cost, int(code)) for cost, code in known]


def _called(kernel: Kernel, asked: Asked) -> str:
    return kernel.kind if asked.loosely else kernel.function


def _spread(costs: Sequence[float], count: int) -> list[int]:
    """Indices of so many, from the least cost to the greatest."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i))
    return [order[round(i * (len(order) - 1) / (count - 1))] for i in range(count)]


def loops_of(op: Op, sizes: Sizes, kernel: Kernel) -> Loops:
    """How far the loops of the C function go."""
    outputs = sizes.outputs if kernel.outputs is None else kernel.outputs
    depth = 1 if coupled(op, 1) is not None else sizes.inputs * positions(op)
    return Loops(outputs, depth, kernel.strips)


def positions(op: Op) -> int:
    """Places of a window; 1 where there is none."""
    window = getattr(op, "window", None)
    return 1 if window is None else int(window.kernel[0] * window.kernel[1])


def drawn(name: str, op: Op, sizes: Sizes) -> list[Sizes]:
    """Members to look at, the same for a family: with eights of channels, fours, and any number in turn."""
    rng = np.random.default_rng(zlib.crc32(name.encode("utf-8")))
    tied = coupled(op, 1) is not None
    room = max(1, _MOST_MACS // max(1, sizes.pixels * positions(op)))
    most = min(256, room) if tied else min(96, isqrt(room))
    found: dict[Sizes, None] = {}
    for index in range(_TRIED):
        step = (8, 4, 1)[index % 3]
        inputs, outputs = (step * int(n) for n in rng.integers(1, max(2, most // step) + 1, 2))
        inputs = sizes.inputs if fixed_inputs(sizes) else max(3, inputs)
        bound = coupled(op, inputs)
        found[Sizes(sizes.rows, sizes.columns, inputs, max(2, outputs) if bound is None else bound)] = None
    return list(found)


def _row(reading: Reading) -> Row:
    return [reading.cost, reading.code_bytes]


def _digest(layer: Single) -> str:
    """Of every number that the operator holds or reads."""
    digest = hashlib.sha256()
    for holder in (vars(layer.op), layer.program.constants):
        _add(digest, holder)
    return digest.hexdigest()[:16]


def _add(digest: Any, holder: Mapping[str, Any]) -> None:
    for name, value in sorted(holder.items()):
        if isinstance(value, np.ndarray):
            digest.update(name.encode("utf-8") + np.ascontiguousarray(value).tobytes())
        elif is_dataclass(value):
            _add(digest, vars(value))
