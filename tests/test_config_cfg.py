from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.cfg import Config, Entry, Section, decode, format_cfg, parse_cfg, read_cfg, write_cfg
from darkpy.errors import ConfigError

SMALL = """\
# a comment
[net]
width = 416 ; after a value
height=416

[ conv ]
filters=16# right behind
\tlayers = -1 , 8

[maxpool]
"""


def content(config: Config) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections and entries without their lines."""
    sections = (config.net, *config.layers)
    return [(section.name, [(entry.key, entry.value) for entry in section.entries]) for section in sections]


def errors(text: str | bytes, tmp_path) -> list[str]:
    path = tmp_path / "x.cfg"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        read_cfg(path)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_sections_entries_and_lines():
    config = parse_cfg(SMALL, "small.cfg")
    assert config.net == Section("net", 2, (Entry("width", "416", 3), Entry("height", "416", 4)), "small.cfg")
    assert config.layers == (
        Section("conv", 6, (Entry("filters", "16", 7), Entry("layers", "-1 , 8", 8)), "small.cfg"),
        Section("maxpool", 10, (), "small.cfg"),
    )


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_endings_and_byte_order_mark(ending, mark, tmp_path):
    path = tmp_path / "small.cfg"
    path.write_bytes((mark + SMALL).replace("\n", ending).encode())
    assert read_cfg(path).layers == parse_cfg(SMALL, str(path)).layers


def test_another_net_keeps_its_lines_and_the_layers():
    config = parse_cfg(SMALL, "small.cfg")
    changed = config.with_net(height=32, batch=4)
    entries = (Entry("width", "416", 3), Entry("height", "32", 4), Entry("batch", "4", 2))
    assert changed.net == Section("net", 2, entries, "small.cfg")
    assert changed.layers == config.layers and config.net.get("height") == Entry("height", "416", 4)


def test_network_is_another_name_of_net():
    assert parse_cfg("[network]\nwidth=3").net.name == "network"


def test_a_value_may_contain_an_equals_sign():
    assert parse_cfg("[net]\nmap=a=b").net.get("map") == Entry("map", "a=b", 2)


def test_get_finds_the_first_of_repeated_keys_as_darknet_does():
    section = parse_cfg("[net]\nbatch=1\nbatch=64").net
    assert section.get("batch") == Entry("batch", "1", 2)
    assert section.get("width") is None


def test_where_of_falls_back_to_the_section():
    section = parse_cfg("[net]\n\nbatch=1", "a.cfg").net
    assert section.where_of("width", "batch") == "a.cfg:3"
    assert section.where_of("width") == section.where == "a.cfg:1"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ["x.cfg  no section; a cfg begins with [net]"]),
        ("# only\n\n; comments", ["x.cfg  no section; a cfg begins with [net]"]),
        ("\n[nett]\n", ["x.cfg:2  [nett] is the first section; a cfg begins with [net]; did you mean 'net'?"]),
        ("[conv]", ["x.cfg:1  [conv] is the first section; a cfg begins with [net]"]),
        ("a=1\nb=2\n[net]", ["x.cfg:1  'a=1' before any section; a cfg begins with [net]"]),
        ("images/1.jpg", ["x.cfg:1  'images/1.jpg' before any section; a cfg begins with [net]"]),
        ("[net", ["x.cfg:1  '[net' has no closing bracket; a section is written [name]"]),
        ("[net]\n[]", ["x.cfg:2  '[]' has no name between the brackets"]),
        ("[net] width=3", ["x.cfg:1  [net] is followed by 'width=3'; options go on lines of their own"]),
        ("[net]\nwidth 3", ["x.cfg:2  'width 3' has no '='; an option is written key=value"]),
        ("[net]\n=3", ["x.cfg:2  '=3' has no key before '='"]),
        ("[net]\na= # b", ["x.cfg:2  'a=' has no value after '='; leave the line out to get the default"]),
        ("[net]\n[conv]\n[net]", ["x.cfg:3  a second [net]; a cfg has one, its first section"]),
        (b"[net]\n# caf\xe9", ["x.cfg:2  byte 0xe9 is not UTF-8 text; save the file as UTF-8"]),
    ],
)
def test_malformed(text, expected, tmp_path):
    assert errors(text, tmp_path) == expected


def test_all_problems_at_once_and_in_order(tmp_path):
    assert [line.split("  ")[0] for line in errors("[net]\na\n[conv\nb=\n[network]\n=1", tmp_path)] == [
        "x.cfg:2",
        "x.cfg:3",
        "x.cfg:4",
        "x.cfg:5",
        "x.cfg:6",
    ]


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.cfg  cannot be read: No such file or directory"):
        read_cfg(tmp_path / "nowhere.cfg")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        read_cfg(tmp_path)


def test_write_and_read_again(tmp_path):
    config = parse_cfg(SMALL)
    write_cfg(config, tmp_path / "copy.cfg")
    assert content(read_cfg(tmp_path / "copy.cfg")) == content(config)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.cfg"]


def test_format():
    assert format_cfg(parse_cfg(SMALL)) == (
        "[net]\nwidth=416\nheight=416\n\n[conv]\nfilters=16\nlayers=-1 , 8\n\n[maxpool]\n"
    )


plain = st.text(st.characters(exclude_characters="#;\r\n", exclude_categories=["Cs"]), min_size=1)
plain = plain.filter(lambda text: text == text.strip())
names = plain.filter(lambda text: not set(text) & set("[]") and text not in ("net", "network"))
keys = plain.filter(lambda text: "=" not in text and not text.startswith("["))
entries = st.lists(st.builds(Entry, keys, plain, st.just(1)), max_size=4).map(tuple)
nets = st.builds(Section, st.sampled_from(["net", "network"]), st.just(1), entries, st.just("x"))
layers = st.lists(st.builds(Section, names, st.just(1), entries, st.just("x")), max_size=4).map(tuple)


@settings(deadline=None)
@given(st.builds(Config, st.just("x"), nets, layers))
def test_round_trip(config):
    assert content(parse_cfg(format_cfg(config))) == content(config)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), st.text("[]=#;\n\r\t net01,.-\ufeff")))
def test_any_text_is_read_or_refused(text):
    try:
        config = parse_cfg(text, "x.cfg")
    except ConfigError as error:
        assert all(problem.where.startswith("x.cfg") for problem in error.problems)
    else:
        assert content(parse_cfg(format_cfg(config))) == content(config)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data):
    try:
        text = decode(data, "x")
    except ConfigError as error:
        assert error.problems[0].where.startswith("x:")
    else:
        assert text.encode() == data.removeprefix(b"\xef\xbb\xbf")


def test_published_files_keep_their_content(shared):
    paths = sorted((shared / "zoo").rglob("*.cfg"))
    assert len(paths) == 95
    for path in paths:
        config = read_cfg(path)
        assert content(parse_cfg(format_cfg(config))) == content(config)
