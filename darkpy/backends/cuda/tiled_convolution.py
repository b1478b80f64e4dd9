"""Convolutions as products of matrices, tile by tile: kernels/exact_*.cu and, on tensor cores, kernels/tensor_*.cu.

On tensor cores are arrays of 16-bit floats, and float32 where the backend's precision is "tf32"; all else is exact.
Weights are float32 parameters; kernels for 16 bits read a copy: of all parameters, made once for each pass, or of
weights that are not among these in the workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.activations import KINDS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.batchnorm import BatchNormOperations
from darkpy.backends.cuda.convolution_plans import TILES, ConvolutionShape, Limits, Plan, Tile, default_plan
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import workspace_bytes

#: The precision of convolutions of arrays of a type, by NumPy's name, where it is not float32.
PRECISION_OF = {"float16": "fp16", "bfloat16": "bf16"}

#: Those whose kernels read the weights themselves.
FLOAT_WEIGHTS = ("fp32", "tf32")

#: Shared memory that every block takes besides its own, from sm_80 on.
RESERVED_BYTES = 1 << 10

#: Elements of 16-byte copies begin at multiples of this many bytes.
VECTOR_BYTES = 16

#: Bits of the kernels' argument `vectors`: what can be taken 16 bytes at a time. The first two are the operands.
FIRST, SECOND, RESULT, RESIDUAL = 1, 2, 4, 8


class TiledConvolutionOperations(BatchNormOperations):
    """What convolutions are but for few channels, or one of each filter.

    Attributes:
        plans: measured plans, by operation, precision and shape; they go before the default.
        limits: what plans depend on of the GPU.
    """

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        super().__init__(index, precision)
        self.plans: dict[tuple[str, str, ConvolutionShape], Plan] = {}
        gpu, is_new = self.gpu, self.gpu.capability >= 80
        self.limits = Limits(
            gpu.multiprocessors, gpu.shared_memory, RESERVED_BYTES if is_new else 0, gpu.threads, 4 if is_new else 2
        )
        #: The vector of all parameters, and the same numbers in 16 bits.
        self._copied: tuple[DeviceArray, DeviceArray] | None = None

    def plan(self, operation: str, precision: str, shape: ConvolutionShape) -> Plan:
        """How an operation is computed: as measured, else as :func:`default_plan` says."""
        found = self.plans.get((operation, precision, shape))
        return found or default_plan(operation, precision, shape, self.limits)

    def convolution_precision(self, dtype: Any) -> str:
        """How convolutions of arrays of a type are computed; in float32 where the GPU has no tensor cores for them."""
        precision = PRECISION_OF.get(dtype.name) or ("tf32" if self.precision == "tf32" else "fp32")
        return precision if self.gpu.has_tensor_cores(precision) else "fp32"

    def own_memory(self, input_values: int, parameters: int, pictures: int = 0) -> int:
        """See :meth:`Backend.own_memory`: the copy of the parameters too."""
        copy = self.activation_dtype.itemsize * parameters if self._copies_parameters else 0
        return super().own_memory(input_values, parameters, pictures) + copy

    def use_parameters(self, values: DeviceArray) -> None:
        """See :meth:`Backend.use_parameters`."""
        if not self._copies_parameters:
            return
        if self._copied is None or self._copied[0] is not values:
            self._copied = (values, self.empty(values.shape, self.activation_dtype))
        self.move(*self._copied)

    @property
    def _copies_parameters(self) -> bool:
        return self.convolution_precision(self.activation_dtype) in PRECISION_OF.values()

    def copy_of(self, weights: DeviceArray, dtype: Any, alignment: int = VECTOR_BYTES) -> DeviceArray | None:
        """Weights in 16 bits, if they are among the parameters and begin at a multiple of so many bytes there."""
        if self._copied is None or weights.owner is not self._copied[0].owner or self._copied[1].dtype != dtype:
            return None
        values, copy = self._copied
        first = (weights.address - values.address) // values.itemsize
        if first < 0 or first + weights.size > values.size or first * copy.itemsize % alignment:
            return None
        return copy[first : first + weights.size].reshape(weights.shape)

    def tiled_workspace(
        self, precision: str, x_shape: Sequence[int], weights_shape: Sequence[int], out_shape: Sequence[int],
        geometry: ConvolutionGeometry, operations: Sequence[str],
    ) -> int:  # fmt: skip
        """Bytes of workspace for the shares of the sums and the weights' copy, whether arrays are aligned or not."""
        needed = 0
        for operation in operations:
            copy = 0 if precision in FLOAT_WEIGHTS or operation == "backward_weights" else 2 * prod(weights_shape)
            for vectors in (True, False):
                shape = ConvolutionShape.of(tuple(x_shape), tuple(out_shape), geometry, vectors)
                plan = self.plan(operation, precision, shape)
                floats = _shares(shape, operation, plan)
                if operation == "forward" and "backward_weights" in operations:  # statistics for batch normalisation
                    positions, filters = prod(out_shape) // out_shape[1], out_shape[1]
                    floats = max(floats, -(-positions // _tile(operation, precision, plan).m) * 2 * filters)
                needed = max(needed, workspace_bytes((copy,), (4 * floats,), itemsize=1))
        return needed

    def tiled_forward(
        self, x: DeviceArray, weights: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry,
        numbers: Sequence[int], scale: DeviceArray | None, bias: DeviceArray | None, activation: str,
        residual: DeviceArray | None = None, after: str = "linear", with_statistics: bool = False,
        normalization: tuple[DeviceArray, DeviceArray] | None = None,
    ) -> tuple[DeviceArray, int] | None:  # fmt: skip
        """``out = after(activation(convolution * scale + bias) + residual)``; see kernels/convolution_forward.cuh.

        With the mean and variance of a ``normalization``, scale and bias are batch normalisation's.
        Where statistics are asked for and the plan has no splits, it returns them, (tiles, 2, f) in the workspace: mean
        and sum of the squared distances to it; and how many positions a tile has.
        """
        precision = self.convolution_precision(x.dtype)
        positions, filters, out_stride = out.positions()
        stride = 0 if residual is None else residual.positions()[2]
        mean, variance = normalization or (None, None)
        last = (scale, bias, mean, variance, KINDS[activation], residual, stride, KINDS[after])
        channels, share = x.shape[1] // geometry.groups, filters // geometry.groups
        vectors = FIRST * _in_vectors(x, channels) | SECOND * _weights_in_vectors(weights, channels, x.dtype)
        shape, plan = self._plan_for("forward", precision, x, out, geometry, vectors == FIRST | SECOND)
        vectors |= RESULT * _in_vectors(out, share)
        vectors |= RESIDUAL * (residual is not None and _in_vectors(residual, share))
        tile = _tile("forward", precision, plan)
        tiles = -(-positions // tile.m) if with_statistics and plan.splits == 1 else 0
        room = tiles * 2 * filters if tiles else _shares(shape, "forward", plan)
        floats, copy = self._floats_and_weights(room, weights, x.dtype)
        shares, statistics = (floats, None) if plan.splits > 1 else (None, floats)
        self._launch_tiles(
            "forward", precision, shape, plan, vectors, 1,
            x, copy, out, positions, *numbers, *last, statistics, shares, plan.splits, geometry.groups, vectors,
        )  # fmt: skip
        if shares is not None:
            grid, block, *_, by_four = self.over_channels(*_given(out, residual))
            self.launch(
                "shares", "finish_forward", grid, block,
                shares, out, out_stride, positions, filters, by_four, plan.splits, *last,
            )  # fmt: skip
        return None if statistics is None else (statistics.reshape(tiles, 2, filters), tile.m)

    def tiled_backward_input(
        self, grad_out: DeviceArray, weights: DeviceArray, grad_x: DeviceArray,
        geometry: ConvolutionGeometry, numbers: Sequence[int], accumulate: bool,
    ) -> None:  # fmt: skip
        """See :meth:`Backend.convolution_backward_input`."""
        precision = self.convolution_precision(grad_out.dtype)
        pixels, channels, x_stride = grad_x.positions()
        share, filters = channels // geometry.groups, grad_out.shape[1] // geometry.groups
        vectors = FIRST * _in_vectors(grad_out, filters) | SECOND * _weights_in_vectors(weights, share, grad_out.dtype)
        shape, plan = self._plan_for("backward_input", precision, grad_x, grad_out, geometry, vectors == FIRST | SECOND)
        vectors |= RESULT * _in_vectors(grad_x, share)
        room = _shares(shape, "backward_input", plan)
        shares, copy = self._floats_and_weights(room, weights, grad_out.dtype)
        self._launch_tiles(
            "backward_input", precision, shape, plan, vectors, geometry.stride_y * geometry.stride_x,
            grad_out, copy, grad_x, grad_x.shape[0], *numbers, accumulate, shares, plan.splits, geometry.groups,
            vectors,
        )  # fmt: skip
        if shares is not None:
            grid, block, *_, by_four = self.over_channels(grad_x)
            self.launch(
                "shares", "finish_backward_input", grid, block,
                shares, grad_x, x_stride, pixels, channels, by_four, plan.splits, accumulate,
            )  # fmt: skip

    def tiled_backward_weights(
        self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray,
        geometry: ConvolutionGeometry, numbers: Sequence[int],
    ) -> None:  # fmt: skip
        """See :meth:`Backend.convolution_backward_weights`."""
        precision = self.convolution_precision(x.dtype)
        positions, filters, _ = grad_out.positions()
        channels, depth = x.shape[1] // geometry.groups, prod(grad_weights.shape[1:])
        operands = FIRST * _in_vectors(grad_out, filters // geometry.groups) | SECOND * _in_vectors(x, channels)
        shape, plan = self._plan_for("backward_weights", precision, x, grad_out, geometry, operands == FIRST | SECOND)
        target = grad_weights if plan.splits == 1 else self.carve((plan.splits, grad_weights.size))[0]
        vectors = operands | RESULT * (not depth % 4 and not target.address % VECTOR_BYTES)
        self._launch_tiles(
            "backward_weights", precision, shape, plan, vectors, 1,
            x, grad_out, target, positions, *numbers, plan.splits, geometry.groups, vectors,
        )  # fmt: skip
        if plan.splits > 1:
            self.add_shares(target, grad_weights, plan.splits)

    def add_shares(self, shares: DeviceArray, grad_weights: DeviceArray, splits: int) -> None:
        """``grad_weights +=`` the sum of the splits' shares (splits, size)."""
        count = grad_weights.size
        self.launch(
            "shares", "add_shares", self.blocks_for(count), THREADS, shares, grad_weights, count, splits
        )

    def _plan_for(
        self, operation: str, precision: str, x: DeviceArray, out: DeviceArray, geometry: ConvolutionGeometry,
        vectors: bool,
    ) -> tuple[ConvolutionShape, Plan]:  # fmt: skip
        shape = ConvolutionShape.of(x.shape, out.shape, geometry, vectors)
        return shape, self.plan(operation, precision, shape)

    def _floats_and_weights(
        self, room: int, weights: DeviceArray, dtype: Any
    ) -> tuple[DeviceArray | None, DeviceArray]:
        """So many floats of the workspace, None if none, and the weights as elements of a type."""
        elements = weights if dtype == weights.dtype else self.copy_of(weights, dtype)
        copied = weights.size if elements is None else 0
        floats, copy = self.carve((4 * room,), (dtype.itemsize * copied,), dtype=np.uint8)
        if elements is None:
            elements = copy.view(dtype).reshape(weights.shape)
            self.move(weights, elements)
        return floats.view(np.float32) if room else None, elements

    def _launch_tiles(
        self, operation: str, precision: str, shape: ConvolutionShape, plan: Plan, vectors: int, phases: int,
        *arguments: Any,
    ) -> None:  # fmt: skip
        """A block for each tile, group, split and phase of the strides (of which the input gradient has several)."""
        tile = self.limits.applied(_tile(operation, precision, plan), precision)
        m, n, _ = shape.product(operation)
        if phases > 1:  # of the first phase, which has the most pixels
            g = shape.geometry
            m = shape.batch * -(-shape.height // g.stride_y) * -(-shape.width // g.stride_x)
        grid = (-(-m // tile.m) * -(-n // tile.n), 1, shape.geometry.groups * plan.splits * phases)
        family = "exact" if precision == "fp32" else "tensor"
        suffix = "" if vectors & (FIRST | SECOND) == FIRST | SECOND else "_any"
        self.launch(
            f"{family}_{operation}", f"{operation}_{plan.kernel}{suffix}", grid, tile.threads, *arguments,
            shared=tile.shared_bytes,
        )  # fmt: skip


def _given(*arrays: DeviceArray | None) -> list[DeviceArray]:
    return [array for array in arrays if array is not None]


def _shares(shape: ConvolutionShape, operation: str, plan: Plan) -> int:
    """Floats that the splits write."""
    return plan.splits * shape.results(operation) if plan.splits > 1 else 0


def _tile(operation: str, precision: str, plan: Plan) -> Tile:
    return TILES[operation, precision][plan.kernel]


def _in_vectors(array: DeviceArray, channels: int) -> bool:
    """Whether the channels of a group begin at multiples of 16 bytes, in every row and for every group."""
    rows, _, stride = array.positions()
    lengths = (channels, stride if rows > 1 else channels)
    return not any(length * array.itemsize % VECTOR_BYTES for length in lengths) and not array.address % VECTOR_BYTES


def _weights_in_vectors(weights: DeviceArray, channels: int, dtype: Any) -> bool:
    """The same of weights, or of their copy in another type."""
    return _in_vectors(weights, channels) if weights.dtype == dtype else not channels * dtype.itemsize % VECTOR_BYTES
