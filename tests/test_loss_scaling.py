"""The loss scale: what a cfg asks for, and how it goes up and down; on the GPU without anybody waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.backends.loss_scale import LossScaleRule
from darkpy.config.cfg import parse_cfg, read_cfg
from darkpy.data.pictures import network_input
from darkpy.data.shapes import draw_picture
from darkpy.errors import ConfigError, NotFinite
from darkpy.loss_scaling import FIRST_SCALE
from darkpy.network import Network
from tests.backends import ROUNDING_DEVICES
from tests.tiny_job import ROOT, write_cfg

Make = Callable[..., Network]

FILTERS = "[convolutional]\nfilters=4\nsize=3\nactivation=linear\n"


@pytest.fixture(params=ROUNDING_DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(device: str) -> Make:
    def build(precision: str = "fp16", net: str = "", sections: str = FILTERS + "[cost]\n", **options: Any) -> Network:
        text = f"[net]\nbatch=2\nwidth=5\nheight=5\nchannels=3\nlearning_rate=.01\nmax_batches=9\n{net}\n{sections}"
        return Network(parse_cfg(text, "test.cfg"), training=True, device=device, precision=precision, **options)

    return build


def batch(size: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and truth whose distance from the outputs is of a size."""
    rng = np.random.default_rng(0)
    return rng.random((2, 3, 5, 5), np.float32), size * rng.standard_normal((2, 36)).astype(np.float32)


def values(built: Network) -> np.ndarray:
    return np.array(built.parameters.values)


@pytest.mark.parametrize(
    "precision, net, scale, is_used",
    [
        ("fp16", "", FIRST_SCALE, True),
        ("fp16", "loss_scale=128", 128.0, True),
        ("bf16", "", 1.0, False),
        ("bf16", "loss_scale=128", 128.0, True),
        ("tf32", "loss_scale=128", 1.0, False),
        ("fp32", "loss_scale=128", 1.0, False),
    ],
)
def test_what_the_cfg_and_the_precision_ask_for(network: Make, precision: str, net: str, scale: float, is_used: bool) -> None:
    if precision == "bf16":
        pytest.importorskip("ml_dtypes")
    found = network(precision, net).loss_scale
    assert (found.scale, found.is_used) == (scale, is_used)


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_a_scale_changes_no_update(network: Make, scale: float) -> None:
    """A power of two is exact; numbers of fp16 that are not too small have the same digits at any size."""
    built, plain = network(net=f"loss_scale={scale}"), network(net="loss_scale=1")
    assert built.train_batch(*batch()) == plain.train_batch(*batch())
    np.testing.assert_allclose(values(built), values(plain), rtol=1e-5, atol=1e-7)


def test_small_gradients_are_kept_from_zero(network: Make) -> None:
    """Below 2^-25 there is nothing but 0 in fp16; the first layer's gradient passes through the second."""
    sections = FILTERS + FILTERS.replace("size=3", "size=1") + "[cost]\nscale=1e-9\n"
    found = []
    for precision, net in (("fp16", "loss_scale=1"), ("fp16", "loss_scale=65536"), ("fp32", "")):
        built = network(precision, net, sections)
        built.train_batch(*batch())
        found.append(np.array(built.layers[0].grad_weights))
    assert (found[0] == 0).all()
    assert np.linalg.norm(found[1] - found[2]) < 0.01 * np.linalg.norm(found[2])


def test_an_update_is_left_out_and_the_scale_halved_until_it_fits(network: Make) -> None:
    """Truth 768 away, times 2^8, is beyond 65504."""
    built = network()
    x, truth = batch()
    truth[:] = 768
    before = values(built)
    for skipped, scale in ((1, FIRST_SCALE / 2), (2, FIRST_SCALE / 4)):
        built.train_batch(x, truth)
        assert (values(built) == before).all()
        assert np.array(built.optimizer.velocity).max() == 0
        assert (built.loss_scale.skipped, built.loss_scale.scale) == (skipped, scale)
    assert built.iteration == 2
    built.train_batch(x, truth)
    assert (values(built) != before).any()
    assert np.isfinite(values(built)).all()
    assert built.loss_scale.skipped == 2


def test_the_scale_is_doubled_after_good_updates_up_to_a_limit(network: Make) -> None:
    built = network()
    built.loss_scale = built.backend.loss_scale(LossScaleRule(4.0, is_dynamic=True, good=2, largest=8.0))
    scales = []
    for _ in range(5):
        built.train_batch(*batch())
        scales.append(built.loss_scale.scale)
    assert scales == [4, 8, 8, 8, 8]


def test_updates_under_way_need_not_be_read_for_the_scale_to_change(network: Make) -> None:
    late, at_once = network(), network()
    x, truth = batch()
    truth[:] = 768
    updates = [late.start_update(x, truth) for _ in range(4)]
    costs = [at_once.train_batch(x, truth) for _ in range(4)]
    assert [update.read() for update in updates] == costs
    assert (values(late) == values(at_once)).all()
    assert late.loss_scale.state() == at_once.loss_scale.state()
    assert (late.loss_scale.scale, late.loss_scale.skipped) == (FIRST_SCALE / 4, 2)


