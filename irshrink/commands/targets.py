"""``irshrink targets``: what can be compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from irshrink.console import print_json, table

if TYPE_CHECKING:
    from irshrink.target import Target


@click.command("targets", short_help="List targets and boards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def targets_command(as_json: bool) -> None:
    """List targets, and boards with their memory."""
    from irshrink.target import board_names, load_board, load_target, target_names

    targets = [load_target(name) for name in target_names()]
    boards = [load_board(name) for name in board_names()]
    if as_json:
        import msgspec

        print_json({"targets": msgspec.to_builtins(targets), "boards": msgspec.to_builtins(boards)})
        return
    rows = [(t.name, _emulator(t), t.description) for t in targets]
    click.echo(table(rows, ("target", "runs here in", "what")))
    click.echo()
    boards_rows = [
        (b.name, b.target, f"{b.flash_bytes // 1024} K", f"{b.ram_bytes // 1024} K", b.description)
        for b in boards
    ]
    click.echo(table(boards_rows, ("board", "target", "flash", "RAM", "what")))
    click.echo("\n--target takes either, or the path of a TOML file of your own.")


def _emulator(target: Target) -> str:
    if target.emulation is None:
        return "itself"
    return target.emulation.program or target.emulation.emulator
