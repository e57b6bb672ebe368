"""Patterns over several nodes, written as the code they match.

A pattern is a Python function of an operator builder and of the values it binds:

    def hard_swish(op, x):
        return x * op.Clip(x + 3.0, 0.0, 6.0) / 6.0

It is matched by onnxscript's rewriter, from the last node backwards, in all orders of its commutative
operators. Numbers in a pattern match constants of one element, with a tolerance of float32's rounding.
What to do with a match is up to the pass: nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from irshrink.graph.edit import remove

if TYPE_CHECKING:
    from irshrink.module import Module

Pattern = Callable[..., Any]


def match(pattern: Pattern, module: Module, node: ir.Node) -> dict[str, ir.Value] | None:
    """What the pattern's parameters are bound to when ``node`` is its last node, or None."""
    for variant in _variants(pattern):
        found = variant.match(module.model, module.graph, node, check_nodes_are_removable=False)
        if found:
            return {name: value for name, value in found.bindings.items() if isinstance(value, ir.Value)}
    return None


def first_match(
    patterns: Sequence[Pattern], module: Module, node: ir.Node
) -> tuple[Pattern, dict[str, ir.Value]] | None:
    """The first of several patterns that matches, with its bindings."""
    for pattern in patterns:
        bindings = match(pattern, module, node)
        if bindings is not None:
            return pattern, bindings
    return None


def remove_dead(values: Sequence[ir.Value | None]) -> None:
    """Remove the producers of ``values`` that lost their last reader, and theirs in turn."""
    for value in values:
        producer = None if value is None else value.producer()
        if producer is None or producer.graph is None:
            continue
        if any(output.uses() or output.is_graph_output() for output in producer.outputs):
            continue
        inputs = tuple(producer.inputs)
        remove(producer)
        remove_dead(inputs)


@cache
def _variants(pattern: Pattern) -> tuple[Any, ...]:
    from onnxscript.rewriter import pattern as rewriter

    def unused(op: Any, **bindings: ir.Value) -> None:
        """The rewriter wants a replacement; ours is done by the pass."""

    return tuple(rewriter.RewriteRule(pattern, unused).commute())
