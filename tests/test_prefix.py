"""The names of a C package: given by --prefix, refused where C has other uses for them; two side by side."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from irshrink.artifact import load_build
from irshrink.backends.package.build import compile_library
from irshrink.backends.package.files import linker_script
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import read_elf
from irshrink.backends.tvm.weights import Weights
from irshrink.backends.unicorn.runner import run_program
from irshrink.compiler import compile_model
from irshrink.errors import RecipeError
from irshrink.execute import execute
from irshrink.lock import read_lock
from irshrink.names import Names, api
from irshrink.recipe import Recipe
from irshrink.target import load_target

MODELS = Path(__file__).parent.parent / "models"

BOTH = """
int kws_test(void);
int ad_test(void);
int main(void) { return kws_test() | ad_test(); }
"""


def compiled(name: str, target: str, out: Path, **options: object) -> Path:
    values = {"target": target, "test_inputs": 1, **options}
    compile_model(MODELS / f"{name}.onnx", Recipe(**values), out)  # type: ignore[arg-type]
    return out


def test_two_builds_in_one_firmware(tmp_path: Path) -> None:
    """Two integer networks, each with its own arena, weights and kernels, and each with its own bytes."""
    target = load_target("cortex-m4")
    objects: list[Path] = []
    for name in ("kws", "ad"):
        samples = str(MODELS / f"{name}-samples.npz")
        build = compiled(name, "cortex-m4", tmp_path / name, calibration=samples, prefix=name)
        work = tmp_path / f"{name}-objects"
        work.mkdir()
        objects += compile_library(build, target, work)
        test = [build / "test" / "test_main.c"]
        places = [build / "src", build / "port" / "cortex-m"]
        objects += zig.compile_objects(test, target, work, include=places, flags=[f"-Dmain={name}_test"])
    (tmp_path / "both.c").write_text(BOTH)
    port = tmp_path / "kws" / "port" / "cortex-m"
    objects += zig.compile_objects([tmp_path / "both.c", port / "startup.c"], target, tmp_path)
    (tmp_path / "both.ld").write_text(linker_script(target))
    zig.link_firmware(objects, target, tmp_path / "both.ld", tmp_path / "both.elf")
    done = run_program(tmp_path / "both.elf", target)
    assert (done.text, done.status) == ("PASS\nPASS\n", 0)
    symbols = read_elf(tmp_path / "both.elf")
    assert symbols.symbol("kws_arena").address != symbols.symbol("ad_arena").address


def test_every_name_follows(tmp_path: Path) -> None:
    build = compiled("lenet-5", "host", tmp_path / "out", prefix="Net_2")
    assert {path.name for path in (build / "src").glob("*2*")} == {
        *("Net_2.h", "Net_2.c", "Net_2_kernels.h", "Net_2_weights.h", "Net_2_weights.S", "Net_2_weights.bin")
    }
    assert (build / "irshrink_Net_2.py").is_file()
    assert (build / "lib" / "libirshrink_Net_2.so").is_file()
    for path in (
        *(build / "src").glob("Net_2*[chS]"),
        build / "Makefile",
        build / "CMakeLists.txt",
        build / "README.txt",
    ):
        text = path.read_text("utf-8")
        assert re.search(r"\bmodel_|\bMODEL_(?!FLAGS)|irshrink_model|\bmodel\.[ch]", text) is None, path
    assert "#define NET_2_ARENA_BYTES" in (build / "src" / "Net_2.h").read_text("utf-8")
    lock = read_lock(build / "recipe.lock")
    assert lock is not None
    assert lock.recipe["prefix"] == "Net_2"


def test_a_build_with_a_prefix_runs_and_loads(tmp_path: Path) -> None:
    build = compiled("lenet-5", "host", tmp_path / "out", prefix="net")
    opened = load_build(build)
    port = opened.program.inputs[0]
    x = np.random.default_rng(0).standard_normal(port.shape).astype(np.float32)
    np.savez(tmp_path / "x.npz", **{port.name: x})
    assert execute(build, tmp_path / "x.npz")["mismatched_bytes"] == 0
    spec = importlib.util.spec_from_file_location("irshrink_net", build / "irshrink_net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["irshrink_net"] = module  # NamedTuple looks its module up
    spec.loader.exec_module(module)
    for name, value in opened({port.name: x}).items():
        np.testing.assert_array_equal(value, module.Model().run({port.name: x})[name])


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("2d", "prefix '2d' is not a name in C"),
        ("a-b", "prefix 'a-b' is not a name in C"),
        ("größe", "prefix 'größe' is not a name in C"),
        ("_x", "prefix '_x' is not a name in C"),
        ("", "prefix '' is not a name in C"),
        ("a\n", "is not a name in C"),
        ("x" * 40, "has 40 characters; at most 32"),
        ("String", r"prefix 'String' is taken: String\.h is another header"),
        ("irshrink", "is taken"),
    ],
)
def test_refused(prefix: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(target="host", prefix=prefix)


def test_the_functions_of_variants() -> None:
    names = Names("net", ("64", "128"))
    assert names.symbols == ("net_64", "net_128")
    assert api("net_64")[:2] == ("net_64_run", "net_64_run_in")
    assert names.defines()[1] == "-DMODEL_VARIANTS(X)=X(net_64, NET_64) X(net_128, NET_128)"


def test_constants_keep_their_names_apart() -> None:
    """Names of tensors may be words of C, or what the package itself defines."""
    weights = Weights(Names("net"))
    wanted = ("float", "arena", "net_run", "net_weights", "irs_x", "a", "a", "a")
    given = [weights.name(name, np.array([i], np.int8)) for i, name in enumerate(wanted)]
    assert given == ["float_2", "arena_2", "net_run_2", "net_weights_2", "c_irs_x", "a", "a_2", "a_3"]
    assert weights.name("b", np.array([5], np.int8)) == "a"
