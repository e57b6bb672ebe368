"""Models between steps: every prefix of a plan's steps is computed once and kept, so that plans share work.

A stage is what a compilation would have in memory behind the same steps. It is always stored and read back,
whether it was just computed or not: what a search finds does not depend on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir

from irshrink.console import Progress
from irshrink.costs.planned import costs_if_any, formats, needs_costs
from irshrink.costs.service import TargetCosts
from irshrink.errors import BudgetError, ModelError, UserError
from irshrink.external import load_weights
from irshrink.knobs import Step
from irshrink.module import Module, Original, PassRecord
from irshrink.pipeline import Pass, Pipeline, options_of
from irshrink.planning.journal import Journal, key_of
from irshrink.planning.subject import Subject
from irshrink.registry import make_pass
from irshrink.verify import verify_structure

__all__ = ["RefusedError", "Stages", "made"]

#: Samples that passes fit to where nobody asks how accurate the result is.
FEW = 16
Kept = dict[str, tuple[Any, ...]]


class RefusedError(UserError):
    """A pass cannot do what a plan asks of it on this model; the message is the pass's own."""


@dataclass(frozen=True)
class Stages:
    """The stages of one subject.

    Attributes:
        subject: what they begin with.
        journal: where they are kept.
    """

    subject: Subject
    journal: Journal
    _costs: dict[str, TargetCosts | None] = field(default_factory=dict)

    def keys(self, steps: Sequence[Step], *, judged: bool = True) -> list[str]:
        """The names of all prefixes, from one step to all of them."""
        about = self._about(made(steps), judged)
        return [key_of(self.subject.digest, about, list(steps[: n + 1])) for n in range(len(steps))]

    def has(self, key: str) -> bool:
        """Whether a stage is there, complete as far as can be told without reading it."""
        entry = self.journal.get("stages", key)
        if entry is None:
            return False
        return entry.get("refused") is not None or all(map(self.journal.has_blob, _blobs_of(entry)))

    def extend(
        self, steps: Sequence[Step], count: int, *, judged: bool = True, progress: Progress = lambda _: None
    ) -> None:
        """Make sure that the stage behind the first ``count`` steps is there, and those before it.

        Raises:
            RefusedError: a pass refused.
        """
        self.module(steps, count, judged=judged, progress=progress)

    def module(
        self,
        steps: Sequence[Step],
        count: int | None = None,
        *,
        judged: bool = True,
        progress: Progress = lambda _: None,
    ) -> Module:
        """The model behind the first ``count`` steps (all by default), for the caller to change.

        Args:
            judged: False lets passes fit to few samples, where nobody asks how accurate the result is.

        Raises:
            RefusedError: a pass refused.
        """
        keys = self.keys(steps, judged=judged)[: len(steps) if count is None else count]
        for done in range(len(keys), 0, -1):
            found = self._load(keys[done - 1], judged)
            if found is not None:
                break
        else:
            done, found = 0, self._start(judged)
        passes = made(steps)
        for index in range(done, len(keys)):
            self._store(keys[index], found, passes, index, judged, progress)
            loaded = self._load(keys[index], judged)
            if loaded is None:
                raise ModelError(f"{self.journal.folder}: what was just written there cannot be read again.")
            found = loaded
        return found

    def _store(
        self, key: str, module: Module, passes: Sequence[Pass], index: int, judged: bool, progress: Progress
    ) -> None:
        """Run one step on ``module`` and keep what comes out, or why nothing does."""
        progress(passes[index].name)
        pipeline = Pipeline([passes[index]], (), verify_structure, progress, self._costs_for(passes))
        try:
            pipeline.run(module, self.subject.target, self.subject.recipe.seed)
        except (UserError, BudgetError) as e:
            self.journal.put("stages", key, {"refused": str(e)})
            self.journal.say("stage", key, passes[index].name, "refused")
            raise RefusedError(str(e)) from e
        self.journal.put("stages", key, self._entry(module))
        self.journal.say("stage", key, passes[index].name)

    def _entry(self, module: Module) -> dict[str, Any]:
        entry: dict[str, Any] = {"model": self.journal.put_blob(_message(module.model))}
        entry["meta"] = {str(node.name): dict(node.meta) for node in module.graph if node.meta}
        entry["history"] = [_record(one) for one in module.history]
        if module.original is not None:
            entry["original"] = self.journal.put_blob(_message(module.original.module.model))
            entry["kept"] = self.journal.put_blob(_packed(module.original.kept))
        return entry

    def _load(self, key: str, judged: bool) -> Module | None:
        """
        Raises:
            RefusedError: the pass refused when it was tried.
        """
        entry = self.journal.get("stages", key)
        if entry is None:
            return None
        if entry.get("refused") is not None:
            raise RefusedError(entry["refused"])
        blobs = {name: self.journal.blob(name) for name in _blobs_of(entry)}
        if None in blobs.values():
            return None
        module = self._module(_model(blobs[entry["model"]]), judged)
        nodes = {node.name: node for node in module.graph}
        for name, meta in entry["meta"].items():
            nodes[name].meta.update(meta)
        module.history = [msgspec.convert(one, PassRecord) for one in entry["history"]]
        if "original" in entry:
            before = self._module(_model(blobs[entry["original"]]), judged)
            module.original = Original(before, _unpacked(blobs[entry["kept"]]))
        return module

    def _module(self, model: ir.Model, judged: bool) -> Module:
        start = self.subject.module
        samples = self.subject.fitted if judged else self.subject.fitted.spread(FEW)
        return Module(model, samples, source=start.source, external=start.external)

    def _start(self, judged: bool) -> Module:
        module = self.subject.module.clone()
        module.history = []
        if not judged:
            module.calibration = self.subject.fitted.spread(FEW)
        return module

    def _costs_for(self, passes: Sequence[Pass]) -> TargetCosts | None:
        """What passes may ask, as a compilation of all of them gives it to each; what was asked is kept."""
        if not needs_costs(passes):
            return None
        key = key_of(_formats(passes))
        if key not in self._costs:
            self._costs[key] = costs_if_any(self.subject.target, passes, self.subject.schedules)
        return self._costs[key]

    def _about(self, passes: Sequence[Pass], judged: bool) -> dict[str, Any]:
        """What a stage depends on besides the steps before it: passes that ask for costs count layers as they
        are going to be, and that is what steps behind them say."""
        return {"formats": _formats(passes) if needs_costs(passes) else None, "judged": judged}


