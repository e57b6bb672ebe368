"""What the network loses when the weights of one layer are rounded, for each layer and each number of bits.

- ``measured``: the float network with this one layer rounded, run on the samples: its loss
  (:mod:`irshrink.judge`). As many runs as there are layers times widths. This is the
  reference (Nagel et al., arXiv:2106.08295, section 3.5; ZeroQ, Cai et al., CVPR 2020, which does so on
  synthetic data).
- ``scaled``: measured at the fewest bits only, and scaled by how much smaller the error of the layer's own
  output is at the others. The scale is what HAWQ-V2's trace of the Hessian stands for: how much a unit of
  error here costs at the end.
- ``output-error``: the squared error of the layer's output against its energy, which says nothing about what
  follows. One run over the data for all layers and widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import add_constant, constant, set_constant
from irshrink.judge import Expected
from irshrink.module import Module
from irshrink.passes.quantize.mixed.layers import FLOAT, Layer, Stored, linear_nodes
from irshrink.samples import Samples

Array = np.ndarray[Any, np.dtype[Any]]
Method = Literal["measured", "scaled", "output-error"]
#: Loss by bits, of one layer.
Losses = dict[int, float]
Progress = Callable[[int, int], None]

_OUTPUT = "irshrink_error"
#: ReduceSumSquare over all axes is the same since this opset.
_ENERGY = "ReduceSumSquare"


def sensitivity(
    module: Module, layers: Sequence[Layer], samples: Samples, method: Method, progress: Progress
) -> list[Losses]:
    """The loss of each layer by bits; 0 for float. Never more with more bits.

    Args:
        module: float.
    """
    if method == "output-error":
        return [_monotone(one) for one in output_errors(module, layers, samples)]
    judge = Expected(module, samples)
    if method == "measured":
        found = measured(module, layers, judge, progress)
    else:
        fewest = [min(layer.stored) for layer in layers]
        at_fewest = measured(module, layers, judge, progress, fewest)
        errors = output_errors(module, layers, samples)
        found = [_scaled(*one) for one in zip(fewest, at_fewest, errors, strict=True)]
    return [_monotone(one) for one in found]


def measured(
    module: Module,
    layers: Sequence[Layer],
    judge: Expected,
    progress: Progress,
    only: Sequence[int] | None = None,
) -> list[Losses]:
    """By replacing one layer's weights at a time.

    Args:
        only: one number of bits a layer; all that there are without.
    """
    wanted = [
        (index, bits)
        for index, layer in enumerate(layers)
        for bits in layer.stored
        if bits != FLOAT and (only is None or bits == only[index])
    ]
    found: list[Losses] = [{FLOAT: 0.0} if FLOAT in layer.stored else {} for layer in layers]
    for done, (index, bits) in enumerate(wanted, start=1):
        changed = replaced(module, layers[index], layers[index].stored[bits])
        found[index][bits] = judge.loss(changed)
        progress(done, len(wanted))
    return found


def output_errors(module: Module, layers: Sequence[Layer], samples: Samples) -> list[Losses]:
    """Squared error of each layer's output against its energy, on what it reads in the float model."""
    from irshrink import onnxrt

    probed, names = _probed(module, layers)
    session = onnxrt.session(probed.model)
    totals = dict.fromkeys((name for row in names for name in row.values()), 0.0)
    for feeds in samples.feeds():
        outputs = onnxrt.run(session, feeds)
        totals = {name: total + float(outputs[name]) for name, total in totals.items()}
    found = []
    for row in names:
        energy = totals[row[FLOAT]] or 1.0
        found.append(
            {bits: totals[name] / energy for bits, name in row.items() if bits != FLOAT} | {FLOAT: 0.0}
        )
    return found


def replaced(module: Module, layer: Layer, stored: Stored) -> Module:
    """The float model with one layer's weights, and its bias, as they are stored."""
    copy = module.clone()
    node = linear_nodes(copy.graph)[layer.index]
    set_constant(node, 1, stored.weight, f"{layer.name}_weight")
    if stored.bias is not None:
        set_constant(node, 2, stored.bias, f"{layer.name}_bias")
    return copy


def _scaled(bits: int, loss: Losses, errors: Losses) -> Losses:
    unit = loss[bits] / errors[bits] if errors[bits] > 0 else 0.0
    return {width: error * unit for width, error in errors.items()}


def _monotone(losses: Losses) -> Losses:
    """What noise in the measurement says against it: fewer bits never lose less."""
    found: Losses = {}
    least = 0.0
    for bits in sorted(losses, reverse=True):
        least = found[bits] = max(least, losses[bits])
    return found


def _probed(module: Module, layers: Sequence[Layer]) -> tuple[Module, list[dict[int, str]]]:
    """The float model with, for each layer, the energy of its output and of the output's error as outputs."""
    copy = module.clone()
    nodes = linear_nodes(copy.graph)
    names = []
    for layer in layers:
        node = nodes[layer.index]
        row = {FLOAT: _energy(copy.graph, node.outputs[0], f"{_OUTPUT}_{layer.index}_{FLOAT}")}
        for bits, stored in layer.stored.items():
            if bits != FLOAT:
                error = _error(copy.graph, node, stored, f"{_OUTPUT}_{layer.index}_{bits}")
                row[bits] = _energy(copy.graph, error, f"{_OUTPUT}_{layer.index}_{bits}")
        names.append(row)
    return copy, names


def _error(graph: ir.Graph, node: ir.Node, stored: Stored, name: str) -> ir.Value:
    """The layer with the difference of its weights in place of them: the difference of its outputs."""
    weight, bias = constant(node.inputs[1]), None if len(node.inputs) < 3 else constant(node.inputs[2])
    assert weight is not None
    inputs = [node.inputs[0], add_constant(graph, stored.weight - weight, f"{name}_weight")]
    if stored.bias is not None:
        before = 0.0 if bias is None else bias.reshape(-1)
        inputs.append(add_constant(graph, np.asarray(stored.bias - before, np.float32), f"{name}_bias"))
    twin = ir.node(node.op_type, inputs, node.attributes, name=f"{name}_node")
    graph.insert_after(node, twin)
    twin.outputs[0].name, twin.outputs[0].type = f"{name}_value", ir.TensorType(ir.DataType.FLOAT)
    return twin.outputs[0]


def _energy(graph: ir.Graph, value: ir.Value, name: str) -> str:
    producer = value.producer()
    assert producer is not None
    node = ir.node(_ENERGY, [value], {"keepdims": 0}, name=f"{name}_energy")
    graph.insert_after(producer, node)
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    graph.outputs.append(output)
    return name
