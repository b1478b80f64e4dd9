"""The parts of the page with tables: the classes, COCO's numbers, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy import text
from darkpy.evaluation.curves import NOTHING, confusion
from darkpy.report.facts import Facts
from darkpy.report.markup import Markup, element, section

MOST_IN_MATRIX = 24
"""Classes up to which all are in the matrix; of more, those with the most mistakes."""

MOST_PAIRS = 5
"""Pairs of classes that are named below the matrix."""

NARROW = 2
"""Letters of a name that stands level above its column of the matrix."""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str], class_: str = "full") -> Markup:
    """Rows of cells, of which the first is the name of the row; ``foot`` is the last row, if there are any in it."""
    head = element("tr", (element("th", header, scope="col") for header in headers))
    return element(
        "table",
        element("thead", head),
        element("tbody", (_row(row) for row in rows)),
        element("tfoot", _row(foot)) if foot else None,
        class_=class_,
    )


def _row(cells: Sequence[str]) -> Markup:
    first, *others = cells
    return element("tr", element("th", first, scope="row"), (element("td", cell) for cell in others))


def wide(shown: Markup, label: str) -> Markup:
    """A table that is moved sideways, with the keyboard too, where the page is too narrow for it."""
    return element("div", shown, class_="wide", tabindex=0, role="region", aria_label=label)


# Classes ---------------------------------------------------------------------------------------------------------


def classes(facts: Facts) -> Markup | None:
    """What was measured of each class, and COCO's numbers; None if nothing was measured."""
    if not facts.numbers:
        return None
    if facts.is_classifier:
        headers, rows, foot, remark = _classified_rows(facts)
    else:
        headers, rows, foot, remark = _detected_rows(facts)
    return section(
        "Classes",
        wide(table(headers, rows, foot), "Classes"),
        element("p", remark, class_="soft"),
        _coco(facts.numbers.get("coco") or {}),
    )


def _detected_rows(facts: Facts) -> tuple[list[str], list[list[str]], list[str], str]:
    numbers, trained = facts.numbers, facts.trained_with
    has_coco = numbers.get("coco") is not None
    headers = ["class", *(["to train"] if trained else []), "objects", f"AP@{100 * numbers['iou_thresh']:.0f}"]
    headers += [*(["COCO AP"] if has_coco else []), "P", "R", "F1", "right", "wrong", "missed", "IoU"]

    def row(of: dict[str, Any], ap: float, coco: float | None, learned: int | None) -> list[str]:
        claimed = of["true_positives"] + of["false_positives"]
        return [
            of.get("name", "all"),
            *([f"{learned:,}"] if learned is not None else []),
            f"{of['truths']:,}",
            _share(100 * ap, of["truths"], 1),
            *([_percent(coco)] if has_coco else []),
            _share(of["precision"], claimed, 2),
            _share(of["recall"], of["truths"], 2),
            _share(of["f1"], claimed + of["truths"], 2),
            f"{of['true_positives']:,}",
            f"{of['false_positives']:,}",
            f"{of['false_negatives']:,}",
            _share(100 * of["average_iou"], claimed, 1),
        ]

    rows = [
        row(each, each["average_precision"], each.get("coco_ap"), trained[each["class_id"]] if trained else None)
        for each in numbers["classes"]
    ]
    coco = (numbers.get("coco") or {}).get("ap")
    foot = row(numbers, numbers["mean_average_precision"], coco, sum(trained) if trained else None)
    remark = (
        f"AP: average precision at an overlap of {numbers['iou_thresh']:g}, in per cent as IoU, the mean overlap. P "
        f"precision, R recall, F1, right, wrong, missed and IoU: detections more probable than {numbers['thresh']:g}. "
    )
    return headers, rows, foot, remark + _left_out(facts)


def _classified_rows(facts: Facts) -> tuple[list[str], list[list[str]], list[str], str]:
    numbers, trained = facts.numbers, facts.trained_with
    headers = ["class", *(["to train"] if trained else []), "pictures", "right", "P", "R", "F1"]
    rows = [
        [
            each["name"],
            *([f"{trained[each['class_id']]:,}"] if trained else []),
            f"{each['pictures']:,}",
            f"{each['right']:,}",
            *(f"{each[name]:.3f}" for name in ("precision", "recall", "f1")),
        ]
        for each in numbers["classes"]
    ]
    means = (f"{numbers[f'mean_{name}']:.3f}" for name in ("precision", "recall", "f1"))
    total = [f"{sum(trained):,}"] if trained else []
    foot = ["all", *total, f"{numbers['pictures']:,}", f"{numbers['right']:,}", *means]
    return headers, rows, foot, f"P precision, R recall; of all, the means of the classes. {_left_out(facts)}"


