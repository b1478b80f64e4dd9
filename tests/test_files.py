"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.files import atomic_write, keep_copy


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path, "w") as file:
        file.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with atomic_write(path, "w") as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("can_link", [True, False])
def test_a_copy_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool) -> None:
    if not can_link:

        def refuse(self: Path, target: Path) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, copy = tmp_path / "a", tmp_path / "b"
    for number in (1, 2):
        with atomic_write(path, "w") as file:
            file.write(f"{number}")
        keep_copy(path, copy)
        assert copy.read_text() == f"{number}"
    with atomic_write(path, "w") as file:
        file.write("3")
    assert copy.read_text() == "2"
    assert {found.name for found in tmp_path.iterdir()} == {"a", "b"}
