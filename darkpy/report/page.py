"""The page, section by section."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.drawing import class_color
from darkpy.evaluation.curves import NOTHING, THRESHOLDS, Curve, confusion, curves
from darkpy.report.facts import Facts, objects_by_class
from darkpy.report.markup import Markup, element
from darkpy.report.pictures import MARK, BadPicture, worst_classified, worst_detected
from darkpy.report.plots import Axis, Line, Mark, line_chart, swatch, thinned
from darkpy.summary import layer_rows
from darkpy.training import text
from darkpy.training.run_folder import RunFolder
from darkpy.training.status import RUNNING
from darkpy.version import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing, not even if something in it wanted to."""

MOST_POINTS = 400
MOST_NAMED = 12
"""Classes up to which each has a line of its own colour; of more only the outlines are seen."""
MOST_IN_MATRIX = 24
"""Classes up to which all are in the matrix; of more, those with the most mistakes."""
DASHES = ("none", "6 3", "2 3")
PACKAGES = ("numpy", "numba", "opencv-python")

RECALLS = np.linspace(0, 1, 201)
NOT_SHOWN = ("darkpy", "task", "cfg", "data")
"""Arguments that stand elsewhere on the page."""


def render(facts: Facts) -> str:
    """The whole page."""
    title = f"{facts.run.name}, {_kind(facts)} trained with darkpy"
    sections = (
        _head(facts),
        _learning(facts),
        _precision(facts),
        _classes(facts),
        _confusion(facts),
        _pictures(facts),
        _data(facts),
        _settings(facts),
        _cfg(facts),
        _foot(facts),
    )
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(style)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, element("body", element("main", sections)), lang="en") + "\n"


def _section(title: str, *children: Any) -> Markup:
    return element("section", element("h2", title), children)


def _kind(facts: Facts) -> str:
    return "a classifier" if facts.is_classifier else "a detector"


# Beginning -------------------------------------------------------------------------------------------------------


def _head(facts: Facts) -> Markup:
    status, arguments = facts.run.status, facts.run.arguments
    state = "still running" if status.state == RUNNING else status.state
    lines = [
        f"{facts.run.cfg.name} on {_name(arguments.get('data'))}: {state}, {status.iteration:,} of "
        f"{status.max_batches:,} iterations in {text.duration(status.seconds)}{_day(status.updated)}",
        f"{status.reason}" if status.reason else "",
        _size(facts),
    ]
    figures = [_figure(*figure) for figure in _figures(facts)]
    return element(
        "header",
        element("h1", facts.run.name),
        (element("p", line, class_="lead") for line in lines if line),
        element("dl", figures, class_="figures"),
        (element("p", note, class_="soft") for note in facts.notes),
    )


def _size(facts: Facts) -> str:
    network = facts.network
    if network is None:
        return ""
    rows = layer_rows(network.layers, network.graph.input_shape)
    parameters, operations = sum(row.parameters for row in rows), sum(row.operations for row in rows)
    return (
        f"{text.plural(len(rows), 'layer')}, {parameters / 1e6:.2f} M parameters, {operations / 1e9:.2f} BFLOPs at "
        f"{network.width} × {network.height}"
    )


def _figures(facts: Facts) -> list[tuple[str, str, str]]:
    """Name, value and a word on it."""
    status, numbers = facts.run.status, facts.numbers
    found = []
    for place, (name, score) in enumerate(facts.scores.items()):
        best = f"best, iteration {status.best_iteration:,}" if place == 0 and status.best_iteration else ""
        found.append((name, _percent(score), best))
    if numbers and not facts.is_classifier:
        coco = (numbers.get("coco") or {}).get("ap")
        if coco is not None:
            found.append(("COCO AP", _percent(coco), "overlap .50 to .95"))
        at = f"at probability {numbers['thresh']:g}"
        found += [(name, _percent(numbers[name.lower()]), at) for name in ("Precision", "Recall", "F1")]
    elif numbers:
        found.append(("Mean recall", _percent(numbers["mean_recall"]), "of the classes"))
        found.append(("Mean F1", _percent(numbers["mean_f1"]), "of the classes"))
    if status.loss is not None:
        found.append(("Loss", f"{status.loss:.3g}", "running average"))
    return found


def _figure(name: str, value: str, remark: str) -> Markup:
    small = element("small", remark) if remark else None
    return element("div", element("dt", name), element("dd", value, small))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _day(moment: str) -> str:
    return f", {moment[:10]}" if moment else ""


def _name(path: Any) -> str:
    return Path(str(path or "")).name


# Curves ----------------------------------------------------------------------------------------------------------


