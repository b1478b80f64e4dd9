"""Routes that need no copies: everything is as if every layer had memory of its own."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy import backends, resources
from darkpy.config.cfg import read_cfg
from darkpy.network import Network
from darkpy.parameters import view
from darkpy.sharing import worthwhile_joins
from tests.backends import BACKENDS, CPU_BACKENDS, why_no_gpu
from tests.layer_checks import gradients, identity_first, network, pictures, spoil
from tests.test_layers import EXAMPLES, NO_TRUE_GRADIENT, steps

SHAPE = (3, 4, 4)


def conv(filters: int = 8, activation: str = "leaky", normalize: int = 1) -> str:
    return f"[convolutional]\nbatch_normalize={normalize}\nfilters={filters}\nsize=1\nactivation={activation}\n"


def route(*layers: int, groups: int = 1, group_id: int = 0) -> str:
    return f"[route]\nlayers={','.join(map(str, layers))}\ngroups={groups}\ngroup_id={group_id}\n"


def shortcut(source: int, activation: str = "linear") -> str:
    return f"[shortcut]\nfrom={source}\nactivation={activation}\n"


SPP = "".join(f"[maxpool]\nsize={size}\nstride=1\n[route]\nlayers={back}\n" for size, back in ((5, -2), (9, -4)))

#: Sections, and how many copies the forward and the backward pass need where every view can be had.
NETWORKS = {
    "joined": (conv() + conv() + route(-1, -2), 0, 0),
    "a part of the channels (yolov4-tiny)": (
        conv(16) + route(-1, groups=2, group_id=1) + conv() + conv() + route(-1, -2) + conv(16) + route(-6, -1),
        0,
        0,
    ),
    "pooled and joined (SPP)": (conv() + SPP + "[maxpool]\nsize=3\nstride=1\n" + route(-1, -3, -5, -6), 0, 0),
    "read again after it was joined (PAN)": (conv() + conv() + route(-1, -2) + conv() + route(-1, 0) + conv(), 1, 1),
    "joined twice over": (conv() + conv() + route(-1, -2) + conv() + route(-1, -2) + conv(), 0, 0),
    "the same layer twice": (conv() + route(-1, -1) + conv(), 1, 1),
    "passed on, then joined": (conv() + route(-1) + conv() + route(-1, -2), 0, 0),
    "parts of two layers": (conv(16) + conv(16) + route(-1, -2, groups=2, group_id=1), 2, 2),
    "a part read by another in between": (
        conv(16) + route(-1, groups=2) + shortcut(-2) + conv() + route(-3, -1) + conv(),
        2,
        3,
    ),
    "two parts of one layer": (
        conv(16) + route(0, groups=2) + conv() + route(0, groups=2, group_id=1) + conv() + route(-1, -3) + conv(),
        0,
        0,
    ),
    "a part of a part": (
        conv(16) + route(0, groups=2) + route(-1, groups=2) + conv() + route(0, groups=2) + conv() + route(-1, -3) + conv(),
        0,
        0,
    ),
    "residual blocks": (conv() + (conv() + conv() + shortcut(-3)) * 2, 0, 2),
    "a residual joined": (conv() + conv() + shortcut(-2, "relu") + conv() + route(-1, -2) + conv(), 0, 2),
    "a layer added to itself": (conv() + conv() + shortcut(-1) + conv(), 0, 1),
    "a layer added that is read again": (conv() + conv() + shortcut(-2) + conv() + route(-1, -3) + conv(), 0, 2),
    "a residual of other channels": (conv(16) + conv() + shortcut(-2, "leaky") + conv(), 1, 2),
    "behind the dropout": (conv(normalize=0) + "[dropout]\nprobability=0\n" + route(-1, -2) + conv(), 0, 0),
}

networks = pytest.mark.parametrize("text", [text for text, _, _ in NETWORKS.values()], ids=NETWORKS)


def with_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let networks share as if the backend took views from every so many channels on; 0: not at all."""
    monkeypatch.setattr("darkpy.backends.numpy.NumpyBackend.channel_views", lambda self, batch: step, raising=False)
    if why_no_gpu() is None:
        monkeypatch.setattr("darkpy.backends.cuda.CudaBackend.channel_views", lambda self, batch: step, raising=False)


