"""[yolo]: the detection head of YOLOv3 and later; boxes from anchors, and the loss that trains them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from darkpy.backends.base_yolo import CLASS, LossParts, YoloLoss, yolo_loss_settings
from darkpy.boxes import NmsKind
from darkpy.config.options import CommonOptions, option
from darkpy.errors import InputError, Problem
from darkpy.layers.base import NETWORK_INPUT, Layer, Shape, register

_TRACKING = "objects are not tracked through videos"


@register("yolo")
class Yolo(Layer):
    """Detection head: every cell of its grid predicts one object per anchor.

    Input and output (n, masks * (4 + 1 + classes), h, w): for each anchor of the mask x, y, w, h, objectness and one
    channel per class. The gradient handed back is the negative of Darknet's delta, without the derivative of the
    logistic function, since published networks were tuned with it (Darknet, yolo_layer.c).

    Attributes:
        loss_parts: what the last :meth:`loss` was made of, and how well the boxes fit.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        classes: int = option(20, minimum=1, help="number of classes")
        num: int = option(
            1, minimum=1, help="number of anchors; where anchors= lists more, those count as well"
        )
        mask: tuple[int, ...] = option(
            lambda o: tuple(range(o.num)),
            default_text="all num anchors",
            minimum=0,
            help="which anchors, counted from 0, this head uses",
        )
        anchors: tuple[float, ...] = option(
            help="width, height of each anchor of all heads, in pixels of the network's input"
        )
        max: int = option(200, minimum=1, help="objects of a picture that count; further ones are left out")
        scale_x_y: float = option(1.0, help="stretch of x and y about 0.5, so that a centre can reach the cell's edge")
        new_coords: bool = option(
            False, help="w and h are squared instead of exponentiated; the convolution before has activation=logistic"
        )
        ignore_thresh: float = option(
            0.5, help="a box whose IoU with an object is above this is not taught that it sees nothing"
        )
        truth_thresh: float = option(1.0, help="a box whose IoU with an object is above this is taught that object")
        iou_thresh: float = option(
            1.0, help="beside the best anchor for an object, those whose shape fits better than this learn it too"
        )
        iou_thresh_kind: str = option("iou", choices=("iou", "giou", "diou", "ciou"), help="how shapes are compared")
        iou_loss: str = option(
            "mse", choices=("mse", "iou", "giou", "diou", "ciou"), help="loss of the boxes: coordinates, or overlap"
        )
        iou_normalizer: float = option(0.75, help="weight of the box loss")
        obj_normalizer: float = option(1.0, help="weight of the objectness loss")
        cls_normalizer: float = option(
            1.0, help="weight of the class loss of an object's own class; only together with counters_per_class"
        )
        max_delta: float = option(
            math.inf, default_text="no limit", minimum=0, help="limit of each gradient of an overlap loss"
        )
        objectness_smooth: bool = option(
            False, help="the objectness learns the IoU instead of 1, and partly fitting boxes a share of it"
        )
        focal_loss: bool = option(False, help="focal loss for the classes, alpha 0.5 and gamma 2")
        label_smooth_eps: float = option(0.0, minimum=0, maximum=1, help="label smoothing of the classes")
        counters_per_class: tuple[int, ...] = option(
            (), help="number of objects of each class in the data; rare classes are given more weight"
        )
        show_details: bool = option(
            True, help="the reported cost of an overlap loss counts 1 - IoU; 0: the sum of all squared gradients"
        )
        jitter: float = option(0.2, minimum=0, help="augmentation: how far each side of a picture is moved")
        resize: float = option(1.0, minimum=0, help="augmentation: additional zoom between 1/resize and resize")
        random: float = option(
            0.0, minimum=0, help="train at changing input sizes: 1 varies by a factor up to 1.4, other values by that"
        )
        nms_kind: str = option("default", choices=get_args(NmsKind), help="overlap that suppresses a lesser box")
        beta_nms: float = option(0.6, minimum=0, help="exponent of the centre distance with nms_kind=diounms")

        ineffective = {
            "delta_normalizer": "Darknet's CPU code ignores it",
            "map": "the classes of the labels are taken as they are",
            "beta1": "Darknet does not know it",
            "uc_normalizer": "it belongs to [Gaussian_yolo]",
            "embedding_layer": _TRACKING,
            "track_history_size": _TRACKING,
            "sim_thresh": _TRACKING,
            "dets_for_track": _TRACKING,
            "dets_for_show": _TRACKING,
            "track_ciou_norm": _TRACKING,
        }

    is_head = True
    loss_parts: LossParts | None = None

    def __init__(self, options: Any, section: Any, index: int, graph: Any) -> None:
        super().__init__(options, section, index, graph)
        self._check_options()

    @property
    def classes(self) -> int:
        """Number of classes told apart."""
        return self.options.classes

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input, whose channels must be those of the masks."""
        o = self.options
        if inputs[0][0] != len(o.mask) * (CLASS + o.classes):
            self._misfit(inputs[0][0])
        return inputs[0]

    def describe(self) -> str:
        """Such as ``3 anchors, 20 classes``."""
        return f"{_counted(len(self.options.mask), 'anchor')}, {_counted(self.classes, 'class')}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Squash what is a probability or a place within a cell."""
        o = self.options
        self.backend.yolo_forward(x, self.output, len(o.mask), o.classes, o.scale_x_y, o.new_coords)

    def loss(self, truth: Sequence[np.ndarray]) -> float:
        """Compare the last output with the objects of the pictures; fills ``grad_output`` and ``loss_parts``.

        ``truth``: per picture an array (m, 5) of class, centre x, centre y, width, height, relative to the picture.
        Returns Darknet's cost, summed over the pictures.
        """
        self._check_truth(truth)
        grad = self.grad_output
        if grad is None:  # nobody before this layer learns; the cost is wanted all the same
            grad = self.backend.empty(self.output.shape)
        self.loss_parts = self.backend.yolo_loss(self.output, truth, grad, self.loss_settings())
        return self.loss_parts.cost

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Pass the gradient of the loss on as it is."""
        if grad_x is None:
            return
        if self.accumulate[0]:
            self.backend.add(grad_output, grad_x)
        else:
            self.backend.copy(grad_output, grad_x)

    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was found in picture ``image`` of the last forward pass, with an objectness above ``thresh``.

        Boxes (k, 4) as cx, cy, w, h relative to the network's input, objectness (k,), and probabilities (k, classes),
        0 where not above ``thresh``; cell by cell and anchor by anchor.
        """
        return self.backend.yolo_boxes(self.output, image, thresh, self.loss_settings().decode())

    def loss_settings(self) -> YoloLoss:
        """The options as the backend takes them, for the present size of the network's input."""
        o = self.options
        _, height, width = self.graph.input_shape
        return yolo_loss_settings(
            np.reshape(o.anchors, (-1, 2)),
            o.mask,
            o.classes,
            width,
            height,
            counters_per_class=o.counters_per_class,
            iou_loss=o.iou_loss,
            iou_thresh_kind=o.iou_thresh_kind,
            ignore_thresh=o.ignore_thresh,
            truth_thresh=o.truth_thresh,
            iou_thresh=o.iou_thresh,
            iou_normalizer=o.iou_normalizer,
            obj_normalizer=o.obj_normalizer,
            cls_normalizer=o.cls_normalizer,
            max_delta=o.max_delta,
            label_smooth_eps=o.label_smooth_eps,
            new_coords=o.new_coords,
            objectness_smooth=o.objectness_smooth,
            focal_loss=o.focal_loss,
            show_details=o.show_details,
            max_boxes=o.max,
        )

    # Checks ----------------------------------------------------------------------------------------------------

    def _check_options(self) -> None:
        o = self.options
        pairs = len(o.anchors) // 2
        if len(o.anchors) % 2:
            self.problem("anchors", f"anchors has {len(o.anchors)} numbers; they come in pairs of width and height")
        elif min(o.anchors) <= 0:
            self.problem("anchors", f"anchors has {min(o.anchors):g}; widths and heights are greater than 0")
        elif o.num > pairs:
            self.problem("num", f"num={o.num} does not fit the {_counted(pairs, 'pair')} in anchors")
        elif max(o.mask) >= pairs:
            self.problem("mask", f"mask names anchor {max(o.mask)}; there are {pairs}, counted from 0")
        if len(set(o.mask)) < len(o.mask):
            self.problem("mask", "mask names an anchor twice")
        if o.counters_per_class and len(o.counters_per_class) != o.classes:
            given = _counted(len(o.counters_per_class), "number")
            self.problem("counters_per_class", f"counters_per_class has {given} for classes={o.classes}")

    def _misfit(self, channels: int) -> None:
        """Report that the layer before has the wrong number of channels, at the line where that is to be changed."""
        o = self.options
        needed = len(o.mask) * (CLASS + o.classes)
        sum_of_parts = (
            f"{_counted(len(o.mask), 'mask')} x (4 + 1 + {_counted(o.classes, 'class')}) = {needed}"
        )
        source = None if self.sources[0] == NETWORK_INPUT else self.graph.layers[self.sources[0]]
        if source is not None and source.name == "convolutional":
            message = f"filters={channels} does not fit the [yolo] on line {self.section.line}: {sum_of_parts}"
            problem = Problem(source.where("filters"), f"[{source.section.name}] {message}")
            self.graph.problems.append(problem)
        else:
            before = "the network's input" if source is None else f"[{source.section.name}]"
            self.problem("", f"cannot follow {before} of {_counted(channels, 'channel')}: {sum_of_parts}")

    def _check_truth(self, truth: Sequence[np.ndarray]) -> None:
        if len(truth) != len(self.output):
            raise InputError(f"truth for {_counted(len(truth), 'picture')} given, {len(self.output)} went forward")
        for picture, rows in enumerate(truth):
            shape = np.shape(rows)
            if 0 not in shape and (len(shape) != 2 or shape[1] != CLASS):
                raise InputError(
                    f"the truth of picture {picture} of the batch has shape {shape}; [yolo] takes one array (n, 5) per "
                    "picture: class, centre x, centre y, width, height"
                )


def _counted(number: int, noun: str) -> str:
    """``1 mask``, ``3 masks``; ``2 classes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
