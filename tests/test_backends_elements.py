"""Operations on pictures of 16 bits: NumPy's results in float64 for the same numbers, rounded once to the type."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import ConvolutionGeometry, PoolGeometry
from darkpy.backends.precision import activation_dtype
from darkpy.errors import InputError
from tests import test_backends_contrastive as contrastive
from tests.backends import ROUNDING_DEVICES, SHORT_PRECISIONS, why_no_gpu
from tests.test_backends_region import settings_for as region_settings

on_every_device = pytest.mark.parametrize("device", ROUNDING_DEVICES)

#: Fraction of the nearest number's distance, relative to the number: half a unit in the last place.
ROUNDING = {"fp16": 2.0**-11, "bf16": 2.0**-8}
#: The same for numbers too small to have all their digits.
SMALLEST = {"fp16": 2.0**-25, "bf16": 0.0}
#: Sums in float32, beside the largest value of the result.
ARITHMETIC = 4e-6

PICTURE = (2, 8, 5, 6)
#: A matrix of factors whose products lie around 1.
MATRIX = (3, 20)


def case(program: Any, floats: dict[str, tuple[int, ...]] | None = None, sliced: bool = True, **elements: Any) -> Any:
    """An operation: what it is called with, which arrays are float32, and the shapes of those of the type.

    sliced: try views of some channels as well.
    """
    return program, elements, floats or {}, sliced


CONVOLUTION = ConvolutionGeometry(3, 2, 1, padding=1)
LOCAL = ConvolutionGeometry(3, 3, 2, padding=1)
POOL = PoolGeometry(3, 2, 1, offset=1)
CHANNELS = dict.fromkeys(("scales", "biases", "mean", "variance"), (8,))

OBJECTS = contrastive.truth(2, 5, 3)
CONTRAST = contrastive.settings()

CASES = {
    "activation": case(lambda b, a: b.activation_forward(a.x, a.out, "mish"), x=PICTURE, out=PICTURE),
    "activation to float32": case(
        lambda b, a: b.activation_forward(a.x, a.out, "logistic"), {"out": PICTURE}, x=PICTURE
    ),
    "activation backward": case(
        lambda b, a: b.activation_backward(a.x, a.out, a.grad_out, a.grad_x, "swish", True),
        x=PICTURE, out=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "channel activation": case(
        lambda b, a: b.activation_forward(a.x, a.out, "normalize_channels_softmax"), x=PICTURE, out=PICTURE
    ),
    "channel activation backward": case(
        lambda b, a: b.activation_backward(a.x, a.out, a.grad_out, a.grad_x, "normalize_channels", True),
        x=PICTURE, out=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "batchnorm training": case(
        lambda b, a: b.batchnorm_forward_training(
            a.x, a.out, a.scales, a.biases, a.mean, a.variance, a.rolling_mean, a.rolling_variance, 0.1, "leaky"
        ),
        {**CHANNELS, "rolling_mean": (8,), "rolling_variance": (8,)}, x=PICTURE, out=PICTURE,
    ),
    "batchnorm backward": case(
        lambda b, a: b.batchnorm_backward(
            a.x, a.out, a.grad_out, a.mean, a.variance, a.scales, a.biases, a.grad_scales, a.grad_biases, a.grad_x,
            "mish", True,
        ),
        {**CHANNELS, "grad_scales": (8,), "grad_biases": (8,)},
        x=PICTURE, out=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "bias": case(
        lambda b, a: b.bias_activation_forward(a.x, a.biases, a.out, "relu"), {"biases": (8,)}, x=PICTURE, out=PICTURE
    ),
    "bias backward": case(lambda b, a: b.bias_backward(a.grad, a.grad_biases), {"grad_biases": (8,)}, grad=PICTURE),
    "maxpool": case(
        lambda b, a: (
            b.maxpool_forward(a.x, a.out, POOL, a.winners),
            b.maxpool_backward(a.grad_out, a.winners, a.grad_x, POOL, True),
        ),
        {"winners": (2, 8, 3, 6)}, x=PICTURE, out=(2, 8, 3, 6), grad_out=(2, 8, 3, 6), grad_x=PICTURE,
    ),
    "maxpool over channels": case(
        lambda b, a: (
            b.depth_maxpool_forward(a.x, a.out, a.wide_winners),
            b.depth_maxpool_backward(a.grad_out, a.wide_winners, a.grad_x, True),
        ),
        {"wide_winners": (2, 3, 5, 6)}, x=PICTURE, out=(2, 3, 5, 6), grad_out=(2, 3, 5, 6), grad_x=PICTURE,
    ),
    "local avgpool": case(
        lambda b, a: (
            b.local_avgpool_forward(a.x, a.out, POOL), b.local_avgpool_backward(a.grad_out, a.grad_x, POOL, True)
        ),
        x=PICTURE, out=(2, 8, 3, 6), grad_out=(2, 8, 3, 6), grad_x=PICTURE,
    ),
    "avgpool": case(
        lambda b, a: (b.avgpool_forward(a.x, a.out), b.avgpool_backward(a.grad_out, a.grad_x, True)),
        x=PICTURE, out=(2, 8, 1, 1), grad_out=(2, 8, 1, 1), grad_x=PICTURE,
    ),
    "upsample": case(
        lambda b, a: (b.upsample_forward(a.x, a.out, 2, 1.5), b.upsample_backward(a.grad_out, a.grad_x, 2, 1.5, True)),
        x=PICTURE, out=(2, 8, 10, 12), grad_out=(2, 8, 10, 12), grad_x=PICTURE,
    ),
    "space to depth": case(
        lambda b, a: (b.space_to_depth(a.x, a.out, 2), b.depth_to_space(a.grad_out, a.grad_x, 2, True)),
        sliced=False, x=(2, 3, 4, 6), out=(2, 12, 2, 3), grad_out=(2, 12, 2, 3), grad_x=(2, 3, 4, 6),
    ),
    "crop": case(
        lambda b, a: (
            b.crop_forward(a.x, a.out, 1, 2, True, 2.0, -1.0), b.crop_backward(a.grad_out, a.grad_x, 1, 2, True, 2.0)
        ),
        x=PICTURE, out=(2, 8, 3, 4), grad_out=(2, 8, 3, 4), grad_x=PICTURE,
    ),
    "multiply": case(
        lambda b, a: (
            b.multiply_forward(a.a, a.b, a.out),
            b.multiply_backward(a.a, a.b, a.grad_out, a.grad_a, a.grad_b, (True, False)),
        ),
        a=PICTURE, b=PICTURE, out=PICTURE, grad_out=PICTURE, grad_a=PICTURE, grad_b=PICTURE,
    ),
    "scale channels": case(
        lambda b, a: (
            b.scale_channels_forward(a.x, a.factors, a.out),
            b.scale_channels_backward(a.x, a.factors, a.grad_out, a.grad_x, a.grad_factors, (True, True)),
        ),
        x=PICTURE, factors=(2, 8, 1, 1), out=PICTURE, grad_out=PICTURE, grad_x=PICTURE, grad_factors=(2, 8, 1, 1),
    ),
    "scale positions": case(
        lambda b, a: (
            b.scale_channels_forward(a.x, a.factors, a.out),
            b.scale_channels_backward(a.x, a.factors, a.grad_out, a.grad_x, a.grad_factors, (False, True)),
        ),
        x=PICTURE, factors=(2, 1, 5, 6), out=PICTURE, grad_out=PICTURE, grad_x=PICTURE, grad_factors=(2, 1, 5, 6),
    ),
    "shift channels": case(
        lambda b, a: (
            b.shift_channels_forward(a.x, a.values, a.out), b.shift_channels_backward(a.grad_out, a.grad_values, True)
        ),
        x=PICTURE, values=(2, 8, 1, 1), out=PICTURE, grad_out=PICTURE, grad_values=(2, 8, 1, 1),
    ),
    "weighted sum": case(
        lambda b, a: b.weighted_sum_forward([a.x, a.y, a.z], a.weights, a.out, "relu"),
        {"weights": (3, 8)}, x=PICTURE, y=PICTURE, z=PICTURE, out=PICTURE,
    ),
    "weighted sum backward": case(
        lambda b, a: b.weighted_sum_backward(
            [a.x, a.y], a.weights, a.grad_out, [a.grad_x, None], a.grad_weights, "softmax", [True, False]
        ),
        {"weights": (2, 8), "grad_weights": (2, 8)}, x=PICTURE, y=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "dropout": case(
        lambda b, a: (
            b.dropout_forward(a.x, a.mask, a.out, 0.3), b.dropout_backward(a.grad_out, a.mask, a.grad_x, 0.3, True)
        ),
        {"mask": PICTURE}, x=PICTURE, out=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "clip": case(lambda b, a: b.clip(a.x, 0.5), x=PICTURE),
    "signs": case(lambda b, a: b.binarize(a.x, a.out), x=PICTURE, out=PICTURE),
    "add": case(lambda b, a: b.add(a.x, a.out), x=PICTURE, out=PICTURE),
    "add and activate": case(lambda b, a: b.add_forward(a.x, a.y, a.x, "leaky"), x=PICTURE, y=PICTURE),
    "downsample": case(
        lambda b, a: (b.downsample_forward(a.x, a.out, 2, 0.25), b.downsample_backward(a.out_too, a.x, 2, 0.25, True)),
        x=PICTURE, out=(2, 8, 2, 3), out_too=(2, 8, 2, 3),
    ),
    "batchnorm inference": case(
        lambda b, a: b.batchnorm_forward_inference(a.x, a.out, a.scales, a.biases, a.mean, a.variance, "swish"),
        CHANNELS, x=PICTURE, out=PICTURE,
    ),
    "scaled copy from float32": case(
        lambda b, a: b.scaled_copy(a.x, a.out, 2.5, True), {"x": PICTURE}, out=PICTURE
    ),
    "copy to float32": case(lambda b, a: b.copy_channels(a.x, a.out, True), {"out": PICTURE}, x=PICTURE),
    "copy to float32, mirrored": case(
        lambda b, a: b.copy_channels(a.x[:, :, :, ::-1], a.out, True), {"out": PICTURE}, x=PICTURE
    ),
    "copy from float32, rearranged": case(
        lambda b, a: b.copy(a.x.reshape(2, -1), a.out), {"x": PICTURE}, sliced=False, out=(2, 240)
    ),
    "fill": case(lambda b, a: b.fill(a.x, 0.3), x=PICTURE),
    "softmax": case(lambda b, a: b.softmax_forward(a.x, a.out, 2.0), x=MATRIX, out=MATRIX),
    "softmax to float32": case(lambda b, a: b.softmax_forward(a.x, a.out, 0.5), {"out": MATRIX}, x=MATRIX),
    "difference": case(
        lambda b, a: b.difference(a.output, a.truth, a.grad, "smooth"), {"truth": PICTURE, "grad": PICTURE},
        output=PICTURE,
    ),
    "gaussian_yolo": case(
        lambda b, a: b.gaussian_yolo_forward(a.x, a.out, 2, 3, 1.2), {"out": (2, 24, 4, 5)}, x=(2, 24, 4, 5)
    ),
    "region": case(
        lambda b, a: b.region_forward(a.x, a.out, region_settings(anchors=np.ones((2, 2)), classes=7, softmax=True)),
        {"out": (2, 24, 4, 5)}, x=(2, 24, 4, 5),
    ),
    "yolo": case(lambda b, a: b.yolo_forward(a.x, a.out, 2, 3, 1.2, False), {"out": (2, 16, 4, 5)}, x=(2, 16, 4, 5)),
    "convolution": case(
        lambda b, a: b.convolution_forward(a.x, a.weights, a.out, CONVOLUTION, None, a.bias, "leaky"),
        {"weights": (12, 8, 3, 3), "bias": (12,)}, x=PICTURE, out=(2, 12, 3, 6),
    ),
    "convolution backward": case(
        lambda b, a: (
            b.convolution_backward_input(a.grad_out, a.weights, a.grad_x, CONVOLUTION, True),
            b.convolution_backward_weights(a.x, a.grad_out, a.grad_weights, CONVOLUTION),
        ),
        {"weights": (12, 8, 3, 3), "grad_weights": (12, 8, 3, 3)}, x=PICTURE, grad_out=(2, 12, 3, 6), grad_x=PICTURE,
    ),
    "contrastive": case(
        lambda b, a: b.contrastive_loss(a.x, OBJECTS, a.grad, CONTRAST), {"grad": (2, 12, 4, 5)}, x=(2, 12, 4, 5)
    ),
    "local": case(
        lambda b, a: (
            b.local_forward(a.x, a.weights, a.out, LOCAL),
            b.local_backward_input(a.grad_out, a.weights, a.grad_x, LOCAL, True),
            b.local_backward_weights(a.x, a.grad_out, a.grad_weights, LOCAL),
        ),
        {"weights": (6, 5, 8, 3, 3), "grad_weights": (6, 5, 8, 3, 3)},
        x=PICTURE, out=(2, 5, 2, 3), grad_out=(2, 5, 2, 3), grad_x=PICTURE,
    ),
    "linear": case(
        lambda b, a: (
            b.linear_forward(a.x, a.weights, a.out),
            b.linear_backward_input(a.grad_out, a.weights, a.grad_x, True),
            b.linear_backward_weights(a.x, a.grad_out, a.grad_weights),
        ),
        {"weights": (7, 20), "grad_weights": (7, 20)}, x=MATRIX, out=(3, 7), grad_out=(3, 7), grad_x=MATRIX,
    ),
    "response norm": case(
        lambda b, a: (
            b.response_norm_forward(a.x, a.norms, a.out, 3, 0.1, 0.75, 2.0),
            b.response_norm_backward(a.x, a.norms, a.grad_out, a.grad_x, 3, 0.1, 0.75, True),
        ),
        {"norms": PICTURE}, x=PICTURE, out=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
    "unit length": case(
        lambda b, a: (
            b.unit_length_forward(a.x, a.out), b.unit_length_backward(a.x, a.out_too, a.grad_out, a.grad_x, True)
        ),
        x=PICTURE, out=PICTURE, out_too=PICTURE, grad_out=PICTURE, grad_x=PICTURE,
    ),
}  # fmt: skip

#: Convolutions round their weights as well, and local layers where there is a copy of the parameters.
WITH_ROUNDED_WEIGHTS = ("convolution", "convolution backward", "linear", "local")


@cache
def backend_of(device: str, precision: str) -> Any:
    return create(device, precision=precision)


@on_every_device
@pytest.mark.parametrize("precision", SHORT_PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_results_are_rounded_once(name, precision, device):
    backend = backend_of(device, precision)
    program, elements, floats, sliced = CASES[name]
    for in_view in (False, True) if sliced else (False,):
        arrays = numbers(elements, floats, precision, name in WITH_ROUNDED_WEIGHTS)
        exact, found = {}, {}
        for key, values in arrays.items():
            exact[key], found[key] = values.copy(), on_device(backend, values, key, elements, in_view)
        program(create("numpy", np.float64), SimpleNamespace(**exact))
        program(backend, SimpleNamespace(**found))
        for key in arrays:
            if "winners" not in key:
                assert_rounded(np.asarray(found[key], np.float64), exact[key], key in elements, precision, key)


def numbers(elements: Any, floats: Any, precision: str, round_weights: bool) -> dict[str, np.ndarray]:
    """Random numbers in float64 that the types of the arrays can hold."""
    found: dict[str, Any] = {}
    for seed, (key, shape) in enumerate([*elements.items(), *floats.items()]):
        generator = np.random.default_rng([seed, *shape])
        values = generator.standard_normal(shape)
        if key in ("mask", "variance", "rolling_variance"):
            values = generator.uniform(0.2, 1, shape)
        is_rounded = key in elements or (round_weights and key == "weights")
        values = values.astype(activation_dtype(precision) if is_rounded else np.float32).astype(np.float64)
        if "winners" in key:
            values = np.zeros(shape, np.int32 if key == "wide_winners" else create("numpy").winner_dtype(POOL))
        found[key] = values
    return found


def on_device(backend: Any, values: np.ndarray, key: str, elements: Any, in_view: bool) -> Any:
    """The array on the device, in its type; pictures of elements, if so wanted, as channels of wider ones."""
    if "winners" in key:
        dtype = np.int32 if key == "wide_winners" else backend.winner_dtype(POOL)
    else:
        dtype = backend.activation_dtype if key in elements else np.float32
    shape = list(values.shape)
    in_view = in_view and key in elements and values.ndim == 4
    if in_view:
        shape[1] += 3
    array = backend.empty(shape, dtype)
    if in_view:
        array = array[:, 1 : 1 + values.shape[1]]
    backend.copy(values, array)
    return array


def assert_rounded(found: np.ndarray, exact: np.ndarray, is_element: bool, precision: str, label: str) -> None:
    """Every number is the nearest of its type, but for the rounding of float32 arithmetic."""
    allowed = np.full(exact.shape, ARITHMETIC * np.abs(exact).max())
    if is_element:
        allowed += np.maximum(ROUNDING[precision] * np.abs(exact), SMALLEST[precision])
    worst = np.argmax(np.abs(found - exact) - allowed)
    assert (np.abs(found - exact) <= allowed).all(), f"{label}: {found.flat[worst]} for {exact.flat[worst]}"


@on_every_device
@pytest.mark.parametrize("precision", SHORT_PRECISIONS)
def test_numbers_beyond_the_type_are_found(precision, device):
    backend = backend_of(device, precision)
    array = backend.zeros((2, 8, 3, 3), backend.activation_dtype)
    assert backend.is_finite(array)
    for value, is_finite in (({"fp16": 65504.0, "bf16": 3e38}[precision], True), (3.4e38, False)):
        backend.scaled_copy(backend.asarray(np.ones((2, 8, 3, 3), np.float32)), array, value)
        assert backend.is_finite(array) == is_finite


@pytest.mark.cuda
@pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")
def test_a_kernel_takes_elements_of_one_type():
    backend = backend_of("gpu", "fp16")
    half, single = backend.zeros((2, 8), np.float16), backend.zeros((2, 8))
    with pytest.raises(ValueError, match="kernel product takes elements of one type, not float16, float32, float16"):
        backend.multiply_forward(half, single, half)
    with pytest.raises(ValueError, match=r"float32 for what is no element, not float16"):
        backend.bias_activation_forward(half, half[0], half, "relu")


@on_every_device
def test_pictures_arrive_in_the_type_asked_for(device):
    backend = backend_of(device, "fp16")
    host = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)
    array = backend.asarray(host, np.float16)
    assert array.dtype == np.float16
    np.testing.assert_array_equal(backend.to_host(array), host.astype(np.float16))


def test_other_precisions_than_fp32_need_a_gpu():
    with pytest.raises(InputError, match="fp16 needs a GPU; the CPU computes in float32: leave it out"):
        create("cpu", precision="fp16")
    for device in ("cpu", "emulated"):
        with pytest.raises(InputError, match="unknown precision 'fp61'; did you mean 'fp16'"):
            create(device, precision="fp61")
