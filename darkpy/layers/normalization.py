"""[normalization]: each value divided by a power of its neighbours' squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, register


@register("normalization", "lrn")
class Normalization(Layer):
    """Local response normalisation over channels: x / (kappa + alpha * sum of squares in the window) ^ beta.

    Input and output (n, c, h, w) (Krizhevsky et al. 2012; Darknet, normalization_layer.c). Darknet moves a window over
    the channels and forgets to add channel size/2 to it, but not to take it away again; this is kept.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        size: int = option(5, minimum=1, help="channels in a window")
        alpha: float = option(0.0001, help="factor on the sum of squares")
        beta: float = option(0.75, help="exponent")
        kappa: float = option(1.0, help="added to the sum")

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """What each value is divided by a power of."""
        return {"norms": Buffer((batch, *self.input_shapes[0]), self.backend.dtype, scratch=not training)}

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes for the squares of a picture."""
        return int(self.backend.dtype.itemsize) * self.outputs

    def describe(self) -> str:
        """The window."""
        return f"{self.options.size} channels"

    def forward(self, x: Any, *, training: bool) -> None:
        """Divide."""
        o = self.options
        self.x = x
        self.backend.response_norm_forward(x, self.norms, self.output, o.size, o.alpha, o.beta, o.kappa)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The value's own share and that of the divisors it is in."""
        o = self.options
        if grad_x is not None:
            self.backend.response_norm_backward(
                self.x, self.norms, grad_output, grad_x, o.size, o.alpha, o.beta, self.accumulate[0]
            )
