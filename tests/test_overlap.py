"""How far outputs have to begin before their inputs: nothing is overwritten unread, and no byte is wasted."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irshrink.backends.tvm.kernels.overlap import rows_distance, tiles_distance
from irshrink.backends.tvm.kernels.ring import Ring
from irshrink.backends.tvm.kernels.vector.geometry import Rows
from irshrink.program.ops import Window

Shape = tuple[int, int, int, int]
#: One step of a kernel: the elements of the input that it reads, how much of the output is written after it.
Step = tuple[set[int], int]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Window, Shape, Shape]:
    """A window over a small image."""
    kernel, strides, dilations = ((draw(st.integers(1, 4)), draw(st.integers(1, most))) for most in (4, 3, 2))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    window = Window(kernel=kernel, strides=strides, pads=pads, dilations=dilations)
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    out = window.output(height, width)
    assume(min(out) >= 1)
    channels = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    return window, (1, height, width, channels[0]), (1, *out, channels[1])


def reads(window: Window, x: Shape, pixel: tuple[int, int]) -> set[int]:
    """Elements of the image under the window of an output pixel."""
    found = set()
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            row = pixel[0] * window.strides[0] - window.pads[0] + ky * window.dilations[0]
            column = pixel[1] * window.strides[1] - window.pads[1] + kx * window.dilations[1]
            if 0 <= row < x[1] and 0 <= column < x[2]:
                start = (row * x[2] + column) * x[3]
                found |= set(range(start, start + x[3]))
    return found


def harmless(steps: list[Step], distance: int, reads_first: bool) -> bool:
    """Whether an output that begins ``distance`` before the input overwrites nothing that is read later."""
    for index, (_, written) in enumerate(steps):
        later = [elements for elements, _ in steps[index + 1 if reads_first else index :]]
        if any(element + distance < written for elements in later for element in elements):
            return False
    return True


@settings(deadline=None, max_examples=120, derandomize=True)
@given(layers(), st.integers(1, 4), st.booleans(), st.booleans())
def test_tiles(case: tuple[Window, Shape, Shape], pixels: int, reads_first: bool, singles: bool) -> None:
    window, x, y = case
    count = y[1] * y[2]
    assume(pixels <= count)
    starts = [min(start, count - pixels) for start in range(0, count, pixels)]
    groups = [range(start, start + pixels) for start in starts]
    if singles:
        whole = count - count % pixels
        groups = [range(start, start + pixels) for start in range(0, whole, pixels)]
        groups += [range(start, start + 1) for start in range(whole, count)]
    steps = [
        (set().union(*(reads(window, x, divmod(p, y[2])) for p in group)), group.stop * y[3])
        for group in groups
    ]
    distance = tiles_distance(window, x, y, pixels, reads_first, singles)
    assert harmless(steps, distance, reads_first)
    behind = distance == -x[1] * x[2] * x[3]
    assert behind or not harmless(steps, distance - 1, reads_first)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(layers(), st.integers(1, 4), st.booleans())
def test_tiles_that_end_with_rows(case: tuple[Window, Shape, Shape], pixels: int, reads_first: bool) -> None:
    window, x, y = case
    assume(pixels <= y[2])
    firsts = [min(column, y[2] - pixels) for column in range(0, y[2], pixels)]
    steps = []
    for row in range(y[1]):
        for first in firsts:
            seen = [reads(window, x, (row, column)) for column in range(first, first + pixels)]
            steps.append((set().union(*seen), (row * y[2] + first + pixels) * y[3]))
    distance = tiles_distance(window, x, y, pixels, reads_first, by_rows=True)
    assert harmless(steps, distance, reads_first)
    behind = distance == -x[1] * x[2] * x[3]
    assert behind or not harmless(steps, distance - 1, reads_first)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(layers(), st.integers(1, 3))
def test_padded_rows_of_vectors(case: tuple[Window, Shape, Shape], down: int) -> None:
    window, x, y = case
    stride, span = down * window.strides[0], (down - 1) * window.strides[0] + window.extent()[0]
    rows = Rows(True, window.kernel[0], span, stride, window.dilations[0])
    distance = rows.distance(window, x, y, down)
    row, steps, have = x[2] * x[3], [], 0
    for oy in range(y[1]):
        until = min(max(oy // down * stride - window.pads[0] + span, 0), x[1])
        steps.append((set(range(have * row, until * row)), (oy + 1) * y[2] * y[3]))
        have = max(have, until)
    assert harmless(steps, distance, reads_first=True)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(layers())
def test_rings(case: tuple[Window, Shape, Shape]) -> None:
    window, x, y = case
    ring = Ring.of(window, x, y, 0)
    read = [max(oy * window.strides[0] - window.pads[0] + ring.span, 0) for oy in range(y[1])]
    assert ring.distance == rows_distance(x, y, read)
    row, steps, have = x[2] * x[3], [], 0
    for oy in range(y[1]):
        until = min(read[oy], x[1])
        steps.append((set(range(have * row, until * row)), (oy + 1) * y[2] * y[3]))
        have = max(have, until)
    assert harmless(steps, ring.distance, reads_first=True)


def test_images_follow_each_other() -> None:
    window, x, y = Window(kernel=(1, 1)), (3, 2, 2, 4), (3, 2, 2, 6)
    assert tiles_distance(window, (1, *x[1:]), (1, *y[1:]), 1, True) == 3 * 6 - 3 * 4
    assert tiles_distance(window, x, y, 1, True) == (3 * 24) - (3 * 16)
