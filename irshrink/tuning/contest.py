"""Which set of schedules the whole model is best with.

What a layer costs by itself is not all: C compilers treat a function differently when every call agrees on an
argument, and functions that layers share are there once. So whole models run against each other:

* the rule's schedules;
* each layer's cheapest, functions shared where that is cheap;
* each layer's cheapest among those that know their sizes, which cost the same in any model;
* for each layer, that one of the three with which it was cheapest in them.

The cheapest wins; within ``slack`` of it, the one with the least code. A model is never worse off for having
been tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irshrink.tuning.choice import Measured, choose
from irshrink.tuning.journal import Measurement
from irshrink.tuning.measure import Whole
from irshrink.tuning.session import Outcome

#: Bytes by which an arena may grow on a microcontroller.
_EXTRA = 1024


@dataclass(frozen=True)
class Contender:
    """One schedule for every task, and the whole model with them."""

    chosen: tuple[Measurement, ...]
    whole: Whole


@dataclass(frozen=True)
class Terms:
    """What decides.

    Attributes:
        slack: how much more than the cheapest a model may take to save code, as a fraction.
        margin: how much more the rule's may take before another counts as better.
        small: whether the arena must not grow.
    """

    slack: float = 0.0
    margin: float = 0.0
    small: bool = False


def contest(
    outcomes: Sequence[Outcome], measure: Callable[[Sequence[Measurement]], Whole], terms: Terms
) -> tuple[Contender | None, Contender]:
    """The rule's contender, unless a schedule of the rule's failed, and the winner.

    Args:
        outcomes: of all tasks, each with one measurement at least.
        measure: builds the whole model and runs it.
    """
    tasks = [Measured(o.task.workload, len(o.task.layers), o.found, o.rule) for o in outcomes]
    knowing = [Measured(t.workload, t.layers, _specialized(t.found), t.rule) for t in tasks]
    rules = [o.rule for o in outcomes if o.rule is not None]
    lists = [rules] if len(rules) == len(outcomes) else []
    lists += [choose(tasks, terms.slack, terms.margin), choose(knowing, 0.0, terms.margin)]
    contenders = [Contender(tuple(chosen), measure(chosen)) for chosen in _distinct(lists)]
    mixed = _mixed(outcomes, contenders)
    if mixed is not None and all(mixed != c.chosen for c in contenders):
        contenders.append(Contender(mixed, measure(mixed)))
    rule = contenders[0] if len(rules) == len(outcomes) else None
    return rule, _winner(contenders, rule, terms)


def _specialized(found: Sequence[Measurement]) -> list[Measurement]:
    return [m for m in found if m.specialized] or list(found)


def _distinct(lists: Sequence[Sequence[Measurement]]) -> list[Sequence[Measurement]]:
    found: list[Sequence[Measurement]] = []
    for one in lists:
        if all(list(one) != list(other) for other in found):
            found.append(one)
    return found


def _mixed(outcomes: Sequence[Outcome], contenders: Sequence[Contender]) -> tuple[Measurement, ...] | None:
    """For each task the schedule with which its layers were cheapest; None where layers are not measured."""
    if not all(c.whole.layers for c in contenders):
        return None

    def best(outcome: Outcome) -> Contender:
        return min(contenders, key=lambda c: sum(c.whole.layers[name] for name in outcome.task.layers))

    return tuple(best(outcome).chosen[i] for i, outcome in enumerate(outcomes))


def _winner(contenders: Sequence[Contender], rule: Contender | None, terms: Terms) -> Contender:
    fit = [c for c in contenders if not terms.small or rule is None or _fits(c, rule)]
    cheapest = min(c.whole.cost for c in fit)
    if rule is not None and rule.whole.cost <= cheapest * (1 + terms.margin):
        return rule
    near = [c for c in fit if c.whole.cost <= cheapest * (1 + terms.slack)]
    return min(near, key=lambda c: (c.whole.code_bytes, c.whole.cost))


def _fits(contender: Contender, rule: Contender) -> bool:
    return contender.whole.arena_bytes <= rule.whole.arena_bytes + _EXTRA
