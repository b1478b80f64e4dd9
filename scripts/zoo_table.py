"""Write docs/zoo.md, a table of the published network files: python scripts/zoo_table.py FOLDER [--darknet FOLDER].

For every cfg below FOLDER: its size and the memory it takes, which are computed; the time of a forward pass; that it
can be trained; and with ``--darknet`` how closely its numbers agree with those of Darknet's C code.

How it is measured:

- A training step is one update at the cfg's own input size, or the largest half, quarter, ... of it that fits into
  ``--memory``, with as few pictures as give every batch normalisation 8 values to look at, and two where views are
  compared. What is checked: :func:`train`. A cfg without a loss gets a [cost] behind its last layer. All parameters are
  random beforehand, none has a neutral starting value.
- The forward pass is that of one picture at the cfg's size. Its time is the smallest of several runs.
- Darknet gets the same cfg, the same parameters as a .weights file and the same input. Compared are the outputs of
  every layer, computed from what Darknet computed for the layers before, and those of the heads and the last layer,
  computed from the input; the differences are largest ones, and parts of their layer's largest value. (Layers with
  bin_output=1 are not compared: there Darknet leaves out the activation, since nobody asks for more than the sign.)
  The parameters are those before the training step, but with its statistics, so that the numbers are of ordinary size
  in every layer. Recurrent networks take two steps. Darknet works in a process of its own, since it ends the process
  when something is wrong; where it would take more than ``--memory`` the input is smaller.

Darknet's folder must hold the folder ``data`` and ``libdarknet.so``, built there with ``make LIBSO=1 OPENMP=1 AVX=0
OPTS=-O3``: the AVX code leaves values out of a maxpool with stride 1, and with -Ofast a logistic of large values is
NaN.

The table is written anew after every cfg. What a run does not measure stays as it is in the present table:
``--time-only`` leaves out the training steps and Darknet, ``--only`` all other cfgs, ``--missing`` those that have been
measured before.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np

from darkpy.backends.numpy.memory import usable_cores
from darkpy.config.cfg import Config, Entry, Section, read_cfg, write_cfg
from darkpy.errors import ConfigError
from darkpy.files import atomic_write
from darkpy.layers.base import Layer
from darkpy.layers.convolutional import ROLLING_MOMENTUM
from darkpy.layers.recurrent import RecurrentLayer
from darkpy.network import Network
from darkpy.parameters import Slot
from darkpy.summary import summarize
from darkpy.version import __version__

PAGE = Path(__file__).resolve().parents[1] / "docs" / "zoo.md"
SEED = 1
VALUES = 8  # of a channel, at least, for batch normalisation in training
LATER = 1500  # updates done before the one that is tried: burn_in and stopbackward=N are over
SAMPLED = 4096  # values of a parameter that are looked at before and after
TIMED_SECONDS = 2.0
TIMED_RUNS = 20
SHORTEST, LONGEST = 2, 32  # steps in time of a sequence that is tried, at the smallest size and otherwise
REASONS = {"parse_shortcut: Assertion": "its [shortcut] adds layers of one size only"}
"""Parts of what Darknet says last, in other words."""

FLOATS = ctypes.POINTER(ctypes.c_float)

DEFECTS = {"relu6": ("relu", " (relu in the place of relu6, which is 0 everywhere in Darknet's CPU code)")}
"""Words of a cfg that Darknet's CPU code gets wrong, another one to compare with, and what to say about it."""


Row = dict[str, str]
"""Cells of the table by column."""

# Making a network work ---------------------------------------------------------------------------------------------


def for_a_trial(config: Config, memory: int | None = None) -> Config:
    """The cfg for one training step, at an input size whose plan takes so many bytes, or at the smallest one.

    One picture is an update, or as many as give every batch normalisation enough values, or two where views of
    pictures are compared. Recurrent networks get sequences: of two steps in time at least, since in the first there is
    nothing to remember. A cfg without a loss gets one.
    """
    network = plan(config.with_net(batch=1, subdivisions=1, contrastive=0), training=True)
    width, height = smallest_size(network) if memory is None else fitting_size(network, memory, memory_of_training)
    is_recurrent = any(isinstance(layer, RecurrentLayer) for layer in network.layers)
    steps = min(max(network.options.time_steps, 1 + is_recurrent), SHORTEST if memory is None else LONGEST)
    config = config.with_net(
        batch=pictures_needed(network), subdivisions=1, sequential_subdivisions=1, time_steps=steps
    )
    if height > 1:
        config = config.with_net(width=width, height=height)
    if network.heads:
        return config
    return replace(config, layers=(*config.layers, Section("cost", config.layers[-1].line, (), config.path)))


