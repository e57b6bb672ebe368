"""The arena planner: nothing that lives together overlaps, and the lower bound is one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.program.arena import Demand, MemoryPlan, plan_memory
from irshrink.program.ops import AddInt8, Addition, Op, Reshape, TableInt8
from irshrink.program.program import Port, Program, Tensor

TABLE = np.zeros(256, np.int8)
ADDITION = Addition(multipliers=(1, 1), shift=1, zero_points=(0, 0), zero_point=0)


def table(name: str, source: str, output: str) -> TableInt8:
    return TableInt8(name=name, origin=(name,), inputs=(source,), output=output, table=TABLE)


def chain(*sizes: int) -> Program:
    """x0 -> x1 -> ... by one operator each."""
    tensors = {f"x{i}": Tensor(f"x{i}", (n,)) for i, n in enumerate(sizes)}
    ops: list[Op] = [table(f"op{i}", f"x{i}", f"x{i + 1}") for i in range(len(sizes) - 1)]
    last = f"x{len(sizes) - 1}"
    return Program(tensors, ops, [Port("x", "x0", (sizes[0],))], [Port("y", last, (sizes[-1],))])


def test_neighbours_in_a_chain_need_two_buffers() -> None:
    plan = plan_memory(chain(100, 200, 100, 300), [Demand()] * 3)
    assert plan.nbytes == plan.lower_bound == 400


def test_in_place_operators_need_one() -> None:
    plan = plan_memory(chain(128, 128, 128), [Demand(in_place=(0,))] * 2)
    assert plan.nbytes == plan.lower_bound == 128
    assert {s.offset for s in plan.slots} == {0}


def test_an_input_that_is_read_later_is_not_overwritten() -> None:
    program = chain(64, 64, 64)
    program.ops[1] = AddInt8(name="add", origin=(), inputs=("x1", "x0"), output="x2", addition=ADDITION)
    plan = plan_memory(program, [Demand(in_place=(0,)), Demand()])
    assert plan.offset("x0") != plan.offset("x1")


def test_reshape_shares_the_memory_of_its_input() -> None:
    program = chain(64, 64)
    program.tensors["flat"] = Tensor("flat", (8, 8))
    program.ops.append(Reshape(name="r", origin=(), inputs=("x1",), output="flat"))
    program.outputs[0] = Port("y", "flat", (8, 8))
    plan = plan_memory(program, [Demand(), Demand()])
    assert plan.offset("flat") == plan.offset("x1")
    assert plan.nbytes == 128


def test_constants_take_no_arena() -> None:
    program = chain(64, 64)
    program.tensors["c"] = Tensor("c", (64,))
    program.constants["c"] = np.zeros(64, np.int8)
    program.ops[0] = AddInt8(name="add", origin=(), inputs=("x0", "c"), output="x1", addition=ADDITION)
    assert plan_memory(program, [Demand()]).nbytes == 128


def test_room_for_reading_past_the_end_is_at_the_end() -> None:
    assert plan_memory(chain(64, 32), [Demand(overread_bytes=3)]).nbytes == 96
    assert plan_memory(chain(32, 64), [Demand(overread_bytes=40)]).nbytes >= 96


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, list[Demand]]:
    """Graphs with branches: every operator reads one or two earlier tensors."""
    count = draw(st.integers(1, 12))
    tensors = {"t0": Tensor("t0", (draw(st.integers(1, 500)),))}
    ops: list[Op] = []
    demands = []
    for i in range(count):
        names = list(tensors)
        sources = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))
        output = Tensor(f"t{i + 1}", (draw(st.integers(1, 500)),))
        tensors[output.name] = output
        ops.append(
            AddInt8(name=f"op{i}", origin=(), inputs=tuple(sources), output=output.name, addition=ADDITION)
        )
        in_place = (0,) if output.nbytes <= tensors[sources[0]].nbytes and draw(st.booleans()) else ()
        chosen = draw(st.sets(st.integers(0, len(sources) - 1)))
        distances = tuple((k, draw(st.integers(-300, 300))) for k in sorted(chosen))
        workspace, overread = draw(st.sampled_from([0, 0, 33])), draw(st.integers(0, 3))
        demands.append(Demand(workspace, overread, in_place=in_place, distances=distances))
    return Program(tensors, ops, [Port("x", "t0", (1,))], [Port("y", f"t{count}", (1,))]), demands


@settings(deadline=None, max_examples=60, derandomize=True)
@given(programs())
def test_plans_are_sound(case: tuple[Program, list[Demand]]) -> None:
    program, demands = case
    plan = plan_memory(program, demands)
    assert plan.nbytes >= plan.lower_bound
    assert all(slot.offset % 4 == 0 for slot in plan.slots)
    assert all(slot.offset + slot.nbytes <= plan.nbytes for slot in plan.slots)
    for i, a in enumerate(plan.slots):
        for b in plan.slots[i + 1 :]:
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
                assert apart or _in_place(program, demands, plan, a.name, b.name)
    assert plan == plan_memory(program, demands)


def _in_place(program: Program, demands: list[Demand], plan: MemoryPlan, a: str, b: str) -> bool:
    """Whether one is the output of an operator that may overwrite the other as it lies there."""
    for index, (op, demand) in enumerate(zip(program.ops, demands, strict=True)):
        for name in {a, b} & set(op.inputs) if op.output in (a, b) else ():
            k = op.inputs.index(name)
            assert max(program.readers[name]) == index
            ahead = plan.offset(name) - plan.offset(op.output)
            if ahead == 0 and k in demand.in_place:
                return True
            return k in dict(demand.distances) and ahead >= dict(demand.distances)[k]
    return False


def test_an_output_may_begin_before_its_input() -> None:
    plan = plan_memory(chain(400, 400), [Demand(distances=((0, 30),))])
    assert plan.nbytes == plan.lower_bound + 2 == 432
    assert plan.offset("x1") + 32 == plan.offset("x0")


def test_an_output_may_begin_behind_the_start_of_its_input() -> None:
    plan = plan_memory(chain(400, 100, 400), [Demand(distances=((0, -300),)), Demand(distances=((0, 0),))])
    assert plan.nbytes == plan.lower_bound == 400


def test_many_layers_that_each_need_a_step_back_need_few_bytes_more() -> None:
    steps = [Demand(distances=((0, 64 if i % 2 else -64),)) for i in range(20)]
    plan = plan_memory(chain(*[4000] * 21), steps)
    assert plan.nbytes == plan.lower_bound == 4064


def test_an_input_shares_memory_with_one_output_that_begins_before_it() -> None:
    program = chain(400, 400)
    program.tensors["b"] = Tensor("b", (400,))
    program.ops.append(AddInt8(name="b", origin=(), inputs=("x1", "x0"), output="b", addition=ADDITION))
    program.outputs.append(Port("z", "x1", (400,)))
    near = Demand(distances=((0, 4), (1, 4)))
    assert plan_memory(program, [near, near]).lower_bound == 804
