"""HTML and SVG put together so that text can never be taken for tags."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

EMPTY = {"br", "circle", "hr", "img", "line", "meta", "path", "polyline"}
"""Elements without an end tag, or that need none because they are empty."""


class Markup(str):
    """Text that is markup already."""


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """``<name attributes>children</name>``.

    Children are text, which is escaped, :class:`Markup`, which is not, iterables of these, or None for nothing.
    Attributes that are None or False are left out, True gives one without a value; ``class_`` stands for ``class``
    and ``aria_label`` for ``aria-label``.
    """
    begin = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in EMPTY:
        return Markup(begin if name in ("br", "hr", "img", "meta") else f"{begin[:-1]}/>")
    return Markup(f"{begin}{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Markup:
    """The children one after the other; see :func:`element`."""
    return Markup("".join(map(_child, children)))


def section(title: str, *children: Any) -> Markup:
    """A part of the page below a heading."""
    return element("section", element("h2", title), children)


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return escape(str(child))
    return join(child)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
