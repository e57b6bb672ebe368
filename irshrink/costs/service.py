"""The answers to what passes ask: costs of nodes, of nodes with other channels, and of whole models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import msgspec
import onnx_ir as ir

from irshrink.backend import Backend
from irshrink.costs.isolated import isolated, node_key
from irshrink.costs.measure import Callers
from irshrink.costs.predict import Asked, Predictor
from irshrink.costs.sizes import Sizes, coupled, resized, sizes_of
from irshrink.costs.sketch import Kernel, Sketch, Sketching
from irshrink.costs.store import Store
from irshrink.errors import BudgetError, IrshrinkError, ToolError
from irshrink.graph.edit import is_op
from irshrink.layer_cost import Cost, Footprint, Unit, total
from irshrink.lock import installed_versions
from irshrink.module import Module
from irshrink.pipeline import Pass, Pipeline
from irshrink.program.lower import lower_for
from irshrink.program.ops import Op
from irshrink.registry import backend_for
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import Target, with_memory
from irshrink.tuning.costs import CostSource, Cycles, Instructions, Seconds
from irshrink.tuning.database import Schedules, schedules_for

#: Samples that scales are found on where a float model is to be quantized: only dead channels depend on them.
_SAMPLES = 8
_ROOM = 1 << 30
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")
_SOURCES: dict[Unit, type[CostSource]] = {
    "instructions": Instructions,
    "estimated cycles": Cycles,
    "seconds": Seconds,
}


@dataclass
class TargetCosts:
    """See :class:`irshrink.layer_cost.LayerCosts`.

    Args:
        quantize: passes that a float model goes through before it is compiled.
    """

    predictor: Predictor
    quantize: Sequence[Pass] = ()
    _sketches: dict[str, Sketch | None] = field(default_factory=dict)
    _answers: dict[tuple[str, int | None, int | None], Cost | None] = field(default_factory=dict)

    @property
    def unit(self) -> Unit:
        return self.predictor.unit

    @property
    def exact(self) -> bool:
        return self.predictor.source.exact

    def of_node(self, node: ir.Node) -> Cost | None:
        return self.of_channels(node)

    def of_channels(
        self, node: ir.Node, *, inputs: int | None = None, outputs: int | None = None
    ) -> Cost | None:
        key = None if _is_fused(node) else node_key(node)
        if key is None:
            return None
        if (key, inputs, outputs) not in self._answers:
            self._answers[key, inputs, outputs] = self._answer(key, node, inputs, outputs)
        return self._answers[key, inputs, outputs]

    def of_module(self, module: Module) -> Footprint:
        sketch = self._sketch(module.clone())
        callers = self._callers(sketch)
        ops = {op.name: op for op in sketch.program.ops}
        layers: dict[str, list[Cost]] = {}
        code: dict[str, int] = {}
        for kernel in sketch.kernels:
            op, asked = ops[kernel.op], Asked(sketch.optimize, callers[kernel.function])
            cost = self.predictor.cost(op, sketch.program, kernel, asked)
            layers.setdefault(op.origin[0] if op.origin else op.name, []).append(cost)
            nbytes = self.predictor.code_bytes(op, sketch.program, kernel, asked)
            code[f"{kernel.op}:{kernel.function}" if kernel.specialized else kernel.function] = nbytes
        nothing = Cost(0, self.unit, "measured")
        return Footprint(
            weights_bytes=weights_bytes(sketch),
            code_bytes=sum(code.values()),
            arena_bytes=sketch.plan.nbytes,
            cost=total([one for costs in layers.values() for one in costs] or [nothing]),
            layers={name: total(costs) for name, costs in layers.items()},
        )

    def _callers(self, sketch: Sketch) -> dict[str, Callers]:
        """Of every C function."""
        ops = {op.name: op for op in sketch.program.ops}
        sizes: dict[str, set[object]] = {}
        names: dict[str, set[str | None]] = {}
        for kernel in sketch.kernels:
            sizes.setdefault(kernel.function, set()).add(kernel.sizes)
            name = self.predictor.family_name(ops[kernel.op], sketch.program)
            names.setdefault(kernel.function, set()).add(name)
        return {
            function: "alike" if len(found) == 1 else "kin" if _is_one(names[function]) else "any"
            for function, found in sizes.items()
        }

    def _answer(self, key: str, node: ir.Node, inputs: int | None, outputs: int | None) -> Cost | None:
        if key not in self._sketches:
            self._sketches[key] = self._lowered(node)
        sketch = self._sketches[key]
        if sketch is None:
            return None
        ops = {op.name: op for op in sketch.program.ops}
        # where it stands, its neighbours hand images over as they are: transposing them is no part of it
        own = [kernel for kernel in sketch.kernels if ops[kernel.op].origin]
        costs = [self._of_kernel(ops[kernel.op], kernel, sketch, inputs, outputs) for kernel in own]
        known = [one for one in costs if one is not None]
        return total(known) if known and len(known) == len(costs) else None

    def _of_kernel(
        self, op: Op, kernel: Kernel, sketch: Sketch, inputs: int | None, outputs: int | None
    ) -> Cost | None:
        """Of one operator of a lowered node; None where it cannot have other channels."""
        program, asked = sketch.program, Asked(sketch.optimize, loosely=True)
        if inputs is None and outputs is None:
            return self.predictor.cost(op, program, kernel, asked)
        sizes = sizes_of(op, program)
        if sizes is None:
            return None
        sizes = _with_channels(op, sizes, inputs, outputs)
        layer = resized(op, program, sizes)
        kernel = self.predictor.backend.kernel(layer.op, layer.program, self.predictor.target)
        found = self.predictor.of_member(op, program, sizes, kernel, asked)
        return found or self.predictor.cost(layer.op, layer.program, kernel, asked)

    def _lowered(self, node: ir.Node) -> Sketch | None:
        """The node by itself; None where there is no kernel for it, or nothing to compute."""
        try:
            sketch = self._sketch(isolated(node))
        except ToolError:
            raise
        except IrshrinkError:
            return None
        return sketch if sketch.kernels else None

    def _sketch(self, module: Module) -> Sketch:
        return sketched(module, self.predictor.target, self.quantize, self.predictor.backend)


def sketched(
    module: Module, target: Target, quantize: Sequence[Pass], backend: Backend | None = None
) -> Sketch:
    """Kernels and memory of a model, which is quantized in place unless it is.

    Where the target's RAM is too short for any plan, there is as much as the smallest arena takes.

    Raises:
        UnsupportedModelError: the target has no kernel for a node.
        ToolError: the backend cannot plan without compiling.
    """
    backend = backend_for(target) if backend is None else backend
    if not isinstance(backend, Sketching):
        raise ToolError(f"backend '{backend.name}' does not say what its layers cost.")
    if quantize and not any(node.op_type == "DequantizeLinear" for node in module.graph):
        data = module.calibration
        specs = input_specs(module.graph)
        module.calibration = random_samples(specs, _SAMPLES) if data is None else data.spread(_SAMPLES)
        module.taken_over = None
        Pipeline(quantize).run(module, target)
    program = lower_for(module, target)
    try:
        return backend.sketch(program, target)
    except BudgetError as e:
        if e.ram_over is None or target.ram_bytes is None:
            raise
        return backend.sketch(program, with_memory(target, _ROOM, target.ram_bytes + e.ram_over))


def weights_bytes(sketch: Sketch) -> int:
    """Constants in flash, equal ones once."""
    return sum(dict(part for kernel in sketch.kernels for part in kernel.constants).values())


def _is_one(names: set[str | None]) -> bool:
    return len(names) == 1 and None not in names


def _is_fused(node: ir.Node) -> bool:
    """Whether the layer before it clips its results as the node does."""
    before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    single = before is not None and len(before.outputs) == 1 and len(before.outputs[0].uses()) == 1
    return single and is_op(node, "Relu", "Clip") and is_op(before, *_LAYERS)


def _with_channels(op: Op, sizes: Sizes, inputs: int | None, outputs: int | None) -> Sizes:
    """Sizes with other channels; where outputs follow from inputs, those that are given decide."""
    bound = coupled(op, 1)
    if bound is None:
        return replace(sizes, inputs=inputs or sizes.inputs, outputs=outputs or sizes.outputs)
    given = inputs or (outputs or sizes.outputs) // bound
    return replace(sizes, inputs=given, outputs=given * bound)


def costs_for(
    target: Target,
    *,
    quantize: Sequence[Pass] = (),
    unit: Unit | None = None,
    schedules: Schedules | None = None,
    folder: Path | None = None,
) -> TargetCosts:
    """The costs of a target, in the emulator where it has one and otherwise on this machine.

    Args:
        quantize: passes that a float model goes through before it is compiled.
        unit: by default instructions of emulated targets, seconds of this machine.
        schedules: what kernels are chosen by; by default the database that ships for the target.
        folder: where measurements are remembered; by default the user's cache.

    Raises:
        ToolError: nothing here can measure for this target; the message says what to install.
    """
    backend = backend_for(target)
    unit = unit or ("seconds" if target.emulation is None else "instructions")
    source = _SOURCES[unit]()
    if not isinstance(backend, Sketching):
        raise ToolError(f"backend '{backend.name}' does not say what its layers cost.")
    why_not = backend.available(target) or source.missing(backend, target)
    if why_not is not None:
        raise ToolError(why_not)
    chosen = schedules_for(target) if schedules is None else schedules
    about = (
        msgspec.json.encode(target, order="deterministic").decode("utf-8"),
        backend.kernels_digest(),
        str(chosen.digest()),
        source.measured,
        repr(sorted(installed_versions().items())),
    )
    store = Store.open(target.name, *about, folder=folder)
    made = cast(Sketching, backend.with_schedules(chosen))
    return TargetCosts(Predictor(made, target, source, chosen, unit, store), tuple(quantize))
