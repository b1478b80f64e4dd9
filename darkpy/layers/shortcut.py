"""[shortcut]: the sum of the previous layer and earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import ELEMENTWISE_ACTIVATIONS
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Parameter, Shape, register
from darkpy.layers.common import ActivatedLayer, activation_option


@register("shortcut")
class Shortcut(ActivatedLayer):
    """Adds earlier layers to the previous one, then an activation.

    Input and output (n, c, h, w) of the previous layer. A layer with more or fewer channels takes part with the
    channels both have (Darknet, shortcut_layer.c); one that is larger or smaller by a whole factor takes part with
    every such position (shortcut_cpu of the first Darknet). With ``weights_type`` the sum is weighted by learned
    weights, one per input or per input and channel, optionally normalised over the inputs.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        from_: tuple[int, ...] = option(help="layers to add; negative values count back from this one")
        activation: str = activation_option("linear")
        weights_type: str = option(
            "none",
            choices=("none", "per_feature", "per_layer", "per_channel"),
            help="learned weights: none, one per input (per_feature, per_layer), or one per input and channel",
        )
        weights_normalization: str = option(
            "none", choices=("none", "relu", "avg", "softmax"), help="how weights are made to sum to one"
        )

    def find_sources(self) -> list[int]:
        """The previous layer and those named."""
        found = [self.resolve(value, "from") for value in self.options.from_]
        return [self.index - 1, *(index for index in found if index is not None)]

    def shape(self, *inputs: Shape) -> Shape:
        """That of the previous layer."""
        _, h, w = inputs[0]
        for source, other in zip(self.sources[1:], inputs[1:]):
            if not (_whole_factor(h, other[1]) and _whole_factor(w, other[2])):
                sizes = f"{other[2]}x{other[1]} to {w}x{h}"
                self.problem("from", f"adds layer {source} of {sizes}; neither is a multiple of the other")
            elif self.is_weighted and other != inputs[0]:
                shapes = f"layer {source} is {other}, the previous {inputs[0]}"
                self.problem("weights_type", f"weights need inputs of one shape; {shapes}")
        return inputs[0]

    @property
    def is_weighted(self) -> bool:
        """Whether the inputs have learned weights."""
        return self.options.weights_type != "none"

    @property
    def normalization(self) -> str:
        """Darknet reads ``avg`` as ``relu``."""
        kind = self.options.weights_normalization
        return "relu" if kind == "avg" else kind

    def parameters(self) -> list[Parameter]:
        """Weights (inputs,) or (inputs, c), the previous layer's first."""
        if not self.is_weighted:
            return []
        per_channel = self.options.weights_type == "per_channel"
        shape = (len(self.sources), self.input_shapes[0][0]) if per_channel else (len(self.sources),)
        return [Parameter("weights", shape, 1.0, decay=True)]

    def operations(self) -> float:
        """One per value and added layer."""
        return float(self.outputs) * (len(self.sources) - 1)

    def describe(self) -> str:
        """The layers added."""
        return ", ".join(str(source) for source in self.sources[1:])

    def is_plain(self) -> bool:
        """Whether two layers of one shape are added as they are."""
        return not self.is_weighted and len(self.sources) == 2 and self.input_shapes[0] == self.input_shapes[1]

    def may_overwrite(self) -> bool:
        """Unless weights want to see the inputs."""
        return self.is_plain()

    def passes_gradient(self) -> bool:
        """A sum does."""
        return not self.is_weighted and self.options.activation == "linear"

    def forward(self, *inputs: Any, training: bool) -> None:
        """Sum, then the activation."""
        if self.is_done_before:
            return
        total, activation = self.before_activation(), self.options.activation
        self.inputs = inputs
        if self.is_plain():
            is_fused = self.pre_activation is None and activation in ELEMENTWISE_ACTIVATIONS
            self.backend.add_forward(inputs[0], inputs[1], total, activation if is_fused else "linear")
            if is_fused:
                return
        elif self.is_weighted:
            self.backend.weighted_sum_forward(list(inputs), self.weights, total, self.normalization)
        else:
            self.backend.copy(inputs[0], total)
            for other in inputs[1:]:
                self.backend.copy_channels(*_common(other, total), accumulate=True)
        self.activate()

    def backward(self, grad_output: Any, *grad_inputs: Any) -> None:
        """Every input gets the gradient of the sum."""
        grad = self.grad_before_activation(grad_output)
        if self.is_weighted:
            self.backend.weighted_sum_backward(
                list(self.inputs),
                self.weights,
                grad,
                list(grad_inputs),
                self.grad_weights,
                self.normalization,
                list(self.accumulate),
            )
            return
        for number, (grad_x, accumulate) in enumerate(zip(grad_inputs, self.accumulate)):
            if grad_x is None or self.gradients_in_place[number]:
                continue
            source, target = _common(grad, grad_x)
            if not accumulate and target.shape != grad_x.shape:
                self.backend.fill(grad_x, 0.0)
            self.backend.copy_channels(source, target, accumulate)


def _whole_factor(a: int, b: int) -> bool:
    return max(a, b) % min(a, b) == 0


def _common(source: Any, target: Any) -> tuple[Any, Any]:
    """Views of what two arrays have in common: leading channels, and positions at the coarser one's spacing."""
    channels = min(source.shape[1], target.shape[1])
    steps = [(max(1, s // t), max(1, t // s)) for s, t in zip(source.shape[2:], target.shape[2:])]
    (sy, ty), (sx, tx) = steps
    return source[:, :channels, ::sy, ::sx], target[:, :channels, ::ty, ::tx]
