"""How a build runs: natively, in unicorn or in QEMU; one choice, made here."""

from __future__ import annotations

from irshrink.backends.running import Runner
from irshrink.target import Target


def runner_for(target: Target) -> Runner:
    """The runner of a target; builds for this very kind of machine run natively."""
    from irshrink.backends.native.runner import NativeRunner, is_native

    if is_native(target):
        return NativeRunner()
    assert target.emulation is not None
    if target.emulation.emulator == "unicorn":
        from irshrink.backends.unicorn.runner import UnicornRunner

        return UnicornRunner()
    from irshrink.backends.qemu.runner import QemuRunner

    return QemuRunner()
