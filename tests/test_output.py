"""The output folder: complete or untouched, filled in place, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from irshrink.errors import OutputError
from irshrink.output import fresh_folder, require_replaceable


def build(out: Path, text: str = "new", *, force: bool = False, broken: bool = False) -> None:
    with fresh_folder(out, force) as folder:
        (folder / "recipe.lock").write_text(text)
        if broken:
            (folder / "recipe.lock" / "inside").touch()
        (folder / "src").mkdir()
        (folder / "src" / "model.c").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_and_its_parents(tmp_path: Path) -> None:
    build(tmp_path / "a" / "b" / "out")
    assert names(tmp_path / "a" / "b") == ["out"]
    assert names(tmp_path / "a" / "b" / "out") == ["recipe.lock", "src"]
    assert (tmp_path / "a" / "b" / "out").stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_no_folder_and_no_parent(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        build(tmp_path / "a" / "b" / "out", broken=True)
    assert names(tmp_path) == []


def test_a_failure_keeps_the_earlier_build(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, "old")
    with pytest.raises(NotADirectoryError):
        build(out, "half", broken=True)
    assert names(out) == ["recipe.lock", "src"]
    assert (out / "recipe.lock").read_text() == "old"


def test_a_folder_that_exists_is_filled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    link.symlink_to(out)
    before = out.stat().st_ino
    build(link, "through the link")
    monkeypatch.chdir(out)
    build(Path(), "from inside")
    assert out.stat().st_ino == before
    assert link.is_symlink()
    assert names(out) == ["recipe.lock", "src"]
    assert (out / "src" / "model.c").read_text() == "from inside"


def test_force_replaces_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"holds 'thesis.tex' and is not an earlier irshrink build"):
        build(tmp_path)
    build(tmp_path, force=True)
    assert names(tmp_path) == ["recipe.lock", "src"]


def test_what_a_killed_run_left_is_ours(tmp_path: Path) -> None:
    (tmp_path / ".irshrink-1234").mkdir()
    build(tmp_path)
    assert names(tmp_path) == ["recipe.lock", "src"]


def test_links_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError, match="is a link to nothing"):
        require_replaceable(tmp_path / "link")
