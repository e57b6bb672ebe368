"""Ranges of a float model's activations on real samples.

The model runs in ONNX Runtime one sample at a time with the wanted values as extra outputs; observers keep
a few numbers of each (:mod:`irshrink.calibration.observers`), so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir

from irshrink.calibration.curves import Curve, Functions, sampled, without_flat_ends
from irshrink.calibration.importance import channel_importance
from irshrink.calibration.observers import (
    ChannelExtremes,
    Histogram,
    MinMax,
    Range,
    entropy_range,
    mse_range,
    percentile_range,
)
from irshrink.errors import ModelError

if TYPE_CHECKING:
    from irshrink.module import Module
    from irshrink.samples import Samples

__all__ = [
    "CalibrationMethod",
    "Progress",
    "Range",
    "calibrate",
    "channel_extremes",
    "channel_means",
    "each_sample",
]

Array = np.ndarray[Any, np.dtype[Any]]
#: Called after every sample with how many are done and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CalibrationMethod:
    """How a range is chosen from the values seen.

    Attributes:
        name: ``minmax`` everything; ``percentile``, ``entropy``, ``mse`` and ``output`` clip outliers.
        ``mse`` takes
            the range with the least squared error of the value, ``output`` that with the least squared
            error of the layers that read it.
        percentile: of the values that stay unclipped, for ``percentile``.
        symmetric: the quantized range will be symmetric around zero (``mse`` searches accordingly).
    """

    name: Literal["minmax", "percentile", "entropy", "mse", "output"] = "minmax"
    percentile: float = 99.99
    symmetric: bool = False


def calibrate(
    module: Module,
    samples: Samples,
    method: CalibrationMethod,
    values: Sequence[str],
    *,
    unclipped: Collection[str] = (),
    functions: Mapping[str, Functions] | None = None,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """The range of each named float value over all samples.

    All methods but ``minmax`` read the samples twice: for the ends, then for a histogram between them. Where
    the module takes over what was measured on another variant of it, no sample is read.

    Args:
        values: inputs, intermediates or outputs of the graph.
        unclipped: of these, the ones whose full range is kept whatever the method.
        functions: for values that nothing else reads: ``mse`` and ``output`` look at the error of what the
            functions give, and leave out ends of a range in which they are flat.

    Raises:
        ModelError: ONNX Runtime cannot run the model, or a value becomes NaN or infinite.
    """
    if module.taken_over is not None:
        return module.taken_over.ranges_of(method, values)
    ranges = _measure(module, samples, method, values, unclipped, functions or {}, progress)
    module.measured.add_ranges(method, ranges)
    return ranges


def _measure(
    module: Module,
    samples: Samples,
    method: CalibrationMethod,
    values: Sequence[str],
    unclipped: Collection[str],
    functions: Mapping[str, Functions],
    progress: Progress | None,
) -> dict[str, Range]:
    clipped = [name for name in values if name not in unclipped and method.name != "minmax"]
    total = len(samples) * (2 if clipped else 1)
    ends = {name: MinMax() for name in values}
    for done, arrays in enumerate(each_sample(module, samples, values), start=1):
        for name, observer in ends.items():
            observer.update(arrays[name])
            _check_finite(observer, name, done)
        if progress is not None:
            progress(done, total)
    ranges = {name: observer.range() for name, observer in ends.items()}
    if not clipped:
        return ranges
    measures = method.name in ("mse", "output")
    curves = {
        name: sampled(functions[name], ranges[name]) for name in clipped if measures and name in functions
    }
    histograms = {name: Histogram(ranges[name].min, ranges[name].max) for name in clipped}
    importance = _importance(module.graph, clipped, functions) if method.name == "output" else {}
    for done, arrays in enumerate(each_sample(module, samples, clipped), start=1):
        for name, histogram in histograms.items():
            if name in importance:
                histogram.update_weighted(arrays[name], *importance[name])
            else:
                histogram.update(arrays[name])
        if progress is not None:
            progress(len(samples) + done, total)
    ranges |= {name: _clipped(histogram, method, curves.get(name)) for name, histogram in histograms.items()}
    return ranges | {name: without_flat_ends(ranges[name], curve) for name, curve in curves.items()}


def _importance(
    graph: ir.Graph, values: Sequence[str], functions: Mapping[str, Functions]
) -> dict[str, tuple[int, Array]]:
    """Of channels to the layers that read a value, or that read the one function of it that there is."""
    results = {name: read.results[0] for name, read in functions.items() if len(read.results) == 1}
    known = channel_importance(graph, list(dict.fromkeys((*values, *results.values()))))
    wanted = {name: results.get(name, name) for name in values}
    return {name: known[result] for name, result in wanted.items() if result in known}


def channel_means(
    module: Module, samples: Samples, values: Sequence[str], *, progress: Progress | None = None
) -> dict[str, Array]:
    """Mean of each named value over the samples, per entry of axis 1 (channels), float64 [channels].

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    if module.taken_over is not None:
        return module.taken_over.means_of(values)
    sums: dict[str, Array] = {}
    for done, arrays in enumerate(each_sample(module, samples, values), start=1):
        for name in values:
            array = arrays[name]
            axes = tuple(axis for axis in range(array.ndim) if axis != 1)
            mean = array.mean(axis=axes, dtype=np.float64)
            sums[name] = sums[name] + mean if name in sums else mean
        if progress is not None:
            progress(done, len(samples))
    means = {name: total / len(samples) for name, total in sums.items()}
    module.measured.means.update(means)
    return means