def _learning(facts: Facts) -> Markup | None:
    found = facts.run.curves
    if not found.iterations:
        return None
    last = max(facts.run.status.max_batches, found.iterations[-1])
    x = Axis(0, last, "iteration", "{:,.0f}".format)
    settled = found.averages[len(found.averages) // 20 :]
    top = 1.2 * float(np.nanpercentile(np.asarray(settled, np.float64), 97))
    iterations = thinned(found.iterations, MOST_POINTS)
    lines = [
        Line(iterations, thinned(found.losses, MOST_POINTS), "raw", "loss"),
        Line(iterations, thinned(found.averages, MOST_POINTS), "loss", "running average"),
    ]
    ended = Mark(found.iterations[-1], found.averages[-1], "", "loss")
    y = Axis(0, top if np.isfinite(top) and top > 0 else 1.0, "loss", "{:g}".format)
    short = f"{found.averages[-1]:.3g}"
    described = f"Loss over the iterations; its running average ends at {short}"
    caption = f"Faint: each iteration. Line: the running average, at the end {short}."
    charts = [_chart(line_chart(described, x, y, lines, [ended]), caption)]
    if found.scores:
        charts.append(_score_chart(found.scores, x))
    return _section("Learning", element("div", charts, class_="pair"))


def _score_chart(scores: dict[str, list[tuple[int, float]]], x: Axis) -> Markup:
    lines = []
    for place, (name, points) in enumerate(scores.items()):
        places, values = zip(*points)
        kind = "second" if place else "score"
        dots = not place and len(points) <= 40
        lines.append(Line(places, [100 * value for value in values], kind, name, dots=dots))
    name, points = next(iter(scores.items()))
    best, iteration = max((value, place) for place, value in points)  # of equals the last is the one that is kept
    mark = Mark(iteration, 100 * best, f"{100 * best:.1f}", "score")
    described = f"{name} over the iterations; the best is {_percent(best)} at iteration {iteration:,}"
    chart = line_chart(described, x, Axis(0, 100, f"{name}, %"), lines[::-1], [mark])
    dashed = "".join(f" Dashed: {other}." for other in list(scores)[1:])
    return _chart(chart, f"On the validation pictures, the best marked.{dashed}")


def _chart(chart: Markup, caption: str) -> Markup:
    return element("figure", chart, element("figcaption", caption), class_="chart")


def _precision(facts: Facts) -> Markup | None:
    evaluation = facts.detected
    if evaluation is None or not evaluation.counts.truths:
        return None
    together, by_class = curves(evaluation)
    styles = _styles(facts, by_class)
    recall = Axis(0, 1, "recall: share of the objects that are found", _fraction)
    lines = [Line(RECALLS, curve.precision_at(RECALLS), *_look(curve, styles)) for curve in by_class]
    if len(by_class) > 1:
        mean = np.mean([curve.precision_at(RECALLS) for curve in by_class], axis=0)
        lines.append(Line(RECALLS, mean, "all", "mean of the classes"))
    described = f"Precision over recall; the mean average precision is {_percent(together.average_precision)}"
    axis = Axis(0, 1, "precision: share of the detections that are right", _fraction)
    overlap = f"Counted as found from an overlap of {evaluation.iou_thresh:g}."
    chart = line_chart(described, recall, axis, lines)
    precision = _chart(chart, f"The area below a line is the average precision. {overlap}")
    legend = [element("li", swatch("all"), "all")]
    legend += [
        element("li", swatch("of-class", styles[curve.name]), curve.name) for curve in by_class if curve.name in styles
    ]
    return _section(
        "Precision, recall and F1",
        element("div", precision, _f1_chart(together, by_class, styles, evaluation.thresh), class_="pair"),
        element("ul", legend, class_="legend") if len(by_class) > 1 else None,
    )


def _f1_chart(together: Curve, by_class: Sequence[Curve], styles: dict[str, str], thresh: float) -> Markup:
    places = THRESHOLDS[::5].astype(np.float64)
    lines = [Line(places, curve.f1()[::5], *_look(curve, styles)) for curve in by_class]
    lines.append(Line(places, together.f1()[::5], "all", "all classes"))
    best, score = together.best_threshold()
    described = f"F1 score over the probability threshold; the best is {score:.2f} at {best:.2f}"
    x = Axis(0, 1, "probability threshold", _fraction)
    y = Axis(0, 1, "F1: harmonic mean of precision and recall", _fraction)
    mark = Mark(best, score, "", "all")
    rule = Mark(thresh, 0, f"used: {thresh:g}", "")
    chart = line_chart(described, x, y, lines, [mark], rule)
    return _chart(chart, f"The dot is the best for all classes together: {score:.2f} at {best:.2f}.")


def _fraction(value: float) -> str:
    return f"{value:.1f}".replace("0.", ".") if 0 < value < 1 else f"{value:.0f}"


def _look(curve: Curve, styles: dict[str, str]) -> tuple[str, str, str | None]:
    """Kind, name and style of a class's line."""
    style = styles.get(curve.name)
    return "of-class" if style else "many", curve.name, style


def _styles(facts: Facts, by_class: Sequence[Curve]) -> dict[str, str]:
    """Colour and dashes of each class, the colours those of its boxes; none if there are too many to tell apart."""
    if len(by_class) > MOST_NAMED:
        return {}
    ids = {row["name"]: row["class_id"] for row in facts.numbers["classes"]}
    return {curve.name: _style(ids[curve.name], place) for place, curve in enumerate(by_class)}


def _style(class_id: int, place: int) -> str:
    blue, green, red = class_color(class_id)
    # On white paper the colours made for pictures are too light.
    dark, light = ("#" + "".join(f"{round(part * share):02x}" for part in (red, green, blue)) for share in (1, 0.75))
    return f"--light: {light}; --dark: {dark}; stroke-dasharray: {DASHES[place % len(DASHES)]}"


# Tables ----------------------------------------------------------------------------------------------------------


def _classes(facts: Facts) -> Markup | None:
    if not facts.numbers:
        return None
    if facts.is_classifier:
        headers, rows, foot, remark = _classified_rows(facts)
    else:
        headers, rows, foot, remark = _detected_rows(facts)
    return _section(
        "Classes",
        _wide(_table(headers, rows, foot), "Classes"),
        element("p", remark, class_="soft"),
    )


def _wide(table: Markup, label: str) -> Markup:
    """A table that is moved sideways, with the keyboard too, where the page is too narrow for it."""
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label=label)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str], class_: str = "full") -> Markup:
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


