"""A loss for the [yolo] heads in PyTorch, of the kind darkpy's is, and of about its cost.

As in Darknet: a box that overlaps some object enough is not taught that it sees nothing; every object teaches the best
of all anchors, and others of the head whose shape fits better than ``iou_thresh``; boxes learn coordinates or an
overlap. Unlike Darknet: the derivative of what squashes places is multiplied in (automatic differentiation knows no
other way), ``truth_thresh``, smoothing, limits and factors of classes are left out, and where two objects meet in one
cell both count. So its numbers are not darkpy's; its work is.

Everything has a fixed shape, so that it can be compiled and captured in a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class YoloLoss(nn.Module):
    """Costs of all heads, summed, for objects (n, m, 5) of class, centre x, y, width, height; class -1 is no object."""

    def __init__(self, layers: list[Any], width: int, height: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(HeadLoss(layer, width, height) for layer in layers)

    def forward(self, outputs: list[torch.Tensor], truth: torch.Tensor) -> torch.Tensor:
        """A number; outputs (n, masks * (5 + classes), h, w) as they go into the heads."""
        costs = [head(output.float(), truth) for head, output in zip(self.heads, outputs)]
        return torch.stack(costs).sum()


class HeadLoss(nn.Module):
    """The cost of one head."""

    def __init__(self, layer: Any, width: int, height: int) -> None:
        super().__init__()
        self.options = layer.options
        anchors = np.reshape(layer.options.anchors, (-1, 2)) / (width, height)
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32))
        self.register_buffer("mask", torch.tensor(layer.options.mask))

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """A number; output (n, masks * (5 + classes), h, w), truth (n, m, 5)."""
        n, _, height, width = output.shape
        cells = output.view(n, len(self.options.mask), -1, height, width).permute(0, 1, 3, 4, 2)
        boxes = self.boxes(cells)
        where = self.places(truth, height, width)
        with torch.no_grad():
            teaches = self.teaching(truth)
            target = torch.zeros_like(cells[..., 4])
            target = target.index_put(where, teaches.float(), accumulate=True).clamp(max=1)
            counts = self.background(boxes, truth) | (target > 0)
        objectness = (self.entropy(cells[..., 4], target) * counts).sum()
        taught = (self.of_objects(cells[where], boxes[where], truth, height, width) * teaches).sum()
        return self.options.obj_normalizer * objectness + taught

    def places(self, truth: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, ...]:
        """Indices of picture, anchor, row, column for every object and anchor of the head, (n, m, masks) together."""
        picture = torch.arange(len(truth), device=truth.device)[:, None, None]
        anchor = torch.arange(len(self.options.mask), device=truth.device)
        column = (truth[..., 1] * width).long().clamp(0, width - 1)[..., None]
        row = (truth[..., 2] * height).long().clamp(0, height - 1)[..., None]
        return picture, anchor, row, column

    def background(self, boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Which boxes (n, masks, h, w) overlap no object so much that they may see it."""
        objects = truth[:, None, None, None]
        overlap = overlaps(boxes[..., None, :], objects[..., 1:])
        return ~((overlap > self.options.ignore_thresh) & (objects[..., 0] >= 0)).any(dim=-1)

    def of_objects(
        self, cells: torch.Tensor, boxes: torch.Tensor, truth: torch.Tensor, height: int, width: int
    ) -> torch.Tensor:
        """What cells (n, m, masks, 5 + classes) have to learn of the objects: their class and their box."""
        o = self.options
        labels = (truth[..., :1] == torch.arange(o.classes, device=truth.device)).float()[:, :, None]
        classes = self.entropy(cells[..., 5:], labels.expand_as(cells[..., 5:])).sum(dim=-1)
        wanted = truth[:, :, None, 1:].expand_as(boxes)
        if o.iou_loss != "mse":
            return classes + o.iou_normalizer * (1 - complete_overlaps(boxes, wanted))
        places = ((boxes[..., :2] - wanted[..., :2]) * grid(width, height, boxes.device)).square()
        sizes = (boxes[..., 2:].log() - wanted[..., 2:].clamp(min=1e-6).log()).square()
        return classes + o.iou_normalizer * (places + sizes).sum(dim=-1) / 2

    def boxes(self, cells: torch.Tensor) -> torch.Tensor:
        """Centre x, y, width, height relative to the picture (n, masks, h, w, 4)."""
        o = self.options
        _, _, height, width, _ = cells.shape
        across, down = (torch.arange(count, device=cells.device) for count in (width, height))
        offsets = torch.stack((across.expand(height, width), down[:, None].expand(height, width)), dim=-1)
        places, sizes = cells[..., :2], cells[..., 2:4]
        places = places if o.new_coords else places.sigmoid()
        places = o.scale_x_y * places - 0.5 * (o.scale_x_y - 1)
        units = self.anchors[self.mask][:, None, None]
        sizes = 4 * sizes.square() * units if o.new_coords else sizes.exp() * units
        return torch.cat(((places + offsets) / grid(width, height, cells.device), sizes), dim=-1)

    def teaching(self, truth: torch.Tensor) -> torch.Tensor:
        """Which anchors of the head an object teaches (n, m, masks): by shape alone."""
        shapes = truth[..., None, 3:]
        common = torch.minimum(shapes, self.anchors).prod(dim=-1)
        fit = common / (shapes.prod(dim=-1) + self.anchors.prod(dim=-1) - common)
        best = fit.argmax(dim=-1, keepdim=True) == self.mask
        return (best | (fit[..., self.mask] > self.options.iou_thresh)) & (truth[..., :1] >= 0)

    def entropy(self, values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross entropy; with ``new_coords`` the convolution before has squashed the values."""
        if self.options.new_coords:
            return -(target * values.clamp(min=1e-7).log() + (1 - target) * (1 - values).clamp(min=1e-7).log())
        return functional.binary_cross_entropy_with_logits(values, target, reduction="none")


def grid(width: int, height: int, device: Any) -> torch.Tensor:
    """Columns and rows as a tensor (2,), made on the device: a graph cannot hold a copy from the host."""
    return torch.cat([torch.full((1,), float(side), device=device) for side in (width, height)])


def corners(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest x, y (..., 2) of boxes (..., 4), centre based."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return centres - halves, centres + halves


def overlaps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes (..., 4), centre based."""
    (low_a, high_a), (low_b, high_b) = corners(a), corners(b)
    common = (high_a.minimum(high_b) - low_a.maximum(low_b)).clamp(min=0).prod(dim=-1)
    return common / (a[..., 2:].prod(dim=-1) + b[..., 2:].prod(dim=-1) - common).clamp(min=1e-9)


def complete_overlaps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """CIoU: the overlap, less the distance of the centres and the difference of the aspects (Zheng et al. 2020)."""
    iou = overlaps(a, b)
    (low_a, high_a), (low_b, high_b) = corners(a), corners(b)
    diagonal = (high_a.maximum(high_b) - low_a.minimum(low_b)).square().sum(dim=-1).clamp(min=1e-9)
    distance = (a[..., :2] - b[..., :2]).square().sum(dim=-1)
    angle_a, angle_b = (torch.atan2(box[..., 2], box[..., 3].clamp(min=1e-9)) for box in (a, b))
    aspect = 4 / torch.pi**2 * (angle_a - angle_b).square()
    weight = (aspect / (1 - iou + aspect).clamp(min=1e-9)).detach()
    return iou - distance / diagonal - weight * aspect


def packed(truth: list[np.ndarray], most: int) -> np.ndarray:
    """Objects (n, most, 5) of pictures, filled up with objects of class -1."""
    result = np.full((len(truth), most, 5), -1, np.float32)
    result[..., 1:] = 0.5
    for picture, rows in enumerate(truth):
        rows = rows[:most]
        result[picture, : len(rows)] = rows
    return result
