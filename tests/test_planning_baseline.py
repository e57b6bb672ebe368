"""Which knobs a search has before its baseline is known, and which behind it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.planning import search
from irshrink.planning.goal import Goal
from irshrink.planning.plan import Budget, Evaluation, Figures
from irshrink.target import load_target

FREE = Knob("free", "free", "weights", frozenset({"size"}), (Level("on", 1.0, ()),), obligatory=True)
FIGURES = Figures(
    drop=0.0, loss=0.0, file_bytes=900, weights_bytes=700, flash_bytes=1000, arena_bytes=9, ram_bytes=9,
    cost=1.0, macs=1,
)  # fmt: skip


def knobs(monkeypatch: pytest.MonkeyPatch, goal: Goal, baseline: dict[str, int] | None) -> tuple[Knob, ...]:
    """What a search has with a knob that loses nothing, in every plan where size matters."""
    asked: list[frozenset[Effect]] = []

    def offered(module: object, wishes: Wishes, recipe: object) -> tuple[Knob, ...]:
        asked.append(wishes.effects)
        return (FREE,) if "size" in wishes.effects else ()

    monkeypatch.setattr(search, "knobs_of", offered)
    subject = SimpleNamespace(cost_unit="instructions", target=load_target("cortex-m4"), module=None)
    this: Any = SimpleNamespace(goal=goal, subject=subject, recipe=None, _fit=1)
    tried = None
    if baseline is not None:
        tried = Evaluation(levels=baseline, steps=(), purpose="baseline", figures=FIGURES)
    return cast("tuple[Knob, ...]", search.Search._knobs(this, tried))


def test_what_the_objective_asks_for_is_in_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal("smallest", ())
    assert knobs(monkeypatch, goal, None) == (FREE,)
    assert knobs(monkeypatch, goal, {"free": 1}) == (FREE,)


def test_what_a_missed_budget_asks_for_is_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    goal = Goal("accurate", (Budget("flash_bytes", "--flash", 500.0),))
    assert knobs(monkeypatch, goal, None) == ()
    (found,) = knobs(monkeypatch, goal, {})
    assert found.name == "free"
    assert not found.obligatory
