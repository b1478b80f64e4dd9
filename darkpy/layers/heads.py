"""What the detection heads share: truth and its gradient, anchors, and files that tell of their classes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np

from darkpy.backends.base_heads import EVERYWHERE, ClassTree, Decoding, class_tree
from darkpy.backends.base_yolo import LossParts, YoloLoss, yolo_loss_settings
from darkpy.backends.journal import Pending, known
from darkpy.boxes import NmsKind
from darkpy.config.class_files import find_class_file, read_map, read_tree
from darkpy.config.options import CommonOptions, option
from darkpy.errors import ConfigError, InputError, Problem
from darkpy.layers.base import NETWORK_INPUT, Layer, Shape

OBJECT_COLUMNS = (5, 6)
"""Numbers of an object of the truth: class, centre x, centre y, width, height, and perhaps its identity."""

COORDINATES = ("x", "y", "w", "h")

TRACKING = "objects are not tracked through videos"


class ObjectHead(Layer):
    """A layer that learns from the objects of the pictures; the gradient of its input is that of its loss."""

    is_head = True
    _unwanted: Any = None

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Pass the gradient of the loss on as it is."""
        if grad_x is None:
            return
        if self.accumulate[0]:
            self.backend.add(grad_output, grad_x)
        else:
            self.backend.copy(grad_output, grad_x)

    def loss_gradient(self) -> Any:
        """Where the loss writes its gradient; an array to throw away if nobody before this layer learns."""
        if self.grad_output is not None:
            return self.grad_output
        if self._unwanted is None or self._unwanted.shape != self.output.shape:
            self._unwanted = self.backend.empty(self.output.shape)
        return self._unwanted

    def check_objects(self, truth: Sequence[np.ndarray]) -> None:
        """Raise InputError unless ``truth`` has one array of objects for each picture of the last forward pass."""
        if len(truth) != len(self.output):
            raise InputError(f"truth for {counted(len(truth), 'picture')} given, {len(self.output)} went forward")
        for picture, rows in enumerate(truth):
            shape = np.shape(rows)
            if 0 not in shape and (len(shape) != 2 or shape[1] not in OBJECT_COLUMNS):
                raise InputError(
                    f"the truth of picture {picture} of the batch has shape {shape}; [{self.name}] takes one array "
                    "(n, 5) per picture: class, centre x, centre y, width, height"
                )


