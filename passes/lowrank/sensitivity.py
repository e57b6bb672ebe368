"""How much the model's outputs care for an error in each layer.

One layer at a time gets the weights of a candidate, multiplied out, and the model runs: the relative squared
error of its outputs for each of the layer's own. To first order errors of different layers add up. A Softmax
at the end is looked at before it, where a confident answer does not hide what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.calibration.calibrate import each_sample
from irshrink.graph.edit import is_op
from irshrink.module import Module
from irshrink.passes.lowrank.allocate import Choice
from irshrink.passes.lowrank.layers import layer_of
from irshrink.passes.lowrank.write import write_bias, write_weights
from irshrink.pipeline import Context
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]

#: Samples that are run for each layer.
SAMPLES = 16


def judged_values(graph: ir.Graph) -> list[str]:
    """The outputs that say whether a model is right: floats, what a last Softmax reads in its place."""
    names = []
    for output in graph.outputs:
        producer = output.producer()
        value = producer.inputs[0] if producer is not None and is_op(producer, "Softmax") else output
        if value is not None and value.dtype is not None and value.dtype.is_floating_point():
            names.append(str(value.name))
    return list(dict.fromkeys(names))


def relative_error(outputs: Sequence[dict[str, Array]], wanted: Sequence[dict[str, Array]]) -> float:
    """Mean over the values of the squared error over the energy about the mean, all samples together."""
    errors = []
    for name in wanted[0] if wanted else ():
        right = np.stack([one[name].astype(np.float64) for one in wanted])
        found = np.stack([one[name].astype(np.float64) for one in outputs])
        energy = float(np.square(right - right.mean(axis=0)).sum()) or float(np.square(right).sum())
        errors.append(float(np.square(found - right).sum()) / (energy or 1.0))
    return float(np.mean(errors)) if errors else 0.0


def measure_sensitivity(choices: Sequence[Choice], module: Module, samples: Samples, ctx: Context) -> None:
    """Set the sensitivity of every choice that has candidates.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    few = samples.spread(SAMPLES)
    wanted = judged_outputs(module, few)
    open_choices = [choice for choice in choices if choice.candidates]
    for number, choice in enumerate(open_choices):
        ctx.progress(f"measuring what errors cost, layer {number + 1:,} of {len(open_choices):,}")
        probe = choice.probe
        if probe is None or probe.error <= 0:
            continue
        changed = module.clone()
        output = choice.layer.node.outputs[0].name
        layer = layer_of(next(node for node in changed.graph if node.outputs[0].name == output))
        write_weights(layer, probe.matrix)
        if layer.bias is not None:
            old = layer.bias_array()
            write_bias(layer, probe.shift if old is None else old + probe.shift)
        choice.sensitivity = relative_error(judged_outputs(changed, few), wanted) / probe.error


def judged_outputs(module: Module, samples: Samples) -> list[dict[str, Array]]:
    """What the judged values are on each sample.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    names = judged_values(module.graph)
    return [{name: one[name] for name in names} for one in each_sample(module, samples, names)]
