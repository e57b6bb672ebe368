"""Einsum becomes Transpose, ReduceSum, Reshape, MatMul and Mul.

Operand by operand, as NumPy does it: axes that only one operand has and the result does not are summed; the
two are brought into the order [shared batch axes, own axes, contracted axes] and multiplied as matrices, or,
when nothing is contracted, element by element. A letter that occurs twice in one operand is its diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_string,
    base_name,
    can_replace,
    insert_before,
    is_op,
    remove,
    replace_value,
    rewrite_each,
    static_shape,
)
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class DecomposeEinsum:
    """Write every Einsum by simpler operators."""

    name: ClassVar[str] = "decompose-einsum"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        count = rewrite_each(module.graph, ctx, ("Einsum",), _decompose)
        return PassResult(count > 0, stats={"decomposed": count})


@dataclass(frozen=True)
class _Term:
    """A value whose axes have letters."""

    value: ir.Value
    letters: str
    sizes: dict[str, int]

    @property
    def shape(self) -> list[int]:
        return [self.sizes[letter] for letter in self.letters]


def _decompose(node: ir.Node) -> bool:
    if any(value is not None and value.dtype == ir.DataType.BFLOAT16 for value in node.inputs):
        raise Refusal(
            "ONNX Runtime sums and multiplies bfloat16 in an Einsum, but not in the simpler operators"
        )
    terms, wanted = _parsed(node)
    result = terms[0]
    for number, term in enumerate(terms[1:], start=2):
        later = set(wanted).union(*(set(other.letters) for other in terms[number:]))
        result = _combined(node, result, term, later)
    result = _transposed(node, _summed(node, result, set(wanted)), wanted)
    if result.value in node.inputs or not can_replace(node.outputs[0], result.value):
        result = _with(node, result, "Identity", [result.value], result.letters)
    replace_value(node.outputs[0], result.value)
    remove(node)
    return True


def _parsed(node: ir.Node) -> tuple[list[_Term], str]:
    """The operands with letters for all axes, and the letters of the result."""
    equation = attribute_string(node, "equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    inputs = left.split(",")
    shapes = [static_shape(value) for value in node.inputs]
    if len(inputs) != len(shapes) or any(shape is None for shape in shapes):
        raise Refusal("its equation does not fit its inputs, or their shapes are not known")
    free = [letter for letter in _LETTERS if letter not in equation]
    hidden = max(
        (
            len(shape or ()) - len(text) + 3
            for text, shape in zip(inputs, shapes, strict=True)
            if "..." in text
        ),
        default=0,
    )
    if hidden > len(free):
        raise Refusal("it has more axes than there are letters")
    dots = "".join(free[:hidden])
    sizes: dict[str, int] = {}
    terms = []
    for text, value, shape in zip(inputs, node.inputs, shapes, strict=True):
        assert value is not None
        assert shape is not None
        own = dots[len(dots) - (len(shape) - len(text) + 3) :] if "..." in text else ""
        letters = text.replace("...", own)
        if len(letters) != len(shape):
            raise Refusal("an operand has another rank than the equation says")
        terms.append((value, letters, shape))
        for letter, size in zip(letters, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if any(
        size not in (1, sizes[letter])
        for _, text, shape in terms
        for letter, size in zip(text, shape, strict=True)
    ):
        raise Refusal("its operands have different sizes for one letter")
    if arrow:
        wanted = right.replace("...", dots)
    else:
        once = [letter for letter in sorted(sizes) if left.count(letter) == 1 and letter not in dots]
        wanted = dots + "".join(once)
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(sizes):
        raise Refusal("its result has a letter twice, or one that no operand has")
    given = [_diagonal(node, value, letters, shape) for value, letters, shape in terms]
    return given, wanted


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _combined(node: ir.Node, a: _Term, b: _Term, later: set[str]) -> _Term:
    """The product of two operands, with the axes summed that nobody needs later."""
    a, b = _summed(node, a, later | set(b.letters)), _summed(node, b, later | set(a.letters))
    shared = [letter for letter in a.letters if letter in b.letters]
    contracted = [letter for letter in shared if letter not in later]
    if not contracted or any(a.sizes[letter] != b.sizes[letter] for letter in shared):
        return _multiplied(node, a, b)
    batch = [letter for letter in shared if letter in later]
    rows = [letter for letter in a.letters if letter not in shared]
    columns = [letter for letter in b.letters if letter not in shared]
    left = _grouped(node, _transposed(node, a, [*batch, *rows, *contracted]), (batch, rows, contracted))
    right = _grouped(
        node, _transposed(node, b, [*batch, *contracted, *columns]), (batch, contracted, columns)
    )
    letters = "".join([*batch, *rows, *columns])
    whole = _Term(left.value, letters, {**b.sizes, **a.sizes})
    product = _with(node, whole, "MatMul", [left.value, right.value], letters)
    plain = len(rows) == len(columns) == 1
    return product if plain else _reshaped(node, product, product.shape)


def _multiplied(node: ir.Node, a: _Term, b: _Term) -> _Term:
    """Element by element: axes of both in one order, missing ones of size 1."""
    letters = a.letters + "".join(letter for letter in b.letters if letter not in a.letters)
    aligned = []
    for term in (a, b):
        moved = _transposed(node, term, [letter for letter in letters if letter in term.letters])
        shape = [term.sizes[letter] if letter in term.letters else 1 for letter in letters]
        aligned.append(_reshaped(node, moved, shape).value)
    own = [{letter: term.sizes[letter] for letter in term.letters} for term in (a, b)]
    sizes = {letter: max(side.get(letter, 1) for side in own) for letter in letters}
    return _with(node, _Term(a.value, letters, sizes), "Mul", aligned, letters)


def _summed(node: ir.Node, term: _Term, kept: set[str]) -> _Term:
    axes = [axis for axis, letter in enumerate(term.letters) if letter not in kept]
    if not axes:
        return term
    constant = add_constant(_graph(node), np.array(axes, np.int64), f"{base_name(node)}_axes")
    letters = "".join(letter for letter in term.letters if letter in kept)
    return _with(node, term, "ReduceSum", [term.value, constant], letters, keepdims=0)


def _transposed(node: ir.Node, term: _Term, order: str | list[str]) -> _Term:
    permutation = [term.letters.index(letter) for letter in order]
    if permutation == list(range(len(term.letters))):
        return term
    return _with(node, term, "Transpose", [term.value], "".join(order), perm=permutation)


def _grouped(node: ir.Node, term: _Term, groups: tuple[list[str], ...]) -> _Term:
    """Batch axes as they are, each of the other groups as one axis."""
    batch, *others = groups
    shape = [term.sizes[letter] for letter in batch]
    return _reshaped(node, term, shape + [prod(term.sizes[letter] for letter in group) for group in others])


def _reshaped(node: ir.Node, term: _Term, shape: list[int]) -> _Term:
    """Under another shape; the letters are those of before."""
    if shape == term.shape and len(shape) == len(term.letters) and not _is_product(term):
        return term
    sizes = add_constant(_graph(node), np.array(shape, np.int64), f"{base_name(node)}_shape")
    return _with(node, term, "Reshape", [term.value, sizes], term.letters)


def _is_product(term: _Term) -> bool:
    """A MatMul's own shape is not that of its letters."""
    return is_op(term.value.producer(), "MatMul")


