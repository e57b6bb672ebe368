"""Ways to choose the integers of a layer's weights, one a file; :data:`ROUNDINGS` names them.

To add one: a function from :class:`~irshrink.passes.quantize.rounding.problem.Problem` to integers, a row
here, its name in :data:`RoundingName`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from irshrink.passes.quantize.rounding.adaround import adaround
from irshrink.passes.quantize.rounding.gptq import gptq
from irshrink.passes.quantize.rounding.problem import Problem, Rounding
from irshrink.passes.quantize.rounding.quantease import quantease

__all__ = ["ROUNDINGS", "Problem", "Rounding", "RoundingName"]

RoundingName = Literal["nearest", "gptq", "quantease", "adaround"]

ROUNDINGS: Mapping[RoundingName, Rounding] = {
    "nearest": Problem.nearest,
    "gptq": gptq,
    "quantease": quantease,
    "adaround": adaround,
}
