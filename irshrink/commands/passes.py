"""``irshrink passes``: what passes there are and which options they take."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from typing import Any, cast

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
    documented = of_class and not of_class.startswith("Attributes:")
    summary = (of_class if documented else of_module).partition("\n\n")[0]
    return {
        "name": name,
        "lossy": cls.lossy,
        "summary": " ".join(summary.split()),
        "doc": f"{of_class}\n\n{of_module}" if documented else f"{of_module}\n\n{of_class}",
        "options": [_option(field) for field in dataclasses.fields(cast(Any, cls))],
    }


def _option(field: dataclasses.Field[Any]) -> dict[str, Any]:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return {
        "name": field.name.replace("_", "-"),
        "type": field.type if isinstance(field.type, str) else field.type.__name__,
        "default": None if default is dataclasses.MISSING else default,
        "required": default is dataclasses.MISSING,
    }


def _page(described: dict[str, Any]) -> str:
    kind = "lossy: may change the numbers" if described["lossy"] else "keeps the numbers"
    lines = [f"{described['name']} ({kind})", "", textwrap.indent(described["doc"].strip(), "  "), ""]
    if not described["options"]:
        return "\n".join([*lines, "No options."])
    rows = [
        (o["name"], o["type"], "required" if o["required"] else f"default {o['default']!r}")
        for o in described["options"]
    ]
    return "\n".join([*lines, table(rows, ("option", "type", ""))])
