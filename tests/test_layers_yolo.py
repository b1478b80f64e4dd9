"""[yolo]: its options, what it refuses, and Darknet's numbers for the head alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from darkpy.builder import build
from darkpy.config.cfg import read_cfg
from darkpy.config.options import parse_options
from darkpy.errors import ConfigError, InputError
from darkpy.layers.yolo import Yolo
from tests.backends import BACKENDS, backend, random
from tests.conftest import SHARED
from tests.golden import Case, relative_error

CFG = """[net]
width=64
height=32
channels=3

[convolutional]
filters=24
size=8
stride=8
activation=linear

[yolo]
mask=0,1,2
anchors=6,8, 10,14, 20,12, 24,30
classes=3
num=4
"""


def head(tmp_path: Path, cfg: str = CFG, *, pictures: int = 2) -> Yolo:
    """The [yolo] of a cfg with an output and gradient of its own, outside any network."""
    path = tmp_path / "my.cfg"
    path.write_text(cfg)
    layer = build(read_cfg(path), backend()).layers[-1]
    assert isinstance(layer, Yolo) and layer.output_shape is not None
    layer.output = np.empty((pictures, *layer.output_shape), np.float32)
    layer.grad_output = np.empty_like(layer.output)
    layer.accumulate = [False]
    return layer


def problems(tmp_path: Path, *replacements: tuple[str, str]) -> list[str]:
    """What is wrong with the cfg after these replacements, as ``line  message``."""
    cfg = CFG
    for old, new in replacements:
        assert old in cfg
        cfg = cfg.replace(old, new)
    with pytest.raises(ConfigError) as caught:
        head(tmp_path, cfg)
    return [str(problem).rpartition("my.cfg:")[2] for problem in caught.value.problems]


# Options ---------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_darknet(tmp_path):
    minimal = CFG.replace("mask=0,1,2\n", "").replace("filters=24", "filters=32")
    options = head(tmp_path, minimal).options
    assert options.mask == (0, 1, 2, 3)
    assert (options.max, options.jitter, options.resize, options.random) == (200, 0.2, 1.0, 0.0)
    assert (options.ignore_thresh, options.truth_thresh, options.iou_thresh) == (0.5, 1.0, 1.0)
    assert (options.iou_normalizer, options.obj_normalizer, options.cls_normalizer) == (0.75, 1.0, 1.0)
    assert (options.iou_loss, options.iou_thresh_kind, options.max_delta) == ("mse", "iou", float("inf"))
    assert (options.nms_kind, options.beta_nms, options.scale_x_y) == ("default", 0.6, 1.0)
    assert not (options.new_coords or options.objectness_smooth or options.focal_loss or options.label_smooth_eps)


def test_every_option_of_the_loss_reaches_the_backend(tmp_path):
    changed = """ignore_thresh=.1
