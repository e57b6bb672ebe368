"""What is quantized: decided once, before anything is measured or changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx_ir as ir

from irshrink.errors import ModelError, RecipeError, nearest
from irshrink.graph.edit import ONNX_DOMAINS, WHY_FLOAT, base_name, constant, describe
from irshrink.passes.quantize.points import inside_runs
from irshrink.passes.quantize.rules import FUSED_ACTIVATIONS, FUSES_ACTIVATION, Rule, rule_of


@dataclass
class Plan:
    """The nodes that run in int8 and the values that get a scale.

    Attributes:
        nodes: quantized nodes in graph order, with their rules.
        inside: values between an operator and the activation fused into it, and inside runs of operators
            that are one function of one value; they are never rounded.
        runs: nodes of such runs.
        root: for every quantized value the value whose scale it has (copies share their input's).
    """

    nodes: dict[ir.Node, Rule] = field(default_factory=dict)
    inside: set[ir.Value] = field(default_factory=set)
    runs: set[ir.Node] = field(default_factory=set)
    root: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def operands(self, node: ir.Node) -> list[tuple[int, ir.Value]]:
        """Index and value of the inputs of a quantized node that carry activations or constants."""
        pairs = ((i, node.inputs[i]) for i in self.nodes[node].indices(node))
        return [(i, value) for i, value in pairs if value is not None]

    def roots(self) -> list[ir.Value]:
        """Values that need a scale of their own, in the order they are met."""
        return list(dict.fromkeys(self.root.values()))

    def never_clipped(self) -> set[ir.Value]:
        """Roots that keep their full range.

        The largest values of an output, or of what goes into a Softmax, are the answer; an input is
        often 8-bit data, which its full range represents exactly.
        """
        answers = [value for value in self.root if value.is_graph_output() or value.is_graph_input()]
        answers += [node.inputs[0] for node in self.nodes if node.op_type == "Softmax" and node.inputs[0]]
        return {self.root[value] for value in answers if value in self.root}


def make_plan(graph: ir.Graph, keep_float: Sequence[str], note: Callable[[str], None]) -> Plan:
    """Decide for every node, in order; what stays float is noted with its reason.

    Args:
        graph: float32, opset 13 or later, types inferred.
        keep_float: patterns of node names (of the first output, where a node has none) or operator types.

    Raises:
        ModelError: the graph is quantized already.
        RecipeError: a pattern fits no node.
    """
    _require_float(graph)
    require_matches(graph, keep_float)
    plan = Plan()
    refused = {node: _why_not(node, keep_float) for node in graph if _computes_float(node)}
    wanted = _wanted(refused)
    stays: dict[tuple[str, str], list[str]] = {}
    for node, refusal in refused.items():
        reason = refusal or _what_it_reads(node, plan, wanted)
        if reason is None:
            plan.nodes[node] = _rule(node)
        else:
            node.meta[WHY_FLOAT] = reason
            stays.setdefault((node.op_type, reason), []).append(base_name(node))
    for (op_type, reason), names in stays.items():
        note(f"{op_type} {listed(names)} stays float: {reason}")
    plan.inside |= inside_runs(plan.nodes)
    plan.runs |= {node for node in plan.nodes if _is_in_run(node, plan.inside)}
    _fuse_activations(plan)
    _share_scales(plan)
    return plan


def _require_float(graph: ir.Graph) -> None:
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"):
            raise ModelError(
                f"the model is quantized already ({describe(node)}). "
                "Give the float model, or leave quantization out."
            )


def require_matches(graph: ir.Graph, patterns: Sequence[str], option: str = "keep_float") -> None:
    """
    Raises:
        RecipeError: a pattern of the named option fits no node.
    """
    nodes = list(graph)
    for pattern in patterns:
        if not any(matches(node, [pattern]) for node in nodes):
            known = {base_name(node) for node in nodes} | {node.op_type for node in nodes}
            raise RecipeError(f"{option}: no node is named or is a '{pattern}'.{nearest(pattern, known)}")


def matches(node: ir.Node, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits the name or the operator of a node."""
    names = (base_name(node), node.op_type)
    return any(
        name == p or fnmatchcase(name, p) for p in patterns for name in names
    )  # a name may hold [ or *


def _computes_float(node: ir.Node) -> bool:
    """False for constants and for arithmetic on shapes, which cost nothing at run time."""
    if node.op_type == "Constant":
        return False
    return any(value.dtype is None or value.dtype.is_floating_point() for value in node.outputs)


def _why_not(node: ir.Node, keep_float: Sequence[str]) -> str | None:
    """Why a node cannot run in int8 whatever is around it, or None."""
    rule = rule_of(node)
    if matches(node, keep_float):
        return "the recipe keeps it"
    if rule is None or node.domain not in ONNX_DOMAINS:
        return "it has no int8 form"
    values = [node.inputs[i] for i in rule.indices(node)]
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in (*values, node.outputs[0])):
        return "it does not compute in float32"
    if all(constant(value) is not None for value in values):
        return "what it reads is constant"
    return rule.refuse(node)


def _wanted(refused: Mapping[ir.Node, str | None]) -> set[ir.Value]:
    """Values that a layer with weights will read in int8, through operators that can work on int8."""
    wanted: set[ir.Value] = set()
    for node in reversed(list(refused)):
        if refused[node] is not None:
            continue
        rule = _rule(node)
        if rule.kind == "linear" or any(output in wanted for output in node.outputs):
            wanted.update(value for i in rule.indices(node) if (value := node.inputs[i]) is not None)
    return wanted


def _what_it_reads(node: ir.Node, plan: Plan, wanted: Collection[ir.Value]) -> str | None:
    """Why a node that could run in int8 is not worth it: nothing that it reads is int8, or soon will be.

    A clamp behind a float layer is part of that layer.
    """
    rule = _rule(node)
    if rule.kind == "linear" or any(_is_int8(node.inputs[i], plan) for i in rule.indices(node)):
        return None
    if any(output in wanted for output in node.outputs) and node.op_type not in FUSED_ACTIVATIONS:
        return None
    return "what it reads is float"


def _rule(node: ir.Node) -> Rule:
    rule = rule_of(node)
    assert rule is not None, "asked only for nodes that have one"
    return rule


def _is_int8(value: ir.Value | None, plan: Plan) -> bool:
    """Whether the value is there in int8: an input of the model, or made by a quantized node."""
    producer = None if value is None else value.producer()
    if producer is None:
        return value is not None and value.is_graph_input()
    return producer in plan.nodes


def _is_in_run(node: ir.Node, inside: Collection[ir.Value]) -> bool:
    return node.outputs[0] in inside or any(value in inside for value in node.inputs)


def _fuse_activations(plan: Plan) -> None:
    for node in plan.nodes:
        value = node.outputs[0]
        readers = list(value.consumers())
        if node.op_type not in FUSES_ACTIVATION or value.is_graph_output() or len(readers) != 1:
            continue
        reader = readers[0]
        if reader.op_type in FUSED_ACTIVATIONS and reader in plan.nodes:
            plan.inside.add(value)


def _share_scales(plan: Plan) -> None:
    for node, rule in plan.nodes.items():
        varying = [v for _, v in plan.operands(node) if constant(v) is None and v not in plan.inside]
        for value in varying:
            plan.root.setdefault(value, value)
        for output in node.outputs if rule.kind == "copy" else node.outputs[:1]:
            if output not in plan.inside:
                plan.root[output] = plan.root[varying[0]] if rule.kind == "copy" else output


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Quoted names; at most ``limit`` of them."""
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
