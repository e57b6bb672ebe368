"""Everything irshrink raises on purpose.

    IrshrinkError                       exit code
    ├── UserError                       1    the input, the recipe or the command is wrong
    │   ├── ModelError                       the model file, or something inside it
    │   │   └── UnsupportedModelError        nodes no backend of this target can run
    │   ├── NativeError                      a library crashed or hung on the model
    │   ├── SamplesError                     calibration or evaluation data
    │   ├── RecipeError                      a recipe, a pass name or a pass option
    │   ├── TargetError                      a target or a board
    │   └── OutputError                      the output folder
    ├── BudgetError                     2    a stated budget is missed
    │   └── AccuracyError                    that of accuracy
    ├── ToolError                       3    a compiler, emulator or backend is missing or failed
    ├── ReplayError                     4    a build is not the same again
    └── InternalError                   70   our bug
        └── PassError                        a pass raised, or changed what it must keep

A message is a sentence for the person at the terminal: which file, which node, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IrshrinkError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command returns."""

    exit_code: int = 70


class UserError(IrshrinkError):
    """The input is wrong and the person who gave it can mend it."""

    exit_code = 1


class ModelError(UserError):
    """The model file cannot be read, or holds something that cannot be compiled."""


class UnsupportedModelError(ModelError):
    """Nodes that cannot run at all on the target; every one is listed."""


class NativeError(UserError):
    """Native code of ONNX or ONNX Runtime died on the model, or did not come to an end."""


class SamplesError(UserError):
    """Calibration or evaluation data that would make a bad model in silence."""


class RecipeError(UserError):
    """A recipe, pass name or pass option that does not exist or does not fit."""


class TargetError(UserError):
    """An unknown or impossible target or board."""


class OutputError(UserError):
    """The output folder cannot be written, or holds something that is not ours."""


class BudgetError(IrshrinkError):
    """A budget that the user stated is missed; the message says by how much.

    Attributes:
        over: bytes that the build takes too much of the flash, where that is the budget.
        least_over: bytes that the model takes too much with the fewest bits, where its size is the budget.
        ram_over: bytes that the smallest arena takes too much of the RAM, where that is the budget.
        model_bytes: size of the ONNX model that was built, once it is known.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        over: int | None = None,
        least_over: int | None = None,
        ram_over: int | None = None,
    ) -> None:
        super().__init__(message)
        self.over = over
        self.least_over = least_over
        self.ram_over = ram_over
        self.model_bytes: int | None = None


class AccuracyError(BudgetError):
    """More accuracy is lost than the user accepts."""


class ToolError(IrshrinkError):
    """A backend, compiler or emulator is missing or failed."""

    exit_code = 3


class ReplayError(IrshrinkError):
    """Built again from its lock, something differs; the message says what."""

    exit_code = 4


class InternalError(IrshrinkError):
    """An invariant of ours is broken."""


class PassError(InternalError):
    """A pass raised, or a non-lossy pass changed the outputs; names the passes before it."""


#: Names that a message lists before it only counts the rest.
_MOST_NAMES = 24


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the closest known name, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    shown = ", ".join(names[:_MOST_NAMES])
    return f" Known: {shown}{f' and {len(names) - _MOST_NAMES} more' if names[_MOST_NAMES:] else ''}."
