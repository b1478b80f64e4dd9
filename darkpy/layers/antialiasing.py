"""``antialiasing=`` of [convolutional] and [maxpool]: a fixed blur takes over the layer's stride."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.config.options import option
from darkpy.layers.base import Shape

if TYPE_CHECKING:
    from darkpy.backends.base import Backend

_KERNELS = {
    1: np.outer([1, 2, 1], [1, 2, 1]) / 16,
    2: np.full((2, 2), 1 / 4),
}


def antialiasing_option() -> Any:
    """The key ``antialiasing``."""
    return option(
        0,
        choices=(0, *_KERNELS),
        help="work with stride 1, then blur and keep every stride-th: 1 with the weights 1 2 1, 2 with the mean of 2x2",
    )


class Blur:
    """Blurs each channel and keeps every ``stride``-th position (Zhang 2019; Darknet, make_convolutional_layer).

    Input (n, c, h, w); ``kind`` 1 has a 3x3 kernel and zeros around the picture, ``kind`` 2 a 2x2 kernel and none.
    """

    def __init__(self, backend: Backend, kind: int, stride_y: int, stride_x: int, sharp: Shape) -> None:
        self.backend = backend
        self.sharp_shape = sharp
        self.weights = _KERNELS[kind]
        size = len(self.weights)
        self.geometry = ConvolutionGeometry(size, stride_y, stride_x, padding=(size - 1) // 2, groups=sharp[0])

    @property
    def shape(self) -> Shape:
        """(c, h', w') of the output."""
        c, h, w = self.sharp_shape
        g = self.geometry
        reach = 2 * g.padding - g.size
        return c, (h + reach) // g.stride_y + 1, (w + reach) // g.stride_x + 1

    @cached_property
    def kernel(self) -> Any:
        """The same weights for every channel, (c, 1, size, size)."""
        shape = (self.sharp_shape[0], 1, *self.weights.shape)
        return self.backend.asarray(np.ascontiguousarray(np.broadcast_to(self.weights, shape)))

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend's convolution asks for."""
        kernel = (self.sharp_shape[0], 1, *self.weights.shape)
        pictures, blurred = (batch, *self.sharp_shape), (batch, *self.shape)
        return self.backend.convolution_workspace(pictures, kernel, blurred, self.geometry, training)

    def forward(self, sharp: Any, out: Any) -> None:
        """Blur."""
        self.backend.convolution_forward(sharp, self.kernel, out, self.geometry)

    def backward(self, grad_output: Any, grad_sharp: Any) -> None:
        """Gradient of what was blurred."""
        self.backend.convolution_backward_input(grad_output, self.kernel, grad_sharp, self.geometry)
