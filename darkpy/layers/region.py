"""[region]: the detection head of YOLOv2 and YOLO9000; boxes from anchors, classes in competition or in a hierarchy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from darkpy.backends.base_heads import RegionSettings
from darkpy.backends.base_yolo import LossParts
from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.heads import DetectionHead, counted, read_class_map, read_class_tree

COORDINATES = 4
YOUNG = 12800
"""While fewer pictures than this have been seen, every box is pulled towards its anchor."""

PRIOR_SCALE = 0.01
"""The weight of that pull."""


@register("region")
class Region(DetectionHead):
    """Detection head: every cell of its grid predicts one object per anchor; the classes of a box exclude each other.

    Input (n, num * (4 + 1 + classes), h, w): for each anchor x, y, w, h, objectness and one channel per class. The
    output has the same shape and holds the values cell by cell, in memory (n, h, w, num, 4 + 1 + classes), as Darknet's
    does: x, y, w, h as they came, a probability for the objectness, probabilities for the classes if ``softmax`` or
    ``tree`` makes them so. The gradient, in the order of the input, is the negative of Darknet's delta: that of squared
    errors for boxes and objectness, that of the cross-entropy for the classes (Darknet, region_layer.c).

    In the truth, an object centred beyond 100000 both ways is somewhere in its picture: with a tree, the picture then
    teaches that object's class only.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        classes: int = option(20, minimum=1, help="number of classes")
        num: int = option(1, minimum=1, help="number of anchors")
        anchors: tuple[float, ...] = option(
            lambda o: (0.5,) * (2 * o.num),
            default_text="0.5,0.5 each",
            help="width, height of each anchor in cells of the head's grid",
        )
        coords: int = option(4, choices=(COORDINATES,), help="numbers of a box: x, y, w, h")
        max: int = option(200, minimum=1, help="objects of a picture that count; further ones are left out")
        softmax: bool = option(False, help="the classes of a box exclude each other; else they are taken as they come")
        tree: str = option("", help="file of a hierarchy of the classes: a line has a name and its parent's number")
        map: str = option("", help="file that gives, line by line, the class for each class of the labels")
        thresh: float = option(
            0.5, help="a box whose IoU with an object is above this is not taught that it sees nothing"
        )
        bias_match: bool = option(
            False, help="an object belongs to the anchor with its shape; else to the one whose box has its shape"
        )
        rescore: bool = option(False, help="the objectness of an object's box learns the IoU instead of 1")
        classfix: int = option(
            0,
            choices=(-1, 0, 1, 2),
            help="boxes above thresh learn the object's class too: 1 fully, 2 by their objectness; -1: the objectness "
            "of all boxes learns their IoU, and below 0.5 it counts as 0",
        )
        coord_scale: float = option(1.0, help="weight of the box loss")
        object_scale: float = option(1.0, help="weight of the objectness loss of objects' boxes")
        noobject_scale: float = option(1.0, help="weight of the objectness loss of other boxes")
        class_scale: float = option(1.0, help="weight of the class loss")
        focal_loss: bool = option(False, help="focal loss for the classes, alpha 0.5 and gamma 2; not with a tree")
        jitter: float = option(0.2, minimum=0, help="augmentation: how far each side of a picture is moved")
        resize: float = option(1.0, minimum=0, help="augmentation: additional zoom between 1/resize and resize")
        random: float = option(
            0.0, minimum=0, help="train at changing input sizes: 1 varies by a factor up to 1.4, other values by that"
        )

        ineffective = {
            "absolute": "anchors are always in cells",
            "log": "w and h are always exponents of e",
            "sqrt": "w and h are always exponents of e",
            "mask_scale": "there are no masks",
        }

    def __init__(self, options: Any, section: Any, index: int, graph: Any) -> None:
        super().__init__(options, section, index, graph)
        self._check_options()
        self.tree = read_class_tree(self, options.classes)
        self.class_map = read_class_map(self)
        self.told: np.ndarray | None = None

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input, whose channels must be those of the anchors."""
        self.check_channels(inputs[0][0], self.options.num, "anchor", COORDINATES)
        return inputs[0]

    def describe(self) -> str:
        """Such as ``5 anchors, 20 classes``."""
        return f"{counted(self.options.num, 'anchor')}, {counted(self.classes, 'class')}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Order the values by cells and squash what is a probability."""
        self.backend.region_forward(x, self.output, self.settings())

    def expect(self, truth: Any) -> None:
        """Take the objects of the pictures, packed; heads that see the same ones share them."""
        super().expect(truth)
        kind = (self.name, self.classes, self.options.max, self.tree.parents.tobytes())
        self.share_truth(kind, partial(self.backend.pack_region_objects, settings=self.settings()))

    def evaluate(self, truth: Any, grad: Any) -> LossParts | Pending[LossParts]:
        """The loss of the last output for packed objects; writes its gradient."""
        return self.backend.region_loss(self.output, truth, grad, self.settings())

    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All boxes of picture ``image`` of the last forward pass, cell by cell and anchor by anchor.

        Boxes (k, 4) as cx, cy, w, h relative to the network's input, objectness (k,), which is 1, and probabilities
        (k, classes), 0 where not above ``thresh``. With a tree a box has one class at most, the last one that is, with
        all its parents, more probable than not; or, where ``told`` names classes of the tree, each of those with its
        probability, (k, len(told)) (Darknet, get_region_boxes with a map).
        """
        return self.backend.region_boxes(self.output, image, thresh, self.settings(), self.told)

    def decoding(self) -> RegionSettings | None:
        """The options, unless classes are to be told that the options know nothing of."""
        return self.settings() if self.told is None else None

    def settings(self) -> RegionSettings:
        """The options as the backend takes them."""
        o = self.options
        return RegionSettings(
            anchors=np.array(o.anchors, float).reshape(-1, 2),
            classes=o.classes,
            tree=self.tree,
            softmax=o.softmax,
            coord_scale=float(o.coord_scale),
            object_scale=float(o.object_scale),
            noobject_scale=float(o.noobject_scale),
            class_scale=float(o.class_scale),
            prior_scale=PRIOR_SCALE,
            prior_until=YOUNG,
            thresh=float(o.thresh),
            classfix=o.classfix,
            rescore=o.rescore,
            bias_match=o.bias_match,
            focal_loss=o.focal_loss,
            max_boxes=o.max,
        )

    def _check_options(self) -> None:
        o = self.options
        if self.check_anchors(o.anchors) and len(o.anchors) != 2 * o.num:
            pairs = counted(len(o.anchors) // 2, "pair")
            self.problem("num", f"num={o.num} does not fit the {pairs} in anchors")
