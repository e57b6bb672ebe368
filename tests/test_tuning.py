"""Tuning without a backend: keys, databases, journals, the search and its limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from irshrink.errors import OutputError, RecipeError
from irshrink.program.ops import ConvInt8, DenseInt8, Requantization, Window
from irshrink.program.program import Port, Program, Tensor
from irshrink.target import load_target
from irshrink.tuning.choice import Measured, choose
from irshrink.tuning.contest import Terms, contest
from irshrink.tuning.database import (
    Database,
    Schedule,
    Schedules,
    database_text,
    read_database,
    schedules_for,
)
from irshrink.tuning.journal import Journal, Measurement
from irshrink.tuning.measure import Measurer, Whole
from irshrink.tuning.search import next_batch
from irshrink.tuning.session import Limits, Outcome, Session, parse_duration, parse_slack
from irshrink.tuning.tasks import Task
from irshrink.tuning.workload import workload

IDENTITY = {"target": "cortex-m4", "measured": "instructions", "kernels": "one"}
SPACE: list[Schedule] = [
    {"kernel": "tile", "pixels": p, "channels": c, "style": s}
    for s in ("plain", "dsp")
    for p in range(1, 9)
    for c in range(1, 9)
]


def dense(name: str = "layer", seed: int = 0, low: int = -128) -> tuple[DenseInt8, Program]:
    rng = np.random.default_rng(seed)
    op = DenseInt8(
        name=name,
        origin=(),
        inputs=("x",),
        output="y",
        weight=rng.integers(-9, 9, (6, 8)).astype(np.int8),
        bias=rng.integers(-9, 9, 6).astype(np.int32),
        requantization=Requantization(multiplier=np.full(6, 0.01, np.float32), zero_point=seed, low=low),
    )
    tensors = {"x": Tensor("x", (1, 8), "int8"), "y": Tensor("y", (1, 6), "int8")}
    return op, Program(tensors, [op], [Port("x", "x", (1, 8))], [Port("y", "y", (1, 6))])


def task(name: str, candidates: Sequence[Schedule] = SPACE) -> Task:
    op, program = dense(name)
    return Task(f"workload of {name}", op, program, (name,), tuple(candidates))


def cost_of(schedule: Schedule) -> float:
    """A bowl with its bottom at 3 x 5 in style dsp."""
    bowl = (schedule["pixels"] - 3) ** 2 + (schedule["channels"] - 5) ** 2
    return float(1000 + 40 * bowl + (300 if schedule["style"] == "plain" else 0))


class Bowl:
    """Measures :func:`cost_of`, ``at_once`` schedules a trial."""

    def __init__(self, at_once: int = 8) -> None:
        self.source = self
        self.at_once, self.exact, self.trials = at_once, True, 0

    def trial(self, task: Task, schedules: Sequence[Schedule]) -> list[Measurement]:
        self.trials += 1
        return [Measurement(s, cost_of(s)) for s in schedules]


def run(
    journal: Path, bowl: Bowl, trials: int = 3, seconds: float | None = None, clock: Any = lambda: 0.0
) -> dict[str, int]:
    """How many schedules of every task have a cost after a session."""
    tasks = [task("a"), task("b")]
    session = Session(tasks, cast(Measurer, bowl), Journal(journal, IDENTITY), Limits(trials, seconds), clock)
    return {o.task.layers[0]: len(o.found) for o in session.run()}


def test_the_key_holds_what_selects_instructions() -> None:
    key = workload(*dense())
    assert key == ("DenseInt8 int8[1x8] -> int8[1x6] weight=6x8 bias=6 requantization(multiplier=6)")
    assert workload(*dense("other", seed=1)) == key  # other weights, other zero point, other name
    assert workload(*dense(low=0)) == key.replace("multiplier=6", "multiplier=6 clamp")


def test_the_key_of_a_window() -> None:
    op, program = dense()
    window = Window(kernel=(3, 3), strides=(2, 1), pads=(1, 0, 1, 0))
    conv = ConvInt8(
        **{k: v for k, v in vars(op).items() if k != "weight"},
        weight=np.zeros((6, 3, 3, 8), np.int8),
        window=window,
        groups=1,
        input_zero_point=-3,
    )
    key = workload(conv, program)
    assert "kernel=3x3 strides=2x1 pads=1x0x1x0 dilations=1x1 groups=1" in key
    assert workload(dataclasses.replace(conv, groups=2), program) != key


def test_weights_in_bytes_are_not_named() -> None:
    op, program = dense()
    assert "bits" not in workload(op, program)
    assert "weight_bits=4" in workload(dataclasses.replace(op, weight_bits=4), program)


def test_a_database_reads_what_it_writes(tmp_path: Path) -> None:
    entry: dict[str, int | float | str | bool] = {"kernel": "tile", "pixels": 2, "whole": False, "cost": 5}
    database = Database(
        target="cortex-m4",
        measured="instructions",
        gained={"kws": 0.896, "my net": 1.0},
        schedules={"b": entry, 'a "q"': entry},
    )
    text = database_text(database)
    (tmp_path / "db.toml").write_text(text)
    assert read_database(tmp_path / "db.toml") == database
    assert text.index('"a') < text.index('"b"')
    assert Schedules(databases=[database]).find("layer", "b") == {
        "kernel": "tile",
        "pixels": 2,
        "whole": False,
    }
    assert Schedules(databases=[database]).find("layer", "c") is None


def test_what_is_given_comes_first() -> None:
    one = Database(target="t", measured="instructions", schedules={"w": {"kernel": "a"}})
    two = Database(target="t", measured="instructions", schedules={"w": {"kernel": "b"}})
    assert Schedules({"op": {"kernel": "c"}}, [one, two]).find("op", "w") == {"kernel": "c"}
    assert Schedules({"op": {"kernel": "c"}}, [one, two]).find("other", "w") == {"kernel": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 2\ntarget = 'cortex-m4'\nmeasured = 'instructions'", "format 2"),
        ("target = 'cortex-m4'\nmeasured = 'instructions'\nschedule = {}", "not a database of schedules"),
        ("target = 'cortex-m7'\nmeasured = 'instructions'", "schedules for cortex-m7, not for cortex-m4"),
        ("target =", "not valid TOML"),
    ],
)
def test_databases_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "db.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        schedules_for(load_target("cortex-m4"), tmp_path / "db.toml")


def test_shipped_databases_are_databases() -> None:
    from irshrink.tuning.database import SHIPPED, shipped_database

    for file in sorted(SHIPPED.glob("*.toml")):
        database = shipped_database(file.stem)
        assert database is not None, file
        assert "like" in file.read_text("utf-8") or database_text(database) == file.read_text("utf-8"), file
        assert database.measured in ("instructions", "seconds")


def test_a_journal_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "db.toml.journal"
    Journal(path, IDENTITY).add(
        "w", [Measurement({"kernel": "tile"}, 7.0), Measurement({"kernel": "x"}, None, "why")]
    )
    with path.open("ab") as stream:
        stream.write(b'{"workload": "w", "resul')
    again = Journal(path, IDENTITY)
    assert [(m.cost, m.failure) for m in again.found["w"]] == [(7.0, None), (None, "why")]
    assert again.trials_of("w") == 1
    again.add("v", [Measurement({"kernel": "tile"}, 8.0)])
    assert set(Journal(path, IDENTITY).found) == {"w", "v"}


def test_journals_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "db.toml.journal"
    Journal(path, IDENTITY).add("w", [Measurement({"kernel": "tile"}, 7.0)])
    with pytest.raises(RecipeError, match="was written for target cortex-m4, not cortex-m7"):
        Journal(path, {**IDENTITY, "target": "cortex-m7"})
    begun_anew = Journal(path, {**IDENTITY, "kernels": "two"})
    assert not begun_anew.found
    assert "begun anew" in begun_anew.notes[0]
    path.write_text("my diary\n")
    with pytest.raises(RecipeError, match="is no journal"):
        Journal(path, IDENTITY)
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "db.toml.journal" / "below", IDENTITY)


def test_a_small_space_is_measured_to_its_end(tmp_path: Path) -> None:
    assert run(tmp_path / "journal", Bowl(64), trials=2) == {"a": 128, "b": 128}


def test_the_model_finds_the_bottom_of_a_bowl() -> None:
    found: list[Measurement] = []
    for _ in range(3):
        batch = next_batch(SPACE, found, 8, 3)
        assert len(batch) == 8
        found += [Measurement(s, cost_of(s)) for s in batch]
    assert len({tuple(m.schedule.items()) for m in found}) == 24
    assert min(m.cost or 0 for m in found) <= 1.05 * 1000
    assert found[0].schedule == SPACE[0]  # the rule's comes first


def test_a_stopped_session_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    whole = Bowl()
    run(tmp_path / "whole", whole)
    first, second = Bowl(), Bowl()
    run(tmp_path / "parts", first, trials=3, seconds=2.0, clock=iter(np.arange(99.0)).__next__)
    run(tmp_path / "parts", second)
    assert 0 < first.trials < whole.trials
    assert first.trials + second.trials == whole.trials
    assert (tmp_path / "parts").read_text() == (tmp_path / "whole").read_text()


def test_every_task_has_its_first_trial_before_any_has_its_second(tmp_path: Path) -> None:
    counts = run(tmp_path / "journal", Bowl(), seconds=2.5, clock=iter(np.arange(99.0)).__next__)
    assert counts == {"a": 8, "b": 8}


def measured(cost: float, kernel: str, code: int, specialized: bool = False) -> Measurement:
    return Measurement({"kernel": kernel}, cost, None, kernel, specialized, code)


def test_layers_share_code_where_that_costs_next_to_nothing() -> None:
    wide, narrow = measured(100.0, "wide", 500), measured(99.5, "narrow", 400)
    large = Measured("large", 1, [wide])
    small = Measured("small", 1, [wide, narrow])
    assert choose([small, large], 0.01) == [wide, wide]
    assert choose([small, large], 0.0) == [narrow, wide]
    alone = measured(99.5, "wide", 500, specialized=True)
    assert choose([Measured("small", 1, [alone, wide]), large], 0.01) == [wide, wide]


def test_equal_costs_are_decided_by_order() -> None:
    a, b = measured(5.0, "a", 10), measured(5.0, "b", 10)
    assert choose([Measured("w", 1, [a, b])], 0.0) == [a]
    assert choose([Measured("w", 1, [b, a])], 0.0) == [b]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_what_is_no_duration_and_no_slack() -> None:
    for text in ("soon", "0s", "-1m"):
        with pytest.raises(RecipeError, match="no duration"):
            parse_duration(text)
    assert parse_slack("1%") == parse_slack("0.01") == 0.01
    with pytest.raises(RecipeError, match="no fraction"):
        parse_slack("some")


class Noise(Bowl):
    """The first measurement of a schedule flatters every second one of them."""

    def __init__(self) -> None:
        super().__init__(64)
        self.exact = False

    def trial(self, task: Task, schedules: Sequence[Schedule]) -> list[Measurement]:
        self.trials += 1
        flattered = 0.0 if len(schedules) < 9 else 300.0
        costs = [cost_of(s) - flattered * (i % 2) for i, s in enumerate(schedules)]
        return [Measurement(s, c) for s, c in zip(schedules, costs, strict=True)]


def test_the_best_of_noisy_measurements_run_once_more(tmp_path: Path) -> None:
    noise = Noise()
    journal = Journal(tmp_path / "journal", IDENTITY)
    (outcome,) = Session([task("a")], cast(Measurer, noise), journal, Limits(2)).run()
    assert len(outcome.found) == 5  # the rule's and four more
    assert all(m.cost == cost_of(m.schedule) for m in outcome.found)
    again = Journal(tmp_path / "journal", IDENTITY)
    (same,) = Session([task("a")], cast(Measurer, noise), again, Limits(2)).run()
    assert noise.trials == 3
    assert [m.cost for m in same.found] == [m.cost for m in outcome.found]


def test_the_rule_stays_where_the_difference_is_noise() -> None:
    rule, other = measured(101.0, "rule", 10), measured(100.0, "other", 10)
    assert choose([Measured("w", 1, [rule, other], rule)], 0.0, 0.02) == [rule]
    assert choose([Measured("w", 1, [rule, other], rule)], 0.0, 0.0) == [other]


def outcome(name: str, *found: Measurement) -> Outcome:
    """A task whose first measurement is the rule's."""
    return Outcome(task(name, [m.schedule for m in found]), found, ())