def _detected_rows(facts: Facts) -> tuple[list[str], list[list[str]], list[str], str]:
    numbers, trained = facts.numbers, facts.trained_with
    has_coco = numbers.get("coco") is not None
    headers = ["class", *(["to train"] if trained else []), "objects", f"AP@{100 * numbers['iou_thresh']:.0f} %"]
    headers += [*(["COCO AP %"] if has_coco else []), "P", "R", "F1", "right", "wrong", "missed", "IoU %"]

    def row(of: dict[str, Any], ap: float, coco: float | None, learned: int | None) -> list[str]:
        claimed = of["true_positives"] + of["false_positives"]
        return [
            of.get("name", "all"),
            *([f"{learned:,}"] if learned is not None else []),
            f"{of['truths']:,}",
            _share(100 * ap, of["truths"], 1),
            *([_share(100 * coco if coco is not None else 0.0, coco is not None, 1)] if has_coco else []),
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
        f"AP: average precision at an overlap of {numbers['iou_thresh']:g}. P precision, R recall, F1, right, wrong, "
        f"missed and IoU (mean overlap): detections more probable than {numbers['thresh']:g}. "
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


# Confusions ------------------------------------------------------------------------------------------------------


def _confusion(facts: Facts) -> Markup | None:
    numbers = facts.numbers
    if facts.detected is not None:
        cells = confusion(facts.detected)
    elif "confusion" in numbers:
        cells = np.array(numbers["confusion"], np.int64)
    else:
        return None
    names = [each["name"] for each in numbers["classes"]]
    caption = "Rows: what there is. Columns: what it was taken for. The darker, the larger the share of the row."
    if facts.detected is not None:
        names.append(NOTHING)
        caption += " Last column: objects that were missed; last row: detections where nothing is."
    kept = _most_mistaken(cells)
    if len(kept) < len(cells):
        caption += f" Of {len(cells)} only the {len(kept)} with the most mistakes are shown."
    matrix = _wide(_matrix(cells, names, kept), "Confusion matrix")
    return _section("What is taken for what", matrix, element("p", caption, class_="soft"))


def _most_mistaken(cells: NDArray[np.int64]) -> list[int]:
    wrong = cells.sum(axis=0) + cells.sum(axis=1) - 2 * cells.diagonal()
    order = np.argsort(-wrong, kind="stable")
    return sorted(order[: MOST_IN_MATRIX + 1 if len(cells) <= MOST_IN_MATRIX + 1 else MOST_IN_MATRIX].tolist())


def _matrix(cells: NDArray[np.int64], names: Sequence[str], kept: Sequence[int]) -> Markup:
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    head = element("tr", element("td"), (element("th", _turned(names[column]), scope="col") for column in kept))
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
    return name if len(name) <= 2 else element("span", name)


def _cell(count: int, share: float, is_right: bool) -> Markup:
    if not count:
        return element("td")
    # Mistakes are rare: a tenth of them already has half of the full colour.
    strength = share if is_right else 0.9 * float(np.cbrt(share))
    kind = f"{'right' if is_right else 'wrong'}{' dark' if strength > 0.7 else ''}"
    return element("td", f"{count:,}", class_=kind, style=f"--share: {strength:.2f}")


# Pictures --------------------------------------------------------------------------------------------------------


def _pictures(facts: Facts) -> Markup | None:
    if facts.val_set is None:
        return None
    if facts.detected is not None:
        worst = worst_detected(facts.detected, facts.val_set)
        shown = [_detected(picture) for picture in worst]
        remark = f"First what there is, then what was found. {MARK} stands with what was missed or is wrong."
    elif facts.classified is not None:
        shown = [_classified(picture) for picture in worst_classified(facts.classified, facts.val_set)]
        remark = "Pictures taken for another class; first those whose own was thought the least likely."
    else:
        return None
    if not shown:
        return None
    kind = "bad" if facts.detected is not None else "gallery"
    return _section("The worst pictures", element("p", remark, class_="soft"), element("div", shown, class_=kind))


def _detected(picture: BadPicture) -> Markup:
    whats = (f"{picture.name}: what there is", f"{picture.name}: what was found")
    images = [element("img", src=source, alt=what) for source, what in zip(picture.addresses, whats)]
    caption = element("figcaption", element("b", picture.name), " ", _unbroken(picture.mistakes))
    return element("figure", element("div", images, class_="pair"), caption)


def _classified(picture: BadPicture) -> Markup:
    [source] = picture.addresses
    caption = element("figcaption", _unbroken(picture.mistakes))
    return element("figure", element("img", src=source, alt=picture.name), caption)


def _unbroken(words: str) -> str:
    """A number and its per cent sign stay on one line."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


# Data, settings, cfg ---------------------------------------------------------------------------------------------


def _data(facts: Facts) -> Markup:
    rows = []
    for name, dataset in (("training", facts.train_set), ("validation", facts.val_set)):
        if dataset is None:
            continue
        cells = [name, f"{len(dataset):,}"]
        if not facts.is_classifier:
            counts = objects_by_class(dataset)
            empty = "–"
            if counts is not None:
                empty = f"{sum(not len(dataset.boxes(index)) for index in range(len(dataset))):,}"
            each = "–" if counts is None else f"{sum(counts) / max(len(dataset), 1):.1f}"
            cells += ["–" if counts is None else f"{sum(counts):,}", each, empty]
        rows.append(cells)
    headers = ["", "pictures", *([] if facts.is_classifier else ["objects", "per picture", "without objects"])]
    skipped = RunFolder(facts.run.path).problems
    found = len(skipped.read_text(encoding="utf-8").splitlines()) if skipped.exists() else 0
    classes = facts.train_set.classes if facts.train_set is not None else len(facts.numbers.get("classes", ()))
    words = [str(facts.run.arguments.get("data", ""))]
    words += ["1 class" if classes == 1 else f"{classes:,} classes"] if classes else []
    words += [f"{text.plural(found, 'problem')} with pictures and labels, see problems.txt"] if found else []
    table = _wide(_table(headers, rows, [], class_="data"), "Data") if rows else None
    return _section("Data", element("p", ", ".join(words)), table)


def _settings(facts: Facts) -> Markup:
    given = {key: value for key, value in facts.run.arguments.items() if key not in NOT_SHOWN}
    rows = [
        element("tr", element("th", key.replace("_", " "), scope="row"), element("td", _plain(value)))
        for key, value in given.items()
        if value is not None and value is not False
    ]
    return _section("Settings", element("table", element("tbody", rows), class_="words"))


def _plain(value: Any) -> str:
    return "yes" if value is True else str(value)


def _cfg(facts: Facts) -> Markup | None:
    try:
        content = facts.run.cfg.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return _section(facts.run.cfg.name, element("pre", content, tabindex=0))


def _foot(facts: Facts) -> Markup:
    packages = []
    for package in PACKAGES:
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    network = facts.network
    backend = ""
    if network is not None:
        backend = f"{network.backend.name} backend, {text.plural(network.backend.threads, 'thread')}"
    trained = facts.run.arguments.get("darkpy", __version__)
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    parts = (f"Python {platform.python_version()}", *packages, platform.platform(), backend)
    lines = [
        f"Trained with darkpy {trained}. Report by darkpy {__version__}, {now}.",
        ", ".join(part for part in parts if part),
    ]
    return element("footer", (element("div", line) for line in lines))
