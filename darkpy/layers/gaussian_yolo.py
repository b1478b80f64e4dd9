"""[Gaussian_yolo]: the head of YOLOv3 that also predicts how uncertain its boxes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base_heads import GaussianDecode, GaussianLoss, YoloPoint
from darkpy.backends.base_yolo import LossParts
from darkpy.backends.journal import Pending
from darkpy.config.options import option
from darkpy.layers.base import register
from darkpy.layers.heads import AnchorHead, AnchorOptions


@register("Gaussian_yolo")
class GaussianYolo(AnchorHead):
    """Detection head whose boxes are normal distributions; the more uncertain a box, the less probable its classes.

    Input and output (n, masks * (8 + 1 + classes), h, w): for each anchor of the mask x and its uncertainty, the same
    of y, w and h, objectness and one channel per class. The gradient handed back is the negative of Darknet's delta,
    without the derivative of the logistic function (https://arxiv.org/abs/1904.04620; Darknet, gaussian_yolo_layer.c).
    """

    @dataclass(frozen=True)
    class Options(AnchorOptions):
        """Keys of the section."""

        uc_normalizer: float = option(1.0, help="weight of the loss of the uncertainties")
        yolo_point: str = option(
            "center",
            choices=tuple(point.name.lower() for point in YoloPoint),
            help="the point of a box that x and y predict, and whose cell learns it",
        )

    coordinates = 8

    def forward(self, x: Any, *, training: bool) -> None:
        """Squash what is a probability, a place within a cell or an uncertainty."""
        o = self.options
        self.backend.gaussian_yolo_forward(x, self.output, len(o.mask), o.classes, o.scale_x_y)

    def evaluate(self, truth: Any, grad: Any) -> LossParts | Pending[LossParts]:
        """The loss of the last output for packed objects; writes its gradient."""
        return self.backend.gaussian_yolo_loss(self.output, truth, grad, self.loss_settings())

    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was found in picture ``image`` of the last forward pass, with an objectness above ``thresh``.

        As [yolo]'s, but that a probability is lowered by the mean of the box's four uncertainties.
        """
        return self.backend.gaussian_yolo_boxes(self.output, image, thresh, self.decoding())

    def decoding(self) -> GaussianDecode:
        """The part of the options that turns outputs into boxes."""
        return self.loss_settings().decode()

    def loss_settings(self) -> GaussianLoss:
        """The options as the backend takes them, for the present size of the network's input."""
        o = self.options
        return GaussianLoss(self.yolo_settings(), float(o.uc_normalizer), YoloPoint[o.yolo_point.upper()])