class DetectionHead(ObjectHead):
    """A head that finds boxes of several classes."""

    class_map: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """Number of classes told apart."""
        return self.options.classes

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells, in whose order :meth:`boxes` tells what was found."""
        assert self.output_shape is not None, "the network is built"
        _, rows, columns = self.output_shape
        return rows, columns

    @abstractmethod
    def evaluate(self, truth: Any, grad: Any) -> LossParts | Pending[LossParts]:
        """The loss of the last output for what is expected; writes its gradient."""

    def decoding(self) -> Decoding | None:
        """What the backend needs to make boxes of the output by itself; None where only boxes() can."""
        return None

    @abstractmethod
    def boxes(self, image: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was found in picture ``image`` of the last forward pass.

        Boxes (k, 4) as cx, cy, w, h relative to the network's input, objectness (k,), and probabilities (k, classes),
        0 where not above ``thresh``.
        """

    def expect(self, truth: Any) -> None:
        """Take the objects of the pictures.

        ``truth``: per picture an array (m, 5) of class, centre x, centre y, width, height, relative to the picture.
        """
        self.check_objects(truth)
        self.truth = truth if self.class_map is None else [renumbered(rows, self.class_map) for rows in truth]

    def share_truth(self, kind: tuple[Any, ...], pack: Callable[..., Any]) -> None:
        """Let what is expected be packed, by ``pack(truth, room=...)``, once for all heads of a kind and class map."""
        mapped = None if self.class_map is None else self.class_map.tobytes()
        truth = self.truth
        self.truth = self.graph.shared_truth((*kind, mapped), lambda room: pack(truth, room=room))

    def compare(self) -> LossParts | Pending[LossParts]:
        """Compare the last output with the objects of the pictures; see :meth:`Layer.compare`."""
        return self.evaluate(self.truth, self.loss_gradient())

    def loss(self, truth: Any) -> float:
        """Compare the last output with the objects of the pictures; fills ``grad_output`` and ``loss_parts``.

        Returns Darknet's cost, summed over the pictures.
        """
        self.graph.begin_truth()
        self.expect(truth)
        self.loss_parts = known(self.compare())
        return self.loss_parts.cost

    def check_channels(self, channels: int, anchors: int, noun: str, coordinates: int) -> None:
        """Report a number of channels that does not fit, at the line where that is to be changed."""
        classes = self.options.classes
        needed = anchors * (coordinates + 1 + classes)
        if channels == needed:
            return
        parts = f"{counted(anchors, noun)} x ({coordinates} + 1 + {counted(classes, 'class')}) = {needed}"
        source = None if self.sources[0] == NETWORK_INPUT else self.graph.layers[self.sources[0]]
        if source is not None and source.name == "convolutional":
            message = f"filters={channels} does not fit the [{self.name}] on line {self.section.line}: {parts}"
            problem = Problem(source.where("filters"), f"[{source.section.name}] {message}")
            self.graph.problems.append(problem)
        else:
            before = "the network's input" if source is None else f"[{source.section.name}]"
            self.problem("", f"cannot follow {before} of {counted(channels, 'channel')}: {parts}")

    def check_anchors(self, anchors: Sequence[float]) -> bool:
        """Report anchors that are no pairs of widths and heights; returns whether they are."""
        if len(anchors) % 2:
            self.problem("anchors", f"anchors has {len(anchors)} numbers; they come in pairs of width and height")
        elif min(anchors) <= 0:
            self.problem("anchors", f"anchors has {min(anchors):g}; widths and heights are greater than 0")
        else:
            return True
        return False


@dataclass(frozen=True)
class AnchorOptions(CommonOptions):
    """Keys of the heads with anchors for objects of several sizes."""

    classes: int = option(20, minimum=1, help="number of classes")
    num: int = option(1, minimum=1, help="number of anchors; where anchors= lists more, those count as well")
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
        math.inf, default_text="no limit", minimum=0, help="limit of each gradient of the boxes"
    )
    objectness_smooth: bool = option(
        False, help="the objectness learns the IoU instead of 1, and partly fitting boxes a share of it"
    )
    label_smooth_eps: float = option(0.0, minimum=0, maximum=1, help="label smoothing of the classes")
    counters_per_class: tuple[int, ...] = option(
        (), help="number of objects of each class in the data; rare classes are given more weight"
    )
    map: str = option("", help="file that gives, line by line, the class for each class of the labels")
    jitter: float = option(0.2, minimum=0, help="augmentation: how far each side of a picture is moved")
    resize: float = option(1.0, minimum=0, help="augmentation: additional zoom between 1/resize and resize")
    random: float = option(
        0.0, minimum=0, help="train at changing input sizes: 1 varies by a factor up to 1.4, other values by that"
    )
    nms_kind: str = option("default", choices=get_args(NmsKind), help="overlap that suppresses a lesser box")
    beta_nms: float = option(0.6, minimum=0, help="exponent of the centre distance with nms_kind=diounms")

    ineffective = {"delta_normalizer": "Darknet's CPU code ignores it"}


