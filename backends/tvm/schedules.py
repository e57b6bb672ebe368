"""Schedules as data: kernels chosen by what is given, by what a database knows, or by rule.

A schedule is the frozen dataclass of its family; as plain values it is its fields beside ``kernel``, the name
of the dataclass. What a database holds is only taken where the family still lists it
as a candidate for the operator: an old or foreign file can make code slower, never wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from irshrink.backend import Choices
from irshrink.backends.toolchain import zig
from irshrink.backends.tvm import kernels
from irshrink.backends.tvm.kernels.call import KernelCall
from irshrink.console import plural
from irshrink.errors import InternalError
from irshrink.program.ops import Op
from irshrink.program.program import Program
from irshrink.target import Target
from irshrink.tuning.database import BY_RULE, Database, Schedules, shipped_database
from irshrink.tuning.workload import workload

HERE = Path(__file__).parent
#: Which part of a model's cost tuning has to save to be worth a note.
_WORTH_SAYING = 0.05
#: Bytes of memory beside the rule's that a schedule worth measuring may take on a microcontroller.
_EXTRA = 512


def plain(schedule: Any) -> dict[str, Any]:
    """A family's schedule as plain values, its kernel first; fields that are None are left out.

    Raises:
        InternalError: a field is neither a number nor text nor a truth value.
    """
    values = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule)}
    for name, value in values.items():
        if value is not None and not isinstance(value, bool | int | float | str):
            raise InternalError(
                f"{type(schedule).__name__}.{name} is a {type(value).__name__}, no plain value"
            )
    kernel = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(schedule).__name__).lower()
    return {"kernel": kernel, **{k: v for k, v in values.items() if v is not None}}


@dataclass(frozen=True)
class Option:
    """One way to compute an operator: a family's schedule and, where the family leaves it open, whether the
    sizes are constants of a C function of its own."""

    schedule: Any
    specialized: bool | None

    def plain(self) -> dict[str, Any]:
        """As databases hold it."""
        extra = {} if self.specialized is None else {"specialized": self.specialized}
        return {**plain(self.schedule), **extra}

    def call(self, op: Op, program: Program, target: Target) -> KernelCall:
        """The kernel call."""
        call = kernels.kernel_for(op, program, target, self.schedule)
        return call if self.specialized is None else dataclasses.replace(call, specialized=self.specialized)


def options(op: Op, program: Program, target: Target) -> tuple[KernelCall, list[Option]]:
    """The rule's call, and every way there is, the rule's first.

    Raises:
        InternalError: the operator has no candidates.
    """
    schedules = kernels.candidates_for(op, program, target)
    if not schedules:
        raise InternalError(f"{op.name}: there is nothing to choose")
    rule = kernels.kernel_for(op, program, target)
    left_open = not rule.specialized and not hasattr(rule.schedule, "specialized")
    every = [
        Option(schedule, specialized)
        for schedule in (rule.schedule, *schedules)
        for specialized in ((False, True) if left_open else (None,))
    ]
    return rule, list(dict.fromkeys(every))


def plain_options(op: Op, program: Program, target: Target) -> list[Mapping[str, Any]]:
    """:func:`options` that are worth measuring, as databases hold them; none where there is no choice.

    Where there is no operating system, they take hardly more memory than the rule's.
    """
    if not kernels.candidates_for(op, program, target):
        return []
    rule, every = options(op, program, target)
    if zig.is_bare_metal(target):
        every = [one for one in every if _as_little_memory(one.call(op, program, target), rule)]
    return [option.plain() for option in every]


def _as_little_memory(call: KernelCall, rule: KernelCall) -> bool:
    """Whether an arena hardly grows by it: workspace and distances, sharing of memory, calls by rows."""
    distances = dict(rule.distances)
    further = [at - distances[i] for i, at in call.distances if i in distances]
    extra = max(0, call.workspace_bytes - rule.workspace_bytes) + sum(max(0, more) for more in further)
    shared = set(rule.in_place) <= {*call.in_place, *(i for i, at in call.distances if at <= 0)}
    by_rows = rule.rows is None or call.rows is not None
    return extra <= _EXTRA and len(further) == len(distances) and shared and by_rows


@dataclass
class Chooser:
    """Chooses the kernels of one build, and remembers how.

    Attributes:
        tuned: operators whose schedule came from a database.
        by_rule: those that could have one, and have none there.
        stale: those whose schedule there is none of the family's any more, chosen by rule as well.
    """

    target: Target
    schedules: Schedules
    tuned: list[str] = field(default_factory=list)
    by_rule: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def call(self, op: Op, program: Program) -> KernelCall:
        """The kernel call for ``op``: what is given for it, else what was tuned, else the rule's.

        Raises:
            InternalError: what is given is no candidate.
        """
        if not kernels.candidates_for(op, program, self.target):
            return kernels.kernel_for(op, program, self.target)
        rule, every = options(op, program, self.target)
        wanted = self.schedules.find(op.name, workload(op, program))
        if wanted is None:
            return self._untuned(op, program, rule, every)
        if wanted == BY_RULE:
            self.tuned.append(op.name)
            return rule
        chosen = next((one for one in every if one.plain() == wanted), None)
        if chosen is not None:
            self.tuned.append(op.name)
            return chosen.call(op, program, self.target)
        if op.name in self.schedules.given:
            raise InternalError(f"{op.name}: {dict(wanted)} is no schedule of its kernels")
        self.stale.append(op.name)
        return rule

    def quick(self, op: Op, program: Program) -> KernelCall:
        """The same call, where no database knows the layer without a look at all that there is."""
        narrow = getattr(op, "weight_bits", 8) != 8
        if narrow or self.schedules.find(op.name, workload(op, program)) is not None:
            return self.call(op, program)
        return kernels.kernel_for(op, program, self.target)

    def _untuned(self, op: Op, program: Program, rule: KernelCall, every: list[Option]) -> KernelCall:
        """The rule's; where packed weights have no kernels of their own, what was tuned for 8 bits."""
        self.by_rule.append(op.name)
        if getattr(op, "weight_bits", 8) == 8 or self.target.has("simd"):
            return rule
        wide = dataclasses.replace(op, weight_bits=8)  # type: ignore[call-arg]
        wanted = self.schedules.find(op.name, workload(wide, program))
        chosen = next((one for one in every if one.plain() == wanted), None)
        call = rule if chosen is None else chosen.call(op, program, self.target)
        # one that does not read packed weights itself would have to unpack them
        return call if call.workspace_bytes <= rule.workspace_bytes else rule

    def choices(self) -> Choices | None:
        """How kernels were chosen so far; None where there was no choice."""
        found = Choices(len(self.tuned), len(self.by_rule), len(self.stale))
        return None if found == Choices() else found

    def notes(self) -> list[str]:
        """Sentences for the report, where measuring is known to help or was never done."""
        layers = plural(len(self.tuned) + len(self.by_rule) + len(self.stale), "layer")
        notes = []
        hint = _hint(shipped_database(self.target.name)) if self.by_rule else None
        if hint is not None:
            who = f"{_have(len(self.by_rule), layers)} no tuned schedule for {self.target.name}"
            notes.append(f"{who}; a rule chose. {hint}")
        if self.stale:
            notes.append(
                f"{_have(len(self.stale), layers)} a schedule in the database that their kernels do "
                "not have; a rule chose for them. Tune again."
            )
        return notes


def _hint(shipped: Database | None) -> str | None:
    """Why the user might tune; None where whole models were measured and gained next to nothing."""
    if shipped is None:
        return "It was never compared with measurements there: `irshrink tune` may find better ones."
    best = min(shipped.gained.values(), default=1.0)
    if best > 1 - _WORTH_SAYING:
        return None
    saved = f"{100 * (1 - best):.0f} %"
    return f"`irshrink tune` saved up to {saved} of the {shipped.measured} of other models."


def _have(number: int, layers: str) -> str:
    return f"{number:,} of {layers} {'has' if number == 1 else 'have'}"


@cache
def kernels_digest() -> str:
    """SHA-256 of the sources that kernels are generated from: figures are comparable where it is equal."""
    digest = hashlib.sha256()
    for file in sorted([*HERE.rglob("*.py"), *HERE.rglob("*.h")]):
        digest.update(file.relative_to(HERE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
