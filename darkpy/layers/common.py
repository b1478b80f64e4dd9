"""What several layers share: the activation option and the arithmetic of an activation as a last step."""

from __future__ import annotations

from typing import Any

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, gradient_needs_input
from darkpy.config.options import option
from darkpy.layers.base import Buffer, Layer

ACTIVATIONS = (*ELEMENTWISE_ACTIVATIONS, *CHANNEL_ACTIVATIONS)


def activation_option(default: str) -> Any:
    """The key ``activation`` with Darknet's names."""
    return option(default, choices=ACTIVATIONS, help="function applied to every output value")


class ActivatedLayer(Layer):
    """A layer whose last step is ``options.activation``.

    ``forward`` of a subclass writes to ``self.before_activation()`` and then calls :meth:`activate`; its backward
    starts from :meth:`grad_before_activation`. Nothing is stored or copied for the linear activation.
    """

    pre_activation: Any = None
    grad_pre_activation: Any = None

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """What the activation's gradient needs."""
        assert self.output_shape is not None
        if not training or self.options.activation == "linear":
            return {}
        shape = (batch, *self.output_shape)
        found = {"grad_pre_activation": Buffer(shape, scratch=True, during=("backward",))}
        if gradient_needs_input(self.options.activation):
            found["pre_activation"] = Buffer(shape)
        return found

    def before_activation(self) -> Any:
        """Where forward puts the value the activation is applied to."""
        return self.output if self.pre_activation is None else self.pre_activation

    def activate(self) -> None:
        """Apply the activation to :meth:`before_activation`, giving ``output``."""
        if self.options.activation != "linear":
            self.backend.activation_forward(self.before_activation(), self.output, self.options.activation)

    def grad_before_activation(self, grad_output: Any) -> Any:
        """Gradient of the value before the activation; ``grad_output`` itself for the linear one."""
        if self.options.activation == "linear":
            return grad_output
        self.backend.activation_backward(
            self.pre_activation, self.output, grad_output, self.grad_pre_activation, self.options.activation
        )
        return self.grad_pre_activation