def plan(config: Config, *, training: bool = False) -> Network:
    """The network without its memory."""
    return Network(config, training=training, keep_gradients=False, plan_only=True)


def smallest_size(network: Network) -> tuple[int, int]:
    """The smallest square input, in steps of 32, that leaves batch normalisation 2 x 2 values or more."""
    largest = network.width, network.height
    tried = sizes(network, range(32, min(largest), 32))
    return next((size for size in tried if fewest_values(network) >= 4), largest)


def fitting_size(network: Network, memory: int, needed: Callable[[Network], int]) -> tuple[int, int]:
    """The network's input size, or the largest half, quarter, ... of it that needs no more than so many bytes."""
    largest = network.width, network.height
    if needed(network) <= memory:
        return largest
    halves = sizes(network, (largest[0] // part for part in (2, 4, 8, 16)))
    return next((size for size in halves if needed(network) <= memory), largest)


def memory_of_training(network: Network) -> int:
    """Bytes that the training step takes."""
    return network.memory_plan(pictures_needed(network)).total


def sizes(network: Network, sides: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Those of the square sizes that the network can have; it has each of them in turn, and its own in the end."""
    own = network.width, network.height
    for side in sides:
        # A network resized keeps the share that it crops, a fresh one the size.
        if any(layer.name == "crop" for layer in network.layers):
            break
        with suppress(ConfigError):
            network.resize(side, side)
            yield side, side
    network.resize(*own)


def pictures_needed(network: Network) -> int:
    """Pictures of an update that batch normalisation and [contrastive] can do with."""
    views = 2 if any(layer.name == "contrastive" for layer in network.layers) else 1
    return max(views, -(-VALUES // fewest_values(network)))


def fewest_values(network: Network) -> int:
    """Values of a picture in the smallest channel that is normalised over the batch."""
    found = (layer.output_shape for layer in network.layers if is_normalized(layer))
    return min((height * width for _, height, width in filter(None, found)), default=VALUES)


def is_normalized(layer: Layer) -> bool:
    return layer.name == "batchnorm" or bool(getattr(layer.options, "batch_normalize", False))


def randomize(network: Network) -> None:
    """Give every parameter a random value, so that a network says something about each of them."""
    generator = np.random.default_rng(SEED)
    for layer in network.layers:
        for parameter in layer.parameters():
            kind = parameter.name.rpartition(".")[2]
            if kind in ("scales", "rolling_variance") or (kind == "weights" and not callable(parameter.initial)):
                values = generator.uniform(0.5, 1.5, parameter.shape)
            elif kind in ("biases", "rolling_mean"):
                values = generator.uniform(-0.1, 0.1, parameter.shape)
            else:
                continue  # random from the beginning
            network.parameters.write(layer, parameter.name, values)


def example_input(network: Network) -> np.ndarray:
    """Pictures, or sequences of them, of random pixels."""
    generator = np.random.default_rng(SEED)
    return generator.random((network.batch, *network.graph.input_shape), np.float32)


def example_truth(network: Network) -> list[np.ndarray] | np.ndarray:
    """Two objects in every picture, with an identity for [contrastive], or a class for every picture."""
    names = {head.name for head in network.heads}
    if names & {"yolo", "Gaussian_yolo", "region", "detection"}:
        objects = np.array([[0, 0.3, 0.4, 0.2, 0.3, 1], [0, 0.7, 0.6, 0.4, 0.5, 2]], np.float32)
        return [objects if "contrastive" in names else objects[:, :5]] * network.batch
    classes = int(np.prod(network.layers[-1].output_shape or ()))
    return np.eye(classes, dtype=np.float32)[np.arange(network.batch) % classes]


def train(network: Network) -> list[str]:
    """One update; returns what is wrong with it, which should be nothing.

    Every output must have its planned shape and be finite, so must the loss and all parameters after the update;
    parameters that the backward pass reaches must have a gradient and have changed, frozen ones not; and the input must
    be what it was.
    """
    x, truth = example_input(network), example_truth(network)
    x_before, before = x.copy(), [sample(network, slot).copy() for slot in network.parameters.slots]
    network.seen = LATER * network.options.batch
    loss = network.train_batch(x, truth)
    wrong = [] if np.isfinite(loss) else [f"the loss is {loss}"]
    wrong += ["the input was changed"] * (not np.array_equal(x, x_before))
    wrong += ["a parameter is not finite"] * (not network.backend.is_finite(network.parameters.values))
    for layer in network.layers:
        output = np.asarray(layer.output)
        if output.shape != (network.batch, *(layer.output_shape or ())) or not np.isfinite(output).all():
            wrong.append(f"layer {layer.index} [{layer.name}] has an output of {output.shape}, or one not finite")
    for slot, values in zip(network.parameters.slots, before):
        has_changed = not np.array_equal(sample(network, slot), values)
        has_gradient = network.parameters.gradients[slot.start : slot.stop].any()
        is_reached = slot.layer.grad_output is not None
        if (is_reached and not (has_changed and has_gradient)) or (slot.layer.frozen and has_changed):
            change = "has changed" if has_changed else "has not changed"
            wrong.append(f"layer {slot.layer.index} [{slot.layer.name}] {slot.parameter.name} {change}")
    return wrong


def sample(network: Network, slot: Slot) -> np.ndarray:
    """Some values of a parameter, from its whole length."""
    part: np.ndarray = network.parameters.values[slot.start : slot.stop : 1 + (slot.stop - slot.start) // SAMPLED]
    return part


def keep_statistics(network: Network, before: np.ndarray) -> None:
    """Let the rolling statistics make inference produce numbers of the size that training produced.

    They were ``before``, and took a tenth of the batch's. The mean becomes what it was, not the batch's, and the
    variance is taken about that: else all that the pictures have in common would be subtracted, and the rounding of
    hundreds of layers magnified to the size of the rest. Where several batches went in, as in the steps of a sequence,
    all stays as it was.
    """
    statistics = network.parameters.statistics
    change = (statistics - before) / ROLLING_MOMENTUM
    statistics[:] = before
    several_times = [layer.parameters_of for layer in network.layers]
    slots = {(slot.layer.index, slot.parameter.name): slot for slot in network.parameters.statistic_slots}
    for (index, name), slot in slots.items():
        if name == "rolling_variance" and slot.layer not in several_times:
            mean = slots[index, "rolling_mean"]
            statistics[slot.start : slot.stop] += change[slot.start : slot.stop] + change[mean.start : mean.stop] ** 2


# Measuring ---------------------------------------------------------------------------------------------------------


def try_training(config: Config, memory: int) -> tuple[str, list[str], np.ndarray]:
    """One update: at what size and with how many pictures, what is wrong, and the statistics of the pictures."""
    network = Network(for_a_trial(config, memory), training=True, keep_gradients=False, seed=SEED)
    randomize(network)
    before = network.parameters.statistics.copy()
    wrong = train(network)
    keep_statistics(network, before)
    steps = f" x {network.graph.time_steps} steps" if network.graph.time_steps > 1 else ""
    pictures = network.batch // network.graph.time_steps
    return f"{input_size(network.graph.input_shape)} x {pictures}{steps}", wrong, network.parameters.statistics


def forward_milliseconds(config: Config) -> float:
    """Time of the forward pass of one picture, the smallest of several."""
    network = Network(config, seed=SEED)
    randomize(network)
    x = example_input(network)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < TIMED_SECONDS and len(times) < TIMED_RUNS):
        started = time.perf_counter()
        network.forward(x)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def compare(config: Config, statistics: np.ndarray, library: Path, memory: int) -> Row:
    """The cells that tell how the outputs differ from Darknet's."""
    config, remark = without_defects(config)
    network = plan(config)
    own_size = network.width, network.height
    width, height = fitting_size(network, memory, memory_of_darknet)
    if (width, height) != own_size:
        config = config.with_net(width=width, height=height)
        remark += f" at {width}x{height}"
    network = Network(config, seed=SEED)
    randomize(network)
    network.parameters.statistics[:] = statistics
    x = example_input(network)
    passes = 2 if network.memories() else 1
    for _ in range(passes):
        network.forward(x)
    with_output = [layer for layer in network.layers if layer.name != "cost"]
    layers = [layer for layer in with_output if not layer.is_identity(False)]
    heads = {layer.index: np.array(layer.output) for layer in layers if layer.is_head or layer is layers[-1]}
    with tempfile.TemporaryDirectory() as folder:
        network.save_weights(Path(folder, "net.weights"))
        given, result = loadable(config, network, with_output[-1].index)
        write_cfg(given, Path(folder, "net.cfg"))
        job = Job(library, Path(folder), x, passes, result, [(layer.index, layer.outputs) for layer in layers])
        try:
            with outputs_of_darknet(job) as theirs:
                comparison = Comparison(heads, theirs)
                comparison.run(network, layers, x, passes)
        except ChildProcessError as error:
            return {"compared": str(error), "layer": "", "absolute": "", "relative": ""}
    return {
        "compared": f"{len(layers)} layers{remark}",
        "layer": f"{comparison.layer:.1e}",
        "absolute": f"{comparison.absolute:.1e}",
        "relative": f"{comparison.relative:.1e}",
    }


class Comparison:
    """Differences from Darknet's outputs, which come in the order of the layers.

    ``layer``: of any layer's output computed from Darknet's outputs, as a part of its largest value. ``absolute`` and
    ``relative``: of the heads' outputs computed from the input, and the same as a part of the largest value.
    """

    def __init__(self, heads: dict[int, np.ndarray], theirs: Iterator[np.ndarray]) -> None:
        self.heads = heads
        self.theirs = theirs
        self.layer = self.absolute = self.relative = 0.0

    def run(self, network: Network, layers: Sequence[Layer], x: np.ndarray, passes: int) -> None:
        """The last pass once more, with every layer's output replaced by Darknet's as soon as it has been compared."""
        network.reset_state()
        for _ in range(passes - 1):
            network.forward(x)
        for layer in layers:
            watched: Any = layer
            watched.forward = partial(self.forward, layer, layer.forward)
        network.forward(x)

    def forward(self, layer: Layer, forward: Callable[..., None], *inputs: np.ndarray, training: bool) -> None:
        """In the place of the layer's own method."""
        forward(*inputs, training=training)
        theirs = next(self.theirs).reshape(layer.output.shape)
        largest = max(float(np.abs(theirs).max()), 1e-30)
        if layer.section.get("bin_output") is None:
            self.layer = max(self.layer, float(np.abs(layer.output - theirs).max()) / largest)
        if layer.index in self.heads:
            difference = float(np.abs(self.heads[layer.index] - theirs).max())
            self.absolute, self.relative = max(self.absolute, difference), max(self.relative, difference / largest)
        np.copyto(layer.output, theirs)


def memory_of_darknet(network: Network) -> int:
    """Bytes that Darknet takes for one picture: for each layer its output, and often the same before the activation."""
    needed = network.memory_plan()
    return 2 * needed.separate + 2 * needed.parameters


def without_defects(config: Config) -> tuple[Config, str]:
    """The cfg without the words that Darknet gets wrong, and what to say about it."""
    remark = ""
    layers = list(config.layers)
    for number, section in enumerate(layers):
        entry = section.get("activation")
        if entry is not None and entry.value in DEFECTS:
            instead, remark = DEFECTS[entry.value]
            entries = tuple(replace(e, value=instead) if e is entry else e for e in section.entries)
            layers[number] = replace(section, entries=entries)
    return replace(config, layers=tuple(layers)), remark


def loadable(config: Config, network: Network, last: int) -> tuple[Config, int]:
    """The cfg for Darknet, and which layer's output is its result.

    Darknet divides by the number of layers with a wide input, and is ended by that where there are none. There it gets
    more layers, at the end, which enlarge a layer's output without changing it.
    """
    if any(height * width > 1 for layer in network.layers for _, height, width in layer.input_shapes):
        return config, last
    kept = config.layers[: last + 1]
    line, source = kept[-1].line, max(i for i, section in enumerate(kept) if section.name == "connected")
    route = Section("route", line, (Entry("layers", str(source), line),), config.path)
    enlarged = Section("upsample", line, (), config.path)
    return replace(config, layers=(*kept, route, enlarged, enlarged)), last + 3


# Darknet -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What Darknet is to compute: ``net.cfg`` and ``net.weights`` of a folder, so many times in a row.

    ``last``: the layer whose output is the network's. ``layers``: those wanted, with their number of values.
    """

    library: Path
    folder: Path
    x: np.ndarray
    passes: int
    last: int
    layers: list[tuple[int, int]]


@contextmanager
def outputs_of_darknet(job: Job) -> Iterator[Iterator[np.ndarray]]:
    """One output after the other, from a process of its own. ChildProcessError says why there are none."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_darknet, args=(job, sender))
    process.start()
    sender.close()
    try:
        yield (receiver.recv() for _ in job.layers)
    except EOFError:
        process.join()
        lines = (job.folder / "darknet.log").read_text(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        reason = next((REASONS[part] for part in REASONS if part in last), last)
        raise ChildProcessError(f"no: Darknet ended with status {process.exitcode}: {reason}") from None
    process.join()


def run_darknet(job: Job, sender: Connection) -> None:
    """Load, compute, send; what Darknet prints goes to a file."""
    with (job.folder / "darknet.log").open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    darknet = Darknet(job.library / "libdarknet.so", job.folder / "net.cfg", job.folder / "net.weights")
    for _ in range(job.passes):
        result = darknet.predict(job.x)
    for output in darknet.outputs(job.layers, job.last, result):
        sender.send(output)


class Darknet:
    """A network in Darknet's library, through the functions that it exports; for one picture at inference."""

    def __init__(self, library: Path, cfg: Path, weights: Path) -> None:
        self.functions = ctypes.CDLL(str(library))
        for name in ("load_network_custom", "network_predict_ptr", "get_network_layer"):
            getattr(self.functions, name).restype = ctypes.c_void_p
        ctypes.c_int.in_dll(self.functions, "gpu_index").value = -1  # as Darknet's program does without a GPU
        clear, pictures = 0, 1
        loaded = self.functions.load_network_custom(str(cfg).encode(), str(weights).encode(), clear, pictures)
        self.network = ctypes.c_void_p(loaded)
        self._pack_signs()

    def _pack_signs(self) -> None:
        """Prepare layers with xnor=1, as Darknet's program does; the function takes the struct itself."""
        libc = ctypes.CDLL(None)
        libc.malloc_usable_size.restype = ctypes.c_size_t
        size = libc.malloc_usable_size(self.network)
        struct = type("Network", (ctypes.Structure,), {"_fields_": [("content", ctypes.c_char * size)]})
        self.functions.calculate_binary_weights(struct.from_address(self.network.value))

    def predict(self, x: np.ndarray) -> int:
        """Run all layers; the address of the last one's output."""
        address: int = self.functions.network_predict_ptr(self.network, x.ctypes.data_as(FLOATS))
        return address

    def outputs(self, layers: Sequence[tuple[int, int]], last: int, result: int) -> Iterator[np.ndarray]:
        """So many values of each layer's output.

        Where a layer keeps the address of its output is found in the ``last`` one, where that is ``result``.
        """
        size = self.layer(1) - self.layer(0)
        words = np.frombuffer(ctypes.string_at(self.layer(last), size), np.uint64)
        offset = 8 * int(np.flatnonzero(words == result)[0])
        for index, count in layers:
            yield floats(ctypes.c_uint64.from_address(self.layer(index) + offset).value, count)

    def layer(self, index: int) -> int:
        """The address of a layer."""
        address: int = self.functions.get_network_layer(self.network, index)
        return address


def floats(address: int, count: int) -> np.ndarray:
    return np.ctypeslib.as_array(ctypes.cast(address, FLOATS), (count,)).copy()


# The page ----------------------------------------------------------------------------------------------------------

COLUMNS = {
    "network": "network",
    "input": "input",
    "parameters": "parameters, M",
    "operations": "BFLOPs",
    "inference": "inference, MB",
    "training": "training, MB",
    "pictures": "mini-batch",
    "forward": "forward, ms",
    "trained": "trained at",
    "compared": "compared with Darknet",
    "layer": "one layer",
    "absolute": "heads, absolute",
    "relative": "heads, relative",
}
MEASURED = ("forward", "trained", "compared", "layer", "absolute", "relative")
STAMPS = {"forward": "Forward passes", "trained": "Training steps", "compared": "Comparison"}

HEADER = """\
# The published networks

<!-- Written by scripts/zoo_table.py, which explains how it is measured; changes made here are lost. -->

The network files that come with Darknet (AlexeyAB's, revision 59596d78), each as it is. Parameters include running
statistics. BFLOPs are counted as Darknet does, for one picture. Memory is what darkpy plans and takes: at inference for
one picture, in training for the cfg's own mini-batch, which is batch / subdivisions, times `time_steps`. The forward
pass is that of one picture at the cfg's size. "Trained at" is the input size and the number of pictures of an update
that was tried: loss, outputs and parameters finite, everything that should learn changed. The comparison is at the
cfg's size, unless another is named, with the same random parameters and input: "one layer" is the largest difference of
any layer's output when its inputs are Darknet's own, as a part of its largest value; "heads" is the largest difference
of the heads' and the last layer's outputs, into which the rounding of all layers has gone. That is more where random
parameters let the numbers grow (yolov7x), and where the sign of a number near 0 is all that counts (xnor).

"""

def computed(path: Path, name: str) -> Row:
    """The cells that need no measuring."""
    found = summarize(path)
    pictures = str(found.training.batch) if found.training else ""
    return {
        "network": name,
        "input": input_size(found.input_shape),
        "parameters": f"{found.parameters / 1e6:.2f}",
        "operations": f"{found.operations / 1e9:.2f}",
        "inference": f"{found.inference.total / 1e6:,.0f}",
        "training": f"{found.training.total / 1e6:,.0f}" if found.training else "no loss",
        "pictures": pictures,
    }


def input_size(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{width}x{height}" if height > 1 else f"{channels} values"


def write(rows: dict[str, Row], stamps: dict[str, str]) -> None:
    """The whole page."""
    lines = [f"{title}: {stamps[key]}\n" for key, title in STAMPS.items() if key in stamps]
    lines.append("| " + " | ".join(COLUMNS.values()) + " |")
    lines.append("|" + "---|" * len(COLUMNS))
    lines += ["| " + " | ".join(rows[name].get(key, "") for key in COLUMNS) + " |" for name in sorted(rows)]
    with atomic_write(PAGE, "w") as file:
        file.write(HEADER + "\n".join(lines) + "\n")


def read() -> tuple[dict[str, Row], dict[str, str]]:
    """Rows by network and stamps of the present page."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    lines = text.splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    rows = {cells[0]: dict(zip(COLUMNS, cells)) for cells in table[1:]}
    stamps = {
        key: line.partition(": ")[2]
        for key, title in STAMPS.items()
        for line in lines
        if line.startswith(f"{title}: ")
    }
    return rows, stamps


def machine() -> str:
    """When and where."""
    versions = f"darkpy {__version__}, NumPy {version('numpy')}, Numba {version('numba')}"
    where = f"{cpu_model()}, {usable_cores()} cores"
    return f"{date.today()}, {where}, {versions}, Python {platform.python_version()}."


def cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    models = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
    return next(models, platform.machine())


# The command -------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--darknet", type=click.Path(path_type=Path, exists=True), help="Folder with libdarknet.so and data/.")
@click.option("--time-only", is_flag=True, help="Forward passes only.")
@click.option("--only", "patterns", multiple=True, metavar="PATTERN", help="Only these cfgs, such as 'yolov4*'.")
@click.option("--missing", is_flag=True, help="Only cfgs that have not been measured yet.")
@click.option("--memory", default=6.0, show_default=True, help="GB that a training step may take.")
def main(
    folder: Path, darknet: Path | None, time_only: bool, patterns: tuple[str, ...], missing: bool, memory: float
) -> None:
    """Measure the cfgs below FOLDER and write docs/zoo.md."""
    paths = {str(path.relative_to(folder)): path.resolve() for path in folder.rglob("*.cfg")}
    if darknet is not None:
        darknet = darknet.resolve()
        os.chdir(darknet)  # the files of classes in data/ are found from there
    old, stamps = read()
    rows = {name: computed(path, name) for name, path in paths.items()}
    for name, row in rows.items():
        row.update({key: old.get(name, {}).get(key, "") for key in MEASURED})
    chosen = [name for name in sorted(paths) if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]
    wanted = ["forward"] if time_only else ["forward", "trained", *(["compared"] if darknet else [])]
    if missing:
        chosen = [name for name in chosen if not all(rows[name][key] for key in wanted)]
    stamps |= {key: machine() for key in wanted}
    failed = []
    for name in chosen:
        found, wrong = measured(paths[name], time_only, darknet, int(1e9 * memory))
        rows[name].update(found)
        write(rows, stamps)
        click.echo(f"{name:45}" + "  ".join(found.values()))
        for line in wrong:
            click.echo(f"    {line}")
        failed += [name] * bool(wrong)
    write(rows, stamps)
    click.echo(f"wrote {PAGE}")
    if failed:
        raise click.ClickException(f"no proper training step: {', '.join(failed)}")


def measured(path: Path, time_only: bool, darknet: Path | None, memory: int) -> tuple[Row, list[str]]:
    """The cells that this run measures, and what is wrong with the training step."""
    config = read_cfg(path)
    row, wrong = {"forward": f"{forward_milliseconds(config):,.1f}"}, []
    if not time_only:
        row["trained"], wrong, statistics = try_training(config, memory)
        if darknet is not None:
            row |= compare(config, statistics, darknet, memory)
    return row, wrong


if __name__ == "__main__":
    main()
