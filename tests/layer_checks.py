"""Checks that hold for every layer: run them on a few lines of cfg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from darkpy.backends.loss_scale import LossScaleRule
from darkpy.config.cfg import parse_cfg
from darkpy.network import Network
from darkpy.parameters import view

Shape = tuple[int, int, int]


def network(
    text: str, shape: Shape = (3, 6, 5), *, batch: int = 2, training: bool = False, device: str = "numpy",
    dtype=np.float64, seed: int = 0, time_steps: int = 1, **options,
) -> Network:  # fmt: skip
    """A network of the given sections for inputs of ``shape``, in float64 unless told otherwise."""
    c, h, w = shape
    net = f"[net]\nbatch={batch}\nchannels={c}\nheight={h}\nwidth={w}\nlearning_rate=0.1\nmax_batches=10\n"
    net += f"time_steps={time_steps}\n"
    config = parse_cfg(net + text, "test.cfg")
    given = None if training else batch
    built = Network(config, batch=given, training=training, device=device, dtype=dtype, seed=seed, **options)
    randomize(built, seed)
    return built


def randomize(built: Network, seed: int) -> None:
    """Parameters away from their neutral starting values, so that a check notices each of them."""
    rng = np.random.default_rng(seed)
    for layer in built.layers:
        for parameter in layer.parameters():
            is_positive = parameter.name.endswith(("scales", "rolling_variance"))
            low, high = (0.5, 1.5) if is_positive else (-0.6, 0.6)
            built.parameters.write(layer, parameter.name, rng.uniform(low, high, parameter.shape))


def pictures(built: Network, batch: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *built.graph.input_shape)).astype(built.backend.dtype)


def identity_first(text: str, channels: int) -> str:
    """The sections with a 1x1 convolution before them, whose gradient is that of their input."""
    return f"[convolutional]\nfilters={channels}\nsize=1\nactivation=linear\n{text}\n[cost]\n"


def check_gradients(
    text: str, shape: Shape = (3, 6, 5), *, batch: int = 2, seed: int = 0, tolerance: float = 1e-6, time_steps: int = 1,
    gain: float = 1.0,
):  # fmt: skip
    """Compare backward with central differences of a random linear function of the output.

    Along random directions in all parameters at once, and in the input. ``text`` may name layers counted from the
    identity convolution, which is layer 0. Recurrent layers begin every pass with nothing in memory. ``gain``
    multiplies the random parameters.
    """
    sections = identity_first(text, shape[0])
    built = network(sections, shape, batch=batch, training=True, seed=seed, time_steps=time_steps)
    first, head = built.layers[0], built.layers[-1]
    built.parameters.values[:] *= gain
    built.parameters.write(first, "weights", np.eye(shape[0]))
    built.parameters.write(first, "biases", np.zeros(shape[0]))
    x = pictures(built, built.batch, seed + 1)
    rng = np.random.default_rng(seed + 2)
    built.forward(x)
    wanted = rng.normal(size=np.asarray(head.output).shape)

    def value(values: np.ndarray, inputs: np.ndarray) -> float:
        saved = built.parameters.values.copy()
        built.parameters.values[:] = values
        built.reset_state()
        built.forward(inputs)
        built.parameters.values[:] = saved
        return float(np.sum(np.asarray(head.output) * wanted))

    built.zero_gradients()
    built.reset_state()
    built.forward(x)
    # The gradient of [cost] is output - truth: this truth makes it the wanted one.
    built.backward(np.asarray(head.output) - wanted)
    gradients, grad_x = built.parameters.gradients.copy(), np.array(first.grad_output)
    values = built.parameters.values.copy()
    for _ in range(4):
        direction, direction_x = rng.normal(size=values.shape), rng.normal(size=x.shape)
        step = 1e-6
        for dv, dx in ((direction, 0 * direction_x), (0 * direction, direction_x)):
            numeric = (value(values + step * dv, x + step * dx) - value(values - step * dv, x - step * dx)) / (2 * step)
            analytic = float(np.sum(gradients * dv) + np.sum(grad_x * dx))
            scale = np.linalg.norm(gradients * (dv != 0)) + np.linalg.norm(grad_x) * bool(np.any(dx)) + 1e-9
            assert abs(numeric - analytic) <= tolerance * max(scale, abs(numeric)), (numeric, analytic)
    return built


def second_readers(text: str, section: str, shape: Shape = (3, 6, 5)) -> str:
    """The sections, and behind them more that read whatever ``section`` reads.

    Going back, these put their shares of the gradients first, and ``section`` has to add its own. ``text`` may name
    layers as for :func:`check_gradients`.
    """
    built = network(identity_first(text, shape[0]).removesuffix("[cost]\n"), shape)
    layer = next(layer for layer in reversed(built.layers) if layer.name == section)
    count = len(built.layers)
    others = "".join(f"[route]\nlayers={source}\n[avgpool]\n" for source in layer.sources)
    means = ",".join(str(count + 2 * number) for number in range(1 + len(layer.sources)))
    return f"{text}\n[avgpool]\n{others}[route]\nlayers={means}\n"


def spoil(built: Network) -> None:
    """Fill the memory of outputs, gradients and the like with NaN, so that nobody can rely on what nobody wrote."""
    built.backend.fill(built._arena, 0xFF)
    built.reset_state()


def check_shapes(text: str, shape: Shape = (3, 6, 5)) -> None:
    """Every output has the declared shape and is written in full; so it is after a change of the batch."""
    built = network(text, shape, training=False, keep_outputs=True)
    for batch in (2, 3):
        built.prepare(batch)
        spoil(built)
        built.forward(pictures(built, batch))
        for layer in built.layers:
            assert np.asarray(layer.output).shape == (batch, *layer.output_shape), layer.name
            assert np.isfinite(np.asarray(layer.output)).all(), layer.name


def check_memory_plan(text: str, shape: Shape = (3, 6, 5)) -> None:
    """Sharing memory changes no result, nor what is remembered, and needs no more than keeping everything."""
    frugal, lavish = network(text, shape), network(text, shape, keep_outputs=True)
    spoil(frugal)
    for seed in (1, 2):
        x = pictures(frugal, 2, seed)
        np.testing.assert_array_equal(np.array(frugal.forward(x)), np.array(lavish.forward(x)))
    assert frugal.memory_plan().arena <= lavish.memory_plan().arena
    assert frugal._arena_bytes == frugal.memory_plan().arena


def check_memory_plan_of_training(text: str, shape: Shape = (3, 6, 5), time_steps: int = 1) -> None:
    """Sharing memory changes no gradient, and every gradient is made of what was computed in the same pass."""
    text = with_loss(text, shape)
    found = []
    for keep in (True, False):
        built = network(text, shape, training=True, time_steps=time_steps, keep_gradients=keep)
        found.append(gradients(built))
        assert built._arena_bytes == built.memory_plan().arena
    np.testing.assert_array_equal(*found)


def with_loss(text: str, shape: Shape) -> str:
    """The sections, and a loss if there is none among them."""
    return text if any(layer.is_head for layer in network(text, shape).layers) else text + "\n[cost]\n"


def gradients(built: Network) -> np.ndarray:
    """Those of all parameters after two passes, which must be finite."""
    spoil(built)
    built.zero_gradients()
    for seed in (1, 2):
        built.forward(pictures(built, built.batch, seed))
        cost = built.backward(truth_for(built, seed))
        assert cost is not None and np.isfinite(cost)
    found = np.array(built.parameters.gradients)
    assert np.isfinite(found).all()
    return found


def truth_for(built: Network, seed: int) -> Any:
    """Something to learn for any head: objects with an identity, or a value for every output."""
    names = {head.name for head in built.heads}
    if names & {"yolo", "Gaussian_yolo", "region", "detection"}:
        objects = np.array([[0, 0.3, 0.4, 0.4, 0.5, 1], [1, 0.7, 0.6, 0.6, 0.4, 2]], np.float32)
        return [objects if "contrastive" in names else objects[:, :5]] * built.batch
    return np.random.default_rng(seed).uniform(size=np.asarray(built.heads[-1].output).shape)


def check_batch_independence(text: str, shape: Shape = (3, 6, 5)) -> None:
    """At inference a picture's result does not depend on its company."""
    built = network(text, shape, batch=3)
    x = pictures(built, 3)
    together = np.array(built.forward(x))
    for i in range(3):
        built.reset_state()
        np.testing.assert_allclose(np.array(built.forward(x[i : i + 1]))[0], together[i], rtol=1e-10, atol=1e-12)


