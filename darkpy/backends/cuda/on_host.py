"""Operations without kernels: the CPU's backend does them, on copies.

Those of old or rare sections. Each waits for the device, takes the arrays to the host in the order of their axes, and
brings back what it has written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from darkpy.backends.base import Backend
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.memory import MemoryOperations
from darkpy.backends.precision import is_float

#: The operations, each with the one or more arguments that it writes.
WRITTEN: dict[str, tuple[str, ...]] = {
    "detection_boxes": (),
    "detection_forward": ("out",),
    "detection_loss": ("grad",),
}


class HostBackend(MemoryOperations):
    """The CPU's backend beside the device's."""

    @cached_property
    def host(self) -> Backend:
        """Made when first needed."""
        from darkpy.backends import create

        return create("cpu")

    def _as_host_has_it(self, array: DeviceArray) -> np.ndarray:
        """A copy on the host; floats in the type that the host computes with."""
        values = self.to_host(array)
        return values.astype(self.host.dtype, copy=False) if is_float(values.dtype) else values


def _on_host(name: str, written: Sequence[str]) -> Callable[..., Any]:
    signature = inspect.signature(getattr(Backend, name))

    def operation(self: HostBackend, *arguments: Any, **options: Any) -> Any:
        given = signature.bind(self, *arguments, **options).arguments
        del given["self"]
        # An array given twice, to be overwritten, is one on the host too.
        copies = {id(value): self._as_host_has_it(value) for value in given.values() if isinstance(value, DeviceArray)}
        result = getattr(self.host, name)(**{key: copies.get(id(value), value) for key, value in given.items()})
        for key in written:
            self.copy(copies[id(given[key])], given[key])
        return result

    operation.__name__ = name
    operation.__doc__ = f"See :meth:`Backend.{name}`; computed on the host."
    return operation


#: The operations of :data:`WRITTEN`.
OnHostOperations: Any = type(
    "OnHostOperations", (HostBackend,), {name: _on_host(name, written) for name, written in WRITTEN.items()}
)
