from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import darkpy
from darkpy.data.coco import open_coco
from darkpy.data.dataset import Dataset
from darkpy.data.opening import open_dataset
from darkpy.errors import ConfigError, InputError
from darkpy.evaluation import write_results
from darkpy.evaluation.results import described, described_classes
from tests import heads
from tests.test_evaluation_detector import NAMES, Network, save

ROW = [0.5, 0.25, 0.5, 0.25, 1, 0.9, 0.2]  # left 6, top 3, right 18, bottom 9 of 24 x 24 pixels; both classes
OUT = [0.0, 0.5, 0.5, 2.0, 1, 0, 0.7]  # reaches out of the picture on three sides


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> Dataset:
    monkeypatch.chdir(tmp_path)
    nothing = np.empty((0, 5))
    return Dataset("drawn", NAMES, [save(tmp_path, index, nothing) for index in range(3)])


def network() -> Network:
    return Network([np.array([ROW]), np.empty((0, 7)), np.array([ROW, OUT])])


def test_voc(dataset):
    written = write_results(network(), dataset, "out")
    assert [str(path) for path in written.paths] == ["out/comp4_det_test_cat.txt", "out/comp4_det_test_dog.txt"]
    assert (written.pictures, written.detections) == (3, 5)
    assert Path("out/comp4_det_test_cat.txt").read_text() == (
        "00 0.900000 7.000000 4.000000 19.000000 10.000000\n02 0.900000 7.000000 4.000000 19.000000 10.000000\n"
    )
    assert Path("out/comp4_det_test_dog.txt").read_text().splitlines()[-1] == (
        "02 0.700000 1.000000 1.000000 7.000000 24.000000"
    )


def test_names_with_slashes_are_no_folders(dataset):
    dataset.names[0] = "cat/kitten"
    paths = write_results(network(), dataset, "out", name="x_").paths
    assert [str(path) for path in paths] == ["out/x_cat_kitten.txt", "out/x_dog.txt"]


def test_coco(dataset):
    written = write_results(network(), dataset, "out", "coco")
    assert [str(path) for path in written.paths] == ["out/coco_results.json"]
    entries = json.loads(Path("out/coco_results.json").read_text())
    # The pictures are called 00, 01, 02, so these are their numbers.
    assert [(entry["image_id"], entry["category_id"], entry["score"]) for entry in entries] == [
        (0, 1, 0.9), (0, 2, 0.2), (2, 1, 0.9), (2, 2, 0.2), (2, 2, 0.7)
    ]  # fmt: skip
    assert entries[0]["bbox"] == [6, 3, 12, 6] and entries[-1]["bbox"] == [0, 0, 6, 24]


