"""The form and the rank of every layer, from one budget for the model.

Each layer is offered all forms that it has (channels, spatial, Tucker-2; dense) at ranks that make it
cheaper. Which of them it gets is decided for all layers together
(:mod:`irshrink.passes.lowrank.allocate`), by what an error in each of them was measured to cost at the
model's outputs (:mod:`irshrink.passes.lowrank.sensitivity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.factorize_cp import Cp
from irshrink.passes.lowrank.factorize_spatial import Spatial
from irshrink.passes.lowrank.factorize_tucker import Tucker
from irshrink.passes.lowrank.form import Form
from irshrink.passes.lowrank.layers import find_layers
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.svd import CHANNELS, DENSE
from irshrink.pipeline import Context, PassResult

FormName = Literal["channels", "spatial", "tucker", "cp", "dense"]
FORMS: Mapping[FormName, Form] = {
    "channels": CHANNELS,
    "spatial": Spatial(),
    "tucker": Tucker(),
    "cp": Cp(),
    "dense": DENSE,
}

#: What is left of the weights, or of what an inference takes, in plans.
_LEFT = (0.85, 0.7, 0.55, 0.4, 0.3, 0.2)


@dataclass(frozen=True)
class LowRank(RankOptions):
    """Factorize layers, each in the form and at the rank that a budget for the whole model gives it.

    Attributes:
        forms: what layers may become.
    """

    name: ClassVar[str] = "low-rank"
    lossy: ClassVar[bool] = True

    scope: Literal["layer", "model"] = "model"
    forms: tuple[FormName, ...] = ("channels", "spatial", "tucker", "dense")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """Models with a layer of which half the rank would save something."""
        layers, _ = find_layers(module.graph)
        if not any(min(one.rows.shape) * sum(one.rows.shape) < 1.9 * one.rows.size for one in layers):
            return ()
        by = "parameters"
        if "cost" in wishes.effects:
            by = "target" if wishes.exact_costs else "macs"
        levels = []
        for left in _LEFT:
            step = {"pass": cls.name, "by": by, "budget": left}
            levels.append(Level(f"{left * 100:.0f} % {_OF[by]} left", 1 - left, (step, {"pass": "repair"})))
        helps: frozenset[Effect] = frozenset({"size", "cost"})
        runs = 40.0 if by == "target" else 25.0
        return (Knob(cls.name, "rank of layers", "rank", helps, tuple(levels), runs, products=100.0),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [FORMS[name] for name in self.forms], module, ctx)


_OF = {
    "parameters": "of the weights",
    "target": "of what layers take on the target",
    "macs": "of the multiplications",
}
