"""How a plan and a budget are compared: where plans are chosen, and where they are shown."""

from __future__ import annotations


def compared(quantity: str, amount: float, spread: float, limit: float) -> float:
    """What of a plan is compared with a budget.

    A drop counts with its standard error: of many plans the one that loses least on some samples is one that
    was lucky there. No more than half of the budget counts for that, so that samples that are few for a
    budget make a plan cautious and not impossible.
    """
    return amount + min(spread, limit / 2) if quantity == "drop" else amount
