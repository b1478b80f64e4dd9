"""The page, section by section."""

from __future__ import annotations

import platform
import re
from dataclasses import fields
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from darkpy import text
from darkpy.report import curves, tables
from darkpy.report.facts import Facts, objects_by_class
from darkpy.report.markup import Markup, element, section
from darkpy.report.pictures import MARK, ShownPicture, typical_detected, worst_classified, worst_detected
from darkpy.summary import layer_rows
from darkpy.training.callback import Outcome
from darkpy.training.classifier_job import ClassifierSettings
from darkpy.training.run_folder import RunFolder
from darkpy.training.settings import TrainingSettings
from darkpy.training.status import RUNNING
from darkpy.version import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing, not even if something in it wanted to."""

PACKAGES = ("numpy", "numba", "opencv-python")

NOT_SHOWN = ("cfg", "data", "device", "out", "report", "workers")
"""Settings that stand elsewhere on the page, or change nothing that is on it."""

SPELLINGS = {"every": "map every", "epochs": "map epochs", "keep_every": "save every", "measure": "map"}
"""What the command line calls settings whose names differ."""


def render(facts: Facts) -> str:
    """The whole page."""
    title = f"{facts.run.name}, {_kind(facts)} trained with darkpy"
    sections = (
        _head(facts),
        curves.learning(facts),
        curves.precision(facts),
        tables.classes(facts),
        tables.confusions(facts),
        _typical(facts),
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


def _kind(facts: Facts) -> str:
    return "a classifier" if facts.is_classifier else "a detector"


# Beginning -------------------------------------------------------------------------------------------------------


def _head(facts: Facts) -> Markup:
    figures = [_figure(*figure) for figure in _figures(facts)]
    notes = list(facts.notes)
    if not facts.numbers and not notes:
        notes.append("Nothing was measured: there are no validation pictures, or none have been looked at yet.")
    name = f"{facts.run.cfg.name} on {_short_path(facts.run.arguments.get('data'))}"
    return element(
        "header",
        element("h1", facts.run.name),
        element("p", f"{name}{_size(facts)}", class_="lead"),
        element("p", _course(facts), class_="lead"),
        element("dl", figures, class_="figures"),
        (element("p", note, class_="soft note") for note in notes),
    )


def _course(facts: Facts) -> str:
    """How far the run is, and why no further: ``Stopped by Ctrl-C on 2026-11-28, 41 of 400 iterations in 15 s.``"""
    status = facts.run.status
    day = f" on {status.updated[:10]}" if status.updated else ""
    state, reason = status.state, f": {status.reason}" if status.reason else ""
    if state == RUNNING:
        state, day = "still running", ""
    elif state == Outcome.STOPPED.value and reason:
        state, reason = f"stopped by {status.reason}", ""
    done = f"{status.iteration:,}"
    if status.iteration != status.max_batches:
        done += f" of {status.max_batches:,}"
    took = _unbroken(text.spelled(status.seconds))
    return f"{state[:1].upper()}{state[1:]}{day}, {done} iterations in {took}{reason}".rstrip(".") + "."


def _size(facts: Facts) -> str:
    network = facts.network
    if network is None:
        return ""
    rows = layer_rows(network.layers, network.graph.input_shape)
    parameters, operations = sum(row.parameters for row in rows), sum(row.operations for row in rows)
    return (
        f": {text.plural(len(rows), 'layer')}, {parameters / 1e6:.2f} M parameters, {operations / 1e9:.2f} BFLOPs at "
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
        found.append(("Loss", curves.loss_text(status.loss), "running average"))
    return found


def _figure(name: str, value: str, remark: str) -> Markup:
    small = element("small", remark) if remark else None
    return element("div", element("dt", name), element("dd", value, small))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _short_path(path: Any) -> str:
    """The name of a file and its folder: a whole path says more of a machine than of the run."""
    return "/".join(Path(str(path or "")).parts[-2:])


# Pictures --------------------------------------------------------------------------------------------------------


def _typical(facts: Facts) -> Markup | None:
    if facts.val_set is None or facts.detected is None:
        return None
    shown = [_captioned(picture) for picture in typical_detected(facts.detected, facts.val_set)]
    remark = f"What was found in validation pictures, taken at equal distances. {MARK} stands with what is wrong."
    parts = element("p", remark, class_="soft"), element("div", shown, class_="gallery large")
    return section("How it usually goes", *parts) if shown else None


def _captioned(picture: ShownPicture) -> Markup:
    [source] = picture.addresses
    caption = element("figcaption", element("b", picture.name), " ", _unbroken(picture.mistakes))
    return element("figure", element("img", src=source, alt=f"{picture.name}: what was found"), caption)


def _pictures(facts: Facts) -> Markup | None:
    if facts.val_set is None:
        return None
    if facts.detected is not None:
        worst = worst_detected(facts.detected, facts.val_set)
        shown = [_detected(picture) for picture in worst]
        remark = f"Those with the most mistakes first. {MARK} stands with what was missed or is wrong."
    elif facts.classified is not None:
        shown = [_classified(picture) for picture in worst_classified(facts.classified, facts.val_set)]
        remark = "Pictures taken for another class; first those whose own was thought the least likely."
    else:
        return None
    if not shown:
        return None
    kind = "bad" if facts.detected is not None else "gallery"
    return section("The worst pictures", element("p", remark, class_="soft"), element("div", shown, class_=kind))


def _detected(picture: ShownPicture) -> Markup:
    images = [
        element("div", element("span", what), element("img", src=source, alt=f"{picture.name}: {what}"))
        for source, what in zip(picture.addresses, ("what there is", "what was found"))
    ]
    caption = element("figcaption", element("b", picture.name), " ", _unbroken(picture.mistakes))
    return element("figure", element("div", images, class_="pair"), caption)


def _classified(picture: ShownPicture) -> Markup:
    [source] = picture.addresses
    caption = element("figcaption", _unbroken(picture.mistakes))
    return element("figure", element("img", src=source, alt=picture.name), caption)


def _unbroken(words: str) -> str:
    """A number and its unit stay on one line."""
    return re.sub(r"(?<=\d) (?=(%|s|min|h)(\W|$))", "\N{NO-BREAK SPACE}", words)


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
    words = [_short_path(facts.run.arguments.get("data"))]
    words += ["1 class" if classes == 1 else f"{classes:,} classes"] if classes else []
    words += [f"{text.plural(found, 'problem')} with pictures and labels, see problems.txt"] if found else []
    table = tables.wide(tables.table(headers, rows, [], "data"), "Data") if rows else None
    return section("Data", element("p", ", ".join(words)), table)


def _settings(facts: Facts) -> Markup:
    """The options that are not what they are by default; and the seed, without which nobody can repeat a run."""
    kind = ClassifierSettings if facts.is_classifier else TrainingSettings
    usual = {field.name: field.default for field in fields(kind)}
    rows = [
        element("tr", element("th", _spelled(key), scope="row"), element("td", _plain(value)))
        for key, value in facts.run.arguments.items()
        if key in usual and key not in NOT_SHOWN and (key == "seed" or value != usual[key])
    ]
    remark = "All other options have their usual values; the network's are in the cfg."
    shown = element("table", element("tbody", rows), class_="words")
    return section("Settings", shown, element("p", remark, class_="soft"))


def _spelled(key: str) -> str:
    return SPELLINGS.get(key, key).replace("_", " ")


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _cfg(facts: Facts) -> Markup | None:
    try:
        content = facts.run.cfg.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return section(facts.run.cfg.name, element("pre", content, tabindex=0))


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
