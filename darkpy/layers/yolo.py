"""[yolo]: the detection head of YOLOv3 and later; boxes from anchors, and the loss that trains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base_yolo import LossParts, YoloDecode, YoloLoss
from darkpy.backends.journal import Pending
from darkpy.config.options import option
from darkpy.layers.base import register
from darkpy.layers.heads import TRACKING, AnchorHead, AnchorOptions


@register("yolo")
class Yolo(AnchorHead):
    """Detection head: every cell of its grid predicts one object per anchor.

    Input and output (n, masks * (4 + 1 + classes), h, w): for each anchor of the mask x, y, w, h, objectness and one
    channel per class. The gradient handed back is the negative of Darknet's delta, without the derivative of the
    logistic function, since published networks were tuned with it (Darknet, yolo_layer.c).
    """

    @dataclass(frozen=True)
    class Options(AnchorOptions):
        """Keys of the section."""

        new_coords: bool = option(
            False, help="w and h are squared instead of exponentiated; the convolution before has activation=logistic"
        )
        focal_loss: bool = option(False, help="focal loss for the classes, alpha 0.5 and gamma 2")
        show_details: bool = option(
            True, help="the reported cost of an overlap loss counts 1 - IoU; 0: the sum of all squared gradients"
        )

        ineffective = {
            "beta1": "Darknet does not know it",
            "uc_normalizer": "it belongs to [Gaussian_yolo]",
            "embedding_layer": TRACKING,
            "track_history_size": TRACKING,
            "sim_thresh": TRACKING,
            "dets_for_track": TRACKING,
            "dets_for_show": TRACKING,
            "track_ciou_norm": TRACKING,
        }

    def forward(self, x: Any, *, training: bool) -> None:
        """Squash what is a probability or a place within a cell."""
        o = self.options
        self.backend.yolo_forward(x, self.output, len(o.mask), o.classes, o.scale_x_y, o.new_coords)

    def evaluate(self, truth: Any, grad: Any) -> LossParts | Pending[LossParts]:
        """The loss of the last output for packed objects; writes its gradient."""
        return self.backend.yolo_loss(self.output, truth, grad, self.loss_settings())

    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was found in picture ``image`` of the last forward pass, with an objectness above ``thresh``.

        Boxes (k, 4) as cx, cy, w, h relative to the network's input, objectness (k,), and probabilities (k, classes),
        0 where not above ``thresh``; cell by cell and anchor by anchor.
        """
        return self.backend.yolo_boxes(self.output, image, thresh, self.decoding())

    def decoding(self) -> YoloDecode:
        """The part of the options that turns outputs into boxes."""
        return self.loss_settings().decode()

    def loss_settings(self) -> YoloLoss:
        """The options as the backend takes them, for the present size of the network's input."""
        o = self.options
        return self.yolo_settings(new_coords=o.new_coords, focal_loss=o.focal_loss, show_details=o.show_details)