def test_whole_models_run_against_each_other() -> None:
    rule, shared, alone = (
        measured(9.0, "rule", 10),
        measured(5.0, "shared", 10),
        measured(6.0, "alone", 10, True),
    )
    outcomes = [outcome("a", rule, shared, alone), outcome("b", rule, shared, alone)]
    real = {"rule": 9.0, "shared": 20.0, "alone": 6.0}  # the compiler spoils what promised most

    def measure(chosen: Sequence[Measurement]) -> Whole:
        layers = {name: real[m.kernel] for name, m in zip("ab", chosen, strict=True)}
        return Whole(sum(layers.values()), 100, 64, layers)

    by_rule, best = contest(outcomes, measure, Terms())
    assert by_rule is not None
    assert by_rule.whole.cost == 18
    assert best.chosen == (alone, alone)


def test_layers_take_what_was_cheapest_in_a_whole_model() -> None:
    rule, shared, alone = (
        measured(9.0, "rule", 10),
        measured(5.0, "shared", 10),
        measured(6.0, "alone", 10, True),
    )
    outcomes = [outcome("a", rule, shared, alone), outcome("b", rule, shared, alone)]
    real = {("a", "rule"): 1.0, ("b", "rule"): 9.0}

    def measure(chosen: Sequence[Measurement]) -> Whole:
        layers = {name: real.get((name, m.kernel), 7.0) for name, m in zip("ab", chosen, strict=True)}
        return Whole(sum(layers.values()), 100, 64, layers)

    _, best = contest(outcomes, measure, Terms())
    assert best.chosen == (rule, shared)


def test_a_model_is_not_worse_off_for_having_been_tuned() -> None:
    rule, other = measured(9.0, "rule", 10), measured(5.0, "other", 10, True)

    def measure(chosen: Sequence[Measurement]) -> Whole:
        return Whole(100.0 if chosen[0].kernel == "rule" else 99.5, len(chosen[0].kernel) * 100, 64)

    outcomes = [outcome("a", rule, other)]
    assert contest(outcomes, measure, Terms())[1].chosen == (other,)
    assert contest(outcomes, measure, Terms(slack=0.01))[1].chosen == (rule,)  # less code
    assert contest(outcomes, measure, Terms(margin=0.02))[1].chosen == (rule,)  # noise


def test_an_arena_must_not_grow_on_a_microcontroller() -> None:
    rule, other = measured(9.0, "rule", 10), measured(5.0, "other", 10, True)

    def measure(chosen: Sequence[Measurement]) -> Whole:
        return Whole(chosen[0].cost or 0.0, 100, 1000 if chosen[0].kernel == "rule" else 9000)

    outcomes = [outcome("a", rule, other)]
    assert contest(outcomes, measure, Terms(small=True))[1].chosen == (rule,)
    assert contest(outcomes, measure, Terms())[1].chosen == (other,)
