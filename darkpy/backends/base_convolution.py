"""The contract of a backend, continued: convolutions, biases, batch normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from darkpy.backends.base_layers import LayerContract

if TYPE_CHECKING:
    from darkpy.backends.base_words import Array, ConvolutionGeometry


class ConvolutionContract(LayerContract):
    """What layers with weights for windows ask for."""

    # --- convolution

    @abstractmethod
    def convolution_workspace(
        self,
        x_shape: Sequence[int],
        weights_shape: Sequence[int],
        out_shape: Sequence[int],
        geometry: ConvolutionGeometry,
        training: bool,
    ) -> int:
        """Bytes of workspace that the convolution of these shapes needs, backward included if ``training``."""

    @abstractmethod
    def convolution_forward(
        self,
        x: Array,
        weights: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scale: Array | None = None,
        bias: Array | None = None,
        activation: str = "linear",
    ) -> None:
        """``out = activation(convolution(x, weights) * scale + bias)``.

        x (n, c, h, w); weights (f, c / groups, size, size); out (n, f, oh, ow), whose height and width say how far the
        kernel moves; scale and bias (f,) or None; an elementwise activation.
        """

    #: Whether :meth:`convolution_residual_forward` saves a pass over the results.
    adds_residuals: bool = False

    def convolution_residual_forward(
        self,
        x: Array,
        weights: Array,
        out: Array,
        residual: Array,
        geometry: ConvolutionGeometry,
        scale: Array | None = None,
        bias: Array | None = None,
        activation: str = "linear",
        after: str = "linear",
    ) -> None:
        """``out = after(activation(convolution(x, weights) * scale + bias) + residual)``; residual (n, f, oh, ow).

        The others as in :meth:`convolution_forward`; ``after`` is an elementwise activation.
        """
        self.convolution_forward(x, weights, out, geometry, scale, bias, activation)
        self.add_forward(out, residual, out, after)

    @abstractmethod
    def convolution_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """``grad_weights +=`` the gradient; grad_out is the gradient of the bare convolution."""

    @abstractmethod
    def convolution_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """Gradient with respect to x; grad_out is the gradient of the bare convolution."""

    # --- local layers: a convolution whose every output position has weights of its own

    @abstractmethod
    def local_workspace(
        self, x_shape: Sequence[int], weights_shape: Sequence[int], geometry: ConvolutionGeometry
    ) -> int:
        """Bytes of workspace that the three operations of these shapes need."""

    @abstractmethod
    def local_forward(self, x: Array, weights: Array, out: Array, geometry: ConvolutionGeometry) -> None:
        """x (n, c, h, w), weights (oh * ow, f, c, size, size), out (n, f, oh, ow); no groups, no dilation."""

    @abstractmethod
    def local_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """``grad_weights +=`` the gradient."""

    @abstractmethod
    def local_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """Gradient with respect to x."""

    # --- binary convolutions: signs instead of numbers

    @abstractmethod
    def binarize(self, x: Array, out: Array) -> None:
        """``out`` = 1 where x > 0, else -1; out may be a view."""

    @abstractmethod
    def binarize_filters(self, weights: Array, out: Array) -> None:
        """``out`` = the sign of each weight, as above, times the mean size of its filter's weights."""

    # --- biases

    @abstractmethod
    def bias_activation_forward(self, x: Array, biases: Array, out: Array, activation: str) -> None:
        """``out = activation(x + biases)``: x, out (n, c, h, w) or (n, c); biases (c,). x may be out."""

    @abstractmethod
    def bias_backward(self, grad: Array, grad_biases: Array) -> None:
        """``grad_biases += `` sum of grad, (n, c, h, w) or (n, c), over everything but channels."""

    # --- batch normalisation

    @abstractmethod
    def batchnorm_forward_training(
        self,
        x: Array,
        out: Array,
        scales: Array,
        biases: Array,
        mean: Array,
        variance: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        momentum: float,
        activation: str = "linear",
    ) -> None:
        """``out = activation(scales * (x - mean) / sqrt(variance + 1e-5) + biases)`` with the batch's own statistics.

        x, out (n, c, h, w) or (n, c), x may be out; all others (c,). mean and variance are written; the variance
        divides by N - 1, N = n * h * w (Darknet, blas.c), and is 0 if N = 1. rolling statistics become
        ``(1 - momentum) * rolling + momentum * new``. An elementwise activation.
        """

    def convolution_batchnorm_forward_training(
        self,
        x: Array,
        weights: Array,
        convolved: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scales: Array,
        biases: Array,
        mean: Array,
        variance: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        momentum: float,
        activation: str = "linear",
    ) -> None:
        """:meth:`convolution_forward` to ``convolved``, then :meth:`batchnorm_forward_training` of it to ``out``.

        Together, so that a backend can add up the statistics while it writes what they are of.
        """
        self.convolution_forward(x, weights, convolved, geometry)
        self.batchnorm_forward_training(
            convolved, out, scales, biases, mean, variance, rolling_mean, rolling_variance, momentum, activation
        )

    @abstractmethod
    def batchnorm_forward_inference(
        self,
        x: Array,
        out: Array,
        scales: Array,
        biases: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        activation: str = "linear",
    ) -> None:
        """The same with the rolling statistics; nothing else is written. x may be out."""

    @abstractmethod
    def batchnorm_backward(
        self,
        x: Array,
        out: Array,
        grad_out: Array,
        mean: Array,
        variance: Array,
        scales: Array,
        biases: Array,
        grad_scales: Array,
        grad_biases: Array,
        grad_x: Array,
        activation: str = "linear",
        accumulate: bool = False,
    ) -> None:
        """Exact derivative of :meth:`batchnorm_forward_training`, activation included.

        x, out, mean and variance are those of the forward pass. ``grad_scales`` and ``grad_biases`` ``+=``. grad_x may
        be grad_out if not ``accumulate``.
        """

    def convolution_batchnorm_forward_inference(
        self,
        x: Array,
        weights: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scales: Array,
        biases: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        factors: Array,
        shifts: Array,
        activation: str = "linear",
        residual: Array | None = None,
        after: str = "linear",
    ) -> None:
        """:meth:`convolution_forward` with the scale and bias of :meth:`fold_batchnorm`.

        With a residual it is :meth:`convolution_residual_forward`. factors and shifts (f,) are room for scale and bias;
        a backend that needs none may leave them as they are.
        """
        self.fold_batchnorm(scales, biases, rolling_mean, rolling_variance, factors, shifts)
        if residual is None:
            self.convolution_forward(x, weights, out, geometry, factors, shifts, activation)
        else:
            self.convolution_residual_forward(
                x, weights, out, residual, geometry, factors, shifts, activation, after
            )

    @abstractmethod
    def fold_batchnorm(
        self, scales: Array, biases: Array, mean: Array, variance: Array, out_scale: Array, out_bias: Array
    ) -> None:
        """Batch normalisation as one factor and one summand per channel; all (c,).

        ``out_scale = scales / sqrt(variance + 1e-5)``, ``out_bias = biases - mean * out_scale``.
        """
