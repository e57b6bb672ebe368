"""A process that gives up writing anywhere but in one folder.

Linux only, by Landlock, the kernel's own sandbox (https://docs.kernel.org/userspace-api/landlock.html), which
native code cannot get around either. Also a script, which needs nothing but Python itself::

    python confine.py FOLDER SCRIPT ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import runpy
import struct
import sys
from pathlib import Path

#: Numbers of the system calls, on every architecture.
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_WRITE_FILE = 1 << 1
#: Everything that changes a file system, as of Landlock's version 3: write, remove, make, rename, truncate.
_WRITES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))


def confine_writes(folder: Path) -> bool:
    """From now on this process and its children can write below ``folder`` only.

    Returns:
        False where the system has no Landlock of version 3 (before Linux 6.2); nothing is confined then.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    ruleset = libc.syscall(_CREATE, struct.pack("=Q", _WRITES), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    for place, allowed in ((folder, _WRITES), (Path(os.devnull), _WRITE_FILE)):
        rule = struct.pack("=Qi", allowed, os.open(place, os.O_PATH))
        if libc.syscall(_ADD_RULE, ruleset, 1, rule, 0):
            raise OSError(ctypes.get_errno(), f"Landlock refuses {place}")
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no way to give up privileges")
    if libc.syscall(_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "Landlock refuses to confine")
    return True


if __name__ == "__main__":
    confine_writes(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]
    runpy.run_path(sys.argv[0], run_name="__main__")