def check_same_as_numpy(text: str, device: str, shape: Shape = (3, 6, 5), *, time_steps: int = 1) -> None:
    """Outputs and, behind a [cost], all gradients in float32 on a device are those of NumPy in float64."""
    training = text.endswith("[cost]\n")
    options = {"training": training, "time_steps": time_steps} if training else {"keep_outputs": True}
    expected = network(text, shape, **options)
    found = network(text, shape, device=device, dtype=np.float32, **options)
    x = pictures(expected, expected.batch)
    for built in (expected, found):
        built.forward(x.astype(built.backend.dtype))
        if training:
            output = np.asarray(built.layers[-1].output)
            built.backward(np.random.default_rng(3).normal(size=output.shape))
    for layer, other in zip(found.layers, expected.layers):
        label = f"layer {layer.index} [{layer.name}]"
        _assert_near(layer.output, other.output, f"output of {label}")
        if training and other.grad_output is not None:
            _assert_near(layer.grad_output, other.grad_output, f"gradient of {label}")
        for parameter in layer.parameters() if training else []:
            prefix = "grad_" if parameter.trained else ""
            ours, theirs = (view(each, parameter.name, prefix) for each in (layer, other))
            _assert_near(ours, theirs, f"{prefix}{parameter.name} of {label}")


