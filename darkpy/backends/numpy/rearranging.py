"""Moving values without computing: between space and channels, and parts of pictures."""

from __future__ import annotations

from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, write


class RearrangingOperations(MemoryOperations):
    """A picture (c, h * s, w * s) is an array (c, h, s, w, s): exchanging axes is all there is to do."""

    def space_to_depth(self, x: Array, out: Array, stride: int, accumulate: bool = False) -> None:
        """See :meth:`Backend.space_to_depth`."""
        n, c, height, width = x.shape
        h, w = height // stride, width // stride
        blocks = x.reshape(n, c, h, stride, w, stride).transpose(0, 3, 5, 1, 2, 4)
        write(blocks, out.reshape(blocks.shape), accumulate)

    def depth_to_space(self, x: Array, out: Array, stride: int, accumulate: bool = False) -> None:
        """See :meth:`Backend.depth_to_space`."""
        n, c, height, width = out.shape
        h, w = height // stride, width // stride
        target = out.reshape(n, c, h, stride, w, stride)
        blocks = x.reshape(n, stride, stride, c, h, w).transpose(0, 3, 4, 1, 5, 2)
        write(blocks, target, accumulate)

    def crop_forward(
        self, x: Array, out: Array, top: int, left: int, flip: bool, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        """See :meth:`Backend.crop_forward`."""
        self.scaled_copy(part_of(x, out, top, left, flip), out, scale)
        if shift:
            out += out.dtype.type(shift)

    def crop_backward(
        self,
        grad_out: Array,
        grad_x: Array,
        top: int,
        left: int,
        flip: bool,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.crop_backward`."""
        if not accumulate:
            grad_x.fill(0)
        self.scaled_copy(grad_out, part_of(grad_x, grad_out, top, left, flip), scale, accumulate)


def part_of(x: Array, like: Array, top: int, left: int, flip: bool) -> Array:
    """A view of x with the height and width of another array, mirrored left to right if asked for."""
    height, width = like.shape[2:]
    part = x[:, :, top : top + height, left : left + width]
    return part[:, :, :, ::-1] if flip else part
