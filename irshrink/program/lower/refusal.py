"""Why a node cannot be lowered, and what would help."""

from __future__ import annotations

from dataclasses import dataclass

#: Of one value: a gigabyte of float32.
MOST_ELEMENTS = 2**28


@dataclass(frozen=True)
class Unsupported:
    """A node that cannot run on any target, neither in integers nor in float.

    Attributes:
        node: its name, or the name of its first output when it has none.
        op_type: ONNX operator.
        reason: half a sentence that follows the node's name.
        advice: a sentence that says what would help.
    """

    node: str
    op_type: str
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.op_type} '{self.node}': {self.reason}. {self.advice}"


class Refusal(Exception):  # noqa: N818 - an answer of a rule, not an error
    """A rule cannot lower a node."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
