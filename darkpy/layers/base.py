"""The contract every layer keeps, and the registry that finds a layer by its section name.

A layer is one file: a class with

- ``Options``: its cfg keys, a frozen dataclass of :func:`~darkpy.config.options.option` fields;
- ``shape(*inputs)``: the output shape, reporting impossible requests with :meth:`Layer.problem`;
- ``parameters()`` and ``buffers()``: what it needs, declared before anything is allocated;
- ``forward`` and ``backward``: its arithmetic, done only through ``self.backend``.

Shapes are ``(channels, height, width)`` without the batch; arrays are ``(batch, channels, height, width)``.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from darkpy.backends.journal import cost_of, known
from darkpy.config.options import CommonOptions
from darkpy.errors import Problem

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.cfg import Section

Shape = tuple[int, int, int]
Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

NETWORK_INPUT = -1
"""Index by which a layer names the network's input as its source."""


@dataclass(frozen=True)
class Parameter:
    """An array a layer keeps: learned (``trained``) or a running statistic.

    ``initial`` is a constant or a function of (generator, shape). Only parameters with ``decay`` shrink by weight
    decay: weights do, biases and batch-norm scales do not.
    """

    name: str
    shape: tuple[int, ...]
    initial: float | Initializer = 0.0
    decay: bool = False
    trained: bool = True

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Buffer:
    """Working memory of a layer, planned by the network; without ``dtype`` of the type of the outputs of layers.

    ``saved`` buffers are written by forward and read by backward; ``scratch`` ones live only within one call of
    the passes named in ``during``. A ``lasting`` one is the layer's memory from one forward pass to the next, zero at
    first. Of a buffer for a part of the layer the name begins with the part's: ``wf.mean``.
    """

    shape: tuple[int, ...]
    dtype: Any = None
    scratch: bool = False
    during: tuple[str, ...] = ("forward", "backward")
    lasting: bool = False


@dataclass(frozen=True)
class Part:
    """Some neighbouring channels of an array."""

    first: int
    channels: int


@dataclass
class Graph:
    """What a layer may know of its surroundings while it is built: the layers before it and a place for problems.

    ``time_steps``: of the pictures of one pass, so many at a time follow each other; the first of every sequence come
    first, then the second of every sequence, and so on.
    """

    backend: Backend
    input_shape: Shape
    layers: list[Layer | None] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    net_options: Any = None
    seed: int = 0
    time_steps: int = 1
    _seen: int = 0
    _progress: float = 0.0
    _mini_batch: int = 1
    _truths: dict[Hashable, tuple[int, Any]] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Pictures seen in training. A layer that asks for them does something else at every pass."""
        self.backend.differs("it depends on the pictures seen")
        return self._seen

    @seen.setter
    def seen(self, seen: int) -> None:
        self._seen = seen
        self.backend.set_clock(seen)

    @property
    def progress(self) -> float:
        """How much of the training is done, 0..1. A layer that asks for it does something else at every pass."""
        self.backend.differs("it depends on the progress of the training")
        return self._progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self._progress = progress
        self.backend.set_progress(progress)

    def begin_truth(self) -> None:
        """What heads are told from now on is of another mini-batch."""
        self._mini_batch += 1

    def forget_truth(self) -> None:
        """Whatever the truth was brought to is not to be used again."""
        self._truths.clear()

    def shared_truth(self, kind: Hashable, make: Callable[[Any], Any]) -> Any:
        """The truth of a mini-batch as some heads need it, made by the first one of this ``kind`` that asks for it.

        ``make`` is given what it has made of another mini-batch, or None.
        """
        mini_batch, made = self._truths.get(kind, (0, None))
        if mini_batch != self._mini_batch:
            made = make(made)
            self._truths[kind] = self._mini_batch, made
        return made

    def shape_of(self, index: int) -> Shape | None:
        """Output shape of an earlier layer, the network's input for -1, None where that layer is itself at fault."""
        if index == NETWORK_INPUT:
            return self.input_shape
        layer = self.layers[index]
        return None if layer is None else layer.output_shape