truth_thresh=.2
iou_thresh=.3
iou_thresh_kind=diou
iou_loss=ciou
iou_normalizer=.4
obj_normalizer=.5
cls_normalizer=.6
max_delta=7
label_smooth_eps=.8
new_coords=1
objectness_smooth=1
focal_loss=1
show_details=0
counters_per_class=1,2,4
max=9
"""
    settings = head(tmp_path, CFG + changed).loss_settings()
    plain = head(tmp_path).loss_settings()
    assert (settings.width, settings.height, settings.classes) == (64, 32, 3)
    assert settings.anchors.tolist() == [[6, 8], [10, 14], [20, 12], [24, 30]]
    assert settings.mask.tolist() == [0, 1, 2]
    assert settings.class_factors.tolist() == pytest.approx([2.4, 1.2, 0.6])
    same = [name for name in settings._fields if np.array_equal(getattr(settings, name), getattr(plain, name))]
    assert same == ["anchors", "mask", "classes", "width", "height"]


def test_every_option_has_a_help_text():
    assert all(field.metadata["darkpy option"].help for field in fields(Yolo.Options))


def test_keys_without_effect_are_named(tmp_path):
    path = tmp_path / "my.cfg"
    path.write_text(CFG + "embedding_layer=-4\ntrack_history_size=20\ndelta_normalizer=2\n")
    warnings = build(read_cfg(path), backend()).warnings
    keys = ["embedding_layer", "track_history_size", "delta_normalizer"]
    assert len(warnings) == len(keys)
    for warning, key in zip(warnings, keys):
        assert warning.message.startswith(f"[yolo] {key}")


def test_description(tmp_path):
    assert head(tmp_path).describe() == "3 anchors, 3 classes"
    one = CFG.replace("0,1,2", "1").replace("classes=3", "classes=1").replace("filters=24", "filters=6")
    layer = head(tmp_path, one)
    assert layer.describe() == "1 anchor, 1 class"
    width, height = layer.options.anchors[2:4]  # the second one, as mask= says
    names = [f"{width:g}x{height:g} {name}" for name in ("x", "y", "w", "h", "object", "cat")]
    assert layer.channel_names(["cat"]) == names


# Problems --------------------------------------------------------------------------------------------------------


def test_filters_that_do_not_fit_are_reported_at_the_convolution(tmp_path):
    expected = "7  [convolutional] filters=75 does not fit the [yolo] on line 12: 3 masks x (4 + 1 + 3 classes) = 24"
    assert problems(tmp_path, ("filters=24", "filters=75")) == [expected]


def test_filters_left_out_are_reported_at_the_section(tmp_path):
    expected = "6  [convolutional] filters=1 does not fit the [yolo] on line 11: 1 mask x (4 + 1 + 1 class) = 6"
    assert problems(tmp_path, ("filters=24\n", ""), ("0,1,2", "2"), ("classes=3", "classes=1")) == [expected]


def test_other_layers_that_do_not_fit_are_reported_at_the_head(tmp_path):
    expected = "15  [yolo] cannot follow [route] of 12 channels: 3 masks x (4 + 1 + 3 classes) = 24"
    assert problems(tmp_path, ("[yolo]", "[route]\nlayers=-1\ngroups=2\n[yolo]")) == [expected]


def test_a_head_right_after_the_input(tmp_path):
    convolution = CFG[CFG.index("[convolutional]") : CFG.index("[yolo]")]
    expected = "6  [yolo] cannot follow the network's input of 3 channels: 3 masks x (4 + 1 + 3 classes) = 24"
    assert problems(tmp_path, (convolution, "")) == [expected]


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("24,30", "24", "14  [yolo] anchors has 7 numbers; they come in pairs of width and height"),
        ("24,30", "24,0", "14  [yolo] anchors has 0; widths and heights are greater than 0"),
        ("num=4", "num=5", "16  [yolo] num=5 does not fit the 4 pairs in anchors"),
        ("0,1,2", "1,2,4", "13  [yolo] mask names anchor 4; there are 4, counted from 0"),
        ("0,1,2", "1,2,2", "13  [yolo] mask names an anchor twice"),
        ("num=4", "num=4\ncounters_per_class=5,6", "17  [yolo] counters_per_class has 2 numbers for classes=3"),
        ("num=4", "num=4\niou_loss=siou", "17  [yolo] iou_loss=siou: expected one of mse, iou, giou, diou, ciou; "
         "did you mean 'iou'?"),
    ],
)  # fmt: skip
def test_impossible_options(tmp_path, old, new, expected):
    assert problems(tmp_path, (old, new)) == [expected]


def test_anchors_are_needed(tmp_path):
    (found,) = problems(tmp_path, ("anchors=6,8, 10,14, 20,12, 24,30\n", ""))
    assert found.startswith("12  [yolo] needs")
    assert "anchors" in found


def test_all_problems_are_reported_at_once(tmp_path):
    found = problems(tmp_path, ("filters=24", "filters=75"), ("24,30", "24"), ("num=4", "counters_per_class=1"))
    assert [line.split("  ")[0] for line in found] == ["7", "14", "16"]


def test_options_are_checked_behind_a_layer_that_is_at_fault(tmp_path):
    found = problems(tmp_path, ("size=8", "size=800"), ("24,30", "24"))
    assert [line.split("  ")[0] for line in found] == ["8", "14"]


def test_more_anchors_than_num_all_count(tmp_path):
    """Published: cspx-p7-mish has num=16, 20 pairs, and masks up to 19."""
    layer = head(tmp_path, CFG.replace("num=4", "num=2").replace("0,1,2", "1,2,3"))
    assert len(layer.loss_settings().anchors) == 4


# Passes ----------------------------------------------------------------------------------------------------------


def test_loss_fills_gradient_and_parts(tmp_path):
    layer = head(tmp_path)
    layer.forward(random(layer.output.shape), training=True)
    layer.grad_output[:] = np.nan
    cost = layer.loss([np.array([[1, 0.4, 0.6, 10 / 64, 14 / 32]]), []])
    assert layer.loss_parts is not None
    assert cost == layer.loss_parts.cost
    assert layer.loss_parts.count == 1
    assert cost == pytest.approx(np.square(layer.grad_output.astype(float)).sum(), rel=1e-5)


@pytest.mark.parametrize("accumulate", [False, True])
def test_backward_hands_the_gradient_on(tmp_path, accumulate):
    layer = head(tmp_path)
    layer.accumulate = [accumulate]
    gradient, grad_x = random(layer.output.shape, 1), random(layer.output.shape, 2)
    expected = grad_x + gradient if accumulate else gradient.copy()
    layer.backward(gradient, grad_x)
    assert (grad_x == expected).all()
    layer.backward(gradient, None)


def test_a_head_that_teaches_nobody_still_has_a_cost(tmp_path):
    layer = head(tmp_path)
    layer.forward(random(layer.output.shape), training=True)
    truth = [np.array([[1, 0.4, 0.6, 10 / 64, 14 / 32]]), []]
    expected = layer.loss(truth)
    layer.grad_output = None
    assert layer.loss(truth) == expected


def test_settings_follow_the_size_of_the_input(tmp_path):
    layer = head(tmp_path)
    layer.graph.input_shape = (3, 64, 128)
    assert (layer.loss_settings().width, layer.loss_settings().height) == (128, 64)


@pytest.mark.parametrize(
    "truth, message",
    [
        ([np.zeros((1, 5))], "truth for 1 picture given, 2 went forward"),
        ([np.zeros((1, 5)), np.zeros((2, 7))], "the truth of picture 1 of the batch has shape (2, 7)"),
        (np.zeros((2, 5)), "the truth of picture 0 of the batch has shape (5,)"),
    ],
)
def test_truth_of_another_shape_is_refused(tmp_path, truth, message):
    layer = head(tmp_path)
    layer.forward(random(layer.output.shape), training=True)
    with pytest.raises(InputError) as caught:
        layer.loss(truth)
    assert str(caught.value).startswith(message)


# Darknet's numbers -----------------------------------------------------------------------------------------------


def golden_cases() -> list[str]:
    folder = SHARED / "golden"
    cfgs = folder.glob("*/net.cfg") if folder.is_dir() else []
    return sorted(cfg.parent.name for cfg in cfgs if "[yolo]" in cfg.read_text())


def golden_heads(case: Case, name: str, phase: str) -> list[Yolo]:
    """The heads of a case, each with the output for the recorded output of the layer before it."""
    heads = []
    for layer in build(read_cfg(case.folder / "net.cfg"), backend(name)).layers:
        if isinstance(layer, Yolo):
            x = case.arrays[f"{phase}/{layer.index - 1:03d}/output"]
            layer.output, layer.grad_output = np.empty_like(x), np.empty_like(x)
            layer.forward(x, training=phase == "train")
            heads.append(layer)
    assert heads
    return heads


def test_there_are_golden_cases(shared):
    assert len(golden_cases()) > 25


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("golden", golden_cases())
def test_golden_training(shared, golden, name):
    """Output, cost and gradient of every head; a case of the stock library differs elsewhere only."""
    case = Case(shared / "golden" / golden)
    if "train/truth" not in case.arrays:
        pytest.skip("recorded at inference only")
    records = case.arrays["train/truth"]
    truth = records.reshape(len(records), -1, 6)[:, :, [4, 0, 1, 2, 3]]
    for layer in golden_heads(case, name, "train"):
        recorded = f"train/{layer.index:03d}"
        assert relative_error(layer.output, case.arrays[f"{recorded}/output"]) < 2e-5
        assert layer.loss(truth) == pytest.approx(case.arrays[f"{recorded}/cost"].item(), rel=1e-5)
        assert relative_error(-layer.grad_output, case.arrays[f"{recorded}/delta"]) < 1e-4


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("golden", golden_cases())
def test_golden_inference(shared, golden, name):
    case = Case(shared / "golden" / golden)
    found = []
    for layer in golden_heads(case, name, "infer"):
        assert relative_error(layer.output, case.arrays[f"infer/{layer.index:03d}/output"]) < 2e-5
        found.append(np.column_stack(layer.boxes(0, case.meta["options"]["thresh"])))
    expected = case.arrays["infer/dets_raw"]
    found = np.concatenate(found)
    assert found.shape == expected.shape
    assert len(expected)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("cfg", sorted(path.name for path in (SHARED / "zoo").glob("*.cfg")))
def test_options_of_published_heads(shared, cfg):
    """Every key is known and every value possible."""
    config = read_cfg(shared / "zoo" / cfg)
    found: list = []
    for section in config.layers:
        if section.name == "yolo":
            parse_options(Yolo.Options, section, found, [])
    assert found == []
