"""The runner of passes: order, fixpoints, analyses, errors, history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import pytest

from irshrink.errors import InternalError, ModelError, PassError
from irshrink.graph.edit import insert_before
from irshrink.module import Module, PassRecord, module_from_text
from irshrink.pipeline import Context, Fixpoint, Pass, PassResult, Pipeline, Step, flatten, options_of
from irshrink.target import load_target
from irshrink.verify import verify_structure

HOST = load_target("host")


def model() -> Module:
    return module_from_text("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[2] x) => (float[2] y) { y = Relu (x) }""")


def count_nodes(graph: ir.Graph) -> int:
    CALLS.append("count")
    return len(graph)


CALLS: list[str] = []


@dataclass(frozen=True)
class Grow:
    """Adds a Neg in front until there are ``until`` nodes."""

    until: int = 3

    name: ClassVar[str] = "grow"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        if ctx.analyses.get(count_nodes) >= self.until:
            return PassResult(False)
        first = module.graph[0]
        first.replace_input_with(0, insert_before(first, "Neg", [first.inputs[0]]).outputs[0])
        ctx.note(f"grew to {len(module.graph)}")
        return PassResult(True, stats={"nodes": len(module.graph)})


@dataclass(frozen=True)
class Call:
    """Calls a function and says that nothing changed."""

    action: Callable[[Module, Context], None]
    changed: bool = False

    name: ClassVar[str] = "call"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        self.action(module, ctx)
        return PassResult(self.changed)


def test_a_fixpoint_ends_when_nothing_changes() -> None:
    module = Pipeline([Fixpoint((Grow(4),))]).run(model(), HOST)
    assert len(module.graph) == 4
    assert [record.changed for record in module.history] == [True, True, True, False]


def test_a_fixpoint_without_end_is_our_bug() -> None:
    with pytest.raises(PassError, match="no fixpoint after 5 rounds of: grow"):
        Pipeline([Fixpoint((Grow(99),), limit=5)]).run(model(), HOST)


def test_history_tells_options_statistics_and_notes() -> None:
    module = Pipeline([Grow(2)]).run(model(), HOST)
    (record,) = module.history
    assert (record.name, record.options, record.stats, record.notes) == (
        "grow",
        {"until": 2},
        {"nodes": 2},
        ("grew to 2",),
    )
    assert record.seconds > 0


def test_analyses_are_computed_again_after_a_change_only() -> None:
    CALLS.clear()
    ask = Call(lambda module, ctx: ctx.note(str(ctx.analyses.get(count_nodes))))
    module = Pipeline([ask, ask, Grow(2), ask]).run(model(), HOST)
    assert [record.notes for record in module.history] == [("1",), ("1",), ("grew to 2",), ("2",)]
    assert len(CALLS) == 2


def test_the_random_stream_depends_on_seed_and_name_only() -> None:
    def draw(module: Module, ctx: Context) -> None:
        ctx.note(str(ctx.rng.integers(1 << 40)))

    notes = [
        Pipeline([Call(draw)] * n).run(model(), HOST, seed).history[-1].notes for n, seed in ((1, 0), (2, 0))
    ]
    assert notes[0] == notes[1]
    assert Pipeline([Call(draw)]).run(model(), HOST, 1).history[-1].notes != notes[0]


def test_what_a_pass_raises_names_it_and_the_passes_before() -> None:
    def fail(module: Module, ctx: Context) -> None:
        raise KeyError("w")

    with pytest.raises(PassError, match=r"pass 'call' failed: 'w' \(passes before it: grow\)") as info:
        Pipeline([Grow(2), Call(fail)]).run(model(), HOST)
    assert isinstance(info.value.__cause__, KeyError)


def test_an_error_of_the_user_stays_one() -> None:
    def refuse(module: Module, ctx: Context) -> None:
        raise ModelError("the model is empty")

    with pytest.raises(ModelError, match="the model is empty"):
        Pipeline([Call(refuse)]).run(model(), HOST)


def test_a_broken_graph_is_the_fault_of_the_pass_that_left_it() -> None:
    def cut(module: Module, ctx: Context) -> None:
        module.graph[0].replace_input_with(0, ir.Value(name="ghost"))

    with pytest.raises(PassError, match="pass 'call' failed: Relu 'y' reads 'ghost', which nothing") as info:
        Pipeline([Grow(1), Call(cut, changed=True)], verify=verify_structure).run(model(), HOST)
    assert isinstance(info.value.__cause__, InternalError)


def test_instruments_watch_every_pass_in_order() -> None:
    seen: list[str] = []

    class Watch:
        def before(self, step: Pass, module: Module) -> None:
            seen.append(f"before {step.name} {len(module.graph)}")

        def after(self, step: Pass, module: Module, record: PassRecord) -> None:
            seen.append(f"after {step.name} {len(module.graph)} {record.changed}")

    Pipeline([Grow(2)], [Watch()]).run(model(), HOST)
    assert seen == ["before grow 1", "after grow 2 True"]


def test_flatten_and_options() -> None:
    steps: list[Step] = [Grow(1), Fixpoint((Grow(2), Grow(3)))]
    assert [options_of(step) for step in flatten(steps)] == [{"until": 1}, {"until": 2}, {"until": 3}]
