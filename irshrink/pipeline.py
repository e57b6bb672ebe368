"""Passes, and the one thing that runs them.

A pass is a frozen dataclass: its fields are its options, ``name`` is what recipes and the command line
call it, ``lossy`` says whether it may change the numbers. The pipeline owns what every pass would
otherwise repeat: verification, timing, random state, analysis invalidation and history.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import onnx_ir as ir

from irshrink.blas import one_thread
from irshrink.errors import IrshrinkError, PassError
from irshrink.external import release
from irshrink.layer_cost import LayerCosts
from irshrink.module import Module, PassRecord
from irshrink.target import Target

T = TypeVar("T")
#: An analysis is a function of the graph alone; the function itself is its key.
Analysis = Callable[[ir.Graph], Any]


class Analyses:
    """Results of analyses on one graph, computed on demand and dropped when a pass changes the graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._results: dict[Analysis, Any] = {}

    def get(self, analysis: Callable[[ir.Graph], T]) -> T:
        if analysis not in self._results:
            self._results[analysis] = analysis(self._graph)
        return cast(T, self._results[analysis])

    def keep_only(self, preserved: frozenset[Analysis]) -> None:
        self._results = {a: r for a, r in self._results.items() if a in preserved}


@dataclass
class Context:
    """What a pass may use besides the module."""

    target: Target
    analyses: Analyses
    rng: np.random.Generator
    notes: list[str] = field(default_factory=list)
    #: Called with what is being done now, where a pass takes long: ``calibrating, 12 of 64``.
    progress: Callable[[str], None] = lambda _: None
    #: Of everything random; :attr:`rng` comes from it and from the name of the pass.
    seed: int = 0
    #: What layers cost on the target, where something can tell.
    costs: LayerCosts | None = None

    def inner(self, name: str, graph: ir.Graph) -> Context:
        """What the pipeline would give a pass of that name, for a pass that runs another one on a graph."""
        return Context(
            self.target,
            Analyses(graph),
            _rng(self.seed, name),
            progress=self.progress,
            seed=self.seed,
            costs=self.costs,
        )

    def note(self, text: str) -> None:
        """Say something that the user should read in the report: a refusal with its reason, a fallback."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class PassResult:
    """What a pass did. ``preserves`` names the analyses that are still valid after a change."""

    changed: bool
    preserves: frozenset[Analysis] = frozenset()
    stats: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Pass(Protocol):
    """The contract of a pass; implementations are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]
    lossy: ClassVar[bool]

    def run(self, module: Module, ctx: Context) -> PassResult: ...


class Instrument(Protocol):
    """Something that watches the pipeline: timing, dumps, progress, numeric checks."""

    def before(self, step: Pass, module: Module) -> None: ...

    def after(self, step: Pass, module: Module, record: PassRecord) -> None: ...


@dataclass(frozen=True)
class Fixpoint:
    """Passes that are repeated in order until none of them changes the graph."""

    steps: tuple[Pass, ...]
    limit: int = 20


Step = Pass | Fixpoint


@dataclass
class Pipeline:
    """An ordered list of steps and the instruments that watch them."""

    steps: Sequence[Step]
    instruments: Sequence[Instrument] = ()
    verify: Callable[[Module], None] | None = None
    progress: Callable[[str], None] = lambda _: None
    costs: LayerCosts | None = None

    @one_thread()
    def run(self, module: Module, target: Target, seed: int = 0) -> Module:
        """Run every step on ``module`` in place and return it.

        Raises:
            PassError: a pass raised or left a graph that breaks an invariant; the message names the
                passes before it.
        """
        analyses = Analyses(module.graph)
        for step in self.steps:
            if isinstance(step, Fixpoint):
                self._run_fixpoint(step, module, target, analyses, seed)
            else:
                self._run_pass(step, module, target, analyses, seed)
        return module

    def _run_fixpoint(
        self, loop: Fixpoint, module: Module, target: Target, analyses: Analyses, seed: int
    ) -> None:
        for _ in range(loop.limit):
            changed = [self._run_pass(step, module, target, analyses, seed) for step in loop.steps]
            if not any(changed):
                return
        names = ", ".join(step.name for step in loop.steps)
        raise PassError(f"no fixpoint after {loop.limit} rounds of: {names}")

    def _run_pass(self, step: Pass, module: Module, target: Target, analyses: Analyses, seed: int) -> bool:
        ctx = Context(
            target, analyses, _rng(seed, step.name), progress=self.progress, seed=seed, costs=self.costs
        )
        for instrument in self.instruments:
            instrument.before(step, module)
        start = time.perf_counter()
        try:
            result = step.run(module, ctx)
            if result.changed:
                analyses.keep_only(result.preserves)
                if self.verify is not None:
                    self.verify(module)
        except IrshrinkError as e:
            if isinstance(e, PassError) or e.exit_code != PassError.exit_code:
                raise
            raise _pass_error(step, module, e) from e
        except Exception as e:
            raise _pass_error(step, module, e) from e
        record = PassRecord(
            name=step.name,
            changed=result.changed,
            seconds=time.perf_counter() - start,
            options=options_of(step),
            stats=result.stats,
            notes=tuple(ctx.notes),
        )
        module.history.append(record)
        release(module.model)
        for instrument in self.instruments:
            instrument.after(step, module, record)
        return result.changed


def options_of(step: Pass) -> dict[str, Any]:
    """The options of a pass as plain data: what a recipe would have to say to get it."""
    if not dataclasses.is_dataclass(step):
        return {}
    return dataclasses.asdict(step)


def flatten(steps: Iterable[Step]) -> list[Pass]:
    """All passes of a list of steps, in order, fixpoints opened once."""
    return [p for s in steps for p in (s.steps if isinstance(s, Fixpoint) else (s,))]


def _rng(seed: int, name: str) -> np.random.Generator:
    # crc32, not hash(): the same stream in every process
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _pass_error(step: Pass, module: Module, cause: Exception) -> PassError:
    before = ", ".join(r.name for r in module.history) or "none"
    return PassError(f"pass '{step.name}' failed: {cause} (passes before it: {before})")
