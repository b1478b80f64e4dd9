"""Products and weighted sums of whole pictures, dropout, clipping, signs: kernels/elementwise.cu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkpy.backends.cuda.activations import KINDS, ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.batchnorm import JOINING, BatchNormOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.pooling import PoolingOperations

#: Inputs of a weighted sum that are added up, in float32, before the sum is rounded to the type of the arrays.
SUMMED = 4

#: In the order of ``enum Normalization``.
NORMALIZATIONS = {"none": 0, "relu": 1, "softmax": 2}


class ElementwiseOperations(PoolingOperations, BatchNormOperations):
    """Operations between values at one place."""

    def add_forward(self, a: DeviceArray, b: DeviceArray, out: DeviceArray, activation: str = "linear") -> None:
        """See :meth:`Backend.add_forward`."""
        grid, block, rows, columns, *strides, by_four = self.over(a, b, out)
        self.launch(
            "activations", "sum", grid, block,
            a, strides[0], b, strides[1], out, strides[2], rows, columns, by_four, KINDS[activation],
        )  # fmt: skip

    def multiply_forward(self, a: DeviceArray, b: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.multiply_forward`."""
        self._product(a, b, out, False)

    def multiply_backward(
        self,
        a: DeviceArray,
        b: DeviceArray,
        grad_out: DeviceArray,
        grad_a: DeviceArray | None,
        grad_b: DeviceArray | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """See :meth:`Backend.multiply_backward`."""
        if grad_a is not None:
            self._product(grad_out, b, grad_a, accumulate[0])
        if grad_b is not None:
            self._product(grad_out, a, grad_b, accumulate[1])

    def _product(self, a: DeviceArray, b: DeviceArray, out: DeviceArray, accumulate: bool) -> None:
        grid, block, rows, columns, *strides, by_four = self.over(a, b, out)
        self.launch(
            "elementwise", "product", grid, block,
            a, strides[0], b, strides[1], out, strides[2], rows, columns, by_four, accumulate,
        )  # fmt: skip

    def scale_channels_forward(self, x: DeviceArray, factors: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.scale_channels_forward`."""
        self._scale_channels(x, factors, out, False)

    def scale_channels_backward(
        self,
        x: DeviceArray,
        factors: DeviceArray,
        grad_out: DeviceArray,
        grad_x: DeviceArray | None,
        grad_factors: DeviceArray | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """See :meth:`Backend.scale_channels_backward`."""
        if grad_x is not None:
            self._scale_channels(grad_out, factors, grad_x, accumulate[0])
        if grad_factors is None:
            return
        if not _is_per_position(grad_factors, x):
            self.picture_sums(grad_out, x, grad_factors, accumulate=accumulate[1])
            return
        rows, channels, strides = self.rows_of(grad_out, x)
        self.launch(
            "elementwise", "row_products", self.blocks_for(rows, ROWS), THREADS,
            grad_out, strides[0], x, strides[1], grad_factors, grad_factors.positions()[2], rows, channels,
            accumulate[1],
        )  # fmt: skip

    def _scale_channels(self, x: DeviceArray, factors: DeviceArray, out: DeviceArray, accumulate: bool) -> None:
        grid, block, rows, channels, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "elementwise", "scale_channels", grid, block,
            x, strides[0], out, strides[1], rows, channels, by_four, factors, factors.positions()[2],
            x.shape[2] * x.shape[3], _is_per_position(factors, x), accumulate,
        )  # fmt: skip

    def shift_channels_forward(self, x: DeviceArray, values: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.shift_channels_forward`."""
        grid, block, rows, channels, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "elementwise", "shift_channels", grid, block,
            x, strides[0], out, strides[1], rows, channels, by_four, values, values.positions()[2],
            x.shape[2] * x.shape[3],
        )  # fmt: skip

    def shift_channels_backward(
        self, grad_out: DeviceArray, grad_values: DeviceArray, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.shift_channels_backward`."""
        self.picture_sums(grad_out, None, grad_values, accumulate=accumulate)

    def weighted_sum_forward(
        self, inputs: Sequence[DeviceArray], weights: DeviceArray, out: DeviceArray, normalization: str
    ) -> None:
        """See :meth:`Backend.weighted_sum_forward`."""
        factors = self._factors(weights, normalization)
        for first in range(0, len(inputs), SUMMED):
            self._add_weighted(inputs[first : first + SUMMED], factors[first : first + SUMMED], out, first > 0)

    def _add_weighted(
        self, inputs: Sequence[DeviceArray], factors: DeviceArray, out: DeviceArray, accumulate: bool
    ) -> None:
        grid, block, rows, channels, *strides, by_four = self.over_channels(*inputs, out)
        places = [*zip(inputs, strides), *[(None, 0)] * (SUMMED - len(inputs))]
        self.launch(
            "elementwise", "weighted_sum", grid, block,
            *(part for place in places for part in place), out, strides[-1], rows, channels, by_four,
            factors, *factors.shape, accumulate,
        )  # fmt: skip

    def weighted_sum_backward(
        self,
        inputs: Sequence[DeviceArray],
        weights: DeviceArray,
        grad_out: DeviceArray,
        grad_inputs: Sequence[DeviceArray | None],
        grad_weights: DeviceArray,
        normalization: str,
        accumulate: Sequence[bool] | None = None,
    ) -> None:
        """See :meth:`Backend.weighted_sum_backward`."""
        factors = self._factors(weights, normalization)
        channels, lanes = grad_out.shape[1], factors.shape[1]
        products = self.scratch((len(inputs), channels))
        for number, (x, target) in enumerate(zip(inputs, grad_inputs, strict=True)):
            self.channel_sums(x, grad_out, products[number])
            if target is not None:
                self._scale_by_channel(grad_out, factors[number], target, accumulate is not None and accumulate[number])
        self.launch(
            "elementwise", "weights_backward", -(-lanes // JOINING), JOINING,
            weights, products, grad_weights, len(inputs), lanes, channels, NORMALIZATIONS[normalization],
        )  # fmt: skip

    def _factors(self, weights: DeviceArray, normalization: str) -> DeviceArray:
        """What the inputs are multiplied by: (inputs, 1), or (inputs, c)."""
        inputs = weights.shape[0]
        factors = self.scratch((inputs, weights.size // inputs))
        lanes = factors.shape[1]
        self.launch(
            "elementwise", "normalize_weights", -(-lanes // JOINING), JOINING,
            weights, factors, inputs, lanes, NORMALIZATIONS[normalization],
        )  # fmt: skip
        return factors

    def _scale_by_channel(self, x: DeviceArray, factors: DeviceArray, out: DeviceArray, accumulate: bool) -> None:
        grid, block, rows, channels, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "elementwise", "scale_by_channel", grid, block,
            x, strides[0], out, strides[1], rows, channels, by_four, factors, factors.size, accumulate,
        )  # fmt: skip

    def dropout_forward(
        self, x: DeviceArray, mask: DeviceArray, out: DeviceArray, probability: float | DeviceArray
    ) -> None:
        """See :meth:`Backend.dropout_forward`."""
        self._drop(x, mask, out, probability, False)

    def dropout_backward(
        self,
        grad_out: DeviceArray,
        mask: DeviceArray,
        grad_x: DeviceArray,
        probability: float | DeviceArray,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.dropout_backward`."""
        self._drop(grad_out, mask, grad_x, probability, accumulate)

    def _drop(
        self, x: DeviceArray, mask: DeviceArray, out: DeviceArray, probability: float | DeviceArray, accumulate: bool
    ) -> None:
        if isinstance(probability, DeviceArray):
            grid, block, rows, channels, *strides, by_four = self.over_channels(x, mask, out)
            self.launch(
                "elementwise", "drop_by_picture", grid, block,
                x, strides[0], mask, strides[1], out, strides[2], rows, channels, by_four, probability,
                rows // x.shape[0], accumulate,
            )  # fmt: skip
            return
        grid, block, rows, columns, *strides, by_four = self.over(x, mask, out)
        scale = 1 / (1 - probability) if probability < 1 else 0.0
        self.launch(
            "elementwise", "drop", grid, block,
            x, strides[0], mask, strides[1], out, strides[2], rows, columns, by_four, probability, scale, accumulate,
        )  # fmt: skip

    def clip(self, array: DeviceArray, limit: float) -> None:
        """See :meth:`Backend.clip`."""
        grid, block, rows, columns, stride, by_four = self.over(array)
        self.launch("elementwise", "clip", grid, block, array, stride, rows, columns, by_four, limit)

    def binarize(self, x: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.binarize`."""
        signs = self.scratch(x.shape, x.dtype)
        grid, block, rows, columns, *strides, by_four = self.over(x, signs)
        self.launch(
            "elementwise", "binarize", grid, block, x, strides[0], signs, strides[1], rows, columns, by_four
        )
        self.move(signs, out)

    def binarize_filters(self, weights: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.binarize_filters`."""
        if not (weights.is_dense and out.is_dense):
            raise ValueError("weights lie without gaps")
        self.launch(
            "elementwise", "binarize_filters", weights.shape[0], THREADS, weights, out, int(np.prod(weights.shape[1:]))
        )


def _is_per_position(factors: DeviceArray, x: DeviceArray) -> bool:
    """Whether there is a factor for each position, (n, 1, h, w), and not for each channel, (n, c, 1, 1)."""
    return factors.shape[1] != x.shape[1]
