from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy.config.edit import CfgText
from darkpy.data.dataset import Dataset
from darkpy.errors import ConfigError, DataError, InputError
from darkpy.fitting import LEAST_ITERATIONS, Wanted, build, fit_cfg, heads, iterations, read_target, set_anchors
from darkpy.resources import find
from tests.tiny_job import CFG, write_cfg

REGION = """\
[net]
width=96
height=64
channels=3
letter_box=1
max_batches=10

[convolutional]
filters=21
size=3
stride=32
pad=1
activation=linear

[region]
anchors = .5,.5, 1,1, 2,1.5   # cells
classes=2
num=3
coords=4
"""


def data_set(folder: Path, shapes: np.ndarray, classes: int = 4) -> Dataset:
    """Pictures that need not exist, with an object of each shape in the middle."""
    pictures = []
    for number, (width, height) in enumerate(shapes):
        path = folder / f"{number}.png"
        path.with_suffix(".txt").write_text(f"{number % classes} .5 .5 {width:.6f} {height:.6f}\n")
        pictures.append(path)
    return Dataset("made", [f"class {n}" for n in range(classes)], pictures)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return data_set(tmp_path, np.random.default_rng(0).uniform(0.05, 0.6, (60, 2)))


def wanted(dataset: Dataset, width: int = 320, height: int = 320, **more: object) -> Wanted:
    return Wanted("new.cfg", "my data.yaml", dataset, width, height, **more)  # type: ignore[arg-type]


# What a network expects -------------------------------------------------------------------------------------------


def test_target_of_a_yolo_network(tmp_path):
    target = read_target(write_cfg(tmp_path))
    assert (target.width, target.height, target.channels, target.letter_box, target.classes) == (32, 32, 3, False, 2)
    assert target.anchors is not None and target.anchors.tolist() == [[8, 8], [16, 16]]
    assert target.name == str(tmp_path / "tiny.cfg")


def test_target_of_a_region_network_has_anchors_in_pixels(tmp_path):
    (tmp_path / "r.cfg").write_text(REGION)
    target = read_target(tmp_path / "r.cfg")
    assert target.letter_box and target.anchors is not None
    np.testing.assert_allclose(target.anchors, [[16, 16], [32, 32], [64, 48]])


def test_what_is_no_detector(tmp_path):
    with pytest.raises(ConfigError, match="has no detection head such as"):
        read_target("classifier.cfg")
    (tmp_path / "d.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n\n[connected]\noutput=28\n\n[detection]\nclasses=2\nside=2\nnum=1\n"
    )
    assert read_target(tmp_path / "d.cfg").anchors is None
    with pytest.raises(ConfigError, match="has no head with anchors"):
        heads(build(CfgText.read(tmp_path / "d.cfg").config))


# Anchors ----------------------------------------------------------------------------------------------------------


def test_anchors_are_written_into_every_head():
    text = CfgText.read(find("cfg", "yolov3.cfg"))
    before = text.text
    anchors = np.arange(18.0).reshape(9, 2) + 1.4
    set_anchors(text, anchors)
    listed = "1,2, 3,4, 5,6, 7,8, 9,10, 11,12, 13,14, 15,16, 17,18"
    assert text.text.count(f"anchors={listed}\n") == 3
    assert len(text.text.splitlines()) == len(before.splitlines())


def test_anchors_of_region_are_in_cells():
    text = CfgText(REGION)
    set_anchors(text, np.array([[8.0, 16.0], [32.0, 32.0], [64.0, 50.0]]))
    assert "anchors = 0.2500,0.5000, 1.0000,1.0000, 2.0000,1.5625   # cells\n" in text.text


def test_another_number_of_anchors_is_refused():
    text = CfgText(CFG.format(learning_rate=0.1, max_batches=5, filters=14, random=0), "tiny.cfg")
    with pytest.raises(ConfigError, match=r"tiny\.cfg:32  \[yolo\] has 2 anchors, not 3: use -num_of_clusters 2"):
        set_anchors(text, np.ones((3, 2)))


def test_heads_with_different_anchors_are_refused():
    text = CfgText.read(find("cfg", "yolov3-tiny.cfg"))
    text.set_layer(heads(build(text.config))[1].layer.index, "anchors", "1,1, 2,2, 3,3, 4,4, 5,5, 6,6")
    with pytest.raises(ConfigError, match="the heads have different anchors"):
        set_anchors(text, np.ones((6, 2)))


