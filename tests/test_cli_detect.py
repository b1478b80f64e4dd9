"""``darkpy detect`` on videos, with crops, classes and json lines; ``detector demo``; windows."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.cli.results import Results, VideoFile, Wanted, Window, chosen_classes
from darkpy.detection import Detection
from darkpy.errors import ConfigError, InputError
from darkpy.network import Network
from darkpy.sources import Video
from tests.test_cli_commands import run
from tests.test_sources import write_video
from tests.tiny_job import write_job

FILES = ("tiny.cfg", "tiny.weights")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny job, its weights and a video, as working folder."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    Network.from_cfg("tiny.cfg", device="numpy").save_weights("tiny.weights")
    write_video(tmp_path / "grey.avi")
    return tmp_path


def frames_of(path: str) -> int:
    with Video(path) as video:
        return len(list(video))


@pytest.mark.parametrize("batch", ["1", "4"])
def test_a_video_is_written_with_its_boxes(job: Path, batch: str) -> None:
    result = run("detect", *FILES, "grey.avi", "-thresh", "0.01", "--batch", batch, "--json-lines", "found.jsonl")
    assert "grey.avi   32x16   5 frames/s   9 frames" in result.stdout
    assert "\n9 frames in 0:0" in result.stdout
    assert "video: predictions/grey.avi" in result.stdout
    assert result.stdout.endswith("json lines: found.jsonl\n")
    assert frames_of("predictions/grey.avi") == 9
    lines = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(1, 10))
    assert all(line["objects"] for line in lines)
    assert [path.name for path in Path("predictions").iterdir()] == ["grey.avi"]


def test_batches_find_the_same(job: Path) -> None:
    found = []
    for batch in ("1", "3", "8"):
        found.append(run("detect", *FILES, "pictures", "-thresh", "0", "--batch", batch, "--json-lines", "-").stdout)
    assert len(found[0].splitlines()) == 8
    assert found[0] == found[1] == found[2]


def test_patterns_lists_and_standard_input(job: Path) -> None:
    (job / "list.txt").write_text("pictures/2.png\n")
    result = run("detect", *FILES, "pictures/[01].png", "list.txt", "-", "--json-lines", "-", stdin="pictures/3.png\n")
    names = [json.loads(line)["filename"] for line in result.stdout.splitlines()]
    assert names == [f"pictures/{number}.png" for number in range(4)]


def test_only_some_classes(job: Path) -> None:
    arguments = ("detect", *FILES, "pictures", "-thresh", "0", "--json-lines", "-")
    both = [json.loads(line)["objects"] for line in run(*arguments).stdout.splitlines()]
    dark = [json.loads(line)["objects"] for line in run(*arguments, "--classes", "dark").stdout.splitlines()]
    assert {found["name"] for objects in both for found in objects} == {"bright", "dark"}
    assert dark == [[found for found in objects if found["name"] == "dark"] for objects in both]
    result = run("detect", *FILES, "pictures/0.png", "--classes", "drak", status=2)
    assert "there is no class 'drak'; did you mean 'dark'?" in result.stderr


def test_classes_by_name_and_number() -> None:
    assert chosen_classes(None, ["a", "b"]) is None
    assert chosen_classes("b, 0", ["a", "b", "c"]) == {0, 1}
    with pytest.raises(ConfigError, match="there is no class '3'"):
        chosen_classes("3", ["a", "b", "c"])


def test_crops_are_what_is_inside_the_boxes(job: Path) -> None:
    run("detect", *FILES, "pictures/0.png", "-thresh", "0.3", "--crops", "crops", "--json", "all.json", "--quiet")
    objects = json.loads(Path("all.json").read_text())[0]["objects"]
    crops = sorted(Path("crops").rglob("*.jpg"))
    assert objects
    assert len(crops) <= len(objects)  # boxes beyond the picture have nothing inside
    assert {path.parent.name for path in crops} <= {found["name"] for found in objects}


def test_a_crop_is_cut_at_the_edge(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 90, np.uint8)
    found = [Detection(0, "a/b", 0.9, 10, 10, 30, 20), Detection(0, "a/b", 0.9, -50, 10, 30, 20)]
    results = Results(Wanted(crops=tmp_path))
    results.keep("deep/one.png", image, found)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.jpg")] == [Path("a_b/one-1.jpg")]
    crop = cv2.imread(str(tmp_path / "a_b/one-1.jpg"))
    assert crop is not None
    assert crop.shape == (20, 25, 3)
    assert results.finish() == [f"crops: 1 in {tmp_path}"]


def test_quiet(job: Path) -> None:
    assert run("detect", *FILES, "pictures/0.png", "grey.avi", "--quiet").stdout == ""
    assert Path("predictions/0.png").exists()


def test_what_cannot_be_played_does_not_stop_the_rest(job: Path) -> None:
    (job / "broken.mp4").write_bytes(b"no video")
    result = run("detect", *FILES, "broken.mp4", "grey.avi", status=2)
    assert "broken.mp4  cannot be opened" in result.stderr
    assert frames_of("predictions/grey.avi") == 9


def test_videos_in_folders_and_of_patterns(job: Path) -> None:
    for place in ("both/a", "both/b"):
        (job / place).mkdir(parents=True)
        (job / place / "grey.avi").write_bytes((job / "grey.avi").read_bytes())
    (job / "both/0.png").write_bytes((job / "pictures/0.png").read_bytes())
    run("detect", *FILES, "both", "both/*/*.avi", "--out", "found", "--quiet")
    found = [str(path.relative_to("found")) for path in sorted(Path("found").rglob("*.*"))]
    assert found == ["0.png", "a/grey.avi", "b/grey.avi", "grey-2.avi", "grey.avi"]
    assert all(frames_of(f"found/{name}") == 9 for name in found[1:])


def test_originals_are_never_written_over(job: Path) -> None:
    before = (job / "grey.avi").read_bytes()
    for arguments in (["detect", *FILES, "grey.avi", "--out", "."],
                      ["detector", "demo", *FILES, "grey.avi", "-out_filename", "../" + job.name + "/grey.avi"]):  # fmt: skip
        result = run(*arguments, status=2)
        assert "grey.avi  would be written over" in result.stderr
    assert (job / "grey.avi").read_bytes() == before


def test_what_the_system_refuses_is_one_line(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("detect", *FILES, "pictures/0.png", "--out", "tiny.cfg", status=2).stderr == "Error: tiny.cfg  File exists\n"

    def full(path: Path, image: np.ndarray) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("darkpy.cli.detect.write_picture", full)
    result = run("detect", *FILES, "pictures/0.png", status=1)
    assert result.stderr == "Error: predictions/0.png  No space left on device\n"


def test_a_video_for_detector_test_is_told_where_to_go(job: Path) -> None:
    assert "grey.avi is a video: see darkpy detect" in run("detector", "test", *FILES, "grey.avi", status=2).stderr


def test_demo_in_darknets_order(job: Path) -> None:
    result = run("detector", "demo", "tiny.data", *FILES, "grey.avi", "-s", "2", "-dont_show", "-out_filename", "o.avi")
    assert "\n3 frames in 0:0" in result.stdout
    assert frames_of("o.avi") == 3
    assert result.stderr == ""


def test_demo_says_that_there_is_no_display(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    result = run("detector", "demo", *FILES, "grey.avi", "-json_file_output", "all.json", "-time_limit_sec", "0")
    assert "no window is opened: there is no display here" in result.stderr
    assert "nothing is shown or written" not in result.stderr
    assert "--out-filename FILE writes the video" in run("detector", "demo", *FILES, "grey.avi").stderr
    assert len(json.loads(Path("all.json").read_text())) == 4  # the time is looked at after each batch
    assert not Path("predictions").exists()


def test_demo_without_a_camera(job: Path) -> None:
    result = run("detector", "demo", *FILES, "-c", "97", "-dont_show", status=2)
    assert "camera:97  cannot be opened; is it connected, and free?" in result.stderr


def test_an_interrupted_video_is_kept(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def keep(self: Results, name: str, image: np.ndarray, found: list[object]) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Results, "keep", keep)
    result = run("detect", *FILES, "grey.avi", "--batch", "1", status=130)
    assert "stopped; what was done is kept" in result.stderr
    assert frames_of("predictions/grey.avi") == 5


def test_interrupted_pictures_are_kept_and_nothing_more_is_begun(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Window, image: np.ndarray, wait: int = 1) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Window, "show", interrupt)
    result = run("detect", *FILES, "pictures", "grey.avi", "--batch", "2", "--json", "all.json", status=130)
    assert "stopped; what was done is kept" in result.stderr
    assert len(json.loads(Path("all.json").read_text())) == 1
    assert [path.name for path in Path("predictions").iterdir()] == ["0.png"]


def test_many_pictures_are_summed_up(job: Path) -> None:
    lines = run("detect", *FILES, "pictures", "-thresh", "0.01").stdout.splitlines()
    assert [" with the start " in line for line in lines if " ms " in line] == [True] * 4 + [False] * 4
    assert re.fullmatch(r"8 pictures in 0:0\d   [\d.,]+ pictures/s   \w+ [\d,]+.*", lines[-2])
    assert lines[-1] == "drawn: predictions"


def test_formats_of_videos(job: Path) -> None:
    with Video("grey.avi") as video, pytest.raises(InputError, match=r"videos are written as \.mp4"):
        VideoFile(Path("out.gif"), video)


class Screen:
    """A display, as far as OpenCV's windows need one: the keys pressed one after the other, -1 for none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *keys: int) -> None:
        self.keys = iter(keys)
        self.shown: list[np.ndarray] = []
        self.sizes: list[tuple[int, int]] = []
        self.visible: float | None = 1.0
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setenv("QT_QPA_FONTDIR", "nowhere")
        monkeypatch.setattr(cv2, "namedWindow", lambda title, kind: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda title, width, height: self.sizes.append((width, height)))
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", self.wait)
        monkeypatch.setattr(cv2, "getWindowProperty", self.is_visible)

    def wait(self, milliseconds: int) -> int:
        assert milliseconds > 0  # for ever would be for ever once the window is closed
        return next(self.keys)

    def is_visible(self, title: str, what: int) -> float:
        if self.visible is None:
            raise cv2.error("there is no such window")
        return self.visible


def test_a_window_is_shown_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, -1, ord("q"))
    window = Window("darkpy", True)
    picture = np.zeros((2000, 1000, 3), np.uint8)
    assert window.show(picture)
    assert not window.show(picture)
    assert len(screen.shown) == 2
    assert screen.sizes == [(400, 800)]  # once: afterwards it is as large as the user wants it
    assert any(Path(os.environ["QT_QPA_FONTDIR"]).glob("DejaVuSans*.ttf"))
    assert Window("darkpy", False).show(picture)


@pytest.mark.parametrize("visible", [0.0, None])
def test_a_closed_window_ends_the_show(visible: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, -1, ord("a"), -1, -1)
    window = Window("darkpy", True)
    assert window.show(np.zeros((2, 2, 3), np.uint8), wait=0)  # until a key is pressed
    screen.visible = visible
    assert not window.show(np.zeros((2, 2, 3), np.uint8), wait=0)


def test_json_is_written_even_without_pictures(tmp_path: Path) -> None:
    results = Results(Wanted(json_file=str(tmp_path / "x.json"), json_lines=str(tmp_path / "deep/x.jsonl")))
    assert results.finish() == [f"json lines: {tmp_path}/deep/x.jsonl", f"json: {tmp_path}/x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == []
