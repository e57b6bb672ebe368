"""msgspec's complaints as sentences: the key first, and where a value must be one of some, the nearest."""

from __future__ import annotations

import re
import typing
from typing import Any

import msgspec

from irshrink.errors import nearest


def complaint(error: msgspec.ValidationError, kind: Any) -> str:
    """What is wrong with a value of type ``kind``: ``seed: Expected `int`, got `str`.``"""
    text, _, path = str(error).partition(" - at `$")
    key = path.removesuffix("`").removeprefix(".")
    wrong = re.fullmatch(r"Invalid enum value '(.*)'", text)
    if wrong is not None:
        text = f"'{wrong[1]}' is not known.{nearest(wrong[1], _choices(kind, key.split('.')))}"
    else:
        text += "."
    return f"{key}: {text}" if key else text


def _choices(kind: Any, keys: list[str]) -> list[str]:
    """The strings that the field behind ``keys`` may be."""
    for key in keys:
        holder = next((k for k in (kind, *typing.get_args(kind)) if hasattr(k, "__annotations__")), None)
        if holder is None:
            return []
        kind = typing.get_type_hints(holder).get(key)
    options = [kind, *typing.get_args(kind)] if kind is not None else []
    literals = [o for o in options if typing.get_origin(o) is typing.Literal]
    return [str(value) for literal in literals for value in typing.get_args(literal)]
