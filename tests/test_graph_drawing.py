from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from darkpy.errors import ConfigError
from darkpy.graph_drawing import BOX_HEIGHT, COLOURS, SECTIONS, draw
from darkpy.layers import registered
from tests.tiny_job import write_cfg

SVG = "{http://www.w3.org/2000/svg}"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"


def drawn(cfg: Path | str, folder: Path, **options: int) -> ElementTree.Element:
    draw(cfg, folder / "net.svg", **options)
    return ElementTree.parse(folder / "net.svg").getroot()


def boxes(root: ElementTree.Element) -> dict[str, tuple[float, float, float]]:
    """Left, top and width of each box by the first word of its text, which is the layer's number."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        rectangle, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rectangle is not None and text is not None and text.text is not None
        found[text.text.split()[0]] = tuple(float(rectangle.get(key, "")) for key in ("x", "y", "width"))
    return found


def paths(root: ElementTree.Element) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Beginning and end of every line that is no arrow's head."""
    ends = []
    for path in root.iter(f"{SVG}path"):
        if path.get("fill") == "none":
            text = path.get("d", "")
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", text)]
            start = (numbers[0], numbers[1])
            ends.append((start, (numbers[0], numbers[2]) if "V" in text else (numbers[-2], numbers[-1])))
    return ends


def test_every_layer_has_a_box_with_its_text(tmp_path: Path) -> None:
    root = drawn(write_cfg(tmp_path), tmp_path)
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert texts[:2] == ["tiny.cfg", "4 layers, 0.00 M parameters, 0.00 BFLOPs"]
    assert {"0 convolutional 3x3/2", "16x16x8 leaky", "248", "1 maxpool 2x2/2", "3 yolo 2 anchors, 2 classes"} <= set(texts)
    assert list(boxes(root)) == ["input", "0", "1", "2", "3"]
    hints = ["".join(title.itertext()) for title in root.iter(f"{SVG}title")]
    assert hints[1].startswith("line 13 [convolutional] 3x3/2 leaky\n248 parameters")


def test_lines_lead_from_what_is_read_to_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n" + 3 * CONV + "[shortcut]\nfrom=-3\n[route]\nlayers=0\n"
    )
    root = drawn(tmp_path / "a.cfg", tmp_path, columns=1)
    found = boxes(root)

    def layer_at(x: float, y: float) -> str:
        return next(name for name, (left, top, width) in found.items()
                    if left <= x <= left + width and top <= y <= top + BOX_HEIGHT)  # fmt: skip

    lines = sorted((layer_at(*start), layer_at(*stop)) for start, stop in paths(root))
    assert lines == [("0", "1"), ("0", "3"), ("0", "4"), ("1", "2"), ("2", "3"), ("input", "0")]


def test_branches_of_several_layers_do_not_run_in_one_lane(tmp_path: Path) -> None:
    """They overlap; their vertical parts are side by side, right of the boxes."""
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n" + 4 * CONV + "[shortcut]\nfrom=0\n[shortcut]\nfrom=1\n"
    (tmp_path / "a.cfg").write_text(text)
    root = drawn(tmp_path / "a.cfg", tmp_path, columns=1)
    left, _, width = boxes(root)["0"]
    curves = [path.get("d", "") for path in root.iter(f"{SVG}path") if "Q" in path.get("d", "")]
    lanes = {re.findall(r"Q([\d.]+)", curve)[0] for curve in curves}
    assert len(curves) == len(lanes) == 2
    assert all(float(lane) > left + width for lane in lanes)


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
def test_columns(tmp_path: Path, columns: int) -> None:
    """Every layer of a large network is drawn in its column; nothing overlaps, and all lines end at boxes."""
    root = drawn("yolov3-tiny.cfg", tmp_path, columns=columns)
    found = boxes(root)
    assert len(found) == 25
    assert len({left for left, _, _ in found.values()}) == columns
    assert len({(left, top) for left, top, _ in found.values()}) == 25
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert all(left + wide < width and top + BOX_HEIGHT < height for left, top, wide in found.values())
    for start, stop in paths(root):
        for x, y in (start, stop):
            assert any(
                left - 0.2 <= x <= left + wide + 0.2 and top - 0.2 <= y <= top + BOX_HEIGHT + 0.2
                for left, top, wide in found.values()
            )
    assert len(paths(root)) == 25  # one more than layers, as one layer reads two


def test_a_large_network_fills_a_sheet_of_paper(tmp_path: Path) -> None:
    root = drawn("yolov4.cfg", tmp_path)
    assert len(boxes(root)) == 163
    assert 1.2 < float(root.get("width", "")) / float(root.get("height", "")) < 1.7


def test_names_cannot_break_the_picture(tmp_path: Path) -> None:
    write_cfg(tmp_path, "a<b>&c.cfg")
    assert "a<b>&c.cfg" in ["".join(text.itertext()) for text in drawn(tmp_path / "a<b>&c.cfg", tmp_path).iter(f"{SVG}text")]


def test_kinds_are_those_of_sections_there_are() -> None:
    assert set(SECTIONS) < set(COLOURS)
    names = [name for names in SECTIONS.values() for name in names]
    assert len(names) == len(set(names))
    assert set(names) <= set(registered())


def test_a_wrong_cfg_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="filters=15 does not fit"):
        draw(write_cfg(tmp_path, filters=15), tmp_path / "net.svg")
    assert not (tmp_path / "net.svg").exists()