def test_coco_takes_the_numbers_of_the_data_sets_own_file(dataset):
    images = [{"id": 7 - i, "file_name": f"0{i}.png", "width": 24, "height": 24} for i in range(3)]
    categories = [{"id": 30, "name": "cat"}, {"id": 40, "name": "dog"}]
    Path("x.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    coco = open_coco("x.json")
    assert [path.name for path in coco.pictures] == ["02.png", "01.png", "00.png"]
    write_results(network(), coco, "out", "coco", name="mine")
    entries = json.loads(Path("out/mine.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [
        (5, 30), (5, 40), (5, 40), (7, 30), (7, 40)
    ]  # fmt: skip


def test_numbers_of_pictures_and_classes(tmp_path):
    from darkpy.data.coco import category_numbers, image_numbers

    def numbers(*names: str) -> list[int]:
        return image_numbers(Dataset("x", ["a"], [tmp_path / name for name in names]))

    assert numbers("COCO_val2014_000000000042.jpg", "000000000139.jpg") == [42, 139]
    assert numbers("a_1.jpg", "b_1.jpg") == [1, 2]
    assert numbers("7.jpg", "dog.jpg") == [1, 2]
    assert category_numbers(Dataset("x", ["a", "b"], [])) == [1, 2]
    of_coco = category_numbers(Dataset("x", [str(n) for n in range(80)], []))
    assert (of_coco[0], of_coco[11], of_coco[79], len(of_coco)) == (1, 13, 90, 80)


def test_bdd(dataset):
    write_results(network(), dataset, "out", "bdd")
    entries = json.loads(Path("out/bdd_results.json").read_text())
    assert entries[0] == {"name": "00", "category": "cat", "bbox": [6, 3, 18, 9], "score": 0.9}
    assert entries[-1]["bbox"] == [0, 0, 6, 24] and entries[-1]["category"] == "dog"


def test_kitti(dataset):
    assert [str(path) for path in write_results(network(), dataset, "out", "kitti").paths] == ["out/kitti_results"]
    files = {path.name: path.read_text() for path in Path("out/kitti_results/data").iterdir()}
    assert files["00.txt"].splitlines()[0] == (
        "cat -1 -1 -10 6.000000 3.000000 18.000000 9.000000 -1 -1 -1 -1000 -1000 -1000 -10 0.900000"
    )
    assert files["01.txt"] == "" and len(files["02.txt"].splitlines()) == 3


def test_imagenet(dataset):
    write_results(network(), dataset, "out", "imagenet")
    lines = Path("out/imagenet-detection.txt").read_text().splitlines()
    assert lines[0] == "1 1 0.900000 6.000000 3.000000 18.000000 9.000000"
    assert [line.split()[:2] for line in lines] == [["1", "1"], ["1", "2"], ["3", "1"], ["3", "2"], ["3", "2"]]


def test_nothing_found_is_an_empty_list(dataset):
    write_results(Network([np.empty((0, 7))] * 3), dataset, "out", "coco")
    assert json.loads(Path("out/coco_results.json").read_text()) == []


def test_unreadable_pictures_are_left_out_and_labels_not_asked_for(dataset):
    dataset.pictures[0].write_bytes(b"")
    dataset.pictures[2].with_suffix(".txt").unlink()
    written = write_results(network(), dataset, "out", "imagenet")
    assert [problem.message for problem in written.skipped] == ["the file is empty"]
    assert written.pictures == 2 and Path("out/imagenet-detection.txt").read_text().startswith("3 1 ")
    assert dataset.problems == []


def test_a_failure_leaves_no_half_file(dataset, monkeypatch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_results(network(), dataset, "out", "coco", progress=stop)
    assert list(Path("out").iterdir()) == []


def test_a_network_that_does_not_fit_leaves_nothing(dataset):
    with pytest.raises(ConfigError, match="3 classes and the network 2"):
        write_results(network(), Dataset("three", [*NAMES, "cow"], dataset.pictures), "out")
    assert not Path("out").exists()


def test_unknown_forms(dataset):
    with pytest.raises(InputError, match="unknown form 'kiti'.*did you mean 'kitti'"):
        write_results(network(), dataset, "out", "kiti")


def test_what_the_data_set_says(dataset):
    Path("list.txt").write_text("00.png\n")
    Path("x.names").write_text("a\n")
    Path("x.data").write_text("train=list.txt\nnames=x.names\neval=kitti\nresults=here\n")
    Path("x.yaml").write_text("train: list.txt\nnames: [a]\n")
    Path("c.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "00.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]})
    )
    Path("c.yaml").write_text("format: coco\ntrain: c.json\n")
    Path("d.yaml").write_text("format: coco\ntrain: c.json\neval: bdd\n")
    assert {name: described(open_dataset(name), name) for name in ("x.data", "x.yaml", "c.json", "c.yaml", "d.yaml")} == {
        "x.data": ("here", "kitti"),
        "x.yaml": ("results", "voc"),
        "c.json": ("results", "coco"),
        "c.yaml": ("results", "coco"),
        "d.yaml": ("results", "bdd"),
    }


# The map= of a .data file ---------------------------------------------------------------------------------------------

HIERARCHY = """\
[net]
width=32
height=32
channels=3
[convolutional]
filters=24
size=1
stride=16
[region]
classes=7
num=2
anchors=1,1, 2,2
tree=classes.tree
softmax=1
"""


@pytest.fixture
def described_with_map(tmp_path, dataset) -> str:
    """A .data file whose map= chooses f and b of the classes a to g."""
    (tmp_path / "f_and_b.map").write_text("5\n1\n")
    (tmp_path / "x.names").write_text("\n".join("abcdefg"))
    (tmp_path / "x.txt").write_text("".join(f"{path}\n" for path in dataset.pictures))
    text = "classes=7\ntrain=x.txt\nvalid=x.txt\nnames=x.names\nmap=f_and_b.map\neval=imagenet\n"
    (tmp_path / "x.data").write_text(text)
    return "x.data"


def test_of_a_hierarchy_the_classes_of_the_map_are_written(described_with_map, tmp_path):
    dataset = open_dataset(described_with_map, "val")
    told = described_classes(dataset, described_with_map)
    assert told == [5, 1]
    detector = darkpy.Network(heads.parsed(HIERARCHY, tmp_path), device="numpy")
    written = write_results(detector, dataset, "out", "voc", told=told, thresh=0.01)
    assert [path.name for path in written.paths] == ["comp4_det_test_f.txt", "comp4_det_test_b.txt"]
    assert written.detections > 0
    write_results(detector, dataset, "out", "imagenet", told=told, thresh=0.01)
    lines = Path("out/imagenet-detection.txt").read_text().splitlines()
    assert len(lines) == written.detections and {line.split()[1] for line in lines} == {"1", "2"}
    assert detector.layers[-1].told is None, "only as long as it is asked for"
    assert described_classes(dataset, "x.txt") is None


def test_a_map_that_cannot_be_used(described_with_map, tmp_path, dataset):
    flat = darkpy.Network(heads.parsed(HIERARCHY.replace("tree=classes.tree\n", ""), tmp_path), device="numpy")
    with pytest.raises(ConfigError, match=r"my.cfg  has no \[region\] with tree="):
        write_results(flat, open_dataset(described_with_map, "val"), "out", told=[5, 1])
    (tmp_path / "f_and_b.map").unlink()
    with pytest.raises(ConfigError, match=r"x.data:5  map=f_and_b.map: no such file"):
        described_classes(open_dataset(described_with_map, "val"), described_with_map)
