"""The command line: ``irshrink COMMAND``. Parses, prints, and turns errors into exit codes.

Commands live in ``irshrink/commands``; each imports what it needs inside its function, so that
``irshrink --help`` does not pay for ONNX or TVM.

Exit codes: 0 done, 1 the input is wrong, 2 a budget is missed, 3 a tool is missing or failed, 4 a build is
not the same again, 70 our bug.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from irshrink import __version__
from irshrink.commands.cmake import cmake_command
from irshrink.commands.compile import compile_command
from irshrink.commands.diff import diff_command
from irshrink.commands.explain import explain_command
from irshrink.commands.import_ import import_command
from irshrink.commands.inspect import inspect_command
from irshrink.commands.optimize import optimize_command
from irshrink.commands.passes import passes_command
from irshrink.commands.plan import plan_command
from irshrink.commands.replay import replay_command
from irshrink.commands.report import report_command
from irshrink.commands.run import run_command
from irshrink.commands.targets import targets_command
from irshrink.commands.tune import tune_command
from irshrink.console import echo
from irshrink.errors import InternalError, IrshrinkError, nearest

#: Shows tracebacks of errors that are ours.
DEBUG_VARIABLE = "IRSHRINK_DEBUG"


class Commands(click.Group):
    """A group that names the nearest command when there is none of that name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"No such command '{args[0]}'.{nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="irshrink")
def app() -> None:
    """Compile trained models of any framework to byte-exact C for Arm, from Cortex-M0 to servers.

    \b
    irshrink compile model.onnx --target cortex-m4 --calibration samples.npz -o build/
    """


for _command in (
    compile_command, plan_command, import_command, inspect_command, run_command, passes_command,
    targets_command, diff_command, replay_command, optimize_command, explain_command, tune_command,
    cmake_command, report_command,
):  # fmt: skip
    app.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``irshrink`` script; ends the process with the exit code."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stopped)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are one sentence on stderr."""
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        code = app.main(args=given, prog_name="irshrink", standalone_mode=False)
    except BrokenPipeError:  # `irshrink passes | head`
        sys.stderr.close()
        return 1
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return 1
    except (Exception, KeyboardInterrupt) as e:
        sentence, code = explain(e)
        echo(f"error: {sentence}", err=True)
    return code if isinstance(code, int) else 0


def explain(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code of an error; what is not raised on purpose is a bug of ours."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "stopped.", 130
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{_stop(error.format_message())} See `{error.ctx.command_path} --help`.", 1
    if isinstance(error, click.ClickException):
        return _stop(error.format_message()), 1
    if isinstance(error, IrshrinkError) and error.exit_code != InternalError.exit_code:
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error.filename or 'output'}: the disk is full. Free some space, or set TMPDIR to another.",
            1,
        )
    return _bug(error), InternalError.exit_code


def _stopped(number: int, frame: FrameType | None) -> None:
    """A signal unwinds like Ctrl-C, so that no temporary folder stays."""
    raise KeyboardInterrupt


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _bug(error: BaseException) -> str:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        f"internal error, a bug in irshrink {__version__}: {type(error).__name__}: {_stop(first)} "
        f"Run again with {DEBUG_VARIABLE}=1 and report the traceback with the command and the model."
    )
