"""A network: the layers of a cfg, their memory, and the passes over them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy import backends, builder, resources, weights
from darkpy.backends.base import PictureFitting
from darkpy.backends.journal import Journal, check_finite
from darkpy.backends.loss_scale import LossScale
from darkpy.config.cfg import Config, read_cfg
from darkpy.errors import ConfigError, InputError, NotFinite, TrainingError
from darkpy.layers.base import NETWORK_INPUT, Layer
from darkpy.loss_scaling import create_loss_scale
from darkpy.network_memory import NetworkMemory
from darkpy.optimizers import create_optimizer, learning_rate
from darkpy.parameters import Parameters
from darkpy.update import Update

if TYPE_CHECKING:
    from darkpy.classification import ClassProbability
    from darkpy.detection import Detection

Truth = Sequence[np.ndarray] | np.ndarray


class Network(NetworkMemory):
    """Layers built from a cfg, with their parameters and planned memory.

    Use :meth:`from_cfg`. Arrays are float32 NCHW; pictures are RGB in 0..1.

    Attributes:
        layers: the layers, indexed as in the cfg after ``[net]``; each has ``output`` after a forward pass and, in
            training, ``grad_output`` (the gradient of the loss) after a backward pass. Take them with
            ``numpy.asarray``.
        options: the typed ``[net]`` options.
        seen: pictures seen in training so far; kept in the weights file, writable.
        rate_scale: a factor on the learning rate, writable.
        names: class names for detections; set it from a names file, the default is the class numbers.
    """

    def __init__(
        self,
        config: Config,
        *,
        batch: int | None = None,
        training: bool = False,
        keep_outputs: bool = False,
        keep_gradients: bool = True,
        device: str = "cpu",
        dtype: Any = np.float32,
        precision: str = "fp32",
        seed: int = 0,
        freeze: int = 0,
        plan_only: bool = False,
    ) -> None:
        """Build from a parsed cfg; see :meth:`from_cfg`, which does that for a file.

        ``keep_gradients=False`` lets the gradients of outputs share memory in training, so that they cannot be read
        afterwards. The first ``freeze`` layers stay as they are in training. With ``plan_only`` nothing is allocated:
        the network can describe itself and its :meth:`memory_plan`, but not run.
        """
        self.config = config
        self.backend = backends.create(device, dtype, precision, only_plans=plan_only)
        blueprint = builder.build(config, self.backend)
        self.options = blueprint.options
        self.warnings = blueprint.warnings
        self.layers = blueprint.layers
        self.graph = blueprint.graph
        self.training = training
        self.keep_outputs = keep_outputs
        self.keep_gradients = keep_gradients
        self.seed = seed
        self.freeze = freeze
        self.seen = 0
        self.rate_scale = 1.0
        self.plan_only = plan_only
        if batch is not None:
            self._set_batch(batch)
        if training:
            # A picture for each step of each sequence (Darknet, parse_net_options).
            self.graph.time_steps = self.options.time_steps
            self.options = builder.with_batch(self.options, self.options.batch * self.options.time_steps)
        self.batch = self.options.batch // self.options.subdivisions if training else (batch or 1)
        self.heads = [layer for layer in self.layers if layer.is_head]
        trains = training and not plan_only
        self.loss_scale = create_loss_scale(self.options, self.backend) if trains else LossScale()
        self._names: list[str] | None = None
        self._mark_frozen()
        self._worthwhile_joins: dict[tuple[int, Any], Collection[int]] = {}
        self._check_types()
        self._arena: Any = None
        self._arena_bytes = 0
        self._bound: tuple[int, Any] | None = None
        self._input: Any = None
        self._has_loss = False
        if not plan_only:
            self._allocate()

    def _allocate(self) -> None:
        self.parameters = Parameters(self.layers, self.backend, self.training)
        self.parameters.initialize(self.seed)
        size = len(self.parameters.values)
        self.optimizer = create_optimizer(self.options, self.backend, size) if self.training else None
        self.prepare(self.batch)

    @classmethod
    def from_cfg(
        cls,
        path: str | Path,
        weights: str | Path | None = None,
        *,
        batch: int | None = None,
        training: bool = False,
        keep_outputs: bool = False,
        device: str = "cpu",
        precision: str = "fp32",
        seed: int = 0,
    ) -> Network:
        """Build a network from a cfg file and, if given, a ``.weights`` file.

        ``path`` is looked up in the working folder first, then among the cfg files that come with darkpy. ``batch``
        is the number of pictures per forward pass at inference (default 1; other sizes still work, planned anew) or
        per update in training (default: the cfg's). With ``keep_outputs`` no memory is shared between layers at
        inference, so that every layer's output can be read afterwards. In training the weights may cover only the
        first layers. ``seed`` fixes the starting weights and everything random in the layers. ``precision`` is one of
        fp32 and, on a GPU, tf32, fp16 and bf16, see docs/training.md.

        Raises :class:`~darkpy.errors.ConfigError` or :class:`~darkpy.errors.WeightsError`, each with every problem
        found.
        """
        network = cls(
            read_cfg(resources.find("cfg", str(path))),
            batch=batch,
            training=training,
            keep_outputs=keep_outputs,
            device=device,
            precision=precision,
            seed=seed,
        )
        if weights is not None:
            network.load_weights(weights, partial=training)
        return network

    # What it is ------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.graph.input_shape[0]

    @property
    def height(self) -> int:
        """Height of the input in pixels."""
        return self.graph.input_shape[1]

    @property
    def width(self) -> int:
        """Width of the input in pixels."""
        return self.graph.input_shape[2]

    @property
    def classes(self) -> int:
        """Number of classes the heads tell apart; 0 without a head that has any."""
        return max((getattr(head, "classes", 0) for head in self.heads), default=0)

    @property
    def names(self) -> list[str]:
        """One name per class."""
        return self._names if self._names is not None else [str(i) for i in range(self.classes)]

    @names.setter
    def names(self, names: Sequence[str]) -> None:
        self._names = list(names)

    @property
    def iteration(self) -> int:
        """Updates done so far, counted by the pictures seen (Darknet, get_current_batch)."""
        return self.seen // self.options.batch

    @property
    def output(self) -> Any:
        """Output of the last layer that has one; [cost] has none of its own."""
        return next((layer for layer in reversed(self.layers) if layer.name != "cost"), self.layers[-1]).output

    # Size and what learns -----------------------------------------------------------------------------------------

    def resize(self, width: int, height: int) -> None:
        """Change the input size; memory is planned anew and grows only where it must."""
        if (width, height) == (self.width, self.height):
            return
        before = self.graph.input_shape
        shapes = [[p.shape for p in layer.parameters()] for layer in self.layers]
        self.graph.input_shape = (self.channels, height, width)
        for layer in self.layers:
            layer.infer_shape()
        fixed = [layer for layer, old in zip(self.layers, shapes) if [p.shape for p in layer.parameters()] != old]
        for layer in fixed:
            layer.problem("", f"has weights for inputs of {before[2]}x{before[1]}; it cannot take {width}x{height}")
        if self.graph.problems:
            problems, self.graph.problems[:] = list(self.graph.problems), []
            self.graph.input_shape = before
            for layer in self.layers:
                layer.infer_shape()
            raise ConfigError(problems=problems)
        self._bound = None
        if not self.plan_only:
            self.prepare(self.batch)

    def _set_batch(self, batch: int) -> None:
        if batch < 1:
            raise InputError(f"batch={batch}: needs at least one picture")
        if not self.training:
            return
        if batch % self.options.subdivisions:
            raise InputError(f"batch={batch} is not a multiple of subdivisions={self.options.subdivisions}")
        self.options = builder.with_batch(self.options, batch)

    def _mark_frozen(self) -> None:
        """Find out where gradients flow and what they change.

        Layers before the last ``stopbackward=1`` and the first ``freeze`` layers stay as they are. Up to the last
        ``train_only_bn`` only the rolling statistics of batch normalisation follow the data (Darknet,
        set_train_only_bn and update_network_gpu).
        """
        stops = [layer.index for layer in self.layers if layer.options.stopbackward == 1]
        frozen = max([self.freeze, *stops]) if self.training else 0
        self._stop = max([self.freeze - 1, *stops]) if self.training else -1
        arrives = {layer.index for layer in self.layers if layer.is_head}
        written = set(arrives)
        last_bn_only = max((layer.index for layer in self.layers if layer.options.train_only_bn), default=-1)
        for layer in self.layers:
            layer.frozen = layer.index < frozen
            layer.is_updated = not layer.frozen and layer.index > last_bn_only
            later = (other.options.stopbackward for other in self.layers[layer.index + 1 :])
            layer.held_until = max((until for until in later if until > 1), default=0)
        self.backward_order: list[Layer] = []
        self._accumulate: dict[int, list[bool]] = {}
        for layer in reversed(self.layers):
            if layer.index not in arrives or layer.index <= self._stop or layer.options.onlyforward:
                continue
            self.backward_order.append(layer)
            accumulate = []
            for source in layer.sources:
                accumulate.append(source in written)
                if source > self._stop:
                    arrives.add(source)
                    written.add(source)
            self._accumulate[layer.index] = accumulate
        self._with_gradient = {layer.index for layer in self.backward_order}
        self._clipped = [layer for layer in self.layers if layer.options.clip and _has_weights(layer)]

    # Passes ----------------------------------------------------------------------------------------------------

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

        backend = self.backend
        if isinstance(backend, PictureFitting):
            sizes = [(image.shape[1], image.shape[0]) for image in images]
            frames = [Placement.fit(*size, self.width, self.height, letter_box).frame for size in sizes]
            self._take(backend.fitted_pictures(images, frames, self.height, self.width))
        else:
            inputs = [network_input(image, self.width, self.height, letter_box) for image in images]
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

    # Files and use ---------------------------------------------------------------------------------------------

    def load_weights(self, path: str | Path, *, partial: bool = False) -> int:
        """Read a ``.weights`` file; returns how many layers were filled. See :func:`darkpy.weights.load`."""
        return weights.load(self, path, partial=partial)

    def save_weights(self, path: str | Path) -> None:
        """Write a ``.weights`` file, at once or not at all."""
        weights.save(self, path)

    def detect(
        self, image_bgr: np.ndarray, thresh: float = 0.25, nms: float = 0.45, letter_box: bool = False
    ) -> list[Detection]:
        """Find objects in a picture, uint8 (height, width, 3) in OpenCV's BGR order.

        Returns detections with probability over ``thresh``, the surest first; overlapping ones of a class (IoU over
        ``nms``) are suppressed. Boxes are centre based, in pixels of the picture. The picture is stretched to the
        network's size, or padded to its shape with ``letter_box``.
        """
        from darkpy.detection import detect

        return detect(self, image_bgr, thresh=thresh, nms=nms, letter_box=letter_box)

    def classify(self, image_bgr: np.ndarray, top: int = 5) -> list[ClassProbability]:
        """The classes a picture may show, uint8 (height, width, 3) in OpenCV's BGR order, the most probable first.

        The square in the middle of the picture is looked at.
        """
        from darkpy.classification import classify

        return classify(self, image_bgr, top)


def _has_weights(layer: Layer) -> bool:
    return any(parameter.name == "weights" for parameter in layer.parameters())