def _assert_near(found, expected, label: str) -> None:
    """Beside the largest value, or 1 where all are smaller: inputs are of that size, and what cancels is not exact."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1.0)
    assert error < 3e-5, f"{label}: off by {error:.2g} of the largest value"


def check_with_16_bits(text: str, precision: str, shape: Shape = (3, 6, 5), *, time_steps: int = 1) -> None:
    """The loss and all gradients with pictures of 16 bits, emulated, are by their digits those of NumPy in float64.

    Numbers are rounded at every layer. Activations have no kinks, on whose other side rounding might end.
    """
    text = text.replace("activation=leaky", "activation=mish")
    tolerance = {"fp16": 0.005, "bf16": 0.05}[precision]
    _check_learns_the_same(text, shape, time_steps, tolerance, {}, {"device": "emulated", "precision": precision})


def check_same_as_emulated(text: str, precision: str, shape: Shape = (3, 6, 5), *, time_steps: int = 1) -> None:
    """The loss and all gradients on the GPU are those of the backend that emulates it.

    Sums have another order, and where that lets a number be rounded to its other neighbour, the gradient may be off by
    about as much as the number: what is allowed is a few of these.
    """
    tolerance = {"fp16": 1e-4, "bf16": 1e-3, "tf32": 1e-4}[precision]
    on = [{"device": device, "precision": precision} for device in ("emulated", "gpu")]
    _check_learns_the_same(text, shape, time_steps, tolerance, *on)


def _check_learns_the_same(
    text: str, shape: Shape, time_steps: int, tolerance: float, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Two networks have the same loss and gradients, but for a tolerance beside the length of all parameters' gradient.

    Losses are scaled where gradients have 16 bits, as in training.
    """
    text = with_loss(text, shape)
    costs, found = [], []
    for options in (first, second):
        dtype = np.float32 if options else np.float64
        built = network(text, shape, training=True, time_steps=time_steps, dtype=dtype, **options)
        built.loss_scale = built.backend.loss_scale(LossScaleRule(16.0))
        is_scaled = built.backend.activation_dtype != built.backend.dtype
        built.forward(pictures(built, built.batch).astype(dtype))
        costs.append(built.backward(truth_for(built, 2)))
        found.append(_all_gradients(built) / (16 if is_scaled else 1))
    assert abs(costs[1] - costs[0]) <= tolerance * abs(costs[0])
    error = np.linalg.norm(found[1] - found[0]) / max(np.linalg.norm(found[0]), 1e-30)
    assert error <= tolerance, f"off by {error:.3g} of the gradient"


def _all_gradients(built: Network) -> np.ndarray:
    """Those of all parameters, each in the order of its axes."""
    found = [
        np.asarray(view(layer, parameter.name, "grad_"), np.float64).ravel()
        for layer in built.layers
        for parameter in layer.parameters()
        if parameter.trained
    ]
    return np.concatenate([np.zeros(0), *found])


def check_resize(text: str, shape: Shape, larger: Shape) -> None:
    """A network resized gives what a fresh one of that size gives, in training too."""
    resized, fresh = network(text, shape), network(text, larger)
    resized.forward(pictures(resized, 2))
    resized.resize(larger[2], larger[1])
    x = pictures(fresh, 2)
    np.testing.assert_array_equal(np.array(resized.forward(x)), np.array(fresh.forward(x)))
    text = with_loss(text, shape)
    resized, fresh = network(text, shape, training=True), network(text, larger, training=True)
    gradients(resized)
    resized.resize(larger[2], larger[1])
    np.testing.assert_array_equal(gradients(resized), gradients(fresh))


def check_weights_round_trip(text: str, shape: Shape, folder: Path) -> None:
    """Saved and loaded, a network computes the same; float32 is what a file holds."""
    first = network(text, shape, dtype=np.float32, seed=1)
    second = network(text, shape, dtype=np.float32, seed=2)
    first.save_weights(folder / "round.weights")
    second.load_weights(folder / "round.weights")
    for name in ("values", "statistics"):
        np.testing.assert_array_equal(getattr(first.parameters, name), getattr(second.parameters, name))
    x = pictures(first, 2)
    np.testing.assert_array_equal(np.array(first.forward(x)), np.array(second.forward(x)))