def copies(built: Network) -> list[int]:
    """How often something is copied between channels, forward and backward."""
    counts, copy = [0], built.backend.copy_channels

    def counted(*arguments, **options):
        counts[-1] += 1
        copy(*arguments, **options)

    built.backend.copy_channels = counted  # type: ignore[method-assign]
    x = pictures(built, built.batch)
    built.forward(x)
    if built.training:
        counts.append(0)
        built.backward(np.zeros_like(np.asarray(built.layers[-1].output)))
    return counts


def trained(text: str, keep: bool, device: str = "numpy", dtype: type = np.float64, batch: int = 1) -> Network:
    return network(text + "[cost]\n", SHAPE, training=True, keep_gradients=keep, device=device, dtype=dtype, batch=batch)


@networks
@pytest.mark.parametrize("keep", [True, False])
def test_training_is_the_same(monkeypatch, text, keep):
    """With one picture, whose channels are views without gaps on the CPU."""
    with_step(monkeypatch, 0)
    plain = trained(text, True)
    expected = gradients(plain)
    with_step(monkeypatch, 1)
    shared = trained(text, keep)
    np.testing.assert_allclose(gradients(shared), expected, rtol=1e-9, atol=1e-12)
    assert shared.memory_plan().arena <= plain.memory_plan().arena
    for layer, other in zip(shared.layers, plain.layers):
        np.testing.assert_array_equal(layer.output, other.output)
        if keep:
            np.testing.assert_allclose(layer.grad_output, other.grad_output, rtol=1e-9, atol=1e-12)


@networks
def test_inference_is_the_same(monkeypatch, text):
    results = []
    for step, keep in ((0, False), (1, False), (1, True), (8, False)):
        with_step(monkeypatch, step)
        built = network(text + conv(4), SHAPE, batch=1, keep_outputs=keep)
        spoil(built)
        results.append(np.array(built.forward(pictures(built, 1))))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_what_is_joined_makes_no_network_larger(monkeypatch):
    """Room for both parts of the first join would be needed beside the two large layers; the second costs nothing."""
    text = conv(8) + conv(64) + conv(64) + conv(8) + route(-1, -4) + conv(16) + conv(16) + route(-1, -2) + conv(8)
    with_step(monkeypatch, 0)
    most = network(text, SHAPE, batch=1).memory_plan(1).arena
    with_step(monkeypatch, 8)
    built = network(text, SHAPE, batch=1)
    assert built.memory_plan(1).arena == most
    assert copies(built) == [2]
    assert worthwhile_joins(built.layers, lambda joins: 4 in joins) == {7}
    assert worthwhile_joins(built.layers, lambda joins: 1) == {4, 7}
    assert worthwhile_joins(built.layers, lambda joins: len(joins) == 2) == {7}, "that with most channels, which is not 4"


def test_sixteen_bits_at_inference(monkeypatch):
    """Whose memory is looked at before there is any."""
    with_step(monkeypatch, 8)
    text = conv(8) + conv(64) + conv(64) + conv(8) + route(-1, -4) + conv(16)
    built = network(text, SHAPE, batch=1, device="emulated", precision="fp16", dtype=np.float32)
    assert built.memory_plan(1).arena > 0


@pytest.mark.parametrize("name", ["yolov4", "yolov4-tiny", "yolov7-tiny"])
def test_published_networks_are_no_larger_at_inference(monkeypatch, name):
    arenas = []
    for step in (8, 0):
        with_step(monkeypatch, step)
        config = read_cfg(resources.find("cfg", f"{name}.cfg"))
        arenas.append(Network(config, batch=8, device="numpy", plan_only=True).memory_plan().arena)
    assert arenas[0] <= arenas[1]


@pytest.mark.parametrize(("text", "forward", "backward"), NETWORKS.values(), ids=NETWORKS)
def test_copies_that_are_left(monkeypatch, text, forward, backward):
    with_step(monkeypatch, 8)
    assert copies(trained(text, False)) == [forward, backward]


