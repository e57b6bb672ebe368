"""Which Python has a framework: irshrink's own, or one that the user names.

Frameworks are large and their versions rarely agree with each other's. ``IRSHRINK_CONVERTER_PYTHON`` names
one interpreter or several (separated like PATH); the first that has what a converter needs runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irshrink.errors import ToolError
from irshrink.frontends.frontend import Frontend

VARIABLE = "IRSHRINK_CONVERTER_PYTHON"
_PROBE_SECONDS = 60

#: Prints the versions of the distributions that it is given, null for those that are missing.
_PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = None
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "found": found}))
"""

#: Recorded with every conversion where installed: they write the file.
_ALWAYS = ("onnx", "numpy", "protobuf")


@dataclass(frozen=True)
class Interpreter:
    """A Python that can run a converter, and the versions of what decides its output."""

    path: Path
    versions: Mapping[str, str]


def find_interpreter(frontend: Frontend, named: str | None = None) -> Interpreter:
    """The first interpreter that has everything the converter needs.

    Args:
        named: the one to use, instead of the environment variable's and our own.

    Raises:
        ToolError: none has; the message says how to install the extra.
    """
    missing: list[str] = []
    for path in _candidates(named):
        found = _probe(path, frontend)
        absent = [need.split("|")[0] for need in frontend.needs if not _present(need, found)]
        if not absent:
            return Interpreter(path, {k: v for k, v in sorted(found.items()) if v is not None})
        missing = missing or absent
    asked = f"{named} has" if named else "irshrink's Python has"
    raise ToolError(
        f"{frontend.title} needs a converter, and {asked} no {' and no '.join(missing)}. "
        f"Install it with pip install 'irshrink[{frontend.extra}]', or set {VARIABLE} to the Python of an "
        "environment that has it."
    )


def _candidates(named: str | None) -> list[Path]:
    if named:
        return [_executable(named, "--frontend python")]
    listed = [text for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    return [*(_executable(text, VARIABLE) for text in listed), Path(sys.executable)]


def _executable(text: str, where: str) -> Path:
    path = Path(os.path.abspath(text))  # not resolved: a link into a virtual environment is what makes it one
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ToolError(
            f"{where}: '{text}' is not a program. Give the path of a Python, such as venv/bin/python."
        )
    return path


def _present(need: str, found: Mapping[str, str | None]) -> bool:
    return any(found.get(name) is not None for name in need.split("|"))


def _probe(path: Path, frontend: Frontend) -> dict[str, str | None]:
    names = [name for need in frontend.needs for name in need.split("|")]
    command = [str(path), "-I", "-c", _PROBE, *names, *_ALWAYS]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=True
        )
        answer = json.loads(done.stdout)
        found: dict[str, str | None] = {**answer["found"], "python": str(answer["python"])}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as e:
        raise ToolError(
            f"{path}: does not run as a Python interpreter. Set {VARIABLE} to one that does."
        ) from e
    return found
