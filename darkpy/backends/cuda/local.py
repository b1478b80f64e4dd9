"""Local layers: kernels/local.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.tiled_convolution import TiledConvolutionOperations

#: As kernels/local.cu has them: pictures and filters of a warp forward; filters of a warp and numbers of a column for
#: the gradient of the weights; channels of a block for that of the input.
PICTURES, FILTERS = 16, 4
TALL, LONG = 8, 128
CHANNELS = 64


class LocalOperations(TiledConvolutionOperations):
    """Convolution without shared weights."""

    def local_workspace(
        self, x_shape: Sequence[int], weights_shape: Sequence[int], geometry: ConvolutionGeometry
    ) -> int:
        """See :meth:`Backend.local_workspace`: none, all sums are made in registers."""
        return 0

    def local_forward(
        self, x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.local_forward`."""
        warps = weights.shape[0] * -(-len(x) // PICTURES) * -(-weights.shape[1] // FILTERS)
        self.launch(
            "local", "local_forward", -(-warps // ROWS), THREADS,
            x, weights, self._copy(weights, x), out, len(x), *_numbers(x, weights, out, geometry),
        )  # fmt: skip

    def local_backward_weights(
        self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.local_backward_weights`."""
        places, filters, *column = grad_weights.shape
        warps = places * -(-filters // TALL) * -(-math.prod(column) // LONG)
        self.launch(
            "local", "local_backward_weights", -(-warps // ROWS), THREADS,
            x, grad_out, grad_weights, len(x), *_numbers(x, grad_weights, grad_out, geometry),
        )  # fmt: skip

    def local_backward_input(
        self,
        grad_out: DeviceArray,
        weights: DeviceArray,
        grad_x: DeviceArray,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.local_backward_input`."""
        n, channels, height, width = grad_x.shape
        blocks = height * width * -(-n // PICTURES) * -(-channels // CHANNELS)
        self.launch(
            "local", "local_backward_input", blocks, THREADS,
            grad_out, weights, self._copy(weights, grad_x), grad_x, n, *_numbers(grad_x, weights, grad_out, geometry),
            accumulate,
        )  # fmt: skip

    def _copy(self, weights: DeviceArray, pictures: DeviceArray) -> DeviceArray | None:
        """The weights in the pictures' 16 bits, where that copy has been made."""
        return self.copy_of(weights, pictures.dtype, alignment=1)


def _numbers(x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry) -> list[int]:
    """What the macro CONVOLUTION_ARGUMENTS in kernels/convolution.cuh wants, in its order."""
    if not weights.is_dense:
        raise ValueError(f"weights lie place by place, channels last, without gaps, unlike {weights}")
    g = geometry
    return [
        *x.shape[2:], x.shape[1], out.shape[1], *out.shape[2:], g.size, g.stride_y, g.stride_x, g.padding, g.dilation,
        x.positions()[2], out.positions()[2],
    ]  # fmt: skip
