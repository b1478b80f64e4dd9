from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.cfg import Entry, Section, parse_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import (
    CommonOptions,
    OptionRow,
    Options,
    describe,
    ineffective_keys,
    known_keys,
    option,
    parse_options,
    refused_keys,
)


@dataclass(frozen=True)
class Pool(CommonOptions):
    stride: int = option(1, minimum=1, maximum=9, help="step between windows")
    size: int = option(same_as="stride", minimum=1, help="side of a window")
    padding: int = option(lambda o: o.size - 1, default_text="size - 1", minimum=0)
    scale: float = option(0.5, maximum=2)
    flip: bool = option(False)
    kind: str = option("mean", choices=("mean", "max"))
    from_: tuple[int, ...] = option(help="layers to read")
    rates: tuple[float, ...] = option((), minimum=0, aliases=("rate",))

    ineffective: ClassVar[dict[str, str]] = {"stream": "nothing is streamed"}
    refused: ClassVar[dict[str, str]] = {"tree": "there are no trees"}


def parse(text: str, cls: type[Options] = Pool):
    """Options of ``[pool]`` with these lines, its problems and its warnings."""
    section = parse_cfg("[net]\n[pool]\n" + text, "x.cfg").layers[0]
    problems, warnings = [], []
    return parse_options(cls, section, problems, warnings), list(map(str, problems)), list(map(str, warnings))


def accepted(text: str):
    options, problems, warnings = parse(text)
    assert (problems, warnings) == ([], [])
    return options


def test_defaults():
    options = accepted("from=-1")
    assert options == Pool(from_=(-1,))
    assert (options.stride, options.size, options.padding, options.scale) == (1, 1, 0, 0.5)
    assert (options.flip, options.kind, options.rates) == (False, "mean", ())


def test_derived_defaults_follow_what_is_given():
    assert accepted("from=1\nstride=3").padding == 2
    assert accepted("from=1\nstride=3\nsize=5").padding == 4
    assert accepted("from=1\npadding=7\nsize=5").padding == 7
    assert Pool(from_=(), stride=4).size == 4
    assert dataclasses.replace(Pool(from_=(), stride=4), stride=2).size == 4


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("stride=3", "stride", 3),
        ("stride=+3", "stride", 3),
        ("stride=3.0", "stride", 3),
        ("stride=3.", "stride", 3),
        ("size=1e3", "size", 1000),
        ("scale=.1", "scale", 0.1),
        ("scale=1e-3", "scale", 0.001),
        ("scale=-2", "scale", -2.0),
        ("flip=1", "flip", True),
        ("flip=0", "flip", False),
        ("kind=max", "kind", "max"),
        ("rates=1", "rates", (1.0,)),
        ("rates=.1,.2", "rates", (0.1, 0.2)),
        ("rates= 1 , 2,  3, ", "rates", (1.0, 2.0, 3.0)),
        ("rate=4", "rates", (4.0,)),
    ],
)
def test_values(line, name, value):
    read = getattr(accepted("from=1\n" + line), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "line, message",
    [
        ("ancors=1", "[pool] has no option 'ancors'"),
        ("strid=1", "[pool] has no option 'strid'; did you mean 'stride'?"),
        ("streem=1", "[pool] has no option 'streem'; did you mean 'stream'?"),
        ("from_=1", "[pool] has no option 'from_'; did you mean 'from'?"),
        ("stride=two", "[pool] stride=two: expected an integer"),
        ("stride=1.5", "[pool] stride=1.5: expected an integer"),
        ("stride=1,2", "[pool] stride=1,2: expected an integer"),
        ("stride=1_0", "[pool] stride=1_0: expected an integer"),
        ("stride=٣", "[pool] stride=٣: expected an integer"),
        ("stride=" + "9" * 80, "[pool] stride=" + "9" * 57 + "...: expected an integer"),
        ("scale=much", "[pool] scale=much: expected a number"),
        ("scale=nan", "[pool] scale=nan: expected a number"),
        ("scale=inf", "[pool] scale=inf: expected a number"),
        ("scale=1e999", "[pool] scale=1e999: expected a number"),
        ("flip=yes", "[pool] flip=yes: expected 0 or 1"),
        ("flip=2", "[pool] flip=2: expected 0 or 1"),
        ("kind=maxx", "[pool] kind=maxx: expected one of mean, max; did you mean 'max'?"),
        ("kind=sum", "[pool] kind=sum: expected one of mean, max"),
        ("rates=1,,2", "[pool] rates=1,,2: expected numbers separated by commas"),
        ("rates=,", "[pool] rates=,: expected numbers separated by commas"),
        ("rates=1,x", "[pool] rates=1,x: expected numbers separated by commas"),
        ("rates=1,-2", "[pool] rates=1,-2: -2 is less than 0, the smallest value allowed"),
        ("stride=0", "[pool] stride=0: it is less than 1, the smallest value allowed"),
        ("stride=10", "[pool] stride=10: it is greater than 9, the largest value allowed"),
        ("scale=2.5", "[pool] scale=2.5: it is greater than 2, the largest value allowed"),
        ("tree=9k.tree", "[pool] tree=9k.tree is not supported: there are no trees"),
    ],
)
def test_problems(line, message):
    options, problems, warnings = parse("from=1\n\n" + line)
    assert (options, problems, warnings) == (None, [f"x.cfg:5  {message}"], [])


def test_a_required_option_is_named_at_the_section():
    assert parse("stride=1")[:2] == (None, ["x.cfg:2  [pool] needs the option 'from' (layers to read)"])