def _left_out(facts: Facts) -> str:
    count = len(facts.numbers.get("skipped", ()))
    return f"{text.plural(count, 'picture')} could not be read and left out." if count else ""


def _share(value: float, total: float, digits: int) -> str:
    return f"{value:.{digits}f}" if total else "–"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _coco(coco: dict[str, float | None]) -> list[Markup]:
    """COCO's twelve numbers, as ``darkpy detector map`` prints them."""
    if not coco:
        return []
    sizes = ("small", "medium", "large")
    ap, ap_50, ap_75, *ap_sizes = (coco[f"ap{name}"] for name in ("", "_50", "_75", *(f"_{size}" for size in sizes)))
    ar = [coco[f"ar_{name}"] for name in (*sizes, "1", "10", "100")]
    headers = ["COCO, %", ".50 to .95", ".50", ".75", *sizes, "best 1", "best 10", "best 100"]
    rows = [
        ["average precision", *map(_percent, (ap, ap_50, ap_75, *ap_sizes)), "", "", ""],
        ["average recall", "", "", "", *map(_percent, ar)],
    ]
    remark = (
        "At an overlap of .50, of .75, or the mean from .50 to .95. Small objects have up to 32 × 32 pixels of the "
        "picture, medium ones up to 96 × 96. Best 1, 10, 100: with so many detections of a class in a picture."
    )
    return [wide(table(headers, rows, [], "data"), "COCO's numbers"), element("p", remark, class_="soft")]


# Confusions ------------------------------------------------------------------------------------------------------


def confusions(facts: Facts) -> Markup | None:
    """The matrix of what is taken for what; None if nothing was measured, or there is only one class."""
    numbers = facts.numbers
    if len(numbers.get("classes", ())) < 2:
        return None  # what is right, wrong and missed of it stands in the table
    if facts.detected is not None:
        cells = confusion(facts.detected)
    elif "confusion" in numbers:
        cells = np.array(numbers["confusion"], np.int64)
    else:
        return None
    names = [each["name"] for each in numbers["classes"]]
    caption = f"{_often(cells, names)}The darker, the larger the share of the row."
    if facts.detected is not None:
        names.append(NOTHING)
        caption += " Last column: objects that were missed; last row: detections where nothing is."
    kept = _most_mistaken(cells)
    if len(kept) < len(cells):
        caption += f" Of {len(cells)} only the {len(kept)} with the most mistakes are shown."
    matrix = wide(_matrix(cells, names, kept), "Confusion matrix")
    return section("What is taken for what", matrix, element("p", caption, class_="soft"))


def _often(cells: NDArray[np.int64], names: Sequence[str]) -> str:
    """The pairs of classes that are confused most often, in words; nothing if none is more than once."""
    between = cells[: len(names), : len(names)].copy()
    np.fill_diagonal(between, 0)
    places = np.argsort(-between, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(row, column) for row, column in zip(*np.unravel_index(places, between.shape)) if between[row, column] > 1]
    listed = (f"{names[row]} for {names[column]} ({between[row, column]:,})" for row, column in pairs)
    return f"Most often taken: {', '.join(listed)}. " if pairs else ""


def _most_mistaken(cells: NDArray[np.int64]) -> list[int]:
    wrong = cells.sum(axis=0) + cells.sum(axis=1) - 2 * cells.diagonal()
    order = np.argsort(-wrong, kind="stable")
    return sorted(order[: MOST_IN_MATRIX + 1 if len(cells) <= MOST_IN_MATRIX + 1 else MOST_IN_MATRIX].tolist())


def _matrix(cells: NDArray[np.int64], names: Sequence[str], kept: Sequence[int]) -> Markup:
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    corner = element("td", "what it is ↓", element("br"), "taken for →")
    head = element("tr", corner, (element("th", _turned(names[column]), scope="col") for column in kept))
    rows = (
        element(
            "tr",
            element("th", names[row], scope="row"),
            (_cell(int(cells[row, column]), float(shares[row, column]), row == column) for column in kept),
        )
        for row in kept
    )
    return element("table", element("thead", head), element("tbody", rows), class_="matrix")


def _turned(name: str) -> str:
    """Long names stand upright above their columns."""
    return name if len(name) <= NARROW else element("span", name)


def _cell(count: int, share: float, is_right: bool) -> Markup:
    if not count:
        return element("td")
    # Mistakes are rare: a tenth of them already has half of the full colour.
    strength = share if is_right else 0.9 * float(np.cbrt(share))
    kind = f"{'right' if is_right else 'wrong'}{' dark' if strength > 0.7 else ''}"
    return element("td", f"{count:,}", class_=kind, style=f"--share: {strength:.2f}")
