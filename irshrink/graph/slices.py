"""What a Slice takes, as Python's slices."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from irshrink.graph.edit import Refusal, constant, describe, input_of


def slice_windows(node: ir.Node, shape: Sequence[int]) -> tuple[slice, ...]:
    """One slice for every axis of the data, of ``shape``: start and stop in [0, size], step > 0.

    Raises:
        Refusal: a bound is not constant, or a step goes backwards.
    """
    parts = [constant(input_of(node, index)) for index in range(1, 5)]
    if any(part is None and input_of(node, index) is not None for index, part in enumerate(parts, start=1)):
        raise Refusal(f"what {describe(node)} takes is not constant")
    starts, ends, axes, steps = parts
    if starts is None or ends is None:
        raise Refusal(f"what {describe(node)} takes is not constant")
    windows = [slice(0, size, 1) for size in shape]
    for place in range(len(starts)):
        axis = (place if axes is None else int(axes[place])) % len(shape)
        step = 1 if steps is None else int(steps[place])
        if step < 1:
            raise Refusal(f"{describe(node)} reverses an axis")
        bounds = slice(int(starts[place]), int(ends[place]), step).indices(shape[axis])
        windows[axis] = slice(*bounds)
    return tuple(windows)
