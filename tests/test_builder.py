from __future__ import annotations

import pytest

from darkpy.backends import create
from darkpy.builder import build
from darkpy.config.cfg import parse_cfg
from darkpy.errors import ConfigError

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"


def messages(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(parse_cfg(text, "my.cfg"), create("numpy"))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[history]\n", "my.cfg:5  [history] is not supported: it stacks the frames of a training sequence, and even Darknet does not when it detects"),
        ("[convolutoinal]\n", "my.cfg:5  [convolutoinal] is not a known section; did you mean 'convolutional'?"),
        (CONV + "[route]\nlayers=-3\n", "my.cfg:11  [route] layers=-3 names a missing layer; this is layer 1, it can read 0 to 0, or -1 to -1"),
        (CONV + "[route]\nlayers=1\n", "my.cfg:11  [route] layers=1 names a missing layer; this is layer 1, it can read 0 to 0, or -1 to -1"),
        (
            CONV + "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=-1,-2\n",
            "my.cfg:14  [route] joins layer 1 of 16x16 with layer 0 of 32x32; their widths and heights must agree",
        ),
        ("[convolutional]\nsize=40\n", "my.cfg:6  [convolutional] size=40 is larger than its input of 32x32 with a padding of 0"),
        ("[maxpool]\nsize=99\npadding=1\n", "my.cfg:6  [maxpool] size=99 is larger than its input of 32x32 with a total padding of 1"),
        ("[convolutional]\nfilters=4\ngroups=2\n", "my.cfg:7  [convolutional] groups=2 must divide both the 3 input channels and filters=4"),
        (
            "[convolutional]\nfilters=75\nsize=1\n[yolo]\nmask=0,1,2\nanchors=1,1,2,2,3,3\nnum=3\nclasses=3\n",
            "my.cfg:6  [convolutional] filters=75 does not fit the [yolo] on line 8: 3 masks x (4 + 1 + 3 classes) = 24",
        ),
        (
            "[convolutional]\nfilters=8\nsize=1\n[yolo]\nmask=0\nanchors=1,1,2\nnum=1\nclasses=3\n",
            "my.cfg:10  [yolo] anchors has 3 numbers; they come in pairs of width and height",
        ),
        ("[softmax]\ngroups=5\n", "my.cfg:6  [softmax] groups=5 does not divide its 3072 inputs"),
        (CONV + "[convolutional]\nfilters=4\nsize=1\n[sam]\nfrom=0\n", "my.cfg:14  [sam] multiplies the previous layer of (channels, height, width) = (4, 32, 32) with layer 0 of (8, 32, 32); they must agree"),
        (
            CONV + CONV + "[scale_channels]\nfrom=0\n",
            "my.cfg:16  [scale_channels] weighs layer 0 of (channels, height, width) = (8, 32, 32): the previous layer must give (8, 1, 1), it gives (8, 32, 32)",
        ),
    ],
)  # fmt: skip
def test_impossible_networks(text, expected):
    found = messages(NET + text)
    assert expected in found


def test_everything_wrong_is_said_at_once():
    text = NET + "[convolutional]\nfilters=8\nsiez=3\n[route]\nlayers=9\n[yolo]\nancors=1,2\n"
    found = messages(text)
    assert [message.split("  ")[0] for message in found] == sorted(
        (message.split("  ")[0] for message in found), key=lambda where: int(where.split(":")[1])
    )
    assert "my.cfg:7  [convolutional] has no option 'siez'; did you mean 'size'?" in found
    assert any("layers=9 names a missing layer" in message for message in found)
    assert "my.cfg:11  [yolo] has no option 'ancors'; did you mean 'anchors'?" in found


def test_one_mistake_gives_one_message():
    text = NET + "[convolutional]\nfilters=x\n[maxpool]\nsize=2\nstride=2\n[route]\nlayers=-1\n[convolutional]\n"
    assert messages(text) == ["my.cfg:6  [convolutional] filters=x: expected an integer"]


def test_a_cfg_without_layers():
    assert messages(NET) == ["my.cfg:1  [net] stands alone: the cfg has no layers"]


def test_problems_of_net_do_not_hide_those_of_the_layers():
    found = messages("[net]\nwidht=32\n[convolutional]\nsiez=3\n")
    assert any("widht" in message for message in found)
    assert any("siez" in message for message in found)


def test_ineffective_keys_are_remarked_on_once():
    text = NET + CONV + "wait_stream=1\n" + CONV + "wait_stream=1\n"
    blueprint = build(parse_cfg(text, "my.cfg"), create("numpy"))
    assert [warning.message for warning in blueprint.warnings] == [
        "[convolutional] wait_stream= has no effect: layers run one after the other"
    ]


def test_aliases_build_the_same_layers():
    blueprint = build(parse_cfg(NET + "[conv]\n[max]\n[avg]\n[conn]\n[soft]\n", "my.cfg"), create("numpy"))
    assert [layer.name for layer in blueprint.layers] == ["convolutional", "maxpool", "avgpool", "connected", "softmax"]
