"""The C toolchain, the ELF reader and the files around the model."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from irshrink.backends.package.files import Vector, linker_script, package_files, vector_files
from irshrink.backends.toolchain import zig
from irshrink.backends.toolchain.elf import Sizes, read_elf, total
from irshrink.errors import BudgetError, InternalError, ToolError
from irshrink.target import load_target, with_memory

C = """
#include <stdint.h>
const int8_t weights[100] = {1, 2, 3};
int32_t counter = 7;
uint8_t buffer[256];
int32_t answer(int32_t x) { counter += x; buffer[x & 255] = 1; return weights[x & 63] + counter; }
struct big { int32_t values[64]; };
void copy(struct big *to, const struct big *from) { *to = *from; }
uint64_t divide(uint64_t a, uint64_t b) { return a / b; }
"""
MAIN = """
#include <stdint.h>
extern uint32_t __stack_top[];
struct big { int32_t values[64]; };
int32_t answer(int32_t x);
void copy(struct big *to, const struct big *from);
uint64_t divide(uint64_t a, uint64_t b);
struct big here, there;
void Reset_Handler(void) {
  copy(&here, &there);
  here.values[0] = answer((int32_t)divide((uint32_t)there.values[1], (uint32_t)there.values[2]));
  for (;;) { }
}
__attribute__((section(".vectors"), used))
void *const vectors[16] = {(void *)__stack_top, (void *)Reset_Handler};
"""
VECTORS = [Vector((b"\1\2",), (b"\3",)), Vector((b"\4\5",), (b"\xff",))]


def write(folder: Path, **sources: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in sources.items():
        (folder / f"{stem}.c").write_text(text)
    return [folder / f"{stem}.c" for stem in sources]


def text(content: str | bytes) -> str:
    assert isinstance(content, str)
    return content


def link(folder: Path, target_name: str = "cortex-m4") -> Path:
    target = load_target(target_name)
    objects = zig.compile_objects(write(folder, code=C, main=MAIN), target, folder)
    (folder / "x.ld").write_text(linker_script(target))
    zig.link_firmware(objects, target, folder / "x.ld", folder / "x.elf")
    return folder / "x.elf"


def test_sizes_by_kind_and_by_symbol(tmp_path: Path) -> None:
    elf = read_elf(link(tmp_path))
    assert elf.symbol("weights").size == 100
    assert elf.symbol("weights").section == ".rodata"
    assert elf.symbol("answer").is_function
    assert elf.symbol("answer").address % 2 == 0
    assert elf.sizes.data == 8  # counter, aligned to 8
    assert elf.sizes.bss == 256 + 2 * 256
    assert 100 <= elf.sizes.rodata <= 108
    assert elf.sizes.flash == elf.sizes.code + elf.sizes.rodata + elf.sizes.data
    assert elf.sizes.ram == elf.sizes.data + elf.sizes.bss
    # Nothing else is loaded: unwind tables and debug information of compiler-rt are gone.
    assert elf.sizes.flash == sum(len(data) for _, data in elf.segments)
    assert set(elf.sections) == {".text", ".rodata", ".data", ".bss"}


def test_an_address_is_described_by_its_function(tmp_path: Path) -> None:
    elf = read_elf(link(tmp_path))
    start = elf.symbol("answer").address
    assert elf.describe(start + 2) == f"answer+0x2 (0x{start + 2:08x})"
    assert elf.describe(0x40000000) == "0x40000000"


def test_sizes_of_objects_add_up(tmp_path: Path) -> None:
    objects = zig.compile_objects(write(tmp_path, code=C, main=MAIN), load_target("cortex-m3"), tmp_path)
    parts = [read_elf(o).sizes for o in objects]
    assert total(parts).bss == 256 + 2 * 256
    assert total([Sizes(1, 2, 3, 4), Sizes(5, 6, 7, 8)]) == Sizes(6, 8, 10, 12)


def test_same_bytes_from_two_folders(tmp_path: Path) -> None:
    one, two = link(tmp_path / "one"), link(tmp_path / "two" / "deeper")
    assert one.read_bytes() == two.read_bytes()
    for image in (one, two):
        zig.archive([image.parent / "code.o", image.parent / "main.o"], image.parent / "x.a")
    archives = [image.parent / "x.a" for image in (one, two)]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert str(tmp_path).encode() not in one.read_bytes() + archives[0].read_bytes()


def test_a_shared_library_for_the_host(tmp_path: Path) -> None:
    source = "int twice(int x) { return 2 * x; }\nconst char *where(void) { return __FILE__; }\n"
    for name in ("one", "two"):
        sources = write(tmp_path / name, code=source)
        zig.link_shared(sources, load_target("host"), tmp_path / name / "x.so")
    assert (tmp_path / "one/x.so").read_bytes() == (tmp_path / "two/x.so").read_bytes()
    assert ctypes.CDLL(str(tmp_path / "one/x.so")).twice(21) == 42


def test_a_compiler_error_is_quoted(tmp_path: Path) -> None:
    sources = write(tmp_path, broken="int f(void) { return missing; }\n")
    with pytest.raises(
        ToolError, match=r"zig cc failed:\nbroken.c:1:22: error: use of undeclared identifier"
    ):
        zig.compile_objects(sources, load_target("cortex-m4"), tmp_path)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    sources = [*write(tmp_path / "a", x=C), *write(tmp_path / "b", x=C)]
    with pytest.raises(ToolError, match="two C files have the same name"):
        zig.compile_objects(sources, load_target("cortex-m4"), tmp_path)


def test_too_little_flash_says_by_how_much(tmp_path: Path) -> None:
    target = with_memory(load_target("cortex-m4"), flash=128, ram=None)
    objects = zig.compile_objects(write(tmp_path, code=C, main=MAIN), target, tmp_path)
    (tmp_path / "x.ld").write_text(linker_script(target))
    with pytest.raises(BudgetError, match=r"does not fit in FLASH, the 128 of --flash 128: [\d,]+ bytes too"):
        zig.link_firmware(objects, target, tmp_path / "x.ld", tmp_path / "x.elf")


def test_no_room_for_a_stack_is_an_error(tmp_path: Path) -> None:
    target = with_memory(load_target("cortex-m4"), flash=None, ram=1024)
    objects = zig.compile_objects(write(tmp_path, code=C, main=MAIN), target, tmp_path)
    (tmp_path / "x.ld").write_text(linker_script(target))
    with pytest.raises(ToolError, match="RAM is too small: no room for a stack"):
        zig.link_firmware(objects, target, tmp_path / "x.ld", tmp_path / "x.elf")


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert zig.cache_folder() == tmp_path / "cache" / "irshrink" / "zig"
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ToolError, match="Set XDG_CACHE_HOME to a folder that can be written"):
        zig.compile_objects(write(tmp_path, code=C), load_target("cortex-m4"), tmp_path)


def test_not_an_elf(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    with pytest.raises(ToolError, match="not an ELF file"):
        read_elf(tmp_path / "x")
    with pytest.raises(ToolError, match="cannot be read"):
        read_elf(tmp_path / "y")


def test_package_of_a_microcontroller() -> None:
    made = package_files(load_target("cortex-m4"), ["model.c", "weights.c"], [VECTORS])
    assert set(made) == {
        "CMakeLists.txt",
        "Makefile",
        "README.txt",
        "test/test_main.c",
        "test/test_vector.h",
        "port/cortex-m/startup.c",
        "port/cortex-m/semihosting.h",
        "port/cortex-m/cortex-m.ld",
    }
    assert "SOURCES := src/model.c src/weights.c\n" in text(made["Makefile"])
    assert "  src/model.c\n  src/weights.c\n)" in text(made["CMakeLists.txt"])
    assert "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard" in text(made["Makefile"])
    assert "-Wl,-e,Reset_Handler" in text(made["Makefile"])  # zig asks for _start otherwise
    for name in ("Makefile", "CMakeLists.txt", "README.txt"):
        assert " ".join(zig.SEMANTIC_FLAGS) in text(made[name])


def test_package_of_the_host_has_no_port() -> None:
    made = package_files(load_target("host"), ["model.c"], [VECTORS])
    assert not [path for path in made if path.startswith("port/")]
    assert "test.elf" not in text(made["Makefile"]) + text(made["README.txt"])


def test_a_board_sets_the_memory_of_the_linker_script() -> None:
    script = linker_script(load_target("stm32f103-bluepill"))
    assert "ORIGIN = 0x00000000, LENGTH = 65536" in script
    assert "ORIGIN = 0x20000000, LENGTH = 20480" in script
    assert "red_zone" not in script
    guarded = linker_script(load_target("stm32f103-bluepill"), guard_bytes=100)
    assert "ORIGIN = 0x20000000, LENGTH = 20780" in guarded


def test_vectors_lie_one_after_the_other() -> None:
    header = text(vector_files([VECTORS])["test_vector.h"])
    assert "static const uint8_t test_input_0[4] = {\n    1, 2, 4, 5,\n};" in header
    assert "static const uint8_t test_output_0[2] = {\n    3, 255,\n};" in header
    with pytest.raises(InternalError, match="must be of one size"):
        vector_files([[]])
    with pytest.raises(InternalError, match="must be of one size"):
        vector_files([[VECTORS[0], Vector((b"\1",), (b"\3",))]])


def test_zig_reports_a_missing_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert zig.available() == "the C compiler is missing: pip install ziglang."
    with pytest.raises(ToolError, match="pip install ziglang"):
        zig.compile_objects(write(tmp_path, code=C), load_target("cortex-m4"), tmp_path)


def test_foreign_flags_stay_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def run(*args: object, **options: dict[str, str]) -> subprocess.CompletedProcess[str]:
        seen.update(options["env"])
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for name in ("CPATH", "ZIG_LIB_DIR", "SOURCE_DATE_EPOCH"):
        monkeypatch.setenv(name, "/somewhere")
    zig.compile_objects(write(tmp_path, code=C), load_target("cortex-m4"), tmp_path)
    assert not {"CPATH", "ZIG_LIB_DIR", "SOURCE_DATE_EPOCH"} & set(seen)
    assert seen["ZIG_LOCAL_CACHE_DIR"] == str(zig.cache_folder())
