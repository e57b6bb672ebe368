"""Stored weights that keep a layer's outputs, not its weights, as near as they can be.

The squared error of the outputs of a row of weights that is off by d is d H d^T, with H = E[x x^T] of what
the layer reads (:mod:`irshrink.calibration.moments`). With all other weights fixed it is a parabola in one of
them, so the best value is the level nearest to its vertex: sweeping over the columns until little moves is
coordinate descent (Behdin et al., *QuantEase*, arXiv:2309.01885), which never makes the error larger. With
the indices fixed the levels are a least-squares problem (as Choi et al., *Towards the limit of network
quantization*, ICLR 2017, arXiv:1612.01543, do with the diagonal of H).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from irshrink.calibration.moments import input_moments
from irshrink.calibration.patches import weight_rows
from irshrink.errors import RecipeError
from irshrink.graph.edit import Array, attribute_int, constant
from irshrink.graph.linear import is_linear
from irshrink.module import Module
from irshrink.passes.quantize.stored.codebook import nearest_level
from irshrink.passes.quantize.stored.kmeans import kmeans
from irshrink.pipeline import Context

#: Added to the diagonal, of its mean: few samples leave H singular, and a model sees others later.
_DAMPING = 0.1
#: Turns of indices and levels: later ones change the error by a few per cent.
_SWEEPS = 5
#: Takes a column's number and the wanted values of all rows to the values that can be stored.
Nearest = Callable[[int, Array], Array]


def require_samples(module: Module, name: str) -> None:
    """
    Raises:
        RecipeError: there is no calibration data.
    """
    if module.calibration is None:
        raise RecipeError(
            f"{name}: fit = outputs needs calibration data. Give --calibration, or fit = weights."
        )


def hessians(module: Module, weights: Iterable[ir.Value], ctx: Context) -> dict[ir.Value, Array]:
    """H of the weights that are read by linear layers only, float64 [groups, n, n], damped.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    assert module.calibration is not None, "callers ask for samples first"
    readers = {
        value: [node for node, _ in value.uses()]
        for value in weights
        if all(_has_rows(node) for node, _ in value.uses())
    }
    nodes = [node for several in readers.values() for node in several]
    ctx.progress("measuring what layers read")
    moments = input_moments(module, module.calibration, nodes)
    found = {}
    for value, several in readers.items():
        total = sum(moments[str(node.outputs[0].name)].hessian for node in several)
        found[value] = _damped(np.asarray(total))
    return found


def _has_rows(node: ir.Node) -> bool:
    """Whether H is known of what a node reads."""
    if not is_linear(node) or constant(node.inputs[0]) is not None or attribute_int(node, "transA", 0):
        return False
    weight = constant(node.inputs[1])
    matrix = weight is not None and weight.ndim == 2
    return node.op_type == "Conv" or (matrix and node.op_type in ("Gemm", "MatMul"))


def _damped(hessian: Array) -> Array:
    places = np.arange(hessian.shape[-1])
    diagonal = hessian[:, places, places]
    hessian[:, places, places] += np.maximum(_DAMPING * diagonal.mean(axis=1, keepdims=True), 1e-12)
    return hessian


def layer_rows(value: ir.Value) -> Array:
    """The weights as float64 [groups, rows, n], in the order of their H."""
    weight = constant(value)
    assert weight is not None, value.name
    return weight_rows(next(iter(value.uses())).node, weight)


def sweep(rows: Array, stored: Array, hessian: Array, nearest: Nearest) -> Array:
    """Once over all columns: ``stored`` with a smaller error, or the same.

    Args:
        rows: the real weights, [rows, n].
        stored: what they are now.
        hessian: [n, n].
    """
    now = stored.astype(np.float64)
    gradient = (rows - now) @ hessian
    for j in range(rows.shape[1]):
        better = nearest(j, now[:, j] + gradient[:, j] / hessian[j, j])
        moved = better - now[:, j]
        if moved.any():
            gradient -= moved[:, None] * hessian[j]
            now[:, j] = better
    return now


@dataclass(frozen=True)
class Grid:
    """Integers that rows of weights may be, ``scale * (q - zero)``; both [groups, rows, n].

    Attributes:
        limits: smallest and largest q.
        free: scales are one a row, without zero points, and may be moved.
    """

    scale: Array
    zero: Array
    limits: tuple[int, int]
    free: bool