def test_a_wrong_required_option_is_one_problem():
    assert parse("from=x")[1] == ["x.cfg:3  [pool] from=x: expected integers separated by commas"]


def test_all_problems_at_once():
    _, problems, _ = parse("stride=0\nsize=x\nkinds=max\ntree=1\nclip=-1")
    assert [problem.split("  ")[0] for problem in problems] == [f"x.cfg:{line}" for line in (2, 3, 4, 5, 6, 7)]


def test_refused_keys_may_be_switched_off():
    assert accepted("from=1\ntree=0") == accepted("from=1\ntree=0.0") == accepted("from=1")


def test_a_key_without_effect_is_warned_about_once():
    section = parse_cfg("[net]\n[pool]\nfrom=1\nstream=1\n[pool]\nfrom=1\nstream=0", "x.cfg").layers
    problems, warnings = [], []
    assert all(parse_options(Pool, part, problems, warnings) for part in section)
    assert list(map(str, warnings)) == ["x.cfg:4  [pool] stream= has no effect: nothing is streamed"]
    assert problems == []


def test_the_first_of_repeated_keys_counts():
    options, problems, warnings = parse("stride=2\nfrom=1\nstride=3")
    assert (options.stride, problems) == (2, [])
    assert warnings == ["x.cfg:5  [pool] stride=3 is ignored: given twice, and stride=2 on line 3 counts"]


def test_an_alias_repeats_its_key():
    options, _, warnings = parse("rates=2\nfrom=1\nrate=3")
    assert options.rates == (2.0,)
    assert warnings == ["x.cfg:5  [pool] rate=3 is ignored: given twice, and rates=2 on line 3 counts"]


def test_the_same_value_twice_is_no_matter():
    assert parse("stride=2\nfrom=1\nstride=2")[1:] == ([], [])


def test_blanks_instead_of_a_comma_separate_values():
    options, problems, warnings = parse("from=1\nrates=1,2  3,4")
    assert (options.rates, problems) == ((1.0, 2.0, 3.0, 4.0), [])
    assert warnings == ["x.cfg:4  [pool] rates=1,2  3,4: '2 3' is read as 2 values; put commas between"]


def test_options_and_reasons_are_inherited_and_overridden():
    @dataclass(frozen=True)
    class Child(Pool):
        stream: int = option(0)
        scale: float = option(1.0)

        ineffective: ClassVar[dict[str, str]] = {"extra": "it is new"}

    assert ineffective_keys(Child) == {"extra": "it is new"}
    assert refused_keys(Child) == {"tree": "there are no trees"}
    assert parse("from=1\nstream=5", Child)[0].stream == 5
    assert parse("from=1", Child)[0].scale == 1.0
    assert {"clip", "rate", "from", "extra", "tree"} <= set(known_keys(Child))


def test_common_options():
    keys = ("clip=2", "stopbackward=1", "onlyforward=1", "dont_update=3", "burnin_update=2", "learning_rate=.5")
    options = accepted("\n".join(("from=1", *keys)))
    assert (options.clip, options.stopbackward, options.onlyforward) == (2.0, 1, True)
    assert (options.learning_rate, options.dont_update, options.burnin_update) == (0.5, 3, 2)
    assert (options.train_only_bn, options.dontload, options.dontloadscales) == (False, False, False)


def test_describe():
    rows = list(describe(Pool))
    assert rows[:8] == [
        OptionRow("stride", "integer", "1", "1 to 9", "step between windows"),
        OptionRow("size", "integer", "stride", "at least 1", "side of a window"),
        OptionRow("padding", "integer", "size - 1", "at least 0", ""),
        OptionRow("scale", "number", "0.5", "at most 2", ""),
        OptionRow("flip", "0 or 1", "0", "", ""),
        OptionRow("kind", "text", "mean", "mean, max", ""),
        OptionRow("from", "integers", "required", "", "layers to read"),
        OptionRow("rates, rate", "numbers", "none", "at least 0", ""),
    ]
    assert [row.name for row in rows[8:]] == [item.name for item in dataclasses.fields(CommonOptions)]


def test_describe_writes_numbers_without_exponents():
    @dataclass(frozen=True)
    class Small(Options):
        tiny: float = option(1e-6)
        whole: float = option(2.0)
        open: float = option(math.inf)
        pair: tuple[float, ...] = option((0.5, 1.0))
        made: int = option(lambda o: 3)

    assert [row.default for row in describe(Small)] == ["0.000001", "2", "no limit", "0.5,1", "computed"]


words = st.sampled_from([*known_keys(NetOptions), *known_keys(Pool), "x"])
values = st.one_of(st.text(), st.text("0123456789.,+-e "), st.from_type(float).map(str)).map(str.strip).filter(bool)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([NetOptions, Pool]), st.lists(st.tuples(words, values), max_size=6))
def test_any_entries_are_read_or_refused(cls, pairs):
    entries = tuple(Entry(key, value, number) for number, (key, value) in enumerate(pairs, start=2))
    problems, warnings = [], []
    options = parse_options(cls, Section("any", 1, entries, "x.cfg"), problems, warnings)
    assert (options is None) == bool(problems)


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_survive(whole, real):
    @dataclass(frozen=True)
    class Two(Options):
        whole: int = option()
        real: float = option()

    section = Section("two", 1, (Entry("whole", str(whole), 2), Entry("real", repr(real), 3)), "x.cfg")
    assert parse_options(Two, section, [], []) == Two(whole=whole, real=real)
