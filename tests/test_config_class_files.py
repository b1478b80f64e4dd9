"""Files of classes that a cfg names: hierarchies and maps."""

from __future__ import annotations

import pytest

from darkpy.config.class_files import find_class_file, read_map, read_tree
from darkpy.errors import ConfigError


def test_a_tree_is_the_number_above_each_class(tmp_path):
    path = tmp_path / "my.tree"
    path.write_text("animal -1\nthing\n\ndog 0\ncat 0\nterrier 2\n")
    assert read_tree(path) == [-1, -1, 0, 0, 2]


def test_every_bad_line_of_a_tree_is_named(tmp_path):
    path = tmp_path / "my.tree"
    path.write_text("animal 0\ndog 0\ncat zero\nterrier -2\n")
    with pytest.raises(ConfigError) as caught:
        read_tree(path)
    found = [str(problem).removeprefix(str(path)) for problem in caught.value.problems]
    assert found == [
        ":1  expected a name and the number of an earlier class, -1 to -1; found 'animal 0'",
        ":3  expected a name and the number of an earlier class, -1 to 1; found 'cat zero'",
        ":4  expected a name and the number of an earlier class, -1 to 2; found 'terrier -2'",
    ]


def test_a_map_is_a_class_a_line(tmp_path):
    path = tmp_path / "my.map"
    path.write_text("5\n0\n7\n")
    assert read_map(path, 8) == [5, 0, 7]
    with pytest.raises(ConfigError) as caught:
        read_map(path, 6)
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:3  expected a class, 0 to 5; found '7'"]


def test_files_are_found_in_the_working_folder_then_beside_the_cfg(tmp_path, monkeypatch):
    here, cfgs = tmp_path / "here", tmp_path / "cfgs"
    for folder in (here, cfgs):
        (folder / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    cfg = cfgs / "my.cfg"
    assert find_class_file("data/my.tree", cfg) is None
    (cfgs / "data" / "my.tree").write_text("")
    assert find_class_file("data/my.tree", cfg) == cfgs / "data" / "my.tree"
    (here / "data" / "my.tree").write_text("")
    found = find_class_file("data/my.tree", cfg)
    assert found is not None and found.resolve() == here / "data" / "my.tree"