def _diagonal(node: ir.Node, value: ir.Value, letters: str, shape: tuple[int, ...]) -> _Term:
    """A value whose letters are all different: of equal ones only equal indices are taken."""
    sizes = dict(zip(letters, shape, strict=True))
    term = _Term(value, letters, sizes)
    while len(set(term.letters)) < len(term.letters):
        second = next(i for i, letter in enumerate(term.letters) if letter in term.letters[:i])
        first = term.letters.index(term.letters[second])
        lengths = [term.sizes[letter] for letter in term.letters]
        if shape[first] != shape[second]:
            raise Refusal("a letter has two sizes in one operand")
        same = np.eye(lengths[first], dtype=bool)
        mask = same.reshape([size if i in (first, second) else 1 for i, size in enumerate(lengths)])
        dtype = np.float32 if value.dtype is None else value.dtype.numpy()
        inputs = [
            add_constant(_graph(node), mask, f"{base_name(node)}_diagonal"),
            term.value,
            add_constant(_graph(node), np.zeros((), dtype), f"{base_name(node)}_zero"),
        ]
        chosen = _with(node, term, "Where", inputs, term.letters)
        axes = add_constant(_graph(node), np.array([second], np.int64), f"{base_name(node)}_axes")
        left = term.letters[:second] + term.letters[second + 1 :]
        term = _with(node, chosen, "ReduceSum", [chosen.value, axes], left, keepdims=0)
        shape = (*shape[:second], *shape[second + 1 :])
    return term


def _with(
    node: ir.Node, term: _Term, op_type: str, inputs: list[ir.Value], letters: str, **attributes: object
) -> _Term:
    """A new node in front of ``node``, and what its axes are called."""
    new = insert_before(node, op_type, inputs, attributes)
    return _Term(new.outputs[0], letters, term.sizes)


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph
