"""Fused activations: a node behind the operator."""

from __future__ import annotations

from irshrink.frontends.tflite.graph import GraphWriter


def activated(graph: GraphWriter, value: str, code: int) -> str:
    """``value`` through an activation.

    Args:
        code: of the enumeration ActivationFunctionType.

    Raises:
        ValueError: SIGN_BIT, which no converter writes.
    """
    if code == 0:
        return value
    if code == 1:
        return graph.add("Relu", value, part="relu")
    if code == 2:
        return clipped(graph, value, -1.0, 1.0)
    if code == 3:
        return clipped(graph, value, 0.0, 6.0)
    if code == 4:
        return graph.add("Tanh", value, part="tanh")
    raise ValueError(f"its fused activation {code} is not one that TensorFlow Lite defines")


def clipped(graph: GraphWriter, value: str, low: float, high: float) -> str:
    return graph.add("Clip", value, graph.float32(low), graph.float32(high), part="clip")
