"""What several layers share: an activation as a last step, and batch normalisation or a bias before it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, gradient_needs_input
from darkpy.config.options import option
from darkpy.layers.base import Buffer, Layer, Parameter

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


class NormalizedLayer(ActivatedLayer):
    """A linear map, then batch normalisation (``options.batch_normalize``) or a bias, then ``options.activation``.

    Subclasses give the map, :meth:`linear_forward` and :meth:`linear_backward`, and have ``biases`` and, with batch
    normalisation, :meth:`normalization_parameters` among their parameters.
    """

    rolling_momentum: ClassVar[float]
    """Share of the new batch in the rolling statistics."""

    summed: Any = None

    @abstractmethod
    def linear_forward(self, x: Any, out: Any) -> None:
        """Write the sums of the weighted inputs to ``out``."""

    @abstractmethod
    def linear_backward(self, grad: Any, grad_x: Any) -> None:
        """From the gradient of the sums, add to that of the weights and hand on that of the input, if wanted."""

    def normalization_parameters(self, channels: int) -> list[Parameter]:
        """Scales and statistics of batch normalisation, if there is any."""
        if not self.options.batch_normalize:
            return []
        return [
            Parameter("scales", (channels,), 1.0),
            Parameter("rolling_mean", (channels,), trained=False),
            Parameter("rolling_variance", (channels,), trained=False),
        ]

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The sums before normalisation, and gradients."""
        found = super().buffers(batch, training)
        if self.options.batch_normalize:
            assert self.output_shape is not None
            shape = (batch, *self.output_shape)
            statistic = Buffer(self.output_shape[:1], self.backend.dtype)
            found["summed"] = Buffer(shape, scratch=not training, during=("forward", "backward"))
            if training:
                found |= {"mean": statistic, "variance": statistic}
                found["grad_summed"] = Buffer(shape, scratch=True, during=("backward",))
        return found

    def forward(self, x: Any, *, training: bool) -> None:
        """Sum up, normalise, add the bias, activate."""
        self.x = x
        backend, target = self.backend, self.before_activation()
        sums = target if self.summed is None else self.summed
        self.linear_forward(x, sums)
        if not self.options.batch_normalize:
            backend.bias_activation_forward(sums, self.biases, target, "linear")
        elif training:
            backend.batchnorm_forward_training(
                sums,
                target,
                self.scales,
                self.biases,
                self.mean,
                self.variance,
                self.rolling_mean,
                self.rolling_variance,
                self.rolling_momentum,
            )
        else:
            backend.batchnorm_forward_inference(
                sums, target, self.scales, self.biases, self.rolling_mean, self.rolling_variance
            )
        self.activate()

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of weights, biases, scales and of the input."""
        backend = self.backend
        grad = self.grad_before_activation(grad_output)
        if self.options.batch_normalize:
            backend.batchnorm_backward(
                self.summed,
                self.before_activation(),
                grad,
                self.mean,
                self.variance,
                self.scales,
                self.biases,
                self.grad_scales,
                self.grad_biases,
                self.grad_summed,
            )
            grad = self.grad_summed
        else:
            backend.bias_backward(grad, self.grad_biases)
        self.linear_backward(grad, grad_x)
