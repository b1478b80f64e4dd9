"""Layers of one's own: loading them, and the guide with its example."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from darkpy import plugins
from darkpy.cli.main import cli
from darkpy.config.cfg import parse_cfg
from darkpy.errors import ConfigError, InputError
from darkpy.layers import base, registered
from darkpy.network import Network
from tests import layer_checks
from tests.backends import CPU_BACKENDS
from tests.pages import DOCS, code_blocks, commands
from tests.tiny_job import ROOT, environment, write_job

GUIDE = "write-your-own-layer.md"
LAYER = DOCS / "examples" / "global_response_norm.py"
CHECKS = DOCS / "examples" / "test_global_response_norm.py"
NEW_SECTION = """\
from darkpy.layers import Layer, register

@register("{name}")
class Copy(Layer):
    \"\"\"Copies.\"\"\"

    from darkpy.config.options import CommonOptions as Options

    def forward(self, x, *, training):
        self.backend.copy(x, self.output)

    def backward(self, grad_output, grad_x):
        self.backend.copy(grad_output, grad_x)
"""


@pytest.fixture(autouse=True)
def forgotten_afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is not known to the tests after it."""
    registered()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("darkpy plugin"):
            del sys.modules[name]


def run(*arguments: str | Path, status: int = 0, **options: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)  # type: ignore[arg-type]
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


# Loading


def test_a_section_becomes_known_once(tmp_path: Path) -> None:
    (tmp_path / "copy.py").write_text(NEW_SECTION.format(name="copied"))
    plugins.load(tmp_path / "copy.py")
    assert "copied" in registered()
    plugins.load(tmp_path / "nowhere" / ".." / "copy.py")  # the same file again is not run again


def test_files_of_one_name_are_different_ones(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "layer.py").write_text(NEW_SECTION.format(name=f"{name}_section"))
        plugins.load(tmp_path / name / "layer.py")
    assert {"one_section", "other_section"} <= set(registered())


