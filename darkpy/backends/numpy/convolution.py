"""Convolution: the picture's patches become the columns of a matrix, and BLAS multiplies.

One output pixel is a row of the kernel matrix (f, c * size * size) times the column of the values under the kernel.
Columns are made for a band of output rows at a time, so that they are still in the cache when BLAS reads them and
the result is still there when the epilogue (scale, bias, activation) goes over it. A 1x1 convolution needs no columns:
the picture itself is the matrix. Groups are matrices side by side, multiplied in one call.

Depthwise convolutions have too little arithmetic per value for that: see depthwise.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numpy.activations import epilogue
from darkpy.backends.numpy.depthwise import DepthwiseOperations, is_depthwise
from darkpy.backends.numpy.memory import workspace_bytes
from darkpy.backends.numpy.tiles import Array, matrix, per_channel
from darkpy.backends.numpy.windows import overlap

Shape: TypeAlias = tuple[int, ...]

#: Bytes of columns made at a time: what the caches of a few cores hold together. BLAS rearranges the weights anew for
#: every band, so that smaller ones cost more than they gain (measured 0.5 to 8 MiB on layers of YOLOv3).
BAND_BYTES = 4 << 20


@dataclass(frozen=True)
class Bands:
    """How a convolution is cut: every band is one matrix product.

    A band is some output rows of one picture, or all rows of several small pictures (``pictures`` > 1).
    """

    geometry: ConvolutionGeometry
    batch: int
    channels: int
    filters: int
    height: int
    width: int
    pointwise: bool
    pictures: int
    rows: int

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Pictures and output rows of each band."""
        for picture in range(0, self.batch, self.pictures):
            for row in range(0, self.height, self.rows):
                yield (
                    slice(picture, min(picture + self.pictures, self.batch)),
                    slice(row, min(row + self.rows, self.height)),
                )

    @property
    def pixels(self) -> int:
        """Output pixels of a full band."""
        return self.pictures * self.rows * self.width

    @property
    def columns_shape(self) -> Shape:
        """Groups, values under the kernel, output pixels."""
        return self.geometry.groups, self.channels // self.geometry.groups * self.geometry.size**2, self.pixels

    @property
    def padded_shape(self) -> Shape:
        """The part of the pictures that a band reads, with the zeros around them."""
        reach = (self.geometry.size - 1) * self.geometry.dilation + 1
        height = (self.rows - 1) * self.geometry.stride_y + reach
        width = (self.width - 1) * self.geometry.stride_x + reach
        return self.pictures, self.channels, height, width

    @property
    def forward_shapes(self) -> tuple[Shape, ...]:
        """Arrays :func:`patches` needs: padded pictures and columns, or just columns to gather pictures in."""
        if not self.pointwise:
            return self.padded_shape, self.columns_shape
        return ((0,), self.columns_shape if self.pictures > 1 else (0,))

    @property
    def weight_gradient_shapes(self) -> tuple[Shape, ...]:
        """Those, the gathered gradients of the outputs, and one product."""
        groups, column, pixels = self.columns_shape
        filters = self.filters // groups
        gathered = (groups, filters, pixels) if self.pictures > 1 else (0,)
        return *self.forward_shapes, gathered, (groups, filters, column)


