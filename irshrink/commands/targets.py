"""``irshrink targets``: what can be compiled for."""

from __future__ import annotations

import click

from irshrink.console import print_json, table


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
    click.echo(table([(t.name, t.description) for t in targets], ("target", "what")))
    click.echo()
    rows = [
        (b.name, b.target, f"{b.flash_bytes // 1024} K", f"{b.ram_bytes // 1024} K", b.description)
        for b in boards
    ]
    click.echo(table(rows, ("board", "target", "flash", "RAM", "what")))
    click.echo("\n--target takes either, or the path of a TOML file of your own.")
