"""Convolutions of pictures of few channels: kernels/first_layer.cu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.batchnorm import JOINING, BatchNormOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MOST_PARTIALS, workspace_bytes

#: Positions of a tile, as in the kernels.
DOWN, ACROSS = 8, 32

FORWARD_THREADS = 128

#: Channels that make a layer one of these, and positions of a picture that fill a tile well enough.
MOST_CHANNELS, FEWEST_POSITIONS = 4, 32

#: Sums over taps that a thread of the weight gradient has, and filters of its block, four by four.
TAPS, MOST_FOURS = 9, 8

#: Bytes of shared memory that every GPU gives a block.
SHARED_BYTES = 48 << 10

#: Blocks for each multiprocessor that share the tiles of a weight gradient.
BLOCKS_EACH = 4


@dataclass(frozen=True)
class FirstLayer:
    """The numbers of such a convolution, those of the blocks among them.

    pitch: floats between rows of a patch. room, gradient_room: shared floats.
    """

    tiles: int
    taps: int
    filters: int
    pitch: int
    room: int
    gradient_room: int

    @classmethod
    def of(
        cls, x_shape: Sequence[int], out_shape: Sequence[int], geometry: ConvolutionGeometry
    ) -> FirstLayer | None:
        """For these shapes; None where the kernels are not meant for them."""
        g = geometry
        channels, (pictures, filters, height, width) = x_shape[1], out_shape
        if channels > MOST_CHANNELS or g.groups > 1 or g.size == 1 or height * width < FEWEST_POSITIONS:
            return None
        reach = (g.size - 1) * g.dilation + 1
        rows, columns = (DOWN - 1) * g.stride_y + reach, (ACROSS - 1) * g.stride_x + reach
        # Two rows of positions lie half a round of banks apart.
        pitches = range(columns * channels, columns * channels + 32)
        pitch = next((pitch for pitch in pitches if pitch * g.stride_y % 32 == 16), pitches[0])
        taps, tiles = g.size * g.size * channels, pictures * -(-height // DOWN) * -(-width // ACROSS)
        side = 16 if filters <= 16 else 32
        fours = min(MOST_FOURS, -(-filters // 4))
        room = max(taps * (side + 4) + rows * pitch, FORWARD_THREADS // 32 * 3 * side)
        found = cls(tiles, taps, side, pitch, room, max(rows * pitch, 4 * fours * taps))
        fits = 4 * max(found.room, found.gradient_room) <= SHARED_BYTES and fours * -(-taps // TAPS) <= THREADS
        return found if fits else None


class FirstLayerOperations(BatchNormOperations):
    """What ConvolutionOperations leaves to the kernels for few channels; ``numbers`` are its own."""

    def first_layer_forward(
        self,
        layer: FirstLayer,
        x: DeviceArray,
        weights: DeviceArray,
        out: DeviceArray,
        numbers: Sequence[int],
        last: Sequence[Any],
        with_statistics: bool = False,
    ) -> tuple[DeviceArray, DeviceArray] | None:
        """``last``: scale, bias, the number of the activation.

        Returns the statistics of what is written if they are asked for, (tiles, 2, f) in the workspace: mean and sum
        of the squared distances to it; and how many positions each tile has.
        """
        filters, statistics, counts = out.shape[1], None, None
        if with_statistics:
            statistics, counts = self.carve((layer.tiles, 2, filters), (layer.tiles,))
        grid = (layer.tiles, -(-out.shape[1] // layer.filters))
        self.launch(
            "first_layer", f"first_layer_forward_{layer.filters}", grid, FORWARD_THREADS,
            x, weights, out, *numbers, layer.pitch, self._by_four(out), *last, statistics, counts,
            shared=4 * layer.room,
        )  # fmt: skip
        return None if statistics is None or counts is None else (statistics, counts)

    def first_layer_backward_weights(
        self,
        layer: FirstLayer,
        x: DeviceArray,
        grad_out: DeviceArray,
        grad_weights: DeviceArray,
        numbers: Sequence[int],
    ) -> None:
        """``grad_weights +=`` the gradient."""
        size, filters = grad_weights.size, grad_weights.shape[0]
        fours = min(MOST_FOURS, -(-filters // 4))
        parts = -(-filters // (4 * fours))
        blocks = max(1, min(layer.tiles, self.gpu.multiprocessors * BLOCKS_EACH // parts, MOST_PARTIALS // size))
        partials = self.partials(blocks * size)
        self.launch(
            "first_layer", "first_layer_backward_weights", (blocks, parts), THREADS,
            x, grad_out, partials, layer.tiles, *numbers, layer.pitch, self._by_four(grad_out), fours,
            shared=4 * layer.gradient_room,
        )  # fmt: skip
        self.launch(
            "batchnorm", "join_sums", -(-size // JOINING), JOINING, partials, blocks, size, grad_weights, 1.0, True
        )

    @staticmethod
    def first_layer_workspace(layer: FirstLayer, filters: int) -> int:
        """Bytes of workspace for the statistics."""
        return workspace_bytes((layer.tiles, 2, filters), (layer.tiles,), itemsize=4)

    @staticmethod
    def _by_four(array: DeviceArray) -> bool:
        """Whether the channels of a position can be read and written four at a time."""
        _, channels, stride = array.positions()
        return not (channels % 4 or stride % 4 or array.address % (4 * array.itemsize))