# A new cfg --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["yolov4-tiny.cfg", "yolov3-tiny.cfg", "yolov7-tiny.cfg", "mobile.cfg", "shapes.cfg"])
def test_a_cfg_for_other_classes(dataset, base):
    text = fit_cfg(base, wanted(dataset, 320, 352))
    target = build(text.config)
    assert target.graph.input_shape == (3, 352, 320)
    for head in heads(target):
        assert head.options.classes == 4
        assert target.layers[head.layer.sources[0]].options.filters == head.anchors_used * 9
    options = target.options
    assert (options.max_batches, options.steps, options.scales) == (8000, (6400, 7200), (0.1, 0.1))
    assert options.burn_in <= 800
    original = CfgText.read(find("cfg", base)).config
    assert [layer.name for layer in text.config.layers] == [layer.name for layer in original.layers]


def test_the_comments_say_what_it_is(dataset):
    lines = fit_cfg(
        "yolov4-tiny.cfg", wanted(dataset)
    ).text.splitlines()  # fmt: skip
    header = "\n".join(lines[: lines.index("[net]")])
    assert "YOLOv4-tiny" in header and "arXiv 2011.08036" in header
    assert "320 x 320" in header and "416" not in header and "COCO" not in header
    assert "for my data.yaml (class 0, class 1, class 2, class 3)" in " ".join(header.replace("\n#", "").split())
    assert lines[lines.index("[net]") - 2] == "# Train:  darkpy detector train new.cfg --data 'my data.yaml'"
    assert all(len(line) <= 120 for line in lines)
    assert "# pictures per update, and in how many parts they are computed: more parts need less memory" in lines


def test_a_base_without_comments_of_that_kind(dataset, tmp_path):
    text = REGION.replace("letter_box=1", "burn_in=900")
    (tmp_path / "mine.cfg").write_text(f"# mine\n# for cats\n{text}")
    fitted = fit_cfg(tmp_path / "mine.cfg", wanted(dataset, 64, 96, iterations=500))
    assert fitted.text.startswith("# mine\n# for cats\n# 2 layers, ")
    options = build(fitted.config).options
    assert (options.max_batches, options.steps, options.burn_in) == (500, (400, 450), 50)
    assert fitted.config.layers[0].get("filters").value == "27"
    assert "max_batches is as it was asked for" in fitted.text


def test_how_long_to_train():
    assert iterations(1, 100) == LEAST_ITERATIONS == 6000
    assert iterations(20, 100) == 40000
    assert iterations(1, 118_287) == 118_287


@pytest.mark.parametrize("width, height, message", [(400, 320, "width 400 is no multiple of 32.*take 384"),
                                                    (320, 10, "height 10 is no multiple of 32.*take 32")])  # fmt: skip
def test_sizes_that_cannot_be(dataset, width, height, message):
    with pytest.raises(InputError, match=message):
        fit_cfg("yolov4-tiny.cfg", wanted(dataset, width, height))


def test_data_that_cannot_be_fitted_to(tmp_path):
    with pytest.raises(DataError, match="has no objects"):
        fit_cfg("yolov4-tiny.cfg", wanted(data_set(tmp_path, np.empty((0, 2)))))
    with pytest.raises(InputError, match="2 different shapes, too few for 6 anchors"):
        fit_cfg("yolov4-tiny.cfg", wanted(data_set(tmp_path, np.array([[0.1, 0.2], [0.3, 0.1]]))))


def test_a_head_without_a_convolution_before_it(dataset, tmp_path):
    (tmp_path / "x.cfg").write_text(REGION.replace("[region]", "[upsample]\nstride=1\n\n[region]").replace("letter_box=1\n", ""))
    with pytest.raises(ConfigError, match=r"\[region\] follows no \[convolutional\]"):
        fit_cfg(tmp_path / "x.cfg", wanted(dataset))


def test_subdivisions_grow_where_memory_is_short(dataset, monkeypatch):
    import darkpy.fitting as module

    monkeypatch.setattr(module, "available_memory", lambda: 10**9)
    few = build(fit_cfg("yolov4-tiny.cfg", wanted(dataset)).config).options.subdivisions
    monkeypatch.setattr(module, "available_memory", lambda: 10**12)
    plenty = build(fit_cfg("yolov4-tiny.cfg", wanted(dataset)).config).options.subdivisions
    assert plenty == 1 and few > 1 and 64 % few == 0
    monkeypatch.setattr(module, "available_memory", lambda: None)
    assert build(fit_cfg("yolov4-tiny.cfg", wanted(dataset)).config).options.subdivisions == 1
