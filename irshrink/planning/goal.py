"""What a plan has to keep and what it is to be: budgets and an objective, as numbers that compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irshrink.budgets import compared
from irshrink.knobs import Effect
from irshrink.planning.plan import Budget, Figures, Prediction, Quantity
from irshrink.recipe import Recipe
from irshrink.shorthands import Objective
from irshrink.target import Target

#: What an objective makes small.
_MINIMIZED: dict[Objective, Quantity] = {
    "accurate": "drop",
    "smallest": "flash_bytes",
    "fastest": "cost",
    "least-ram": "ram_bytes",
}
#: What makes a quantity smaller.
_EFFECTS: dict[Quantity, Effect] = {
    "file_bytes": "size",
    "flash_bytes": "size",
    "ram_bytes": "ram",
    "cost": "cost",
}
#: A budget of no loss at all is missed by points of this.
_HUNDREDTH = 0.01


@dataclass(frozen=True)
class Goal:
    """Budgets, and what is best within them.

    Attributes:
        objective: of what is left to choose.
        budgets: what must be kept, at most one of a quantity.
    """

    objective: Objective
    budgets: tuple[Budget, ...]

    @classmethod
    def of(cls, recipe: Recipe, target: Target) -> Goal:
        """The recipe's budgets and the memory of its board."""
        stated: list[tuple[Quantity, str, float | None]] = [
            ("drop", "--max-drop", recipe.max_drop),
            ("file_bytes", "--max-size", recipe.max_size),
            ("flash_bytes", "--flash" if recipe.flash is not None else "flash", target.flash_bytes),
            ("ram_bytes", "--ram" if recipe.ram is not None else "RAM", target.ram_bytes),
            ("cost", "--instructions", recipe.instructions),
        ]
        budgets = tuple(
            Budget(what, option, float(limit)) for what, option, limit in stated if limit is not None
        )
        return cls(recipe.objective or "accurate", budgets)

    @property
    def minimized(self) -> Quantity:
        return _MINIMIZED[self.objective]

    def limit(self, quantity: Quantity) -> float | None:
        return next((budget.limit for budget in self.budgets if budget.quantity == quantity), None)

    def excess(self, budget: Budget, figures: Figures | Prediction, spread: float = 0.0) -> float:
        """By how much a budget is exceeded, relative to it; 0 where it is kept."""
        amount = float(getattr(figures, budget.quantity))
        amount = compared(budget.quantity, amount, spread)
        return max(0.0, amount - budget.limit) / max(budget.limit, _HUNDREDTH)

    def violation(self, figures: Figures | Prediction, spread: float = 0.0) -> float:
        """The sum of what all budgets are exceeded by."""
        return sum(self.excess(budget, figures, spread) for budget in self.budgets)

    def rank(self, figures: Figures | Prediction, spread: float = 0.0) -> tuple[float, ...]:
        """Smaller is better: first budgets, then the objective, then everything else."""
        value = float(getattr(figures, self.minimized))
        others = (figures.drop, figures.flash_bytes, figures.cost, figures.ram_bytes, figures.file_bytes)
        return (self.violation(figures, spread), value, *map(float, others))

    def effects(self, baseline: Figures) -> frozenset[Effect]:
        """What must or should become smaller than the baseline is."""
        wanted = {_EFFECTS[self.minimized]} if self.minimized in _EFFECTS else set()
        missed = {b.quantity for b in self.budgets if self.excess(b, baseline) > 0}
        return frozenset(wanted | {_EFFECTS[quantity] for quantity in missed if quantity in _EFFECTS})

    def tightened(self, quantity: Quantity, by: float) -> Goal:
        """The same with less of one quantity, for builds that took more than was predicted."""
        budgets = tuple(
            Budget(b.quantity, b.option, b.limit - by) if b.quantity == quantity else b for b in self.budgets
        )
        return replace(self, budgets=budgets)
