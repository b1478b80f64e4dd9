"""Biases and batch normalisation: kernels/batchnorm.cu."""

from __future__ import annotations

from collections.abc import Sequence

from darkpy.backends.cuda.activations import KINDS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.memory import MOST_PARTIALS, MemoryOperations

#: A block of the kernels that add up: channels, and rows it takes at a time.
ACROSS, DOWN = 32, 8

#: Rows that are worth a block of their own.
FEWEST_ROWS = 64

#: Threads of a block of the kernels that join sums.
JOINING = 128


class BatchNormOperations(MemoryOperations):
    """Operations with one parameter per channel."""

    def bias_activation_forward(self, x: DeviceArray, biases: DeviceArray, out: DeviceArray, activation: str) -> None:
        """See :meth:`Backend.bias_activation_forward`."""
        source = self.rows_to_read(x)
        with self.rows_to_write(out) as target:
            grid, block, rows, channels, *strides, by_four = self.over_channels(source, target)
            self.launch(
                "batchnorm", "bias_activation", grid, block,
                source, strides[0], target, strides[1], rows, channels, by_four, biases, KINDS[activation],
            )  # fmt: skip

    def bias_backward(self, grad: DeviceArray, grad_biases: DeviceArray) -> None:
        """See :meth:`Backend.bias_backward`."""
        self.channel_sums(self.rows_to_read(grad), None, grad_biases, accumulate=True)

    def channel_sums(
        self, a: DeviceArray, b: DeviceArray | None, out: DeviceArray, scale: float = 1.0, accumulate: bool = False
    ) -> None:
        """``out = scale *`` the sum of a, or of a * b, over everything but channels (or ``+=``); out (c,)."""
        rows, channels, strides = self.rows_of(a, a if b is None else b)
        stretches, partials = self.stretches(rows, channels, 1)
        self.launch(
            "batchnorm", "sums_of_stretches", (-(-channels // ACROSS), stretches), (ACROSS, DOWN),
            a, strides[0], b, strides[1], rows, channels, partials,
        )  # fmt: skip
        self.launch(
            "batchnorm", "join_sums", -(-channels // JOINING), JOINING, partials, stretches, channels, out, scale,
            accumulate,
        )  # fmt: skip

    def stretches(self, rows: int, channels: int, sums: int) -> tuple[int, DeviceArray]:
        """Into how many stretches rows are divided to be added up, and room for ``sums`` of each of their channels."""
        across = -(-channels // ACROSS)
        wanted = max(1, 4 * self.gpu.multiprocessors // across)
        count = max(1, min(wanted, rows // FEWEST_ROWS, MOST_PARTIALS // (sums * channels)))
        return count, self.partials(count * sums * channels)

    def batchnorm_forward_training(
        self,
        x: DeviceArray,
        out: DeviceArray,
        scales: DeviceArray,
        biases: DeviceArray,
        mean: DeviceArray,
        variance: DeviceArray,
        rolling_mean: DeviceArray,
        rolling_variance: DeviceArray,
        momentum: float,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.batchnorm_forward_training`."""
        rows, channels, (stride, _) = self.rows_of(x, out)
        stretches, partials = self.stretches(rows, channels, 2)
        self.launch(
            "batchnorm", "statistics_of_stretches", (-(-channels // ACROSS), stretches), (ACROSS, DOWN),
            x, stride, rows, channels, partials,
        )  # fmt: skip
        self.launch(
            "batchnorm", "join_statistics", -(-channels // JOINING), JOINING,
            partials, None, stretches, -(-rows // stretches), rows, channels,
            mean, variance, rolling_mean, rolling_variance, momentum,
        )  # fmt: skip
        self.batchnorm_forward_inference(x, out, scales, biases, mean, variance, activation)

    def join_statistics(
        self,
        statistics: DeviceArray,
        length: int | DeviceArray,
        rows: int,
        targets: Sequence[DeviceArray],
        momentum: float,
    ) -> None:
        """Mean, variance and the rolling statistics, ``targets``, from those of stretches of ``length`` of all rows.

        statistics (stretches, 2, c): mean and sum of the squared distances to it. length: the rows of each, of which
        the last may have fewer; or an array (stretches,) of how many each has.
        """
        counts, length = (None, length) if isinstance(length, int) else (length, 0)
        stretches, _, channels = statistics.shape
        across = -(-channels // ACROSS)
        each = max(DOWN, -(-stretches // max(1, 4 * self.gpu.multiprocessors // across)))
        if stretches > each:
            count = -(-stretches // each)
            room = self.partials((2 * channels + 1) * count)
            joined, joined_counts = room[: 2 * channels * count], room[2 * channels * count :]
            self.launch(
                "batchnorm", "join_stretches", (across, count), (ACROSS, DOWN),
                statistics, counts, stretches, each, length, rows, channels, joined, joined_counts,
            )  # fmt: skip
            statistics, stretches, length = joined, count, length * each
            counts = None if counts is None else joined_counts
        self.launch(
            "batchnorm", "join_statistics", -(-channels // JOINING), JOINING,
            statistics, counts, stretches, length, rows, channels, *targets, momentum,
        )  # fmt: skip

    def batchnorm_forward_inference(
        self,
        x: DeviceArray,
        out: DeviceArray,
        scales: DeviceArray,
        biases: DeviceArray,
        rolling_mean: DeviceArray,
        rolling_variance: DeviceArray,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.batchnorm_forward_inference`."""
        grid, block, rows, channels, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "batchnorm", "normalize", grid, block,
            x, strides[0], out, strides[1], rows, channels, by_four, scales, biases, rolling_mean, rolling_variance,
            KINDS[activation],
        )  # fmt: skip

    def batchnorm_backward(
        self,
        x: DeviceArray,
        out: DeviceArray,
        grad_out: DeviceArray,
        mean: DeviceArray,
        variance: DeviceArray,
        scales: DeviceArray,
        biases: DeviceArray,
        grad_scales: DeviceArray,
        grad_biases: DeviceArray,
        grad_x: DeviceArray,
        activation: str = "linear",
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.batchnorm_backward`; the formula is that of the NumPy backend."""
        kind = KINDS[activation]
        rows, channels, strides = self.rows_of(x, out, grad_out)
        stretches, partials = self.stretches(rows, channels, 2)
        self.launch(
            "batchnorm", "gradients_of_stretches", (-(-channels // ACROSS), stretches), (ACROSS, DOWN),
            x, strides[0], out, strides[1], grad_out, strides[2], rows, channels, scales, biases, mean, variance, kind,
            partials,
        )  # fmt: skip
        line = self.scratch((2, channels))
        self.launch(
            "batchnorm", "join_gradients", -(-channels // JOINING), JOINING,
            partials, stretches, rows, channels, variance, grad_scales, grad_biases, line,
        )  # fmt: skip
        grid, block, rows, channels, *strides, by_four = self.over_channels(x, out, grad_out, grad_x)
        self.launch(
            "batchnorm", "batchnorm_backward", grid, block,
            x, strides[0], out, strides[1], grad_out, strides[2], grad_x, strides[3], rows, channels, by_four,
            scales, biases, mean, variance, line, kind, accumulate,
        )  # fmt: skip

    def fold_batchnorm(
        self,
        scales: DeviceArray,
        biases: DeviceArray,
        mean: DeviceArray,
        variance: DeviceArray,
        out_scale: DeviceArray,
        out_bias: DeviceArray,
    ) -> None:
        """See :meth:`Backend.fold_batchnorm`."""
        blocks = -(-scales.size // JOINING)
        self.launch(
            "batchnorm", "fold", blocks, JOINING, scales, biases, mean, variance, out_scale, out_bias, scales.size
        )
