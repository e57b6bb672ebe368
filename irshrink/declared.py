"""What is declared about data: ``--image``, ``--csv`` and ``--audio``, or the same as tables of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from irshrink.errors import RecipeError, nearest
from irshrink.samples import AudioOptions, CsvOptions, ImageOptions, Reading
from irshrink.validation import complaint

#: By table of a recipe. The option of the command line is called like it, of images ``--image``.
TABLES: Mapping[str, type[Any]] = {"images": ImageOptions, "csv": CsvOptions, "audio": AudioOptions}
#: What an option without a default is there for.
_NEEDED = {
    "mean": "value = (pixel * scale - mean) / std",
    "std": "value = (pixel * scale - mean) / std",
    "rate": "the samples a second that the model was trained with",
}


def parse_data_option(table: str, text: str) -> tuple[str, Any]:
    """``"mean=127"``, ``"std=58.4,57.1,57.4"``, ``"classes=cat,dog"``, ``"rate=16000"`` as key and value.

    Args:
        table: a key of :data:`TABLES`.

    Raises:
        RecipeError: written differently.
    """
    example = {"images": "mean=127", "csv": "label=species", "audio": "rate=16000"}[table]
    kind = table.removesuffix("s")
    key, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not key or not value:
        raise RecipeError(f"{kind} option '{text}' cannot be read. Write key=value, such as {example}.")
    key = key.replace("-", "_")
    try:
        return key, _CONVERTERS.get(_type(table, key), str)(value)
    except ValueError as e:
        raise RecipeError(f"{kind} option '{text}': '{value}' is not a number.") from e


def parse_declared(options: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Options of the command line, by table, as plain data for :func:`irshrink.recipe.make_recipe`.

    Raises:
        RecipeError: see :func:`parse_data_option`.
    """
    found = {
        table: dict(parse_data_option(table, text) for text in given) for table, given in options.items()
    }
    return {table: values for table, values in found.items() if values}


def checked_table(table: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a table with one number or name for a list of them allowed.

    Args:
        where: what messages call the recipe.

    Raises:
        RecipeError: a key is unknown or missing.
    """
    fields = {field.name: field for field in dataclasses.fields(TABLES[table])}
    for key in values:
        if key not in fields:
            raise RecipeError(f"{where}: {table} has no option '{key}'.{nearest(key, fields)}")
    for key, why in _NEEDED.items():
        if key in fields and fields[key].default is dataclasses.MISSING and key not in values:
            raise RecipeError(f"{where}: {table} needs {key}; {why}.")
    several = {key for key in fields if _type(table, key).startswith("tuple")}
    return {
        key: [value] if key in several and isinstance(value, str | int | float) else value
        for key, value in values.items()
    }


def reading_of(declared: Mapping[str, Any], where: str) -> Reading:
    """How to read data, of plain data by table; other keys are left alone.

    Raises:
        RecipeError: an option is unknown or of the wrong type.
    """
    found: dict[str, Any] = {}
    for table, kind in TABLES.items():
        values = declared.get(table)
        if values:
            try:
                found[table] = msgspec.convert(checked_table(table, values, where), kind)
            except msgspec.ValidationError as e:
                raise RecipeError(f"{where}: {table}.{complaint(e, kind)}") from e
    return Reading(image=found.get("images"), csv=found.get("csv"), audio=found.get("audio"))


def _type(table: str, key: str) -> str:
    """The annotation of an option; nothing for unknown ones, which are refused later."""
    return str(TABLES[table].__annotations__.get(key, "")).removesuffix(" | None")


_CONVERTERS: Mapping[str, Callable[[str], Any]] = {
    "tuple[float, ...]": lambda value: [float(part) for part in value.split(",")],
    "tuple[str, ...]": lambda value: [part.strip() for part in value.split(",")],
    "float": float,
    "int": int,
}
