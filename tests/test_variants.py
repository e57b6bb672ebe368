"""Several sets of input shapes in one package: same scales, weights once, functions and checks for each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from irshrink import cli
from irshrink.artifact import load_build
from irshrink.backends.package.files import Vector, write_package
from irshrink.backends.toolchain.elf import read_elf
from irshrink.backends.unicorn.firmware import Firmware
from irshrink.backends.unicorn.runner import build_firmware, build_test, run_program
from irshrink.calibration import Measured
from irshrink.compiler import compile_model
from irshrink.errors import ModelError, OutputError, RecipeError, SamplesError, ToolError
from irshrink.execute import execute
from irshrink.graph.edit import constant
from irshrink.lock import read_lock
from irshrink.module import load_module
from irshrink.names import Names
from irshrink.recipe import Recipe, load_recipe
from irshrink.shapes import parse_one_set, parse_shapes, variant_names
from irshrink.target import load_target
from irshrink.testing.loader import loader_of

SMALL, LARGE = (1, 3, 12, 20), (1, 3, 16, 16)
VARIANTS = ({"x": SMALL}, {"x": LARGE})
SCHEMA = Path(__file__).parent.parent / "irshrink" / "report" / "schema.json"


def net(folder: Path) -> Path:
    """Convolutions, a depthwise one and a classifier, for images of any size."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) * 0.3).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2", "b2"], ["c"], name="second", pads=[1, 1, 1, 1], group=8),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("Gemm", ["e", "w3", "b3"], ["y"], name="classes", transB=1),
    ]
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5]),
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], weights)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "net.onnx",
    )
    for name, shape in (("small", SMALL), ("large", LARGE), ("other", (1, 3, 16, 20))):
        np.savez(folder / f"{name}.npz", x=rng.standard_normal((6, *shape[1:])).astype(np.float32))
    return folder / "net.onnx"


