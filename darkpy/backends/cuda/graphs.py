"""Work that is the same every time, launched as one: CUDA graphs.

A pass over a network is hundreds of launches. Where batch and sizes stay the same they are recorded once and launched
together. What a graph holds on to: the arrays of the network, which are allocated once (when another lasting one is
allocated, graphs are recorded anew), and the memory that operations took for a moment, which is the graphs' own: in it
nothing outlives the operation it was taken for but the results.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable
from typing import Any

from darkpy.backends.base import Item
from darkpy.backends.cuda.capture import Capture, Executable, NotRepeatable
from darkpy.backends.cuda.device import Gpu
from darkpy.backends.cuda.memory import MemoryOperations
from darkpy.errors import OutOfMemory

LOG = logging.getLogger(__name__)

#: Graphs that are kept at a time; multi-scale training has about ten sizes.
MOST = 32


class Graph:
    """Recorded work with its result, valid while no lasting memory is allocated."""

    def __init__(self, gpu: Gpu, executable: Executable, result: Any, kept: list[Any], allocations: int) -> None:
        self.gpu = gpu
        self.executable = executable
        self.result = result
        self.kept = kept
        self.allocations = allocations

    def __del__(self) -> None:
        self.gpu.release(self.executable)


class GraphOperations(MemoryOperations):
    """Plain the first time, recorded the second, launched as one from then on; DARKPY_CUDA_GRAPHS=0: always plain."""

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        super().__init__(index, precision)
        self._with_graphs = os.environ.get("DARKPY_CUDA_GRAPHS") != "0"
        self._graphs: dict[Hashable, Graph | None] = {}
        self._plain: set[Hashable] = set()

    def repeated(self, key: Hashable, work: Callable[[], Item]) -> Item:
        """See :meth:`Backend.repeated`."""
        if not self._with_graphs or key in self._plain:
            return work()
        if key not in self._graphs:
            # The first time kernels are compiled, and memory grows.
            while len(self._graphs) >= MOST:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[key] = None
            return work()
        graph = self._graphs[key]
        if graph is None or graph.allocations != self.allocations:
            self._graphs[key] = None
            graph = self._recorded(key, work)
        if graph is None:
            return work()
        self._graphs[key] = graph
        graph.executable.launch(self.stream)
        result: Item = graph.result
        return result

    def differs(self, why: str) -> None:
        """See :meth:`Backend.differs`."""
        self.refuse_to_record(why)

    def _recorded(self, key: Hashable, work: Callable[[], Any]) -> Graph | None:
        """The work as a graph, not launched yet; None if it cannot be one now, or never."""
        allocations = self.allocations
        if self._pool is not None:
            self._pool.free_held()  # what a pass took from there the graph will have of its own
        self._capture = capture = Capture(self.stream)
        self.gpu.is_recorded = True
        try:
            capture.begin()
            try:
                result = work()
            except BaseException:
                capture.cancel()
                raise
            executable = capture.end()
        except (NotRepeatable, OutOfMemory, self._driver.Error) as error:
            LOG.debug("%s is launched one by one: %s", key, error)
            self._plain.add(key)
            return None
        finally:
            self._capture = None
            self.gpu.is_recorded = False
        if allocations != self.allocations:
            return None  # some of what it would use is gone
        return Graph(self.gpu, executable, result, capture.kept, allocations)
