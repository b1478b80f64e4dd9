from __future__ import annotations

import pytest

from darkpy.cli.arguments import normalize, sort_files
from darkpy.errors import InputError

FLAGS = ["--dont-show", "--letter-box", "--map", "--no-map", "-q"]
OPTIONS = ["--thresh", "--iou-thresh", "--map-epochs", "-i", "--gpu-index", "--out"]


def spelt(*arguments: str) -> list[str]:
    return normalize(arguments, flags=FLAGS, options=OPTIONS)


@pytest.mark.parametrize(
    "given, expected",
    [
        (["-thresh", ".3"], ["--thresh", ".3"]),
        (["--thresh", ".3"], ["--thresh", ".3"]),
        (["-thresh=.3"], ["--thresh=.3"]),
        (["--iou_thresh=.3"], ["--iou-thresh=.3"]),
        (["-dont_show"], ["--dont-show"]),
        (["-dont-show"], ["--dont-show"]),
        (["-dontshow"], ["--dont-show"]),
        (["--dont_show"], ["--dont-show"]),
        (["-mAP_epochs", "2"], ["--map-epochs", "2"]),
        (["-map"], ["--map"]),
        (["a.cfg", "-map", "b.data"], ["a.cfg", "--map", "b.data"]),
    ],
)
def test_long_flags_are_spelt_as_declared(given: list[str], expected: list[str]) -> None:
    assert spelt(*given) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["-i", "0"],
        ["-i0"],
        ["-q"],
        ["-5"],
        ["-.5"],
        ["-1e-3"],
        ["-"],
        ["x_y.cfg", "a-b_c.jpg"],
        ["--thresh", "-0.5"],
        ["--", "-thresh", "-dont_show"],
    ],
)
def test_other_arguments_stay_as_they_are(arguments: list[str]) -> None:
    assert spelt(*arguments) == arguments


def test_a_value_that_looks_like_a_flag_stays_a_value() -> None:
    assert spelt("-out", "-dont_show", "-dont_show") == ["--out", "-dont_show", "--dont-show"]


def test_an_option_with_its_value_attached_takes_no_further_one() -> None:
    assert spelt("-thresh=.3", "-dont_show") == ["--thresh=.3", "--dont-show"]


@pytest.mark.parametrize(
    "given, expected",
    [
        (["--amp"], ["--amp=fp16"]),
        (["-amp", "bf16"], ["--amp=bf16"]),
        (["-amp", "x.cfg"], ["--amp=fp16", "x.cfg"]),
        (["--amp", "-map"], ["--amp=fp16", "--map"]),
        (["--amp=bf16", "x.cfg"], ["--amp=bf16", "x.cfg"]),
    ],
)
def test_a_choice_may_be_left_out(given: list[str], expected: list[str]) -> None:
    assert normalize(given, flags=FLAGS, options=OPTIONS, choices={"--amp": ("fp16", "bf16")}) == expected


def test_unknown_long_flags_get_two_dashes_for_the_suggestion() -> None:
    assert spelt("-tresh", ".3") == ["--tresh", ".3"]
    assert spelt("-iou_tresh", ".3") == ["--iou_tresh", ".3"]


def test_files_are_told_apart_in_any_order() -> None:
    for paths in (["x.data", "y.cfg", "z.weights"], ["z.weights", "x.data", "y.cfg"]):
        files = sort_files(paths)
        assert (files.data, files.cfg, files.weights) == ("x.data", "y.cfg", "z.weights")


@pytest.mark.parametrize("name", ["yolov4.conv.137", "yolov4-tiny.conv.29", "darknet53.conv.74", "x.WEIGHTS", "m.backup"])
def test_weights_go_by_several_names(name: str) -> None:
    assert sort_files([name]).weights == name


def test_everything_else_is_a_picture_where_pictures_are_wanted(tmp_path) -> None:
    files = sort_files(["a.jpg", "x.cfg", str(tmp_path), "b", "x.names"], pictures=True)
    assert files.pictures == ["a.jpg", str(tmp_path), "b"]
    assert (files.cfg, files.names) == ("x.cfg", "x.names")


def test_a_folder_is_a_data_set_where_pictures_are_not_wanted(tmp_path) -> None:
    assert sort_files(["x.cfg", str(tmp_path)]).data == str(tmp_path)


def test_every_wrong_file_is_reported() -> None:
    with pytest.raises(InputError) as caught:
        sort_files(["a.cfg", "b.cfg", "what.xyz"])
    assert [problem.where for problem in caught.value.problems] == ["b.cfg", "what.xyz"]
    assert "a.cfg is given already" in str(caught.value)