def channel_extremes(
    module: Module, samples: Samples, axes: Mapping[str, int], step: str, *, progress: Progress | None = None
) -> dict[str, ChannelExtremes]:
    """Smallest and largest value of each channel over the samples.

    Args:
        axes: the axis that counts channels, by value.
        step: the pass that asks: each may find the model changed by those before it.

    Raises:
        ModelError: ONNX Runtime cannot run the model, or a value becomes NaN or infinite.
    """
    if module.taken_over is not None:
        return module.taken_over.extremes_of(step, list(axes))
    found: dict[str, ChannelExtremes] = {}
    for done, arrays in enumerate(each_sample(module, samples, list(axes)), start=1):
        for name, axis in axes.items():
            rows = np.moveaxis(arrays[name], axis, 0).reshape(arrays[name].shape[axis], -1)
            seen = ChannelExtremes(rows.min(axis=1), rows.max(axis=1))
            if not np.isfinite([seen.low.min(initial=0), seen.high.max(initial=0)]).all():
                raise _not_finite(name, done)
            found[name] = seen if name not in found else found[name].joined(seen)
        if progress is not None:
            progress(done, len(samples))
    module.measured.extremes.update({(step, name): seen for name, seen in found.items()})
    return found


def each_sample(module: Module, samples: Samples, values: Sequence[str]) -> Iterator[dict[str, Array]]:
    """The named values (inputs, intermediates or outputs) for one sample after the other."""
    from irshrink import onnxrt

    computed = [str(v.name) for node in module.graph for v in node.outputs]
    wanted = set(values)
    session = onnxrt.session(_exposed(module, [name for name in computed if name in wanted]))
    inputs = {str(v.name): v.const_value for v in module.graph.inputs}
    defaults = {name: tensor.numpy() for name, tensor in inputs.items() if tensor is not None}
    for feeds in samples.feeds():
        yield defaults | feeds | onnxrt.run(session, feeds)


def _exposed(module: Module, values: Iterable[str]) -> ir.Model:
    """A copy of the model whose outputs are the named values (and its own)."""
    model = module.clone().model
    by_name = {v.name: v for node in model.graph for v in node.outputs}
    present = {v.name for v in model.graph.outputs}
    model.graph.outputs.extend(by_name[name] for name in values if name not in present)
    return model


def _clipped(histogram: Histogram, method: CalibrationMethod, curve: Curve | None) -> Range:
    if method.name == "percentile":
        return percentile_range(histogram, method.percentile)
    if method.name == "entropy":
        return entropy_range(histogram)
    return mse_range(histogram, method.symmetric, None if curve is None else curve.at)


def _check_finite(observer: MinMax, name: str, sample: int) -> None:
    if observer.low == np.inf or np.isfinite([observer.low, observer.high]).all():
        return
    raise _not_finite(name, sample)


def _not_finite(name: str, sample: int) -> ModelError:
    """``sample`` counts from 1."""
    return ModelError(
        f"value '{name}' of the float model is NaN or infinite on calibration sample {sample - 1}. "
        "Check the preprocessing of the samples, and the model's weights."
    )
