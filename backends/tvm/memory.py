"""From kernels to addresses: what they need of the arena, stripes where memory is short, the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from irshrink.backends.tvm.images import calls_of
from irshrink.backends.tvm.threads import in_place, threads_share, workspace_bytes
from irshrink.errors import BudgetError
from irshrink.program.arena import Demand, MemoryPlan, plan_memory
from irshrink.program.ops import ConvInt8, Op
from irshrink.program.order import least_memory_order
from irshrink.program.program import Program
from irshrink.program.stripes import RowOp, Tiles
from irshrink.program.striping import Striping
from irshrink.target import Target

if TYPE_CHECKING:
    from irshrink.backends.tvm.emit import Step
    from irshrink.backends.tvm.kernels.call import KernelCall

#: Limits below the target's RAM that are tried because a plan may need more than its lower bound.
_TIGHTER = 6
#: Share of the instructions that a small memory may cost.
_SHARE = 0.08
#: RAM beside the arena that a plan leaves free where one can: the stack and other static data take it.
_BESIDE = 1024


def plan_steps(
    program: Program, steps: Sequence[Step], target: Target, *, thorough: bool = True
) -> tuple[Program, list[Step], MemoryPlan]:
    """Places for everything, in the order of operators that needs least memory.

    Where the target's memory is small, or too short otherwise, operators take turns. Without ``thorough``
    they stay in the order that they have, where that fits.

    Returns:
        The program in its order and with its stripes, steps and calls to match, and the plan.

    Raises:
        BudgetError: no plan fits the target's RAM.
    """
    if not thorough:
        quick = plan_memory(program, demands_of(program, steps, target), thorough=False)
        if _fits(quick, target):
            return replace(program, stripes=(), planned=True), list(steps), quick
    program, steps = _in_order(program, steps, target)
    demands = demands_of(program, steps, target)
    plan = plan_memory(program, demands)
    if target.memory == "fast" and _fits(plan, target):
        return program, list(steps), plan
    best = (program, plan)
    for striped in _striped(program, demands, steps, target):
        plan = plan_memory(striped, demands)
        if plan.nbytes < best[1].nbytes:
            best = (striped, plan)
        if _fits(plan, target):
            break
    program, plan = best
    _require_ram(program, plan, target)
    return program, by_rows(program, steps), plan


def _in_order(program: Program, steps: Sequence[Step], target: Target) -> tuple[Program, list[Step]]:
    """The operators in the order that needs least memory."""
    order = least_memory_order(program, demands_of(program, steps, target))
    ops = [program.ops[index] for index in order]
    places = {op.name: place for place, op in enumerate(ops)}
    in_order = sorted(steps, key=lambda step: places[step.op.name])
    return replace(program, ops=ops, stripes=(), planned=True), in_order


def _striped(
    program: Program, demands: Sequence[Demand], steps: Sequence[Step], target: Target
) -> Iterator[Program]:
    """The program with stripes: what costs little, as few as the RAM asks for, then those of lowest peak."""
    striping = Striping(program, demands, row_ops(program, steps, target))
    if target.memory == "small":
        yield replace(program, stripes=striping.affordable(_SHARE))
    if target.ram_bytes is None:
        return
    lowest = striping.lowest()
    room = max(target.ram_bytes - _BESIDE, lowest)
    for tighter in range(_TIGHTER + 1):
        stripes = striping.within(room - (room - lowest) * tighter // _TIGHTER)
        if stripes is not None:
            yield replace(program, stripes=stripes)


def row_ops(program: Program, steps: Sequence[Step], target: Target) -> dict[int, RowOp]:
    """The operators that can be called by rows, by their place in the program."""
    calls = {step.op.name: step.call for step in steps}
    found = {}
    for index, op in enumerate(program.ops):
        call = calls.get(op.name)
        if call is None or call.rows is None or target.threads > 1:
            continue
        y = program.tensors[op.output]
        if calls_of(op, program) > 1 or y.shape[0] > 1 or y.shape[1] < 2:
            continue
        pairs = zip(op.inputs, call.rows.reaches, strict=True)
        inputs = tuple((name, reach) for name, reach in pairs if name not in program.constants)
        macs = op.weight.size if isinstance(op, ConvInt8) else 0
        tiles = Tiles(y.shape[2], call.rows.tile, call.rows.singles, macs)
        found[index] = RowOp(index, inputs, op.output, y.shape[1], y.nbytes // y.shape[1], tiles)
    return found


def by_rows(program: Program, steps: Sequence[Step]) -> list[Step]:
    """The steps with calls that take the sizes of some rows, where operators take turns."""
    striped = {program.ops[op.index].name for stripe in program.stripes for op in stripe.ops}
    return [
        replace(step, call=replace(step.call, by_rows=True)) if step.op.name in striped else step
        for step in steps
    ]


def demands_of(program: Program, steps: Sequence[Step], target: Target) -> list[Demand]:
    calls = {step.op.name: step.call for step in steps}
    return [_demand(op, calls.get(op.name), program, target) for op in program.ops]


def _demand(op: Op, call: KernelCall | None, program: Program, target: Target) -> Demand:
    if call is None:
        return Demand()
    return Demand(
        workspace_bytes=workspace_bytes(op, call, program, target),
        overread_bytes=call.overread_bytes,
        steady=call.steady,
        lasting=call.rows is not None and call.rows.ring,
        in_place=in_place(op, call, program, target),
        # threads that share a call are at different places of its output
        distances=() if threads_share(call, target) else call.distances,
    )


def _fits(plan: MemoryPlan, target: Target) -> bool:
    return target.ram_bytes is None or plan.nbytes + _BESIDE <= target.ram_bytes


def _require_ram(program: Program, plan: MemoryPlan, target: Target) -> None:
    if target.ram_bytes is None or plan.nbytes <= target.ram_bytes:
        return
    steps = range(1 + max(s.last for s in plan.slots))
    crowded = max(steps, key=lambda i: sum(s.nbytes for s in plan.slots if s.first <= i <= s.last))
    live = (s for s in plan.slots if s.first <= crowded <= s.last)
    largest = sorted(live, key=lambda s: (-s.nbytes, s.name))[:4]
    named = ", ".join(f"{s.name} ({s.nbytes:,} bytes)" for s in largest)
    turns = "even though operators take turns, " if program.stripes else ""
    raise BudgetError(
        f"RAM: the arena takes {plan.nbytes:,} bytes, {turns}{plan.nbytes - target.ram_bytes:,} more than "
        f"{target.limit('ram')}. In use at once: {named}. "
        "A smaller input, fewer channels in those layers, or a target with more RAM would help.",
        ram_over=plan.nbytes - target.ram_bytes,
    )
