"""Views: logical axes over dense memory, checked against NumPy."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.program.lower.view import View, channels_last, view_of


def logical(view: View) -> np.ndarray:
    """The memory offset of every element, in the view's logical shape."""
    total = np.zeros((1,) * view.rank, np.int64)
    for axis in range(view.rank):
        total = total + view.offsets(axis).reshape([-1 if a == axis else 1 for a in range(view.rank)])
    return total


@st.composite
def factorings(draw: st.DrawFn, elements: int) -> tuple[int, ...]:
    """A shape of so many elements."""
    shape: list[int] = []
    while elements > 1 and len(shape) < 4:
        size = draw(st.sampled_from([d for d in range(1, elements + 1) if elements % d == 0]))
        shape.append(size)
        elements //= size
    return (*shape, elements)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.data())
def test_moves_agree_with_numpy(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple))
    order = data.draw(st.permutations(range(len(shape))))
    view = view_of("x", shape, order)
    array = np.arange(prod(shape)).reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    assert np.array_equal(logical(view), array)
    for _ in range(4):
        if data.draw(st.booleans()):
            permutation = data.draw(st.permutations(range(view.rank)))
            view, array = view.transposed(permutation), array.transpose(permutation)
        else:
            wanted = data.draw(factorings(prod(shape)))
            reshaped = view.reshaped(wanted)
            if reshaped is None:
                continue
            view, array = reshaped, array.reshape(wanted)
        assert view.shape == array.shape
        assert np.array_equal(logical(view), array)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.data())
def test_order_is_the_order_of_memory(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=4).map(tuple))
    view = view_of("x", shape, data.draw(st.permutations(range(len(shape)))))
    order = view.order()
    assert order is not None
    assert np.array_equal(logical(view).transpose(order).reshape(-1), np.arange(prod(shape)))


def test_flattened_channels_last_image_keeps_its_bytes() -> None:
    image = view_of("x", (1, 3, 4, 5), channels_last(4))
    flat = image.reshaped((1, 60))
    assert flat is not None
    assert flat.axes == ((), ((3, 1), (20, 3)))
    assert flat.order() is None
    assert flat.reshaped((1, 3, 4, 5)) == image


def test_channels_can_be_split_without_moving_bytes() -> None:
    split = view_of("x", (1, 6, 4, 4), channels_last(4)).reshaped((1, 2, 3, 4, 4))
    assert split is not None
    assert split.order() == (0, 3, 4, 1, 2)


def test_uneven_cut_of_a_transposed_matrix_is_refused() -> None:
    assert view_of("x", (6, 4), (1, 0)).reshaped((8, 3)) is None


def test_axes_of_size_one_fit_both_layouts() -> None:
    assert view_of("x", (1, 8, 1, 1)).order() == (0, 2, 3, 1)
    assert view_of("x", (1, 1, 8, 8)).is_dense(channels_last(4))
