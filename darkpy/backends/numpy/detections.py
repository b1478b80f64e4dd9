"""What all heads of a network find, suppression included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkpy.backends.base_heads import Decoding, DetectionSettings, GaussianDecode, RegionSettings
from darkpy.backends.numpy.detection import DetectionOperations
from darkpy.backends.numpy.gaussian_yolo import GaussianYoloOperations
from darkpy.backends.numpy.region import RegionOperations
from darkpy.boxes import Kept, Suppression, from_middle, keep


class SuppressionOperations(RegionOperations, GaussianYoloOperations, DetectionOperations):
    """The boxes of each head, then what remains of all."""

    def detections(
        self,
        outputs: Sequence[np.ndarray],
        decodings: Sequence[Decoding],
        shares: np.ndarray,
        thresh: float,
        suppression: Suppression,
    ) -> list[Kept]:
        """See :meth:`Backend.detections`."""
        found = []
        for image, (across, down) in enumerate(np.asarray(shares).tolist()):
            parts = [self._boxes(output, image, thresh, head) for output, head in zip(outputs, decodings)]
            boxes, _, probabilities = (np.concatenate(column) for column in zip(*parts))
            found.append(keep(from_middle(boxes, across, down), probabilities, suppression))
        return found

    def _boxes(
        self, output: np.ndarray, image: int, thresh: float, decoding: Decoding
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if isinstance(decoding, RegionSettings):
            return self.region_boxes(output, image, thresh, decoding)
        if isinstance(decoding, DetectionSettings):
            return self.detection_boxes(output.reshape(len(output), -1), image, thresh, decoding)
        if isinstance(decoding, GaussianDecode):
            return self.gaussian_yolo_boxes(output, image, thresh, decoding)
        return self.yolo_boxes(output, image, thresh, decoding)
