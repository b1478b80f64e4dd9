"""Moving values without computing: all of it is copies between views."""

from __future__ import annotations

from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.memory import MemoryOperations


class RearrangingOperations(MemoryOperations):
    """A picture (c, h * s, w * s) is an array (c, h, s, w, s): exchanging axes is all there is to do."""

    def copy_channels(self, source: DeviceArray, out: DeviceArray, accumulate: bool = False) -> None:
        """See :meth:`Backend.copy_channels`."""
        self.move(source, out, accumulate=accumulate)

    def scaled_copy(self, source: DeviceArray, out: DeviceArray, scale: float, accumulate: bool = False) -> None:
        """See :meth:`Backend.scaled_copy`."""
        self.move(source, out, scale, accumulate=accumulate)

    def space_to_depth(self, x: DeviceArray, out: DeviceArray, stride: int, accumulate: bool = False) -> None:
        """See :meth:`Backend.space_to_depth`."""
        n, c, height, width = x.shape
        h, w = height // stride, width // stride
        blocks = self.rows_to_read(x).reshape(n, c, h, stride, w, stride).transpose(0, 3, 5, 1, 2, 4)
        with self.rows_to_write(out, keep=accumulate) as target:
            self.move(blocks, target.reshape(blocks.shape), accumulate=accumulate)

    def depth_to_space(self, x: DeviceArray, out: DeviceArray, stride: int, accumulate: bool = False) -> None:
        """See :meth:`Backend.depth_to_space`."""
        n, c, height, width = out.shape
        h, w = height // stride, width // stride
        blocks = self.rows_to_read(x).reshape(n, stride, stride, c, h, w).transpose(0, 3, 4, 1, 5, 2)
        with self.rows_to_write(out, keep=accumulate) as target:
            self.move(blocks, target.reshape(n, c, h, stride, w, stride), accumulate=accumulate)

    def crop_forward(
        self, x: DeviceArray, out: DeviceArray, top: int, left: int, flip: bool, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        """See :meth:`Backend.crop_forward`."""
        self.move(_part_of(x, out, top, left, flip), out, scale, shift)

    def crop_backward(
        self,
        grad_out: DeviceArray,
        grad_x: DeviceArray,
        top: int,
        left: int,
        flip: bool,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.crop_backward`."""
        if not accumulate:
            self.fill(grad_x, 0.0)
        self.move(grad_out, _part_of(grad_x, grad_out, top, left, flip), scale, accumulate=accumulate)


def _part_of(x: DeviceArray, like: DeviceArray, top: int, left: int, flip: bool) -> DeviceArray:
    """A view of x with the height and width of another array, mirrored left to right if asked for."""
    height, width = like.shape[2:]
    part = x[:, :, top : top + height, left : left + width]
    return part[:, :, :, ::-1] if flip else part
