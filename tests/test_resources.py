from __future__ import annotations

import pytest

from darkpy import resources
from darkpy.config.data_files import read_names
from darkpy.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_package_has_what_nobody_else_has(folder):
    found = resources.find("cfg", "yolov3-tiny.cfg")
    assert found == resources.folder("cfg") / "yolov3-tiny.cfg"
    assert resources.find("cfg", "cfg/yolov3-tiny.cfg") == found
    assert len(read_names(resources.find("data", "coco.names"))) == 80
    assert len(read_names(resources.find("data", "data/voc.names"))) == 20


def test_own_files_come_first(folder):
    (folder / "cfg").mkdir()
    (folder / "cfg" / "yolov3-tiny.cfg").write_text("")
    assert resources.find("cfg", "yolov3-tiny.cfg").resolve() == folder / "cfg" / "yolov3-tiny.cfg"
    (folder / "yolov3-tiny.cfg").write_text("")
    assert resources.find("cfg", "yolov3-tiny.cfg").resolve() == folder / "yolov3-tiny.cfg"
    assert resources.find("cfg", "cfg/yolov3-tiny.cfg").resolve() == folder / "cfg" / "yolov3-tiny.cfg"


def test_absolute_paths(folder):
    (folder / "x.cfg").write_text("")
    assert resources.find("cfg", folder / "x.cfg") == folder / "x.cfg"


def test_an_installed_package_has_its_own_folder(folder, monkeypatch):
    share = folder / "darkpy" / "share" / "cfg"
    share.mkdir(parents=True)
    (share / "__init__.py").write_text("")
    (share / "x.cfg").write_text("")
    monkeypatch.setattr(resources, "_PACKAGE", folder / "darkpy")
    assert resources.find("cfg", "cfg/x.cfg") == share / "x.cfg"
    assert resources.available("cfg") == ["x.cfg"]
    assert resources.folder("data") == folder / "data"


@pytest.mark.parametrize(
    "name, hint",
    [
        ("yolov3-tny.cfg", "; did you mean 'yolov3-tiny.cfg'?"),
        ("cfg/yolov3-tny.cfg", "; did you mean 'yolov3-tiny.cfg'?"),
        ("myown.cfg", "; did you mean 'my_own.cfg'?"),
        ("q", ""),
        ("x" * 300, ""),
        ("cfg", ""),
    ],
)
def test_a_missing_file_is_named_with_the_nearest(folder, name, hint):
    (folder / "cfg").mkdir()
    (folder / "cfg" / "my_own.cfg").write_text("")
    with pytest.raises(ConfigError) as caught:
        resources.find("cfg", name)
    assert str(caught.value) == f"{name}  no such file here, in cfg/ or in darkpy{hint}"


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind is one of cfg, data, kernels, not 'pictures'"):
        resources.folder("pictures")