@pytest.mark.cuda
def test_the_layer_before_adds(monkeypatch):
    """At inference on tensor cores, where all layers have their own memory otherwise; rounding is the same."""
    if why_no_gpu() is not None:
        pytest.skip(why_no_gpu() or "")
    text = conv(16) + (conv(8) + conv(16) + shortcut(-3, "leaky")) * 2 + conv(8) + conv(16) + shortcut(-6) + route(-1, -4)
    make = backends.create
    monkeypatch.setattr(backends, "create", lambda *given, **options: make("cuda", np.float32, "tf32"))
    results = []
    for keep in (True, False):
        built = network(text, (3, 8, 8), device="cuda", keep_outputs=keep)
        sums, add = [], built.backend.add_forward
        built.backend.add_forward = lambda *given, sums=sums, add=add: sums.append(1) or add(*given)  # type: ignore
        results.append(np.array(built.forward(pictures(built, 2).astype(np.float32))))
        assert len(sums) == (3 if keep else 0)
        assert sum(layer.residual is not None for layer in built.layers) == (0 if keep else 3)
    np.testing.assert_array_equal(*results)


def random_network(seed: int) -> str:
    """Layers that read whatever there is; all are of one size, with 4 or 8 channels or what they join."""
    rng = np.random.default_rng(seed)
    text, channels = conv(8), [8]
    while len(channels) < 12:
        kind, count = rng.integers(0, 5), len(channels)
        if kind <= 1:
            filters = int(rng.choice([4, 8]))
            text, channels = text + conv(filters), [*channels, filters]
        elif kind == 2:
            sources = rng.integers(0, count, rng.integers(1, 4)).tolist()
            text, channels = text + route(*sources), [*channels, sum(channels[s] for s in sources)]
        elif kind == 3:
            source = int(rng.integers(0, count))
            if channels[source] % 2 == 0:
                text += route(source, groups=2, group_id=int(rng.integers(0, 2)))
                channels.append(channels[source] // 2)
        else:
            text += shortcut(int(rng.integers(0, count)))
            channels.append(channels[-1])
    return text + conv(4)


@pytest.mark.parametrize("seed", range(25))
def test_networks_at_random(monkeypatch, seed):
    text = random_network(seed)
    test_inference_is_the_same(monkeypatch, text)
    with_step(monkeypatch, 0)
    expected = gradients(trained(text, True))
    for step, keep in ((1, True), (1, False), (4, False)):
        with_step(monkeypatch, step)
        np.testing.assert_allclose(gradients(trained(text, keep)), expected, rtol=1e-8, atol=1e-10)


@networks
@pytest.mark.parametrize("device", [name for name in BACKENDS if name != "numpy"])
def test_devices(monkeypatch, text, device):
    """Several pictures where the device takes views of them, else one; compared with NumPy in double precision."""
    with_step(monkeypatch, 0)
    batch = 2 if device == "cuda" else 1
    expected = gradients(trained(text, False, batch=batch))
    with_step(monkeypatch, 1)
    found = gradients(trained(text, False, device, np.float32, batch))
    assert np.abs(found - expected).max() < 3e-5 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("section", [name for name in EXAMPLES if name not in {*NO_TRUE_GRADIENT, "cost", "dropout"}])
@pytest.mark.parametrize("device", [name for name in BACKENDS if name not in CPU_BACKENDS])
def test_every_section_between_views(monkeypatch, section, device):
    """What a section reads and what it writes lie in larger arrays, and so do their gradients."""
    text = identity_first(EXAMPLES[section], 3).removesuffix("[cost]\n")
    last = len(network(text, (3, 6, 5)).layers) - 1
    views = "".join(f"[route]\nlayers={layer},{layer}\n[avgpool]\n" for layer in (last, 0))
    text += views + "[route]\nlayers=-1,-3\n[cost]\n"
    options = {"training": True, "keep_gradients": False, "time_steps": steps(section)}
    expected = network(text, (3, 6, 5), **options)
    with_step(monkeypatch, 1)
    found = network(text, (3, 6, 5), device=device, dtype=np.float32, **options)
    for layer in (found.layers[0], found.layers[last]):
        assert not layer.output.is_dense and not layer.grad_output.is_dense
    for built in (expected, found):
        gradients(built)
    for layer, other in zip(found.layers, expected.layers):
        for parameter in layer.parameters():
            ours, theirs = (np.asarray(view(each, parameter.name, "grad_" * parameter.trained)) for each in (layer, other))
            assert np.abs(ours - theirs).max() < 1e-4 * max(np.abs(theirs).max(), 1), parameter.name
