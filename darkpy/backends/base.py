"""The contract every backend fulfils: geometry, names of activations, and what each operation computes.

Conventions, everywhere:

- Pictures are ``(n, c, h, w)``, C-contiguous, unless an operation says it takes views.
- Outputs of layers and their gradients (x, out, a, b, inputs, factors, a loss's output, ``grad_`` of these) are of the
  backend's float type or of its ``activation_dtype``, all those of an operation alike. Everything else is of the float
  type: parameters and their gradients, statistics, masks, truth. Of 16-bit inputs a head, a softmax or an activation
  may also make outputs of the float type, and the ``grad`` that a loss writes is always of it.
- Operations write into arrays that the caller owns (``out``, ``grad_...``); none returns a new one.
- ``grad_...`` is a true gradient, dL/d(...), summed over the batch.
- A target documented with ``+=`` is added to. Another is overwritten, unless its ``accumulate`` is true: then it is
  added to as well.
- Big intermediate arrays live in the workspace, one buffer that all operations use in turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from darkpy.backends.base_yolo import PackedTruth, pack_truth
from darkpy.backends.journal import Journal, Pending
from darkpy.backends.loss_scale import LossScale, LossScaleRule

if TYPE_CHECKING:
    from darkpy.backends.base_heads import ContrastiveLoss, DetectionSettings, GaussianLoss, RegionSettings
    from darkpy.backends.base_yolo import LossParts, YoloDecode, YoloLoss
    from darkpy.boxes import Kept, Suppression

#: An array where the backend computes: numpy.ndarray on the CPU, a device array elsewhere.
Array: TypeAlias = Any

Item = TypeVar("Item")

#: Added to a variance before its root is taken (Darknet, batchnorm_layer.c).
BATCHNORM_EPSILON = 1e-5

#: Added to the sums that normalise channels or the weights of a shortcut (Darknet, activations.c, blas.c).
NORMALIZATION_EPSILON = 1e-4

#: Truth of a value that a loss leaves out (Darknet, SECRET_NUM).
IGNORED_TRUTH = -1234.0

#: Activations that need, for their derivative, the value that went in; the others are differentiated from their result.
_NEED_INPUT = ("gelu", "hard_mish", "mish", "swish")

_DIFFERENTIATED_FROM_OUTPUT = (
    "elu",
    "hardtan",
    "leaky",
    "lhtan",
    "linear",
    "loggy",
    "logistic",
    "plse",
    "ramp",
    "relie",
    "relu",
    "relu6",
    "revleaky",
    "selu",
    "stair",
    "tanh",
)

#: Functions of one number, allowed in fused operations.
ELEMENTWISE_ACTIVATIONS = tuple(sorted(_NEED_INPUT + _DIFFERENTIATED_FROM_OUTPUT))

#: Functions of all channels of one position.
CHANNEL_ACTIVATIONS = (
    "normalize_channels",
    "normalize_channels_softmax",
    "normalize_channels_softmax_maxval",
)


def gradient_needs_input(activation: str) -> bool:
    """Whether the derivative needs the activation's input to be kept; if not, its output is enough."""
    return activation in _NEED_INPUT or activation in CHANNEL_ACTIVATIONS


@dataclass(frozen=True)
class ConvolutionGeometry:
    """How a square kernel moves over a picture, in pixels.

    ``padding`` is what lies outside the picture on each side, dilation included: output row y, kernel row k reads
    picture row ``y * stride_y - padding + k * dilation``, which is 0 outside the picture.
    """

    size: int
    stride_y: int = 1
    stride_x: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True)
class PoolGeometry:
    """How a square window moves over a picture: window y starts at row ``y * stride_y - offset``."""

    size: int
    stride_y: int = 1
    stride_x: int = 1
    offset: int = 0


