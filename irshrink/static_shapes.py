"""Static input shapes: what the user gave, and a batch of one where only the batch is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from irshrink.errors import ModelError, RecipeError, nearest
from irshrink.module import Module


def fix_input_shapes(module: Module, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Give every input a static shape, in place.

    Args:
        shapes: dimensions by input name (``--shape``). Where the first dimension alone is open it is the
            batch, and becomes 1.

    Returns:
        A note for every shape that was not the model's own.

    Raises:
        ModelError: open dimensions that nobody gave, an input without a shape, a batch above 1.
        RecipeError: a shape for an input that does not exist, or that contradicts the model.
    """
    inputs = {str(v.name): v for v in module.graph.inputs if v.name not in module.graph.initializers}
    for name in shapes:
        if name not in inputs:
            raise RecipeError(f"--shape: the model has no input '{name}'.{nearest(name, inputs)}")
    notes = []
    for name, value in inputs.items():
        note = _fix(value, name, shapes.get(name), module.source)
        notes += [note] if note else []
    return notes


def _fix(value: ir.Value, name: str, wanted: Sequence[int] | None, source: object) -> str | None:
    if value.shape is None:
        raise ModelError(f"{source}: input '{name}' has no shape. Export the model with one.")
    dims = [d if isinstance(d, int) else None for d in value.shape]
    shown = ", ".join(_shown(d) for d in value.shape)
    if wanted is not None:
        return _replace(value, name, dims, list(wanted), shown, source)
    open_axes = [axis for axis, d in enumerate(dims) if d is None]
    if not open_axes:
        return None
    if open_axes != [0]:
        names = {axis: _letter(value.shape[axis], axis) for axis in open_axes[open_axes[0] == 0 :]}
        example = ",".join(names.get(axis, str(d or 1)) for axis, d in enumerate(dims))
        raise ModelError(
            f"{source}: input '{name}' has the dynamic shape [{shown}]. Give its sizes: "
            f"--shape {name}={example} with numbers for {', '.join(names.values())}."
        )
    value.shape = ir.Shape([1, *dims[1:]])
    return f"Input '{name}': the open batch dimension was set to 1."


def _replace(
    value: ir.Value, name: str, dims: Sequence[int | None], wanted: list[int], shown: str, source: object
) -> str | None:
    fits = len(dims) == len(wanted) and all(d in (None, w) for d, w in zip(dims, wanted, strict=True))
    if not fits:
        given = ",".join(map(str, wanted))
        raise RecipeError(f"--shape {name}={given} contradicts the shape [{shown}] in {source}.")
    value.shape = ir.Shape(wanted)
    return f"Input '{name}' was given the shape {wanted}." if list(dims) != wanted else None


def _shown(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else str(dim.value or "?")


def _letter(dim: int | ir.SymbolicDim, axis: int) -> str:
    """What an example calls an open dimension: the model's own name for it where that is short."""
    name = _shown(dim)
    return name if name.isidentifier() and len(name) <= 12 else f"DIM{axis}"