def plan_bands(
    x_shape: Sequence[int],
    weights_shape: Sequence[int],
    out_shape: Sequence[int],
    geometry: ConvolutionGeometry,
    itemsize: int,
    several_pictures: bool = False,
) -> Bands:
    """Bands of about :data:`BAND_BYTES` of columns, with the rows spread evenly.

    ``several_pictures`` allows small pictures to share a band.
    """
    batch, filters, height, width = out_shape
    row_bytes = geometry.groups * weights_shape[1] * geometry.size**2 * width * itemsize
    rows = max(1, BAND_BYTES // row_bytes)
    pictures = max(1, min(batch, rows // height)) if several_pictures else 1
    rows = -(-height // -(-height // rows))
    pointwise = is_pointwise(x_shape, out_shape, geometry)
    return Bands(geometry, batch, x_shape[1], filters, height, width, pointwise, pictures, rows)


def is_pointwise(x_shape: Sequence[int], out_shape: Sequence[int], geometry: ConvolutionGeometry) -> bool:
    """Whether each output pixel depends on the input pixel at its own place only."""
    return (
        geometry.size == geometry.stride_y == geometry.stride_x == 1
        and geometry.padding == 0
        and tuple(x_shape[2:]) == tuple(out_shape[2:])
    )


class ConvolutionOperations(DepthwiseOperations):
    """Forward pass and both gradients of two-dimensional convolutions."""

    def convolution_workspace(
        self,
        x_shape: Sequence[int],
        weights_shape: Sequence[int],
        out_shape: Sequence[int],
        geometry: ConvolutionGeometry,
        training: bool,
    ) -> int:
        """See :meth:`Backend.convolution_workspace`."""
        itemsize = self.dtype.itemsize
        if is_depthwise(weights_shape, geometry):
            return self.depthwise_workspace(x_shape, out_shape, geometry)
        bands = plan_bands(x_shape, weights_shape, out_shape, geometry, itemsize)
        needs = [bands.forward_shapes]
        if training:
            gathered = plan_bands(x_shape, weights_shape, out_shape, geometry, itemsize, several_pictures=True)
            needs += [gathered.weight_gradient_shapes, (bands.columns_shape,)]
        return max(workspace_bytes(*shapes, itemsize=itemsize) for shapes in needs)

    def convolution_forward(
        self,
        x: Array,
        weights: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scale: Array | None = None,
        bias: Array | None = None,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_forward`."""
        if is_depthwise(weights.shape, geometry):
            self.depthwise_forward(x, weights, out, geometry, scale, bias, activation)
            return
        bands = plan_bands(x.shape, weights.shape, out.shape, geometry, x.itemsize)
        padded, columns = self.carve(*bands.forward_shapes, dtype=x.dtype)
        kernels = kernel_matrices(weights, geometry)
        for band in bands:
            result = pixel_matrices(out, band, geometry)
            np.matmul(kernels, patches(x, band, bands, padded, columns), out=result)
            epilogue(result.reshape(bands.filters, -1), scale, bias, activation)

    def convolution_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        if is_depthwise(grad_weights.shape, geometry):
            self.depthwise_backward_weights(x, grad_out, grad_weights, geometry)
            return
        bands = plan_bands(x.shape, grad_weights.shape, grad_out.shape, geometry, x.itemsize, several_pictures=True)
        padded, columns, gathered, product = self.carve(*bands.weight_gradient_shapes, dtype=x.dtype)
        total = kernel_matrices(grad_weights, geometry)
        for band in bands:
            gradient = gather_pixels(grad_out, band, geometry, gathered)
            columns_of_band = patches(x, band, bands, padded, columns)
            np.matmul(gradient, columns_of_band.transpose(0, 2, 1), out=product)
            total += product

    def convolution_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.convolution_backward_input`."""
        if is_depthwise(weights.shape, geometry):
            self.depthwise_backward_input(grad_out, weights, grad_x, geometry, accumulate)
            return
        bands = plan_bands(grad_x.shape, weights.shape, grad_out.shape, geometry, grad_x.itemsize)
        kernels = kernel_matrices(weights, geometry).transpose(0, 2, 1)
        if bands.pointwise and not accumulate:
            for band in bands:
                np.matmul(kernels, pixel_matrices(grad_out, band, geometry), out=pixel_matrices(grad_x, band, geometry))
            return
        if not accumulate:
            grad_x.fill(0)
        (columns,) = self.carve(bands.columns_shape, dtype=grad_x.dtype)
        for band in bands:
            gradient = pixel_matrices(grad_out, band, geometry)
            columns_of_band = columns[:, :, : gradient.shape[2]]
            np.matmul(kernels, gradient, out=columns_of_band)
            add_patches(columns_of_band, band, bands, grad_x)


# --- Matrices. A band is (slice of pictures, slice of output rows).


def kernel_matrices(weights: Array, geometry: ConvolutionGeometry) -> Array:
    """(groups, f / groups, c / groups * size * size), the same memory."""
    return matrix(weights).reshape(geometry.groups, weights.shape[0] // geometry.groups, -1)


def pixel_matrices(array: Array, band: tuple[slice, slice], geometry: ConvolutionGeometry) -> Array:
    """The rows of one picture as (groups, channels / groups, pixels), the same memory."""
    pictures, rows = band
    n, c, _, width = array.shape
    by_group = matrix(array).reshape(n, geometry.groups, c // geometry.groups, -1)
    return by_group[pictures.start, :, :, rows.start * width : rows.stop * width]


def gather_pixels(array: Array, band: tuple[slice, slice], geometry: ConvolutionGeometry, buffer: Array) -> Array:
    """The same for several pictures, whose pixels are copied side by side into the buffer."""
    pictures, _ = band
    if pictures.stop - pictures.start == 1:
        return pixel_matrices(array, band, geometry)
    several = per_channel(array)[pictures].transpose(1, 0, 2)
    c, n, pixels = several.shape
    gathered = buffer[:, :, : n * pixels]
    np.copyto(gathered.reshape(c, n, pixels), several)
    return gathered


def patches(x: Array, band: tuple[slice, slice], bands: Bands, padded: Array, columns: Array) -> Array:
    """The columns of a band: (groups, c / groups * size * size, pixels)."""
    if bands.pointwise:
        return gather_pixels(x, band, bands.geometry, columns)
    geometry = bands.geometry
    windows = sliding_window_view(_with_zeros(x, band, bands, padded), _extent(geometry), axis=(2, 3))
    windows = windows[:, :, :: geometry.stride_y, :: geometry.stride_x, :: geometry.dilation, :: geometry.dilation]
    n, c, height, width, size, _ = windows.shape
    result = columns[:, :, : n * height * width]
    np.copyto(result.reshape(c, size, size, n, height, width), windows.transpose(1, 4, 5, 0, 2, 3))
    return result


def _with_zeros(x: Array, band: tuple[slice, slice], bands: Bands, padded: Array) -> Array:
    """The part of the pictures under a band, with zeros around them if it reaches out of them."""
    pictures, rows = band
    geometry = bands.geometry
    height = (rows.stop - rows.start - 1) * geometry.stride_y + _extent(geometry)[0]
    target = padded[: pictures.stop - pictures.start, :, :height]
    top = rows.start * geometry.stride_y - geometry.padding
    inside_y, rows_of_x = overlap(top, 1, x.shape[2], height)
    inside_x, columns_of_x = overlap(-geometry.padding, 1, x.shape[3], target.shape[3])
    source = x[pictures, :, rows_of_x, columns_of_x]
    if source.shape == target.shape:
        return source
    target.fill(0)
    target[:, :, inside_y, inside_x] = source
    return target


def add_patches(columns: Array, band: tuple[slice, slice], bands: Bands, grad_x: Array) -> None:
    """The reverse of :func:`patches`, for one picture: adds each column to the pixels it came from."""
    pictures, rows = band
    height = rows.stop - rows.start
    size = bands.geometry.size
    by_tap = columns.reshape(bands.channels, size, size, height, bands.width)
    target = grad_x[pictures.start]
    shape = (bands.channels, height, bands.width)
    for ky, kx, inside, meets in taps(bands.geometry, grad_x.shape, shape, first_row=rows.start):
        target[meets] += by_tap[:, ky, kx][inside]


# --- Taps: the size * size positions under a kernel.

Region: TypeAlias = tuple[slice, slice, slice]


def taps(
    geometry: ConvolutionGeometry, x_shape: Sequence[int], out_shape: Sequence[int], first_row: int = 0
) -> Iterator[tuple[int, int, Region, Region]]:
    """Each tap's row and column, the outputs for which it lies inside x, and the part of x it meets there.

    Regions index (channels, height, width); output rows count from ``first_row``.
    """
    for ky in range(geometry.size):
        top = first_row * geometry.stride_y + ky * geometry.dilation - geometry.padding
        rows, rows_of_x = overlap(top, geometry.stride_y, x_shape[-2], out_shape[-2])
        for kx in range(geometry.size):
            left = kx * geometry.dilation - geometry.padding
            columns, columns_of_x = overlap(left, geometry.stride_x, x_shape[-1], out_shape[-1])
            yield ky, kx, (slice(None), rows, columns), (slice(None), rows_of_x, columns_of_x)


def _extent(geometry: ConvolutionGeometry) -> tuple[int, int]:
    """Height and width of what a kernel spans, holes included."""
    side = (geometry.size - 1) * geometry.dilation + 1
    return side, side
