"""The caller's side: one other process, started when it is first needed and again when it has died."""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
from typing import BinaryIO, cast

from irshrink.errors import NativeError
from irshrink.isolation.frames import read_message, write_message

#: A step takes seconds on the largest models.
SECONDS = 600.0
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from irshrink.isolated import main; main()"


class StepError(Exception):
    """The library refused: its message."""


def call(step: str, *parts: bytes, seconds: float = SECONDS) -> list[bytes]:
    """Run a step of :mod:`irshrink.isolated` on ``parts``.

    Raises:
        StepError: the library raised; with its message.
        NativeError: its process died or took too long.
    """
    with _lock:
        peer = _peer()
        try:
            write_message(peer.stdin, [step.encode(), *parts])
            # Windows waits for sockets only: there is no limit.
            ready = os.name == "nt" or select.select([peer.stdout], [], [], seconds)[0]
            answer = read_message(peer.stdout) if ready else None
        except BrokenPipeError:
            answer = None
        except BaseException:
            peer.kill()  # in the middle of a message
            raise
        if answer is None:
            raise NativeError(f"{_LIBRARIES[step]} {peer.kill()} on this model, which must be malformed.")
    status, *results = answer
    if status != b"ok":
        raise StepError(results[0].decode("utf-8", "replace"))
    return results


class Peer:
    """The other process. It is ours only: a fork of this process starts its own."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        # The path is passed on as it is: the current folder may hold anything.
        command = [sys.executable, "-c", _PROGRAM, *(os.path.abspath(p) for p in sys.path if p)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self.stdin = cast(BinaryIO, self._process.stdin)
        self.stdout = cast(BinaryIO, self._process.stdout)

    @property
    def usable(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def kill(self) -> str:
        """End it and say how it ended."""
        if self.owner != os.getpid():
            return "was left behind"
        try:
            code = self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        for stream in (self.stdin, self.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what was not sent is of no use now
        if code is None or code == -getattr(signal, "SIGXCPU", 0):
            return "did not come to an end"
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


_lock = threading.Lock()
_current: list[Peer] = []


def _peer() -> Peer:
    if not _current or not _current[0].usable:
        _close()
        _current[:] = [Peer()]
    return _current[0]


def _close() -> None:
    for peer in _current:
        if peer.owner == os.getpid():
            peer.stdin.close()
            peer.kill()
    _current.clear()


atexit.register(_close)

_LIBRARIES = {
    "check": "ONNX's checker",
    "check-file": "ONNX's checker",
    "infer": "ONNX's shape inference",
    "convert": "ONNX's version converter",
    "evaluate": "ONNX Runtime",
    "expand": "ONNX's definition of an operator",
}
