"""The [detection] head: kernels/detection.cu."""

from __future__ import annotations

import numpy as np

from darkpy.backends.base_heads import DetectionSettings
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, LossParts
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.journal import JournalOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.journal import Pending
from darkpy.backends.numpy.yolo import summed_parts
from darkpy.backends.numpy.yolo_cells import TOTALS


class DetectionOperations(JournalOperations):
    """The operations of [detection], on arrays in the order of their axes."""

    def detection_forward(self, x: DeviceArray, out: DeviceArray, settings: DetectionSettings) -> None:
        """See :meth:`Backend.detection_forward`."""
        with self.written_in_order(out, keep=x is out) as target:
            if x is not out:
                self.move(x, target)
            if settings.softmax:
                s = settings
                blocks = self.blocks_for(len(x) * s.side**2, ROWS)
                self.launch("detection", "detection_softmax", blocks, THREADS, target, len(x), s.side, s.num, s.classes)

    def detection_loss(
        self,
        output: DeviceArray,
        truth: DeviceArray,
        grad: DeviceArray,
        settings: DetectionSettings,
        chosen: DeviceArray | None = None,
    ) -> Pending[LossParts]:
        """See :meth:`Backend.detection_loss`."""
        s = settings
        cells = len(output) * s.side**2
        blocks = self.blocks_for(cells, ROWS)
        squares, totals = self.scratch((blocks, 3)), self.scratch((blocks, TOTALS))
        objectness = self.scratch((blocks, 1))
        with self.written_in_order(grad, keep=False) as written:
            self.launch(
                "detection", "detection_loss", blocks, THREADS,
                self.in_order(output), truth, written, chosen, len(output), s.side, s.num, s.classes,
                s.sqrt, s.rescore, s.forced, s.coord_scale, s.object_scale, s.noobject_scale, s.class_scale,
                squares, totals, objectness,
            )  # fmt: skip

        def finish(sums: np.ndarray) -> LossParts:
            return summed_parts(sums[:3], sums[3 : 3 + TOTALS], float(sums[-1]) / (cells * s.num))

        return self.figures(finish, squares, totals, objectness)

    def detection_boxes(
        self, output: DeviceArray, image: int, thresh: float, settings: DetectionSettings
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.detection_boxes`; waits for the device."""
        s = settings
        boxes = s.side**2 * s.num
        found = self.scratch((boxes, CLASS + s.classes))
        picture = self.in_order(output[image : image + 1])
        self.launch(
            "detection", "detection_boxes", -(-boxes // THREADS), THREADS,
            picture, s.side, s.num, s.classes, s.sqrt, thresh, found,
        )  # fmt: skip
        rows = self.to_host(found)
        return rows[:, :BOX_CHANNELS], rows[:, BOX_CHANNELS], rows[:, CLASS:]
