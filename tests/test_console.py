"""What commands say: progress only to people who wait, numbers with their nouns."""

from __future__ import annotations

import io
import sys
import time

import pytest

from irshrink import console
from irshrink.console import Line, Milestone, counted, plural, progress, similarity, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_numbers_with_their_nouns() -> None:
    assert [plural(n, "input") for n in (0, 1, 1200)] == ["0 inputs", "1 input", "1,200 inputs"]
    said: list[str] = []
    counted(said.append, "sample")(12, 6400)
    assert said == ["sample 12 of 6,400"]


def test_names_do_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.echo("Conv '\x1b[2J\u202egnp\x00': refused.\n\tNext é")
    assert capsys.readouterr().out == "Conv '\\x1b[2J\\x202egnp\\x00': refused.\n\tNext é\n"


def test_only_what_is_equal_reads_as_one() -> None:
    assert [similarity(value) for value in (1.0, 1 - 1e-9, 0.9300004)] == ["1.000000", "0.999999", "0.930000"]


def test_tables_are_as_wide_as_their_words() -> None:
    assert table([("a", "1"), ("long", "22")], ("x", "n")) == "x     n\n----  --\na     1\nlong  22"
    assert table([]) == ""


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("compile") as say:
        say("cleaning up")
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_leaves_lines_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("plan") as say:
        say(Milestone("at most 40 evaluations"))
        say("reading")
        say(Line("evaluation 1 of 40"))
    assert capsys.readouterr() == ("", "plan: at most 40 evaluations\nplan: evaluation 1 of 40\n")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("plan") as say:
        say(Milestone("at most 40 [evaluations]"))
        say(Line("evaluation 1 of 40"))
    assert terminal.getvalue().count("plan: at most 40 [evaluations]") == 1
    assert "evaluation 1" not in terminal.getvalue()


def test_progress_is_silent_while_it_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("compile") as say:
        say("cleaning up")
    assert terminal.getvalue() == ""


def test_progress_shows_the_current_step_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with progress("compile") as say:
        for number in range(20):
            say(f"[1, {number}] of 'a/[bold]'")  # names of nodes are no markup
            time.sleep(0.02)
    assert "of 'a/[bold]'" in terminal.getvalue()
