"""Every command through click's runner: what it prints, what it writes, its exit status."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import click
import cv2
import pytest
from click.testing import CliRunner, Result

import darkpy
import darkpy.errors
from darkpy.cli.command import Command, Group, without_effect
from darkpy.cli.main import cli
from darkpy.network import Network
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job and weights for it, as working folder."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    Network.from_cfg("tiny.cfg", device="numpy").save_weights("tiny.weights")
    return tmp_path


def run(*arguments: str | Path, status: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


# Help and mistakes in the command itself


@pytest.mark.parametrize(
    "command", ["", "detector", "detector train", "detector map", "detector test", "detect", "net", "net check",
                "net summary", "net help", "version"],
)  # fmt: skip
def test_help_of_every_command(command: str) -> None:
    text = run(*command.split(), "--help").output
    assert text.startswith(f"Usage: cli{' ' if command else ''}{command}")
    assert all(len(line) <= 80 for line in text.splitlines())


def test_version() -> None:
    assert run("--version").output == f"darkpy {darkpy.__version__}\n"
    assert run("version").output.startswith(f"darkpy {darkpy.__version__}   ")
    assert re.search(r"^numpy \d", run("version").output, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["detecter"], "no such command 'detecter'; did you mean 'detector'?"),
        (["net", "sumary"], "no such command 'sumary'; did you mean 'summary'?"),
        (["detector", "zzz"], "no such command 'zzz'; there are "),
        (["detect", "x.jpg", "-tresh", ".3"], "--thresh"),
        (["detect", "x.jpg", "--thresh", "1.5"], "1.5 is not in the range"),
        (["detect", "x.jpg", "-thresh", "much"], "'much' is not a valid float"),
        (["detect", "x.jpg", "-thresh"], "--thresh"),
        (["detect"], "Missing argument 'PATH...'"),
        (["detector", "train"], "no .cfg file is named"),
        (["detector", "train", "x.data"], "no .cfg file is named"),
        (["detector", "map", "x.cfg"], "a .cfg and a .weights file are needed"),
        (["detector", "test", "x.cfg"], "a .cfg and a .weights file are needed"),
        (["net", "check"], "Missing argument 'CFG...'"),
    ],
)
def test_wrong_usage_has_status_2_and_says_what_would_be_right(arguments: list[str], message: str) -> None:
    result = run(*arguments, status=2)
    assert message in result.stderr
    assert result.stdout == ""


def test_darkpy_errors_are_printed_without_a_traceback() -> None:
    @click.group(cls=Group)
    def group() -> None:
        pass

    @group.command(cls=Command)
    @click.argument("kind")
    def fail(kind: str) -> None:
        raise {
            "input": darkpy.errors.InputError(
                problems=[darkpy.errors.Problem("x.cfg:3", "wrong"), darkpy.errors.Problem("y.cfg:4", "worse")]
            ),
            "training": darkpy.errors.TrainingError("iteration 7: the loss is nan"),
            "memory": MemoryError("12 GB"),
            "ctrl-c": KeyboardInterrupt(),
        }[kind]

    def outcome(kind: str) -> tuple[int, str]:
        result = CliRunner().invoke(group, ["fail", kind])
        return result.exit_code, result.stderr

    assert outcome("input") == (2, "x.cfg:3  wrong\ny.cfg:4  worse\n2 errors, nothing was started\n")
    assert outcome("training") == (1, "iteration 7: the loss is nan\n")
    assert outcome("memory") == (1, "Error: there is not enough memory: 12 GB\n")
    assert outcome("ctrl-c") == (130, "\ninterrupted\n")


def test_flags_without_effect_are_accepted_with_one_line() -> None:
    @click.command(cls=Command)
    @without_effect("--show-imgs", because="no reason")
    @without_effect("--mjpeg-port", because="no server", value=True)
    def command() -> None:
        click.echo("done")

    result = CliRunner().invoke(command, ["-show_imgs", "-mjpeg_port", "8090"])
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert result.stderr == "-show_imgs has no effect: no reason\n-mjpeg_port has no effect: no server\n"
    assert CliRunner().invoke(command, []).stderr == ""


# net


def test_net_check_of_good_files(job: Path) -> None:
    assert run("net", "check", "tiny.cfg").output == "tiny.cfg  is fine: 4 layers\n"


def test_net_check_finds_everything_in_all_files(job: Path) -> None:
    write_cfg(job, "bad.cfg", filters=15)
    text = (job / "bad.cfg").read_text()
    (job / "bad.cfg").write_text(text.replace("jitter", "jiter").replace("[maxpool]", "[maxpol]"))
    result = run("net", "check", "bad.cfg", "tiny.cfg", "nothing.cfg", status=2)
    assert "bad.cfg:21  [maxpol] is not a known section; did you mean 'maxpool'?" in result.stderr
    assert "[yolo] has no option 'jiter'; did you mean 'jitter'?" in result.stderr
    assert "nothing.cfg  no such file" in result.stderr
    assert "in 2 of 3 files" in result.stderr
    assert "tiny.cfg  is fine: 4 layers" in result.stdout


def test_net_check_finds_the_packages_files(job: Path) -> None:
    assert "is fine: 24 layers" in run("net", "check", "yolov3-tiny.cfg").output
    assert "is fine: 24 layers" in run("net", "check", "cfg/yolov3-tiny.cfg").output


def test_net_summary(job: Path) -> None:
    lines = run("net", "summary", "tiny.cfg", "--batch", "3").output.splitlines()
    assert "input 32x32x3   4 layers" in lines[0]
    assert lines[1].split() == [
        "layer", "type", "filters", "size", "input", "output", "parameters", "BFLOPs", "field",
    ]  # fmt: skip
    assert lines[2].split() == ["0", "convolutional", "8", "3x3/2", "32x32x3", "16x16x8", "248", "0.000", "3"]
    assert lines[7].split("  ")[0] == "memory"
    assert "inference, 3 pictures  training, 3 pictures" in lines[7]
    assert lines[-1].startswith("peak")
    assert not any(line.endswith(" ") for line in lines)


def test_net_summary_in_16_bits(job: Path) -> None:
    """Planned by the CPU where there is no GPU."""
    pytest.importorskip("ml_dtypes")
    peaks = [run("net", "summary", "tiny.cfg", *given).output.splitlines()[-1] for given in ((), ("--amp", "bf16"))]
    exact, half = (float(re.findall(r"[\d.]+", peak)[0]) for peak in peaks)
    assert half < exact


def test_net_summary_shows_the_inputs_of_routes() -> None:
    output = run("net", "summary", "yolov3-tiny.cfg").output
    assert re.search(r"20 +route +19, 8 +26x26x128\+256 +26x26x384", output)


def test_net_summary_of_a_wrong_file(job: Path) -> None:
    write_cfg(job, "bad.cfg", filters=15)
    result = run("net", "summary", "bad.cfg", status=2)
    assert "filters=15 does not fit the [yolo]" in result.stderr
    assert "1 error, nothing was started" in result.stderr


@pytest.mark.parametrize("section", ["maxpool", "[maxpool]", "MAXPOOL", "max"])
def test_net_help_of_a_section(section: str) -> None:
    output = run("net", "help", section).output
    assert "Largest value of each window" in output
    assert re.search(r"^stride +integer +1 +at least 1 +step between windows$", output, re.MULTILINE)


def test_net_help_lists_all_sections() -> None:
    output = run("net", "help").output
    assert {"[net]", "[convolutional]", "[yolo]", "[shortcut]"} <= set(re.findall(r"^\[\w+\]", output, re.MULTILINE))


def test_net_help_of_net_and_of_nothing() -> None:
    assert "burn_in" in run("net", "help", "net").output
    result = run("net", "help", "convolutionl", status=2)
    assert "[convolutionl] is not a known section; did you mean 'convolutional'?" in result.stderr


# detector train


def test_train_needs_only_the_cfg(job: Path) -> None:
    result = run("detector", "train", "tiny.cfg")
    assert "train 6 pictures, 6 boxes   val 2" in result.output
    assert Path("runs/tiny-1/final.weights").exists()


def test_train_in_darknets_manner(job: Path) -> None:
    result = run(
        "detector", "train", "tiny.data", "tiny.cfg", "tiny.weights", "-map", "-dont_show", "-clear", "-gpus", "0,1",
        "-iou_thresh", ".4", "-mAP_epochs", "1", "-mjpeg_port", "8090", "-out", "mine",
    )  # fmt: skip
    assert "mAP@40" in result.stdout
    assert Path("mine/best.weights").exists()
    assert result.stderr.splitlines() == [
        "-dont_show has no effect: no window is opened",
        "-gpus has no effect: this computes on one device",
        "-mjpeg_port has no effect: there is no video server; see chart.png in the run folder",
    ]


def test_train_quietly(job: Path) -> None:
    result = run("detector", "train", "tiny.cfg", "--quiet", "--no-map")
    assert result.output == ""
    assert not Path("runs/tiny-1/best.weights").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.cfg"], "nothing.cfg  no such file here, in cfg/ or in darkpy"),
        (["tiny.cfg", "--data", "nothing.yaml"], "nothing.yaml  no such"),
        (["tiny.cfg", "nothing.weights"], "nothing.weights  cannot be read"),
        (["tiny.cfg", "pictures/0.png"], "pictures/0.png  is no .cfg, .data, .yaml, .json or .weights file, nor a folder"),
        (["tiny.cfg", "tiny.data", "--data", "data/tiny.yaml"], "two data files: tiny.data and data/tiny.yaml"),
        (["tiny.cfg", "--out", "pictures"], "pictures  is not empty"),
        (["tiny.cfg", "--device", "gpu9"], "unknown device 'gpu9'"),
    ],
)
def test_train_with_wrong_files(job: Path, arguments: list[str], message: str) -> None:
    result = run("detector", "train", *arguments, status=2)
    assert message in result.stderr
    assert result.stderr.endswith("1 error, nothing was started\n")
    assert not Path("runs").exists()


def test_train_that_diverges_has_status_1(job: Path) -> None:
    write_cfg(job, learning_rate=1e18, max_batches=40)
    result = run("detector", "train", "tiny.cfg", "--no-map", status=1)
    assert "Training has diverged: try a smaller learning_rate" in result.stderr
    assert "nothing was started" not in result.stderr


# detector map


def test_map_prints_a_table_and_the_mean(job: Path) -> None:
    result = run("detector", "map", "tiny.data", "tiny.cfg", "tiny.weights", "-points", "11", "-iou_thresh", ".3")
    assert "val 2 pictures" in result.stdout
    assert re.search(r"^ *0 +bright +1 ", result.stdout, re.MULTILINE)
    assert re.search(r"^mean average precision \(mAP@0.30\) = 0\.\d{6}, or \d+\.\d\d %$", result.stdout, re.MULTILINE)


def test_map_of_another_split_as_json(job: Path) -> None:
    run("detector", "map", "tiny.cfg", "tiny.weights", "--split", "train", "--json", "map.json")
    numbers = json.loads(Path("map.json").read_text())
    assert numbers["pictures"] == 6
    assert [row["name"] for row in numbers["classes"]] == ["bright", "dark"]


def test_map_with_other_classes(job: Path) -> None:
    Path("data/tiny.yaml").write_text("train: train.txt\nval: val.txt\nnames: [a, b, c]\n")
    assert "has 3 names, the network 2 classes" in run("detector", "map", "tiny.cfg", "tiny.weights", status=2).stderr


# detect and detector test


def test_detect_draws_and_prints(job: Path) -> None:
    result = run("detect", "tiny.cfg", "tiny.weights", "pictures/0.png", "-thresh", ".01")
    assert "tiny.cfg   tiny.weights   32x32   2 classes (data/tiny.yaml)" in result.stdout
    assert re.search(r"^pictures/0.png   40x30   \d+ ms with the start   \d+ objects?$", result.stdout, re.MULTILINE)
    assert re.search(r"^(bright|dark) +\d+\.\d % ", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("drawn: predictions/0.png\n")
    drawn = cv2.imread("predictions/0.png")
    assert drawn is not None
    assert drawn.shape == (30, 40, 3)
    assert (drawn != cv2.imread("pictures/0.png")).any()


def test_detect_without_cfg_and_weights_uses_the_small_detector(job: Path) -> None:
    Network.from_cfg("shapes.cfg", device="numpy").save_weights("data/shapes.weights")
    result = run("detect", "pictures/0.png")
    assert re.search(r"shapes\.cfg   data/shapes\.weights   128x128   12 classes \(.*shapes\.yaml\)", result.stdout)
    assert Path("predictions/0.png").exists()


def test_detect_in_folders_keeps_their_order_and_names(job: Path) -> None:
    (job / "more/deep").mkdir(parents=True)
    for place in ("more/0.png", "more/deep/0.png"):
        (job / place).write_bytes((job / "pictures/0.png").read_bytes())
    run("detect", "--cfg", "tiny.cfg", "--weights", "tiny.weights", "pictures", "more", "--out", "drawn")
    names = sorted(str(path.relative_to("drawn")) for path in Path("drawn").rglob("*.png"))
    assert names == ["0-2.png", *(f"{number}.png" for number in range(8)), "deep/0.png"]


def test_detect_writes_json_as_darknet_does(job: Path) -> None:
    run("detect", "tiny.cfg", "tiny.weights", "pictures/0.png", "pictures/1.png", "-thresh", "0", "-out", "all.json")
    first, second = json.loads(Path("all.json").read_text())
    assert (first["frame_id"], first["filename"], second["frame_id"]) == (1, "pictures/0.png", 2)
    assert set(first["objects"][0]) == {"class_id", "name", "relative_coordinates", "confidence"}
    assert Path("predictions/1.png").exists()


def test_detect_prints_nothing_but_json_if_told_to(job: Path) -> None:
    result = run("detect", "tiny.cfg", "tiny.weights", "pictures/0.png", "--json", "-")
    assert json.loads(result.stdout)[0]["filename"] == "pictures/0.png"


def test_detect_saves_labels_but_overwrites_none(job: Path) -> None:
    (job / "pictures/0.txt").unlink()
    before = (job / "pictures/1.txt").read_text()
    result = run(
        "detect", "tiny.cfg", "tiny.weights", "pictures/0.png", "pictures/1.png", "-save_labels", "-thresh", "0"
    )
    lines = (job / "pictures/0.txt").read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[01]( [01]\.\d{6}){4}", line) for line in lines)
    assert (job / "pictures/1.txt").read_text() == before
    assert "1 label files were there already and are left as they are" in result.stdout


def test_detect_goes_on_after_a_picture_that_cannot_be_used(job: Path) -> None:
    (job / "pictures/1.png").write_bytes(b"")
    result = run("detect", "tiny.cfg", "tiny.weights", "pictures/1.png", "pictures/2.png", status=2)
    assert "pictures/1.png  the file is empty\n1 of 2 pictures could not be used\n" in result.stderr
    assert Path("predictions/2.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.jpg"], "nothing.jpg  no such picture"),
        (["nothing.jpg", "more.jpg"], "nothing.jpg  no such picture or folder\nmore.jpg  no such"),
        (["empty"], "empty  is a folder without pictures and videos"),
        (["pictures", "--out", "pictures"], "pictures/0.png  would be written over; choose another place with --out"),
        (["pictures/0.png", "--json", "pictures"], "pictures  is a folder; name a file in it"),
        (["pictures/0.png", "--cfg", "tiny.cfg"], "tiny.cfg alone is no detector; name its weights file too"),
        (["pictures/0.png", "--weights", "tiny.weights"], "tiny.weights alone is no detector; name its cfg file too"),
        (["pictures/0.png", "tiny.cfg", "cut.weights"], "cut.weights  "),
        (["pictures/0.png", "tiny.cfg", "tiny.weights", "--names", "three.names"], "three.names  has 3 names, the network 2"),
        (["pictures/0.png", "tiny.cfg", "tiny.weights", "--names", "none.names"], "none.names  no such file"),
    ],
)  # fmt: skip
def test_detect_with_wrong_files(job: Path, arguments: list[str], message: str) -> None:
    (job / "empty").mkdir()
    (job / "three.names").write_text("a\nb\nc\n")
    (job / "cut.weights").write_bytes((job / "tiny.weights").read_bytes()[:-40])
    result = run("detect", *arguments, status=2)
    assert message in result.stderr
    assert "nothing was started" in result.stderr
    assert not Path("predictions").exists()


def test_class_names_come_from_the_nearest_place(job: Path) -> None:
    (job / "own.names").write_text("white\nblack\n")
    arguments = ["detect", "tiny.cfg", "tiny.weights", "pictures/0.png"]
    assert "2 classes (own.names)" in run(*arguments, "own.names").stdout
    assert "2 classes (own.names)" in run(*arguments, "--names", "own.names").stdout
    assert "2 classes (tiny.data)" in run(*arguments, "tiny.data").stdout
    Path("data/tiny.yaml").unlink()
    assert "2 classes (no names)" in run(*arguments).stdout
    (job / "tiny.names").write_text("light\nshade\n")
    assert "2 classes (tiny.names)" in run(*arguments).stdout


def test_a_published_network_gets_the_names_of_coco(job: Path) -> None:
    from darkpy.cli.arguments import Files
    from darkpy.cli.loading import class_names

    names, source = class_names(Files(), "cfg/yolov3.cfg", 80)
    assert (names[0], names[79], source) == ("person", "toothbrush", "coco.names")
    assert class_names(Files(), "x.cfg", 3) == (["0", "1", "2"], "no names")


def test_test_in_darknets_order(job: Path) -> None:
    result = run(
        "detector", "test", "tiny.data", "tiny.cfg", "tiny.weights", "pictures/3.png", "-thresh", ".01", "-dont_show",
        "-ext_output", "-letter_box", "-i", "0", "-out", "result.json",
    )  # fmt: skip
    assert "pictures/3.png   40x30" in result.stdout
    assert result.stdout.endswith("json: result.json\ndrawn: predictions.jpg\n")
    assert cv2.imread("predictions.jpg") is not None
    assert json.loads(Path("result.json").read_text())[0]["filename"] == "pictures/3.png"


def test_test_takes_names_from_standard_input(job: Path) -> None:
    files = ["tiny.data", "tiny.cfg", "tiny.weights"]
    result = run("detector", "test", *files, stdin="pictures/3.png\npictures/4.png\n\npictures/5.png\n")
    assert re.findall(r"pictures/\d.png", result.stdout) == ["pictures/3.png", "pictures/4.png"]
    result = run("detector", "test", *files, stdin="pictures/none.png\n", status=2)
    assert "pictures/none.png  no such picture\n1 of 1 pictures could not be used\n" in result.stderr


def test_names_on_a_terminal_are_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from darkpy.cli.detect import paths_from_input

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("a.jpg\n\n"))
    assert list(paths_from_input()) == ["a.jpg"]
    assert "names of pictures, one a line" in capsys.readouterr().err
