"""Loop nests over strided arrays: as few loops as the strides allow, the same elements in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backends.tvm.kernels import kernel_for
from irshrink.backends.tvm.kernels.axes import broadcast_strides, collapse, row_major
from irshrink.errors import InternalError
from irshrink.program.ops import Transpose
from irshrink.program.program import Program, Tensor
from irshrink.target import load_target

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_collapsed_nests_walk_like_the_original(data: st.DataObject) -> None:
    """Any transposed or broadcast array, read through the collapsed loops, in the order of the output."""
    shape = data.draw(shapes)
    permutation = data.draw(st.permutations(range(len(shape))))
    kept = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    target = tuple(shape[axis] for axis in permutation)
    operand = tuple(n if keep else 1 for n, keep in zip(target, kept, strict=True))
    x, z = (np.arange(int(np.prod(s))).reshape(s) for s in (shape, operand))
    steps = [row_major(shape)[axis] for axis in permutation]
    nest = collapse(target, steps, broadcast_strides(operand, target), row_major(target))
    index = np.indices(nest.extents).reshape(nest.rank, -1)
    x_at, z_at, y_at = (np.tensordot(strides, index, 1) for strides in nest.strides)
    np.testing.assert_array_equal(y_at, np.arange(x.size))
    np.testing.assert_array_equal(x_at, x.transpose(permutation).reshape(-1))
    np.testing.assert_array_equal(z_at, np.broadcast_to(z, target).reshape(-1))


def test_adjacent_axes_become_one_loop() -> None:
    """NHWC to NCHW of one image: a transpose of a matrix, whatever H, W and N are."""
    nest = collapse((1, 3, 7, 5), (105, 1, 15, 3), row_major((1, 3, 7, 5)))
    assert nest.extents == (3, 35)
    assert nest.strides == ((1, 3), (35, 1))
    assert collapse((1, 1), (1, 1)).extents == (1,)


def test_an_element_size_without_kernel_is_refused() -> None:
    op = Transpose(name="turn", origin=(), inputs=("x",), output="y", permutation=(1, 0))
    tensors = {"x": Tensor("x", (2, 3), "float64"), "y": Tensor("y", (3, 2), "float64")}
    with pytest.raises(InternalError, match="elements of 8 bytes"):
        kernel_for(op, Program(tensors, [op], [], []), load_target("host"))
