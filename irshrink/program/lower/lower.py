"""From a graph to a program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import onnx_ir as ir

from irshrink.class_names import class_names, column_names
from irshrink.errors import InternalError, IrshrinkError, ModelError, UnsupportedModelError
from irshrink.graph import edit, float16
from irshrink.graph.quantized import quantization_of
from irshrink.module import Module
from irshrink.program import elements
from irshrink.program.lower.builder import label
from irshrink.program.lower.chains import WIDE, leaves, parameters
from irshrink.program.lower.finish import for_target, with_residuals, with_sums, without_dead
from irshrink.program.lower.fitting import require
from irshrink.program.lower.lowering import Lowering, Requantize
from irshrink.program.lower.names import identifier
from irshrink.program.lower.refusal import MOST_ELEMENTS, Refusal, Unsupported
from irshrink.program.lower.table import (
    ADVICE,
    DEFAULT_ADVICE,
    LEAST_AXES,
    REASONS,
    SEVERAL_OUTPUTS,
    TAKES_INT16,
    rule_of,
)
from irshrink.program.lower.view import View, view_of
from irshrink.program.program import Port, Program, Quantization
from irshrink.target import Target

#: Classes that a note lists before it only counts the rest.
_MOST_CLASSES = 12

_NOTHING_AS_TFLM = (
    "--requantize tflm changed nothing: no operator runs in int8. Give --calibration, or a quantized model."
)

Io = Literal["quantized", "float"]


def lower(
    module: Module, *, io: Io = "quantized", requantize: Requantize = "float32", fused: bool = False
) -> Program:
    """The program of a graph; QDQ regions in integers, the rest in float32.

    Args:
        module: a graph with static shapes, cleaned up; QDQ nodes where it is quantized.
        io: ``quantized`` makes ports int8 where the graph quantizes its inputs and dequantizes its outputs;
            ``float`` keeps them as the graph has them.
        requantize: ``tflm`` computes int8 operators as TensorFlow Lite Micro does.
        fused: sums of float32 products take each with one rounding, as targets with the feature ``fma`` do.

    Raises:
        UnsupportedModelError: some nodes cannot run; the message lists every one and what would help.
        ModelError: an input has a dimension or a type that cannot be compiled.
    """
    run = _run(module, io, requantize)
    if run.failures:
        lines = "\n".join(f"  {failure}" for failure in run.failures)
        raise UnsupportedModelError(f"{_where(module)}these nodes cannot run on the target:\n{lines}")
    return with_sums(_program(module, run, io), fused)


def lower_for(
    module: Module, target: Target, *, io: Io = "quantized", requantize: Requantize = "float32"
) -> Program:
    """:func:`lower`, with sums as the target computes them: the program that a build for it is made of."""
    return for_target(lower(module, io=io, requantize=requantize), target)


def unsupported(module: Module) -> list[Unsupported]:
    """Every node that could not be lowered at all; needs no calibration.

    Raises:
        ModelError: an input has a dimension or a type that cannot be compiled.
    """
    return _run(module, "float").failures


@dataclass(frozen=True)
class _Run:
    lowering: Lowering
    inputs: list[Port]
    failures: list[Unsupported]


def _run(module: Module, io: Io, requantize: Requantize = "float32") -> _Run:
    """Every node lowered, or a failure for each that could not be."""
    graph = module.graph
    lowering = Lowering(graph, requantize)
    inputs = [
        _input_port(module, lowering, value, io)
        for value in graph.inputs
        if value.name not in graph.initializers
    ]
    failures: list[Unsupported] = []
    for node in graph:
        failure = _lower_node(module, lowering, node)
        if failure is not None:
            failures.append(failure)
    return _Run(lowering, inputs, failures)


def _lower_node(module: Module, lowering: Lowering, node: ir.Node) -> Unsupported | None:
    """Run the node's rule; after a failure the known shapes of its outputs let the rest be checked.

    Raises:
        InternalError: the rule raised anything but a refusal, which is a bug of ours.
    """
    failure: Unsupported | None = None
    try:
        if all(lowering.constants.get(output) is not None for output in node.outputs):
            return None
        _require_sizes(node)
        _apply_rule(lowering, node)
    except Refusal as refusal:
        failure = Unsupported(label(node), node.op_type, refusal.reason, refusal.advice)
    except MemoryError:
        failure = Unsupported(label(node), node.op_type, "memory ran out over it", "Use smaller constants.")
    except IrshrinkError:
        raise
    except Exception as e:
        raise InternalError(f"{_where(module)}{edit.describe(node)} cannot be lowered: {_first(e)}") from e
    for output in node.outputs:
        shape = edit.static_shape(output)
        element = _element(output)
        if not lowering.knows(output) and shape is not None and element in elements.STORAGE:
            tensor = lowering.builder.tensor(identifier(output.name or "unknown"), shape, "float32")
            view = view_of(tensor, shape)
            lowering.bind(output, view if elements.is_real(element) else replace(view, stored=element))
    return failure


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _require_sizes(node: ir.Node) -> None:
    """
    Raises:
        Refusal: an output is empty, or larger than any device's memory.
    """
    for output in node.outputs:
        shape = edit.static_shape(output)
        if shape is not None and not 0 < prod(shape) <= MOST_ELEMENTS:
            raise Refusal(
                f"its output '{output.name}' of shape {list(shape)} has {prod(shape):,} elements",
                f"At least one and at most {MOST_ELEMENTS:,} can be compiled.",
            )


def _apply_rule(lowering: Lowering, node: ir.Node) -> None:
    rule = rule_of(node)
    if rule is None:
        raise Refusal(_why_no_rule(lowering, node), ADVICE.get(node.op_type, DEFAULT_ADVICE))
    if not all(value is None or lowering.knows(value) for value in node.inputs):
        return  # what makes the missing input has failed, and said so
    _require_axes(lowering, node)
    extra = next((value for value in node.outputs[1:] if lowering.is_read(value)), None)
    if extra is not None and node.op_type not in SEVERAL_OUTPUTS:
        raise Refusal(f"its output '{extra.name}' is used", "Only the first output runs on the target.")
    lowering.takes_int16 = node in lowering.absorbed or node.op_type in TAKES_INT16
    if node in lowering.absorbed:
        lowering.bind(node.outputs[0], lowering.view(_varying(lowering, node)))
    else:
        rule(lowering, node)
    lowering.takes_int16 = False


def _require_axes(lowering: Lowering, node: ir.Node) -> None:
    least = LEAST_AXES.get(node.op_type, 0) if node.domain in edit.ONNX_DOMAINS else 0
    value = edit.input_of(node, 0)
    if value is None or not least:
        return
    known = lowering.constants.array(value)
    rank = lowering.view(value).rank if known is None else known.ndim
    require(rank >= least, f"its input has {rank} axes, and it needs {least}")


def _why_no_rule(lowering: Lowering, node: ir.Node) -> str:
    if node.op_type not in REASONS or node.domain not in edit.ONNX_DOMAINS:
        return "there is no kernel for it"
    decisive = [value for value in node.inputs[: 2 if node.op_type == "Loop" else 1] if value is not None]
    computed = [f"'{value.name}'" for value in decisive if lowering.constants.get(value) is None]
    are = "is" if len(computed) == 1 else "are"
    return REASONS[node.op_type] + (f": {' and '.join(computed)} {are} computed" if computed else "")


def _varying(lowering: Lowering, node: ir.Node) -> ir.Value | None:
    """The input of an absorbed clamp or bias that is not a constant."""
    return next(value for value in node.inputs if lowering.constants.get(value) is None)


def _input_port(module: Module, lowering: Lowering, value: ir.Value, io: Io) -> Port:
    name = value.name or ""
    shape = edit.static_shape(value)
    if shape is None:
        dims = "unknown" if value.shape is None else value.shape
        raise ModelError(
            f"{_where(module)}input '{name}' has dynamic dimensions {dims}. Give fixed sizes with --shape."
        )
    shape = tuple(int(size) for size in shape)
    if prod(shape) == 0:
        raise ModelError(f"{_where(module)}input '{name}' of shape {list(shape)} is empty. Give it a size.")
    if prod(shape) > MOST_ELEMENTS:
        raise ModelError(
            f"{_where(module)}input '{name}' of shape {list(shape)} exceeds {MOST_ELEMENTS:,} elements. "
            "Give it a smaller size."
        )
    dtype, quantization, stored = _input_format(module, lowering, value, io)
    tensor = lowering.builder.tensor(identifier(name), shape, dtype, quantization)
    view = view_of(tensor, shape)
    lowering.bind(value, view if stored is None else View(tensor, view.axes, stored))
    quantized = quantization_of(value)
    codes = None if quantized is None else quantized.dtype
    return Port(name, tensor, shape, stored or _element(value), codes=codes)


def _element(value: ir.Value) -> str:
    """NumPy name of an ONNX element type; float32 when the graph does not say it."""
    if value.dtype in (None, ir.DataType.STRING):
        return "float32"
    return str(ir.DataType(value.dtype).numpy().name)


def _input_format(
    module: Module, lowering: Lowering, value: ir.Value, io: Io
) -> tuple[str, Quantization | None, str | None]:
    """Element type of the tensor, how to read it, and the integer type when the graph takes integers."""
    element = ir.DataType.FLOAT if value.dtype is None else value.dtype
    readers = [node for node in leaves(value) if node is not None]
    whole = bool(readers) and len(readers) == len(leaves(value))
    if element.is_floating_point() and elements.is_real(_element(value)):
        if element != ir.DataType.FLOAT:
            lowering.note_width(_element(value))
        quantizers = whole and all(node.op_type == "QuantizeLinear" for node in readers)
        if io == "float" or not quantizers:
            return "float32", None, None
        found = _agreed(lowering, readers, None)
        return ("float32", None, None) if found is None else (*found, None)
    stored = element.name.lower()
    if stored not in elements.STORAGE:
        raise ModelError(
            f"{_where(module)}input '{value.name}' is {element.name}; only numbers and truth values run "
            "on the target. Export the model with such an input."
        )
    if elements.codes(stored) is None:
        if stored not in ("int32", "bool"):
            lowering.notes.append(
                f"Input '{value.name}' is {stored} in the model: it is int32 on the target."
            )
        return elements.STORAGE[stored], None, stored
    if stored == "uint8":
        lowering.notes.append(f"Input '{value.name}' is uint8 in the model: give it x - 128 as int8.")
    reread = [node for node in readers if node.op_type == "DequantizeLinear"]
    found = _agreed(lowering, reread, stored) if reread else None
    default = Quantization(1.0, -128 if stored == "uint8" else 0)
    return "int8", default if found is None else found[1], stored


def _agreed(lowering: Lowering, nodes: list[ir.Node], stored: str | None) -> tuple[str, Quantization] | None:
    """The element type and the parameters that all these nodes share."""
    try:
        given = [parameters(node, lowering.constants, stored) for node in nodes]
    except Refusal:
        return None  # the node's own rule will say it
    found = {(WIDE if dtype == WIDE else "int8", quantization) for quantization, dtype in given}
    return found.pop() if len(found) == 1 else None


def _program(module: Module, run: _Run, io: Io) -> Program:
    lowering, builder = run.lowering, run.lowering.builder
    taken = {port.tensor for port in run.inputs}
    outputs: list[Port] = []
    lowering.takes_int16 = io != "float"
    for value in module.graph.outputs:
        view = _output_view(module, lowering, value)
        if io == "float" and view.stored is None:
            view = builder.as_float(view)
        if view.stored == "uint8":
            lowering.notes.append(
                f"Output '{value.name}' is uint8 in the model: it comes as x - 128 in int8."
            )
        tensor = builder.dense(view, range(view.rank))
        if view.stored not in (None, "bool", "int32", "int8", "uint8"):
            lowering.notes.append(
                f"Output '{value.name}' is {view.stored} in the model: it is int32 on the target."
            )
        if builder.root(tensor) in taken | set(builder.constants):
            tensor = builder.copied(tensor)
        taken.add(builder.root(tensor))
        classes = _classes(module, lowering, value, view)
        outputs.append(Port(value.name or "", tensor, view.shape, view.stored or _element(value), classes))
    results = [port.tensor for port in outputs]
    ops = with_residuals(without_dead(builder.ops, results), builder.tensors, results)
    floating = {name for op in ops if builder.tensors[op.output].quantization is None for name in op.origin}
    used = {name for op in ops for name in (*op.inputs, op.output)} | {port.tensor for port in run.inputs}
    return Program(
        tensors={name: tensor for name, tensor in builder.tensors.items() if name in used},
        ops=ops,
        inputs=run.inputs,
        outputs=outputs,
        notes=_notes(module, lowering),
        constants={name: array for name, array in builder.constants.items() if name in used},
        float_reasons={name: why for name, why in lowering.float_reasons.items() if name in floating},
        float32_nodes=float16.kept(module.model),
    )


def _classes(module: Module, lowering: Lowering, value: ir.Value, view: View) -> tuple[str, ...]:
    """Names of the classes of an output, said in a note, too."""
    name, known = value.name or "", module.model.metadata_props
    names = class_names(known, name)
    if view.stored is not None and names:
        listed = ", ".join(f"{i} is '{text}'" for i, text in enumerate(names[:_MOST_CLASSES]))
        more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
        lowering.notes.append(f"Output '{name}' is the number of a class: {listed}{more}.")
        return names
    columns = column_names(known, name)
    return columns if view.rank and len(columns) == view.shape[-1] else ()


def _output_view(module: Module, lowering: Lowering, value: ir.Value) -> View:
    shape = edit.static_shape(value)
    if shape is not None and prod(shape) == 0:
        raise ModelError(f"{_where(module)}output '{value.name}' of shape {list(shape)} is empty.")
    try:
        return lowering.view(value)
    except Refusal as refusal:
        raise ModelError(
            f"{_where(module)}output '{value.name}': {refusal.reason}. {refusal.advice}"
        ) from refusal


def _notes(module: Module, lowering: Lowering) -> list[str]:
    notes = list(lowering.notes)
    quantized = any(node.op_type == "QuantizeLinear" for node in module.graph)
    if lowering.requantize == "tflm" and not quantized:
        notes.insert(0, _NOTHING_AS_TFLM)
    if not quantized:
        notes.insert(0, "The model is not quantized: everything runs in float.")
    return list(dict.fromkeys(notes))


def _where(module: Module) -> str:
    return "" if module.source is None else f"{module.source}: "
