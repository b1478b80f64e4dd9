from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.data_files import read_data, read_data_file, read_names, read_yaml
from darkpy.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str | bytes = "") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def refused(read, path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path)
    return [str(problem) for problem in caught.value.problems]


# names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["cat\nbig dog\n", "\ufeffcat\r\nbig dog\r\n\r\n", " cat \nbig dog"])
def test_names(folder, text):
    assert read_names(write("x.names", text)) == ("cat", "big dog")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ["x.names  has no names; write one class name on each line"]),
        ("\n \n", ["x.names  has no names; write one class name on each line"]),
        (
            "cat\n\ndog\n\nfox",
            [
                "x.names:2  is empty; each line is the name of one class",
                "x.names:4  is empty; each line is the name of one class",
            ],
        ),
        (b"cat\n\xff", ["x.names:2  byte 0xff is not UTF-8 text; save the file as UTF-8"]),
    ],
)
def test_wrong_names(folder, text, expected):
    assert refused(read_names, write("x.names", text)) == expected


def test_missing_names(folder):
    assert refused(read_names, Path("x.names")) == ["x.names  cannot be read: No such file or directory"]


# .data ------------------------------------------------------------------------------------------------------------

DATA = """\
# blood cells
classes= 2
train  = lists/train#1.txt
 valid = lists/valid.txt
names = data/x.names
backup = backup/
eval=coco
difficult = lists/hard.txt
"""


def test_data_file(folder):
    write("data/x.names", "cat\ndog\n")
    path = write("cfg/x.data", DATA)
    data = read_data_file(Path("cfg/x.data"))
    assert (data.path, data.root, data.names, data.classes) == (Path("cfg/x.data"), Path("cfg"), ("cat", "dog"), 2)
    assert (data.train, data.val) == (Path("lists/train#1.txt"), Path("lists/valid.txt"))
    assert (data.backup, data.eval, data.difficult) == (Path("backup"), "coco", Path("lists/hard.txt"))
    assert (data.kind, data.test, data.warnings) == ("darknet", None, ())
    assert data.extra == {"results": "results", "saveweights": 0, "savelast": 100, "top": 1}
    assert data.where("train") == "cfg/x.data:3"
    assert data.where("val") == "cfg/x.data:4"
    assert data.where("test") == "cfg/x.data"
    assert read_data(path) == data


def test_paths_are_looked_for_in_the_working_folder_and_then_beside_the_file(folder):
    write("here.txt")
    write("sets/here.txt")
    write("sets/there.txt")
    write("sets/x.names", "cat")
    write("sets/x.data", "train=here.txt\nvalid=there.txt\ntest=nowhere.txt\nnames=x.names\nmap=there.txt")
    data = read_data_file("sets/x.data")
    assert (data.train, data.val, data.test) == (Path("here.txt"), Path("sets/there.txt"), Path("nowhere.txt"))
    assert data.extra["map"] == Path("sets/there.txt")


def test_valid_is_train_if_it_is_not_given(folder):
    write("x.data", "classes=1\ntrain=a.txt")
    assert read_data_file("x.data").val == Path("a.txt")


def test_classes_without_names_are_numbered(folder):
    write("x.data", "classes=3")
    assert read_data_file("x.data").names == ("0", "1", "2")


def test_labels_stand_in_for_names(folder):
    write("x.labels", "n01\nn02")
    write("x.data", "labels=x.labels\ntop=5")
    data = read_data_file("x.data")
    assert (data.names, data.extra["labels"], data.extra["top"]) == (("n01", "n02"), Path("x.labels"), 5)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ["x.data  needs names= (a file with one class name a line) or classes="]),
        ("classes=1\ntrian=a.txt", ["x.data:2  a data file has no option 'trian'; did you mean 'train'?"]),
        ("classes=two", ["x.data:1  classes=two: expected an integer"]),
        ("classes=0", ["x.data:1  classes=0: it is less than 1, the smallest value allowed"]),
        (
            "classes=1\neval=cocoa",
            ["x.data:2  eval=cocoa: expected one of voc, coco, bdd, kitti, imagenet; did you mean 'coco'?"],
        ),
        ("classes 1\nnames=", [
            "x.data:1  'classes 1' has no '='; an option is written key=value",
            "x.data:2  'names=' has no value after '='; leave the line out to get the default",
        ]),
        ("classes=3\nnames=two.names", ["x.data:1  classes=3, but 2 names in two.names"]),
        (b"classes=1\n\xfe", ["x.data:2  byte 0xfe is not UTF-8 text; save the file as UTF-8"]),
    ],
)  # fmt: skip
def test_wrong_data_files(folder, text, expected):
    write("two.names", "a\nb")
    assert refused(read_data_file, write("x.data", text)) == expected


