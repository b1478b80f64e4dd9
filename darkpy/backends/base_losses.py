"""The contract of a backend, continued: losses, heads, optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.backends.base_contrastive import Samples, find_samples
from darkpy.backends.base_heads import RegionTruth, split_placeless
from darkpy.backends.base_yolo import PackedTruth, pack_truth
from darkpy.backends.journal import Pending

if TYPE_CHECKING:
    from darkpy.backends.base_heads import (
        ContrastiveLoss,
        Decoding,
        DetectionSettings,
        GaussianDecode,
        GaussianLoss,
        RegionSettings,
    )
    from darkpy.backends.base_words import Array
    from darkpy.backends.base_yolo import LossParts, YoloDecode, YoloLoss
    from darkpy.boxes import Kept, Suppression


class LossContract(ABC):
    """What teaches."""

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
        """The objects of a mini-batch as the losses of [yolo] and [Gaussian_yolo] take them, there where they compute.

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
    def detections(
        self,
        outputs: Sequence[Array],
        decodings: Sequence[Decoding],
        shares: Any,
        thresh: float,
        suppression: Suppression,
    ) -> list[Kept]:
        """What all heads of a network find in each picture, after suppression, class by class.

        outputs: of each head, any kind, (n, c, h, w); decodings: of each its own, with the same classes.
        shares: host array (n, 2), how much of the input's width and height each picture takes (boxes.from_middle).

        What is found before suppression is what :meth:`yolo_boxes`, :meth:`gaussian_yolo_boxes`, :meth:`region_boxes`
        and :meth:`detection_boxes` tell for ``thresh``. It comes head by head, cell by cell, box by box, class by
        class; of equal probabilities the first suppresses the others.
        """

    @abstractmethod
    def region_forward(self, x: Array, out: Array, settings: RegionSettings) -> None:
        """What [region] does to its input: x (n, anchors * (5 + classes), h, w), out as many values cell by cell.

        That is, out in memory is (n, h, w, anchors, 5 + classes): x, y, w, h as they came, the objectness squashed by
        the logistic function, the classes by softmax (within each group of the tree), or as they came.
        """

    def pack_region_objects(
        self, truth: Sequence[np.ndarray], settings: RegionSettings, room: Any = None
    ) -> RegionTruth | Any:
        """The objects of a mini-batch as :meth:`region_loss` takes them; otherwise as :meth:`pack_objects`."""
        return split_placeless(truth, settings)

    @abstractmethod
    def region_loss(
        self, output: Array, truth: Any, grad: Array, settings: RegionSettings
    ) -> LossParts | Pending[LossParts]:
        """Loss of a [region] head's output, and the gradient of the head's input, in the order of the input.

        ``truth``: what :meth:`pack_region_objects` returned for these settings, or what that takes.
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
        self, output: Array, truth: Any, grad: Array, settings: GaussianLoss
    ) -> LossParts | Pending[LossParts]:
        """Loss of a [Gaussian_yolo] head's output and its gradient; ``truth`` as in :meth:`yolo_loss`."""

    @abstractmethod
    def gaussian_yolo_boxes(
        self, output: Array, image: int, thresh: float, settings: GaussianDecode
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
        self, output: Array, truth: Array, grad: Array, settings: DetectionSettings, chosen: Array | None = None
    ) -> LossParts | Pending[LossParts]:
        """Loss of a [detection] head's output (n, values) and its gradient.

        ``truth`` (n, side^2, 1 + classes + 4): for each cell whether it has an object, its class as one-hot, x and y
        within the cell, w and h relative to the picture. The box of a cell that fits its object best learns it, but
        for those that ``chosen`` (n, side^2), int32, names; it is negative where it names none.
        """

    @abstractmethod
    def detection_boxes(
        self, output: Array, image: int, thresh: float, settings: DetectionSettings
    ) -> tuple[Any, Any, Any]:
        """All boxes of one picture, as :meth:`yolo_boxes` returns them."""

    def pack_samples(
        self, truth: Sequence[np.ndarray], height: int, width: int, settings: ContrastiveLoss, room: Any = None
    ) -> Samples | Any:
        """The objects of a mini-batch as :meth:`contrastive_loss` takes them, where the backend computes.

        ``truth``: per picture a host array (m, 6) of class, cx, cy, w, h, identity; those of a negative identity, or
        without one, are left out. height, width: of the embeddings. ``room`` as in :meth:`pack_objects`.
        """
        return find_samples(truth, height, width, settings.head)

    @abstractmethod
    def contrastive_loss(
        self, embeddings: Array, truth: Any, grad: Array, settings: ContrastiveLoss
    ) -> float | Pending[float]:
        """How far the embeddings (n, anchors * size, h, w) of one object, in several pictures, are from each other.

        ``truth``: what :meth:`pack_samples` returned for these settings, or what that takes. Writes the gradient of the
        embeddings; returns the sum of its squares.
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
