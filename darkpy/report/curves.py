"""The parts of the page with curves: how the run learned, and precision, recall and F1 of what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkpy import text
from darkpy.evaluation.curves import THRESHOLDS, Curve, class_line, curves
from darkpy.report.facts import Facts
from darkpy.report.markup import Markup, element, section
from darkpy.report.plots import Axis, Line, Mark, line_chart, swatch, thinned
from darkpy.training.chart import loss_top

MOST_POINTS = 400
MOST_NAMED = 12
"""Classes up to which each has a line of its own colour; of more only the outlines are seen."""

FLOORS = (0, 50, 80, 90)
"""Where the axis of the scores, in per cent, may begin: at the highest below all of them."""

RECALLS = np.linspace(0, 1, 201)


def learning(facts: Facts) -> Markup | None:
    """Loss and scores over the iterations; None for a run without any."""
    found = facts.run.curves
    if not found.iterations:
        return None
    last = max(facts.run.status.max_batches, found.iterations[-1])
    x = Axis(0, last, "iteration", "{:,.0f}".format)
    top = loss_top(found.averages)
    iterations = thinned(found.iterations, MOST_POINTS)
    lines = [
        Line(iterations, thinned(found.losses, MOST_POINTS), "raw", "loss"),
        Line(iterations, thinned(found.averages, MOST_POINTS), "loss", "running average"),
    ]
    short = loss_text(found.averages[-1])
    ended = [Mark(found.iterations[-1], found.averages[-1], short, "loss")] if found.averages[-1] <= top else []
    y = Axis(0, top, "loss", "{:g}".format)
    described = f"Loss over the iterations; its running average ends at {short}"
    charts = [_chart(line_chart(described, x, y, lines, ended), "Faint: each iteration. Line: the running average.")]
    if found.scores:
        charts.append(_score_chart(found.scores, x))
    return section("Learning", element("div", charts, class_="pair"))


def loss_text(loss: float) -> str:
    """A loss with three digits, also where it is small: ``18.0``, ``0.0458``."""
    return text.short(loss) if abs(loss) >= 1 else f"{loss:.3g}"


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
    described = f"{name} over the iterations; the best is {100 * best:.1f} % at iteration {iteration:,}"
    least = min(100 * value for value in dict(points).values())
    y = Axis(max(floor for floor in FLOORS if floor <= least), 100, f"{name}, %")
    dashed = "".join(f" Dashed: {other}." for other in list(scores)[1:])
    cut = f" The axis begins at {y.low:g}." if y.low else ""
    chart = line_chart(described, x, y, lines[::-1], [mark])
    return _chart(chart, f"On the validation pictures, the best marked.{dashed}{cut}")


def _chart(chart: Markup, caption: str) -> Markup:
    return element("figure", chart, element("figcaption", caption), class_="chart")


def precision(facts: Facts) -> Markup | None:
    """A detector's precision over recall and F1 over the threshold, for each class; None if nothing was measured."""
    evaluation = facts.detected
    if evaluation is None or not evaluation.counts.truths:
        return None
    together, by_class = curves(evaluation)
    recall = Axis(0, 1, "recall: share of the objects that are found", _fraction)
    are_named = len(by_class) <= MOST_NAMED
    lines = [Line(RECALLS, curve.precision_at(RECALLS), *_look(curve, are_named)) for curve in by_class]
    if len(by_class) > 1:
        mean = np.mean([curve.precision_at(RECALLS) for curve in by_class], axis=0)
        lines.append(Line(RECALLS, mean, "all", "mean of the classes"))
    described = f"Precision over recall; the mean average precision is {100 * together.average_precision:.1f} %"
    axis = Axis(0, 1, "precision: share of the detections that are right", _fraction)
    overlap = f"Counted as found from an overlap of {evaluation.iou_thresh:g}."
    chart = line_chart(described, recall, axis, lines)
    shown = _chart(chart, f"The area below a line is the average precision. {overlap}")
    legend = [element("li", swatch("all"), "all")]
    legend += [element("li", swatch("of-class", _style(curve)), curve.name) for curve in by_class]
    if not are_named:
        legend[1:] = [element("li", swatch("many"), "each of the classes")]
    return section(
        "Precision, recall and F1",
        element("div", shown, _f1_chart(together, by_class, are_named, evaluation.thresh), class_="pair"),
        element("ul", legend, class_="legend") if len(by_class) > 1 else None,
    )


def _f1_chart(together: Curve, by_class: Sequence[Curve], are_named: bool, thresh: float) -> Markup:
    places = THRESHOLDS[::5].astype(np.float64)
    lines = [Line(places, curve.f1()[::5], *_look(curve, are_named)) for curve in by_class]
    if len(by_class) > 1:
        lines.append(Line(places, together.f1()[::5], "all", "all classes"))
    best, score = together.best_threshold()
    described = f"F1 score over the probability threshold; the best is {score:.2f} at {best:.2f}"
    x = Axis(0, 1, "probability threshold", _fraction)
    y = Axis(0, 1, "F1: harmonic mean of precision and recall", _fraction)
    mark = Mark(best, score, "", "all")
    rule = Mark(thresh, 0, f"used: {thresh:g}", "")
    chart = line_chart(described, x, y, lines, [mark], rule)
    of_all = " for all classes together" if len(by_class) > 1 else ""
    return _chart(chart, f"The dot is the best threshold{of_all}: F1 is {score:.2f} at {best:.2f}.")


def _fraction(value: float) -> str:
    return f"{value:.1f}".replace("0.", ".") if 0 < value < 1 else f"{value:.0f}"


def _look(curve: Curve, is_named: bool) -> tuple[str, str, str | None]:
    """Kind, name and style of a class's line."""
    return ("of-class", curve.name, _style(curve)) if is_named else ("many", curve.name, None)


def _style(curve: Curve) -> str:
    line = class_line(curve.class_id)
    dashes = " ".join(map(str, line.dashes)) or "none"
    return f"--light: {line.on_white}; --dark: {line.on_black}; stroke-dasharray: {dashes}"