def test_a_missing_names_file_says_where_it_was_looked_for(folder):
    write("sets/x.data", "\nnames=x.names")
    assert refused(read_data_file, Path("sets/x.data")) == [
        f"sets/x.data:2  names=x.names: no such file in {folder} or {folder / 'sets'}"
    ]
    write("sets/x.data", "names=/nowhere/x.names")
    assert refused(read_data_file, Path("sets/x.data")) == ["sets/x.data:1  names=/nowhere/x.names: no such file"]


def test_repeated_keys_are_warned_about(folder):
    write("x.data", "top=2\nclasses=1\ntop=3")
    data = read_data_file("x.data")
    assert data.extra["top"] == 2
    assert list(map(str, data.warnings)) == ["x.data:3  top=3 is ignored: given twice, and top=2 on line 1 counts"]


def test_published_data_files(shared, folder):
    for name, classes in (("coco", 80), ("voc", 20)):
        write(f"data/{name}.names", (shared / "zoo" / "names" / f"{name}.names").read_text())
        data = read_data_file(shared / "zoo" / f"{name}.data")
        assert (data.classes, data.names[-1]) == (classes, {"coco": "toothbrush", "voc": "tvmonitor"}[name])
        assert data.train.name in ("trainvalno5k.txt", "train.txt")


# YAML -------------------------------------------------------------------------------------------------------------


def test_yaml(folder):
    path = write("sets/x.yaml", "path: ../pictures\ntrain: train.txt\nval: images/val\nnames: [cat, no, 3]\nnc: 3\n")
    data = read_yaml(path)
    root = Path("sets/../pictures")
    assert (data.path, data.root, data.names) == (Path("sets/x.yaml"), root, ("cat", "no", "3"))
    assert (data.train, data.val, data.test, data.backup) == (root / "train.txt", root / "images/val", None, None)
    assert (data.kind, data.eval, data.extra, data.warnings) == ("darknet", "voc", {}, ())
    assert data.where("val") == "sets/x.yaml:3"
    assert read_data(path) == data


def test_yaml_root_is_the_files_folder_if_it_is_not_given(folder):
    data = read_yaml(write("sets/x.yml", "train: /abs/train.txt\nval: val.txt\nnames: [a]"))
    assert (data.root, data.train, data.val) == (Path("sets"), Path("/abs/train.txt"), Path("sets/val.txt"))


def test_yaml_root_may_be_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    data = read_yaml(write("x.yaml", "path: ~/sets\ntrain: a.txt\nnames: [a]"))
    assert data.train == folder / "home" / "sets" / "a.txt"


def test_yaml_path_with_one_step_up_too_many(folder):
    write("set/train/1.jpg")
    data = read_yaml(write("set/data.yaml", "train: ../train\nval: ../val\nnames: [a]"))
    assert (data.train, data.val) == (Path("set/train"), Path("set/../val"))


@pytest.mark.parametrize("text", ["{0: cat, 1: dog}", "{1: dog, 0: cat}", "\n  - cat\n  - dog", "x.names"])
def test_yaml_names(folder, text):
    write("x.names", "cat\ndog")
    assert read_yaml(write("x.yaml", f"names: {text}")).names == ("cat", "dog")


def test_yaml_of_a_drawn_data_set(folder):
    data = read_yaml(write("x.yaml", "format: shapes\nshapes: {train: 2000, seed: 1, noise: [0, .5]}\nnames: [a]"))
    assert (data.kind, data.extra) == ("shapes", {"train": 2000, "seed": 1, "noise": [0, 0.5]})


