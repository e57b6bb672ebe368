"""How long a search takes is told, and learned from what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from irshrink.knobs import Effect, Knob, Level
from irshrink.planning.evaluate import Job, Measured
from irshrink.planning.plan import Figures
from irshrink.planning.subject import Subject
from irshrink.planning.timing import Timing, inference_seconds
from irshrink.recipe import make_recipe

MODELS = Path(__file__).parents[1] / "models"
SIZE: frozenset[Effect] = frozenset({"size"})
NUMBERS = Knob(
    "numbers", "bits", "numbers", SIZE, (Level("8", 0.1, ({"pass": "a"},)), Level("4", 1, ({"pass": "b"},))),
    30, True,
)  # fmt: skip
CHANNELS = Knob("channels", "channels", "channels", SIZE, (Level("all", 1, ({"pass": "c"},)),), 100)
FOUND = Measured(
    figures=Figures(
        drop=0,
        loss=0,
        file_bytes=1,
        weights_bytes=1,
        flash_bytes=1,
        arena_bytes=1,
        ram_bytes=1,
        cost=1,
        macs=1,
    )
)


@dataclass
class Space:
    knobs: tuple[Knob, ...] = (CHANNELS, NUMBERS)


@pytest.fixture(scope="module")
def subject() -> Subject:
    data = str(MODELS / "kws-samples.npz")
    return Subject.open(MODELS / "kws.onnx", make_recipe({"target": "cortex-m4", "calibration": data}))


@pytest.fixture
def said() -> list[str]:
    return []


def timing(subject: Subject, said: list[str], processes: int = 1) -> Timing:
    found = Timing(subject, said.append, processes)
    found._inference = 0.01  # no clock
    return found


def tell(watched: Timing, jobs: Sequence[Job], seconds: float, reused: bool = False) -> None:
    done = watched.watch(jobs)
    for index in range(len(jobs)):
        done(index, FOUND, seconds, reused)


BASELINE = Job(({"pass": "a"},))
PRUNED = Job(({"pass": "c"}, {"pass": "a"}))


def test_the_number_and_the_time_are_said_before_and_as_it_goes(subject: Subject, said: list[str]) -> None:
    watched = timing(subject, said)
    tell(watched, [BASELINE], 5.0)
    watched.announce(4, [(0, 2), (1, 1)], Space())
    before = watched.seconds_left()
    tell(watched, [Job(({"pass": "b"},)), PRUNED], 20.0)
    assert 0 < watched.seconds_left() < before
    tell(watched, [PRUNED], 20.0)
    assert watched.seconds_left() == 0
    assert said[0] == "evaluation 1"
    assert said[1].startswith("at most 4 evaluations, about ")
    assert [text.split(",")[0] for text in said[2:]] == [f"evaluation {n} of 4" for n in (2, 3, 4)]
    assert all(text.endswith(("s left", "min left")) for text in said[1:])


def test_what_takes_longer_than_was_thought_is_expected_to_go_on_so(
    subject: Subject, said: list[str]
) -> None:
    left = []
    for seconds in (5.0, 50.0):
        watched = timing(subject, said)
        tell(watched, [BASELINE], seconds)
        watched.announce(30, [(1, 1)], Space())
        tell(watched, [PRUNED] * 20, seconds)
        left.append(watched.seconds_left())
    assert 3 * left[0] < left[1]


def test_what_was_known_before_says_nothing_of_the_time(subject: Subject, said: list[str]) -> None:
    watched = timing(subject, said)
    tell(watched, [BASELINE], 0.0, reused=True)
    watched.announce(6, [(1, 1)], Space())
    other = timing(subject, said)
    other.announce(6, [(1, 1)], Space())
    tell(other, [PRUNED], 0.0, reused=True)
    assert watched.seconds_left() == pytest.approx(other.seconds_left(), rel=0.5)


def test_two_processes_need_half_the_time(subject: Subject, said: list[str]) -> None:
    one, two = timing(subject, said), timing(subject, said, 2)
    for watched in (one, two):
        watched.announce(10, [(1, 1), (0, 2)], Space())
    assert one.seconds_left() == pytest.approx(2 * two.seconds_left())


def test_an_inference_takes_some_time(subject: Subject) -> None:
    assert 0 < inference_seconds(subject) < 10
