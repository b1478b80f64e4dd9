from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpy.config.cfg import parse_cfg, read_cfg
from darkpy.config.edit import CfgText
from darkpy.errors import ConfigError
from darkpy.resources import available, find

TEXT = """\
; old header

# with two comments
[net]
width = 416   # pixels
height=416

[convolutional]
filters=255;the last
size=1

[yolo]
"""


def test_values_change_and_comments_stay():
    text = CfgText(TEXT)
    text.set_net("width", 608)
    text.set_layer(0, "filters", 24)
    assert text.text == TEXT.replace("width = 416 ", "width = 608 ").replace("=255;", "=24;")
    assert text.config.net.get("width").value == "608" and text.config.layers[0].get("filters").value == "24"


def test_new_keys_go_to_the_end_of_their_section():
    text = CfgText(TEXT)
    text.set_layer(1, "classes", 3)
    text.set_layer(0, "pad", 1)
    text.set_net("batch", 64)
    assert text.text == (
        TEXT.replace("size=1\n", "size=1\npad=1\n").replace("height=416\n", "height=416\nbatch=64\n")
        .replace("[yolo]\n", "[yolo]\nclasses=3\n")
    )  # fmt: skip


def test_of_a_key_that_is_given_twice_the_first_changes():
    text = CfgText("[net]\nwidth=1\nwidth=2\n")
    text.set_net("width", 3)
    assert text.text == "[net]\nwidth=3\nwidth=2\n"


def test_the_header_is_replaced():
    text = CfgText(TEXT)
    text.set_header(["new", "", "lines"])
    assert text.text.startswith("# new\n#\n# lines\n\n[net]\nwidth = 416") and "two comments" not in text.text
    text.set_header(["newer"])
    assert text.text.startswith("# newer\n\n[net]\n")


def test_line_ends_stay(tmp_path):
    (tmp_path / "x.cfg").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    text = CfgText.read(tmp_path / "x.cfg")
    text.set_net("width", 32)
    text.write(tmp_path / "y.cfg")
    assert (tmp_path / "y.cfg").read_bytes() == TEXT.replace("416 ", "32 ").replace("\n", "\r\n").encode()


def test_what_is_no_cfg(tmp_path):
    with pytest.raises(ConfigError, match="no.cfg  cannot be read"):
        CfgText.read(tmp_path / "no.cfg")
    with pytest.raises(ConfigError, match=r"x\.cfg:1  'a' before any section"):
        CfgText("a", "x.cfg")


@given(st.data())
def test_any_value_of_any_shipped_cfg_can_be_changed_alone(data):
    path = find("cfg", data.draw(st.sampled_from(available("cfg"))))
    text, before = CfgText.read(path), read_cfg(path)
    index = data.draw(st.integers(0, len(before.layers) - 1).filter(lambda i: before.layers[i].entries))
    entry = data.draw(st.sampled_from(before.layers[index].entries))
    text.set_layer(index, entry.key, "x")
    after = parse_cfg(text.text)
    for place, (one, other) in enumerate(zip(before.layers, after.layers)):
        for old, new in zip(one.entries, other.entries):
            expected = "x" if place == index and old == one.get(entry.key) else old.value
            assert (new.key, new.value) == (old.key, expected)
