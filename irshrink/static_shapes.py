"""Static input shapes: what the user gave, what follows from it, and a batch of one where only that is open.

ONNX gives open dimensions names; two of one name have one size. So a shape for one input of a sentence
encoder is a shape for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from irshrink.errors import ModelError, RecipeError, nearest
from irshrink.module import Module

#: A dimension: its size, or its name; "" where it has none.
Dim = int | str


def fix_input_shapes(module: Module, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Give every input a static shape, in place.

    Args:
        shapes: dimensions by input name (``--shape``). Other inputs take over the sizes of the dimensions
            that have a name in common. Where the first dimension alone is open it is the batch, and
            becomes 1.

    Returns:
        A note for every shape that was not the model's own.

    Raises:
        ModelError: open dimensions that nobody gave, or an input without a shape.
        RecipeError: a shape for an input that does not exist, or that contradicts the model.
    """
    values = {str(v.name): v for v in module.graph.inputs if v.name not in module.graph.initializers}
    for name in shapes:
        if name not in values:
            raise RecipeError(f"--shape: the model has no input '{name}'.{nearest(name, values)}")
    inputs = {name: _dims(value, name, module.source) for name, value in values.items()}
    for name, wanted in shapes.items():
        _require_fit(inputs[name], name, wanted, module.source)
    sizes = _sizes(inputs, shapes)
    fixed = {name: list(shapes.get(name) or _fixed(dims, sizes)) for name, dims in inputs.items()}
    still_open = {name: inputs[name] for name, dims in fixed.items() if not _is_static(dims)}
    if still_open:
        raise ModelError(f"{module.source}: {_open_message(still_open, fixed)}")
    notes = []
    for name, dims in inputs.items():
        if dims != fixed[name]:
            values[name].shape = ir.Shape(fixed[name])
            notes.append(_note(name, dims, fixed[name], given=name in shapes))
    return notes


def _dims(value: ir.Value, name: str, source: object) -> list[Dim]:
    if value.shape is None:
        raise ModelError(f"{source}: input '{name}' has no shape. Export the model with one.")
    return [d if isinstance(d, int) else str(d.value or "") for d in value.shape]


def _require_fit(dims: Sequence[Dim], name: str, wanted: Sequence[int], source: object) -> None:
    if len(dims) != len(wanted) or any(
        isinstance(d, int) and d != w for d, w in zip(dims, wanted, strict=True)
    ):
        given = ",".join(map(str, wanted))
        raise RecipeError(f"--shape {name}={given} contradicts the shape [{_shown(dims)}] in {source}.")


def _sizes(inputs: Mapping[str, Sequence[Dim]], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The size of every named dimension, save for names that exporters give to any (``None``, ``?``)."""
    found: dict[str, set[int]] = {}
    for name, wanted in shapes.items():
        for dim, size in zip(inputs[name], wanted, strict=True):
            if isinstance(dim, str) and dim.isidentifier() and dim != "None":
                found.setdefault(dim, set()).add(size)
    return {dim: size for dim, (size, *others) in found.items() if not others}


def _fixed(dims: Sequence[Dim], sizes: Mapping[str, int]) -> list[Dim]:
    """The sizes that follow; a first dimension that alone stays open is 1."""
    known: list[Dim] = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in dims]
    return [1, *known[1:]] if known and isinstance(known[0], str) and _is_static(known[1:]) else known


def _is_static(dims: Sequence[Dim]) -> bool:
    return all(isinstance(dim, int) for dim in dims)


def _open_message(inputs: Mapping[str, Sequence[Dim]], fixed: Mapping[str, Sequence[Dim]]) -> str:
    """Which dimensions nobody knows, and what to write; one input decides those of its names for others."""
    described = ", ".join(f"'{name}' [{_shown(dims)}]" for name, dims in inputs.items())
    examples, letters, told = [], [], set[str]()
    for name in inputs:
        wanted = _letters(fixed[name])
        new = [letter for letter in wanted.values() if letter not in told]
        told |= {letter for letter in new if not letter.startswith("DIM")}
        if new:
            sizes = [
                wanted.get(axis, str(d) if isinstance(d, int) else "1") for axis, d in enumerate(fixed[name])
            ]
            examples.append(f"--shape {name}={','.join(sizes)}")
            letters += [letter for letter in new if letter not in letters]
    ask = f"{' '.join(examples)} with numbers for {', '.join(letters)}."
    if len(inputs) > 1:
        return f"inputs have dynamic shapes: {described}. Give their sizes: {ask}"
    ((name, dims),) = inputs.items()
    return f"input '{name}' has the dynamic shape [{_shown(dims)}]. Give its sizes: {ask}"


def _letters(dims: Sequence[Dim]) -> dict[int, str]:
    """What an example calls the open dimensions: their own names where these are short; 1 for the batch."""
    axes = [axis for axis, dim in enumerate(dims) if isinstance(dim, str)]
    return {axis: _letter(dims[axis], axis) for axis in axes[axes[0] == 0 :]}


def _letter(dim: Dim, axis: int) -> str:
    name = str(dim)
    return name if name.isidentifier() and len(name) <= 12 else f"DIM{axis}"


def _note(name: str, dims: Sequence[Dim], fixed: Sequence[Dim], *, given: bool) -> str:
    if given:
        return f"Input '{name}' was given the shape {list(fixed)}."
    if fixed[0] == 1 and list(dims[1:]) == list(fixed[1:]):
        return f"Input '{name}': the open batch dimension was set to 1."
    return f"Input '{name}': the shape {list(fixed)} follows from the others."


def _shown(dims: Sequence[Dim]) -> str:
    return ", ".join(str(dim) if dim != "" else "?" for dim in dims)
