"""Parity with Darknet's C code: every reference case.

The cases are read from the folder, so a new one is picked up; :data:`EXCEPTIONS` names all that is left out. What is
compared and how closely is the policy of docs/numerics.md: outputs, loss, gradients of every layer, parameter gradients,
and the weights after the update.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.network import Network
from darkpy.parameters import view
from tests.backends import BACKENDS
from tests.conftest import SHARED
from tests.golden import (
    Case,
    relative_error,
    use_darknets_batchnorm_backward,
    use_darknets_recurrent_backward,
)

FORWARD = 2e-5
ILL_CONDITIONED = {"act_normalize_channels": 4e-5}
"""Outputs that divide by sums near 0: what Darknet recorded is 2.5e-5 from the same network in double precision itself."""
GRADIENT = 1e-4
COST = 1e-5
WEIGHTS = 1e-6
BEHIND_BATCHNORM = 5e-3

NOTHING, NO_GRADIENTS = "nothing", "no gradients"
EXCEPTIONS = {
    "route_multi_literal": (NOTHING, "gradients lost at a route"),
    "shortcut_same_literal": (NOTHING, "gradients lost at a shortcut"),
    "yolo_v3_mse_literal": (NOTHING, "gradients lost at a route"),
    "opt_adam_cpu": (NOTHING, "Darknet's CPU code ignores adam=1"),
    "opt_bn_iters3_nobias": (NOTHING, "batch-norm biases that never learn"),
    "act_gelu": (NO_GRADIENTS, "its gradient is taken at the output"),
    "act_normalize_channels": (NO_GRADIENTS, "its backward is not the derivative"),
    "act_normalize_channels_softmax": (NO_GRADIENTS, "its backward is not the derivative"),
    "act_normalize_channels_softmax_maxval": (NO_GRADIENTS, "its backward is not the derivative"),
    "local_avgpool": (NO_GRADIENTS, "its backward divides by the whole window, its forward by the positions inside"),
    "lrn": (NO_GRADIENTS, "its backward leaves out what a value does to its neighbours' divisors"),
    "shortcut_per_channel_relu": (NO_GRADIENTS, "the weight gradient ignores the normalisation"),
    "shortcut_per_channel_softmax": (NO_GRADIENTS, "the weight gradient ignores the normalisation"),
    "shortcut_per_feature_relu": (NO_GRADIENTS, "the weight gradient ignores the normalisation"),
    "shortcut_per_feature_softmax": (NO_GRADIENTS, "the weight gradient ignores the normalisation"),
}
"""Cases that record a defect of the C code: of which nothing is compared, or all but gradients and what they change."""

UPDATES = {"weights": "weight_updates", "biases": "bias_updates", "scales": "scale_updates"}


def cases() -> list[str]:
    folder = SHARED / "golden"
    return sorted(path.parent.name for path in folder.glob("*/golden.npz")) if folder.is_dir() else []


def case_or_skip(shared: Path, name: str) -> Case:
    compared, reason = EXCEPTIONS.get(name, ("", ""))
    if compared == NOTHING:
        pytest.skip(f"not a target: {reason}")
    return Case(shared / "golden" / name)


def forward(name: str) -> float:
    """How closely outputs are compared."""
    return ILL_CONDITIONED.get(name, FORWARD)


def has_gradients(name: str) -> bool:
    return name not in EXCEPTIONS


def test_there_are_cases(shared):
    assert len(cases()) > 100
    assert set(EXCEPTIONS) <= set(cases())


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", cases())
def test_inference(shared, name, device):
    case = case_or_skip(shared, name)
    network = case.network(training=False, device=device, keep_outputs=True)
    for prefix, x in case.inference_steps():
        network.forward(x)
        compared = 0
        for index, layer in enumerate(network.layers):
            key = f"{prefix}/{index:03d}/output"
            if key in case.arrays:
                label = f"{prefix} layer {index} [{layer.name}]"
                assert relative_error(layer.output, case.arrays[key]) < forward(name), label
                compared += 1
        assert compared


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", cases())
def test_training(shared, name, device):
    """Everything closely, with Darknet's own derivative of batch normalisation and of recurrent layers."""
    case = case_or_skip(shared, name)
    network = training_network(case, device)
    use_darknets_batchnorm_backward(network)
    use_darknets_recurrent_backward(network)
    train(case, network, Comparison(gradients=has_gradients(name)))


def training_network(case: Case, device: str) -> Network:
    if not (case.folder / "after.weights").exists():
        pytest.skip("recorded at inference only")
    return case.network(training=True, device=device)


@pytest.mark.parametrize("name", cases())
def test_training_with_the_exact_derivative_of_batchnorm(shared, name):
    """What darkpy really does: Darknet's formula differs by terms of order 1/N, N values per channel in a batch."""
    case = case_or_skip(shared, name)
    network = training_network(case, "numpy")
    smallest = min((values_per_channel(layer) for layer in network.layers if is_normalized(layer)), default=0)
    if smallest < 100 or not has_gradients(name):
        pytest.skip("no batch norm, too few values for the formulas to agree, or compared forward only")
    run_pass(case, network, "train", Comparison(gradients=True, gradient=BEHIND_BATCHNORM + 12 / smallest))


