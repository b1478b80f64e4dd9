"""The [Gaussian_yolo] head: kernels/gaussian_yolo.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.base_heads import GaussianDecode, GaussianLoss
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, LossParts
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.yolo import YoloOperations
from darkpy.backends.journal import Pending
from darkpy.backends.numpy.yolo import summed_parts


class GaussianYoloOperations(YoloOperations):
    """The steps of [yolo], each a kernel of its own."""

    def gaussian_yolo_forward(
        self, x: DeviceArray, out: DeviceArray, anchors_in_mask: int, classes: int, scale_x_y: float
    ) -> None:
        """See :meth:`Backend.gaussian_yolo_forward`."""
        grid, block, rows, columns, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "gaussian_yolo", "gaussian_yolo_forward", grid, block,
            x, strides[0], out, strides[1], rows, columns, by_four, BOX_CHANNELS + CLASS + classes, scale_x_y,
        )  # fmt: skip

    def gaussian_yolo_loss(
        self, output: DeviceArray, truth: Any, grad: DeviceArray, settings: GaussianLoss
    ) -> Pending[LossParts]:
        """See :meth:`Backend.gaussian_yolo_loss`."""
        own = [settings.point], [settings.uc_normalizer]
        return self.anchor_loss("gaussian_yolo", output, truth, grad, settings.yolo, summed_parts, *own)

    def gaussian_yolo_boxes(
        self, output: DeviceArray, image: int, thresh: float, settings: GaussianDecode
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.gaussian_yolo_boxes`; waits for the device."""
        return self.anchor_boxes("gaussian_yolo", output[image : image + 1], thresh, settings, settings.point)
