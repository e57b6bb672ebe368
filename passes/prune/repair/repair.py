"""Repair as a pass: for use after anything that changed weights or took something away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.errors import RecipeError
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.prune.repair.batchnorm import move_statistics
from irshrink.passes.prune.repair.least_squares import LayerRepair, repair_layers
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class Repair:
    """Let each layer compute what it did in the original model, by least squares on calibration data."""

    name: ClassVar[str] = "repair"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        if module.calibration is None or len(module.calibration) < 2:
            raise RecipeError("repair needs at least two calibration samples. Give --calibration.")
        if module.original is None:
            ctx.note("nothing is repaired: no pass before took anything away")
            return PassResult(False, stats={"layers": 0})
        repairs = repair_module(module, ctx)
        changed = [one for one in repairs if one.strength is not None]
        return PassResult(bool(changed), stats={"layers": len(changed)})


def repair_module(module: Module, ctx: Context) -> list[LayerRepair]:
    """Statistics of normalizations, then weights, towards ``module.original``.

    Raises:
        ModelError: ONNX Runtime cannot run one of the models.
    """
    assert module.original is not None
    assert module.calibration is not None
    for model in (module.original.module.model, module.model):
        infer_shapes(model)
    move_statistics(module, module.original, module.calibration)
    return repair_layers(module, module.original, module.calibration, ctx)
