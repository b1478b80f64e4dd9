"""A cfg as a PyTorch network: what the benchmarks measure darkpy beside, and check it against.

Built from the layers that darkpy makes of the cfg, so shapes and defaults are read once. It knows the sections of the
published YOLO networks: convolutional, maxpool, route, shortcut, upsample, yolo; of others it says that it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from darkpy import builder
from darkpy.backends.numpy import NumpyBackend
from darkpy.config.cfg import Config
from darkpy.errors import DarkpyError
from darkpy.layers.base import NETWORK_INPUT, Layer


class Unsupported(DarkpyError):
    """A section, or one of its keys, has no counterpart here."""


class Peer(nn.Module):
    """A cfg in PyTorch. In evaluation its heads give what darkpy's give, in training what goes into them.

    With ``decode=False`` they do so in evaluation too. As in darkpy, an output is given up when the last layer that
    reads it is done.

    Attributes:
        layers: darkpy's, as blueprints without parameters; options: those of [net]; heads: the layers that are heads.
    """

    def __init__(self, config: Config, decode: bool = True) -> None:
        super().__init__()
        # Only options and shapes are needed, so the backend does not matter.
        blueprint = builder.build(config, NumpyBackend(np.float32))
        self.input_shape = blueprint.graph.input_shape
        self.options = blueprint.options
        self.layers = blueprint.layers
        self.heads = [layer for layer in self.layers if layer.is_head]
        self.decode = decode
        self.operations = nn.ModuleList(operation_for(layer) for layer in self.layers)
        last_use = {source: layer.index for layer in self.layers for source in layer.sources}
        # For each layer what it reads, and what of that nobody reads later.
        self.steps = [
            (tuple(layer.sources), tuple(source for source in set(layer.sources) if last_use[source] == layer.index))
            for layer in self.layers
        ]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the heads, in their order, for pictures x (n, c, h, w)."""
        outputs = {NETWORK_INPUT: x}
        found = []
        for index, ((sources, finished), operation) in enumerate(zip(self.steps, self.operations)):
            result = operation(*[outputs[source] for source in sources])
            if isinstance(operation, YoloHead):
                found.append(operation.decode(result) if self.decode and not self.training else result)
            outputs[index] = result
            for source in finished:
                del outputs[source]
        return found

    def fold(self) -> None:
        """Multiply batch normalisation into the weights, in evaluation, as darkpy does at inference."""
        for operation in self.operations:
            if isinstance(operation, Convolution) and isinstance(operation.normalization, nn.BatchNorm2d):
                operation.convolution = fuse_conv_bn_eval(operation.convolution, operation.normalization)
                operation.normalization = nn.Identity()

    @torch.no_grad()
    def take_parameters(self, network: Any) -> None:
        """Copy every parameter and running statistic of a darkpy network of the same cfg."""
        for layer, operation in zip(network.layers, self.operations):
            if layer.name == "convolutional":
                for parameter in layer.parameters():
                    value = network.parameters.read(layer, parameter.name)
                    operation.tensor(parameter.name).copy_(torch.from_numpy(value))


def operation_for(layer: Layer) -> nn.Module:
    """What PyTorch does in place of a layer: a module that takes the tensors the layer reads."""
    convert = OPERATIONS.get(layer.name)
    if convert is None:
        raise Unsupported(f"no counterpart of [{layer.name}]")
    return convert(layer)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": partial(nn.LeakyReLU, 0.1, inplace=True),
    "linear": nn.Identity,
    "logistic": nn.Sigmoid,
    "mish": partial(nn.Mish, inplace=True),
    "relu": partial(nn.ReLU, inplace=True),
    "swish": partial(nn.SiLU, inplace=True),
}