class Layer(ABC):
    """One section of a cfg: its options, shapes, parameters and arithmetic."""

    names: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[CommonOptions]]
    is_head: ClassVar[bool] = False

    output: Any = None
    grad_output: Any = None
    accumulate: Sequence[bool] = ()
    in_place: Sequence[bool] = ()
    """Of a layer with :meth:`channel_parts`: which of them lie in the output already, as views of the same memory.

    Of one that :meth:`may_overwrite` its first input, whether it does."""
    gradients_in_place: Sequence[bool] = ()
    """Which sources have their share of the gradient already, in the same way."""
    residual: tuple[Any, str] | None = None
    """At inference, an array to be added to the layer's result, and the activation of the sum."""
    is_done_before: bool = False
    """At inference, whether the layer before has done this one's work."""
    frozen: bool = False
    is_updated: bool = True
    held_until: int = 0
    truth: Any = None
    loss_parts: Any = None
    """Of a head: what the last loss that was read was made of, a LossParts, if it has parts."""
    parameters_of: Layer | None = None
    """An earlier layer whose parameters this one uses as its own; then :meth:`parameters` is empty."""

    def __init__(self, options: Any, section: Section, index: int, graph: Graph) -> None:
        self.options = options
        self.section = section
        self.index = index
        self.graph = graph
        self.backend = graph.backend
        self.output_shape: Shape | None = None
        before = len(graph.problems)
        self.sources = self.find_sources()
        if len(graph.problems) == before:
            self.infer_shape()

    def infer_shape(self) -> None:
        """Set ``input_shapes`` and ``output_shape`` from the shapes of the sources as they are now."""
        shapes = [self.graph.shape_of(source) for source in self.sources]
        if any(shape is None for shape in shapes):
            self.output_shape = None
            return
        self.input_shapes: list[Shape] = [shape for shape in shapes if shape is not None]
        before = len(self.graph.problems)
        shape = self.shape(*self.input_shapes)
        self.output_shape = shape if len(self.graph.problems) == before else None

    if TYPE_CHECKING:
        # Parameters, their gradients and buffers become attributes when the network gives them their memory.
        def __getattr__(self, name: str) -> Any: ...

    @property
    def outputs(self) -> int:
        """Number of output values of one picture."""
        assert self.output_shape is not None
        return int(np.prod(self.output_shape))

    @property
    def loss_dtype(self) -> Any:
        """Type of the output and its gradient where a loss is computed from them, the backend's float type; else None.

        None stands for the type of the outputs of layers; a head that passes its input on has that for its output.
        """
        return self.backend.dtype if self.is_head else None

    # What a layer says about itself ---------------------------------------------------------------------------

    def find_sources(self) -> list[int]:
        """Indices of the layers this one reads; by default the layer before."""
        return [self.index - 1]

    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for these input shapes; by default that of the first input."""
        return inputs[0]

    def parameters(self) -> list[Parameter]:
        """Arrays the layer keeps, in the order of a .weights file."""
        return []

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """Working arrays by attribute name; shapes include the batch."""
        return {}

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend needs for this layer's operations."""
        return 0

    def is_identity(self, training: bool) -> bool:
        """Whether the output is the first input unchanged, so that both share one buffer."""
        return False

    def channel_parts(self) -> list[Part] | None:
        """If the output is nothing but channels of the sources side by side: which of each; else None."""
        return None

    def may_overwrite(self) -> bool:
        """Whether at inference the output may take the place of the first input, which it has the shape of."""
        return False

    def passes_gradient(self) -> bool:
        """Whether the first input's share of the gradient is the gradient of the output as it is."""
        return False

    def adds_residual(self) -> bool:
        """Whether at inference the layer can do what a [shortcut] behind it does: see ``residual``."""
        return False

    def operations(self) -> float:
        """Floating point operations of one forward pass of one picture, counted as Darknet's BFLOPs."""
        return 0.0

    def receptive_step(self) -> tuple[float, float]:
        """Window side and stride by which this layer widens the receptive field."""
        return 1.0, 1.0

    def describe(self) -> str:
        """Short text for the layer table, such as ``3x3/2``."""
        return ""

    def channel_names(self, classes: Sequence[str]) -> list[str]:
        """What each channel of the output stands for, where that is known. classes: the names of the classes."""
        return []

    # Arithmetic ------------------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, *inputs: Any, training: bool) -> None:
        """Compute ``self.output`` from the inputs, saving what backward needs when training."""

    @abstractmethod
    def backward(self, grad_output: Any, *grad_inputs: Any) -> None:
        """Add to the parameter gradients and hand on the gradients of the inputs.

        ``grad_inputs[i]`` is None where nobody needs it; otherwise it is overwritten, or added to where
        ``self.accumulate[i]`` says that another layer has already put its share there.
        """

    # Heads -----------------------------------------------------------------------------------------------------

    def expect(self, truth: Any) -> None:
        """Take the truth for the next :meth:`compare` of a head, and bring it to where the backend computes."""
        self.truth = truth

    def compare(self) -> Any:
        """Compare the last output with what is expected; the gradient is left in ``grad_output``.

        Returns Darknet's cost, summed over the pictures, or the :class:`~darkpy.backends.base_yolo.LossParts` that have
        it, or either of them :class:`~darkpy.backends.journal.Pending`.
        """
        return self.loss(self.truth)

    def loss(self, truth: Any) -> float:
        """Both at once: the cost, waited for. A head defines this, or :meth:`expect` and :meth:`compare`.

        With only this, the host waits for the device at every mini-batch.
        """
        self.expect(truth)
        return cost_of(known(self.compare()))

    def keep_truth(self, truth: np.ndarray) -> None:
        """Bring an array of truth to where the backend computes, in place of the former one if that has its shape."""
        if self.truth is None or tuple(self.truth.shape) != truth.shape:
            self.truth = self.backend.empty(truth.shape)
        self.backend.copy(truth, self.truth)

    # Help for subclasses ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The canonical section name."""
        return self.names[0]

    def problem(self, key: str, message: str) -> None:
        """Report something impossible at the line of ``key``, or of the section where the key is not written."""
        self.graph.problems.append(Problem(self.where(key), f"[{self.section.name}] {message}"))

    def warning(self, key: str, message: str) -> None:
        """Report something that is possible and probably not what is wanted, at the line of ``key``."""
        self.graph.warnings.append(Problem(self.where(key), f"[{self.section.name}] {message}"))

    def where(self, key: str = "") -> str:
        """``file:line`` of an option, or of the section itself."""
        entry = self.section.get(key) if key else None
        return f"{self.section.file}:{entry.line if entry is not None else self.section.line}"

    def resolve(self, value: int, key: str) -> int | None:
        """Absolute index of a layer named in the cfg (negative values count back from here)."""
        index = self.index + value if value < 0 else value
        if 0 <= index < self.index:
            return index
        reach = f"0 to {self.index - 1}, or -{self.index} to -1" if self.index else "none: it is the first layer"
        self.problem(key, f"{key}={value} names a missing layer; this is layer {self.index}, it can read {reach}")
        return None


def uniform_fan_in(fan_in: int) -> Initializer:
    """Uniform weights in ±sqrt(2 / fan_in), as Darknet starts its convolutions and connected layers."""
    limit = np.sqrt(2.0 / fan_in)
    return lambda generator, shape: generator.uniform(-limit, limit, shape)


_REGISTRY: dict[str, type[Layer]] = {}
LayerType = TypeVar("LayerType", bound=type[Layer])


def register(*names: str) -> Callable[[LayerType], LayerType]:
    """Class decorator: make a layer known under its section names, the first being the canonical one."""

    def add(cls: LayerType) -> LayerType:
        cls.names = names
        for name in names:
            if name in _REGISTRY:
                raise ValueError(f"[{name}] is registered twice")
            _REGISTRY[name] = cls
        return cls

    return add


def registered() -> dict[str, type[Layer]]:
    """Every known section name, aliases included, and its layer class; imports all modules of this package."""
    package = importlib.import_module("darkpy.layers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"darkpy.layers.{module.name}")
    return dict(sorted(_REGISTRY.items()))
