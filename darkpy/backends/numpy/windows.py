"""Which outputs a kernel or window position contributes to, along one axis."""

from __future__ import annotations


def overlap(start: int, stride: int, inputs: int, outputs: int) -> tuple[slice, slice]:
    """The outputs o with ``0 <= start + o * stride < inputs``, and the inputs they meet there.

    ``start`` is the input position that output 0 meets. Both slices have one length, maybe 0.

    >>> overlap(-1, 2, 5, 3)
    (slice(1, 3, None), slice(1, 5, 2))
    """
    first = min(max(0, -(start // stride)), outputs)
    last = max(first, min(outputs, (inputs - 1 - start) // stride + 1))
    if first == last:
        return slice(0, 0), slice(0, 0)
    origin = start + first * stride
    return slice(first, last), slice(origin, origin + (last - first - 1) * stride + 1, stride)
