"""What layers cost: families of layers, fits, what is remembered, and the answers that passes get."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irshrink.backend import Inference
from irshrink.costs.fit import Loops, fit, line
from irshrink.costs.measure import Callers, Meter, Reading, side_by_side
from irshrink.costs.planned import formats, needs_costs, plan_only
from irshrink.costs.predict import drawn
from irshrink.costs.service import TargetCosts, costs_for
from irshrink.costs.sizes import Single, Sizes, coupled, family, resized, single, sizes_of
from irshrink.costs.store import Store
from irshrink.errors import ToolError
from irshrink.graph.shapes import infer_shapes
from irshrink.layer_cost import Cost
from irshrink.module import Module
from irshrink.pipeline import Pipeline, options_of
from irshrink.program.lower import lower_for
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.registry import make_pass
from irshrink.target import Target, load_target
from irshrink.testing.small_net import small_net
from irshrink.tuning.tasks import random_inputs
from irshrink.usable import usable_backend

M4 = load_target("cortex-m4")
INT8 = [make_pass("quantize-int8", {"method": "minmax"})]


def small_program() -> Program:
    module = small_net()
    Pipeline(INT8).run(module, M4)
    return lower_for(module, M4)


PROGRAM = small_program()
MEMBERS = [op for op in PROGRAM.ops if sizes_of(op, PROGRAM) is not None]


def test_all_kinds_of_layers_of_the_net_belong_to_families() -> None:
    kinds = {type(op).__name__ for op in MEMBERS}
    assert {"ConvInt8", "AveragePoolInt8", "DenseInt8"} <= kinds


@pytest.mark.parametrize("op", MEMBERS, ids=lambda op: op.name)
def test_a_layer_of_its_own_sizes_is_the_same_workload(op: Any) -> None:
    sizes = sizes_of(op, PROGRAM)
    assert sizes is not None
    assert resized(op, PROGRAM, sizes).workload == single(op, PROGRAM).workload


@given(
    st.sampled_from(MEMBERS), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9)
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_members_have_their_sizes_compute_and_stay_in_the_family(
    op: Any, rows: int, inputs: int, outputs: int, columns: int
) -> None:
    own = sizes_of(op, PROGRAM)
    assert own is not None
    bound = coupled(op, inputs)
    wanted = Sizes(
        own.rows if own.columns == 1 else rows,
        own.columns if own.columns == 1 else columns,
        inputs,
        outputs if bound is None else bound,
    )
    layer = resized(op, PROGRAM, wanted)
    assert sizes_of(layer.op, layer.program) == wanted
    (result,) = run_program(layer.program, random_inputs(layer.program, 0))
    assert result.shape == layer.program.tensors[layer.op.output].shape
    again = resized(layer.op, layer.program, wanted)
    assert again.workload == layer.workload


def test_a_family_is_called_the_same_whichever_member_asks() -> None:
    conv = next(op for op in MEMBERS if type(op).__name__ == "DenseInt8")
    layer = resized(conv, PROGRAM, Sizes(1, 1, 33, 7))
    first, second = family(conv, PROGRAM), family(layer.op, layer.program)
    assert first is not None
    assert second is not None
    # four inputs are few, and part of the name
    assert first[0] != second[0]
    third = family(*_parts(resized(conv, PROGRAM, Sizes(1, 1, 48, 5))))
    assert third is not None
    assert third[0] == second[0]


def _parts(layer: Single) -> tuple[Any, Program]:
    return layer.op, layer.program


def test_members_are_drawn_alike_and_no_larger_than_emulators_stand() -> None:
    dense = next(op for op in MEMBERS if type(op).__name__ == "DenseInt8")
    wide = Sizes(10_000, 1, 256, 256)
    first = drawn("name", dense, wide)
    assert first == drawn("name", dense, wide)
    assert len(first) > 8
    assert max(one.inputs * one.outputs for one in first) * 10_000 <= 3_000_000


def test_layers_stand_side_by_side_on_their_own_inputs() -> None:
    layers = [single(op, PROGRAM) for op in MEMBERS]
    both = side_by_side([*layers, layers[0]])
    assert len(both.ops) == len(layers) + 1
    inputs = [x for one in (*layers, layers[0]) for x in random_inputs(one.program, 0)]
    results = run_program(both, inputs)
    assert np.array_equal(results[0], results[-1])


def test_a_fit_finds_what_loops_cost() -> None:
    rng = np.random.default_rng(0)
    loops = [Loops(int(c), int(k)) for c, k in rng.integers(3, 90, (14, 2))]

    def cost(one: Loops) -> float:
        return 40 + 9 * -(-one.outputs // 2) + 3.0 * -(-one.outputs // 2) * -(-one.depth // 8)

    found = fit(loops, [cost(one) for one in loops])
    assert found.error == 0.001
    for outputs, depth in ((200, 500), (5, 3), (64, 64)):
        one = Loops(outputs, depth)
        assert found.cost(one) == pytest.approx(cost(one), rel=1e-6)


def test_strips_and_coupled_channels_are_part_of_a_fit() -> None:
    loops = [Loops(c, 1, s) for c, s in ((4, 1), (8, 2), (12, 3), (20, 1), (40, 5), (64, 2))]
    found = fit(loops, [100 + 7 * one.outputs + 2 * (one.strips - 1) * one.outputs for one in loops])
    assert found.cost(Loops(128, 1, 4)) == pytest.approx(100 + 7 * 128 + 6 * 128, rel=1e-6)


def test_a_fit_states_an_error_where_nothing_fits() -> None:
    loops = [Loops(c) for c in (3, 9, 17, 30, 44, 60)]
    assert fit(loops, [100.0, 900.0, 120.0, 2000.0, 300.0, 90.0]).error > 0.3


def test_a_line_through_one_point_two_and_three() -> None:
    assert line([10.0], [8.0]).of(20.0) == pytest.approx(16.0)
    assert line([10.0, 30.0], [8.0, 24.0]).of(20.0) == pytest.approx(16.0)
    assert line([10.0, 20.0, 30.0], [15.0, 25.0, 35.0]).of(100.0) == pytest.approx(105.0)
    assert line([1.0, 2.0], [1.0, 1000.0]).of(0.0) == 0.0


def test_what_was_measured_is_remembered_beside_what_others_wrote(tmp_path: Path) -> None:
    first, second = Store.open("m4", "a", folder=tmp_path), Store.open("m4", "a", folder=tmp_path)
    first.put("one", [[1.5, 2]])
    second.put("two", [[3, 4]])
    again = Store.open("m4", "a", folder=tmp_path)
    assert (again.get("one"), again.get("two")) == ([[1.5, 2]], [[3, 4]])
    assert Store.open("m4", "other kernels", folder=tmp_path).get("one") is None


@pytest.mark.parametrize("text", ["", "[1]", '{"one": 5}', '{"one": [["x", 2]]}', "{"])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    store = Store.open("m4", folder=tmp_path)
    store.put("one", [[1, 2]])
    assert store.path is not None
    store.path.write_text(text, "utf-8")
    assert Store.open("m4", folder=tmp_path).rows == {}


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    store = Store.open("m4", folder=tmp_path / "file")
    store.put("one", [[1, 2]])
    assert store.get("one") == [[1, 2]]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Single]:
    """Layers take 10 for every output element and 2 for every product; those measured are listed."""
    seen: list[Single] = []

    def read(self: Meter, layers: Sequence[Single], callers: Callers) -> list[Reading]:
        seen.extend(layers)
        return [Reading(_formula(one) * (0.5 if callers == "alike" else 1.0), 100) for one in layers]

    monkeypatch.setattr(Meter, "read", read)
    return seen


def _formula(layer: Single) -> float:
    elements = layer.program.tensors[layer.op.output].elements
    weight = getattr(layer.op, "weight", None)
    return 10.0 * elements + (0 if weight is None else 2.0 * elements * weight[0].size)


def costs(folder: Path, target: Target = M4) -> TargetCosts:
    return costs_for(target, quantize=INT8, folder=folder)


def net() -> Module:
    """Float, with the shapes of all values."""
    module = small_net()
    infer_shapes(module.model)
    return module


def node(module: Module, name: str) -> ir.Node:
    return next(one for one in module.graph if one.name == name)


def test_nodes_with_other_channels(tmp_path: Path, measured: list[Single]) -> None:
    service, module = costs(tmp_path), net()
    conv = node(module, "node_c1")
    found = service.of_node(conv)
    assert found is not None
    assert (found.unit, found.origin) == ("instructions", "predicted")
    assert found.amount == pytest.approx(64 * 4 * (10 + 2 * 27), rel=0.01)
    wider = service.of_channels(conv, outputs=24)
    assert wider is not None
    assert wider.amount == pytest.approx(64 * 24 * (10 + 2 * 27), rel=0.01)
    before = len(measured)
    assert service.of_channels(conv, outputs=40) is not None
    assert len(measured) == before


def test_depthwise_layers_have_as_many_outputs_as_inputs(tmp_path: Path, measured: list[Single]) -> None:
    service, module = costs(tmp_path), net()
    conv = node(module, "node_c2")
    answers = [service.of_channels(conv, inputs=12), service.of_channels(conv, outputs=12)]
    assert answers[0] is not None
    assert answers[0] == answers[1]
    assert answers[0].amount == pytest.approx(64 * 12 * (10 + 2 * 9), rel=0.01)


def test_what_is_part_of_a_layer_costs_nothing_by_itself(tmp_path: Path, measured: list[Single]) -> None:
    service, module = costs(tmp_path), net()
    assert service.of_node(node(module, "node_r1")) is None
    assert service.of_node(node(module, "node_f")) is None


def test_answers_do_not_depend_on_the_order_or_on_what_is_known(
    tmp_path: Path, measured: list[Single]
) -> None:
    module = net()
    names = [one.name for one in module.graph]
    one, other = costs(tmp_path / "a"), costs(tmp_path / "b")
    forward = {name: one.of_node(node(module, str(name))) for name in names}
    whole = one.of_module(module)
    assert other.of_module(module) == whole
    assert {n: other.of_node(node(module, str(n))) for n in reversed(names)} == forward
    before = len(measured)
    again = costs(tmp_path / "a")
    assert again.of_module(module) == whole
    assert len(measured) == before


def test_a_whole_model_has_parts_by_node(tmp_path: Path, measured: list[Single]) -> None:
    module = small_net()
    found = costs(tmp_path).of_module(module)
    assert found.cost is not None
    assert {"node_c1", "node_c2", "node_y"} <= set(found.layers)
    assert found.cost.amount == pytest.approx(sum(one.amount for one in found.layers.values()))
    assert found.code_bytes is not None
    assert found.code_bytes % 100 == 0
    planned = plan_only(module, M4, quantize=INT8)
    assert (planned.weights_bytes, planned.arena_bytes) == (found.weights_bytes, found.arena_bytes)
    assert (planned.cost, planned.code_bytes) == (None, None)
    assert all(one.op_type != "QuantizeLinear" for one in module.graph)


def test_a_plan_is_the_plan_of_the_build(tmp_path: Path) -> None:
    module = small_net()
    planned = plan_only(module, M4, quantize=INT8)
    program, inputs = PROGRAM, random_inputs(PROGRAM, 0)
    artifact = usable_backend(M4).compile(program, M4, tmp_path, [Inference(inputs, [])], "net")
    assert planned.arena_bytes == artifact.plan.nbytes
    assert planned.weights_bytes == sum(cost.weights_bytes for cost in artifact.costs)


def test_what_nothing_here_measures_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="qemu"):
        costs(tmp_path, load_target("aarch64-linux"))


def test_steps_that_decide_number_formats() -> None:
    steps = [
        make_pass("fold-affine"),
        make_pass("quantize-int8", {"weight_bits": 4, "rounding": "gptq", "method": "percentile"}),
    ]
    (found,) = formats(steps)
    options = options_of(found)
    assert (options["weight_bits"], options["rounding"], options["method"]) == (4, "nearest", "minmax")
    assert needs_costs(steps)
    assert not needs_costs(steps[1:])


def test_the_file_of_measurements_is_readable(tmp_path: Path, measured: list[Single]) -> None:
    costs(tmp_path).of_module(small_net())
    (file,) = tmp_path.glob("cortex-m4-*.json")
    rows = json.loads(file.read_text("utf-8"))
    assert any("ConvInt8" in name for name in rows)
    assert list(rows) == sorted(rows)


@pytest.mark.long
def test_the_emulator_counts_what_was_predicted(tmp_path: Path) -> None:
    module = small_net()
    found = costs(tmp_path).of_module(module)
    backend, inputs = usable_backend(M4), random_inputs(PROGRAM, 0)
    artifact = backend.compile(PROGRAM, M4, tmp_path, [Inference(inputs, [])], "net")
    run = backend.run(tmp_path, M4, artifact.program, [inputs])
    assert run.instructions is not None
    assert found.cost is not None
    assert found.cost.amount == pytest.approx(run.instructions, rel=0.05)
    assert isinstance(found.cost, Cost)
