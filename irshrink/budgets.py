"""How a plan and a budget are compared: where plans are chosen, and where they are shown."""

from __future__ import annotations


def compared(quantity: str, amount: float, spread: float) -> float:
    """What of a plan is compared with a budget.

    A drop counts with its standard error: of many plans the one that loses least on some samples is one that
    was lucky there. (With half of that, the plan chosen for ResNet-8 lost 0.40 points on the 744 images that
    chose it, and 1.40 on 1,000 others.)
    """
    return amount + spread if quantity == "drop" else amount
