"""[convolutional]: sliding filters, with optional batch normalisation, then an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ConvolutionGeometry, gradient_needs_input
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import activation_option

ROLLING_MOMENTUM = 0.1
"""Share of the new batch in the rolling statistics (Darknet's CPU code)."""


@register("convolutional", "conv")
class Convolutional(Layer):
    """Sliding filters, with optional batch normalisation, then an activation.

    Input (n, c, h, w), output (n, filters, h', w') with h' = (h + 2 padding - size) / stride + 1, rounded down.
    ``dilation`` spreads a filter's taps and multiplies the padding; it does not enter the output size (Darknet,
    convolutional_layer.c). With ``groups`` each share of the filters sees its own share of the channels.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        filters: int = option(1, minimum=1, help="number of output channels")
        size: int = option(1, minimum=1, help="side of a filter")
        stride: int = option(1, minimum=1, help="step between windows")
        stride_x: int = option(same_as="stride", minimum=1, help="horizontal step")
        stride_y: int = option(same_as="stride", minimum=1, help="vertical step")
        pad: bool = option(False, help="1 pads each side by size/2, whatever padding says")
        padding: int = option(0, minimum=0, help="zeros added on each side, before dilation")
        groups: int = option(1, minimum=1, help="independent parts the channels are divided into")
        dilation: int = option(1, minimum=1, help="distance between a filter's taps; 1 for size=1")
        batch_normalize: bool = option(False, help="normalise each channel over the batch, then scale and shift")
        bias: bool = option(True, help="0 leaves out the bias of a layer without batch normalisation")
        activation: str = activation_option("logistic")

        ineffective = {
            "bin_output": "outputs are kept in full precision",
            "cbn": "statistics are taken over each mini-batch",
            "flipped": "weights are stored filter by filter",
            "dot": "Darknet reads it and does not use it",
            "stream": "layers run one after the other",
            "wait_stream": "layers run one after the other",
            "grad_centr": "Darknet's CPU code ignores it",
            "reverse": "Darknet's CPU code ignores it",
            "coordconv": "Darknet's CPU code ignores it",
        }
        refused = {
            "xnor": "binary convolutions are not available",
            "binary": "binary convolutions are not available",
            "antialiasing": "blurred downsampling is not available",
            "share_index": "sharing weights between layers is not available",
            "assisted_excitation": "it is not available",
            "sway": "ensembles of transformed weights are not available",
            "rotate": "ensembles of transformed weights are not available",
            "stretch": "ensembles of transformed weights are not available",
            "stretch_sway": "ensembles of transformed weights are not available",
            "deform": "ensembles of transformed weights are not available",
        }

    convolved: Any = None
    pre_activation: Any = None

    def shape(self, *inputs: Shape) -> Shape:
        """(filters, h', w')."""
        c, h, w = inputs[0]
        o = self.options
        if c % o.groups or o.filters % o.groups:
            self.problem("groups", f"groups={o.groups} must divide both the {c} input channels and filters={o.filters}")
            return inputs[0]
        margin = o.size // 2 if o.pad else o.padding
        dilation = 1 if o.size == 1 else o.dilation
        self.geometry = ConvolutionGeometry(o.size, o.stride_y, o.stride_x, margin * dilation, dilation, o.groups)
        if h + 2 * margin < o.size or w + 2 * margin < o.size:
            self.problem("size", f"size={o.size} is larger than its input of {w}x{h} with a padding of {margin}")
            return inputs[0]
        return o.filters, (h + 2 * margin - o.size) // o.stride_y + 1, (w + 2 * margin - o.size) // o.stride_x + 1

    def parameters(self) -> list[Parameter]:
        """Biases, then batch-norm scales and statistics, then weights (filters, c / groups, size, size)."""
        o = self.options
        channels = self.input_shapes[0][0] // o.groups
        biases = [Parameter("biases", (o.filters,), trained=o.bias or o.batch_normalize)]
        return [*biases, *self._normalization_parameters(), self._weights(channels)]

    def _normalization_parameters(self) -> list[Parameter]:
        if not self.options.batch_normalize:
            return []
        shape = (self.options.filters,)
        return [
            Parameter("scales", shape, 1.0),
            Parameter("rolling_mean", shape, trained=False),
            Parameter("rolling_variance", shape, trained=False),
        ]

    def _weights(self, channels: int) -> Parameter:
        o = self.options
        shape = (o.filters, channels, o.size, o.size)
        return Parameter("weights", shape, uniform_fan_in(o.size * o.size * channels), decay=True)

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The convolution's result before normalisation, the value before the activation, and a gradient of each."""
        assert self.output_shape is not None
        shape = (batch, *self.output_shape)
        filters = (self.options.filters,)
        found: dict[str, Buffer] = {}
        if self.options.batch_normalize:
            found["folded_scale"] = found["folded_bias"] = Buffer(filters, scratch=True, during=("forward",))
        if not training:
            return found
        if self.options.batch_normalize:
            found |= {"convolved": Buffer(shape), "mean": Buffer(filters), "variance": Buffer(filters)}
        if self._keeps_pre_activation():
            found["pre_activation"] = Buffer(shape)
        if self.options.batch_normalize or self.options.activation != "linear":
            found["grad_convolved"] = Buffer(shape, scratch=True, during=("backward",))
        return found

    def _keeps_pre_activation(self) -> bool:
        """Batch normalisation recomputes it, except for activations over channels."""
        activation = self.options.activation
        if self.options.batch_normalize:
            return activation in CHANNEL_ACTIVATIONS
        return gradient_needs_input(activation)

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend's convolution asks for."""
        assert self.output_shape is not None
        return self.backend.convolution_workspace(
            (batch, *self.input_shapes[0]),
            self._weights(self.input_shapes[0][0] // self.options.groups).shape,
            (batch, *self.output_shape),
            self.geometry,
            training,
        )

    def operations(self) -> float:
        """Two per multiply-add."""
        assert self.output_shape is not None
        _, h, w = self.output_shape
        return 2.0 * self._weights(self.input_shapes[0][0] // self.options.groups).size * h * w

    def receptive_step(self) -> tuple[float, float]:
        """Filter side (dilated) and stride."""
        o = self.options
        return (o.size - 1) * self.geometry.dilation + 1, max(o.stride_x, o.stride_y)

    def describe(self) -> str:
        """Such as ``3x3/2``, with dilation and groups where they matter."""
        o = self.options
        dilation = f" d{self.geometry.dilation}" if self.geometry.dilation > 1 else ""
        groups = f" g{o.groups}" if o.groups > 1 else ""
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return f"{o.size}x{o.size}/{stride}{dilation}{groups}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Convolve, normalise, activate."""
        self.x = x
        if not training:
            self._forward_inference(x)
        elif self.options.batch_normalize:
            self._forward_normalized(x)
        else:
            self._forward_plain(x)

    def _forward_inference(self, x: Any) -> None:
        backend, activation = self.backend, self.options.activation
        scale, bias = None, self.biases
        if self.options.batch_normalize:
            scale, bias = self.folded_scale, self.folded_bias
            backend.fold_batchnorm(self.scales, self.biases, self.rolling_mean, self.rolling_variance, scale, bias)
        over_channels = activation in CHANNEL_ACTIVATIONS
        fused = "linear" if over_channels else activation
        backend.convolution_forward(x, self.weights, self.output, self.geometry, scale, bias, fused)
        if over_channels:
            backend.activation_forward(self.output, self.output, activation)

    def _forward_normalized(self, x: Any) -> None:
        backend, activation = self.backend, self.options.activation
        normalized = self.output if self.pre_activation is None else self.pre_activation
        backend.convolution_forward(x, self.weights, self.convolved, self.geometry)
        backend.batchnorm_forward_training(
            self.convolved,
            normalized,
            self.scales,
            self.biases,
            self.mean,
            self.variance,
            self.rolling_mean,
            self.rolling_variance,
            ROLLING_MOMENTUM,
            self._fused_activation(),
        )
        if self.pre_activation is not None:
            backend.activation_forward(self.pre_activation, self.output, activation)

    def _forward_plain(self, x: Any) -> None:
        backend, activation = self.backend, self.options.activation
        if self.pre_activation is None:
            backend.convolution_forward(x, self.weights, self.output, self.geometry, None, self.biases, activation)
        else:
            backend.convolution_forward(x, self.weights, self.pre_activation, self.geometry, None, self.biases)
            backend.activation_forward(self.pre_activation, self.output, activation)

    def _fused_activation(self) -> str:
        """The activation done within batch normalisation; one over channels is a step of its own."""
        return "linear" if self.pre_activation is not None else self.options.activation

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of weights, biases, scales and of the input."""
        backend = self.backend
        if self.options.batch_normalize:
            grad = self._backward_normalized(grad_output)
        else:
            grad = self._backward_plain(grad_output)
        backend.convolution_backward_weights(self.x, grad, self.grad_weights, self.geometry)
        if grad_x is not None:
            backend.convolution_backward_input(grad, self.weights, grad_x, self.geometry, self.accumulate[0])

    def _backward_normalized(self, grad_output: Any) -> Any:
        backend = self.backend
        normalized = self.output
        if self.pre_activation is not None:
            normalized = self.pre_activation
            backend.activation_backward(
                normalized, self.output, grad_output, self.grad_convolved, self.options.activation
            )
            grad_output = self.grad_convolved
        backend.batchnorm_backward(
            self.convolved,
            normalized,
            grad_output,
            self.mean,
            self.variance,
            self.scales,
            self.biases,
            self.grad_scales,
            self.grad_biases,
            self.grad_convolved,
            self._fused_activation(),
        )
        return self.grad_convolved

    def _backward_plain(self, grad_output: Any) -> Any:
        grad = grad_output
        if self.options.activation != "linear":
            grad = self.grad_convolved
            self.backend.activation_backward(
                self.pre_activation, self.output, grad_output, grad, self.options.activation
            )
        if self.options.bias:
            self.backend.bias_backward(grad, self.grad_biases)
        return grad
