"""A network: the layers of a cfg, their memory, and the passes over them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy import backends, builder, resources, weights
from darkpy.backends.loss_scale import LossScale
from darkpy.config.cfg import Config, read_cfg
from darkpy.errors import ConfigError, InputError
from darkpy.layers.base import Layer
from darkpy.loss_scaling import create_loss_scale
from darkpy.network_passes import NetworkPasses
from darkpy.optimizers import create_optimizer
from darkpy.parameters import Parameters

if TYPE_CHECKING:
    from darkpy.classification import ClassProbability
    from darkpy.detection import Detection

class Network(NetworkPasses):
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
