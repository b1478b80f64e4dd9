"""The contract of a backend, continued: arrays, copies, pictures, and what passes run inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.backends.journal import Journal
from darkpy.backends.loss_scale import LossScale, LossScaleRule

if TYPE_CHECKING:
    from darkpy.backends.base_words import Array, Item


class MemoryContract(ABC):
    """What every backend does with arrays, whatever is computed."""

    #: "numpy", "numba", ...
    name: str
    #: The backend's float type (numpy dtype).
    dtype: Any
    #: The type of outputs of layers and their gradients: ``dtype``, or one of 16 bits, see backends/precision.py.
    activation_dtype: Any
    #: One of :data:`darkpy.backends.precision.PRECISIONS`.
    precision: str = "fp32"
    #: How many threads the backend uses.
    threads: int
    #: What the user waits for at the first use on this machine; None afterwards.
    first_use: str | None = None
    #: Whether :meth:`pictures` had better be given uint8, channels last in memory, where there are such.
    bytes_preferred: bool = False
    #: What :meth:`set_clock` was told last.
    clock: int = 0
    #: What :meth:`set_progress` was told last.
    progress: float = 0.0

    # --- memory

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """A new array with arbitrary contents; ``dtype`` defaults to the backend's float type."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """A new array of zeros; ``dtype`` defaults to the backend's float type."""

    @abstractmethod
    def asarray(self, host: Any, dtype: Any = None) -> Array:
        """The array ``host`` on the device: floats in ``dtype``, by default the backend's float type; others unchanged.

        May share memory with ``host``.
        """

    @abstractmethod
    def to_host(self, array: Array) -> Any:
        """The array as a numpy array; may share memory with it."""

    @abstractmethod
    def copy(self, source: Array, out: Array) -> None:
        """``out = source``, element by element; ``source`` may also be a host array.

        Floats of one type become those of another if one of both is of the backend's float type; so they do in
        :meth:`add`, :meth:`copy_channels` and :meth:`scaled_copy`.
        """

    @abstractmethod
    def fill(self, array: Array, value: float) -> None:
        """Set every element to ``value``."""

    @abstractmethod
    def add(self, source: Array, out: Array) -> None:
        """``out += source``."""

    @abstractmethod
    def is_finite(self, array: Array) -> bool:
        """Whether no element is NaN or infinite."""

    def journal(self) -> Journal:
        """Where the losses of an update are written down, and whether all of it was finite."""
        return Journal(self)

    def loss_scale(self, rule: LossScaleRule) -> LossScale:
        """A factor on gradients that are not of the backend's float type; without such gradients, none."""
        return LossScale()

    @abstractmethod
    def set_workspace(self, nbytes: int) -> None:
        """Make the workspace at least ``nbytes`` big. Without it, operations let it grow as they need."""

    def pictures(self, x: np.ndarray) -> Array:
        """Pictures (n, c, h, w) as a network's input, where the backend computes; uint8 are divided by 255.

        The result is written over by the next call, and may share memory with ``x``. A device may fetch ``x`` while the
        host goes on: if it lies in :meth:`picture_memory`, it stays as it is until :meth:`pictures_taken`.
        """
        values = np.divide(x, 255, dtype=self.dtype) if x.dtype == np.uint8 else np.asarray(x, self.dtype)
        return self.asarray(np.ascontiguousarray(values), self.activation_dtype)

    def pictures_taken(self) -> None:
        """Wait until nobody reads what :meth:`pictures` was given last."""
        return

    def picture_memory(self, nbytes: int) -> np.ndarray:
        """Host memory, flat uint8, from which pictures come to the device fastest."""
        return np.empty(nbytes, np.uint8)

    def own_memory(self, input_values: int, parameters: int, pictures: int = 0) -> int:
        """Bytes of the device's memory that the backend takes for itself, for inputs of so many numbers.

        pictures: how many of any size may be given to :meth:`PictureFitting.fitted_pictures` at a time.
        """
        return 0

    def use_parameters(self, values: Array) -> None:
        """Before each forward pass: the vector of all parameters, which do not change until the backward pass is done.

        Weights that operations are given are views of it or arrays of their own; a backend may copy it as a whole where
        it would else copy them one by one.
        """
        return

    def free_memory(self) -> int | None:
        """Bytes left of the device's own memory; None where arrays lie in the system's."""
        return None

    def channel_views(self, batch: int) -> int:
        """Which views ``x[:, a:b]`` of ``batch`` pictures every operation takes, to read and to write; 0: none.

        Otherwise a, and the channels of the whole, are multiples of this number. Of one picture it is always 1, since
        such a view has no gaps.
        """
        return 1 if batch == 1 else 0

    @property
    @abstractmethod
    def workspace(self) -> Array:
        """The flat uint8 array that every operation uses for its intermediate results."""

    @abstractmethod
    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """Call ``function(item)`` for every item on the backend's threads; returns when all are done.

        The first exception raised by a call is raised here. Calls must not use the workspace.
        """

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """What a network's passes run inside; a backend may set up threads or streams for that time."""

    def repeated(self, key: Hashable, work: Callable[[], Item]) -> Item:
        """Do ``work`` and return its result.

        Whenever the key is the same, so is the work: the same operations on the same arrays with the same numbers, only
        that the arrays' contents, :meth:`set_clock` and :meth:`set_progress` may be others. A device may remember what
        was launched and do it again without calling ``work``; the result is then that of the call it remembers.
        """
        return work()

    def rehearsed(self, work: Iterable[Callable[[], Any]]) -> int:
        """Bytes of a device's memory that the calls take at most, beside arrays and workspace.

        What they return is kept until the last one. Nothing is computed, and the backend is afterwards as before.
        """
        return 0

    def differs(self, why: str) -> None:
        """What is being done by :meth:`repeated` is other work every time, and cannot be remembered."""
        return

    def set_clock(self, time: int) -> None:
        """Tell :meth:`uniform` what time it is; any number that is not negative."""
        self.clock = time

    def set_progress(self, progress: float) -> None:
        """Tell :meth:`drop_blocks` how much of the training is done, 0..1."""
        self.progress = progress

    @abstractmethod
    def uniform(self, seed: int, place: int, out: Array) -> None:
        """Fill ``out`` with numbers uniform in [0, 1) that depend on the seed, the clock and the place only."""


class PictureFitting(ABC):
    """What a backend may do besides: resize pictures where it computes. Else the host does, in data/pictures.py."""

    @abstractmethod
    def fitted_pictures(
        self, images: Sequence[np.ndarray], frames: Sequence[tuple[int, int, int, int]], height: int, width: int
    ) -> Array:
        """A network's input, as :meth:`pictures` gives it, of uint8 pictures (h, w, c) of any size.

        frames: left, top, width and height of the part of the input that each is resized to; the rest is 0.5. Number
        for number what :func:`darkpy.data.pictures.network_input` makes.
        """
