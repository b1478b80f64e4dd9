"""The contract of a backend, continued: activations, pooling, and arithmetic element by element."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkpy.backends.base_words import Array, PoolGeometry


class LayerContract(ABC):
    """What the other layers ask for."""

    # --- activations

    @abstractmethod
    def activation_forward(self, x: Array, out: Array, activation: str) -> None:
        """``out = activation(x)``; x may be out. Channel activations take (n, c, h, w) or (n, c)."""

    @abstractmethod
    def activation_backward(
        self,
        x: Array | None,
        out: Array,
        grad_out: Array,
        grad_x: Array,
        activation: str,
        accumulate: bool = False,
    ) -> None:
        """``grad_x = grad_out * activation'``, the derivative of the forward pass.

        x, the activation's input, may be None where :func:`gradient_needs_input` is false. grad_x may be grad_out if
        not ``accumulate``.
        """

    # --- pooling and resampling

    @abstractmethod
    def winner_dtype(self, geometry: PoolGeometry) -> Any:
        """Integer type of the array of winners that :meth:`maxpool_forward` fills."""

    @abstractmethod
    def maxpool_forward(self, x: Array, out: Array, geometry: PoolGeometry, winners: Array | None = None) -> None:
        """Largest value of each window. x (n, c, h, w), out (n, c, oh, ow).

        Positions outside x never win; of equal values the first in row-major order wins; a window wholly outside x
        gives 0. winners, of the shape of out, remembers where each maximum came from, in a form of the backend's own;
        None at inference.
        """

    @abstractmethod
    def maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """Each window's gradient goes to its winner."""

    @abstractmethod
    def depth_maxpool_forward(self, x: Array, out: Array, winners: Array | None = None) -> None:
        """``out[g]`` = largest of the channels g, g + k, g + 2k, ...: x (n, c, h, w), out (n, k, h, w), k <= c.

        Of equal values the first wins. winners, int32 of the shape of out, remembers which; None at inference.
        """

    @abstractmethod
    def depth_maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, accumulate: bool = False
    ) -> None:
        """The gradient goes to the winning channel."""

    @abstractmethod
    def local_avgpool_forward(self, x: Array, out: Array, geometry: PoolGeometry) -> None:
        """Mean of the positions of each window that lie inside x; a window wholly outside gives 0."""

    @abstractmethod
    def local_avgpool_backward(
        self, grad_out: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """Each of these positions gets an equal share of its window's gradient."""

    @abstractmethod
    def avgpool_forward(self, x: Array, out: Array) -> None:
        """Mean of each channel: x (n, c, h, w), out (n, c, 1, 1)."""

    @abstractmethod
    def avgpool_backward(self, grad_out: Array, grad_x: Array, accumulate: bool = False) -> None:
        """``grad_x = grad_out / (h * w)`` at every position."""

    @abstractmethod
    def upsample_forward(self, x: Array, out: Array, stride: int, scale: float) -> None:
        """``out[y, x] = scale * x[y // stride, x // stride]``: x (n, c, h, w), out (n, c, h * stride, w * stride)."""

    @abstractmethod
    def upsample_backward(
        self, grad_out: Array, grad_x: Array, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """``grad_x = scale *`` sum of the stride x stride block of grad_out."""

    @abstractmethod
    def downsample_forward(self, x: Array, out: Array, stride: int, scale: float) -> None:
        """``out = scale *`` sum of each stride x stride block: x (n, c, h, w), out (n, c, h // stride, w // stride).

        Rows and columns that do not fill a block are left out.
        """

    @abstractmethod
    def downsample_backward(
        self, grad_out: Array, grad_x: Array, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """``grad_x[y, x] = scale * grad_out[y // stride, x // stride]``, 0 where no block lies."""

    @abstractmethod
    def space_to_depth(self, x: Array, out: Array, stride: int, accumulate: bool = False) -> None:
        """``out[(dy * stride + dx) * c + k, y, x'] = x[k, y * stride + dy, x' * stride + dx]``.

        x (n, c, h * stride, w * stride), out (n, c * stride^2, h, w), both contiguous.
        """

    @abstractmethod
    def depth_to_space(self, x: Array, out: Array, stride: int, accumulate: bool = False) -> None:
        """The inverse of :meth:`space_to_depth`: x (n, c * stride^2, h, w), out (n, c, h * stride, w * stride)."""

    @abstractmethod
    def crop_forward(
        self, x: Array, out: Array, top: int, left: int, flip: bool, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        """``out = scale * part + shift``, the part of x from (top, left) on with the height and width of out.

        With ``flip`` it is mirrored left to right.
        """

    @abstractmethod
    def crop_backward(
        self,
        grad_out: Array,
        grad_x: Array,
        top: int,
        left: int,
        flip: bool,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> None:
        """``scale * grad_out`` to where it came from, 0 elsewhere."""

    # --- local response normalisation and unit length

    @abstractmethod
    def response_norm_forward(
        self, x: Array, norms: Array, out: Array, size: int, alpha: float, beta: float, kappa: float
    ) -> None:
        """``out = x * norms^-beta``, ``norms = kappa + alpha * (sum of x^2 over a window of size channels)``.

        All (n, c, h, w); norms is written. The window is a running one that begins without its last channel,
        ``size // 2``, and later takes that away all the same (Darknet, normalization_layer.c).
        """

    @abstractmethod
    def response_norm_backward(
        self,
        x: Array,
        norms: Array,
        grad_out: Array,
        grad_x: Array,
        size: int,
        alpha: float,
        beta: float,
        accumulate: bool = False,
    ) -> None:
        """True derivative, the norms' share included."""

    @abstractmethod
    def unit_length_forward(self, x: Array, out: Array) -> None:
        """``out = x / length``, the length of the vector of all channels at each position; 0 stays 0."""

    @abstractmethod
    def unit_length_backward(
        self, x: Array, out: Array, grad_out: Array, grad_x: Array, accumulate: bool = False
    ) -> None:
        """True derivative."""

    # --- element by element

    @abstractmethod
    def copy_channels(self, source: Array, out: Array, accumulate: bool = False) -> None:
        """``out = source`` (or ``+=``), two views of one shape, such as ``x[:, 4:8]``."""

    @abstractmethod
    def scaled_copy(self, source: Array, out: Array, scale: float, accumulate: bool = False) -> None:
        """``out = scale * source`` (or ``+=``), both of one shape."""

    @abstractmethod
    def add_forward(self, a: Array, b: Array, out: Array, activation: str = "linear") -> None:
        """``out = activation(a + b)``, all of one shape; a may be out. An elementwise activation."""

    @abstractmethod
    def scale_channels_forward(self, x: Array, factors: Array, out: Array) -> None:
        """``out = x * factors``; x, out (n, c, h, w), factors (n, c, 1, 1) or (n, 1, h, w)."""

    @abstractmethod
    def scale_channels_backward(
        self,
        x: Array,
        factors: Array,
        grad_out: Array,
        grad_x: Array | None,
        grad_factors: Array | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """Gradients of both factors; a target that is None is not computed."""

    @abstractmethod
    def shift_channels_forward(self, x: Array, values: Array, out: Array) -> None:
        """``out = x + values``; x, out (n, c, h, w), values (n, c, 1, 1)."""

    @abstractmethod
    def shift_channels_backward(self, grad_out: Array, grad_values: Array, accumulate: bool = False) -> None:
        """``grad_values =`` the sum of grad_out over the positions of each picture."""

    @abstractmethod
    def multiply_forward(self, a: Array, b: Array, out: Array) -> None:
        """``out = a * b``, all of one shape."""

    @abstractmethod
    def multiply_backward(
        self,
        a: Array,
        b: Array,
        grad_out: Array,
        grad_a: Array | None,
        grad_b: Array | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """Gradients of both factors; a target that is None is not computed."""

    @abstractmethod
    def weighted_sum_forward(self, inputs: Sequence[Array], weights: Array, out: Array, normalization: str) -> None:
        """``out = sum of w'[i] * inputs[i]``, all (n, c, h, w).

        weights (len(inputs),), one per input, or (len(inputs), c), one per input and channel. normalization over the
        inputs: "none": w' = w; "relu": w' = relu(w) / (1e-4 + sum relu(w)); "softmax": w' = exp(w - max) / (1e-4 + sum
        exp(w - max)) (Darknet, blas.c, shortcut_multilayer_cpu).
        """

    @abstractmethod
    def weighted_sum_backward(
        self,
        inputs: Sequence[Array],
        weights: Array,
        grad_out: Array,
        grad_inputs: Sequence[Array | None],
        grad_weights: Array,
        normalization: str,
        accumulate: Sequence[bool] | None = None,
    ) -> None:
        """True derivative, normalisation included. ``grad_weights +=``; ``accumulate`` has one flag per input."""

    @abstractmethod
    def drop_blocks(
        self, seed: int, place: int, mask: Array, shares: Array, probability: float, side: float
    ) -> None:
        """Fill ``mask`` (n, c, h, w) with 1, and 0 in a square of some channels, and ``shares`` with what is 0.

        The side s is ``side``, at most the picture's, cut to a whole number; each position of a channel starts a square
        with ``probability / s^2``, of which a channel has one at most. A square beyond the edge is moved inside. Side
        and probability grow from 0, in proportion, until the :meth:`set_progress` is BLOCKS_GROWN. shares (n,): of each
        picture, at most MOST_DROPPED. Random as :meth:`uniform`. (Ghiasi et al. 2018; Darknet,
        dropout_layer_kernels.cu.)
        """

    @abstractmethod
    def dropout_forward(self, x: Array, mask: Array, out: Array, probability: float | Array) -> None:
        """``out = x / (1 - probability)`` where ``mask >= probability``, else 0. mask: uniform in [0, 1).

        probability: one for all, or an array (n,) with one for each picture. x may be out.
        """

    @abstractmethod
    def dropout_backward(
        self, grad_out: Array, mask: Array, grad_x: Array, probability: float | Array, accumulate: bool = False
    ) -> None:
        """The same factors on the gradient. grad_x may be grad_out if not ``accumulate``."""

    @abstractmethod
    def clip(self, array: Array, limit: float) -> None:
        """Force every element into [-limit, limit], in place."""

    # --- connected layers and softmax

    @abstractmethod
    def linear_workspace(self, rows: int, inputs: int, outputs: int, training: bool) -> int:
        """Bytes of workspace that the linear operations of these shapes need, the backward ones if ``training``."""

    @abstractmethod
    def linear_forward(self, x: Array, weights: Array, out: Array) -> None:
        """``out = x weights^T``: x (n, inputs), weights (outputs, inputs), out (n, outputs)."""

    @abstractmethod
    def linear_backward_weights(self, x: Array, grad_out: Array, grad_weights: Array) -> None:
        """``grad_weights += grad_out^T x``."""

    @abstractmethod
    def linear_backward_input(self, grad_out: Array, weights: Array, grad_x: Array, accumulate: bool = False) -> None:
        """``grad_x = grad_out weights``."""

    @abstractmethod
    def softmax_forward(self, x: Array, out: Array, temperature: float) -> None:
        """Softmax of ``x / temperature`` over the last axis; x, out (rows, classes), x may be out."""

    @abstractmethod
    def grouped_softmax_forward(self, x: Array, out: Array, starts: Any, temperature: float) -> None:
        """The same within each group of the last axis; ``starts``, a host array, says where the groups begin."""
