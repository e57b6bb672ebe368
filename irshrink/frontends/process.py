"""Running a converter: another process, no shell, a time limit, and one sentence when it fails.

A converter is a file of its own that imports nothing of irshrink::

    python convert_x.py MODEL OUTPUT.onnx '{"option": "value"}'

It writes OUTPUT.onnx and returns 0. What it cannot convert it refuses with a last line ``error: sentence`` on
stderr and any other code. On Linux it writes nowhere but into its work folder
(:mod:`irshrink.isolation.confine`). Names of nodes are ``layer`` or ``layer/part`` with the framework's own
name of the layer: they are what reports show and ``--keep-float`` matches. Weights go into the file; above
2 GB they may go beside it as ONNX external data.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from irshrink.errors import ModelError, ToolError
from irshrink.frontends.frontend import Frontend
from irshrink.isolation import confine

CONVERTERS = Path(__file__).with_name("converters")
_CONFINE = Path(confine.__file__)
DEFAULT_SECONDS = 900.0

#: What a converter may find in its environment beside the user's own: quiet, on the CPU, the same every time.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
_TAIL_BYTES = 65536
_SENTENCE = 400  # characters of a converter's own words


def run_converter(
    frontend: Frontend,
    python: Path,
    model: Path,
    workdir: Path,
    options: Mapping[str, str],
    seconds: float = DEFAULT_SECONDS,
) -> Path:
    """Convert ``model`` with the frontend's script.

    Args:
        workdir: an empty folder of ours; the converter runs there, its temporary files stay there.

    Returns:
        The ONNX file, inside ``workdir``.

    Raises:
        ModelError: the converter failed or wrote nothing; its cause is in the message.
        ToolError: it took longer than ``seconds``, or could not be started.
    """
    output, log = workdir / "model.onnx", workdir / "converter.log"
    script = CONVERTERS / frontend.script
    command = [str(python), str(_CONFINE), str(workdir), str(script), os.path.abspath(model), str(output)]
    with log.open("wb") as stream:
        code = _run([*command, json.dumps(dict(options), sort_keys=True)], workdir, stream, seconds)
    if code is None:
        raise ToolError(
            f"{model}: the {frontend.title} converter was stopped after {seconds:g} seconds. "
            "Allow more with --frontend seconds=3600."
        )
    if code != 0:
        raise ModelError(f"{model}: {failure(frontend, code, _tail(log))}")
    if output.is_symlink() or not output.is_file() or output.stat().st_size == 0:
        raise ModelError(f"{model}: the {frontend.title} converter wrote no model. {_advice(frontend)}")
    return output


def failure(frontend: Frontend, code: int, log: str) -> str:
    """The sentences for a converter that returned ``code``, from the end of what it said."""
    lines = [_plain(line) for line in log.splitlines()]
    said = [line for line in lines if line]
    if said and said[-1].startswith("error: "):
        return _stop(said[-1].removeprefix("error: "))
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return (
            f"the {frontend.title} converter was killed by {name} (too little memory?). {_advice(frontend)}"
        )
    cause = _cause(said)
    return f"the {frontend.title} converter failed: {_stop(cause)} {_advice(frontend)}"


def _run(command: list[str], workdir: Path, stream: IO[bytes], seconds: float) -> int | None:
    """The exit code, or None after ``seconds``; the converter's own children end with it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= _ENVIRONMENT | dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP"), str(workdir))
    try:
        process = subprocess.Popen(
            command,
            cwd=workdir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as e:
        raise ToolError(f"{command[0]}: cannot be started: {e.strerror or e}.") from e
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing that a converter started may outlive it."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def _tail(log: Path) -> str:
    with log.open("rb") as f:
        f.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return f.read().decode("utf-8", "replace")


#: The last line of a traceback: ``ValueError: message``, ``package.module.SomeError: message``.
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)?: \S")
_NOISE = re.compile(r"^(?:Traceback|File \"|[\^~\s]+$|During handling|The above exception)")


def _cause(said: list[str]) -> str:
    """The last line that says something: an exception's if there is one."""
    exceptions = [line for line in said if _EXCEPTION.match(line)]
    others = [line for line in said if not _NOISE.match(line)]
    return (exceptions or others or ["it said nothing"])[-1]


def _plain(line: str) -> str:
    """Without control characters, on one line, not endless: these are a stranger's words on our terminal."""
    line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line)
    line = "".join(char if char.isprintable() else " " for char in line)
    line = " ".join(line.split())
    return line if len(line) <= _SENTENCE else f"{line[:_SENTENCE]}..."


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _advice(frontend: Frontend) -> str:
    return f"Check that {frontend.title} itself loads the model; or export it as ONNX and give that."
