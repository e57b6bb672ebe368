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
    dims = list(value.shape)
    if wanted is not None:
        return _replace(value, name, dims, list(wanted))
    open_axes = [i for i, d in enumerate(dims) if not isinstance(d, int)]
    if not open_axes:
        return None
    if open_axes != [0]:
        shown = ",".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in dims)
        raise ModelError(
            f"{source}: input '{name}' has the dynamic shape [{shown}]; axes {open_axes} are open. "
            f"Give sizes with --shape {name}=" + ",".join(str(d) if isinstance(d, int) else "1" for d in dims)
        )
    value.shape = ir.Shape([1, *dims[1:]])
    return f"input '{name}': the open batch dimension was set to 1"


def _replace(value: ir.Value, name: str, dims: Sequence[object], wanted: list[int]) -> str | None:
    fits = len(dims) == len(wanted) and all(
        not isinstance(d, int) or d == w for d, w in zip(dims, wanted, strict=True)
    )
    if not fits:
        raise RecipeError(f"--shape {name}={','.join(map(str, wanted))} contradicts the model's {dims}.")
    value.shape = ir.Shape(wanted)
    return f"input '{name}' was given the shape {wanted}" if list(dims) != wanted else None
