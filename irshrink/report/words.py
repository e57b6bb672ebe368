"""Plans in words: amounts with their units, what was asked, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irshrink.budgets import compared
from irshrink.console import plural

Row = Mapping[str, Any]

_OBJECTIVES = {
    "accurate": "the most accurate plan",
    "smallest": "the smallest plan",
    "fastest": "the fastest plan",
    "least-ram": "the plan with the least RAM",
}
#: What budgets and tables call a quantity.
_QUANTITIES = {
    "drop": "accuracy lost",
    "file_bytes": "ONNX file",
    "weights_bytes": "weights",
    "flash_bytes": "flash",
    "arena_bytes": "arena",
    "ram_bytes": "RAM",
    "macs": "multiply-accumulates",
}
#: Levels of a knob that are always shown.
_FEW = 5
_PURPOSES = {
    "baseline": "the baseline",
    "extreme": "what can be reached",
    "sweep": "one knob alone",
    "proposed": "by the search",
}


def quantity(plan: Row, name: str) -> str:
    """``flash``, ``accuracy lost``, ``instructions``."""
    return str(plan["cost_unit"]) if name == "cost" else _QUANTITIES[name]


def unit(plan: Row, name: str) -> str:
    """What amounts of it are counted in; empty where that is in the name."""
    if name == "drop":
        return "%" if plan["relative_drop"] else "points" if plan["share"] else ""
    return "B" if name.endswith("bytes") else ""


def digits(plan: Row, name: str, amount: float) -> str:
    """An amount without its unit: ``0.84``, ``31,488``."""
    if name != "drop":
        return f"{round(amount):,}"
    return f"{100 * amount:.2f}" if plan["share"] or plan["relative_drop"] else f"{amount:.4g}"


def shown(plan: Row, name: str, amount: float) -> str:
    """An amount with its unit: ``0.84 points``, ``31,488 B``, ``7,200,000 instructions``."""
    suffix = unit(plan, name) or ("" if name == "drop" else quantity(plan, name))
    return f"{digits(plan, name, amount)} {suffix}".rstrip()


def asked(plan: Row) -> str:
    """``the smallest plan with at most 1.00 points of top-1 lost (--max-drop) and 40,960 B of flash ..``"""
    limits = [_limit(plan, budget) for budget in plan["budgets"]]
    within = f" with at most {listed(limits)}" if limits else ", without any budget"
    return f"{_OBJECTIVES[plan['objective']]}{within}"


def chosen(plan: Row) -> Row:
    """The evaluation that was chosen, or the nearest where none keeps the budgets."""
    found: Row = plan["evaluations"][plan["chosen"]]
    return found


def described(plan: Row, levels: Mapping[str, int]) -> str:
    """``channels removed: 10 % of the multiplications; bits of the weights: 4 bits in the mean``."""
    parts = [
        f"{knob['title']}: {label(knob, levels[knob['knob']])}"
        for knob in plan["knobs"]
        if knob["knob"] in levels
    ]
    return "; ".join(parts) or "the model as it is"


def label(knob: Row, level: int) -> str:
    """A level as people call it."""
    return str(knob["options"][level - 1]["label"]) if level else "off"


def telling(alternatives: Sequence[Row], taken: int, one: Row) -> bool:
    """Whether a level is in a short list: the one taken, those beside it, the ends, and what was tried."""
    levels = [other["level"] for other in alternatives]
    beside = abs(one["level"] - taken) <= 1
    return len(levels) <= _FEW or beside or one["measured"] or one["level"] in (levels[0], levels[-1])


def purpose(evaluation: Row) -> str:
    """Why a plan was tried."""
    return _PURPOSES[evaluation["purpose"]]


def tried(plan: Row) -> list[int]:
    """Indices of the plans whose accuracy was looked at; an extreme one only shows what can be reached."""
    return [i for i, one in enumerate(plan["evaluations"]) if one["figures"] and one["purpose"] != "extreme"]


def over(plan: Row, evaluation: Row) -> list[Row]:
    """The budgets that a plan misses. An extreme plan has no drop."""
    figures = evaluation["figures"]
    if figures is None:
        return []
    known = [
        one for one in plan["budgets"] if evaluation["purpose"] != "extreme" or one["quantity"] != "drop"
    ]
    return [one for one in known if amount(evaluation, one) > one["limit"]]


def amount(evaluation: Row, budget: Row) -> float:
    """What is compared with a budget."""
    name = budget["quantity"]
    return compared(name, float(evaluation["figures"][name]), evaluation["spread"])


def verdict(plan: Row, index: int) -> str:
    """``chosen``, ``over --flash``, ``refused: ..``, ``kept all budgets``, ``on the frontier``."""
    one = plan["evaluations"][index]
    if one["figures"] is None:
        return f"refused: {one['failed']}"
    if index == plan["chosen"]:
        return "chosen" if plan["met"] else "nearest"
    missed = [budget["option"] for budget in over(plan, one)]
    if missed:
        return f"over {listed(missed)}"
    if one["purpose"] == "extreme":
        return "accuracy was not looked at"
    return "on the frontier" if index in plan["frontier"] else "beaten by another"


def outcome(plan: Row) -> str:
    """The choice in one sentence, without its figures."""
    one = chosen(plan)
    looked = tried(plan)
    words = described(plan, one["levels"])
    if plan["met"]:
        kept = sum(not over(plan, plan["evaluations"][i]) for i in looked)
        of = f"of {plural(len(looked), 'plan')} that {_were(len(looked))} tried"
        keep = f", {kept} of which {'keeps' if kept == 1 else 'keep'} the budgets" if plan["budgets"] else ""
        return f"{words} ({of}{keep})"
    missed = [_missed(plan, one, budget) for budget in over(plan, one)]
    none = f"no plan of {len(looked)} that were tried keeps the budgets"
    return f"{none}; the nearest misses {listed(missed)}: {words}"


def relaxation(plan: Row, one: Row) -> str:
    """``--flash 29,285 B instead of 24,576 B, by plan 14``."""
    needed, limit = (shown(plan, one["quantity"], one[key]) for key in ("needed", "limit"))
    return f"{one['option']} {needed} instead of {limit}, by plan {one['evaluation']}"


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _missed(plan: Row, one: Row, budget: Row) -> str:
    """``--flash 24,576 B by taking 27,080 B``."""
    name = budget["quantity"]
    limit, taken = shown(plan, name, budget["limit"]), shown(plan, name, amount(one, budget))
    does = "losing" if name == "drop" else "taking"
    error = " with its standard error" if name == "drop" and one["spread"] else ""
    return f"{budget['option']} {limit} by {does} {taken}{error}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _limit(plan: Row, budget: Row) -> str:
    told = shown(plan, budget["quantity"], budget["limit"])
    if budget["quantity"] == "drop":
        title = (
            plan["title"] if plan["title"][1:2].isupper() else plan["title"][:1].lower() + plan["title"][1:]
        )
        of = f"of the {title}" if plan["relative_drop"] else f"of {title}"
        return f"{told} {of} lost ({budget['option']})"
    what = "" if budget["quantity"] == "cost" else f" of {quantity(plan, budget['quantity'])}"
    return f"{told}{what} ({budget['option']})"
