"""Cycles estimated by llvm-mca, LLVM's model of a core's pipeline, where it is installed.

The emulator says how often each basic block ran; llvm-mca, what one run of it takes when it repeats: issue
width, pipelines, latencies. The sum of the products is an *estimate of cycles* and no latency: there are no
caches, no wait states, no mispredicted branches, and nothing overlaps between blocks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from irshrink.errors import ToolError
from irshrink.target import Target
from irshrink.tuning.costs import Built
from irshrink.tuning.tunable import Tunable

#: Repetitions that are simulated: enough for the first one not to count.
_ITERATIONS = 100
#: How a comment begins that llvm-mca reads.
_COMMENTS = {"aarch64": "#", "arm": "@", "thumb": "@"}
#: What every core of the architecture can do, to see whether there is a model.
_PROBES = {"aarch64": "add x0, x0, x1", "arm": "add r0, r0, r1", "thumb": "add r0, r0, r1"}
_INSTALL = (
    "Debian and Ubuntu: apt-get install llvm; macOS: brew install llvm and put its bin folder on the PATH"
)
_PATIENCE = 600
#: A call becomes a jump: llvm-mca would add 100 cycles for what is called, which is in other blocks here.
_CALL = re.compile(r"^bl(x|r)?(?=\s)")
#: ``ITE LT``: the next instruction runs if less, the one after it if not.
_IF_THEN = re.compile(r"^it([te]{0,3})\s+(\w\w)$")
_OPPOSITE = dict(
    pair
    for a, b in (
        ("eq", "ne"),
        ("hs", "lo"),
        ("mi", "pl"),
        ("vs", "vc"),
        ("hi", "ls"),
        ("ge", "lt"),
        ("gt", "le"),
    )
    for pair in ((a, b), (b, a))
)


@dataclass
class LlvmMca:
    """Blocks that ran, times what llvm-mca says they take.

    Attributes:
        known: cycles of blocks, by machine code.
    """

    known: dict[bytes, float] = field(default_factory=dict)
    measured: ClassVar[str] = "estimated cycles by llvm-mca"
    side_by_side: ClassVar[int] = 24
    at_once: ClassVar[int] = 24
    exact: ClassVar[bool] = True

    def missing(self, backend: Tunable, target: Target) -> str | None:
        if target.emulation is None:
            return f"builds for {target.name} run on this machine itself, uncounted. Use --cost seconds."
        if _arch(target) not in _COMMENTS:
            return (
                f"{target.name} is no Arm core, which is what llvm-mca is used for. Use --cost instructions."
            )
        for tool in ("llvm-mca", "llvm-mc"):
            if shutil.which(tool) is None:
                return f"{tool} is not installed. {_INSTALL}."
        try:
            _estimates([_PROBES[_arch(target)]], target)
        except ToolError as e:
            return f"llvm-mca cannot estimate for {target.name}. {e} Use --cost instructions."
        return backend.unrunnable(target)

    def costs(self, backend: Tunable, builds: Sequence[Built]) -> list[list[float]]:
        return [[self.layers(build)[op.name] for op in build.program.ops] for build in builds]

    def whole(self, backend: Tunable, build: Built) -> float:
        return sum(self.layers(build).values())

    def layers(self, build: Built) -> Mapping[str, float]:
        blocks = build.run.op_code
        if not blocks:
            raise ToolError(
                f"the emulator of {build.target.name} counts no blocks here. Is its counting plugin "
                "supported by the QEMU that is installed?"
            )
        self._learn([code for one in blocks.values() for code in one], build.target)
        return {op: self._cycles(runs) for op, runs in blocks.items()}

    def _cycles(self, runs: Mapping[bytes, int]) -> float:
        return round(sum(self.known[code] * times for code, times in sorted(runs.items())), 2)

    def _learn(self, blocks: Sequence[bytes], target: Target) -> None:
        new = sorted({code for code in blocks if code not in self.known})
        if new:
            self.known.update(zip(new, _estimates(disassembled(new, target), target), strict=True))


def core(target: Target) -> list[str]:
    """Arguments that name the core to LLVM: ``cortex_m4+vfp4d16sp`` is ``cortex-m4`` and a feature."""
    cpu, *features = target.cpu.replace("_", "-").split("+")
    attributes = ",".join("+" + re.sub(r"^(v\d)-(\d)a$", r"\1.\2a", feature) for feature in features)
    return [f"-mtriple={_arch(target)}", f"-mcpu={cpu}", *([f"-mattr={attributes}"] if attributes else [])]


def disassembled(blocks: Sequence[bytes], target: Target) -> list[str]:
    """Each block as assembly.

    Raises:
        ToolError: llvm-mc does not run, or does not know an instruction.
    """
    code = "\n".join(" ".join(f"0x{byte:02x}" for byte in block) for block in blocks)
    arguments = [one.replace("-mtriple", "-triple") for one in core(target)]
    text = _output("llvm-mc", ["--disassemble", "--show-encoding", *arguments], code)
    lines = iter(re.findall(r"^\s*(\S.*?)\s*(?:@|//) encoding: \[(.*)\]$", text, re.MULTILINE))
    found = []
    for block in blocks:
        here, size = [], 0
        while size < len(block):
            line, encoding = next(lines, ("", ""))
            if not encoding:
                raise ToolError(f"llvm-mc cannot read some instruction of {target.name}. A newer LLVM may.")
            here.append(_CALL.sub(lambda call: f"b{call[1] or ''}", line))
            size += encoding.count(",") + 1
        found.append("\n".join(unconditional(here)))
    return found


def unconditional(lines: Sequence[str]) -> list[str]:
    """Thumb without IT, which cores fold and some models do not know: what it covers counts as executed."""
    conditions: list[str] = []
    found = []
    for line in lines:
        block = _IF_THEN.match(line)
        if block is not None:
            conditions = [block[2], *(block[2] if one == "t" else _OPPOSITE[block[2]] for one in block[1])]
        elif conditions:
            found.append(re.sub(rf"^([a-z0-9]+){conditions.pop(0)}(?=[.\s])", r"\1", line))
        else:
            found.append(line)
    return found


def _estimates(blocks: Sequence[str], target: Target) -> list[float]:
    """Cycles of one run of each block."""
    mark = _COMMENTS[_arch(target)]
    text = "".join(
        f"{mark} LLVM-MCA-BEGIN b{i}\n{block}\n{mark} LLVM-MCA-END\n" for i, block in enumerate(blocks)
    )
    quiet = ["--instruction-info=0", "--resource-pressure=0"]
    answer = _output("llvm-mca", ["--json", f"--iterations={_ITERATIONS}", *quiet, *core(target)], text)
    try:
        regions = json.loads(answer)["CodeRegions"]
        cycles = {one["Name"]: one["SummaryView"]["TotalCycles"] / _ITERATIONS for one in regions}
        return [cycles[f"b{i}"] for i in range(len(blocks))]
    except (ValueError, KeyError, TypeError) as e:
        raise ToolError("llvm-mca's answer cannot be read. LLVM 13 is the oldest that gives JSON.") from e


def _arch(target: Target) -> str:
    return target.triple.split("-")[0]


def _output(tool: str, arguments: Sequence[str], text: str) -> str:
    """What an LLVM tool prints.

    Raises:
        ToolError: it does not run, or complains.
    """
    try:
        done = subprocess.run(
            [tool, *arguments],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ToolError(f"{tool} cannot be run: {e}.") from e
    if done.returncode != 0:
        said = re.findall(r"(?:error|note): *(.*?)\.?$", done.stderr, re.MULTILINE)
        why = ": ".join(" ".join(one.split()) for one in said[:2])
        raise ToolError(f"{tool}: {why or f'it ended with status {done.returncode}'}.")
    return done.stdout