def test_yaml_of_a_voc_folder(folder):
    assert read_yaml(write("x.yaml", "format: voc\nnames: [a]")).kind == "voc"


def test_keys_other_tools_write_are_warned_about(folder):
    data = read_yaml(write("x.yaml", "names: [a]\ndownload: |\n  import os\nroboflow:\n  url: x"))
    assert list(map(str, data.warnings)) == ["x.yaml:2  download has no effect", "x.yaml:4  roboflow has no effect"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ["x.yaml  needs lines such as 'train: train.txt' and 'names: [cat, dog]'"]),
        ("- a\n- b", ["x.yaml  needs lines such as 'train: train.txt' and 'names: [cat, dog]'"]),
        ("train: a.txt", ["x.yaml  needs names: a list of the classes, such as [cat, dog]"]),
        (
            "names: [a]\ntrian: a.txt\nxyz: 1",
            [
                "x.yaml:2  a data set has no key 'trian'; did you mean 'train'?",
                "x.yaml:3  a data set has no key 'xyz'",
            ],
        ),
        ("names: [a]\ntrain: a\ntrain: b", ["x.yaml:3  'train' is given twice, first on line 2"]),
        ("names: []", ["x.yaml:1  names: is empty; a data set needs at least one class"]),
        ("names:", ["x.yaml:1  names: is empty; a data set needs at least one class"]),
        ("names: [a, [b]]", ["x.yaml:1  names: each name is one text"]),
        ("names:\n  - a\n  -\n", ["x.yaml:3  names: each name is one text"]),
        ("names:\n  0: a\n  2: b", ["x.yaml:3  names: '2': expected each number from 0 to 1 once"]),
        ("names: {0: a, 0: b}", ["x.yaml:1  names: '0': expected each number from 0 to 1 once"]),
        ("names: {a: 0}", ["x.yaml:1  names: 'a': expected each number from 0 to 0 once"]),
        (
            "names: x.nams",
            ["x.yaml:1  names: 'x.nams': no such file; names are a list such as [cat, dog], or a names file"],
        ),
        ("nc: 3\nnames: [a]", ["x.yaml:1  nc: 3 classes, but 1 name"]),
        ("nc: two\nnames: [a]", ["x.yaml:1  nc: 'two': expected the number of classes"]),
        ("names: [a]\ntrain: [a, b]", ["x.yaml:2  train: expected one text, not a list or a map"]),
        (
            "names: [a]\nformat: shape",
            ["x.yaml:2  format: 'shape': expected one of darknet, voc, coco, shapes, folders, digits; did you mean 'shapes'?"],
        ),
        ("names: [a]\neval: xyz", ["x.yaml:2  eval: 'xyz': expected one of voc, coco, bdd, kitti, imagenet"]),
        ("names: [a]\nshapes: 3", ["x.yaml:2  shapes: expected lines such as 'seed: 1' below it"]),
        ("names: [a]\ntrain: 'a", ["x.yaml:2  is not YAML: found unexpected end of stream"]),
        ("a: b\n\tc: d", ["x.yaml:2  is not YAML: found character '\\t' that cannot start any token"]),
        (b"names: [\xff]", ["x.yaml:1  byte 0xff is not UTF-8 text; save the file as UTF-8"]),
    ],
)
def test_wrong_yaml(folder, text, expected):
    assert refused(read_yaml, write("x.yaml", text)) == expected


def test_yaml_problems_at_once(folder):
    assert len(refused(read_yaml, write("x.yaml", "trian: a\ntest: [a]\nnames: [[]]\nnc: x\nformat: y"))) == 5


yaml_like = st.text(st.sampled_from("names train: path [a]{},-&*!|>'\"\n 0123.~/#%@\x00\\"), max_size=60)


@settings(deadline=None, max_examples=200)
@given(text=st.one_of(st.text(), yaml_like, yaml_like.map("names: [a]\nshapes:\n  ".__add__)))
@pytest.mark.parametrize("name", ["x.yaml", "x.data", "x.names"])
def test_any_text_is_read_or_refused(text, name, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(text.encode())
    try:
        names = read_names(path) if name == "x.names" else read_data(path).names
    except ConfigError:
        return
    assert names and all(isinstance(word, str) for word in names)