def built(folder: Path, target: str, **options: Any) -> tuple[dict[str, Any], Path]:
    values = {"target": target, "calibration": str(folder / "large.npz"), "variants": VARIANTS, **options}
    values.setdefault("test_inputs", 2)
    return compile_model(net(folder), Recipe(**values), folder / "out"), folder / "out"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build for Cortex-M4, calibrated on the second variant."""
    folder = tmp_path_factory.mktemp("device")
    built(folder, "cortex-m4", prefix="net")
    return folder


def test_every_variant_is_checked_and_reported(device: Path) -> None:
    report = json.loads((device / "out" / "report.json").read_text("utf-8"))
    jsonschema.validate(report, json.loads(SCHEMA.read_text("utf-8")))
    assert [(v["name"], v["symbol"]) for v in report["variants"]] == [
        ("12x20", "net_12x20"),
        ("16x16", "net_16x16"),
    ]
    for variant, shape in zip(report["variants"], (SMALL, LARGE), strict=True):
        assert variant["inputs"][0]["shape"] == list(shape)
        assert variant["emulation"]["inputs"] == 2
        assert variant["emulation"]["compared_bytes"] == 10
        assert variant["emulation"]["mismatched_bytes"] == 0
        assert variant["emulation"]["instructions"] > 0
        assert sum(layer["macs"] for layer in variant["layers"]) == variant["macs"] > 0
    assert report["emulation"]["inputs"] == 4
    assert report["size"]["arena_bytes"] == max(v["arena_bytes"] for v in report["variants"])
    assert report["variants"][0]["arena_bytes"] != report["variants"][1]["arena_bytes"]
    notes = " ".join(report["notes"])
    assert "Calibration ran on variant 16x16; all variants have its scales." in notes
    assert "Random inputs test 12x20: the samples have the shapes of other variants." in notes
    page = (device / "out" / "report.html").read_text("utf-8")
    assert "net_12x20" in page
    assert "net_16x16" in page


def test_all_share_scales_weights_and_kernels(device: Path) -> None:
    """Beside functions and what kernels know of sizes, a second variant costs nothing."""
    scales = [_scales(device / "out" / f"model_{name}.onnx") for name in ("12x20", "16x16")]
    assert len(scales[0]) > 8
    assert scales[0] == scales[1]
    alone = compile_model(
        device / "net.onnx",
        Recipe(target="cortex-m4", calibration=str(device / "large.npz"), shapes={"x": LARGE}, test_inputs=1),
        device / "alone",
    )
    both = json.loads((device / "out" / "report.json").read_text("utf-8"))
    assert both["size"]["weights_bytes"] - alone["size"]["weights_bytes"] < 128
    assert alone["variants"] == []
    pattern = re.compile(r"^static const \w+ (\w+)\[", re.MULTILINE)
    sources = ("out/src/net_weights.h", "alone/src/model_weights.h")
    shared, single = (set(pattern.findall((device / name).read_text("utf-8"))) for name in sources)
    assert single <= shared
    assert all("window" in name for name in shared - single), shared - single


def test_the_packages_own_test_runs_all(device: Path) -> None:
    target = load_target("cortex-m4")
    build_test(device / "out", target, device / "test.elf")
    done = run_program(device / "test.elf", target)
    assert (done.text, done.status) == ("PASS\n", 0)
    vector = device / "out" / "test" / "test_vector.h"
    header = vector.read_text("utf-8")
    start = header.index("test1_output_0[")
    digit = re.compile(r"\n    (\d+),").search(header, start)
    assert digit is not None
    wrong = (int(digit[1]) + 1) % 256
    vector.write_text(header[: digit.start(1)] + str(wrong) + header[digit.end(1) :])
    build_test(device / "out", target, device / "test.elf")
    vector.write_text(header)
    done = run_program(device / "test.elf", target)
    assert done.text.startswith("FAIL: net_16x16 output 0 byte 0: expected")
    elf = read_elf(device / "test.elf")
    report = json.loads((device / "out" / "report.json").read_text("utf-8"))
    assert elf.symbol("net_arena").size == report["size"]["arena_bytes"]


WRITES = """
#include "net.h"
#include <stdint.h>
static uint8_t net_arena[NET_ARENA_BYTES] __attribute__((aligned(16)));
static int run(int at) { net_arena[at] = 1; return 0; }
int net_1_run(void) { return run(NET_1_WRITES); }
int net_2_run(void) { return run(100); }
void *net_1_input(int i) { (void)i; return net_arena; }
void *net_2_input(int i) { (void)i; return net_arena; }
void *net_1_output(int i) { (void)i; return net_arena; }
void *net_2_output(int i) { (void)i; return net_arena; }
size_t net_1_input_bytes(int i) { (void)i; return 4; }
size_t net_2_input_bytes(int i) { (void)i; return 4; }
size_t net_1_output_bytes(int i) { (void)i; return 4; }
size_t net_2_output_bytes(int i) { (void)i; return 4; }
"""


def test_a_variant_keeps_to_its_own_part_of_the_arena(tmp_path: Path) -> None:
    target, names, source = load_target("cortex-m4"), Names("net", ("1", "2")), tmp_path / "src"
    source.mkdir()
    counts = "".join(f"#define NET_{n}_INPUT_COUNT 1\n#define NET_{n}_OUTPUT_COUNT 1\n" for n in (1, 2))
    sizes = "#define NET_ARENA_BYTES 128\n#define NET_1_ARENA_BYTES 64\n#define NET_2_ARENA_BYTES 128\n"
    functions = "".join(
        f"int net_{n}_run(void); void *net_{n}_input(int); void *net_{n}_output(int);\n"
        f"size_t net_{n}_input_bytes(int); size_t net_{n}_output_bytes(int);\n"
        for n in (1, 2)
    )
    for at in (60, 64):
        header = f"#include <stddef.h>\n#define NET_1_WRITES {at}\n{counts}{sizes}{functions}"
        (source / "net.h").write_text(header)
        (source / "net.c").write_text(WRITES)
        write_package(tmp_path, target, ["net.c"], [[Vector((b"1234",), (b"1234",))]] * 2, names=names)
        build_firmware(tmp_path, target, tmp_path / f"{at}.elf", names=names)
    first = [Firmware(tmp_path / f"{at}.elf", target, names=names) for at in (60, 64)]
    first[0].run([b"1234"])
    with pytest.raises(ToolError, match="arena overrun: net_1_run wrote beyond its 64 bytes"):
        first[1].run([b"1234"])
    Firmware(tmp_path / "64.elf", target, names=names, variant=1).run([b"1234"])


def test_run_takes_the_variant_that_the_data_fits(device: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, variant in (("small", "12x20"), ("large", "16x16")):
        facts = execute(device / "out", device / f"{name}.npz", samples=2)
        assert (facts["variant"], facts["mismatched_bytes"]) == (variant, 0)
    with pytest.raises(
        SamplesError, match=r"the data fits no variant of the build\. Variant 12x20: .*Variant 16x16"
    ):
        execute(device / "out", device / "other.npz")
    assert cli.run(["run", str(device / "out"), "--input", str(device / "small.npz"), "--samples", "1"]) == 0
    assert re.search(r"variant +12x20", capsys.readouterr().out)


def test_a_build_in_python_takes_the_variant_that_arrays_fit(device: Path) -> None:
    build = load_build(device / "out")
    for name, shape in (("small", SMALL), ("large", LARGE)):
        x = np.load(device / f"{name}.npz")["x"][0]
        assert build({"x": x})["y"].shape == (1, 5)
        assert build.fitting({"x": shape}).program.inputs[0].shape == shape
    with pytest.raises(
        SamplesError, match=r"no variant takes 'x' \[1, 3, 9, 9\]\. There are: 12x20 \(x \[1, 3"
    ):
        build({"x": np.zeros((1, 3, 9, 9), np.float32)})


def test_what_is_gone_from_a_build_is_named(device: Path, tmp_path: Path) -> None:
    shutil.copytree(device / "out", tmp_path / "out")
    (tmp_path / "out" / "lib" / "emulation.elf").unlink()
    with pytest.raises(OutputError, match=r"emulation\.elf: is missing from the build\. Compile again"):
        execute(tmp_path / "out", device / "small.npz")
    (tmp_path / "out" / "model_16x16.onnx").unlink()
    assert cli.run(["run", str(tmp_path / "out"), "--input", str(device / "small.npz")]) == 1


def test_a_lock_brings_the_variants_back(device: Path) -> None:
    lock = read_lock(device / "out" / "recipe.lock")
    assert lock is not None
    assert lock.recipe["variants"] == [{"x": list(SMALL)}, {"x": list(LARGE)}]
    given = {"calibration": str(device / "large.npz")}
    assert load_recipe(device / "out" / "recipe.lock", given).variants == VARIANTS


def test_the_loader_takes_the_variant_that_arrays_fit(tmp_path: Path) -> None:
    _, out = built(tmp_path, "host")
    module, build = loader_of(out), load_build(out)
    model = module.Model()
    for name in ("small", "large"):
        x = np.load(tmp_path / f"{name}.npz")["x"][:1]
        np.testing.assert_array_equal(model.run({"x": x})["y"], build({"x": x})["y"])
    with pytest.raises(
        module.ModelError, match=r"no variant takes 'x' \(1, 3, 16, 20\); there are: 'x' \(1, 3, 12"
    ):
        model.run({"x": np.load(tmp_path / "other.npz")["x"][:1]})
    second = module.VARIANTS[1]
    assert second.symbol == "model_16x16"
    assert len(model.run_bytes([bytes(second.inputs[0].nbytes)], second)[0]) == 5


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="apt-get install qemu-user")
def test_variants_in_qemu(tmp_path: Path) -> None:
    report, out = built(tmp_path, "cortex-a53")
    for variant in report["variants"]:
        assert variant["emulation"]["mismatched_bytes"] == 0
        assert variant["emulation"]["instructions"] > 0
    done = subprocess.run(["qemu-aarch64", str(out / "bin" / "model_test")], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"PASS\n")


def test_data_that_fits_no_variant(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"the samples fit no variant\. Variant 12x20: .*Variant 16x16: "):
        built(tmp_path, "host", calibration=str(tmp_path / "other.npz"))
    assert not (tmp_path / "out").exists()


def test_without_data_every_variant_runs_in_float(tmp_path: Path) -> None:
    report, _ = built(tmp_path, "host", calibration=None, io="float")
    assert [v["emulation"]["mismatched_bytes"] for v in report["variants"]] == [0, 0]


def test_what_calibration_did_not_see_is_refused() -> None:
    with pytest.raises(
        ModelError, match="a value 'z' that it does not have on those of the calibration data"
    ):
        Measured().ranges_of("minmax", ["z"])


@pytest.mark.parametrize(
    ("texts", "shapes", "variants"),
    [
        (["a=1,2"], {"a": (1, 2)}, ()),
        (["a=1,2", "a=1,3"], {}, ({"a": (1, 2)}, {"a": (1, 3)})),
        (["a=1,2", "b=4", "a=1,3"], {"b": (4,)}, ({"a": (1, 2)}, {"a": (1, 3)})),
        (["a=1", "a=2", "b=3", "b=4"], {}, ({"a": (1,), "b": (3,)}, {"a": (2,), "b": (4,)})),
    ],
)
def test_shapes_of_a_command_line(texts: list[str], shapes: object, variants: object) -> None:
    assert parse_shapes(texts) == (shapes, variants)


def test_shapes_that_contradict_each_other() -> None:
    with pytest.raises(RecipeError, match=r"different numbers of shapes \('a' 2, 'b' 3\)"):
        parse_shapes(["a=1", "a=2", "b=1", "b=2", "b=3"])
    with pytest.raises(RecipeError, match="input 'a' is given 2 shapes; here it takes one"):
        parse_one_set(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": ({"x": (1,)},)}, "variants: there is one. Give its shapes as `shapes`"),
        ({"variants": ({"x": (1,)}, {"y": (1,)})}, "each must give shapes for the same inputs"),
        ({"variants": ({"x": (1,)}, {"x": (1,)})}, "variants: x=1 is there twice"),
        ({"variants": ({"x": (1,)}, {"x": (0,)})}, "every dimension must be positive"),
        ({"variants": ({"x": (1,)}, {"x": (2,)}), "shapes": {"x": (1,)}}, "'x' has a shape for all variants"),
        ({"variants": tuple({"x": (n,)} for n in range(1, 18))}, "17 are more than the 16"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(target="host", **options)


def test_shapes_that_the_model_does_not_take(tmp_path: Path) -> None:
    model = net(tmp_path)
    recipe = Recipe(target="host", variants=({"x": (1, 3, 8, 8)}, {"x": (1, 4, 8, 8)}))
    with pytest.raises(RecipeError, match="--shape x=1,4,8,8 contradicts the shape"):
        compile_model(model, recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("shapes", "names"),
    [
        ([[(1, 3, 24, 40)], [(1, 3, 32, 32)]], ("24x40", "32x32")),
        ([[(1, 64), (1, 64)], [(1, 128), (1, 128)]], ("64", "128")),
        ([[(1, 64), (1, 64)], [(1, 64), (1, 128)]], ("64", "128")),
        ([[(1, 64), (1, 64)], [(1, 128), (1, 64)], [(1, 64), (1, 128)]], ("64_64", "128_64", "64_128")),
        ([[(1, 3)]], ()),
        ([[(n, 10**n, 10**n, 10**n)] for n in (5, 6)], ("v1", "v2")),
    ],
)
def test_names_of_variants(shapes: list[list[tuple[int, ...]]], names: tuple[str, ...]) -> None:
    assert variant_names(shapes) == names


def _scales(model: Path) -> dict[str, tuple[float, ...]]:
    """Scale by the value that is quantized or its copy in int8."""
    found = {}
    for node in load_module(model).graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = constant(node.inputs[1])
            assert scale is not None
            found[str(node.outputs[0].name)] = tuple(scale.ravel().tolist())
    return found