class AnchorHead(DetectionHead):
    """A head whose ``mask`` selects some of the anchors of all heads: [yolo] and [Gaussian_yolo]."""

    coordinates: ClassVar[int] = 4

    def __init__(self, options: Any, section: Any, index: int, graph: Any) -> None:
        super().__init__(options, section, index, graph)
        self._check_options()
        self.class_map = read_class_map(self)

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input, whose channels must be those of the masks."""
        self.check_channels(inputs[0][0], len(self.options.mask), "mask", self.coordinates)
        return inputs[0]

    def describe(self) -> str:
        """Such as ``3 anchors, 20 classes``."""
        return f"{counted(len(self.options.mask), 'anchor')}, {counted(self.classes, 'class')}"

    def channel_names(self, classes: Sequence[str]) -> list[str]:
        """Coordinates, objectness and classes of each anchor, which is told by its size in pixels."""
        if self.coordinates == len(COORDINATES):
            places = list(COORDINATES)
        else:
            places = [name for place in COORDINATES for name in (place, f"{place} uncertain")]
        sizes = np.reshape(self.options.anchors, (-1, 2))[list(self.options.mask)]
        return [f"{width:g}x{height:g} {name}" for width, height in sizes for name in (*places, "object", *classes)]

    def expect(self, truth: Any) -> None:
        """Take the objects of the pictures, packed; heads that see the same ones share them."""
        super().expect(truth)
        pack = partial(self.backend.pack_objects, classes=self.classes, max_boxes=self.options.max)
        self.share_truth((self.classes, self.options.max), pack)

    def yolo_settings(self, **keys: Any) -> YoloLoss:
        """The shared keys as the backend takes them, for the present size of the network's input; and ``keys``."""
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
            objectness_smooth=o.objectness_smooth,
            max_boxes=o.max,
            **keys,
        )

    def _check_options(self) -> None:
        o = self.options
        pairs = len(o.anchors) // 2
        if self.check_anchors(o.anchors):
            if o.num > pairs:
                self.problem("num", f"num={o.num} does not fit the {counted(pairs, 'pair')} in anchors")
            elif max(o.mask) >= pairs:
                self.problem("mask", f"mask names anchor {max(o.mask)}; there are {pairs}, counted from 0")
        if len(set(o.mask)) < len(o.mask):
            self.problem("mask", "mask names an anchor twice")
        if o.counters_per_class and len(o.counters_per_class) != o.classes:
            given = counted(len(o.counters_per_class), "number")
            self.problem("counters_per_class", f"counters_per_class has {given} for classes={o.classes}")


def counted(number: int, noun: str) -> str:
    """``1 mask``, ``3 masks``; ``2 classes``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def renumbered(rows: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Objects with the classes the map gives theirs; those it does not know get the class -1.

    Objects without a place keep theirs, as in Darknet: they come from another set of labels.
    """
    rows = np.array(rows, np.float32)
    if rows.size:
        labels = rows[:, 0].astype(np.int64)
        known = (labels >= 0) & (labels < len(class_map))
        classes = np.where(known, class_map[np.where(known, labels, 0)], -1)
        placed = (rows[:, 1:3] <= EVERYWHERE).any(axis=1)
        rows[placed, 0] = classes[placed]
    return rows


def read_class_tree(layer: Layer, classes: int) -> ClassTree:
    """The hierarchy in the file that the key ``tree`` names; without the key, or the file, an empty one."""
    path = _named_file(layer, "tree", f"the {classes} classes are taken as equals, which is not what the cfg means")
    if path is None:
        return class_tree()
    try:
        parents = read_tree(path)
    except ConfigError as error:
        layer.graph.problems.extend(error.problems)
        return class_tree()
    if len(parents) != classes:
        layer.problem("tree", f"{path} has {counted(len(parents), 'class')}, the layer {classes}")
        return class_tree()
    return class_tree(parents)


def read_class_map(layer: Layer) -> np.ndarray | None:
    """The list in the file that the key ``map`` names; without the key, or the file, None."""
    path = _named_file(layer, "map", "the classes of the labels are taken as they are")
    if path is None:
        return None
    try:
        return np.array(read_map(path, layer.options.classes), np.int64)
    except ConfigError as error:
        layer.graph.problems.extend(error.problems)
        return None


def _named_file(layer: Layer, key: str, consequence: str) -> Any:
    """The file a key names, or None with a warning; published cfgs name files that come with another program."""
    name = getattr(layer.options, key)
    if not name:
        return None
    path = find_class_file(name, layer.section.file)
    if path is None:
        layer.warning(key, f"{key}={name}: no such file here or beside the cfg; until there is, {consequence}")
    return path
