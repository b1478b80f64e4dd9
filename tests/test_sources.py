"""What a detector looks at: names to pictures, reading ahead, videos."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.errors import DataError, InputError
from darkpy.sources import Video, is_video, pictures_in, read, read_ahead


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small pictures, each of one value, as working folder."""
    (tmp_path / "deep").mkdir()
    for number, name in enumerate(("a.png", "b.png", "deep/c.png")):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), 10 * number, np.uint8))
    (tmp_path / "notes.md").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_video(path: Path, frames: int = 9, rate: float = 5) -> None:
    """A video whose frame n is grey of 20 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (32, 16))
    for number in range(frames):
        writer.write(np.full((16, 32, 3), 20 * number, np.uint8))
    writer.release()


def numbers(frames) -> list[int]:
    return [round(float(frame.mean()) / 20) for frame in frames]


def test_files_folders_patterns_and_lists(folder: Path) -> None:
    (folder / "list.txt").write_text("b.png\n\ndeep/c.png\r\n")
    assert list(pictures_in(["b.png"])) == [(Path("b.png"), Path("b.png"))]
    everything = [Path("a.png"), Path("b.png"), Path("deep/c.png")]
    assert list(pictures_in([str(folder)])) == [(folder / place, place) for place in everything]
    assert [path for path, _ in pictures_in(["*.png"])] == everything[:2]
    assert [path for path, _ in pictures_in(["**/*.png"])] == everything
    assert list(pictures_in(["list.txt"])) == [(Path("b.png"), Path("b.png")), (Path("deep/c.png"), Path("c.png"))]


@pytest.mark.parametrize("name, message", [("*.jpg", "matches no pictures"), ("empty", "is a folder without pictures")])
def test_nothing_to_look_at(folder: Path, name: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        list(pictures_in([name]))


def test_a_name_with_the_signs_of_a_pattern_is_itself_if_it_exists(folder: Path) -> None:
    (folder / "a[1].png").write_bytes((folder / "a.png").read_bytes())
    assert [path for path, _ in pictures_in(["a[1].png"])] == [Path("a[1].png")]


@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_pictures_come_in_order_and_problems_with_them(folder: Path, ahead: int) -> None:
    (folder / "broken.png").write_bytes(b"")
    names = ["deep/c.png", "broken.png", "a.png", "b.png"]
    pictures = list(read_ahead(map(Path, names), 3, ahead))
    assert [str(picture.path) for picture in pictures] == names
    assert [None if p.image is None else int(p.image.mean()) for p in pictures] == [20, None, 0, 10]
    assert str(pictures[1].problem) == "broken.png  the file is empty"


def test_no_picture_is_read_before_it_is_asked_for_without_ahead(folder: Path) -> None:
    asked = []

    def names():
        for name in ("a.png", "b.png"):
            asked.append(name)
            yield Path(name)

    next(read_ahead(names(), 3, 0))
    assert asked == ["a.png"]


def test_pictures_of_other_networks(folder: Path) -> None:
    np.save(folder / "five.npy", np.zeros((4, 6, 5), np.uint8))
    image = read(folder / "five.npy", 5).image
    assert image is not None
    assert image.shape == (4, 6, 5)


@pytest.mark.parametrize(
    "name, expected",
    [("a.MP4", True), ("x/b.avi", True), ("camera:0", True), ("rtsp://host/1", True), ("a.jpg", False), ("0", False)],
)
def test_names_of_videos(name: str, expected: bool) -> None:
    assert is_video(name) == expected


@pytest.mark.parametrize("skip, expected", [(0, list(range(9))), (1, [0, 2, 4, 6, 8]), (3, [0, 4, 8])])
def test_frames_of_a_video(tmp_path: Path, skip: int, expected: list[int]) -> None:
    write_video(tmp_path / "grey.avi")
    with Video(str(tmp_path / "grey.avi"), skip=skip, ahead=2) as video:
        assert (video.width, video.height, video.rate, video.frames) == (32, 16, 5 / (skip + 1), len(expected))
        assert numbers(video) == expected


def test_a_video_may_be_left_early(tmp_path: Path) -> None:
    write_video(tmp_path / "grey.avi")
    with Video(str(tmp_path / "grey.avi"), ahead=1) as video:
        assert numbers([next(iter(video))]) == [0]
    assert not video._thread.is_alive()


def test_of_a_camera_only_the_newest_frames_are_kept(tmp_path: Path) -> None:
    write_video(tmp_path / "grey.avi")
    video = Video(str(tmp_path / "grey.avi"), ahead=2)
    video.is_live = True
    deadline = time.monotonic() + 30
    with video:
        while numbers(list(video._decoded.queue)[-1:]) != [8] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert numbers(video) == [7, 8]


def test_videos_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="no such video"):
        Video(str(tmp_path / "none.mp4"))
    with pytest.raises(DataError, match="cannot be opened; is it damaged"):
        Video(str(tmp_path / "broken.mp4"))
    with pytest.raises(InputError, match="write camera:0"):
        Video("camera:front")


class Capture:
    """A stream that says nothing of itself: frames, 8 x 6, and then no more."""

    frames = 2

    def __init__(self, name: str) -> None:
        self.left = self.frames

    def isOpened(self) -> bool:  # OpenCV's name
        return True

    def get(self, what: int) -> float:
        return float(self.frames) if what == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((6, 8, 3), 20 * self.left, np.uint8)) if self.left >= 0 else (False, None)

    def grab(self) -> bool:
        return self.read()[0]

    def release(self) -> None:
        pass


def test_a_stream_is_as_large_as_its_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with Video("rtsp://camera") as video:
        assert (video.width, video.height, video.rate, video.frames) == (8, 6, 25, 0)
        assert numbers(video) == [1, 0]
    with Video("https://x/y.mp4") as video:  # a recording: no frame of it is left out
        assert (video.is_live, video.frames) == (False, 2)
    monkeypatch.setattr(Capture, "frames", 0)
    with pytest.raises(DataError, match="rtsp://camera  has no frame that can be read"):
        Video("rtsp://camera")
