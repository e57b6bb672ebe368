"""Input shapes as users state them: one set, or several as variants of one package.

On the command line an input that is named again begins another variant::

    --shape ids=1,64 --shape ids=1,128                  two variants, for 64 and 128 tokens
    --shape x=1,3,224,224 --shape x=1,3,320,320 \\
        --shape scale=1,1                               the same scale in both

In a recipe they are ``[[variants]]``, tables of shapes like ``[shapes]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from irshrink.errors import RecipeError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: As many as a package may have: each has functions and a run of every check.
MOST_VARIANTS = 16
#: Characters of a variant's name.
_LONGEST = 20


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``"input=1,3,224,224"`` as name and dimensions.

    Raises:
        RecipeError: written differently.
    """
    name, sign, dims = text.rpartition("=")
    parts = re.split(r"[,x]", dims.strip())
    if not sign or not name or not all(part.strip().isdecimal() for part in parts):
        raise RecipeError(f"shape '{text}' cannot be read. Write name=1,3,224,224.")
    return name, tuple(int(part) for part in parts)


def parse_shapes(texts: Iterable[str]) -> tuple[dict[str, Shape], tuple[dict[str, Shape], ...]]:
    """All shapes of a command line: those of every variant, and the variants.

    The n-th shape of an input belongs to variant n; an input with one shape has it in all variants.

    Raises:
        RecipeError: one is written differently, or inputs have different numbers of shapes.
    """
    given: dict[str, list[Shape]] = {}
    for text in texts:
        name, shape = parse_shape(text)
        given.setdefault(name, []).append(shape)
    several = {name: shapes for name, shapes in given.items() if len(shapes) > 1}
    counts = sorted({len(shapes) for shapes in several.values()})
    if len(counts) > 1:
        listed = ", ".join(f"'{name}' {len(shapes)}" for name, shapes in several.items())
        raise RecipeError(
            f"--shape: inputs have different numbers of shapes ({listed}). Give one for each variant, or a "
            "single one for all."
        )
    common = {name: shapes[0] for name, shapes in given.items() if name not in several}
    count = counts[0] if counts else 0
    return common, tuple({name: shapes[i] for name, shapes in several.items()} for i in range(count))


def parse_one_set(texts: Iterable[str]) -> dict[str, Shape]:
    """The shapes of a command that takes no variants.

    Raises:
        RecipeError: as :func:`parse_shapes`, or an input has several shapes.
    """
    shapes, variants = parse_shapes(texts)
    if variants:
        raise RecipeError(
            f"--shape: input '{next(iter(variants[0]))}' is given {len(variants)} shapes; here it takes one. "
            "`irshrink compile` builds variants."
        )
    return shapes


def require_variants(shapes: Shapes, variants: Sequence[Shapes]) -> None:
    """
    Raises:
        RecipeError: a shape makes no sense, or the variants are not several sets of the same inputs.
    """
    for name, shape in [*shapes.items(), *(pair for one in variants for pair in one.items())]:
        if any(d < 1 for d in shape):
            raise RecipeError(f"shape {list(shape)} of input '{name}': every dimension must be positive.")
    if not variants:
        return
    if len(variants) == 1:
        raise RecipeError("variants: there is one. Give its shapes as `shapes`, or another variant.")
    if len(variants) > MOST_VARIANTS:
        raise RecipeError(f"variants: {len(variants)} are more than the {MOST_VARIANTS} of one package.")
    for one in variants:
        if set(one) != set(variants[0]) or not one:
            raise RecipeError("variants: each must give shapes for the same inputs, at least for one.")
        for name in one:
            if name in shapes:
                raise RecipeError(f"variants: input '{name}' has a shape for all variants, too. Remove one.")
    for i, one in enumerate(variants):
        if one in variants[:i]:
            listed = ", ".join(f"{name}={','.join(map(str, shape))}" for name, shape in one.items())
            raise RecipeError(f"variants: {listed} is there twice.")


def variant_names(variants: Sequence[Sequence[Shape]]) -> tuple[str, ...]:
    """What tells variants apart, as words for names in C: the sizes that differ, as ``320x320`` or ``128``.

    Sizes of several inputs are joined by ``_``; an input whose sizes are always those of one before it adds
    nothing. Where that is too long for a name, variants are numbered: ``v1``, ``v2``.

    Args:
        variants: the shape of every input, in the same order in each; no two alike.
    """
    if len(variants) < 2:
        return ()
    columns: list[tuple[str, ...]] = []
    for shapes in zip(*variants, strict=True):
        axes = [a for a, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
        column = tuple("x".join(str(shape[a]) for a in axes) for shape in shapes)
        if axes and column not in columns:
            columns.append(column)
    names = tuple("_".join(parts) for parts in zip(*columns, strict=True))
    if max(map(len, names)) > _LONGEST:
        return tuple(f"v{number}" for number in range(1, len(variants) + 1))
    return names
