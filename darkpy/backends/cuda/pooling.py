"""Maximum and average pooling, enlarging and shrinking: kernels/pooling.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.batchnorm import ACROSS, DOWN
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations


class PoolingOperations(MemoryOperations):
    """Operations that change a picture's height and width without any parameters."""

    def winner_dtype(self, geometry: PoolGeometry) -> Any:
        """One byte numbers the places of a window where it can."""
        return np.uint8 if geometry.size**2 <= 256 else np.int32

    def maxpool_forward(
        self, x: DeviceArray, out: DeviceArray, geometry: PoolGeometry, winners: DeviceArray | None = None
    ) -> None:
        """See :meth:`Backend.maxpool_forward`; winners are row * size + column in the window."""
        grid, block, rows, channels, stride, by_four = self.over_channels(out)
        self.launch(
            "pooling", "maxpool_forward", grid, block,
            x, x.positions()[2], out, stride, rows, channels, by_four and _by_four(x), *x.shape[2:], *out.shape[2:],
            *_window(geometry), _dense(winners), 0 if winners is None else winners.itemsize,
        )  # fmt: skip

    def maxpool_backward(
        self,
        grad_out: DeviceArray,
        winners: DeviceArray,
        grad_x: DeviceArray,
        geometry: PoolGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.maxpool_backward`."""
        grid, block, rows, channels, stride, _ = self.over_channels(grad_x, by_four=False)
        self.launch(
            "pooling", "maxpool_backward", grid, block,
            grad_out, grad_out.positions()[2], grad_x, stride, rows, channels, *grad_x.shape[2:], *grad_out.shape[2:],
            *_window(geometry), _dense(winners), winners.itemsize, accumulate,
        )  # fmt: skip

    def depth_maxpool_forward(self, x: DeviceArray, out: DeviceArray, winners: DeviceArray | None = None) -> None:
        """See :meth:`Backend.depth_maxpool_forward`."""
        rows, outputs, stride = out.positions()
        self.launch(
            "pooling", "depth_maxpool_forward", self.blocks_for(rows * outputs), THREADS,
            x, x.positions()[2], out, stride, rows, x.shape[1], outputs, _dense(winners),
        )  # fmt: skip

    def depth_maxpool_backward(
        self, grad_out: DeviceArray, winners: DeviceArray, grad_x: DeviceArray, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.depth_maxpool_backward`."""
        rows, channels, stride = grad_x.positions()
        self.launch(
            "pooling", "depth_maxpool_backward", self.blocks_for(rows * channels), THREADS,
            grad_out, grad_out.positions()[2], grad_x, stride, rows, channels, grad_out.shape[1], _dense(winners),
            accumulate,
        )  # fmt: skip

    def local_avgpool_forward(self, x: DeviceArray, out: DeviceArray, geometry: PoolGeometry) -> None:
        """See :meth:`Backend.local_avgpool_forward`."""
        grid, block, rows, channels, stride, _ = self.over_channels(out, by_four=False)
        self.launch(
            "pooling", "local_avgpool_forward", grid, block,
            x, x.positions()[2], out, stride, rows, channels, *x.shape[2:], *out.shape[2:], *_window(geometry),
        )  # fmt: skip

    def local_avgpool_backward(
        self, grad_out: DeviceArray, grad_x: DeviceArray, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.local_avgpool_backward`."""
        grid, block, rows, channels, stride, _ = self.over_channels(grad_x, by_four=False)
        self.launch(
            "pooling", "local_avgpool_backward", grid, block,
            grad_out, grad_out.positions()[2], grad_x, stride, rows, channels, *grad_x.shape[2:], *grad_out.shape[2:],
            *_window(geometry), accumulate,
        )  # fmt: skip

    def avgpool_forward(self, x: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.avgpool_forward`."""
        self.picture_sums(x, None, out, scale=1 / (x.shape[2] * x.shape[3]))

    def picture_sums(
        self, a: DeviceArray, b: DeviceArray | None, out: DeviceArray, scale: float = 1.0, accumulate: bool = False
    ) -> None:
        """``out = scale *`` the sum of a, or of a * b, over each picture's positions (or ``+=``); out (n, c, 1, 1)."""
        _, channels, strides = self.rows_of(a, a if b is None else b)
        self.launch(
            "pooling", "picture_sums", (-(-channels // ACROSS), a.shape[0]), (ACROSS, DOWN),
            a, strides[0], b, strides[1], out, out.positions()[2], a.shape[2] * a.shape[3], channels, scale, accumulate,
        )  # fmt: skip

    def avgpool_backward(self, grad_out: DeviceArray, grad_x: DeviceArray, accumulate: bool = False) -> None:
        """See :meth:`Backend.avgpool_backward`."""
        grid, block, rows, channels, stride, by_four = self.over_channels(grad_x)
        positions = grad_x.shape[2] * grad_x.shape[3]
        self.launch(
            "pooling", "spread_over_picture", grid, block,
            grad_out, grad_out.positions()[2], grad_x, stride, rows, channels, by_four and _by_four(grad_out),
            positions, 1 / positions, accumulate,
        )  # fmt: skip

    def upsample_forward(self, x: DeviceArray, out: DeviceArray, stride: int, scale: float) -> None:
        """See :meth:`Backend.upsample_forward`."""
        self._blocks("enlarge", x, out, stride, scale, False)

    def upsample_backward(
        self, grad_out: DeviceArray, grad_x: DeviceArray, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.upsample_backward`."""
        self._blocks("sum_blocks", grad_out, grad_x, stride, scale, accumulate)

    def downsample_forward(self, x: DeviceArray, out: DeviceArray, stride: int, scale: float) -> None:
        """See :meth:`Backend.downsample_forward`."""
        self._blocks("sum_blocks", x, out, stride, scale, False)

    def downsample_backward(
        self, grad_out: DeviceArray, grad_x: DeviceArray, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.downsample_backward`."""
        self._blocks("enlarge", grad_out, grad_x, stride, scale, accumulate)

    def _blocks(
        self, kernel: str, x: DeviceArray, out: DeviceArray, stride: int, scale: float, accumulate: bool
    ) -> None:
        grid, block, rows, channels, out_stride, by_four = self.over_channels(out)
        self.launch(
            "pooling", kernel, grid, block,
            x, x.positions()[2], out, out_stride, rows, channels, by_four and _by_four(x), *x.shape[2:], *out.shape[2:],
            stride, scale, accumulate,
        )  # fmt: skip


def _window(geometry: PoolGeometry) -> tuple[int, int, int, int]:
    return geometry.size, geometry.stride_y, geometry.stride_x, geometry.offset


def _by_four(array: DeviceArray) -> bool:
    return array.address % (4 * array.itemsize) == 0 and array.positions()[2] % 4 == 0


def _dense(array: DeviceArray | None) -> DeviceArray | None:
    if array is not None and not array.is_dense:
        raise ValueError(f"winners lie without gaps, unlike {array}")
    return array
