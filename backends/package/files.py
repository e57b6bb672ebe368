"""The files of the C package that are not the model itself.

    CMakeLists.txt Makefile README.txt
    test/test_main.c test/test_vector.h
    test/test_vector.S test_vector.bin              large vectors only
    port/cortex-m/startup.c semihosting.h cortex-m.ld      bare metal only

They depend on the target, on the names of the model's C files and on the test vectors, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from irshrink import files
from irshrink.backends.package.blob import blob_files, declaration, joined
from irshrink.backends.toolchain.zig import is_bare_metal, semantic_flags
from irshrink.errors import InternalError
from irshrink.names import DEFAULT_NAMES, DEFAULT_PREFIX, Names
from irshrink.target import Target

TEMPLATES = Path(__file__).parent / "templates"

#: What ``uname -m`` says, by the first part of a triple.
_MACHINES = {"aarch64": "aarch64", "arm": "armv7l", "riscv64": "riscv64", "riscv32": "riscv32"}

_VECTOR = "test_vector"
#: Bytes of test vectors from which on they are no C text.
_MOST_TEXT = 128 << 10

#: Memory of a target without a board: more than any model here needs.
UNLIMITED_BYTES = 16 << 20
#: Flash and RAM of an emulated machine that has a large memory for both.
MACHINE_BYTES = 128 << 20
#: What the linker demands for the stack; the emulator measures what a model really takes.
LEAST_STACK_BYTES = 512
#: Stack in the emulator when RAM has more to give: it is painted and read back for every inference.
MOST_STACK_BYTES = 1 << 20


@dataclass(frozen=True)
class Vector:
    """One test: the bytes of every input and of every output that must come out, in port order."""

    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


def package_files(
    target: Target,
    sources: Sequence[str],
    vectors: Sequence[Sequence[Vector]],
    *,
    optimize: str = "-O2",
    names: Names = DEFAULT_NAMES,
) -> dict[str, str | bytes]:
    """Content of every file by its path in the package.

    Args:
        sources: names of the C and assembler files in ``src/``.
        vectors: of each variant; at least one, all of the same sizes.
        optimize: optimization flag of the library in the Make and CMake files.
        names: what the package is called in C.

    Raises:
        InternalError: the vectors are none or differ in sizes.
    """
    vector = vector_files(vectors, names)
    values = {
        "names": names,
        "target": target.name,
        "where": _where(target),
        "bare_metal": is_bare_metal(target),
        "gcc_flags": " ".join(target.gcc_flags),
        "zig_flags": f"-target {target.triple} -mcpu={target.cpu}",
        "cross": _cross_prefix(target),
        "machine": _MACHINES.get(target.triple.partition("-")[0]),
        # A build for the host keeps its instruction set in its test, others are tested in portable C.
        "host_flags": "$(CPU_FLAGS) " if target.emulation is None else "",
        "sources": list(sources),
        "blobs": [name.removesuffix(".S") for name in sources if name.endswith(".S")],
        "vector_blob": _VECTOR if f"{_VECTOR}.S" in vector else None,
        "optimize": optimize,
        "semantic_flags": " ".join(semantic_flags(target)),
        "threads": target.threads,
    }
    made: dict[str, str | bytes] = {
        "CMakeLists.txt": render("CMakeLists.txt.j2", values),
        "Makefile": render("Makefile.j2", values),
        "README.txt": render("README.txt.j2", values),
        "test/test_main.c": _verbatim("test_main.c"),
        **{f"test/{name}": content for name, content in vector.items()},
    }
    if is_bare_metal(target):
        made["port/cortex-m/startup.c"] = _verbatim("startup.c")
        made["port/cortex-m/semihosting.h"] = _verbatim("semihosting.h")
        made["port/cortex-m/cortex-m.ld"] = linker_script(target)
    return made


def write_package(
    folder: Path,
    target: Target,
    sources: Sequence[str],
    vectors: Sequence[Sequence[Vector]],
    *,
    optimize: str = "-O2",
    names: Names = DEFAULT_NAMES,
) -> None:
    """:func:`package_files`, written into ``folder``.

    Raises:
        OutputError: the folder cannot be written.
    """
    for path, content in package_files(target, sources, vectors, optimize=optimize, names=names).items():
        files.write(folder / path, content)


def linker_script(
    target: Target, *, guard_bytes: int = 0, emulated: bool = False, prefix: str = DEFAULT_PREFIX
) -> str:
    """The linker script of a bare-metal program.

    Args:
        emulated: for the memory of the emulator's machine, where that is another than the device's.
        guard_bytes: size of each red zone: below and above the arena, and below the stack. They come on top
            of the target's RAM, so that a model has all of it in the emulator too. 0 for none.
        prefix: of the model whose arena it is.

    Raises:
        InternalError: the target is not emulated, so where its memory lies is not known.
    """
    flash_base, ram_base = memory_bases(target)
    large = target.emulation.memory_base if emulated and target.emulation else None
    values = {
        "where": _where(target),
        "vectors_base": flash_base if large is not None else None,
        "flash_base": flash_base if large is None else large,
        "flash_bytes": flash_bytes(target) if large is None else MACHINE_BYTES,
        "ram_base": ram_base if large is None else large + MACHINE_BYTES,
        "ram_bytes": ram_bytes(target) + 3 * guard_bytes if large is None else MACHINE_BYTES,
        "guard_bytes": guard_bytes,
        "emulated": emulated,
        "arena": f"{prefix}_arena",
        "least_stack_bytes": LEAST_STACK_BYTES,
        "most_stack_bytes": MOST_STACK_BYTES,
    }
    return render("cortex-m.ld.j2", values)


def memory_bases(target: Target) -> tuple[int, int]:
    """Addresses of flash and RAM.

    Raises:
        InternalError: the target is not emulated, so they are not known.
    """
    machine = target.emulation
    if machine is None or machine.flash_base is None or machine.ram_base is None:
        raise InternalError(f"target '{target.name}' has no memory map.")
    return machine.flash_base, machine.ram_base


def flash_bytes(target: Target) -> int:
    """Flash of the target, bytes."""
    return UNLIMITED_BYTES if target.flash_bytes is None else target.flash_bytes


def ram_bytes(target: Target) -> int:
    """RAM of the target, bytes."""
    return UNLIMITED_BYTES if target.ram_bytes is None else target.ram_bytes


def vector_files(vectors: Sequence[Sequence[Vector]], names: Names = DEFAULT_NAMES) -> dict[str, str | bytes]:
    """``test_vector.h``: for each variant one array an input and one an output, vector after vector.

    Where they are large the bytes are in a file of their own, see :mod:`irshrink.backends.package.blob`.

    Raises:
        InternalError: the vectors of a variant are none or differ in sizes.
    """
    variants = [_ports(i, one) for i, one in enumerate(vectors)]
    arrays = {name: data for inputs, outputs in variants for name, data in (inputs | outputs).items()}
    as_text = sum(map(len, arrays.values())) <= _MOST_TEXT
    data, offsets = joined(arrays)
    places = {name: name if as_text else f"{_VECTOR} + {offsets[name]}" for name in arrays}
    values = {
        "names": names,
        "declaration": None if as_text else declaration(_VECTOR),
        "arrays": [_array(k, v) for k, v in arrays.items()] if as_text else [],
        "variants": [
            {
                "symbol": symbol,
                "count": len(vectors[i]),
                "inputs": [places[name] for name in variants[i][0]],
                "outputs": [places[name] for name in variants[i][1]],
            }
            for i, symbol in enumerate(names.symbols)
        ],
    }
    made: dict[str, str | bytes] = {f"{_VECTOR}.h": render("test_vector.h.j2", values)}
    return made if as_text else {**made, **blob_files(_VECTOR, data)}


def _ports(variant: int, vectors: Sequence[Vector]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The bytes of each input and each output over all vectors of a variant, by the name of the array."""
    sizes = {(tuple(map(len, v.inputs)), tuple(map(len, v.outputs))) for v in vectors}
    if len(sizes) != 1:
        raise InternalError(f"test vectors must be of one size, at least one: got {sorted(sizes)}.")
    test = f"test{variant or ''}"
    inputs, outputs = (v.inputs for v in vectors), (v.outputs for v in vectors)
    return (
        {f"{test}_input_{i}": b"".join(port) for i, port in enumerate(zip(*inputs, strict=True))},
        {f"{test}_output_{i}": b"".join(port) for i, port in enumerate(zip(*outputs, strict=True))},
    )


def _array(name: str, data: bytes) -> dict[str, object]:
    return {"name": name, "nbytes": len(data), "rows": _rows(data)}


def _rows(data: bytes, width: int = 24) -> list[str]:
    return [", ".join(map(str, data[at : at + width])) + "," for at in range(0, len(data), width)]


def _cross_prefix(target: Target) -> str | None:
    """What Debian puts before the names of GCC's programs for the target; None for the host."""
    if target.emulation is None:
        return None
    if is_bare_metal(target):
        return "arm-none-eabi-"
    processor, _, system = target.triple.partition("-linux-")
    return f"{processor}-linux-{system.replace('musl', 'gnu')}-"


def _where(target: Target) -> str:
    return f"{target.board} ({target.name})" if target.board else target.name


def _verbatim(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def render(name: str, values: Mapping[str, object]) -> str:
    """A template of this room, filled in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C and Make files: nothing is HTML
    )
    environment.filters["repr"] = repr
    return environment.get_template(name).render(values)