def made(steps: Sequence[Step]) -> list[Pass]:
    """
    Raises:
        RecipeError: an unknown pass or option.
    """
    return [make_pass(str(s["pass"]), {k: v for k, v in s.items() if k != "pass"}) for s in steps]


def _formats(passes: Sequence[Pass]) -> list[Any]:
    return [[one.name, options_of(one)] for one in formats(passes)]


def _blobs_of(entry: Mapping[str, Any]) -> list[str]:
    return [entry[name] for name in ("model", "original", "kept") if name in entry]


def _message(model: ir.Model) -> bytes:
    """
    Raises:
        ModelError: it is larger than a message can be.
    """
    whole = model.clone()
    load_weights(whole)
    try:
        return bytes(ir.to_proto(whole).SerializeToString(deterministic=True))
    except ValueError as e:
        raise ModelError("the model takes more than 2 GB, and plans are searched for smaller ones.") from e


def _model(data: bytes | None) -> ir.Model:
    import onnx

    assert data is not None
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(data))
    return model


def _record(record: PassRecord) -> dict[str, Any]:
    """Without the time it took, which is not the same twice."""
    plain: dict[str, Any] = msgspec.to_builtins({**vars(record), "seconds": 0.0}, enc_hook=_number)
    return plain


def _number(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"statistics of a pass hold a {type(value).__name__}")


def _packed(kept: Kept) -> bytes:
    """Arrays by value and axis: the same bytes for the same arrays."""
    plain = {
        name: [None if one is None else [str(one.dtype), one.tolist()] for one in axes]
        for name, axes in sorted(kept.items())
    }
    return msgspec.json.encode(plain)


def _unpacked(data: bytes | None) -> Kept:
    assert data is not None
    return {
        name: tuple(None if one is None else np.array(one[1], one[0]) for one in axes)
        for name, axes in msgspec.json.decode(data).items()
    }
