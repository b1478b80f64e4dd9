"""Numbers as a person reads them."""

from __future__ import annotations

import math

import pytest

from darkpy import text


@pytest.mark.parametrize(
    "number, expected",
    [(0.614, ".61"), (1.84, "1.84"), (21.34, "21.3"), (213.4, "213"), (9.999, "10.0"), (0, ".00"),
     (999_999, "999,999"), (1.335e19, "1.3e19"), (-2e6, "-2.0e6")],
)  # fmt: skip
def test_short_numbers(number: float, expected: str) -> None:
    assert text.short(number) == expected


def test_short_numbers_that_are_none() -> None:
    assert text.short(math.nan) == "nan"
    assert text.short(-0.25) == "-0.25"


@pytest.mark.parametrize("rate, expected", [(0.001, ".0010"), (0.00026, ".00026"), (2.6e-6, "2.6e-06"), (0, ".0000")])
def test_learning_rates(rate: float, expected: str) -> None:
    assert text.rate(rate) == expected


@pytest.mark.parametrize(
    "nbytes, expected",
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (212e6, "212 MB"), (1.34e9, "1.3 GB"), (999.7e6, "1.0 GB")],
)
def test_quantities(nbytes: float, expected: str) -> None:
    assert text.quantity(nbytes, "B") == expected


@pytest.mark.parametrize(
    "seconds, expected", [(0, "0:00"), (84, "1:24"), (59.6, "1:00"), (7389, "2:03:09"), (math.inf, "-:--")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    "seconds, expected",
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3599.6, "1 h"), (12_000, "3 h 20 min")],
)
def test_durations_in_words(seconds: float, expected: str) -> None:
    assert text.spelled(seconds) == expected


@pytest.mark.parametrize(
    "duration, expected",
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("1H 5 m", 3900)],
)
def test_seconds_of_a_duration(duration: str, expected: float) -> None:
    assert text.seconds(duration) == expected


@pytest.mark.parametrize("duration", ["90", "", "h", "1w", "30 minutes", "-5m", "1h30"])
def test_what_is_no_duration(duration: str) -> None:
    with pytest.raises(ValueError, match=r"is no length of time such as 90s, 30m, 1h30m or 2d"):
        text.seconds(duration)


def test_plurals() -> None:
    assert [text.plural(n, "error") for n in (0, 1, 2000)] == ["0 errors", "1 error", "2,000 errors"]
