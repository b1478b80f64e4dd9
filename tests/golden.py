"""Reading the reference cases: a folder with a cfg, weights before and after, and the arrays Darknet computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from darkpy.layers.recurrent import HiddenState
from darkpy.network import Network


@dataclass(frozen=True)
class Case:
    """One reference case."""

    folder: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "golden.npz") as stored:
            return dict(stored)

    @cached_property
    def meta(self) -> dict:
        return json.loads(str(self.arrays["meta"]))

    @property
    def layers(self) -> list[dict]:
        return [self.meta["layers"][key] for key in sorted(self.meta["layers"])]

    def network(self, *, training: bool, device: str, **options) -> Network:
        network = Network.from_cfg(self.folder / "net.cfg", training=training, device=device, **options)
        network.load_weights(self.folder / "init.weights")
        network.seen = self.meta["options"]["seen_start"]
        return network

    def truth(self, prefix: str, network: Network):
        """The truth of one training pass, in the form the network takes."""
        flat = self.arrays[f"{prefix}/truth"]
        if any(head.name in ("yolo", "Gaussian_yolo", "region") for head in network.heads):
            return [_boxes(row) for row in flat]
        return flat

    def inference_steps(self) -> list[tuple[str, np.ndarray]]:
        """Array prefix and input of the consecutive passes at inference; recurrent layers remember the one before."""
        names = ["", *(f"_{number}" for number in range(1, 10))]
        return [(f"infer{name}", self.arrays[f"input{name}/x"]) for name in names if f"input{name}/x" in self.arrays]

    def passes(self) -> list[list[str]]:
        """Array prefixes of the forward-backward passes, one list per update."""
        iterations = self.meta["options"]["iters"]
        parts = self.meta["net"]["subdivisions"]
        return [
            ["train" if i == s == 0 else f"train_i{i}_s{s}" for s in range(parts)] for i in range(iterations)
        ]


def _boxes(row: np.ndarray) -> np.ndarray:
    """(class, x, y, w, h) rows from Darknet's records x, y, w, h, class, track; x = 0 ends the list."""
    records = row.reshape(-1, 6)
    ends = np.flatnonzero(records[:, 0] == 0)
    records = records[: ends[0]] if len(ends) else records
    return np.ascontiguousarray(records[:, [4, 0, 1, 2, 3]], np.float32)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """max |a - b| / max |b|; the absolute error where everything expected is 0."""
    found = np.asarray(found, np.float64).reshape(expected.shape)
    scale = np.abs(expected).max(initial=0.0)
    return float(np.abs(found - expected).max(initial=0.0) / (scale or 1.0))


def use_darknets_batchnorm_backward(network: Network) -> None:
    """Replace the exact derivative of batch normalisation by the formula of Darknet's C code.

    It has 2/N where the variance divided by N - 1, and epsilon outside the root in one term. With it in place every
    other operation can be compared closely, however small N is.
    """
    network.backend.batchnorm_backward = partial(_darknets_batchnorm_backward, network.backend)


def _darknets_batchnorm_backward(
    backend, x, out, grad_out, mean, variance, scales, biases, grad_scales, grad_biases, grad_x, activation="linear",
    accumulate=False,
):  # fmt: skip
    """On the host, whatever the backend."""

    def host(array):
        return np.asarray(array, np.float64)

    def channels(v):
        return host(v).reshape(1, -1, 1, 1)

    n = x.shape[0] * x.shape[2] * x.shape[3]
    centred = host(x) - channels(mean)
    deviation = np.sqrt(channels(variance) + 1e-5)
    before = backend.asarray(channels(scales) * centred / deviation + channels(biases))
    activated = backend.empty(x.shape)
    backend.activation_backward(before, out, grad_out, activated, activation)
    g = host(activated)
    backend.copy(host(grad_biases) + g.sum((0, 2, 3)), grad_biases)
    backend.copy(host(grad_scales) + (g * centred / deviation).sum((0, 2, 3)), grad_scales)
    g = g * channels(scales)
    grad_mean = -g.sum((0, 2, 3), keepdims=True) / deviation
    grad_variance = -0.5 * (g * centred).sum((0, 2, 3), keepdims=True) / deviation**3
    result = g / (np.sqrt(channels(variance)) + 1e-5) + grad_variance * 2 * centred / n + grad_mean / n
    backend.copy(host(grad_x) + result if accumulate else result, grad_x)


def use_darknets_recurrent_backward(network: Network) -> None:
    """Replace the derivative of [rnn] and [crnn] by what Darknet's CPU code does.

    It hands the input's part not the gradient of the state, but what is left of it after the activation of the
    state's own part (its CUDA code takes both from the state).
    """
    for layer in network.layers:
        if isinstance(layer, HiddenState):
            layer.backward = partial(_darknets_recurrent_backward, layer)


def _darknets_recurrent_backward(layer: HiddenState, grad_output, grad_x) -> None:
    grad_after, grad_before = layer.grad_states
    own = layer.self_layer
    for step in reversed(range(layer.steps)):
        before, after = layer.states[step], layer.states[step + 1]
        is_last = step == layer.steps - 1
        layer.run_backward(layer.output_layer, step, after, layer.at(grad_output, step), grad_after, not is_last)
        layer.run_backward(own, step, before, grad_after, grad_before if step else None)
        activated = own.grad_convolved if own.name == "convolutional" else own.grad_pre_activation
        x, theirs = layer.at(layer.x, step), layer.at(grad_x, step)
        layer.run_backward(layer.input_layer, step, x, activated, theirs, layer.accumulate[0])
        grad_after, grad_before = grad_before, grad_after
