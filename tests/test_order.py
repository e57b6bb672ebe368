"""The order of operators: the lowest peak of all orders there are, and the given one when none is lower."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.program.arena import Demand, live_bytes
from irshrink.program.ops import AddInt8, Addition, Op, Reshape, TableInt8
from irshrink.program.order import least_memory_order
from irshrink.program.program import Port, Program, Tensor

ADDITION = Addition(multipliers=(1, 1), shift=1, zero_points=(0, 0), zero_point=0)


def table(source: str, output: str) -> TableInt8:
    return TableInt8(name=output, origin=(), inputs=(source,), output=output, table=np.zeros(256, np.int8))


def add(a: str, b: str, output: str) -> AddInt8:
    return AddInt8(name=output, origin=(), inputs=(a, b), output=output, addition=ADDITION)


def program_of(sizes: dict[str, int], ops: list[Op], output: str) -> Program:
    tensors = {name: Tensor(name, (n,)) for name, n in sizes.items()}
    return Program(tensors, ops, [Port("x", "x", (1,))], [Port("y", output, (1,))])


def branches() -> Program:
    """Two branches that grow and shrink again; side by side, both are large at once."""
    sizes = {"x": 10, "a": 500, "b": 500, "c": 20, "d": 20, "y": 10}
    ops: list[Op] = [table("x", "a"), table("x", "b"), table("a", "c"), table("b", "d"), add("c", "d", "y")]
    return program_of(sizes, ops, "y")


def test_one_branch_after_the_other() -> None:
    program = branches()
    order = least_memory_order(program, [Demand()] * 5)
    assert order == [0, 2, 1, 3, 4]
    reordered = replace(program, ops=[program.ops[i] for i in order])
    assert max(live_bytes(reordered, [Demand()] * 5)) == 540
    assert max(live_bytes(program, [Demand()] * 5)) == 1020


def test_an_order_that_is_as_good_stays() -> None:
    sizes = {"x": 10, "a": 20, "b": 20, "y": 10}
    ops: list[Op] = [table("x", "b"), table("x", "a"), add("a", "b", "y")]
    assert least_memory_order(program_of(sizes, ops, "y"), [Demand()] * 3) == [0, 1, 2]


def test_too_many_orders_leave_the_given_one() -> None:
    count = 400
    sizes = {"x": 4} | {f"t{i}": 4 for i in range(count)}
    ops: list[Op] = [table("x", f"t{i}") for i in range(count)]
    assert least_memory_order(program_of(sizes, ops, "t0"), [Demand()] * count) == list(range(count))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Program, list[Demand]]:
    """Small graphs, reshapes among them."""
    sizes = {"x": draw(st.integers(1, 60))}
    ops: list[Op] = []
    for i in range(draw(st.integers(2, 5))):
        names, output = list(sizes), f"t{i}"
        a, b = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        kind = draw(st.sampled_from(["table", "add", "reshape"]))
        sizes[output] = sizes[a] if kind == "reshape" else draw(st.integers(1, 60))
        if kind == "reshape":
            ops.append(Reshape(name=output, origin=(), inputs=(a,), output=output))
        else:
            ops.append(table(a, output) if kind == "table" else add(a, b, output))
    demands = [
        Demand(
            workspace_bytes=draw(st.sampled_from([0, 9])),
            in_place=(0,) if draw(st.booleans()) else (),
            distances=((0, draw(st.integers(-20, 20))),),
        )
        for _ in ops
    ]
    return program_of(sizes, ops, f"t{len(ops) - 1}"), demands


@settings(deadline=None, max_examples=80, derandomize=True)
@given(graphs())
def test_no_order_has_a_lower_peak(case: tuple[Program, list[Demand]]) -> None:
    program, demands = case
    demands = [Demand() if isinstance(op, Reshape) else d for op, d in zip(program.ops, demands, strict=True)]

    def peak(order: tuple[int, ...] | list[int]) -> int:
        ordered = replace(program, ops=[program.ops[i] for i in order])
        return max(live_bytes(ordered, [demands[i] for i in order]))

    found = least_memory_order(program, demands)
    assert sorted(found) == list(range(len(program.ops)))
    made = {"x"}
    for index in found:
        assert set(program.ops[index].inputs) <= made
        made.add(program.ops[index].output)
    assert peak(found) == min(peak(order) for order in permutations(found) if valid(program, order))


def valid(program: Program, order: tuple[int, ...]) -> bool:
    made = {"x"}
    for index in order:
        if not set(program.ops[index].inputs) <= made:
            return False
        made.add(program.ops[index].output)
    return True
