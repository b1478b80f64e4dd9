"""Convolutions and products of matrices: kernels/depthwise.cu, and what tiled_convolution and first_layer launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.activations import KINDS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.batchnorm import ACROSS, DOWN, JOINING
from darkpy.backends.cuda.convolution_plans import OPERATIONS
from darkpy.backends.cuda.first_layer import FirstLayer, FirstLayerOperations
from darkpy.backends.cuda.tiled_convolution import TiledConvolutionOperations


class ConvolutionOperations(FirstLayerOperations, TiledConvolutionOperations):
    """Implicit products of matrices, in fp32 or on tensor cores; connected layers are convolutions of single pixels."""

    @property
    def adds_residuals(self) -> bool:  # type: ignore[override]
        """See :attr:`Backend.adds_residuals`: unless convolutions are computed on copies."""
        return not self._on_copies(self.activation_dtype)

    def convolution_workspace(
        self,
        x_shape: Sequence[int],
        weights_shape: Sequence[int],
        out_shape: Sequence[int],
        geometry: ConvolutionGeometry,
        training: bool,
    ) -> int:
        """See :meth:`Backend.convolution_workspace`: shares of sums, and copies of the weights for tensor cores."""
        if _is_depthwise(weights_shape, geometry):
            return 0
        first = FirstLayer.of(x_shape, out_shape, geometry)
        precision = self.convolution_precision(self.activation_dtype)
        operations: Sequence[str] = OPERATIONS if training else OPERATIONS[:1]
        if first is not None:
            operations = [name for name in operations if name == "backward_input"]
        needed = self.tiled_workspace(precision, x_shape, weights_shape, out_shape, geometry, operations)
        return max(needed, self.first_layer_workspace(first, out_shape[1])) if first and training else needed

    def convolution_forward(
        self,
        x: DeviceArray,
        weights: DeviceArray,
        out: DeviceArray,
        geometry: ConvolutionGeometry,
        scale: DeviceArray | None = None,
        bias: DeviceArray | None = None,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_forward`."""
        numbers = _numbers(x, weights, out, geometry)
        positions = out.positions()[0]
        last = (scale, bias, KINDS[activation])
        if _is_depthwise(weights.shape, geometry):
            grid, block, by_four = self._over_both(out, x)
            self.launch(
                "depthwise", "depthwise_forward", grid, block, x, weights, out, positions, *numbers, *last, by_four
            )
            return
        first = FirstLayer.of(x.shape, out.shape, geometry)
        if first is not None:
            self.first_layer_forward(first, x, weights, out, numbers, last)
            return
        if self._on_copies(x.dtype):
            with self._floats_for(out) as floats:
                self.convolution_forward(self._floats_of(x), weights, floats, geometry, scale, bias, activation)
            return
        self.tiled_forward(x, weights, out, geometry, numbers, scale, bias, activation)

    def convolution_batchnorm_forward_training(
        self,
        x: DeviceArray,
        weights: DeviceArray,
        convolved: DeviceArray,
        out: DeviceArray,
        geometry: ConvolutionGeometry,
        scales: DeviceArray,
        biases: DeviceArray,
        mean: DeviceArray,
        variance: DeviceArray,
        rolling_mean: DeviceArray,
        rolling_variance: DeviceArray,
        momentum: float,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_batchnorm_forward_training`; by most kernels in one pass less."""
        found = self._forward_with_statistics(x, weights, convolved, geometry)
        learned, targets = (scales, biases), (mean, variance, rolling_mean, rolling_variance)
        if found is None:
            self.batchnorm_forward_training(convolved, out, *learned, *targets, momentum, activation)
            return
        statistics, length = found
        self.join_statistics(statistics, length, convolved.positions()[0], targets, momentum)
        self.batchnorm_forward_inference(convolved, out, *learned, mean, variance, activation)

    def convolution_batchnorm_forward_inference(
        self,
        x: DeviceArray,
        weights: DeviceArray,
        out: DeviceArray,
        geometry: ConvolutionGeometry,
        scales: DeviceArray,
        biases: DeviceArray,
        rolling_mean: DeviceArray,
        rolling_variance: DeviceArray,
        factors: DeviceArray,
        shifts: DeviceArray,
        activation: str = "linear",
        residual: DeviceArray | None = None,
        after: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_batchnorm_forward_inference`; mostly by one kernel."""
        statistics = (rolling_mean, rolling_variance)
        if not self._is_tiled(x, weights, out, geometry):
            super().convolution_batchnorm_forward_inference(
                x, weights, out, geometry, scales, biases, *statistics, factors, shifts, activation, residual, after
            )
            return
        numbers = _numbers(x, weights, out, geometry)
        self.tiled_forward(
            x, weights, out, geometry, numbers, scales, biases, activation, residual, after,
            normalization=statistics,
        )  # fmt: skip

    def _is_tiled(
        self, x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry
    ) -> bool:
        """Whether a forward pass is :meth:`tiled_forward`, which does more than a convolution."""
        is_first = FirstLayer.of(x.shape, out.shape, geometry) is not None
        return not (is_first or _is_depthwise(weights.shape, geometry) or self._on_copies(x.dtype))

    def _forward_with_statistics(
        self, x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry
    ) -> tuple[DeviceArray, int | DeviceArray] | None:
        """The bare convolution; and the statistics of stretches of it, if found on the way, with their lengths."""
        numbers = _numbers(x, weights, out, geometry)
        first = FirstLayer.of(x.shape, out.shape, geometry)
        if first is not None:
            return self.first_layer_forward(first, x, weights, out, numbers, (None, None, KINDS["linear"]), True)
        if not self._is_tiled(x, weights, out, geometry):
            self.convolution_forward(x, weights, out, geometry)
            return None
        return self.tiled_forward(x, weights, out, geometry, numbers, None, None, "linear", with_statistics=True)

    def convolution_residual_forward(
        self,
        x: DeviceArray,
        weights: DeviceArray,
        out: DeviceArray,
        residual: DeviceArray,
        geometry: ConvolutionGeometry,
        scale: DeviceArray | None = None,
        bias: DeviceArray | None = None,
        activation: str = "linear",
        after: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_residual_forward`; mostly in one pass. The residual may be out."""
        if not self._is_tiled(x, weights, out, geometry):
            super().convolution_residual_forward(x, weights, out, residual, geometry, scale, bias, activation, after)
            return
        numbers = _numbers(x, weights, out, geometry)
        self.tiled_forward(x, weights, out, geometry, numbers, scale, bias, activation, residual, after)

    def convolution_backward_input(
        self,
        grad_out: DeviceArray,
        weights: DeviceArray,
        grad_x: DeviceArray,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.convolution_backward_input`."""
        numbers = _numbers(grad_x, weights, grad_out, geometry)
        pixels = grad_x.positions()[0]
        if _is_depthwise(weights.shape, geometry):
            grid, block, by_four = self._over_both(grad_x, grad_out)
            self.launch(
                "depthwise", "depthwise_backward_input", grid, block,
                grad_out, weights, grad_x, pixels, *numbers, accumulate, by_four,
            )  # fmt: skip
            return
        if self._on_copies(grad_out.dtype):
            with self._floats_for(grad_x, accumulate) as floats:
                self.convolution_backward_input(self._floats_of(grad_out), weights, floats, geometry, accumulate)
            return
        self.tiled_backward_input(grad_out, weights, grad_x, geometry, numbers, accumulate)

    def convolution_backward_weights(
        self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        numbers = _numbers(x, grad_weights, grad_out, geometry)
        positions = grad_out.positions()[0]
        if _is_depthwise(grad_weights.shape, geometry):
            self._depthwise_weights(x, grad_out, grad_weights, positions, numbers)
            return
        first = FirstLayer.of(x.shape, grad_out.shape, geometry)
        if first is not None:
            self.first_layer_backward_weights(first, x, grad_out, grad_weights, numbers)
            return
        if self._on_copies(x.dtype):
            x, grad_out = self._floats_of(x), self._floats_of(grad_out)
            numbers = _numbers(x, grad_weights, grad_out, geometry)
        self.tiled_backward_weights(x, grad_out, grad_weights, geometry, numbers)

    def _over_both(self, out: DeviceArray, read: DeviceArray) -> tuple[Any, Any, bool]:
        """How to launch a kernel over the elements of one array that reads others of the same channels."""
        grid, block, *_, by_four = self.over_channels(out, by_four=self.over_channels(read)[-1])
        return grid, block, by_four

    def _depthwise_weights(
        self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray, positions: int, numbers: Sequence[int]
    ) -> None:
        channels, size = grad_weights.shape[0], grad_weights.size
        stretches, partials = self.stretches(positions, size, 1)
        grid = (-(-channels // ACROSS), stretches, size // channels)
        self.launch(
            "depthwise", "depthwise_backward_weights", grid, (ACROSS, DOWN), x, grad_out, partials, positions, *numbers
        )
        self.launch(
            "batchnorm", "join_sums", -(-size // JOINING), JOINING, partials, stretches, size, grad_weights, 1.0, True
        )

    def linear_workspace(self, rows: int, inputs: int, outputs: int, training: bool) -> int:
        """See :meth:`Backend.linear_workspace`: those of a convolution of pictures of one pixel."""
        x, weights, out = (rows, inputs, 1, 1), (outputs, inputs, 1, 1), (rows, outputs, 1, 1)
        return self.convolution_workspace(x, weights, out, POINTWISE, training)

    def linear_forward(self, x: DeviceArray, weights: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.linear_forward`."""
        self.convolution_forward(_pixels(self.rows_to_read(x)), _pixels(weights), _pixels(out), POINTWISE)

    def linear_backward_weights(self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray) -> None:
        """See :meth:`Backend.linear_backward_weights`."""
        rows = _pixels(self.rows_to_read(x))
        self.convolution_backward_weights(rows, _pixels(self.rows_to_read(grad_out)), _pixels(grad_weights), POINTWISE)

    def linear_backward_input(
        self, grad_out: DeviceArray, weights: DeviceArray, grad_x: DeviceArray, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.linear_backward_input`."""
        with self.rows_to_write(grad_x, keep=accumulate) as target:
            rows = _pixels(self.rows_to_read(grad_out))
            self.convolution_backward_input(rows, _pixels(weights), _pixels(target), POINTWISE, accumulate)

    # 16 bits on GPUs whose tensor cores are not used

    def _on_copies(self, dtype: Any) -> bool:
        """Whether convolutions of arrays of a type are computed on copies in float32."""
        return dtype != self.dtype and self.convolution_precision(dtype) == "fp32"

    def _floats_of(self, array: DeviceArray) -> DeviceArray:
        """A copy in float32."""
        floats = self.scratch(array.shape, self.dtype)
        self.move(array, floats)
        return floats

    @contextmanager
    def _floats_for(self, array: DeviceArray, keep: bool = False) -> Iterator[DeviceArray]:
        """An array in float32 to write to, copied to another at the end; with ``keep`` it begins as the other."""
        floats = self._floats_of(array) if keep else self.scratch(array.shape, self.dtype)
        yield floats
        self.move(floats, array)


#: A connected layer.
POINTWISE = ConvolutionGeometry(1)


def _numbers(x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry) -> list[int]:
    """What the macro CONVOLUTION_ARGUMENTS in kernels/convolution.cuh wants, in its order.

    Channels and filters are those of a group; of a depthwise convolution, all.
    """
    if not weights.is_dense:
        raise ValueError(f"weights lie filter by filter, channels last, without gaps, unlike {weights}")
    g = geometry
    groups = 1 if _is_depthwise(weights.shape, g) else g.groups
    return [
        *x.shape[2:], x.shape[1] // groups, out.shape[1] // groups, *out.shape[2:], g.size, g.stride_y, g.stride_x,
        g.padding, g.dilation, x.positions()[2], out.positions()[2],
    ]  # fmt: skip


def _is_depthwise(weights_shape: Sequence[int], geometry: ConvolutionGeometry) -> bool:
    return weights_shape[1] == 1 and weights_shape[0] == geometry.groups > 1


def _pixels(matrix: DeviceArray) -> DeviceArray:
    """A matrix as pictures of one pixel."""
    rows, columns = matrix.shape
    strides = (matrix.strides[0], matrix.strides[1], matrix.strides[0], matrix.strides[0])
    return DeviceArray(matrix.backend, matrix.owner, matrix.address, (rows, columns, 1, 1), matrix.dtype, strides)
