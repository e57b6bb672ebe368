"""``irshrink passes``: what passes there are and which options they take."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from typing import Any, cast, get_type_hints

import click

from irshrink.console import print_json, table


@click.command("passes", short_help="List passes and their options.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def passes_command(name: str | None, as_json: bool) -> None:
    """List all passes, or explain the one called NAME and its options."""
    from irshrink.registry import pass_class, pass_table

    if name is not None:
        described = describe(name, pass_class(name))
        print_json(described) if as_json else click.echo(_page(described))
        return
    rows = [describe(each, pass_class(each)) for each in sorted(pass_table())]
    if as_json:
        print_json(rows)
        return
    click.echo(
        table([(r["name"], "lossy" if r["lossy"] else "", r["summary"]) for r in rows], ("pass", "", "what"))
    )


def describe(name: str, cls: type[Any]) -> dict[str, Any]:
    """Name, documentation and options of a pass as plain data."""
    of_class, of_module = (inspect.getdoc(thing) or "" for thing in (cls, inspect.getmodule(cls)))
    if of_class.startswith(f"{cls.__name__}("):  # what dataclass writes when there is no docstring
        of_class = ""
    of_class, _, attributes = of_class.partition("Attributes:")
    doc = "\n\n".join(part.strip() for part in (of_class, of_module) if part.strip())
    doc = doc.replace("``", "`")
    said = _attributes(attributes)
    kinds = get_type_hints(cls)  # with names like Bits resolved
    return {
        "name": name,
        "lossy": cls.lossy,
        "summary": " ".join(doc.partition("\n\n")[0].split()),
        "doc": doc,
        "options": [
            _option(field, kinds[field.name], said.get(field.name, ""))
            for field in dataclasses.fields(cast(Any, cls))
        ],
    }


def _attributes(text: str) -> dict[str, str]:
    """The entries of a docstring's list of attributes by name, each as one line without markup."""
    entries = re.findall(r"^(\w+): (.*(?:\n(?!\w+: ).*)*)", textwrap.dedent(text.strip("\n")), re.MULTILINE)
    return {name: re.sub(r":\w+:|`", "", " ".join(words.split())) for name, words in entries}


def _option(field: dataclasses.Field[Any], kind: Any, what: str) -> dict[str, Any]:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return {
        "name": field.name.replace("_", "-"),
        "type": kind.__name__ if type(kind) is type else str(kind).replace("typing.", ""),
        "default": None if default is dataclasses.MISSING else default,
        "required": default is dataclasses.MISSING,
        "what": what,
    }


def _page(described: dict[str, Any]) -> str:
    kind = "lossy: may change the numbers" if described["lossy"] else "keeps the numbers"
    lines = [f"{described['name']} ({kind})", "", textwrap.indent(described["doc"], "  "), ""]
    if not described["options"]:
        return "\n".join([*lines, "No options."])
    for option in described["options"]:
        default = "required" if option["required"] else f"default {_value(option['default'])}"
        lines.append(f"{option['name']} ({_type(option['type'])}, {default})")
        lines += [textwrap.fill(option["what"], 100, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def _type(annotation: str) -> str:
    """A Python annotation in the words of a recipe: ``Literal['a', 'b']`` is ``"a" or "b"``."""
    choices = re.fullmatch(r"Literal\[(.*)\]", annotation)
    if choices is not None:
        return " or ".join(choices[1].replace("'", '"').split(", "))
    kind = annotation.removesuffix(" | None")
    held = re.fullmatch(r"(?:tuple\[(.*), \.\.\.|dict\[str, (.*))\]", kind)
    if held is not None:
        held_kind = _type(held[1] or held[2]).replace("number", "numbers")
        return f"{'list' if held[1] else 'table'} of {held_kind}"
    words = {"bool": "true or false", "int": "number", "float": "number", "str": "text", "Any": "values"}
    return words.get(kind, kind)


def _value(default: Any) -> str:
    """A default as a recipe would write it."""
    return "none" if default is None else json.dumps(default)