def is_normalized(layer) -> bool:
    return layer.name == "batchnorm" or getattr(layer.options, "batch_normalize", False)


def values_per_channel(layer) -> int:
    n, _, h, w = np.asarray(layer.output).shape
    return n * h * w


@dataclass
class Comparison:
    """What to compare, and how closely, as max |a - b| / max |b| of each array."""

    gradients: bool
    gradient: float = GRADIENT


def train(case: Case, network: Network, comparison: Comparison) -> None:
    """All recorded updates, each array compared on the way; only the first pass where gradients differ by design."""
    for prefixes in case.passes():
        network.zero_gradients()
        for prefix in prefixes:
            run_pass(case, network, prefix, comparison)
        if not comparison.gradients:
            return
        if prefixes[0] == "train":
            compare_parameter_gradients(case, network, comparison)
        network.update()
    compare_weights(case, network, comparison)


def run_pass(case: Case, network: Network, prefix: str, comparison: Comparison) -> None:
    arrays = case.arrays
    x = arrays[f"{prefix}/x"]
    inject_random_numbers(case, network, prefix)
    network.seen += len(x)
    network.forward(x)
    cost = network.backward(case.truth(prefix, network))
    later = 1 if prefix == "train" else 10  # rounding of the updates before
    assert cost == pytest.approx(float(arrays[f"{prefix}/cost"]), rel=COST * later, abs=1e-6)
    for index, layer in enumerate(network.layers):
        here = f"{prefix}/{index:03d}"
        label = f"{prefix} layer {index} [{layer.name}]"
        if f"{here}/output" in arrays and layer.name != "cost":
            assert relative_error(layer.output, arrays[f"{here}/output"]) < forward(case.folder.name) * later, label
        delta = next((arrays[key] for key in (f"{here}/delta_pre", f"{here}/delta") if key in arrays), None)
        if comparison.gradients and delta is not None and layer.grad_output is not None:
            error = relative_error(-np.asarray(layer.grad_output), delta)
            assert error < comparison.gradient * later, f"{label} gradient"


def inject_random_numbers(case: Case, network: Network, prefix: str) -> None:
    for index, layer in enumerate(network.layers):
        key = f"{prefix}/{index:03d}/rand"
        if key in case.arrays:
            layer.draw = partial(draw_as_recorded, layer, case.arrays[key])


def draw_as_recorded(layer: Any, drawn: np.ndarray) -> None:
    layer.backend.copy(drawn.reshape(layer.mask.shape), layer.mask)


def compare_parameter_gradients(case: Case, network: Network, comparison: Comparison) -> None:
    """After the first update's passes; later ones are recorded with the momentum of earlier ones."""
    for index, layer in enumerate(network.layers):
        for parameter in layer.parameters():
            keys = recorded_updates(index, parameter.name)
            expected = next((case.arrays[key] for key in keys if key in case.arrays), None)
            if expected is None:
                continue
            gradient = np.asarray(view(layer, parameter.name, "grad_"))
            allowed = comparison.gradient * np.abs(expected).max() + cancellation(layer)
            error = np.abs(expected.reshape(gradient.shape) + gradient).max()
            assert error <= allowed, f"layer {index} [{layer.name}] gradient of {parameter.name}"


def recorded_updates(index: int, parameter: str) -> list[str]:
    """Names of the array with a parameter's update; the parts of recurrent layers have a folder of their own."""
    part, _, name = parameter.rpartition(".")
    folder = f"train/{index:03d}/{part.removesuffix('_layer')}".rstrip("/")
    return [f"{folder}/{UPDATES[name]}_full", f"{folder}/{UPDATES[name]}"] if name in UPDATES else []


def cancellation(layer) -> float:
    """Rounding of a sum of gradients. A bias before a batch norm has no effect: its gradients cancel to just that."""
    return 0.0 if layer.grad_output is None else 5e-6 * float(np.abs(layer.grad_output).sum((0, 2, 3)).max())


def compare_weights(case: Case, network: Network, comparison: Comparison) -> None:
    after = case.folder / "after_all.weights"
    if not after.exists():
        after = case.folder / "after.weights"
    expected = case.network(training=True, device=network.backend.name)
    expected.load_weights(after)
    assert network.seen == expected.seen
    start = case.network(training=True, device=network.backend.name)
    rate = float(case.arrays["train/rate"]) / network.options.batch
    # Darknet updates shared weights once for every layer that uses them.
    shared = [layer.parameters_of for layer in network.layers]
    for triple in zip(network.layers, expected.layers, start.layers):
        if triple[0] in shared:
            continue
        for parameter in triple[0].parameters():
            found, target, before = (np.asarray(view(layer, parameter.name)) for layer in triple)
            # The change is as exact as the gradient, the rest as a float32 is.
            allowed = comparison.gradient * np.abs(target - before).max() + WEIGHTS * np.abs(target).max()
            allowed += rate * cancellation(triple[0])
            label = f"layer {triple[0].index} [{triple[0].name}] {parameter.name} after the update"
            assert np.abs(found - target).max() <= allowed, label
