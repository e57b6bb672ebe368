"""Second moments of what layers read: what rounding methods need to know of the data.

The output of a linear layer with weights W is W x, so weights that are off by D cost

    E |D x|^2 = tr(D H D^T),      H = E[x x^T]

with x the vectors of :mod:`irshrink.calibration.patches`: one ``n x n`` matrix a group holds all that a
layer's squared error depends on, however many samples there were (Hassibi and Stork, *Second order
derivatives for network pruning: optimal brain surgeon*, NeurIPS 1992, for one layer). Sums are float64; of
large maps some positions are drawn, by a generator seeded with the layer and the sample alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.calibrate import Progress, each_sample
from irshrink.calibration.patches import input_rows, weight_rows
from irshrink.graph.edit import constant

if TYPE_CHECKING:
    from irshrink.module import Module
    from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Vectors wanted in all, over the samples: so many, and so many for each of their elements.
LEAST_ROWS, ROWS_PER_ELEMENT = 4096, 8
#: Bytes of matrices that are summed up at the same time; more need more runs over the samples.
MOMENTS_AT_ONCE = 512 * 2**20


@dataclass
class Moments:
    """Sums over the vectors that a layer reads; with a reference, of what it should have read as well.

    Attributes:
        count: vectors seen.
        total: their sum, float64 [g, n].
        second: the sum of ``x x^T``, float64 [g, n, n].
        reference: the sum of the reference vectors r, as ``total``; zero where there is no reference.
        cross: the sum of ``r x^T``, as ``second``; None where there is no reference.
    """

    count: int
    total: Array
    second: Array
    reference: Array
    cross: Array | None

    @classmethod
    def zero(cls, groups: int, size: int, paired: bool = False) -> Moments:
        square = np.zeros((groups, size, size))
        return cls(
            count=0,
            total=np.zeros((groups, size)),
            second=square,
            reference=np.zeros((groups, size)),
            cross=np.zeros_like(square) if paired else None,
        )

    def update(self, rows: Array, reference: Array | None = None) -> None:
        """Add vectors [g, positions, n], and the ones at the same places of the reference."""
        wide = rows.astype(np.float64)
        self.count += wide.shape[1]
        self.total += wide.sum(axis=1)
        self.second += wide.swapaxes(1, 2) @ wide
        if reference is not None and self.cross is not None:
            other = reference.astype(np.float64)
            self.reference += other.sum(axis=1)
            self.cross += other.swapaxes(1, 2) @ wide

    @property
    def mean(self) -> Array:
        """E[x], [g, n]."""
        return np.asarray(self.total / max(1, self.count))

    @property
    def reference_mean(self) -> Array:
        """E[r], [g, n]; that of the vectors themselves where there is no reference."""
        return self.mean if self.cross is None else np.asarray(self.reference / max(1, self.count))

    @property
    def cross_moment(self) -> Array | None:
        """E[r x^T], [g, n, n], or None."""
        return None if self.cross is None else np.asarray(self.cross / max(1, self.count))

    @property
    def hessian(self) -> Array:
        """E[x x^T], [g, n, n]."""
        return np.asarray(self.second / max(1, self.count))


def rows_per_sample(size: int, samples: int) -> int:
    """How many vectors of ``size`` elements are drawn from each of so many samples."""
    return -(-max(LEAST_ROWS, ROWS_PER_ELEMENT * size) // max(1, samples))


def row_generator(layer: int, sample: int) -> np.random.Generator:
    """The generator that draws positions; the same for every run."""
    return np.random.default_rng([layer, sample])


def input_moments(
    module: Module, samples: Samples, nodes: Sequence[ir.Node], *, progress: Progress | None = None
) -> dict[str, Moments]:
    """Moments of what each layer reads in the float model, by the name of its first output.

    Args:
        nodes: Conv, ConvTranspose, Gemm or MatMul with constant weights, none that
            :func:`irshrink.calibration.patches.why_no_rows` refuses.
        progress: called after every sample with runs done and runs in all.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    found: dict[str, Moments] = {}
    batches = list(_batches(nodes))
    for number, batch in enumerate(batches):
        values = list(dict.fromkeys(str(node.inputs[0].name) for _, node, _ in batch if node.inputs[0]))
        for sample, arrays in enumerate(each_sample(module, samples, values)):
            for index, node, weight in batch:
                _add(found, index, node, weight, arrays, sample, len(samples))
            if progress is not None:
                progress(number * len(samples) + sample + 1, len(batches) * len(samples))
    return found


def _add(
    found: dict[str, Moments],
    index: int,
    node: ir.Node,
    weight: Array,
    arrays: dict[str, Array],
    sample: int,
    samples: int,
) -> None:
    groups, _, size = weight_rows(node, weight).shape
    source = node.inputs[0]
    assert source is not None
    count = rows_per_sample(size, samples)
    rows = input_rows(node, weight.shape, arrays[str(source.name)], count, row_generator(index, sample))
    found.setdefault(str(node.outputs[0].name), Moments.zero(groups, size)).update(rows)


def _batches(nodes: Sequence[ir.Node]) -> Iterator[list[tuple[int, ir.Node, Array]]]:
    """Layers whose matrices fit in memory together: number, node, weights."""
    batch: list[tuple[int, ir.Node, Array]] = []
    used = 0
    for index, node in enumerate(nodes):
        weight = constant(node.inputs[1])
        assert weight is not None, "callers give layers with constant weights"
        groups, _, size = weight_rows(node, weight).shape
        needed = groups * size * size * 8
        if batch and used + needed > MOMENTS_AT_ONCE:
            yield batch
            batch, used = [], 0
        batch.append((index, node, weight))
        used += needed
    if batch:
        yield batch
