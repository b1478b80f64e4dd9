"""The page about a run."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from darkpy.data.dataset import Dataset
from darkpy.evaluation import Evaluation, evaluate
from darkpy.evaluation.classifier import ClassifierEvaluation
from darkpy.network import Network
from darkpy.report import Facts, report_run, write_report
from darkpy.report.facts import objects_by_class
from darkpy.report.page import render
from darkpy.runs import open_run
from darkpy.training import Outcome, TrainingSettings, train
from darkpy.training.classifier_job import ClassifierSettings, train_classifier
from darkpy.training.progress import ProgressLines
from darkpy.training.report_file import ReportFile
from darkpy.training.run_folder import RunFolder
from tests import tiny_classes
from tests.browser import browse
from tests.test_report_pictures import assessed
from tests.tiny_job import write_job

ODD = "<b>&"
"""A class that would be a tag."""

SECTIONS = [
    "Learning", "Precision, recall and F1", "Classes", "What is taken for what", "How it usually goes",
    "The worst pictures", "Data", "Settings", "tiny.cfg",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a finished run of tiny.cfg in runs/tiny-1, one class of which has an odd name."""
    folder = tmp_path_factory.mktemp("report")
    write_job(folder)
    (folder / "data/tiny.yaml").write_text(f"train: train.txt\nval: val.txt\nnames: ['{ODD}', dark]\n")
    (folder / "tiny.cfg").write_text(f"# </pre><script>alert(1)</script>\n{(folder / 'tiny.cfg').read_text()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
        train(TrainingSettings("tiny.cfg", data="data/tiny.yaml", device="numpy", every=4, thresh=0.01))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    copy = tmp_path / "work"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    return copy


def darkpy(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def read(path: str | Path = "runs/tiny-1/report.html") -> str:
    return Path(path).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Sees whether every tag is closed, and collects headings, links and the cells of tables."""

    EMPTY = ("meta", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and {"th", "td"} & set(self.open[-2:]):
            self.rows[-1][-1] += data


def test_finished_run_has_a_whole_page(finished: Path) -> None:
    page = Page(read(finished / "runs/tiny-1/report.html"))
    assert page.open == []
    assert page.headings == SECTIONS
    assert "tiny.cfg on data/tiny.yaml: 4 layers, 0.00 M parameters" in page.text
    assert re.search(r"Finished on \d{4}-\d\d-\d\d, 6 iterations in \d+\s(s|min)\b", page.text)
    assert ["training", "6", "6", "1.0", "0"] in page.rows
    assert ["validation", "2", "2", "1.0", "0"] in page.rows
    assert ["seed", "0"] in page.rows
    assert ["map every", "4"] in page.rows
    assert ["thresh", "0.01"] in page.rows
    assert not any(row[0] == "iou thresh" for row in page.rows)  # the usual one
    [coco] = [row for row in page.rows if row[0] == "average recall"]
    assert len(coco) == 10
    assert all(re.fullmatch(r"[\d.]+|–|", cell) for cell in coco[1:])


def test_page_needs_nothing_beside_it(finished: Path) -> None:
    text = read(finished / "runs/tiny-1/report.html")
    page = Page(text)
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert "viewport" in text
    assert "@media print" in style


def test_text_is_never_taken_for_tags(finished: Path) -> None:
    text = read(finished / "runs/tiny-1/report.html")
    assert "<b>&" not in text
    assert "</pre><script>" not in text
    assert html.escape(ODD) in text
    page = Page(text)
    assert any(row[0] == ODD for row in page.rows)
    assert "# </pre><script>alert(1)</script>" in page.text


def test_numbers_are_those_of_the_best_weights(folder: Path) -> None:
    network = Network.from_cfg("tiny.cfg", "runs/tiny-1/best.weights", device="numpy")
    dataset = Dataset("val", [ODD, "dark"], [Path(line) for line in Path("data/val.txt").read_text().split()])
    expected = evaluate(network, dataset, thresh=0.01)
    rows = Page(read()).rows
    for result in expected.classes:
        [row] = [row for row in rows if row[0] == result.name and len(row) == 12]
        counts = result.counts
        assert row[2:4] == [str(counts.truths), f"{100 * result.average_precision:.1f}"]
        assert row[8:11] == [
            f"{number:,}" for number in (counts.true_positives, counts.false_positives, counts.false_negatives)
        ]
    [total] = [row for row in rows if row[0] == "all" and len(row) == 12]
    assert total[1:3] == ["6", "2"]
    assert total[9] == f"{expected.counts.false_positives:,}"


def test_no_evaluation_is_added_to_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Evaluation:
        calls.append(arguments)
        return evaluate(*arguments, **options)

    monkeypatch.setattr("darkpy.training.preparation.evaluate", counted)
    result = train(TrainingSettings("tiny.cfg", data="data/tiny.yaml", device="numpy", every=4))
    assert (result.folder / "report.html").exists()
    assert len(calls) == 2  # at iterations 4 and 6


def test_best_weights_of_an_earlier_part_are_measured(folder: Path) -> None:
    network = Network.from_cfg("tiny.cfg", device="numpy")
    best = Network.from_cfg("tiny.cfg", "runs/tiny-1/best.weights", device="numpy")
    seen = []
    evaluator = SimpleNamespace(
        network=network, evaluate=lambda measured: seen.append(measured.parameters.values.copy()), best_iteration=4
    )
    job = SimpleNamespace(train_set=None, val_set=None, network=network, measured=network)
    callback = ReportFile(job, RunFolder(Path("runs/tiny-1")), evaluator, ProgressLines())  # type: ignore[arg-type]
    Path("runs/tiny-1/report.html").unlink()
    callback.finish(None, Outcome.FINISHED)  # type: ignore[arg-type]
    assert len(seen) == 1
    assert np.array_equal(seen[0], best.parameters.values)
    assert Page(read()).headings[0] == "Learning"


def test_report_can_be_left_out(folder: Path) -> None:
    result = darkpy("detector", "train", "tiny.cfg", "--data", "data/tiny.yaml", "--device", "numpy", "--no-report")
    assert result.exit_code == 0
    assert not Path("runs/tiny-2/report.html").exists()
    assert "report" not in result.output
    assert yaml.safe_load(Path("runs/tiny-2/args.yaml").read_text())["report"] is False


def test_trouble_with_the_report_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(facts: Facts) -> str:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("darkpy.report.writing.render", broken)
    result = darkpy("detector", "train", "tiny.cfg", "--data", "data/tiny.yaml", "--device", "numpy")
    assert result.exit_code == 0
    assert "  there is no report.html: division by zero\n" in result.output
    assert Path("runs/tiny-2/final.weights").exists()
    assert json.loads(Path("runs/tiny-2/status.json").read_text())["state"] == "finished"


def test_stopped_run_gets_its_report_from_the_command(folder: Path) -> None:
    train(TrainingSettings("tiny.cfg", data="data/tiny.yaml", device="numpy", time_limit=0))
    assert not Path("runs/tiny-2/report.html").exists()
    result = darkpy("report", "runs/tiny-2", "--device", "numpy")
    assert result.exit_code == 0
    assert result.stdout == "report: runs/tiny-2/report.html\n"
    page = Page(read("runs/tiny-2/report.html"))
    assert re.search(r"Stopped by the time limit of 0:00 on [\d-]+, 1 of 6 iterations", page.text)
    assert "Classes" in page.headings  # of last.weights: there are no others


def test_command_writes_the_same_page(folder: Path) -> None:
    assert darkpy("report", "runs/tiny-1", "--out", "other.html", "--quiet", "--device", "numpy").output == ""
    [first, second] = (
        re.sub(r"Report by.*?UTC|numpy backend, \d+ threads?", "", read(path))
        for path in ("runs/tiny-1/report.html", "other.html")
    )
    assert first == second


def test_without_the_data_the_log_is_enough(folder: Path) -> None:
    before = Page(read())
    arguments = yaml.safe_load(Path("runs/tiny-1/args.yaml").read_text())
    Path("runs/tiny-1/args.yaml").write_text(yaml.safe_dump({**arguments, "data": "data/gone.yaml"}))
    result = darkpy("report", "runs/tiny-1", "--device", "numpy")
    assert result.exit_code == 0
    assert "nothing could be measured: " in result.output
    page = Page(read())
    assert page.headings == ["Learning", "Classes", "Data", "Settings", "tiny.cfg"]
    assert "nothing could be measured: " in page.text
    [row] = [row for row in page.rows if row[0] == "dark"]
    [known] = [row for row in before.rows if row[0] == "dark" and len(row) == 12]
    assert row == [known[0], *known[2:]]  # how many there are to train with is not in the log


def test_without_validation_pictures_there_are_the_curves(folder: Path) -> None:
    (folder / "data/tiny.yaml").write_text("train: train.txt\nnames: [bright, dark]\n")
    result = train(TrainingSettings("tiny.cfg", data="data/tiny.yaml", device="numpy"))
    for _ in range(2):  # at the end, then by the command
        page = Page(read(result.folder / "report.html"))
        assert page.headings == ["Learning", "Data", "Settings", "tiny.cfg"]
        assert re.search("(N|n)othing was measured: .*validat", page.text)
        report_run(result.folder, device="numpy")


def test_run_that_goes_on_can_be_reported_too(folder: Path) -> None:
    pytest.importorskip("fcntl")
    path = Path("runs/tiny-1/status.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running", "iteration": 5}))
    with RunFolder(path.parent).locked():
        report_run(path.parent, device="numpy")
    assert "Still running, 5 of 6 iterations" in Page(read()).text


@pytest.mark.parametrize("is_there", [True, False])
def test_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    tiny_classes.write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    result = train_classifier(ClassifierSettings("colours.cfg", data="colours", device="numpy", every=2, top=2))
    evaluation = result.evaluation
    assert isinstance(evaluation, ClassifierEvaluation)
    text = read(result.folder / "report.html")
    if not is_there:
        shutil.rmtree("colours")
        report_run(result.folder, device="numpy")
    page = Page(read(result.folder / "report.html"))
    headings = ["Learning", "Classes", "What is taken for what", "The worst pictures", "Data", "Settings"]
    if not is_there:
        headings.remove("The worst pictures")  # there were some: see below
    assert page.headings == [*headings, "colours.cfg"]
    assert [row[0] for row in page.rows if len(row) == 4 and "taken for" not in row[0]] == [
        "blue", "green", "red",
    ]  # fmt: skip
    wrong = len(evaluation.class_ids) - round(evaluation.accuracy * evaluation.pictures)
    assert result.best is not None
    assert text.count("data:image/jpeg") == min(wrong, 12) > 0
    assert f"{100 * result.best:.1f} %" in page.text


def test_no_run_folder_is_an_error() -> None:
    result = darkpy("report", "nowhere")
    assert result.exit_code == 2
    assert "nowhere  no such run folder" in result.output


def test_damaged_cfg_is_told(folder: Path) -> None:
    Path("runs/tiny-1/tiny.cfg").write_text("[net]\nwidth=\n[nonsense]\n")
    notes: list[str] = []
    report_run("runs/tiny-1", notify=notes.append)
    assert len(notes) == 1
    assert "[nonsense]" in Page(read()).text


def test_many_classes_are_held_in_bounds(folder: Path) -> None:
    names = [f"class {number}" for number in range(40)]
    truths = [(picture, picture % 40, 0.5, 0.5, 0.2, 0.2) for picture in range(80)]
    claims = [(picture, (picture + (picture < 5)) % 40, 0.9, 0.5, 0.5, 0.2, 0.2) for picture in range(80)]
    run = open_run("runs/tiny-1")
    page = Page(render(Facts(run, assessed(claims, truths, names, 80))))
    assert sum(len(row) == 12 - 2 for row in page.rows) == 42  # headers, classes, all; without COCO and training data
    matrix = [row for row in page.rows if len(row) == 25]
    assert len(matrix) == 25
    assert "each of the classes" in page.text
    assert {"class 0", "class 5"} <= {row[0] for row in matrix}
    assert "Of 41 only the 24 with the most mistakes are shown." in page.text


def test_confusions_are_named(folder: Path) -> None:
    """The pairs that are confused more than once, the most often first."""
    names = ["cat", "dog", "cow"]
    objects = [(picture, picture % 3, 0.5, 0.5, 0.2, 0.2) for picture in range(12)]
    taken = [1, 0, 1, 1, 0, 2, 1, 1, 2, 0, 1, 2]
    claims = [(picture, kind, 0.9, 0.5, 0.5, 0.2, 0.2) for picture, kind in enumerate(taken)]
    page = Page(render(Facts(open_run("runs/tiny-1"), assessed(claims, objects, names, 12))))
    assert "Most often taken: cat for dog (3), dog for cat (2)." in page.text


def test_one_class_needs_no_matrix(folder: Path) -> None:
    row = (0.5, 0.5, 0.2, 0.2)
    page = Page(render(Facts(open_run("runs/tiny-1"), assessed([(0, 0, 0.9, *row)], [(0, 0, *row)], ["cell"], 1))))
    assert page.headings == ["Learning", "Precision, recall and F1", "Classes", "Data", "Settings", "tiny.cfg"]
    assert "all classes" not in page.text


def test_course_of_a_run_that_failed(folder: Path) -> None:
    path = Path("runs/tiny-1/status.json")
    changes = {"state": "failed", "reason": "the disk is full.", "iteration": 5, "seconds": 7500, "loss": 2e7}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    page = Page(render(Facts(open_run("runs/tiny-1"))))
    assert re.search(r"Failed on [\d-]+, 5 of 6 iterations in 2\sh 5\smin: the disk is full\.(?!\.)", page.text)
    assert "2.0e7" in page.text


def test_objects_are_not_counted_in_the_largest_sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset("val", ["bright", "dark"], [Path(line) for line in Path("data/val.txt").read_text().split()])
    assert objects_by_class(dataset) == [1, 1]
    monkeypatch.setattr("darkpy.report.facts.COUNTED", 1)
    assert objects_by_class(dataset) is None
    assert ["validation", "2", "–", "–", "–"] in Page(render(Facts(open_run("runs/tiny-1"), val_set=dataset))).rows


def test_page_of_a_run_that_has_not_begun(folder: Path) -> None:
    for name in ("log.jsonl", "status.json"):
        Path("runs/tiny-1", name).unlink()
    write_report(Facts(open_run("runs/tiny-1")))
    assert Page(read()).headings == ["Data", "Settings", "tiny.cfg"]


# In a browser ----------------------------------------------------------------------------------------------------

MEASURE = """
const page = document.querySelector("iframe").contentDocument;
const tiny = [...page.querySelectorAll("svg.plot text")].filter(text => text.getBoundingClientRect().height < 9);
const facts = {
  wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
  pictures: [...page.images].map(image => image.naturalWidth),
  lines: [...page.querySelectorAll("svg.plot polyline")].filter(line => line.getTotalLength() > 20).length,
  headings: [...page.querySelectorAll("h2")].map(heading => heading.textContent),
  tiny: tiny.length,
};
document.body.innerHTML = "";
document.body.append(JSON.stringify(facts));
"""


@pytest.mark.parametrize("width", [360, 1200])
def test_browser_shows_all_of_it(folder: Path, tmp_path: Path, width: int) -> None:
    source = html.escape(read())
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{source}"></iframe>'
    outer = tmp_path / "outer.html"
    outer.write_text(f"<body>{frame}<script>onload = () => {{ {MEASURE} }}</script></body>", encoding="utf-8")
    seen = browse(outer, tmp_path, "--window-size=1300,1000", "--dump-dom")
    facts = json.loads(html.unescape(re.search(r"<body>(.*)</body>", seen, re.DOTALL)[1]))  # type: ignore[index]
    assert facts["wide"] == 0
    assert facts["headings"] == SECTIONS
    assert facts["pictures"] == [360] * 2 + [480] * 4
    assert facts["lines"] >= 3
    assert facts["tiny"] == 0


def test_browser_draws_and_prints(folder: Path, tmp_path: Path) -> None:
    page, picture, paper = Path("runs/tiny-1/report.html").resolve(), tmp_path / "page.png", tmp_path / "page.pdf"
    browse(page, tmp_path, "--window-size=1200,1600", f"--screenshot={picture}")
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape[:2] == (1600, 1200)
    blue = np.abs(image.astype(int) - (0x97, 0x6F, 0x2A)).max(axis=2) < 12  # the loss, in OpenCV's order
    assert blue.sum() > 100
    browse(page, tmp_path, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) <= 6