def test_it_is_the_same_with_passes_that_are_recorded(network: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first update is launched one by one, the second recorded, the others launched as one."""
    x, truth = batch()
    truth[:] = 768
    found = []
    for graphs in ("1", "0"):
        monkeypatch.setenv("DARKPY_CUDA_GRAPHS", graphs)
        built = network()
        costs = [built.train_batch(x, truth) for _ in range(6)]
        found.append((costs, values(built).tolist(), built.loss_scale.state()))
    assert found[0] == found[1]
    assert built.loss_scale.skipped == 2


def test_a_scale_that_came_down_to_1_is_not_to_blame(network: Make) -> None:
    built = network()
    built.loss_scale = built.backend.loss_scale(LossScaleRule(2.0, is_dynamic=True))
    x, truth = batch()
    truth[:] = 7e4
    built.train_batch(x, truth)
    before = values(built)
    with pytest.raises(NotFinite) as caught:
        built.train_batch(x, truth)
    assert (caught.value.what, built.iteration, built.loss_scale.skipped) == ("gradient", 1, 1)
    assert (values(built) == before).all()


def test_with_a_scale_that_is_given_some_updates_in_a_row_may_be_left_out(network: Make) -> None:
    built = network(net="loss_scale=2")
    built.loss_scale = built.backend.loss_scale(LossScaleRule(2.0, most_skipped=3))
    x, truth = batch()
    truth[:] = 5e4
    for _ in range(3):
        built.train_batch(x, truth)
    with pytest.raises(NotFinite):
        built.train_batch(x, truth)
    assert (built.loss_scale.scale, built.loss_scale.skipped) == (2.0, 3)
    # What fits is learned again.
    built.train_batch(*batch())
    assert built.loss_scale.skipped == 3


def test_a_loss_that_is_not_finite_is_no_matter_of_the_scale(network: Make) -> None:
    built = network()
    x, truth = batch()
    x[1, 0, 2, 2] = np.inf
    with pytest.raises(NotFinite) as caught:
        built.train_batch(x, truth)
    assert (caught.value.what, built.loss_scale.scale) == ("loss", FIRST_SCALE)


def test_it_goes_on_from_where_another_was(network: Make) -> None:
    built, other = network(), network()
    x, truth = batch()
    truth[:] = 768
    built.train_batch(x, truth)
    other.loss_scale.restore(built.loss_scale.state())
    assert (other.loss_scale.scale, other.loss_scale.skipped) == (FIRST_SCALE / 2, 1)
    assert other.loss_scale.state() == built.loss_scale.state()


def test_a_pass_and_an_update_by_hand(network: Make) -> None:
    """The gradients of layers carry the scale, those of parameters until the update."""
    built = network(net="loss_scale=16")
    x, truth = batch()
    built.zero_gradients()
    output = built.forward(x)
    assert output.dtype == np.float32
    built.backward(truth)
    np.testing.assert_allclose(
        np.array(built.layers[-1].grad_output), 16 * (output - truth.reshape(output.shape)), rtol=1e-6
    )
    scaled = np.array(built.parameters.gradients)
    built.update()
    np.testing.assert_array_equal(np.array(built.parameters.gradients), scaled / 16)


def test_memory_is_planned_in_half(tmp_path: Path, device: str) -> None:
    """Everything but parameters, and what must stay float32: statistics, outputs of heads."""
    path = write_cfg(tmp_path)
    half, single = (
        Network.from_cfg(path, training=True, device=device, precision=precision).memory_plan()
        for precision in ("fp16", "fp32")
    )
    assert (half.parameters, half.gradients, half.optimizer) == (single.parameters, single.gradients, single.optimizer)
    assert half.input == single.input / 2
    assert 0.5 * single.arena < half.arena < 0.7 * single.arena


def test_a_layer_that_reads_a_head_is_refused(network: Make) -> None:
    sections = "[convolutional]\nfilters=4\nactivation=linear\n[softmax]\n[convolutional]\nfilters=2\n"
    network("fp32", sections=sections)
    with pytest.raises(ConfigError, match=r"test\.cfg:13  \[convolutional\] reads the output of \[softmax\]"):
        network("fp16", sections=sections)


def test_the_first_scale_suits_new_weights() -> None:
    """Where nothing has been learned, batch normalisation makes the gradients of the bare convolutions largest."""
    built = Network(read_cfg(ROOT / "cfg" / "shapes.cfg"), training=True, device="emulated", precision="fp16")
    drawn = [draw_picture(np.random.default_rng(seed)) for seed in range(built.batch)]
    pictures = [network_input(image, built.width, built.height) for image, _ in drawn]
    built.train_batch(np.concatenate(pictures), [boxes for _, boxes in drawn])
    assert (built.loss_scale.skipped, built.loss_scale.scale) == (0, FIRST_SCALE)
    assert np.abs(built.parameters.gradients).max() > 0
