"""Whether plain data fits a JSON Schema, as far as this package's schemas use one.

Known are ``type``, ``const``, ``enum``, ``required``, ``properties``, ``additionalProperties``, ``items``,
``minItems``, ``maxItems``, ``minimum``, ``exclusiveMinimum``, ``maximum``, ``pattern``, ``oneOf`` and
``$ref`` into ``$defs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def misfit(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], where: str = "") -> str | None:
    """The first thing that does not fit, ``size.flash_bytes is missing``; None where everything does.

    Args:
        schema: what ``value`` should be.
        whole: the document that ``schema`` is in, which holds ``$defs``.
        where: path of the value.
    """
    if "$ref" in schema:
        return misfit(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, where)
    if "oneOf" in schema:
        found = [misfit(value, one, whole, where) for one in schema["oneOf"]]
        return None if None in found else next((one for one in reversed(found)), None)
    return next(_misfits(value, schema, whole, where), None)


def _misfits(value: Any, schema: Mapping[str, Any], whole: Mapping[str, Any], where: str) -> Iterator[str]:
    name = where or "it"
    types = schema.get("type", ())
    named = [types] if isinstance(types, str) else list(types)
    if named and not any(_is(value, one) for one in named):
        yield f"{name} is no {' or '.join(named)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{name} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{name} is {value!r}, which is not known"
    if _is(value, "number"):
        yield from _of_number(value, schema, name)
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{name} is of another form"
    if isinstance(value, dict):
        yield from _of_object(value, schema, whole, where)
    if isinstance(value, list):
        yield from _of_array(value, schema, whole, where)


def _of_number(value: float, schema: Mapping[str, Any], name: str) -> Iterator[str]:
    if value < schema.get("minimum", value):
        yield f"{name} is below {schema['minimum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{name} is not above {schema['exclusiveMinimum']}"
    if value > schema.get("maximum", value):
        yield f"{name} is above {schema['maximum']}"


def _of_object(
    value: Mapping[str, Any], schema: Mapping[str, Any], whole: Mapping[str, Any], where: str
) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{_path(where, key)} is missing"
    for key, item in value.items():
        inner = properties.get(key, others)
        if inner is False:
            yield f"{_path(where, key)} is not known"
        elif isinstance(inner, Mapping):
            found = misfit(item, inner, whole, _path(where, key))
            if found is not None:
                yield found


def _of_array(
    value: list[Any], schema: Mapping[str, Any], whole: Mapping[str, Any], where: str
) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{where or 'it'} has {len(value)} items"
    for index, item in enumerate(value):
        found = misfit(item, schema.get("items", {}), whole, f"{where}[{index}]")
        if found is not None:
            yield found


def _is(value: Any, kind: str) -> bool:
    """JSON's true and false are no numbers."""
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
