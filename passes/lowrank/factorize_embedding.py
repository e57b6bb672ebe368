"""Tables of embeddings as a table of short rows and a matrix that makes them long again.

    E [rows, n] ~ A [rows, r] B [r, n] + 1 m^T

Looking a row up in A and multiplying it by B takes the place of looking it up in E (Lan et al., *ALBERT: a
lite BERT for self-supervised learning of language representations*, ICLR 2020, section 3.1, who train it so;
Acharya et al., *Online embedding compression for text classification using low rank matrix factorization*,
AAAI 2019, who start from the SVD as here). m is the mean row. All rows count alike: which of them a task
needs, a few hundred samples do not tell.

A table that is also the output projection of a language model (tied weights) stays one table: the projection
h E^T = (h B^T) A^T reads the same factors, without m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from irshrink.changes import ChangeLog
from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_float,
    attribute_int,
    base_name,
    become,
    constant,
    describe,
    insert_before,
    is_op,
    static_shape,
)
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.lowrank.problem import positive
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.pipeline import Context, PassResult

Array = np.ndarray[Any, np.dtype[Any]]
By = Literal["energy", "error", "parameters", "rank"]


@dataclass(frozen=True)
class FactorizeEmbedding:
    """Replace tables of embeddings by shorter ones and a matrix.

    Attributes:
        by: what the budget is about: ``energy`` that is kept of the table about its mean row, relative
            ``error``, ``parameters`` that are left, or the largest ``rank``.
        budget: how much of that; a share but for ``rank``.
        least_rows: tables with fewer stay.
        keep: Gather nodes whose table stays, by name; ``*`` and ``?`` as in file names.
    """

    name: ClassVar[str] = "factorize-embedding"
    lossy: ClassVar[bool] = True

    by: By = "parameters"
    budget: float = 0.5
    least_rows: int = 256
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.by == "rank":
            if self.budget < 1:
                raise ValueError("by = rank takes a budget of 1 or more")
        elif not 0 < self.budget <= 1:
            raise ValueError(f"budget is {self.budget}; it must be above 0 and at most 1")

    def run(self, module: Module, ctx: Context) -> PassResult:
        require_matches(module.graph, self.keep, "keep")
        log, done = ChangeLog(module.graph), 0
        for value in _tables(module.graph, self.least_rows):
            try:
                done += self._factorize(module, value, log)
            except Refusal as reason:
                ctx.note(f"table '{value.name}' stays whole: {reason}")
        if not done:
            return PassResult(False, stats={"factorized": 0})
        infer_shapes(module.model)
        return PassResult(True, stats={"factorized": done, **log.stats(module.graph)})

    def _factorize(self, module: Module, value: ir.Value, log: ChangeLog) -> int:
        gathers, projections = _readers(module.graph, value)
        if any(matches(node, self.keep) for node in gathers):
            raise Refusal("it is to be kept")
        table = _array(value)
        if not np.isfinite(table).all():
            raise Refusal("it is not finite")
        split = _split(table, centred=not projections)
        used = self._rank(split.energies, table.shape)
        arrays = [
            array.astype(table.dtype) for array in (split.rows[:, :used], split.columns[:used], split.mean)
        ]
        short = add_constant(module.graph, arrays[0], f"{value.name}_rows")
        wide = add_constant(module.graph, arrays[1], f"{value.name}_columns")
        kept = float(split.energies[:used].sum() / (split.energies.sum() or 1.0))
        for node in (*gathers, *projections):
            name = base_name(node)
            if node in projections:
                into = _project(node, short, wide)
            else:
                into = _look_up(node, short, wide, arrays[2] if split.mean.any() else None)
            detail = f"table of {table.shape[0]:,} rows at rank {used} of {table.shape[1]}"
            text = f"{detail}, {100 * kept:.2f} % of the energy"
            log.because(name, kind="rank", detail=text, output_error=1 - kept, into=into)
        return 1

    def _rank(self, energies: Array, shape: tuple[int, ...]) -> int:
        """What the budget gives, where that saves something."""
        rows, size = shape
        total = float(energies.sum()) or 1.0
        tail = 1 - np.cumsum(energies) / total
        if self.by in ("energy", "error"):
            allowed = 1 - self.budget if self.by == "energy" else self.budget**2
            used = int(np.argmax(tail <= allowed + 1e-12)) + 1
        else:
            most = self.budget * rows * size / (rows + size) if self.by == "parameters" else self.budget
            used = min(int(most), size)
        if used < 1:
            raise Refusal(f"{self.by} = {self.budget:g} leaves it no rank at all")
        if used * (rows + size) >= rows * size:
            raise Refusal(f"at rank {used} of {size}, which {self.by} = {self.budget:g} asks for, it grows")
        return used


@dataclass(frozen=True)
class _Split:
    """Attributes:
    energies: of the table along its principal axes, falling, [n].
    rows, columns: factors of full rank, [rows, n] and [n, n]; columns of ``rows`` have a mean square of 1.
    mean: row, zero where the table is not centred.
    """

    energies: Array
    rows: Array
    columns: Array
    mean: Array


def _split(table: Array, centred: bool) -> _Split:
    real = table.astype(np.float64)
    mean = real.mean(axis=0) if centred else np.zeros(real.shape[1])
    gram = (real - mean).T @ (real - mean)
    values, vectors = np.linalg.eigh(gram)
    energies, axes = np.maximum(values[::-1], 0.0), positive(vectors[:, ::-1].T)
    sizes = np.sqrt(np.maximum(energies / len(real), 1e-24 * max(float(energies[0]), 1e-300)))
    return _Split(energies, (real - mean) @ axes.T / sizes, axes * sizes[:, np.newaxis], mean)


def _tables(graph: ir.Graph, least_rows: int) -> list[ir.Value]:
    """Matrices of floats that rows are looked up in, in the order of the graph."""
    found: dict[ir.Value, None] = {}
    for node in graph:
        value = node.inputs[0] if is_op(node, "Gather") else None
        array = constant(value)
        if value is None or array is None or array.ndim != 2 or array.dtype.kind != "f":
            continue
        if attribute_int(node, "axis", 0) in (0, -2) and len(array) >= least_rows:
            found[value] = None
    return list(found)


def _readers(graph: ir.Graph, value: ir.Value) -> tuple[list[ir.Node], list[ir.Node]]:
    """Who looks rows up, and who multiplies by the table transposed.

    Raises:
        Refusal: someone reads it in another way.
    """
    if value.is_graph_output():
        raise Refusal("it is an output of the model")
    gathers, projections = [], []
    for node, index in value.uses():
        if node.graph is not graph:
            raise Refusal(f"{describe(node)} inside another node reads it")
        if is_op(node, "Gather") and index == 0 and attribute_int(node, "axis", 0) in (0, -2):
            gathers.append(node)
        elif is_op(node, "Gemm") and index == 1 and attribute_int(node, "transB", 0):
            if attribute_int(node, "transA", 0):
                raise Refusal(f"{describe(node)} reads it with its input transposed")
            projections.append(node)
        else:
            raise Refusal(f"{describe(node)} reads it as well")
    return gathers, [*projections, *_twins(graph, value)]


def _twins(graph: ir.Graph, value: ir.Value) -> list[ir.Node]:
    """Products with a constant that is the table transposed: a tied projection after constant folding."""
    table = _array(value)
    found = []
    for node in graph:
        weight = node.inputs[1] if is_op(node, "MatMul") else None
        if weight is None or static_shape(weight) != table.shape[::-1]:
            continue
        array = constant(weight)
        if array is not None and array.dtype == table.dtype and np.array_equal(array, table.T):
            found.append(node)
    return found


def _look_up(node: ir.Node, short: ir.Value, wide: ir.Value, mean: Array | None) -> list[str]:
    """Gather from the short table, then the matrix; the node becomes the last of them. Names of all."""
    graph = node.graph
    assert graph is not None
    row = insert_before(node, "Gather", [short, node.inputs[1]])
    if mean is None:
        become(node, "MatMul", [row.outputs[0], wide])
        return [base_name(row), base_name(node)]
    product = insert_before(node, "MatMul", [row.outputs[0], wide])
    become(node, "Add", [product.outputs[0], add_constant(graph, mean, f"{wide.name}_mean")])
    return [base_name(row), base_name(product), base_name(node)]


def _project(node: ir.Node, short: ir.Value, wide: ir.Value) -> list[str]:
    """h E^T as (h B^T) A^T."""
    source = node.inputs[0]
    if is_op(node, "Gemm"):
        first = insert_before(node, "Gemm", [source, wide], {"transB": 1})
        factors = {
            key: attribute_float(node, key, 1.0) for key in ("alpha", "beta") if key in node.attributes
        }
        become(node, "Gemm", [first.outputs[0], short, *node.inputs[2:]], {"transB": 1, **factors})
        return [base_name(first), base_name(node)]
    turned = [insert_before(node, "Transpose", [one], {"perm": [1, 0]}).outputs[0] for one in (wide, short)]
    first = insert_before(node, "MatMul", [source, turned[0]])
    become(node, "MatMul", [first.outputs[0], turned[1]])
    return [base_name(first), base_name(node)]


def _array(value: ir.Value) -> Array:
    array = constant(value)
    assert array is not None, "tables are constants"
    return array