def fitted_integers(rows: Array, hessian: Array, grid: Grid) -> tuple[Array, Array]:
    """Integers [groups, rows, n] and scales [groups, rows, n or 1], found in turns where scales are free.

    Args:
        rows: [groups, rows, n].
        hessian: [groups, n, n].
    """
    scale, zero = (np.broadcast_to(part, rows.shape).astype(np.float64) for part in (grid.scale, grid.zero))
    integers = np.clip(np.rint(rows / scale + zero), *grid.limits)
    for _ in range(_SWEEPS if grid.free else 2):
        for group in range(len(rows)):
            places = _on_grid(scale[group], zero[group], grid.limits)
            real = (integers[group] - zero[group]) * scale[group]
            swept = sweep(rows[group], real, hessian[group], places)
            integers[group] = np.rint(swept / scale[group] + zero[group])
        if grid.free:
            scale = np.broadcast_to(_best_scale(rows, hessian, integers, scale[..., :1]), rows.shape)
    return integers, scale


def _on_grid(scale: Array, zero: Array, limits: tuple[int, int]) -> Nearest:
    def nearest(column: int, wanted: Array) -> Array:
        s, z = scale[:, column], zero[:, column]
        return np.asarray((np.clip(np.rint(wanted / s + z), *limits) - z) * s)

    return nearest


def _best_scale(rows: Array, hessian: Array, integers: Array, scale: Array) -> Array:
    """One a row, rounded to float32 as it will be stored; what it was for a row of zeros."""
    weighted = integers @ hessian
    over, under = (weighted * rows).sum(-1, keepdims=True), (weighted * integers).sum(-1, keepdims=True)
    best = np.where((under > 0) & (over > 0), over / np.where(under > 0, under, 1.0), scale)
    return np.asarray(best.astype(np.float32).astype(np.float64))


def best_levels(rows: Array, hessian: Array, indices: Array, count: int, shared: bool) -> Array:
    """Levels with the smallest error for given indices, float64 [1 or groups * rows, count].

    A level that no weight has becomes 0.

    Args:
        rows, indices: [groups, rows, n].
        hessian: [groups, n, n].
        shared: one table for all rows.
    """
    groups, height, _ = rows.shape
    tables = 1 if shared else groups * height
    squares, products = np.zeros((tables, count, count)), np.zeros((tables, count))
    for number in range(groups * height):
        group, row = divmod(number, height)
        chosen = np.zeros((rows.shape[2], count))
        chosen[np.arange(len(chosen)), indices[group, row]] = 1.0
        weighted = hessian[group] @ chosen
        squares[0 if shared else number] += chosen.T @ weighted
        products[0 if shared else number] += weighted.T @ rows[group, row]
    places = np.arange(count)
    squares[:, places, places] += 1e-9 * np.trace(squares, axis1=1, axis2=2)[:, None] + 1e-30
    return np.asarray(np.linalg.solve(squares, products[..., None])[..., 0])


def fitted_levels(
    rows: Array, hessian: Array, count: int, *, shared: bool, iterations: int
) -> tuple[Array, Array]:
    """Tables [1 or rows in all, count], ascending, and indices [rows in all, n], found in turns.

    Starts from k-means with the diagonal of H as importance.

    Args:
        rows: [groups, rows, n].
        hessian: [groups, n, n].
        iterations: of k-means.
    """
    groups, height, width = rows.shape
    flat, everything = rows.reshape(-1, width), hessian.diagonal(axis1=1, axis2=2)
    importance = np.repeat(everything, height, axis=0)
    if shared:
        values = kmeans(flat.reshape(-1), importance.reshape(-1), count, iterations)[np.newaxis]
    else:
        values = np.stack([kmeans(*pair, count, iterations) for pair in zip(flat, importance, strict=True)])
    indices = _nearest_indices(values, flat)
    for _ in range(_SWEEPS):
        tables = np.broadcast_to(values, (len(flat), count)).reshape(groups, height, count)
        stored = np.take_along_axis(tables.reshape(-1, count), indices, 1).reshape(rows.shape)
        for group in range(groups):
            stored[group] = sweep(rows[group], stored[group], hessian[group], _in_tables(tables[group]))
        indices = _nearest_indices(values, stored.reshape(-1, width))
        values = best_levels(rows, hessian, indices.reshape(rows.shape), count, shared)
        order = np.argsort(values, axis=1, kind="stable")
        values = np.take_along_axis(values, order, 1)
        places = np.broadcast_to(np.argsort(order, axis=1, kind="stable"), (len(flat), count))
        indices = np.take_along_axis(places, indices, 1)
    return values, indices


def _nearest_indices(values: Array, flat: Array) -> Array:
    """Of the nearest level of each row's table, or of the one table."""
    tables = np.broadcast_to(values, (len(flat), values.shape[1]))
    return np.stack([nearest_level(row, table) for row, table in zip(flat, tables, strict=True)]).astype(
        np.int64
    )


def _in_tables(tables: Array) -> Nearest:
    """The nearest of each row's levels, [rows, levels]."""

    def nearest(column: int, wanted: Array) -> Array:
        found = np.abs(tables - wanted[:, None]).argmin(axis=1)
        return np.asarray(tables[np.arange(len(tables)), found])

    return nearest
