"""Prediction, proposals and the choice among plans, in a world whose laws are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.knobs import Knob, Level
from irshrink.planning import answer
from irshrink.planning.goal import Goal
from irshrink.planning.plan import Budget, Evaluation, Figures
from irshrink.planning.predict import Monotone, Predictor, Space
from irshrink.planning.propose import Proposer, Setting, _evolved

KNOBS = (
    Knob(
        "channels",
        "channels removed",
        "channels",
        frozenset({"size", "cost"}),
        tuple(Level(f"{i}0 %", i / 10, ({"pass": "a", "ratio": i / 10},)) for i in range(1, 8)),
    ),
    Knob(
        "weights",
        "weights removed",
        "weights",
        frozenset({"size"}),
        tuple(Level(f"{i}0 %", i / 10, ({"pass": "b", "ratio": i / 10},)) for i in range(4, 10)),
    ),
    Knob(
        "numbers",
        "bits of weights",
        "numbers",
        frozenset({"size"}),
        tuple(
            Level(f"{bits} bits", 8.0 - bits, ({"pass": "c", "bits": bits},)) for bits in (8, 6, 5, 4, 3, 2)
        ),
        obligatory=True,
    ),
)
SPACE = Space(KNOBS)
GOAL = Goal("smallest", (Budget("drop", "--max-drop", 0.01),))


def world(setting: Setting) -> Figures:
    """Losses that add up with some interaction, sizes that multiply; drops go with the root of the loss."""
    channels, weights, bits = (
        setting[0] / 10,
        (setting[1] + 3) / 10 * (setting[1] > 0),
        (8, 6, 5, 4, 3, 2)[setting[2] - 1],
    )
    loss = 1e-5 + 0.004 * channels**2 + 0.002 * weights**4 + 0.02 * 4.0 ** (2 - bits)
    loss *= 1 + 0.5 * channels * weights
    size = 100_000 * (1 - channels) * (1 - weights * 0.8) * bits / 8
    flash = int(size) + 6_000
    cost = 1e6 * (1 - channels)
    return Figures(
        drop=0.3 * np.sqrt(loss) - 0.001, loss=loss, file_bytes=int(size) + 900, weights_bytes=int(size),
        flash_bytes=flash, arena_bytes=8_000, ram_bytes=8_400, cost=cost, macs=int(cost),
    )  # fmt: skip


def tried(*settings_: Setting) -> list[Evaluation]:
    return [
        Evaluation(
            levels=SPACE.levels(s), steps=(), purpose="sweep", figures=world(s),
            violation=GOAL.violation(world(s)),
        )
        for s in settings_
    ]  # fmt: skip


SWEEP = [SPACE.base, (2, 0, 1), (5, 0, 1), (0, 2, 1), (0, 4, 1), (0, 0, 3), (0, 0, 5)]


def test_sums_and_products_are_predicted_from_single_knobs() -> None:
    predictor = Predictor(SPACE, tried(*SWEEP))
    for setting in [(2, 2, 3), (3, 3, 2), (4, 0, 4)]:
        expected, found = world(setting), predictor.one(setting)
        assert found.flash_bytes == pytest.approx(expected.flash_bytes, rel=0.25)
        assert found.cost == pytest.approx(expected.cost, rel=0.05)
        assert 0.5 * expected.loss < found.loss < 5 * expected.loss  # knobs are taken to strain each other


def test_how_knobs_strain_each_other_is_learned() -> None:
    some = [*SWEEP, (2, 2, 3), (3, 4, 4), (1, 1, 2), (5, 2, 3)]
    predictor = Predictor(SPACE, tried(*some))
    for setting in [(3, 3, 2), (4, 0, 4), (4, 3, 3)]:
        assert predictor.one(setting).loss == pytest.approx(world(setting).loss, rel=0.4)


def test_what_was_tried_is_predicted_as_it_was() -> None:
    some = [*SWEEP, (2, 2, 3), (3, 4, 4), (1, 1, 2)]
    predictor = Predictor(SPACE, tried(*some))
    for setting in some:
        assert predictor.one(setting).flash_bytes == pytest.approx(world(setting).flash_bytes, rel=0.03)


def test_predictions_rank_plans_as_measuring_does() -> None:
    from scipy.stats import spearmanr

    predictor = Predictor(SPACE, tried(*SWEEP))
    every = SPACE.every()
    measured = [world(tuple(map(int, one))).drop for one in every]
    assert spearmanr(predictor.predict(every)["drop"], measured).statistic > 0.9


def test_a_knob_that_changes_answers_for_the_better_is_seen_as_such() -> None:
    """As a smaller picture of damaged photos is: other answers, better ones."""
    found = [
        msgspec.structs.replace(
            e, figures=msgspec.structs.replace(answer.figures_of(e), loss=0.3, drop=-0.04), spread=0.01
        )
        if "channels" in e.levels
        else e
        for e in tried(*SWEEP)
    ]
    predictor = Predictor(SPACE, found)
    assert predictor.one((3, 2, 1)).drop < 0 < predictor.one((0, 4, 1)).drop


def test_drops_and_errors_may_be_next_to_nothing() -> None:
    """A few hundred samples that a net is sure of: squares of what it is expected to lose vanish."""
    found = [
        msgspec.structs.replace(
            e, figures=msgspec.structs.replace(answer.figures_of(e), drop=1e-200), spread=1e-210
        )
        for e in tried(*SWEEP)
    ]
    assert abs(Predictor(SPACE, found).one((3, 2, 1)).drop) < 1e-100


def test_beyond_what_was_tried_losses_are_taken_to_grow_steeply() -> None:
    flat = [
        msgspec.structs.replace(e, figures=msgspec.structs.replace(answer.figures_of(e), loss=loss))
        for e, loss in zip(tried(*SWEEP), (1e-4, *[2e-4] * 6), strict=True)
    ]
    predictor = Predictor(SPACE, flat)
    assert predictor.one((7, 0, 1)).loss > 1.5 * predictor.one((5, 0, 1)).loss


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-0.1, 0.5)), min_size=1, max_size=20))
def test_a_drop_never_falls_as_the_loss_rises(points: list[tuple[float, float]]) -> None:
    curve = Monotone.fit(points)
    values = curve.at(np.linspace(0, 2, 200))
    assert (np.diff(values) >= -1e-12).all()
    assert values[0] >= 0


def search(evaluations: int) -> list[Evaluation]:
    """The rounds of :class:`irshrink.planning.search.Search`, in the known world."""
    found = tried(*SWEEP)
    while len(found) < evaluations:
        known = [SPACE.setting(e.levels) for e in found]
        batch = Proposer(Predictor(SPACE, found), GOAL, 0.0, 0).batch(4, known)
        found += tried(*batch)
    return found


def test_a_search_comes_near_the_best_there_is() -> None:
    every = [tuple(map(int, one)) for one in SPACE.every()]
    best = min(world(s).flash_bytes for s in every if world(s).drop <= 0.01)
    found = search(27)
    chosen = answer.figures_of(found[answer.best(found, GOAL)])
    assert chosen.drop <= 0.01
    assert chosen.flash_bytes <= 1.05 * best


def test_proposals_are_the_same_each_time_and_never_known() -> None:
    known = [SPACE.setting(e.levels) for e in search(15)]
    assert known == [SPACE.setting(e.levels) for e in search(15)]
    assert len(set(known)) == len(known)


def test_nothing_is_proposed_when_all_is_tried() -> None:
    every = [tuple(map(int, one)) for one in SPACE.every()]
    assert Proposer(Predictor(SPACE, tried(*SWEEP)), GOAL, 0.0, 0).batch(4, every) == []


def test_large_spaces_are_searched_by_evolution() -> None:
    predictor = Predictor(SPACE, tried(*SWEEP))
    met = _evolved(predictor, GOAL, seed=0)
    assert (met == _evolved(predictor, GOAL, seed=0)).all()
    every = predictor.predict(SPACE.every())
    least = every["flash_bytes"][every["drop"] <= 0.01].min()
    found = predictor.predict(met)
    assert found["flash_bytes"][found["drop"] <= 0.01].min() <= 1.1 * least


def test_the_smallest_within_the_budget_is_chosen_and_the_nearest_without() -> None:
    found = search(27)
    chosen = found[answer.best(found, GOAL)]
    others = [e for e in found if e.violation == 0]
    assert answer.figures_of(chosen).flash_bytes == min(answer.figures_of(e).flash_bytes for e in others)
    hard = Goal("smallest", (Budget("drop", "--max-drop", 0.001), Budget("flash_bytes", "--flash", 9_000)))
    nearest = answer.best(found, hard)
    assert hard.violation(answer.figures_of(found[nearest])) == min(
        hard.violation(answer.figures_of(e)) for e in found
    )


def test_relaxations_keep_all_other_budgets() -> None:
    found = search(27)
    goal = Goal("smallest", (Budget("drop", "--max-drop", 0.004), Budget("flash_bytes", "--flash", 20_000)))
    for one in answer.relaxations(found, goal):
        figures = answer.figures_of(found[one.evaluation])
        kept = [b for b in goal.budgets if b.quantity != one.quantity]
        assert all(getattr(figures, b.quantity) <= b.limit for b in kept)
        assert getattr(figures, one.quantity) == one.needed > one.limit


def test_the_frontier_is_what_nothing_beats() -> None:
    found = search(19)
    front = answer.frontier(found)
    names: Sequence[str] = ("drop", "flash_bytes", "file_bytes", "cost", "ram_bytes")
    value: Callable[[int], list[float]] = lambda i: [getattr(found[i].figures, n) for n in names]  # noqa: E731
    for i in range(len(found)):
        beaten = any(
            all(a <= b for a, b in zip(value(j), value(i), strict=True)) and value(j) != value(i)
            for j in front
        )
        assert beaten != (i in front)


def test_a_drop_counts_with_its_standard_error() -> None:
    figures = world((1, 0, 1))
    at = msgspec.structs.replace(figures, drop=0.0095)
    assert GOAL.violation(at) == 0
    assert GOAL.violation(at, spread=0.001) > 0


def test_knobs_need_levels_that_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        dataclasses.replace(KNOBS[0], levels=(Level("a", 0.5, ()), Level("b", 0.5, ())))
