"""The passes over a network: forward, losses, backward, update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base import PictureFitting
from darkpy.backends.journal import Journal, check_finite
from darkpy.backends.loss_scale import LossScale
from darkpy.errors import InputError, NotFinite, TrainingError
from darkpy.layers.base import NETWORK_INPUT, Layer
from darkpy.network_memory import NetworkMemory
from darkpy.optimizers import Optimizer, learning_rate
from darkpy.parameters import Parameters
from darkpy.update import Update

Truth = Sequence[np.ndarray] | np.ndarray


class NetworkPasses(NetworkMemory):
    """What :class:`~darkpy.network.Network` computes with its layers, from pictures to outputs, and back."""

    heads: list[Layer]
    parameters: Parameters
    optimizer: Optimizer | None
    loss_scale: LossScale
    seed: int
    seen: int
    rate_scale: float
    _clipped: list[Any]
    _has_loss: bool
    _input: Any

    @property
    def iteration(self) -> int:
        """Updates done so far, counted by the pictures seen (Darknet, get_current_batch)."""
        return self.seen // self.options.batch

    @property
    def output(self) -> Any:
        """Output of the last layer that has one; [cost] has none of its own."""
        return next((layer for layer in reversed(self.layers) if layer.name != "cost"), self.layers[-1]).output

    def forward(self, x: np.ndarray, truth: Truth | None = None) -> np.ndarray:
        """Run all layers on pictures ``x``, (batch, channels, height, width), float32 in 0..1 or uint8 in 0..255.

        Returns the last layer's output. In training, batch normalisation uses and updates the batch's statistics and
        dropout drops; ``truth`` (see :meth:`train_batch`) may be given here or to :meth:`backward`.
        """
        self.run(x)
        if truth is not None:
            self.loss(truth)
        return np.asarray(self.backend.to_host(self.output), self.backend.dtype)

    def run(self, x: np.ndarray) -> None:
        """Do what :meth:`forward` does, and leave the outputs where they are: nobody waits for a device."""
        self._take_pictures(x)
        self._run()

    @property
    def fits_pictures(self) -> bool:
        """Whether :meth:`look_at` resizes pictures where the network computes; if not, threads may do so beforehand."""
        return isinstance(self.backend, PictureFitting)

    def look_at(self, images: Sequence[np.ndarray], letter_box: bool = False) -> None:
        """Run all layers, as :meth:`forward` does, on pictures of any size: uint8 (height, width, channels), RGB.

        They are stretched to the network's size, or padded to its shape with ``letter_box``. No output is fetched from
        the device.
        """
        from darkpy.data.pictures import Placement, network_input

        backend, (_, height, width) = self.backend, self.graph.input_shape
        if isinstance(backend, PictureFitting):
            sizes = [(image.shape[1], image.shape[0]) for image in images]
            frames = [Placement.fit(*size, width, height, letter_box).frame for size in sizes]
            self._take(backend.fitted_pictures(images, frames, height, width))
        else:
            inputs = [network_input(image, width, height, letter_box) for image in images]
            self._take_pictures(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        self._run()

    def _run(self) -> None:
        with self.backend.running():
            if self.training:
                self._forward()
            else:
                self.backend.repeated(("forward", self._bound), self._forward)

    def _take_pictures(self, x: np.ndarray) -> None:
        self._take(self._checked_input(x))

    def _take(self, x: Any) -> None:
        """What a forward pass needs: its input, arrays for its size, and what time it is."""
        self._input = x
        self.prepare(len(x))
        self._has_loss = False
        self.graph.seen = self.seen
        last = self.options.max_batches
        self.graph.progress = self.iteration / last if last else 1.0
        self.graph.seed = self.seed

    def _forward(self) -> None:
        self.backend.use_parameters(self.parameters.values)
        for layer in self.layers:
            inputs = [self._output_of(source) for source in layer.sources]
            if layer.is_identity(self.training):
                layer.output = inputs[0].reshape(inputs[0].shape[0], *(layer.output_shape or ()))
            else:
                layer.forward(*inputs, training=self.training and not layer.frozen)

    def loss(self, truth: Truth) -> float:
        """Compare the heads' outputs of the last forward pass with the truth.

        Returns the mean of the heads' costs, each summed over the pictures (Darknet, get_network_cost), and leaves
        in every head the gradient that :meth:`backward` starts from.
        """
        self._check_can_learn()
        with self.backend.running():
            costs = [head.loss(truth) for head in self.heads]
            self._scale_losses()
        self._has_loss = True
        return float(np.mean(costs))

    def _scale_losses(self) -> None:
        """Let all gradients carry the factor of the loss scale, until :meth:`update`."""
        for head in self.heads:
            if head.grad_output is not None:
                self.loss_scale.multiply(head.grad_output)

    def _check_can_learn(self) -> None:
        if not self.training:
            raise TrainingError("the network was built for inference; use Network.from_cfg(..., training=True)")
        if not self.heads:
            raise TrainingError("the network has no head with a loss, such as [yolo], [softmax] or [cost]")

    def backward(self, truth: Truth | None = None) -> float | None:
        """Run all layers backward after :meth:`forward`; parameter gradients are added to what is there.

        ``net.layers[i].grad_output`` then holds the gradient of the loss. With ``truth`` the loss is computed first
        and returned.
        """
        cost = self.loss(truth) if truth is not None else None
        if not self._has_loss:
            raise TrainingError("backward needs the truth: pass it here, or to forward or loss before")
        with self.backend.running():
            self._backward(self._held_now())
        return cost

    def _backward(self, last: int) -> None:
        """Backward through all layers after ``last``."""
        for layer in self.backward_order:
            if layer.index <= last:
                break
            layer.backward(layer.grad_output, *[self.gradient_of(source) for source in layer.sources])

    def _held_now(self) -> int:
        """The last layer that this update's backward pass leaves out because of ``stopbackward=N``; -1 if none is.

        Until N updates are done it ends after that layer, and those before it learn nothing, though they keep on
        seeing the data as in training (Darknet, backward_network_gpu).
        """
        done = (self.seen - 1) // self.options.batch
        holding = (layer.index for layer in self.layers if layer.options.stopbackward > max(1, done))
        return max(holding, default=-1)

    def zero_gradients(self) -> None:
        """Set all parameter gradients to zero."""
        self.backend.fill(self.parameters.gradients, 0.0)

    def train_batch(self, x: np.ndarray, truth: Truth) -> float:
        """One whole update with the cfg's ``batch`` pictures, in ``subdivisions`` parts.

        With ``time_steps`` they are ``batch`` sequences of so many pictures: each part holds the first picture of its
        sequences, then the second of each, and so on.

        ``x`` is (batch, channels, height, width), float32 in 0..1 or uint8 in 0..255. ``truth`` is, for detectors, a
        list with one array (n, 5) per picture: class, centre x, centre y, width, height in 0..1; for classifiers an
        array (batch, classes). Returns the loss: the mean over the subdivisions of Darknet's get_network_cost.

        Raises :class:`~darkpy.errors.NotFinite`, with nothing updated, if the loss or a gradient is NaN or infinite.
        With a loss scale, such a gradient may only be too large for 16 bits: then the update is left out, counted in
        ``loss_scale.skipped``, and the next one done with a smaller scale.
        """
        return self.start_update(x, truth).read()

    def start_update(self, x: np.ndarray, truth: Truth) -> Update:
        """The same without waiting for the loss; see :class:`~darkpy.update.Update` for what comes of it.

        Raises NotFinite at once where that is known at once: on the CPU always, elsewhere for some heads.
        """
        before = self.seen
        journal = self.gather_gradients(x, truth)
        self.update()
        return Update(self, journal, before)

    def gather_gradients(self, x: np.ndarray, truth: Truth) -> Journal:
        """The gradients of a batch as :meth:`train_batch` takes it, and what there is to be read of it."""
        self._check_can_learn()
        pictures, part = self.options.batch, self.options.batch // self.options.subdivisions
        if len(x) != pictures or len(truth) != pictures:
            raise InputError(f"an update takes {pictures} pictures with their truth, not {len(x)} and {len(truth)}")
        before = self.seen
        journal = self.backend.journal()
        self.zero_gradients()
        try:
            for start in range(0, pictures, part):
                part_of_batch = (start, start + part)
                self.seen += part
                self._take_pictures(x[slice(*part_of_batch)])
                self.graph.begin_truth()
                for head in self.heads:
                    head.expect(truth[slice(*part_of_batch)])
                journal.add(self._pass(part_of_batch), part_of_batch)
            journal.check(self.parameters.gradients, (0, pictures), self.loss_scale)
        except NotFinite:
            self.seen = before
            raise
        return journal

    def _pass(self, pictures: tuple[int, int]) -> list[Any]:
        """Forward and backward over these pictures of the batch, which are in place; the losses of the heads."""
        last = self._held_now()

        def work() -> list[Any]:
            self._forward()
            losses = [head.compare() for head in self.heads]
            check_finite(losses, pictures)
            self._scale_losses()
            self._has_loss = True
            self._backward(last)
            return losses

        with self.backend.running():
            return self.backend.repeated(("pass", self._bound, last), work)

    def update(self) -> None:
        """Change the parameters along the gradients gathered since :meth:`zero_gradients`."""
        assert self.optimizer is not None
        rate = self.rate_scale * learning_rate(self.options, self.iteration, self.seed)
        with self.backend.running():
            self.loss_scale.divide(self.parameters.gradients)
            self.optimizer.update(self.parameters, rate, self.iteration)
            for layer in self._clipped:
                self.backend.clip(layer.weights, layer.options.clip)

    def _output_of(self, source: int) -> Any:
        return self._input if source == NETWORK_INPUT else self.layers[source].output

    def gradient_of(self, source: int) -> Any:
        """Where the gradient of a layer's output is written; None if nobody needs it."""
        return self.layers[source].grad_output if source in self._with_gradient else None

    def _checked_input(self, x: np.ndarray) -> Any:
        expected = self.graph.input_shape
        if x.ndim != 4 or x.shape[1:] != expected:
            raise InputError(
                f"the network takes arrays (batch, {expected[0]}, {expected[1]}, {expected[2]}), "
                f"not {tuple(x.shape)}; resize the pictures or call resize(width, height)"
            )
        return self.backend.pictures(x)
