"""Tree ensembles: one loop over all nodes of all trees, whose tests lie in flash as arrays.

A row's features become integer keys once; a node then costs two loads of the test, one of the key, an integer
comparison and the load of the child, with an FPU or without. Arrays take the narrowest type that holds them,
and thresholds that repeat are numbered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input, KernelCall, Output, Workspace
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    TirFunction,
    cast,
    constant,
    f32,
    i32,
    inline,
    read,
    scalars,
    select,
    write,
)
from irshrink.program.ops import TreeEnsemble
from irshrink.program.program import Program
from irshrink.target import Target

_ZERO = i32(0)
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """What decides the C function of an ensemble.

    Attributes:
        types: of features, of thresholds' numbers ("" where thresholds are not numbered), of children, of
            starts ("" where every leaf of a tree adds to one target, the tree's own), of targets.
        nan_first: whether features have a second half of keys.
    """

    types: tuple[str, str, str, str, str]
    nan_first: bool
    aggregate: str

    @property
    def name(self) -> str:
        short = {"uint8": "u8", "uint16": "u16", "int16": "s16", "int32": "s32", "": "x"}
        nan = "_nan" if self.nan_first else ""
        return f"trees_{self.aggregate}_{'_'.join(short[t] for t in self.types)}{nan}"


def select_trees(op: TreeEnsemble, program: Program, target: Target) -> KernelCall:
    """Narrow arrays, and the loop over them."""
    count, features = program.tensors[op.inputs[0]].shape
    own = _own_targets(op)
    numbers, distinct = _numbered(op.thresholds)
    nan_first = bool((op.features >= features).any())
    arrays: list[tuple[str, Numbers]] = [("features", _narrow(op.features))]
    arrays += (
        [("thresholds", op.thresholds)] if numbers is None else [("tests", numbers), ("thresholds", distinct)]
    )
    arrays += [("children", _narrow(op.children.reshape(-1), signed=True)), ("roots", op.roots)]
    if own is None:
        targets = _narrow(op.targets)
        arrays += [("starts", _narrow(op.starts)), ("targets", targets), ("weights", op.weights)]
    else:
        targets = _narrow(own[0])
        arrays += [("targets", targets), ("weights", own[1])]
    types = {role: str(array.dtype) for role, array in arrays}
    form = Form(
        (
            types["features"],
            types.get("tests", ""),
            types["children"],
            types.get("starts", ""),
            types["targets"],
        ),
        nan_first,
        op.aggregate,
    )
    arguments: list[Argument] = [Input(0), Output(), Workspace()]
    arguments += [Constant(role, np.ascontiguousarray(array)) for role, array in arrays]
    arguments += [Constant("base", op.base), count, features, op.roots.size, op.base.size]
    return KernelCall(_trees(form), tuple(arguments), workspace_bytes=4 * features * (2 if nan_first else 1))


def _narrow(array: Numbers, signed: bool = False) -> Numbers:
    """The same numbers in the smallest type that has room for one number more."""
    widths = (np.int16, np.int32) if signed else (np.uint8, np.uint16, np.int32)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    fits = (w for w in widths if np.iinfo(w).min <= low and high <= np.iinfo(w).max)
    return array.astype(next(fits))


def _numbered(thresholds: Numbers) -> tuple[Numbers | None, Numbers]:
    """Numbers of thresholds and the distinct ones, where that saves flash; None and all where it does not."""
    distinct, numbers = np.unique(thresholds, return_inverse=True)
    narrow = _narrow(numbers.reshape(-1))
    if narrow.nbytes + distinct.nbytes >= thresholds.nbytes:
        return None, thresholds
    return narrow, distinct


def _own_targets(op: TreeEnsemble) -> tuple[Numbers, Numbers] | None:
    """Target by tree and weight by leaf where every leaf of a tree adds to the same target, once.

    A leaf that adds nothing to a sum adds 0 to any target.
    """
    counts = np.diff(op.starts)
    sums = op.aggregate in ("sum", "average")
    if (counts > 1).any() or (not sums and (counts < 1).any()):
        return None
    target = np.full(counts.size, -1, np.int32)
    target[counts == 1] = op.targets
    weights = np.zeros(counts.size, np.float32)
    weights[counts == 1] = op.weights
    own = [_target_of(op, int(root), target) for root in op.roots]
    return None if None in own else (np.array(own, np.int32), weights)


def _target_of(op: TreeEnsemble, root: int, target: Numbers) -> int | None:
    """The one target of a tree's leaves, None when there are several."""
    found, pending, seen = set[int](), [root], set[int]()
    while pending:
        at = pending.pop()
        if at < 0:
            found.add(int(target[-1 - at]))
        elif at not in seen:
            seen.add(at)
            pending += op.children[at].tolist()
    found -= {-1}
    return None if len(found) > 1 else next(iter(found), 0)


@cache
def _trees(form: Form) -> TirFunction:
    feature, test, child, start, target = form.types
    parameters: list[Parameter] = [read("x", "float32"), write("y", "float32"), write("keys", "int32")]
    parameters += [constant("features", feature)]
    parameters += [constant("tests", test)] if test else []
    parameters += [constant("thresholds", "int32"), constant("children", child), constant("roots", "int32")]
    parameters += [constant("starts", start)] if start else []
    parameters += [constant("targets", target), constant("weights", "float32"), constant("base", "float32")]
    parameters += scalars("rows", "columns", "trees", "scores")
    with Function(form.name, f"Decision trees, {form.aggregate} of their leaves.") as f:
        given = dict(zip((p.name for p in parameters), f.parameters(*parameters), strict=True))
        keys, columns, y, scores = given["keys"], given["columns"], given["y"], given["scores"]
        at = f.local("node", "int32", 1)
        with f.loop("row", given["rows"]) as row:
            x_at = f.bind("x_at", row * columns)
            y_at = f.bind("y_at", row * scores)
            _write_keys(f, form, given["x"], x_at, keys, columns)
            with f.loop("k", scores) as k:
                f.store(y, y_at + k, f32(_START[form.aggregate]))
            with f.loop("tree", given["trees"]) as tree:
                f.store(at, 0, given["roots"][tree])
                with f.repeat_while(at[_ZERO] >= 0):
                    _step(f, form, given, at)
                _add_leaf(f, form, given, i32(-1) - at[_ZERO], tree, y_at)
            with f.loop("k", scores) as k:
                f.store(y, y_at + k, _finished(form, y[y_at + k], given["trees"]) + given["base"][k])
    return f.result


_START = {"sum": 0.0, "average": 0.0, "min": float("inf"), "max": float("-inf")}


def _write_keys(f: Function, form: Form, x: Buffer, x_at: Expr, keys: Buffer, columns: Expr) -> None:
    with f.loop("k", columns) as k:
        f.store(keys, k, inline("int32", "irs_order_key", x[x_at + k], i32(2**31 - 1)))
    if form.nan_first:
        with f.loop("k", columns) as k:
            f.store(keys, columns + k, inline("int32", "irs_order_key", x[x_at + k], i32(-(2**31))))


def _step(f: Function, form: Form, given: dict[str, Any], at: Buffer) -> None:
    """From a node to one of its children."""
    n = at[_ZERO]
    threshold = given["thresholds"][cast("int32", given["tests"][n]) if form.types[1] else n]
    key = given["keys"][cast("int32", given["features"][n])]
    child = given["children"][n * 2 + select(key <= threshold, i32(0), i32(1))]
    f.store(at, 0, cast("int32", child))


def _add_leaf(f: Function, form: Form, given: dict[str, Any], leaf: Expr, tree: Expr, y_at: Expr) -> None:
    y, weights, targets, starts = (given.get(name) for name in ("y", "weights", "targets", "starts"))
    assert y is not None
    assert weights is not None
    assert targets is not None
    if starts is None:
        place = f.bind("place", y_at + cast("int32", targets[tree]))
        f.store(y, place, _combined(form, y[place], weights[leaf]))
        return
    number = f.bind("leaf", leaf)
    first = f.bind("first", cast("int32", starts[number]))
    with f.loop("i", cast("int32", starts[number + 1]) - first) as i:
        place = f.bind("place", y_at + cast("int32", targets[first + i]))
        f.store(y, place, _combined(form, y[place], weights[first + i]))


def _combined(form: Form, so_far: Expr, weight: Expr) -> Expr:
    if form.aggregate in ("sum", "average"):
        return so_far + weight
    return inline("float32", f"irs_{form.aggregate}_f32", weight, so_far)


def _finished(form: Form, value: Expr, trees: Expr) -> Expr:
    """The aggregate before the base value; 0 for a target that no leaf named."""
    if form.aggregate == "sum":
        return value
    if form.aggregate == "average":
        return inline("float32", "irs_math_div", value, cast("float32", trees))
    return select(value == f32(_START[form.aggregate]), f32(0.0), value)
