"""Tuning kernels: every schedule gives the reference's bytes, and ``irshrink tune`` end to end."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from irshrink.backend import Choices, Inference
from irshrink.backends.tvm.backend import TvmBackend, choose_kernels
from irshrink.backends.tvm.schedules import Chooser, plain_options
from irshrink.cli import run
from irshrink.program.ops import ConvF32, ConvInt8, DenseInt8, Requantization, Window
from irshrink.program.program import Program
from irshrink.program.reference.evaluate import run_program
from irshrink.recipe import Recipe
from irshrink.target import load_target, target_names
from irshrink.testing.kernels import KernelBench
from irshrink.tune import program_of
from irshrink.tuning.costs import Command
from irshrink.tuning.database import Database, Schedules, schedules_for, shipped_database
from irshrink.tuning.tasks import find_tasks
from irshrink.tuning.workload import workload

MODELS = Path(__file__).parents[1] / "models"
MODEL = """
<ir_version: 9, opset_import: ["" : 20]>
tiny (float[1, 4, 6, 6] x) => (float[1, 8, 6, 6] y)
{
   y = Conv (x, w, b)
}
"""


def conv(
    bench: KernelBench, size: tuple[int, int], cin: int, cout: int, window: Window, groups: int = 1
) -> None:
    rng = bench.rng
    low, high = int(rng.integers(-128, 0)), int(rng.integers(1, 128))
    bench.add(
        ConvInt8,
        bench.int8(1, *size, cin),
        shape=(1, *window.output(*size), cout),
        weight=rng.integers(-127, 128, (cout, *window.kernel, cin // groups)).astype(np.int8),
        bias=rng.integers(-9999, 9999, cout).astype(np.int32),
        window=window,
        groups=groups,
        input_zero_point=int(rng.integers(-128, 128)),
        requantization=Requantization(
            multiplier=rng.uniform(1e-4, 1e-2, cout).astype(np.float32), zero_point=3, low=low, high=high
        ),
    )


def dense(bench: KernelBench, depth: int, cout: int) -> None:
    bench.add(
        DenseInt8,
        bench.int8(1, depth),
        shape=(1, cout),
        weight=bench.rng.integers(-127, 128, (cout, depth)).astype(np.int8),
        bias=bench.rng.integers(-9999, 9999, cout).astype(np.int32),
        requantization=Requantization(multiplier=np.full(cout, 1e-3, np.float32), zero_point=-2),
    )


def layers(seed: int, height: int = 5, width: int = 6, cin: int = 5, cout: int = 6) -> KernelBench:
    """A pointwise, a general, a depthwise and a dense layer of awkward sizes."""
    bench = KernelBench(seed)
    conv(bench, (height, width), cin, cout, Window(kernel=(1, 1)))
    conv(bench, (height, width), cin, cout, Window(kernel=(3, 2), strides=(1, 2), pads=(1, 0, 1, 1)))
    conv(bench, (height, width), cout, cout, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), groups=cout)
    dense(bench, 3 * cin, cout)
    return bench


@pytest.mark.parametrize("name", target_names())
def test_the_rule_is_one_of_the_options(name: str) -> None:
    bench, target = layers(0, cin=16, cout=17), load_target(name)
    for op in bench.program.ops:
        options = plain_options(op, bench.program, target)
        assert len({tuple(sorted(o.items())) for o in options}) == len(options) > 0
        chooser = Chooser(target, Schedules({op.name: options[0]}))
        given = chooser.call(op, bench.program)
        rule = Chooser(target, Schedules()).call(op, bench.program)
        assert (given.function.name, given.schedule) == (rule.function.name, rule.schedule)
        assert chooser.tuned == [op.name]
        assert not chooser.notes()


@settings(deadline=None, max_examples=2, derandomize=True, phases=[Phase.generate])
@given(
    st.integers(0, 99),
    st.integers(3, 7),
    st.integers(1, 9),
    st.sampled_from([1, 3, 8, 13]),
    st.integers(1, 13),
)
def test_every_schedule_gives_the_bytes_of_the_reference(
    seed: int, height: int, width: int, cin: int, cout: int
) -> None:
    """A few schedules of each layer, another few each time."""
    bench, target = layers(seed, height, max(2, width), cin, cout), load_target("cortex-m4")
    backend = TvmBackend()
    for task in find_tasks(backend, bench.program, target):
        rng = np.random.default_rng(seed)
        picked = [task.candidates[i] for i in rng.permutation(len(task.candidates))[:6]]
        program, inputs = task.side_by_side(len(picked)), task.inputs()
        wanted = run_program(program, inputs)
        chosen = backend.with_schedules(
            Schedules({f"op{i}": s for i, s in enumerate(picked)}), measuring=True
        )
        with tempfile.TemporaryDirectory() as folder:
            chosen.compile(program, target, Path(folder), [Inference(inputs, wanted)], "schedules")
            outputs = chosen.run(Path(folder), target, program, [inputs]).outputs[0]
        for schedule, output, expected in zip(picked, outputs, wanted, strict=True):
            np.testing.assert_array_equal(output, expected, err_msg=f"{task.workload}: {schedule}")


def test_a_schedule_that_kernels_do_not_have_is_said_and_not_used() -> None:
    bench, target = layers(0), load_target("cortex-m4")
    op = bench.program.ops[0]
    foreign: dict[str, int | float | str | bool] = {
        "kernel": "tile",
        "style": "dsp",
        "pixels": 64,
        "channels": 64,
        "cost": 1,
    }
    database = Database(
        target="cortex-m4", measured="instructions", schedules={workload(op, bench.program): foreign}
    )
    chooser = Chooser(target, Schedules(databases=[database]))
    rule = Chooser(target, Schedules())
    assert chooser.call(op, bench.program).function.name == rule.call(op, bench.program).function.name
    assert chooser.notes()[0].startswith(
        "1 of 1 layer has a schedule in the database that their kernels do not"
    )
    assert (chooser.choices(), rule.choices()) == (Choices(outdated=1), Choices(by_rule=1))


@pytest.mark.parametrize(
    ("gained", "message"),
    [
        (None, "It was never compared with measurements there: `irshrink tune` may find better ones."),
        ({"ad": 0.99, "kws": 0.896}, "`irshrink tune` saved up to 10 % of the instructions of other models."),
        ({"ad": 0.98}, None),
        ({}, None),
    ],
)
def test_a_note_only_where_tuning_helps_or_was_never_tried(
    monkeypatch: pytest.MonkeyPatch, gained: dict[str, float] | None, message: str | None
) -> None:
    shipped = None if gained is None else Database(target="x", measured="instructions", gained=gained)
    monkeypatch.setattr("irshrink.backends.tvm.schedules.shipped_database", lambda name: shipped)
    bench, chooser = layers(0), Chooser(load_target("cortex-m4"), Schedules())
    chooser.call(bench.program.ops[0], bench.program)
    said = f"1 of 1 layer has no tuned schedule for cortex-m4; a rule chose. {message}"
    assert chooser.notes() == ([] if message is None else [said])


def test_a_database_may_leave_it_to_the_rule() -> None:
    bench, target = layers(0), load_target("cortex-m4")
    op = bench.program.ops[0]
    database = Database(
        target="cortex-m4",
        measured="instructions",
        schedules={workload(op, bench.program): {"kernel": "rule", "cost": 1}},
    )
    chooser = Chooser(target, Schedules(databases=[database]))
    rule = Chooser(target, Schedules()).call(op, bench.program)
    assert chooser.call(op, bench.program).schedule == rule.schedule
    assert chooser.tuned == [op.name]


def test_a_command_prints_its_cost_last(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text("print('flashed to', 2, 'sectors'); print('cycles: 1234')")
    built: Any = type("Built", (), {"folder": tmp_path})
    assert Command(f"{sys.executable} {script}").costs(TvmBackend(), [built]) == [[1234.0]]


@pytest.mark.parametrize(
    ("code", "seconds", "message"),
    [
        ("print('no board')", 60, "printed no number"),
        ("import sys; sys.exit('no probe found')", 60, "ended with status 1: no probe found"),
        ("import time; time.sleep(60)", 0.2, "did not end within 0.2 seconds"),
    ],
)
def test_commands_that_fail(tmp_path: Path, code: str, seconds: float, message: str) -> None:
    from irshrink.errors import ToolError

    (tmp_path / "run.py").write_text(code)
    built: Any = type("Built", (), {"folder": tmp_path})
    with pytest.raises(ToolError, match=message):
        Command(f"{sys.executable} {tmp_path / 'run.py'}", seconds=seconds).costs(TvmBackend(), [built])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.onnx`` and ``samples.npz``."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    for name, shape in (("w", (8, 4, 1, 1)), ("b", (8,))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "tiny.onnx")
    np.savez(folder / "samples.npz", x=rng.standard_normal((8, 4, 6, 6)).astype(np.float32))
    return folder


def command(files: Path, *more: str) -> list[str]:
    given = [str(files / "tiny.onnx"), "-t", "cortex-m4", "-c", str(files / "samples.npz")]
    return [more[0], *given, *more[1:]]


def test_tune_and_compile(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "db.toml"
    assert run(command(files, "tune", "--trials", "1", "-o", str(out), "--json")) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["layers"][0]["measured"] == 24
    journal = Path(f"{out}.journal")
    assert len(journal.read_text().splitlines()) == 2

    assert run(command(files, "tune", "--trials", "2", "-o", str(out), "--json")) == 0  # goes on
    facts = json.loads(capsys.readouterr().out)
    (layer,) = facts["layers"]
    assert layer["measured"] == 48
    assert facts["model"]["tuned"]["cost"] <= 1.01 * first["model"]["tuned"]["cost"]
    assert facts["model"]["tuned"]["cost"] <= facts["model"]["rule"]["cost"]
    assert not layer["failures"]

    built = tmp_path / "build"
    assert run(command(files, "compile", "--schedules", str(out), "-o", str(built), "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["emulation"]["instructions"] == facts["model"]["tuned"]["cost"]
    assert not any("tuned schedule" in note for note in report["notes"])
    assert 'schedules = "' in (built / "recipe.lock").read_text()


@pytest.mark.parametrize("name", ["cortex-m3", "cortex-m4"])
def test_tune_measures_sums_as_compile_builds_them(files: Path, name: str) -> None:
    recipe, target = Recipe(target=name), load_target(name)
    program = program_of(files / "tiny.onnx", recipe, TvmBackend(), target)
    assert [op.fused for op in program.ops if isinstance(op, ConvF32)] == [target.has("fma")]


@pytest.fixture(scope="module")
def kws() -> Program:
    recipe = Recipe(target="cortex-m4", calibration=str(MODELS / "kws-samples.npz"))
    return program_of(MODELS / "kws.onnx", recipe, TvmBackend(), load_target("cortex-m4"))


@pytest.mark.parametrize("name", [name for name in target_names() if shipped_database(name) is not None])
def test_what_ships_knows_the_nets_that_come_along(name: str, kws: Program) -> None:
    """A database that kernels or keys have outgrown would be passed over in silence."""
    database = shipped_database(name)
    assert database is not None
    assert "kws" in database.gained
    if not database.schedules:
        return
    target = load_target(name)
    chooser = Chooser(target, schedules_for(target))
    choose_kernels(kws, target, chooser)
    assert chooser.tuned
    assert (chooser.by_rule, chooser.stale) == ([], [])


def test_tune_without_a_trial_is_an_error(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "db.toml"
    assert run(command(files, "tune", "--time-limit", "0.000001", "-o", str(out))) == 3
    assert "got no trial: the time limit came first" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--cost", "seconds"], 3, "do not run on this machine itself. Use --cost instructions"),
        (["--runner", "x", "--cost", "seconds"], 1, "Leave --cost out"),
        (["--time-limit", "soon"], 1, "is no duration"),
        (["--slack", "some"], 1, "is no fraction"),
    ],
)
def test_tune_refusals(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    assert run(command(files, "tune", "-o", str(tmp_path / "db.toml"), *options)) == code
    assert message in capsys.readouterr().err


def test_tune_keeps_what_is_not_of_its_kind(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "db.toml"
    out.write_text('format = 1\ntarget = "cortex-m7"\nmeasured = "instructions"\n')
    assert run(command(files, "tune", "-o", str(out))) == 1
    assert "holds instructions of cortex-m7" in capsys.readouterr().err
