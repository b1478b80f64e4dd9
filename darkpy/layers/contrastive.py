"""[contrastive]: a loss that brings the embeddings of one object's views together and keeps other objects apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base_heads import ContrastiveLoss
from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.heads import ObjectHead, counted, renumbered
from darkpy.layers.yolo import Yolo


@register("contrastive")
class Contrastive(ObjectHead):
    """Supervised contrastive loss of the embeddings that belong to the anchors of a [yolo] head.

    Input (n, anchors * size, h, w): for each anchor of the head and each cell a vector; the output is the input. An
    object's vector is the one where the head learns the object. The vectors of one object in several pictures of a
    mini-batch are drawn together, at most ``contrastive_neg_max`` other objects of its class pushed away. The gradient
    is the negative of Darknet's delta, and the cost the sum of its squares (https://arxiv.org/abs/2004.11362; Darknet,
    softmax_layer.c).

    Which objects are the same is told by a sixth number in the rows of the truth, class, centre x, centre y, width,
    height, identity (0 or more); with ``contrastive=1`` in [net] the loader puts it there. Without it, or where no
    object comes twice, there is nothing to learn and the cost is 0.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        yolo_layer: int = option(help="the [yolo] head whose objects are compared, by index or counted back")
        temperature: float = option(1.0, minimum=0.001, help="divides the cosines; smaller sharpens the contrast")
        cls_normalizer: float = option(1.0, help="weight of the loss")
        max_delta: float = option(math.inf, default_text="no limit", minimum=0, help="limit of each gradient")
        contrastive_neg_max: int = option(3, minimum=0, help="other objects that each object is compared with")

        ineffective = {"classes": "they are those of the [yolo] head"}

    head: Yolo | None = None

    def __init__(self, options: Any, section: Any, index: int, graph: Any) -> None:
        super().__init__(options, section, index, graph)
        if not graph.net_options.contrastive:
            self.warning("", "learns from two views of every picture; without contrastive=1 in [net] there is but one")

    def find_sources(self) -> list[int]:
        """The layer before; the head is looked up, not read."""
        index = self.resolve(self.options.yolo_layer, "yolo_layer")
        found = None if index is None else self.graph.layers[index]
        if isinstance(found, Yolo):
            self.head = found
        elif found is not None:
            self.problem("yolo_layer", f"yolo_layer={self.options.yolo_layer} is [{found.name}], not [yolo]")
        return [self.index - 1]

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input, whose grid must be the head's and whose channels are shared by the head's anchors."""
        channels, height, width = inputs[0]
        head = None if self.head is None else self.head.output_shape
        if self.head is not None and head is not None:
            anchors = len(self.head.options.mask)
            if channels % anchors:
                self.problem("", f"{counted(channels, 'channel')} cannot be shared by the {anchors} anchors of [yolo]")
            if head[1:] != (height, width):
                self.problem("", f"the grid is {width}x{height}, that of [yolo] {head[2]}x{head[1]}")
        return inputs[0]

    def describe(self) -> str:
        """Such as ``128 values, 3 anchors``."""
        if self.head is None:
            return ""
        anchors = len(self.head.options.mask)
        return f"{counted(self.input_shapes[0][0] // anchors, 'value')}, {counted(anchors, 'anchor')}"

    def is_identity(self, training: bool) -> bool:
        """The output is the input."""
        return True

    def forward(self, x: Any, *, training: bool) -> None:
        """Nothing to do: the output is the input."""

    def expect(self, truth: Sequence[np.ndarray]) -> None:
        """Take the objects of the pictures.

        ``truth``: per picture an array (m, 6) of class, centre x, centre y, width, height, relative to the picture, and
        identity; an object that has none is left out.
        """
        self.check_objects(truth)
        if self.head is not None and self.head.class_map is not None:
            truth = [renumbered(rows, self.head.class_map) for rows in truth]
        height, width = self.output.shape[2:]
        self.truth = self.backend.pack_samples(truth, height, width, self.loss_settings(), self.truth)

    def compare(self) -> float | Pending[float]:
        """Compare the embeddings of the objects of the pictures; fills ``grad_output``.

        Returns Darknet's cost, summed over the pictures.
        """
        return self.backend.contrastive_loss(self.output, self.truth, self.loss_gradient(), self.loss_settings())

    def loss_settings(self) -> ContrastiveLoss:
        """The options as the backend takes them."""
        assert self.head is not None
        o = self.options
        return ContrastiveLoss(
            head=self.head.loss_settings(),
            temperature=o.temperature,
            cls_normalizer=o.cls_normalizer,
            max_delta=o.max_delta,
            contrastive_neg_max=o.contrastive_neg_max,
            time_steps=self.graph.time_steps,
        )