@pytest.mark.parametrize(
    "text, message",
    [
        (None, r"my_layer.py  cannot be read: No such file or directory"),
        ("import os\nimport no_such_module\n", r"my_layer.py:2  ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\ny = = 2\n", r"my_layer.py:2  SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\n\nf()\n", r"my_layer.py:2  ZeroDivisionError: division by zero"),
        (NEW_SECTION.format(name="maxpool"), r"my_layer.py:3  ValueError: \[maxpool\] is registered twice"),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "my_layer.py"
    if text is not None:
        path.write_text(text)
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(InputError, match=message):
            plugins.load(path)


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "layer.txt").write_text("")
    with pytest.raises(InputError, match=r"layer.txt  is no Python file: its name must end in .py"):
        plugins.load(tmp_path / "layer.txt")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny job with the example's section in it; ``my.cfg`` and ``my.yaml`` as in the guide."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    text = write_job(tmp_path).read_text()
    Path("my.cfg").write_text(text.replace("[maxpool]", "[global_response_norm]\nepsilon=.000001\n\n[maxpool]"))
    Path("data/tiny.yaml").rename("data/my.yaml")
    lists = Path("data/my.yaml").read_text().replace("train.txt", "data/train.txt").replace("val.txt", "data/val.txt")
    Path("my.yaml").write_text(lists)
    Path("global_response_norm.py").write_bytes(LAYER.read_bytes())
    return tmp_path


def test_on_the_command_line(job: Path) -> None:
    result = run("net", "check", "my.cfg", status=2)
    hint = "if it is a layer of your own, name its file with --plugin"
    assert f"[global_response_norm] is not a known section; {hint}" in result.stderr
    assert run("net", "check", "my.cfg", "--plugin", "global_response_norm.py").output == "my.cfg  is fine: 5 layers\n"


def test_in_the_environment(job: Path) -> None:
    (job / "copy.py").write_text(NEW_SECTION.format(name="copied"))
    text = Path("my.cfg").read_text().replace("[maxpool]", "[copied]\n\n[maxpool]")
    Path("both.cfg").write_text(text)
    files = {"DARKPY_PLUGINS": f"copy.py:{LAYER}" if sys.platform != "win32" else f"copy.py;{LAYER}"}
    assert run("net", "check", "both.cfg", env=files).output == "both.cfg  is fine: 6 layers\n"


def forget() -> None:
    """As if in a new process."""
    for name in [name for name in sys.modules if name.startswith("darkpy plugin")]:
        del sys.modules[name]
    for name in ("global_response_norm", "grn"):
        base._REGISTRY.pop(name, None)


def test_a_run_keeps_its_layers(job: Path) -> None:
    train = "detector", "train", "my.cfg", "--data", "my.yaml", "--device", "numpy"
    run(*train, "--plugin", "global_response_norm.py", "--no-map", "--no-report")
    kept = job / "runs/my-1/global_response_norm.py"
    assert kept.read_bytes() == LAYER.read_bytes()
    (job / "global_response_norm.py").rename(job / "renamed.py")
    cfg = job / "runs/my-1/my.cfg"
    for plugin, last in ([], 7), (["--plugin", "renamed.py"], 8):  # a second copy of it does no harm
        forget()
        cfg.write_text(cfg.read_text().replace(f"max_batches={last - 1}", f"max_batches={last}"))
        result = run("detector", "train", "--resume", "runs/my-1", *plugin)
        assert f"it {last}/{last}" in result.output
    forget()
    run("report", "runs/my-1")
    assert "nothing could be measured" not in (job / "runs/my-1/report.html").read_text()


def test_a_bad_plugin_has_status_2(job: Path) -> None:
    Path("bad.py").write_text("1 / 0\n")
    result = run("net", "check", "my.cfg", "--plugin", "bad.py", status=2)
    assert result.stderr == "bad.py:1  ZeroDivisionError: division by zero\n1 error, nothing was started\n"


# The guide


def test_the_guide_quotes_the_files_as_they_are() -> None:
    layer, checks, _ = code_blocks(GUIDE)
    assert layer == LAYER.read_text()
    assert checks == CHECKS.read_text()


def test_the_guides_commands(job: Path) -> None:
    lines = commands(GUIDE)
    assert [line[:2] for line in lines] == [["net", "help"], ["net", "check"], ["detector", "train"], ["detector", "map"]]
    outputs = [run(*line).output for line in lines]
    assert "added to the mean length" in outputs[0]
    assert "mean average precision" in outputs[3]


def test_the_guides_checks_run_as_it_says() -> None:
    """In a process of its own, where nothing is registered yet."""
    line = f"python -m pytest {CHECKS.relative_to(ROOT)}"
    assert f"    {line}\n" in (DOCS / GUIDE).read_text()
    command = [sys.executable, *line.split()[1:], "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_guides_import_is_enough(job: Path) -> None:
    code = code_blocks(GUIDE)[2] + "print(len(network.layers))\n"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert result.stdout == "5\n", result.stderr


# The example

CONVOLUTION = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"


@pytest.mark.parametrize("device", CPU_BACKENDS)
def test_the_example_computes_its_formula(device: str) -> None:
    plugins.load(LAYER)
    built = layer_checks.network(CONVOLUTION + "[grn]\n", dtype=np.float32, device=device, keep_outputs=True)
    out = built.forward(layer_checks.pictures(built, 2))
    x, layer = np.asarray(built.layers[0].output), built.layers[1]
    length = np.sqrt((x**2).sum(axis=(2, 3), keepdims=True))
    response = length / (length.mean(axis=1, keepdims=True) + 1e-6)
    scales, biases = (np.asarray(values).reshape(1, -1, 1, 1) for values in (layer.scales, layer.biases))
    np.testing.assert_allclose(out, x * (1 + scales * response) + biases, rtol=1e-5, atol=1e-6)


def test_a_channel_of_zeros_is_no_trouble() -> None:
    plugins.load(LAYER)
    text = "[net]\nbatch=2\nchannels=3\nheight=4\nwidth=4\nlearning_rate=.1\nmax_batches=9\n[convolutional]\nfilters=2\n"
    network = Network(parse_cfg(text + "activation=relu\n[grn]\n[cost]\n"), training=True, device="numpy")
    network.layers[0].weights[0] = 0
    network.layers[1].scales[:] = 0.5
    network.train_batch(layer_checks.pictures(network, 2), np.ones((2, 32), np.float32))
    assert np.isfinite(network.parameters.values).all()


def test_the_example_starts_as_no_change_and_learns() -> None:
    plugins.load(LAYER)
    net = "[net]\nbatch=4\nchannels=3\nheight=6\nwidth=6\nlearning_rate=.5\nmomentum=.9\nmax_batches=99\n"
    config = parse_cfg(net + CONVOLUTION + "[grn]\n[avgpool]\n[connected]\noutput=2\nactivation=linear\n[softmax]\n")
    network = Network(config, training=True, device="numpy", keep_outputs=True)
    x = layer_checks.pictures(network, 4)
    network.forward(x)
    np.testing.assert_array_equal(network.layers[0].output, network.layers[1].output)
    truth = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    losses = [network.train_batch(x, truth) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert np.abs(network.layers[1].scales).min() > 0


def test_one_channel_is_refused() -> None:
    plugins.load(LAYER)
    with pytest.raises(ConfigError, match=r"test.cfg:9  \[grn\] compares channels; its input has only one"):
        layer_checks.network("[grn]\n", (1, 4, 4))
