"""Numbers as a person reads them: short, aligned, without a unit to work out."""

from __future__ import annotations

import math
import re

_PREFIXES = ("", "k", "M", "G", "T")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def count(number: float) -> str:
    """A whole number with thousands marked: ``12,345``."""
    return f"{round(number):,}"


def plural(number: int, noun: str) -> str:
    """A number and its noun: ``1 error``, ``2,000 errors``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def quantity(number: float, unit: str) -> str:
    """Bytes and the like with a prefix: ``212 MB``, ``1.3 GB``."""
    power = 0
    while abs(number) >= 999.5 and power < len(_PREFIXES) - 1:
        number /= 1000
        power += 1
    digits = 0 if power == 0 or number >= 99.5 else 1
    return f"{number:.{digits}f} {_PREFIXES[power]}{unit}"


def short(number: float) -> str:
    """About three digits, as losses are read: ``.61``, ``1.84``, ``21.3``, ``213``, ``1.3e19`` where one explodes."""
    if not math.isfinite(number):
        return str(number)
    if abs(number) >= 1e6:
        return re.sub(r"e\+0?", "e", f"{number:.1e}")
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return _without_zero(f"{number:,.{digits}f}")


def rate(number: float) -> str:
    """A learning rate: ``.0010``, ``.00026``, ``2.6e-06``."""
    if number == 0 or number >= 1e-3:
        return _without_zero(f"{number:.4f}")
    return _without_zero(f"{number:.5f}") if number >= 1e-4 else f"{number:.1e}"


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: ``1:24``, ``2:03:09``."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def spelled(seconds: float) -> str:
    """A length of time for those who do not watch it pass: ``8 s``, ``2 min 5 s``, ``3 h 20 min``."""
    second = max(0, round(seconds))
    if second < 60:
        return f"{second} s"
    if second < 3600:
        return f"{second // 60} min {second % 60} s".removesuffix(" 0 s")
    minute = round(second / 60)
    return f"{minute // 60:,} h {minute % 60} min".removesuffix(" 0 min")


def seconds(duration: str) -> float:
    """A length of time with its units, as a person writes it: ``90s``, ``30m``, ``1h30m``, ``2d``.

    Raises ValueError for anything else, a number without unit too.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", duration.lower())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", duration.lower()):
        raise ValueError(f"{duration!r} is no length of time such as 90s, 30m, 1h30m or 2d")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _without_zero(text: str) -> str:
    return text[1:] if text.startswith("0.") else text
