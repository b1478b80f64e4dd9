"""[detection]: the detection head of YOLOv1; every cell of a fixed grid knows one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base_heads import DetectionSettings
from darkpy.backends.base_yolo import LossParts, pack_truth
from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.heads import DetectionHead, counted

COORDINATES = 4
SMALLEST = 0.001
"""Objects of a relative width or height below this are left out (Darknet, fill_truth_region)."""

YOUNG = 64000
"""With ``random``, boxes are chosen at random while fewer pictures than this have been seen."""


@register("detection")
class Detection(DetectionHead):
    """Detection head: each cell of a side x side grid predicts ``num`` boxes and one class.

    Input and output (n, values): side^2 * classes class scores, side^2 * num objectnesses, side^2 * num boxes of x, y
    within the cell and w, h relative to the picture (or their roots). All of them are trained by squared errors; the
    gradient is the negative of Darknet's delta (Darknet, detection_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        classes: int = option(1, minimum=1, help="number of classes")
        side: int = option(7, minimum=1, help="cells in a row and in a column of the grid")
        num: int = option(1, minimum=1, help="boxes of a cell")
        coords: int = option(4, choices=(COORDINATES,), help="numbers of a box: x, y, w, h")
        softmax: bool = option(False, help="the classes of a cell exclude each other; else they are taken as they come")
        sqrt: bool = option(False, help="the values for w and h are their square roots")
        rescore: bool = option(False, help="the objectness of an object's box learns the IoU instead of 1")
        forced: bool = option(
            False, help="the first box of a cell learns large objects, the second those under a tenth of the picture"
        )
        coord_scale: float = option(1.0, help="weight of the box loss")
        object_scale: float = option(1.0, help="weight of the objectness loss of objects' boxes")
        noobject_scale: float = option(1.0, help="weight of the objectness loss of other boxes")
        class_scale: float = option(1.0, help="weight of the class loss")
        max: int = option(200, minimum=1, help="objects of a picture that count; further ones are left out")
        jitter: float = option(0.2, minimum=0, help="augmentation: how far each side of a picture is moved")
        resize: float = option(1.0, minimum=0, help="augmentation: additional zoom between 1/resize and resize")
        random: float = option(
            0.0, minimum=0, help="not 0: an object is learned by any box of its cell until 64000 pictures were seen"
        )

        ineffective = {"reorg": "the order of the values is fixed"}

    chosen: Any = None

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input, which must have as many values as the grid."""
        o = self.options
        needed = o.side**2 * (o.num * (1 + COORDINATES) + o.classes)
        if int(np.prod(inputs[0])) != needed:
            parts = f"side² x (num x (1 + 4) + classes) = {o.side}² x ({o.num} x 5 + {o.classes}) = {needed}"
            self.problem("", f"cannot follow a layer of {counted(int(np.prod(inputs[0])), 'value')}: {parts}")
        if o.forced and o.num < 2:
            self.problem("forced", f"forced=1 gives small objects to the second box; num={o.num} has none")
        return inputs[0]

    def describe(self) -> str:
        """Such as ``7x7, 2 boxes, 20 classes``."""
        boxes = "1 box" if self.options.num == 1 else f"{self.options.num} boxes"
        return f"{self.options.side}x{self.options.side}, {boxes}, {counted(self.classes, 'class')}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Pass the values on, the classes as probabilities with ``softmax``."""
        n = len(x)
        self.backend.detection_forward(x.reshape(n, -1), self.output.reshape(n, -1), self.settings())

    def expect(self, truth: Sequence[np.ndarray] | np.ndarray) -> None:
        """Take the objects of the pictures.

        ``truth``: per picture an array (m, 5) of class, centre x, centre y, width, height, relative to the picture; or
        an array (n, side^2 * (1 + classes + 4)) as Darknet's loader fills it: for each cell whether it has an object,
        its class as one-hot, x and y within the cell, w and h relative to the picture.
        """
        if not isinstance(truth, np.ndarray) or truth.shape != (len(self.output), self.truth_size):
            self.check_objects(list(truth))
            truth = self.cells(list(truth))
        self.keep_truth(truth.reshape(len(truth), self.options.side**2, -1))
        if self.options.random:
            self._choose(len(truth))

    def _choose(self, pictures: int) -> None:
        """The box of each cell that is to learn its object; negative once the network is old enough to find it."""
        chosen = np.full((pictures, self.options.side**2), -1, np.int32)
        if self.graph.seen < YOUNG:
            generator = np.random.default_rng([self.graph.seed, self.graph.seen, self.index])
            chosen[:] = generator.integers(self.options.num, size=chosen.shape)
        if self.chosen is None or len(self.chosen) != pictures:
            self.chosen = self.backend.empty(chosen.shape, np.int32)
        self.backend.copy(chosen, self.chosen)

    def evaluate(self, truth: Any, grad: Any) -> LossParts | Pending[LossParts]:
        """The loss of the last output for the truth of all cells (n, side^2, 1 + classes + 4)."""
        n = len(self.output)
        output, grad = self.output.reshape(n, -1), grad.reshape(n, -1)
        return self.backend.detection_loss(output, truth, grad, self.settings(), self.chosen)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.options.side, self.options.side

    @property
    def truth_size(self) -> int:
        """Numbers of a picture's truth when it is given cell by cell."""
        return self.options.side**2 * (1 + self.options.classes + COORDINATES)

    def cells(self, truth: Sequence[np.ndarray]) -> np.ndarray:
        """The truth of all cells (n, side^2 * (1 + classes + 4)); of several objects in a cell the first one counts."""
        side, classes = self.options.side, self.options.classes
        packed = pack_truth(truth, classes, self.options.max)
        cells = np.zeros((len(truth), side, side, 1 + classes + COORDINATES), np.float32)
        for picture in range(len(truth)):
            for class_id, x, y, w, h in packed.rows[packed.starts[picture] : packed.starts[picture + 1]]:
                column, row = min(int(x * side), side - 1), min(int(y * side), side - 1)
                cell = cells[picture, row, column]
                if min(w, h) < SMALLEST or cell[0]:
                    continue
                cell[0] = cell[1 + int(class_id)] = 1
                cell[-COORDINATES:] = x * side - column, y * side - row, w, h
        return cells.reshape(len(truth), -1)

    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All boxes of picture ``image`` of the last forward pass, cell by cell and box by box.

        Boxes (k, 4) as cx, cy, w, h relative to the network's input, objectness (k,), and probabilities (k, classes),
        0 where not above ``thresh``.
        """
        return self.backend.detection_boxes(self.output.reshape(len(self.output), -1), image, thresh, self.settings())

    def decoding(self) -> DetectionSettings:
        """All options together."""
        return self.settings()

    def settings(self) -> DetectionSettings:
        """The options as the backend takes them."""
        o = self.options
        return DetectionSettings(
            side=o.side,
            num=o.num,
            classes=o.classes,
            softmax=o.softmax,
            sqrt=o.sqrt,
            rescore=o.rescore,
            forced=o.forced,
            coord_scale=o.coord_scale,
            object_scale=o.object_scale,
            noobject_scale=o.noobject_scale,
            class_scale=o.class_scale,
        )
