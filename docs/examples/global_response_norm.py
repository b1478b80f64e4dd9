"""[global_response_norm]: channels that answer strongly are raised above the others."""

from dataclasses import dataclass

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers import Buffer, Layer, Parameter, register


@register("global_response_norm", "grn")
class GlobalResponseNorm(Layer):
    """Scales each channel by how strong it is beside the mean channel of the picture (Woo et al. 2023, ConvNeXt V2).

    Input and output (n, c, h, w): out = x * (1 + scales * response) + biases, where the response of a channel is its
    length over the mean length of all channels. Scales and biases start at 0, so that nothing is changed at first.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        epsilon: float = option(1e-6, minimum=0, help="added to the mean length")

    def shape(self, *inputs):
        """That of the input, which needs several channels."""
        c, h, w = inputs[0]
        if c < 2:
            self.problem("", "compares channels; its input has only one")
        return c, h, w

    def parameters(self):
        """Biases and scales, (c,) each."""
        channels = self.input_shapes[0][:1]
        return [Parameter("biases", channels), Parameter("scales", channels)]

    def buffers(self, batch, training):
        """A number for each channel of each picture: squared length, factor, and the factor's gradient."""
        number = Buffer((batch, self.input_shapes[0][0], 1, 1))
        return {"energy": number, "factors": number} | ({"grad_factors": number} if training else {})

    def forward(self, x, *, training):
        """Measure the channels, scale, shift."""
        self.x = x
        backend = self.backend
        # The gradient of a sum of x * f with respect to f, taken at x: the sum of squares.
        backend.scale_channels_backward(x, self.factors, x, None, self.energy)
        self.length = np.sqrt(backend.to_host(self.energy)[..., 0, 0])
        self.mean = self.length.mean(axis=1, keepdims=True) + self.options.epsilon
        factors = 1 + backend.to_host(self.scales) * self.length / self.mean
        backend.copy(factors[..., np.newaxis, np.newaxis], self.factors)
        backend.scale_channels_forward(x, self.factors, self.output)
        backend.bias_activation_forward(self.output, self.biases, self.output, "linear")

    def backward(self, grad_output, grad_x):
        """Through the factors to the scales and, by way of the lengths, to the input."""
        backend = self.backend
        backend.bias_backward(grad_output, self.grad_biases)
        accumulate = (bool(self.accumulate[0]), False)
        backend.scale_channels_backward(self.x, self.factors, grad_output, grad_x, self.grad_factors, accumulate)
        grad = backend.to_host(self.grad_factors)[..., 0, 0]
        backend.add(backend.asarray((grad * self.length / self.mean).sum(axis=0)), self.grad_scales)
        if grad_x is None:
            return
        grad = grad * backend.to_host(self.scales) / self.mean
        grad = grad - (grad * self.length).sum(axis=1, keepdims=True) / self.mean / self.length.shape[1]
        # A length changes by x / length; the length of a channel that is 0 everywhere does not.
        share = np.divide(grad, self.length, out=np.zeros_like(grad), where=self.length > 0)
        backend.copy(share[..., np.newaxis, np.newaxis], self.factors)
        backend.scale_channels_backward(self.x, self.factors, self.x, grad_x, None, (True, False))