class Backend(ABC):
    """The operations a layer may ask for. Shapes and formulas stand here; how each is done, in the backends."""

    #: "numpy", "numba", ...
    name: str
    #: The backend's float type (numpy dtype).
    dtype: Any
    #: The type of outputs of layers and their gradients: ``dtype``, or one of 16 bits, see backends/precision.py.
    activation_dtype: Any
    #: One of :data:`darkpy.backends.precision.PRECISIONS`.
    precision: str = "fp32"
    #: How many threads the backend uses.
    threads: int
    #: What the user waits for at the first use on this machine; None afterwards.
    first_use: str | None = None
    #: Whether :meth:`pictures` had better be given uint8, channels last in memory, where there are such.
    bytes_preferred: bool = False
    #: Whether the backend has :meth:`fitted_pictures`; otherwise the host does it, in data/pictures.py.
    fits_pictures: bool = False
    #: What :meth:`set_clock` was told last.
    clock: int = 0

    # --- memory

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """A new array with arbitrary contents; ``dtype`` defaults to the backend's float type."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """A new array of zeros; ``dtype`` defaults to the backend's float type."""

    @abstractmethod
    def asarray(self, host: Any, dtype: Any = None) -> Array:
        """The array ``host`` on the device: floats in ``dtype``, by default the backend's float type; others unchanged.

        May share memory with ``host``.
        """

    @abstractmethod
    def to_host(self, array: Array) -> Any:
        """The array as a numpy array; may share memory with it."""

    @abstractmethod
    def copy(self, source: Array, out: Array) -> None:
        """``out = source``, element by element; ``source`` may also be a host array.

        Floats of one type become those of another if one of both is of the backend's float type; so they do in
        :meth:`add`, :meth:`copy_channels` and :meth:`scaled_copy`.
        """

    @abstractmethod
    def fill(self, array: Array, value: float) -> None:
        """Set every element to ``value``."""

    @abstractmethod
    def add(self, source: Array, out: Array) -> None:
        """``out += source``."""

    @abstractmethod
    def is_finite(self, array: Array) -> bool:
        """Whether no element is NaN or infinite."""

    def journal(self) -> Journal:
        """Where the losses of an update are written down, and whether all of it was finite."""
        return Journal(self)

    def loss_scale(self, rule: LossScaleRule) -> LossScale:
        """A factor on gradients that are not of the backend's float type; without such gradients, none."""
        return LossScale()

    @abstractmethod
    def set_workspace(self, nbytes: int) -> None:
        """Make the workspace at least ``nbytes`` big. Without it, operations let it grow as they need."""

    def pictures(self, x: np.ndarray) -> Array:
        """Pictures (n, c, h, w) as a network's input, where the backend computes; uint8 are divided by 255.

        The result is written over by the next call, and may share memory with ``x``. A device may fetch ``x`` while the
        host goes on: if it lies in :meth:`picture_memory`, it stays as it is until :meth:`pictures_taken`.
        """
        values = np.divide(x, 255, dtype=self.dtype) if x.dtype == np.uint8 else np.asarray(x, self.dtype)
        return self.asarray(np.ascontiguousarray(values), self.activation_dtype)

    def fitted_pictures(
        self, images: Sequence[np.ndarray], frames: Sequence[tuple[int, int, int, int]], height: int, width: int
    ) -> Array:
        """A network's input, as :meth:`pictures` gives it, of uint8 pictures (h, w, c) of any size.

        frames: left, top, width and height of the part of the input that each is resized to; the rest is 0.5. Number
        for number what :func:`darkpy.data.pictures.network_input` makes. Only where ``fits_pictures``.
        """
        raise NotImplementedError

    def pictures_taken(self) -> None:
        """Wait until nobody reads what :meth:`pictures` was given last."""
        return

    def picture_memory(self, nbytes: int) -> np.ndarray:
        """Host memory, flat uint8, from which pictures come to the device fastest."""
        return np.empty(nbytes, np.uint8)

    def own_memory(self, input_values: int, parameters: int) -> int:
        """Bytes of the device's memory that the backend takes for itself, for inputs of so many numbers."""
        return 0

    def use_parameters(self, values: Array) -> None:
        """Before each forward pass: the vector of all parameters, which do not change until the backward pass is done.

        Weights that operations are given are views of it or arrays of their own; a backend may copy it as a whole where
        it would else copy them one by one.
        """
        return

    def free_memory(self) -> int | None:
        """Bytes left of the device's own memory; None where arrays lie in the system's."""
        return None

    def channel_views(self, batch: int) -> int:
        """Which views ``x[:, a:b]`` of ``batch`` pictures every operation takes, to read and to write; 0: none.

        Otherwise a, and the channels of the whole, are multiples of this number. Of one picture it is always 1, since
        such a view has no gaps.
        """
        return 1 if batch == 1 else 0

    @property
    @abstractmethod
    def workspace(self) -> Array:
        """The flat uint8 array that every operation uses for its intermediate results."""

    @abstractmethod
    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """Call ``function(item)`` for every item on the backend's threads; returns when all are done.

        The first exception raised by a call is raised here. Calls must not use the workspace.
        """

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """What a network's passes run inside; a backend may set up threads or streams for that time."""

    def repeated(self, key: Hashable, work: Callable[[], Item]) -> Item:
        """Do ``work`` and return its result.

        Whenever the key is the same, so is the work: the same operations on the same arrays with the same numbers, only
        that the arrays' contents and :meth:`set_clock` may be others. A device may remember what was launched and do
        it again without calling ``work``; the result is then that of the call it remembers.
        """
        return work()

    def rehearsed(self, work: Iterable[Callable[[], Any]]) -> int:
        """Bytes of a device's memory that the calls take at most, and give back, beside arrays and workspace.

        Nothing is computed, and the backend is afterwards as before.
        """
        return 0

    def differs(self, why: str) -> None:
        """What is being done by :meth:`repeated` is other work every time, and cannot be remembered."""
        return

    def set_clock(self, time: int) -> None:
        """Tell :meth:`uniform` what time it is; any number that is not negative."""
        self.clock = time

    @abstractmethod
    def uniform(self, seed: int, place: int, out: Array) -> None:
        """Fill ``out`` with numbers uniform in [0, 1) that depend on the seed, the clock and the place only."""

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
    def dropout_forward(self, x: Array, mask: Array, out: Array, probability: float) -> None:
        """``out = x / (1 - probability)`` where ``mask >= probability``, else 0. mask: uniform in [0, 1).

        x may be out.
        """

    @abstractmethod
    def dropout_backward(
        self, grad_out: Array, mask: Array, grad_x: Array, probability: float, accumulate: bool = False
    ) -> None:
        """The same factors on the gradient. grad_x may be grad_out if not ``accumulate``."""

    @abstractmethod
    def clip(self, array: Array, limit: float) -> None:
        """Force every element into [-limit, limit], in place."""

    # --- connected layers and softmax

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

    # --- losses: each writes the gradient and returns the loss, summed over the batch, at once or when it is read

    @abstractmethod
    def cross_entropy(self, output: Array, truth: Array, grad: Array) -> float | Pending[float]:
        """``-sum of truth * log(output)`` of probabilities; ``grad = output - truth``, that of the softmax's input.

        Where truth is -1234, both are 0.
        """

    @abstractmethod
    def binary_cross_entropy(self, output: Array, truth: Array, grad: Array) -> float | Pending[float]:
        """``-sum of truth * log(output) + (1 - truth) * log(1 - output)``; ``grad = output - truth``.

        That is the gradient of what went into the logistic function.
        """

    @abstractmethod
    def difference(self, output: Array, truth: Array, grad: Array, kind: str) -> float | Pending[float]:
        """How far ``output`` is from ``truth`` (Darknet, cost_layer.c); the gradient leaves out the factor 2.

        With d = output - truth. "sse": sum of d^2, ``grad = d``. "masked": the same, but 0 where truth is -1234.
        "smooth": d^2 where |d| < 1, else 2 |d| - 1; ``grad = d`` held between -1 and 1.
        """

    @abstractmethod
    def yolo_forward(
        self, x: Array, out: Array, anchors_in_mask: int, classes: int, scale_x_y: float, new_coords: bool
    ) -> None:
        """What [yolo] does to its input: x, out (n, anchors_in_mask * (5 + classes), h, w), x may be out.

        Logistic on x, y, objectness and classes, unless ``new_coords``; x and y then stretched about 0.5.
        """

    def pack_objects(
        self, truth: Sequence[np.ndarray], classes: int, max_boxes: int, room: Any = None
    ) -> PackedTruth | Any:
        """The objects of a mini-batch as :meth:`yolo_loss` takes them, where the backend computes.

        ``truth``: per picture a host array (m, 5) of class, cx, cy, w, h; see :func:`pack_truth` for those that count.
        ``room``: what an earlier call returned and nobody needs any more; it may be used again.
        """
        return pack_truth(truth, classes, max_boxes)

    @abstractmethod
    def yolo_loss(
        self, output: Array, truth: Any, grad: Array, settings: YoloLoss
    ) -> LossParts | Pending[LossParts]:
        """Loss of a [yolo] head's output and its gradient.

        ``truth``: what :meth:`pack_objects` returned for the head's classes, or what that takes.
        """

    @abstractmethod
    def yolo_boxes(self, output: Array, image: int, thresh: float, settings: YoloDecode) -> tuple[Any, Any, Any]:
        """Boxes of one picture whose objectness is above ``thresh``.

        Host arrays: boxes (k, 4) as cx, cy, w, h, objectness (k,), probabilities (k, classes), 0 unless above
        ``thresh``.
        """

    @abstractmethod
    def yolo_detections(
        self,
        outputs: Sequence[Array],
        settings: Sequence[YoloDecode],
        shares: Any,
        thresh: float,
        suppression: Suppression,
    ) -> list[Kept]:
        """What all [yolo] heads of a network find in each picture, after suppression, class by class.

        outputs: of each head (n, anchors * (5 + classes), h, w); settings: its own, with the same classes.
        shares: host array (n, 2), how much of the input's width and height each picture takes (boxes.from_middle).

        Boxes have an objectness above ``thresh``, and each class a probability above it. They come head by head, cell
        by cell, anchor by anchor, class by class; of equal probabilities the first suppresses the others.
        """

    @abstractmethod
    def region_forward(self, x: Array, out: Array, settings: RegionSettings) -> None:
        """What [region] does to its input: x (n, anchors * (5 + classes), h, w), out as many values cell by cell.

        That is, out in memory is (n, h, w, anchors, 5 + classes): x, y, w, h as they came, the objectness squashed by
        the logistic function, the classes by softmax (within each group of the tree), or as they came.
        """

    @abstractmethod
    def region_loss(self, output: Array, truth: Sequence[Any], grad: Array, settings: RegionSettings) -> LossParts:
        """Loss of a [region] head's output, and the gradient of the head's input, in the order of the input.

        ``truth``: per picture a host array (m, 5) of class, cx, cy, w, h.
        """

    @abstractmethod
    def region_boxes(
        self, output: Array, image: int, thresh: float, settings: RegionSettings, told: np.ndarray | None = None
    ) -> tuple[Any, Any, Any]:
        """All boxes of one picture, as :meth:`yolo_boxes` returns them, each with objectness 1.

        With a tree a box has one class at most: the last one whose probability, that of its parents included, is above
        one half. ``told`` (k,) are classes of the tree to be told instead: probabilities (boxes, k), of each.
        """

    @abstractmethod
    def gaussian_yolo_forward(
        self, x: Array, out: Array, anchors_in_mask: int, classes: int, scale_x_y: float
    ) -> None:
        """What [Gaussian_yolo] does to its input: x, out (n, anchors_in_mask * (9 + classes), h, w), x may be out.

        The channels of an anchor are x, its uncertainty, the same of y, w and h, objectness, classes. Logistic on all
        but w and h; x and y then stretched about 0.5.
        """

    @abstractmethod
    def gaussian_yolo_loss(
        self, output: Array, truth: Sequence[Any], grad: Array, settings: GaussianLoss
    ) -> LossParts:
        """Loss of a [Gaussian_yolo] head's output and its gradient; ``truth`` as in :meth:`yolo_loss`."""

    @abstractmethod
    def gaussian_yolo_boxes(
        self, output: Array, image: int, thresh: float, settings: GaussianLoss
    ) -> tuple[Any, Any, Any]:
        """As :meth:`yolo_boxes`; probabilities are lowered by the mean of a box's uncertainties."""

    @abstractmethod
    def detection_forward(self, x: Array, out: Array, settings: DetectionSettings) -> None:
        """What [detection] does to its input: x, out (n, values), softmax over the classes of each cell if wanted.

        The values are the classes of all cells (side^2, classes), then the objectness of all boxes (side^2, num), then
        the boxes (side^2, num, 4).
        """

    @abstractmethod
    def detection_loss(
        self, output: Array, truth: Any, grad: Array, settings: DetectionSettings, chosen: Any = None
    ) -> LossParts:
        """Loss of a [detection] head's output (n, values) and its gradient.

        ``truth``, a host array (n, side^2, 1 + classes + 4): for each cell whether it has an object, its class as
        one-hot, x and y within the cell, w and h relative to the picture. The box of a cell that fits its object best
        learns it; ``chosen`` (n, side^2), host integers, names others instead.
        """

    @abstractmethod
    def detection_boxes(
        self, output: Array, image: int, thresh: float, settings: DetectionSettings
    ) -> tuple[Any, Any, Any]:
        """All boxes of one picture, as :meth:`yolo_boxes` returns them."""

    @abstractmethod
    def contrastive_loss(
        self, embeddings: Array, truth: Sequence[Any], grad: Array, settings: ContrastiveLoss
    ) -> float:
        """How far the embeddings (n, anchors * size, h, w) of one object, in several pictures, are from each other.

        ``truth``: per picture a host array (m, 6) of class, cx, cy, w, h, identity; those of a negative identity, or
        without one, are left out. Writes the gradient of the embeddings; returns the sum of its squares.
        """

    # --- optimizers, on flat vectors; they do nothing once a :meth:`journal` has something that is not finite

    @abstractmethod
    def sgd_step(
        self, parameters: Array, gradients: Array, velocity: Array, rate: float, momentum: float, decay: float
    ) -> None:
        """``velocity = momentum * velocity - (gradients + decay * parameters)``; ``parameters += rate * velocity``.

        Gradients are sums over the batch: ``rate`` comes already divided by the batch, ``decay`` already times it.
        """

    @abstractmethod
    def adam_step(
        self,
        parameters: Array,
        gradients: Array,
        first: Array,
        second: Array,
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        decay: float,
        step: int,
    ) -> None:
        """One step of Adam, number ``step`` counted from 1 (Kingma and Ba 2015; Darknet, blas_kernels.cu).

        With g = gradients + decay * parameters: ``first = beta1 * first + (1 - beta1) * g``,
        ``second = beta2 * second + (1 - beta2) * g^2``, ``parameters -= rate * (first / (1 - beta1^step)) /
        (sqrt(second / (1 - beta2^step)) + epsilon)``. ``decay`` comes already times the batch.
        """
