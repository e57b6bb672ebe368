"""What ``--quantize NAME`` stands for: a list of passes, which a recipe could also spell out.

A name says how weights and activations are stored, ``w4a8``: weights in 4 bits, activations in 8. Which
repairs go with it is decided here, by what was measured (docs/quantization.md). To add one: a row here, its
name in :data:`Quantize`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from irshrink.errors import RecipeError
from irshrink.registry import make_pass, pass_class

if TYPE_CHECKING:
    from irshrink.pipeline import Pass
    from irshrink.recipe import Recipe

Quantize = Literal["int8", "w4a8", "mixed", "w8a16", "w8", "w4", "fp16", "none"]
#: What a plan is to be, within its budgets.
Objective = Literal["accurate", "smallest", "fastest", "least-ram"]
#: A pass by name with its options, as in a recipe's ``steps``.
StepTable = dict[str, Any]


@dataclass(frozen=True)
class Shorthand:
    """Attributes:
    title: what comes out, in a few words.
    steps: the passes, for a recipe whose other keys (a budget, say) may matter.
    calibrated: whether they need calibration data.
    """

    title: str
    steps: Callable[[Recipe], tuple[StepTable, ...]]
    calibrated: bool = True


def always(*steps: StepTable) -> Callable[[Recipe], tuple[StepTable, ...]]:
    """The same passes whatever else the recipe says."""
    return lambda _: steps


#: How the integers of weights in few bits are chosen: one layer after the other, each of which makes up for
#: those before it.
LAYER_BY_LAYER = {
    "rounding": "quantease",
    "weight_range": "output",
    "bias_correction": "empirical",
    "compensate": True,
}


def within_budget(recipe: Recipe) -> tuple[StepTable, ...]:
    """Mixed precision under the recipe's budgets; of none, under the pass's own.

    Without evaluation data a budget of accuracy is checked on the calibration data, so it is counted there.
    """
    table: StepTable = {"pass": "quantize-mixed", "max_drop": recipe.max_drop, "max_size": recipe.max_size}
    table["quantize"] = LAYER_BY_LAYER
    counted = recipe.metric is not None or recipe.relative_drop
    if recipe.max_drop is not None and (counted or recipe.eval is None):
        table |= {"judge": "counted", "metric": recipe.metric, "relative_drop": recipe.relative_drop or None}
    return ({key: value for key, value in table.items() if value is not None},)


SHORTHANDS: Mapping[Quantize, Shorthand] = {
    "int8": Shorthand("weights and activations in int8", always({"pass": "quantize-int8"})),
    "w4a8": Shorthand(
        "weights in 4 bits, activations in int8",
        always({"pass": "quantize-int8", "weight_bits": 4, **LAYER_BY_LAYER}),
    ),
    "w8a16": Shorthand(
        "weights in int8, activations in int16",
        always({"pass": "quantize-int8", "activation_bits": 16, "method": "minmax"}),
    ),
    "mixed": Shorthand(
        "weights of each layer in as few bits as --max-drop, --max-size or --flash allow", within_budget
    ),
    "w8": Shorthand(
        "weights in int8, arithmetic in float", always({"pass": "quantize-weights-int8"}), calibrated=False
    ),
    "w4": Shorthand(
        "weights in 4 bits with a scale for each 64, arithmetic in float",
        always({"pass": "quantize-weights", "bits": 4, "block_size": 64, "weight_range": "mse"}),
        calibrated=False,
    ),
    "fp16": Shorthand(
        "weights in 16 bits, arithmetic in float16 on targets that have it, else in float32",
        always({"pass": "store-weights", "arithmetic": "float16"}),
        calibrated=False,
    ),
    "none": Shorthand("float32", always(), calibrated=False),
}


def sparse_steps(recipe: Recipe) -> tuple[tuple[StepTable, ...], tuple[StepTable, ...]]:
    """What ``sparsity`` stands for, in front of and behind the passes of ``quantize``.

    With calibration data the weights that stay make up for the others; without, the smallest go.
    """
    if recipe.sparsity is None:
        return (), ()
    method = "magnitude" if recipe.calibration is None else "sparsegpt"
    prune = {"pass": "prune-weights", "sparsity": recipe.sparsity, "method": method, "scope": "global"}
    return (prune,), ({"pass": "store-sparse"},)


def pruning_steps(recipe: Recipe) -> tuple[StepTable, ...]:
    """What ``prune`` stands for: in steps of at most a fifth, each priced on what the one before left."""
    if recipe.prune is None:
        return ()
    return ({"pass": "prune-channels", "ratio": recipe.prune, "steps": math.ceil(recipe.prune / 0.2)},)


def low_rank_steps(recipe: Recipe) -> tuple[StepTable, ...]:
    """What ``low_rank`` stands for: ranks within a relative error of the outputs, ``auto`` a tenth."""
    if recipe.low_rank is None:
        return ()
    return (
        {"pass": "low-rank", "by": "error", "budget": 0.1 if recipe.low_rank == "auto" else recipe.low_rank},
    )


def chosen_passes(recipe: Recipe) -> list[Pass]:
    """The recipe's explicit steps, or what its shorthand stands for; options are checked here.

    Raises:
        RecipeError: an unknown pass or option, or a key that would do nothing.
    """
    steps = recipe.passes()
    if steps is not None:
        if recipe.quantize is not None or recipe.keep_float:
            raise RecipeError(
                "steps replace what quantize and keep_float stand for. Leave these out, and write keep_float "
                "inside the quantize-int8 step."
            )
        if recipe.prune is not None:
            raise RecipeError(
                "steps replace what prune stands for. Leave it out, and write the step prune-channels."
            )
        if recipe.low_rank is not None:
            raise RecipeError(
                "steps replace what low_rank stands for. Leave it out, and write the step low-rank."
            )
        if recipe.sparsity is not None:
            raise RecipeError(
                "steps replace what sparsity stands for. Leave it out, and write the steps prune-weights and "
                "store-sparse."
            )
        return steps
    tables = SHORTHANDS[recipe.quantization].steps(recipe)
    if not tables and recipe.keep_float:
        raise RecipeError("keep_float: nothing is quantized here. Give --calibration, or leave it out.")
    before, behind = sparse_steps(recipe)
    smaller = (*pruning_steps(recipe), *low_rank_steps(recipe), *before)
    return [_made(table, recipe.keep_float) for table in (*smaller, *tables, *behind)]


def with_kept_float(table: Mapping[str, Any], keep_float: tuple[str, ...]) -> StepTable:
    """A step with these nodes in float besides, if its pass has such an option."""
    cls: Any = pass_class(str(table["pass"]))
    step = dict(table)
    if keep_float and any(field.name == "keep_float" for field in dataclasses.fields(cls)):
        step["keep_float"] = [*step.get("keep_float", ()), *keep_float]
    return step


def _made(table: StepTable, keep_float: tuple[str, ...]) -> Pass:
    """One pass; ``keep_float`` goes to those that have such an option."""
    step = with_kept_float(table, keep_float)
    return make_pass(str(step.pop("pass")), step)
