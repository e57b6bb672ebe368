"""A plan that was never searched, as plain data, for tests of what reports and pages say of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Levels = Mapping[str, int]

#: By knob: title, place, labels of its levels, and for each level the share of flash, RAM and cost that is
#: left and the smooth loss that it adds.
_KNOBS: dict[str, tuple[str, str, tuple[str, ...], tuple[tuple[float, float, float, float], ...]]] = {
    "prune-channels": (
        "channels removed",
        "channels",
        ("10 % of the multiplications", "20 % of the multiplications", "30 % of the multiplications"),
        ((0.93, 0.97, 0.91, 0.002), (0.86, 0.94, 0.83, 0.006), (0.79, 0.9, 0.74, 0.019)),
    ),
    "low-rank": (
        "layers become products",
        "rank",
        ("error 5 %", "error 10 %"),
        ((0.96, 1.0, 0.98, 0.004), (0.91, 1.01, 0.96, 0.013)),
    ),
    "quantize-mixed": (
        "bits of the weights",
        "numbers",
        ("8 bits", "6 bits in the mean", "4 bits in the mean"),
        ((1.0, 1.0, 1.0, 0.001), (0.8, 1.0, 1.02, 0.003), (0.6, 1.0, 1.06, 0.012)),
    ),
}
_OBLIGATORY = "quantize-mixed"
_BUDGETS: tuple[dict[str, Any], ...] = ({"quantity": "drop", "option": "--max-drop", "limit": 0.01},)
_FLASH, _RAM, _COST = 52_480, 23_168, 7_200_000


def example_plan(*, met: bool = True) -> dict[str, Any]:
    """What a search of three knobs found for a small net; :class:`irshrink.planning.plan.Plan` as JSON.

    Args:
        met: whether a plan keeps the budgets.
    """
    budgets = [
        *_BUDGETS,
        {"quantity": "flash_bytes", "option": "--flash", "limit": 40_960 if met else 24_576},
    ]
    tried = [_evaluation(levels, purpose, budgets) for levels, purpose in _TRIED]
    chosen = _best(tried)
    return {
        "format": 1,
        "objective": "smallest",
        "budgets": budgets,
        "metric": "top-1",
        "title": "Top-1 accuracy",
        "share": True,
        "relative_drop": False,
        "original": 0.938,
        "judged_on": 1000,
        "fitted_to": 256,
        "estimated": False,
        "learned": False,
        "cost_unit": "instructions",
        "knobs": [_decision(name, tried, chosen) for name in _KNOBS],
        "evaluations": tried,
        "frontier": _frontier(tried),
        "chosen": chosen,
        "met": met,
        "relaxations": [] if met else _relaxations(tried),
        "advice": [] if met else ["A target with 64 KiB of flash would hold the plan."],
    }


_TRIED: tuple[tuple[Levels, str], ...] = (
    ({"quantize-mixed": 1}, "baseline"),
    ({"prune-channels": 3, "low-rank": 2, "quantize-mixed": 3}, "extreme"),
    *(({"quantize-mixed": 1, "prune-channels": level}, "sweep") for level in (1, 2, 3)),
    *(({"quantize-mixed": 1, "low-rank": level}, "sweep") for level in (1, 2)),
    *(({"quantize-mixed": level}, "sweep") for level in (2, 3)),
    ({"prune-channels": 1, "quantize-mixed": 2}, "proposed"),
    ({"prune-channels": 2, "quantize-mixed": 2}, "proposed"),
    ({"prune-channels": 1, "low-rank": 1, "quantize-mixed": 2}, "proposed"),
    ({"low-rank": 2, "quantize-mixed": 3}, "proposed"),
    ({"prune-channels": 2, "low-rank": 1, "quantize-mixed": 2}, "proposed"),
    ({"prune-channels": 1, "quantize-mixed": 3}, "proposed"),
    ({"prune-channels": 2, "quantize-mixed": 3}, "proposed"),
)
#: A pass refuses this one.
_REFUSED: Levels = {"low-rank": 2, "quantize-mixed": 3}


def _shares(levels: Levels) -> tuple[float, float, float, float]:
    flash = ram = cost = 1.0
    loss = 0.0
    for name, level in levels.items():
        one = _KNOBS[name][3][level - 1]
        flash, ram, cost, loss = flash * one[0], ram * one[1], cost * one[2], loss + one[3]
    return flash, ram, cost, loss


def _figures(flash: float, ram: float, cost: float, loss: float) -> dict[str, Any]:
    return {
        "drop": round(0.6 * loss, 4),
        "loss": round(loss, 6),
        "file_bytes": round(58_000 * flash),
        "weights_bytes": round(36_000 * flash),
        "flash_bytes": round(_FLASH * flash),
        "arena_bytes": round(20_000 * ram),
        "ram_bytes": round(_RAM * ram),
        "cost": round(_COST * cost),
        "macs": round(2_656_768 * min(cost, 1.0)),
    }


def _evaluation(levels: Levels, purpose: str, budgets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shares = _shares(levels)
    figures = None if levels == _REFUSED else _figures(*shares)
    missed = [max(0.0, figures[one["quantity"]] / one["limit"] - 1) for one in budgets] if figures else []
    return {
        "levels": dict(levels),
        "steps": [{"pass": name, "level": level} for name, level in levels.items()],
        "purpose": purpose,
        "figures": figures,
        "spread": 0.0016 if figures else 0.0,
        "failed": None if figures else "low-rank: layer '/fc' has no rank left",
        "expected": None if purpose != "proposed" else _prediction(*shares),
        "violation": round(sum(missed), 6) if figures else 0.0,
        "layers": _layers(levels),
    }


def _prediction(flash: float, ram: float, cost: float, loss: float) -> dict[str, Any]:
    """Off by a little, as predictions are."""
    exact = _figures(flash * 1.012, ram * 0.991, cost * 1.007, loss * 1.15)
    return {name: exact[name] for name in ("drop", "loss", "file_bytes", "flash_bytes", "ram_bytes", "cost")}


def _layers(levels: Levels) -> list[dict[str, Any]]:
    bits = {1: (8, 8), 2: (8, 4), 3: (4, 4)}[levels["quantize-mixed"]]
    kept = {0: 32, 1: 28, 2: 24, 3: 20}[levels.get("prune-channels", 0)]
    return [
        {"name": "/conv", "op_type": "Conv", "bits": bits[0], "bytes": kept * 9 * bits[0] // 8},
        {"name": "/fc", "op_type": "Gemm", "bits": bits[1], "bytes": kept * 80 * bits[1] // 8},
    ]


def _best(tried: Sequence[Mapping[str, Any]]) -> int:
    """The smallest of those that miss the budgets by least."""
    able = [i for i, one in enumerate(tried) if one["figures"]]
    return min(able, key=lambda i: (tried[i]["violation"], tried[i]["figures"]["flash_bytes"]))


def _frontier(tried: Sequence[Mapping[str, Any]]) -> list[int]:
    names = ("drop", "flash_bytes", "ram_bytes", "cost")
    points = {i: [one["figures"][name] for name in names] for i, one in enumerate(tried) if one["figures"]}

    def beaten(i: int) -> bool:
        return any(
            all(a <= b for a, b in zip(other, points[i], strict=True)) and other != points[i]
            for other in points.values()
        )

    return [i for i in points if not beaten(i)]


def _decision(knob: str, tried: Sequence[Mapping[str, Any]], chosen: int) -> dict[str, Any]:
    title, place, labels, _ = _KNOBS[knob]
    taken = tried[chosen]["levels"]
    levels = range(1 if knob == _OBLIGATORY else 0, len(labels) + 1)
    return {
        "knob": knob,
        "title": title,
        "place": place,
        "chosen": taken.get(knob, 0),
        "options": [{"label": label, "amount": float(i)} for i, label in enumerate(labels, start=1)],
        "alternatives": [_alternative(knob, level, taken, tried) for level in levels],
    }


def _alternative(knob: str, level: int, taken: Levels, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    levels = {name: level if name == knob else taken.get(name, 0) for name in _KNOBS}
    levels = {name: number for name, number in levels.items() if number}
    found = next((one["figures"] for one in tried if one["levels"] == levels and one["figures"]), None)
    figures = found or _prediction(*_shares(levels))
    names = ("drop", "flash_bytes", "ram_bytes", "cost", "file_bytes")
    return {"level": level, "measured": found is not None, **{name: figures[name] for name in names}}


def _relaxations(tried: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The flash that the smallest plan within the other budget takes."""
    within = [i for i, one in enumerate(tried) if one["figures"] and one["figures"]["drop"] <= 0.01]
    best = min(within, key=lambda i: int(tried[i]["figures"]["flash_bytes"]))
    needed = tried[best]["figures"]["flash_bytes"]
    row = {"quantity": "flash_bytes", "option": "--flash", "limit": 24_576, "needed": needed}
    return [{**row, "evaluation": best}]
