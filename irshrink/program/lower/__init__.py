"""From an ONNX graph, QDQ or float, to a program: layouts, number formats and fusions are decided here."""

from irshrink.program.lower.lower import lower, lower_for, unsupported
from irshrink.program.lower.refusal import Unsupported

__all__ = ["Unsupported", "lower", "lower_for", "unsupported"]
