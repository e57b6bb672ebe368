"""ONNX operators of a quantized graph in PyTorch, over a batch of samples, with gradients.

Rounding passes its gradient on as if it were not there (Bengio et al., arXiv:1308.3432), clipping where
nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from irshrink.graph.edit import attribute_float, attribute_int, attribute_ints, attribute_string

#: A torch.Tensor; PyTorch may not be there.
Tensor = Any
#: ``(torch, node, inputs)`` to the node's first output.
Operator = Callable[[Any, ir.Node, "list[Tensor]"], Tensor]


def _quantize(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    x, scale, zero = inputs[0], inputs[1], inputs[2]
    limits = torch.iinfo(zero.dtype)
    scaled = x / scale
    rounded = scaled + (torch.round(scaled) - scaled).detach()
    return torch.clamp(rounded + zero.float(), limits.min, limits.max)


def _dequantize(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    x, scale = inputs[0].float(), inputs[1]
    shape = [1] * x.dim()
    if scale.dim():
        shape[attribute_int(node, "axis", 1)] = -1
    zero = inputs[2].float().reshape(shape) if len(inputs) > 2 else 0.0
    return (x - zero) * scale.reshape(shape)


def _convolve(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    axes = inputs[0].dim() - 2
    before, behind = _pads(node, axes)
    x = torch.nn.functional.pad(inputs[0], _padding(before, behind))
    run = (torch.conv1d, torch.conv2d, torch.conv3d)[axes - 1]
    return run(
        x,
        inputs[1],
        inputs[2] if len(inputs) > 2 else None,
        stride=attribute_ints(node, "strides") or (1,) * axes,
        dilation=attribute_ints(node, "dilations") or (1,) * axes,
        groups=attribute_int(node, "group", 1),
    )


def _pads(node: ir.Node, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pads = attribute_ints(node, "pads") or (0,) * (2 * axes)
    return pads[:axes], pads[axes:]


def _padding(before: tuple[int, ...], behind: tuple[int, ...]) -> list[int]:
    """In PyTorch's order, the last axis first."""
    return [size for pair in reversed(list(zip(before, behind, strict=True))) for size in pair]


def _gemm(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    weight = inputs[1].T if attribute_int(node, "transB", 0) else inputs[1]
    product = inputs[0] @ weight
    return product if len(inputs) < 3 else product + inputs[2]


def _clip(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    low, high = ([*inputs[1:], None, None])[:2]
    return torch.clamp(inputs[0], low, high)


def _average(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    kernel = attribute_ints(node, "kernel_shape") or ()
    axes = len(kernel)
    before = _pads(node, axes)[0]
    run = (torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d)
    strides = attribute_ints(node, "strides") or (1,) * axes
    counted = bool(attribute_int(node, "count_include_pad", 0))
    return run[axes - 1](inputs[0], kernel, strides, before, count_include_pad=counted)


def _largest(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    kernel = attribute_ints(node, "kernel_shape") or ()
    axes = len(kernel)
    before, behind = _pads(node, axes)
    x = torch.nn.functional.pad(inputs[0], _padding(before, behind), value=float("-inf"))
    functional = torch.nn.functional
    run = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[axes - 1]
    return run(x, kernel, attribute_ints(node, "strides") or (1,) * axes)


def _global_average(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].mean(dim=tuple(range(2, inputs[0].dim())), keepdim=True)


def _leaky(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    return torch.nn.functional.leaky_relu(inputs[0], attribute_float(node, "alpha", 0.01))


def _softmax(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    return torch.softmax(inputs[0], dim=attribute_int(node, "axis", -1))


def _reshape(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    """The first axis counts samples, whatever number the model has there."""
    sizes = [int(size) for size in inputs[1]]
    known = [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return inputs[0].reshape(inputs[0].shape[0], *known[1:])


def _transpose(torch: Any, node: ir.Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].permute(attribute_ints(node, "perm") or tuple(range(inputs[0].dim()))[::-1])


OPERATORS: Mapping[str, Operator] = {
    "Add": lambda torch, node, inputs: inputs[0] + inputs[1],
    "AveragePool": _average,
    "Clip": _clip,
    "Conv": _convolve,
    "DequantizeLinear": _dequantize,
    "Flatten": lambda torch, node, inputs: inputs[0].flatten(1),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSwish": lambda torch, node, inputs: torch.nn.functional.hardswish(inputs[0]),
    "Identity": lambda torch, node, inputs: inputs[0],
    "LeakyRelu": _leaky,
    "MatMul": lambda torch, node, inputs: inputs[0] @ inputs[1],
    "MaxPool": _largest,
    "Mul": lambda torch, node, inputs: inputs[0] * inputs[1],
    "QuantizeLinear": _quantize,
    "Relu": lambda torch, node, inputs: torch.relu(inputs[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda torch, node, inputs: torch.sigmoid(inputs[0]),
    "Softmax": _softmax,
    "Sub": lambda torch, node, inputs: inputs[0] - inputs[1],
    "Tanh": lambda torch, node, inputs: torch.tanh(inputs[0]),
    "Transpose": _transpose,
}


def why_unknown(node: ir.Node) -> str | None:
    """Why :data:`OPERATORS` does not compute this node over a batch, half a sentence, or None."""
    if node.op_type not in OPERATORS:
        return f"{node.op_type} is not known to it"
    if attribute_string(node, "auto_pad", "NOTSET") != "NOTSET" or attribute_int(node, "ceil_mode", 0):
        return f"the padding of a {node.op_type} follows from the shape of its input"
    before, behind = _pads(node, len(attribute_ints(node, "pads") or ()) // 2)
    if node.op_type == "AveragePool" and before != behind:
        return "an AveragePool pads its sides unequally"
    moves_samples = node.op_type == "Transpose" and (attribute_ints(node, "perm") or (1,))[0] != 0
    if moves_samples or (node.op_type == "Flatten" and attribute_int(node, "axis", 1) != 1):
        return f"a {node.op_type} moves the first axis"
    return None
