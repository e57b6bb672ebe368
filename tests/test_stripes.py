"""Operators that take turns: rows are there when they are read, and the bytes are those of the reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backend import Inference
from irshrink.backends.tvm import backend as tvm_backend
from irshrink.backends.tvm import memory
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.emit import Step
from irshrink.errors import BudgetError, RecipeError
from irshrink.program.arena import MemoryPlan, live_bytes, plan_memory
from irshrink.program.ops import Window
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.program.sketch import sketch_stripe
from irshrink.program.stripes import Reach, RowOp, Stripe, make_stripe
from irshrink.program.striping import Striping
from irshrink.recipe import make_recipe
from irshrink.target import Target, load_target
from irshrink.testing.chains import Chains
from irshrink.trade import memory_notes

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None,
    reason="QEMU is not installed: apt-get install qemu-system-arm",
)
Planner = Callable[..., tuple[Program, list[Step], MemoryPlan]]


@st.composite
def rows_of_operators(draw: st.DrawFn) -> tuple[list[RowOp], dict[str, tuple[int, int]], set[str], int]:
    """A chain with skips: every operator reads the one before, some an earlier tensor as well."""
    rows = draw(st.integers(1, 14))
    images = {"x": (rows, draw(st.integers(1, 5)))}
    ops: list[RowOp] = []
    names = ["x"]
    for index in range(draw(st.integers(1, 6))):
        have = images[names[-1]][0]
        span, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        top, bottom = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        out_rows = (have + top + bottom - span) // stride + 1
        if have + top + bottom < span or out_rows < 1:
            span, stride, top, out_rows = 1, 1, 0, have
        inputs = [(names[-1], Reach(span, stride, top, kept=draw(st.booleans())))]
        skips = [n for n in names[:-1] if images[n][0] == out_rows]
        skip = draw(st.sampled_from(["", *skips]))
        if skip:
            inputs.append((skip, Reach()))
        output = f"t{index}"
        images[output] = (out_rows, draw(st.integers(1, 5)))
        ops.append(RowOp(index, tuple(inputs), output, out_rows, images[output][1]))
        names.append(output)
    outside = draw(st.sets(st.sampled_from(names[1:]))) | {names[-1]}
    return ops, images, set(names[1:]) - outside, draw(st.integers(1, 4))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(rows_of_operators())
def test_rows_are_there_when_they_are_read(
    case: tuple[list[RowOp], dict[str, tuple[int, int]], set[str], int],
) -> None:
    ops, images, inner, rows = case
    stripe = make_stripe(ops, images, inner, rows)
    memory_of = {name: [-1] * (stripe.windows.get(name, n)) for name, (n, _) in images.items()}
    memory_of["x"] = list(range(images["x"][0]))
    by_index = {op.index: op for op in ops}
    done, base = dict.fromkeys(images, 0), dict.fromkeys(images, 0)
    done["x"] = images["x"][0]
    kept: dict[tuple[int, str], set[int]] = {(op.index, name): set() for op in ops for name, _ in op.inputs}
    for event in stripe.events:
        op = by_index[event.index]
        window = memory_of[op.output]
        if event.moved:
            start = event.first - base[op.output]
            window[: event.count] = window[start : start + event.count]
            base[op.output] = event.first
            continue
        assert event.count <= rows
        assert event.first == done[op.output]
        for name, reach in op.inputs:
            known = kept[op.index, name]
            for y in range(event.first, event.first + event.count):
                window_rows = range(y * reach.stride - reach.top, y * reach.stride - reach.top + reach.span)
                for row in window_rows:
                    if 0 <= row < images[name][0] and row not in known:
                        assert memory_of[name][row - base[name]] == row, (name, row)
                if reach.kept:
                    known |= set(window_rows)
        for row in range(event.first, event.first + event.count):
            window[row - base[op.output]] = row
        done[op.output] += event.count
    assert all(done[op.output] == op.out_rows for op in ops)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(rows_of_operators())
def test_outputs_overwrite_only_rows_that_nobody_reads_any_more(
    case: tuple[list[RowOp], dict[str, tuple[int, int]], set[str], int],
) -> None:
    ops, images, inner, rows = case
    stripe = make_stripe(ops, images, inner, rows)
    by_index = {op.index: op for op in ops}
    for (output, source), distance in stripe.distances.items():
        row_in, done = images[source][1], dict.fromkeys(images, 0)
        for event in stripe.events:
            op = by_index[event.index]
            for name, reach in op.inputs:
                if name == source and not event.moved:
                    needed = reach.first(done[op.output], images[source][0]) * row_in
                    written = done[output] * images[output][1]
                    assert not written or written <= needed + distance or needed >= images[source][0] * row_in
            done[op.output] += 0 if event.moved else event.count


@settings(deadline=None, max_examples=150, derandomize=True)
@given(rows_of_operators())
def test_sketches_are_right(
    case: tuple[list[RowOp], dict[str, tuple[int, int]], set[str], int],
) -> None:
    ops, images, inner, rows = case
    stripe, sketch = make_stripe(ops, images, inner, rows), sketch_stripe(ops, images, inner, rows)
    assert sketch.windows == stripe.windows
    assert sketch.distances == stripe.distances
    assert sketch.calls == sum(not event.moved for event in stripe.events)


def all_in_turns(rows: int) -> Planner:
    """Instead of the planner: every run of operators that can takes turns."""

    def plan(
        program: Program, steps: Sequence[Step], target: Target, *, thorough: bool = True
    ) -> tuple[Program, list[Step], MemoryPlan]:
        demands = memory.demands_of(program, steps, target)
        striping = Striping(program, demands, memory.row_ops(program, steps, target))
        striped = replace(program, stripes=longest(striping, rows))
        return striped, memory.by_rows(striped, steps), plan_memory(striped, demands, thorough=thorough)

    return plan


def longest(striping: Striping, rows: int) -> tuple[Stripe, ...]:
    """As many operators as follow each other, from the first on."""
    found, index = [], 0
    while index < len(striping.program.ops):
        last = index
        while last + 1 in striping.row_ops:
            last += 1
        if index in striping.row_ops and last > index:
            found.append(striping.stripe(index, last, rows))
        index = last + 1
    return tuple(found)


def mixed(seed: int, chains: int = 5) -> Chains:
    """Some chains side by side, each with an input and an output of its own."""
    made = Chains(seed)
    for _ in range(chains):
        height, width, channels = (int(n) for n in made.rng.integers((8, 5, 1), (16, 12, 9)))
        made.sink(made.grow(made.source(height, width, channels), 5))
    return made


def check(made: Chains, target: Target, folder: Path) -> None:
    """Build, run, compare every byte."""
    backend = TvmBackend()
    wanted = run_program(made.program, made.values)
    built = backend.compile(made.program, target, folder, [Inference(made.values, wanted)], "chains")
    result = backend.run(folder, target, built.program, [made.values])
    for port, got, want in zip(made.program.outputs, result.outputs[0], wanted, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=f"{target.name}: {port.name}")
    if result.op_instructions:
        assert set(result.op_instructions) == {op.name for op in made.program.ops}


@pytest.mark.parametrize(
    ("target", "rows", "seed"),
    [
        *[("cortex-m4", 1, 1), ("cortex-m4", 2, 2), ("cortex-m3", 3, 3), ("host", 1, 4)],
        pytest.param("cortex-m55", 2, 6, marks=needs_qemu),
    ],
)
def test_turns_change_no_byte(
    target: str, rows: int, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tvm_backend, "plan_steps", all_in_turns(rows))
    check(mixed(seed), load_target(target), tmp_path)


def test_outputs_over_inputs_change_no_byte(tmp_path: Path) -> None:
    made = mixed(5, 8)
    check(made, load_target("cortex-m4"), tmp_path)


def block() -> Chains:
    """A residual block between two layers."""
    made = Chains(3)
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    x = made.conv(made.source(48, 32, 3), 12, same)
    y = made.conv(x, 12, same)
    z = made.conv(y, 12, same, residual=x)
    made.sink(made.conv(z, 4, Window(kernel=(3, 3), strides=(3, 3))))
    return made


def planned(target: Target) -> tuple[Program, MemoryPlan]:
    program = block().program
    program, _, plan = memory.plan_steps(program, choose_kernels(program, target), target)
    return program, plan


def test_small_memory_takes_turns() -> None:
    target = load_target("cortex-m4")
    fast, small = planned(target), planned(replace_target(target, memory="small"))
    assert not fast[0].stripes
    assert small[0].stripes
    assert small[1].nbytes < fast[1].nbytes / 3


def test_a_ram_limit_takes_as_few_turns_as_it_needs() -> None:
    target = load_target("cortex-m4")
    fast, small = planned(target)[1].nbytes, planned(replace_target(target, memory="small"))[1].nbytes
    program, plan = planned(replace_target(target, ram_bytes=(fast + small) // 2))
    assert program.stripes
    assert small < plan.nbytes <= (fast + small) // 2
    assert not planned(replace_target(target, ram_bytes=fast + 1024))[0].stripes


def test_the_report_says_what_turns_saved_and_cost(tmp_path: Path) -> None:
    made, backend, target = block(), TvmBackend(), load_target("cortex-m4")
    vector = [Inference(made.values, run_program(made.program, made.values))]
    for memory_of, notes in (("fast", 0), ("small", 1)):
        folder = tmp_path / memory_of
        folder.mkdir()
        chosen = replace_target(target, memory=memory_of)
        built = backend.compile(made.program, chosen, folder, vector, "block")
        run = backend.run(folder, chosen, built.program, [made.values])
        said = memory_notes(backend, built, run, vector)
        assert len(said) == notes
    fast = planned(target)[1].nbytes
    assert "Memory: 4 layers take turns on rows of their tensors" in said[0]
    assert f"takes {built.plan.nbytes:,} bytes instead of {fast:,}" in said[0]
    assert f"{run.instructions:,} instructions instead of" in said[0]


def test_a_limit_below_the_smallest_plan_is_refused() -> None:
    target = load_target("cortex-m4")
    with pytest.raises(BudgetError, match="even though operators take turns"):
        planned(replace_target(target, ram_bytes=3000))


def test_recipes_and_targets_say_how_much_memory_matters() -> None:
    assert make_recipe({"target": "cortex-m4"}, "test").resolved_target().memory == "fast"
    small = make_recipe({"target": "cortex-m4", "memory": "small"}, "test")
    assert small.resolved_target().memory == "small"
    with pytest.raises(RecipeError, match="memory"):
        make_recipe({"target": "cortex-m4", "memory": "tiny"}, "test")


def test_bounds_hold() -> None:
    target = load_target("cortex-m4")
    for limit in ("fast", "small"):
        program, plan = planned(replace_target(target, memory=limit))
        steps = choose_kernels(program, target)
        assert plan.nbytes >= plan.lower_bound
        assert plan.lower_bound == max(live_bytes(program, memory.demands_of(program, steps, target)))


def replace_target(target: Target, **fields: object) -> Target:
    import msgspec

    return msgspec.structs.replace(target, **fields)
