"""What all passes of low rank can be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from irshrink.passes.lowrank.allocate import By
from irshrink.passes.lowrank.costs import Measure
from irshrink.pipeline import Context


@dataclass(frozen=True)
class RankOptions:
    """How ranks are chosen and factors fitted.

    Attributes:
        by: what the budget is about: ``energy`` of a layer's output that is kept, relative ``error`` of it,
            ``macs``, ``parameters`` or cost on the ``target`` that are left, or the largest ``rank``.
        budget: how much of that; a share but for ``rank``.
        scope: a budget for each ``layer``, or one for the ``model``, which layers share.
        saves: what must fall for a layer to be factorized; ``auto`` is the cost on the target where it is
            known and the same every time, else MACs.
        least_saving: by at least this share of what it was.
        fit: factors that keep ``outputs`` on calibration data, or ``weights``, which needs none.
        sequential: fit layers one after the other to what they read in the model as it has become, towards
            what they gave in the model as it was.
        damping: added to the second moments of inputs, of their mean: what the model may read besides what it
            read in calibration.
        multiple: ranks are multiples of it.
        keep: nodes that stay whole, by name or operator type; ``*`` and ``?`` as in file names.
    """

    by: By = "error"
    budget: float = 0.1
    scope: Literal["layer", "model"] = "layer"
    saves: Measure | Literal["auto"] = "auto"
    least_saving: float = 0.0
    fit: Literal["outputs", "weights"] = "outputs"
    sequential: bool = True
    damping: float = 0.01
    multiple: int = 4
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.by == "rank":
            if self.scope == "model" or self.budget < 1:
                raise ValueError("by = rank takes a budget of 1 or more, for each layer")
        elif not 0 < self.budget <= 1:
            raise ValueError(f"budget is {self.budget}; it must be above 0 and at most 1")
        if self.least_saving >= 1:
            raise ValueError(f"least_saving is {self.least_saving}; it must be under 1")
        if self.damping < 0:
            raise ValueError(f"damping is {self.damping}; it must not be negative")
        if self.multiple < 1:
            raise ValueError(f"multiple is {self.multiple}; it must be 1 or more")

    @property
    def counted(self) -> Measure:
        """What costs are counted in: by the budget, or where that is about errors, what must fall."""
        return self.by if self.by in ("macs", "parameters", "target") else self.saving

    @property
    def saving(self) -> Measure:
        """What must fall; MACs where nothing better is known."""
        return "macs" if self.saves == "auto" else self.saves

    def known(self, ctx: Context) -> RankOptions:
        """With what ``auto`` stands for here."""
        if self.saves != "auto":
            return self
        if self.by in ("macs", "parameters", "target"):
            return replace(self, saves=self.by)
        told = ctx.costs is not None and ctx.costs.exact
        return replace(self, saves="target" if told else "macs")