def activation_for(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise Unsupported(f"no counterpart of activation={name}")
    return ACTIVATIONS[name]()


class Convolution(nn.Module):
    """Convolution, batch normalisation, activation."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        o, g = layer.options, layer.geometry
        if o.antialiasing or o.xnor or o.binary or o.share_index is not None:
            raise Unsupported("no counterpart of a [convolutional] with antialiasing, xnor, binary or share_index")
        strides, channels = (g.stride_y, g.stride_x), layer.input_shapes[0][0]
        bias = o.bias and not o.batch_normalize
        self.convolution = nn.Conv2d(channels, o.filters, g.size, strides, g.padding, g.dilation, g.groups, bias)
        self.normalization = nn.BatchNorm2d(o.filters, eps=1e-5, momentum=0.1) if o.batch_normalize else nn.Identity()
        self.activation = activation_for(o.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, filters, h', w')."""
        return self.activation(self.normalization(self.convolution(x)))

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor for a parameter by its name in darkpy."""
        normalized = isinstance(self.normalization, nn.BatchNorm2d)
        places: dict[str, Any] = {
            "weights": self.convolution.weight,
            "biases": self.normalization.bias if normalized else self.convolution.bias,
        }
        if normalized:
            places["scales"] = self.normalization.weight
            places["rolling_mean"] = self.normalization.running_mean
            places["rolling_variance"] = self.normalization.running_var
        return places[name]


class MaxPool(nn.Module):
    """Darknet's windows may reach further out on one side than on the other: then minus infinity is put there."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        if layer.options.maxpool_depth or layer.options.antialiasing:
            raise Unsupported("no counterpart of a [maxpool] over channels or with antialiasing")
        g = layer.geometry
        (_, height, width), (_, rows, columns) = layer.input_shapes[0], layer.output_shape
        below = max((rows - 1) * g.stride_y + g.size - g.offset - height, 0)
        right = max((columns - 1) * g.stride_x + g.size - g.offset - width, 0)
        even = g.offset == below == right
        self.margins = None if even else (g.offset, right, g.offset, below)
        self.pool = nn.MaxPool2d(g.size, (g.stride_y, g.stride_x), g.offset if even else 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, c, h', w')."""
        return self.pool(x if self.margins is None else functional.pad(x, self.margins, value=-float("inf")))


class Route(nn.Module):
    """Channels of several layers, or a group of them, one behind the other."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.groups, self.group = layer.options.groups, layer.options.group_id

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The parts in the order of the layers named."""
        parts = [x.chunk(self.groups, dim=1)[self.group] for x in inputs]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Shortcut(nn.Module):
    """A sum of layers of one shape, and an activation."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        if layer.is_weighted or len(set(layer.input_shapes)) > 1:
            raise Unsupported("no counterpart of a [shortcut] with weights, or of inputs of different shapes")
        self.activation = activation_for(layer.options.activation)

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """The previous layer comes first."""
        for other in others:
            first = first + other
        return self.activation(first)


def upsample_for(layer: Any) -> nn.Module:
    if layer.options.stride < 0 or layer.options.scale != 1:
        raise Unsupported("no counterpart of an [upsample] that sums or scales")
    return nn.Upsample(scale_factor=layer.options.stride, mode="nearest")


class YoloHead(nn.Module):
    """The head's input is handed through; :meth:`decode` gives darkpy's output of the head."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        o = layer.options
        self.anchors, self.classes, self.scale, self.is_squashed = len(o.mask), o.classes, o.scale_x_y, o.new_coords

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same."""
        return x

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities, and places within a cell."""
        n, channels, height, width = x.shape
        places, sizes, rest = x.view(n, self.anchors, -1, height, width).split((2, 2, 1 + self.classes), dim=2)
        if not self.is_squashed:
            places, rest = places.sigmoid(), rest.sigmoid()
        places = self.scale * places - 0.5 * (self.scale - 1)
        return torch.cat((places, sizes, rest), dim=2).view(n, channels, height, width)


OPERATIONS: dict[str, Callable[[Any], nn.Module]] = {
    "convolutional": Convolution,
    "maxpool": MaxPool,
    "route": Route,
    "shortcut": Shortcut,
    "upsample": upsample_for,
    "yolo": YoloHead,
}


def largest_difference(config: Config, device: str = "cpu", batch: int = 2) -> float:
    """How far this network's heads are from darkpy's on a device, with the same parameters and random pictures.

    The largest difference of a value, divided by the largest value of that head; computed by PyTorch in float32 on the
    CPU. The running statistics are darkpy's after one training pass, so that batch normalisation has something to do.
    """
    from darkpy.network import Network

    network = Network(config, batch=batch, keep_outputs=True, device=device)
    generator = np.random.default_rng(0)
    give_statistics(network, generator)
    pictures = generator.random((batch, *network.graph.input_shape), dtype=np.float32)
    network.forward(pictures)
    peer = Peer(config).eval()
    peer.take_parameters(network)
    with torch.inference_mode():
        found = peer(torch.from_numpy(pictures))
    ours = [np.asarray(head.output) for head in network.heads]
    return max(float(np.abs(a - b.numpy()).max() / np.abs(a).max()) for a, b in zip(ours, found))


def give_statistics(network: Any, generator: np.random.Generator) -> None:
    """Random values for what a new network has none of: running statistics, scales and biases."""
    ranges = {"rolling_mean": (-0.5, 0.5), "rolling_variance": (0.5, 2), "scales": (0.5, 1.5), "biases": (-0.5, 0.5)}
    for layer in network.layers:
        for parameter in layer.parameters():
            if parameter.name in ranges:
                value = generator.uniform(*ranges[parameter.name], parameter.shape)
                network.parameters.write(layer, parameter.name, value)
