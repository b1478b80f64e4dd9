"""[convolutional]: sliding filters, with optional batch normalisation, then an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ConvolutionGeometry, gradient_needs_input
from darkpy.config.options import CommonOptions, option
from darkpy.layers.antialiasing import Blur, antialiasing_option
from darkpy.layers.base import Buffer, Layer, Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import activation_option

ROLLING_MOMENTUM = 0.1
"""Share of the new batch in the rolling statistics (Darknet's CPU code)."""

NO_ENSEMBLES = "ensembles of transformed weights exist in Darknet's CUDA code only; no published cfg asks for them"


@register("convolutional", "conv")
class Convolutional(Layer):
    """Sliding filters, with optional batch normalisation, then an activation.

    Input (n, c, h, w), output (n, filters, h', w') with h' = (h + 2 padding - size) / stride + 1, rounded down.
    ``dilation`` spreads a filter's taps and multiplies the padding; it does not enter the output size (Darknet,
    convolutional_layer.c). With ``groups`` each share of the filters sees its own share of the channels.

    ``xnor`` works with the signs of the input and, of the weights, their signs times their mean size in each filter
    (Rastegari et al. 2016); ``binary`` does so with the weights only. Their gradients are those of an ordinary
    convolution of these values, which the weights themselves follow; an input beyond ±1 gets none (Darknet's CUDA
    code). As in Darknet, what lies outside the picture counts as 0 in training, and with ``xnor`` as -1 at inference.
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
        cbn: bool = option(False, help="the same as batch_normalize: statistics are taken over each mini-batch")
        batch_normalize: bool = option(same_as="cbn", help="normalise each channel over the batch, scale and shift it")
        bias: bool = option(True, help="0 leaves out the bias of a layer without batch normalisation")
        activation: str = activation_option("logistic")
        antialiasing: int = antialiasing_option()
        share_index: int = option(
            lambda o: None,
            default_text="none",
            help="use the weights of this layer, a [convolutional] of the same form; a negative value counts back",
        )
        xnor: bool = option(False, help="1 computes with the signs of inputs and weights, without groups")
        binary: bool = option(False, help="1 computes with the signs of the weights")

        ineffective = {
            "bin_output": "outputs are kept in full; a layer with xnor=1 behind it sees the same signs",
            "flipped": "weights are stored filter by filter",
            "dot": "Darknet reads it and does not use it",
            "stream": "layers run one after the other",
            "wait_stream": "layers run one after the other",
            "grad_centr": "gradients are as they are; so are they in Darknet's CPU code",
            "reverse": "gradients are as they are; so are they in Darknet's CPU code",
            "angle": "it belongs to sway=, rotate=, stretch= and stretch_sway=",
        }
        refused = {
            "assisted_excitation": "outputs are not raised where objects are; no published cfg asks for it",
            "coordconv": "a filter does not see where it is; Darknet's CUDA code only, no published cfg asks for it",
            "sway": NO_ENSEMBLES,
            "rotate": NO_ENSEMBLES,
            "stretch": NO_ENSEMBLES,
            "stretch_sway": NO_ENSEMBLES,
        }

    convolved: Any = None
    pre_activation: Any = None
    sharp: Any = None
    blur: Blur | None = None

    def shape(self, *inputs: Shape) -> Shape:
        """(filters, h', w')."""
        c, h, w = inputs[0]
        o = self.options
        if c % self.groups or o.filters % self.groups:
            self.problem("groups", f"groups={o.groups} must divide both the {c} input channels and filters={o.filters}")
            return inputs[0]
        margin = o.size // 2 if o.pad else o.padding
        dilation = 1 if o.size == 1 else o.dilation
        stride_y, stride_x = (1, 1) if o.antialiasing else (o.stride_y, o.stride_x)
        self.geometry = ConvolutionGeometry(o.size, stride_y, stride_x, margin * dilation, dilation, self.groups)
        if h + 2 * margin < o.size or w + 2 * margin < o.size:
            self.problem("size", f"size={o.size} is larger than its input of {w}x{h} with a padding of {margin}")
            return inputs[0]
        height, width = (h + 2 * margin - o.size) // stride_y + 1, (w + 2 * margin - o.size) // stride_x + 1
        self.convolved_shape = (o.filters, height, width)
        self._find_owner(c)
        if o.cbn and not o.batch_normalize:
            self.problem("batch_normalize", "cbn=1 is a batch normalisation: leave out batch_normalize=0")
        if not o.antialiasing:
            return self.convolved_shape
        return self._blurred()

    def _blurred(self) -> Shape:
        o = self.options
        self.blur = Blur(self.backend, o.antialiasing, o.stride_y, o.stride_x, self.convolved_shape)
        if min(self.blur.shape) < 1:
            _, h, w = self.convolved_shape
            self.problem("antialiasing", f"antialiasing={o.antialiasing} needs more than {w}x{h} values to blur")
        return self.blur.shape

    def _find_owner(self, channels: int) -> None:
        """The layer that ``share_index`` names, or the one that shares its weights with it in turn."""
        o = self.options
        if o.share_index is None:
            return
        index = self.resolve(o.share_index, "share_index")
        named = None if index is None else self.graph.layers[index]
        if named is None:
            return
        owner = named.parameters_of or named
        expected = self._own_parameters(channels)
        if [(p.name, p.shape) for p in owner.parameters()] != [(p.name, p.shape) for p in expected]:
            same = "filters, size, groups, batch_normalize and input channels"
            self.problem("share_index", f"layer {index} is no [convolutional] of the same {same}")
            return
        self.parameters_of = owner

    @property
    def groups(self) -> int:
        """Parts of the channels; one with ``xnor``, whatever is asked for (Darknet, make_convolutional_layer)."""
        return 1 if self.options.xnor else self.options.groups

    def parameters(self) -> list[Parameter]:
        """Biases, then batch-norm scales and statistics, then weights (filters, c / groups, size, size)."""
        return [] if self.parameters_of is not None else self._own_parameters(self.input_shapes[0][0])

    def _own_parameters(self, channels: int) -> list[Parameter]:
        o = self.options
        biases = Parameter("biases", (o.filters,), trained=o.bias or o.batch_normalize)
        return [biases, *self._normalization_parameters(), self._weights(channels)]

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
        shape = (o.filters, channels // self.groups, o.size, o.size)
        return Parameter("weights", shape, uniform_fan_in(o.size * o.size * shape[1]), decay=True)

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The convolution's result before normalisation, the value before the activation, and a gradient of each."""
        shape = (batch, *self.convolved_shape)
        statistic = Buffer((self.options.filters,), self.backend.dtype)
        found = self._binary_buffers(batch, training)
        if self.options.batch_normalize:
            found["folded_scale"] = found["folded_bias"] = replace(statistic, scratch=True, during=("forward",))
        if self.blur is not None:
            found["sharp"] = Buffer(shape, scratch=not training)
        if not training:
            return found
        if self.options.batch_normalize:
            found |= {"convolved": Buffer(shape), "mean": statistic, "variance": statistic}
        if self._keeps_pre_activation():
            found["pre_activation"] = Buffer(shape)
        if self.options.batch_normalize or self.options.activation != "linear" or self.blur is not None:
            found["grad_convolved"] = Buffer(shape, scratch=True, during=("backward",))
        return found

    def _binary_buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        found: dict[str, Buffer] = {}
        c, h, w = self.input_shapes[0]
        if self.options.xnor or self.options.binary:
            found["binary_weights"] = Buffer(self._weights(c).shape, self.backend.dtype, scratch=not training)
        if self.options.xnor:
            margin = 2 * self.geometry.padding
            found["signs"] = Buffer((batch, c, h + margin, w + margin), scratch=not training)
            if training:
                found["grad_signs"] = Buffer((batch, c, h, w), scratch=True, during=("backward",))
        return found

    def _keeps_pre_activation(self) -> bool:
        """Batch normalisation recomputes it, except for activations over channels."""
        activation = self.options.activation
        if self.options.batch_normalize:
            return activation in CHANNEL_ACTIVATIONS
        return gradient_needs_input(activation)

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend's convolution asks for, and the blur's."""
        c = self.input_shapes[0][0]
        needed = self.backend.convolution_workspace(
            (batch, *self.input_shapes[0]),
            self._weights(c).shape,
            (batch, *self.convolved_shape),
            self.geometry,
            training,
        )
        return needed if self.blur is None else max(needed, self.blur.workspace(batch, training))

    def adds_residual(self) -> bool:
        """Unless something comes after the activation, or the activation sees all channels."""
        return self.blur is None and self.options.activation not in CHANNEL_ACTIVATIONS

    def operations(self) -> float:
        """Two per multiply-add; of signs, 32 at a time."""
        _, h, w = self.convolved_shape
        count = 2.0 * self._weights(self.input_shapes[0][0]).size * h * w
        return count / 32 if self.options.xnor else count

    def receptive_step(self) -> tuple[float, float]:
        """Filter side (dilated) and stride."""
        o = self.options
        return (o.size - 1) * self.geometry.dilation + 1, max(o.stride_x, o.stride_y)

    def describe(self) -> str:
        """Such as ``3x3/2``, with dilation and groups where they matter."""
        o = self.options
        dilation = f" d{self.geometry.dilation}" if self.geometry.dilation > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return f"{o.size}x{o.size}/{stride}{dilation}{groups}"

    @property
    def activated(self) -> Any:
        """Where the result of the activation goes: the output, unless it has to be blurred yet."""
        return self.output if self.blur is None else self.sharp

    @property
    def operands(self) -> tuple[Any, Any, ConvolutionGeometry]:
        """What is convolved with what: input, weights, geometry."""
        weights = self.binary_weights if self.options.xnor or self.options.binary else self.weights
        if self.options.xnor:
            # The signs have their margin around them.
            return self.signs, weights, replace(self.geometry, padding=0)
        return self.x, weights, self.geometry

    def forward(self, x: Any, *, training: bool) -> None:
        """Convolve, normalise, activate, blur."""
        self.x = x
        self._binarize(training)
        if not training:
            self._forward_inference()
        elif self.options.batch_normalize:
            self._forward_normalized()
        else:
            self._forward_plain()
        if self.blur is not None:
            self.blur.forward(self.sharp, self.output)

    def _binarize(self, training: bool) -> None:
        if self.options.xnor or self.options.binary:
            self.backend.binarize_filters(self.weights, self.binary_weights)
        if self.options.xnor:
            self.backend.fill(self.signs, 0.0 if training else -1.0)
            margin, (_, h, w) = self.geometry.padding, self.input_shapes[0]
            self.backend.binarize(self.x, self.signs[:, :, margin : margin + h, margin : margin + w])

    def _forward_inference(self) -> None:
        backend, activation = self.backend, self.options.activation
        x, weights, geometry = self.operands
        residual, after = self.residual or (None, "linear")  # what the [shortcut] behind this layer would do
        over_channels = activation in CHANNEL_ACTIVATIONS
        fused = "linear" if over_channels else activation
        if self.options.batch_normalize:
            backend.convolution_batchnorm_forward_inference(
                x,
                weights,
                self.activated,
                geometry,
                self.scales,
                self.biases,
                self.rolling_mean,
                self.rolling_variance,
                self.folded_scale,
                self.folded_bias,
                fused,
                residual,
                after,
            )
        elif residual is not None:
            backend.convolution_residual_forward(
                x, weights, self.activated, residual, geometry, bias=self.biases, activation=fused, after=after
            )
        else:
            backend.convolution_forward(x, weights, self.activated, geometry, bias=self.biases, activation=fused)
        if over_channels:
            backend.activation_forward(self.activated, self.activated, activation)

    def _forward_normalized(self) -> None:
        backend, activation = self.backend, self.options.activation
        normalized = self.activated if self.pre_activation is None else self.pre_activation
        x, weights, geometry = self.operands
        backend.convolution_batchnorm_forward_training(
            x,
            weights,
            self.convolved,
            normalized,
            geometry,
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
            backend.activation_forward(self.pre_activation, self.activated, activation)

    def _forward_plain(self) -> None:
        backend, activation = self.backend, self.options.activation
        x, weights, geometry = self.operands
        if self.pre_activation is None:
            backend.convolution_forward(x, weights, self.activated, geometry, None, self.biases, activation)
        else:
            backend.convolution_forward(x, weights, self.pre_activation, geometry, None, self.biases)
            backend.activation_forward(self.pre_activation, self.activated, activation)

    def _fused_activation(self) -> str:
        """The activation done within batch normalisation; one over channels is a step of its own."""
        return "linear" if self.pre_activation is not None else self.options.activation

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of weights, biases, scales and of the input."""
        backend = self.backend
        if self.blur is not None:
            self.blur.backward(grad_output, self.grad_convolved)
            grad_output = self.grad_convolved
        if self.options.batch_normalize:
            grad = self._backward_normalized(grad_output)
        else:
            grad = self._backward_plain(grad_output)
        x, weights, geometry = self.operands
        backend.convolution_backward_weights(x, grad, self.grad_weights, geometry)
        if grad_x is None:
            return
        if self.options.xnor:
            self._backward_signs(grad, grad_x)
        else:
            backend.convolution_backward_input(grad, weights, grad_x, geometry, self.accumulate[0])

    def _backward_signs(self, grad: Any, grad_x: Any) -> None:
        """The gradient of a sign is taken to be 1 between -1 and 1, and 0 beyond."""
        backend = self.backend
        backend.convolution_backward_input(grad, self.binary_weights, self.grad_signs, self.geometry)
        backend.activation_backward(None, self.x, self.grad_signs, grad_x, "hardtan", self.accumulate[0])

    def _backward_normalized(self, grad_output: Any) -> Any:
        backend = self.backend
        normalized = self.activated
        if self.pre_activation is not None:
            normalized = self.pre_activation
            backend.activation_backward(
                normalized, self.activated, grad_output, self.grad_convolved, self.options.activation
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
                self.pre_activation, self.activated, grad_output, grad, self.options.activation
            )
        if self.options.bias:
            self.backend.bias_backward(grad, self.grad_biases)
        return grad
