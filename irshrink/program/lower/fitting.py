"""Whether what a node says fits together: ONNX's checks let much pass that its rule cannot make sense of.

Everything here raises :class:`~irshrink.program.lower.refusal.Refusal`. An exception of any other class in a
rule is a bug of ours and told as one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.refusal import Refusal

DAMAGED = "The model is damaged; export it again."


def require(fits: bool, reason: str, advice: str = DAMAGED) -> None:
    """
    Raises:
        Refusal: it does not fit.
    """
    if not fits:
        raise Refusal(reason, advice)


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front, as ONNX counts from either end.

    Raises:
        Refusal: there is no such axis.
    """
    require(-rank <= axis < rank, f"its axis {axis} is none of {rank}")
    return axis + rank if axis < 0 else axis


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape of the result of NumPy's broadcasting.

    Raises:
        Refusal: the shapes do not broadcast against each other.
    """
    try:
        return np.broadcast_shapes(*(tuple(shape) for shape in shapes))
    except ValueError as e:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise Refusal(f"the shapes {listed} do not fit each other", DAMAGED) from e


def broadcasts_to(shape: Sequence[int], wanted: Sequence[int], what: str) -> None:
    """
    Raises:
        Refusal: an array of ``shape`` does not broadcast to ``wanted``.
    """
    padded = (1,) * (len(wanted) - len(shape)) + tuple(shape)
    fits = len(padded) == len(wanted) and all(a in (1, b) for a, b in zip(padded, wanted, strict=True))
    require(fits, f"its {what} of shape {list(shape)} do not fit {list(wanted)}")


def choice(node: ir.Node, name: str, default: str, known: Collection[str]) -> str:
    """A string attribute that is one of a few words.

    Raises:
        Refusal: it is another.
    """
    word = edit.attribute_string(node, name, default)
    require(word in known, f"its {name} is '{word[:40]}'", f"Use {', '.join(sorted(known))}.")
    return word


def data_type(node: ir.Node, name: str, default: int) -> ir.DataType:
    """An attribute that is the number of an element type.

    Raises:
        Refusal: there is no such type.
    """
    code = edit.attribute_int(node, name, default)
    require(code in {int(kind) for kind in ir.DataType}, f"there is no element type {code}")
    return ir.DataType(code)
