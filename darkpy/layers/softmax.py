"""[softmax]: scores to probabilities, and the cross-entropy loss of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base import IGNORED_TRUTH
from darkpy.backends.base_heads import ClassTree, class_tree
from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register
from darkpy.layers.heads import read_class_tree


@register("softmax", "soft")
class Softmax(Layer):
    """Probabilities exp(x / temperature) / sum, over all values of a picture or within each group.

    Input and output (n, c, h, w). In training its loss is the cross-entropy -sum(truth * log(p)), summed over the
    pictures, and its gradient p - truth whatever the temperature (Darknet, softmax_layer.c).

    With a ``tree`` the classes that have the same parent exclude each other; a picture of a class is one of its parents
    too, and groups that none of these belong to learn nothing (Darknet, fill_hierarchy).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        groups: int = option(1, minimum=1, help="parts of the input that each sum to one")
        temperature: float = option(1.0, help="divides the scores; above 1 evens them out")
        noloss: bool = option(False, help="no loss of its own, for a network that computes one elsewhere")
        spatial: bool = option(False, help="one distribution over the channels at every position")
        tree: str = option(
            "", help="file of a hierarchy of the classes, in place of groups: a line has a name and its parent's number"
        )

    tree: ClassTree = class_tree()

    def __init__(self, options: Any, section: Any, index: int, graph: Any) -> None:
        super().__init__(options, section, index, graph)
        if self.output_shape is not None:
            self.tree = read_class_tree(self, self._size)

    @property
    def is_head(self) -> bool:
        """It has a loss unless told otherwise."""
        return not self.options.noloss

    @property
    def classes(self) -> int:
        """Classes told apart in each group."""
        return self.input_shapes[0][0] if self.options.spatial else self._size // self.options.groups

    @property
    def _size(self) -> int:
        return int(np.prod(self.input_shapes[0]))

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input."""
        size = int(np.prod(inputs[0]))
        if size % self.options.groups:
            self.problem("groups", f"groups={self.options.groups} does not divide its {size} inputs")
        if self.options.temperature == 0:
            self.problem("temperature", "temperature=0: scores cannot be divided by it")
        return inputs[0]

    def forward(self, x: Any, *, training: bool) -> None:
        """Probabilities."""
        n, c, h, w = x.shape
        if len(self.tree.parents):
            scores, out = x.reshape(n, -1), self.output.reshape(n, -1)
            self.backend.grouped_softmax_forward(scores, out, self.tree.starts, self.options.temperature)
            return
        if self.options.spatial:
            scores, out = (array.reshape(n, c, h * w).transpose(0, 2, 1) for array in (x, self.output))
            self.backend.softmax_forward(scores, out, self.options.temperature)
            return
        rows = (n * self.options.groups, -1)
        self.backend.softmax_forward(x.reshape(rows), self.output.reshape(rows), self.options.temperature)

    def expect(self, truth: np.ndarray) -> None:
        """Take ``truth`` (n, values of the output).

        Where it is -1234, nothing is learned; with a tree it may be one-hot, parents and -1234 are put in here.
        """
        if len(self.tree.parents):
            truth = with_parents(np.asarray(truth), self.tree)
        self.keep_truth(_as_output(truth, self.output.shape, self.backend.dtype))

    def compare(self) -> float | Pending[float]:
        """Cross-entropy with the truth, summed over the pictures."""
        return self.backend.cross_entropy(self.output, self.truth, self.grad_output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """p - truth, straight to the scores."""
        if grad_x is not None:
            self.backend.copy_channels(grad_output, grad_x, self.accumulate[0])


def _as_output(truth: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.ascontiguousarray(truth, dtype).reshape(shape)


def with_parents(truth: np.ndarray, tree: ClassTree) -> np.ndarray:
    """Truth (n, classes) with 1 for the parents of all classes that are there, and -1234 in groups without any."""
    truth = np.array(truth, np.float32).reshape(-1, len(tree.parents))
    truth[truth == IGNORED_TRUTH] = 0
    for class_id in reversed(range(len(tree.parents))):
        parent = tree.parents[class_id]
        if parent >= 0:
            truth[truth[:, class_id] != 0, parent] = 1
    present = np.logical_or.reduceat(truth != 0, tree.starts, axis=1)
    sizes = np.diff(np.append(tree.starts, len(tree.parents)))
    truth[~np.repeat(present, sizes, axis=1)] = IGNORED_TRUTH
    return truth
