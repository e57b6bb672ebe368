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

from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.factorize_cp import Cp
from irshrink.passes.lowrank.factorize_spatial import Spatial
from irshrink.passes.lowrank.factorize_tucker import Tucker
from irshrink.passes.lowrank.form import Form
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

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [FORMS[name] for name in self.forms], module, ctx)
