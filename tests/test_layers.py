"""What must hold for every section: shapes, gradients, memory, batches, sizes, weights files."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS
from darkpy.layers import registered
from darkpy.layers.recurrent import RecurrentLayer
from tests import layer_checks
from tests.backends import BACKENDS, need_tensor_cores, why_no_gpu

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
CONVOLUTION_14 = "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
YOLO = CONVOLUTION_14 + "[yolo]\nclasses=2\nmask=0,1\nanchors=3,4,6,5\nnum=2\n"

EXAMPLES = {
    "convolutional": CONV,
    "maxpool": "[maxpool]\nsize=2\nstride=2\n",
    "avgpool": "[avgpool]\n",
    "upsample": "[upsample]\nstride=2\n",
    "route": CONV + CONV + "[route]\nlayers=-1,-2\n",
    "shortcut": CONV + CONV + "[shortcut]\nfrom=-2\nactivation=leaky\n",
    "dropout": "[dropout]\nprobability=.4\n",
    "connected": "[connected]\noutput=4\nactivation=tanh\n",
    "batchnorm": "[batchnorm]\n",
    "softmax": "[softmax]\n",
    "cost": CONV + "[cost]\n",
    "scale_channels": CONV + "[avgpool]\n[scale_channels]\nfrom=-2\n",
    "sam": CONV + CONV + "[sam]\nfrom=-2\n",
    "yolo": YOLO,
    "activation": "[activation]\nactivation=mish\n",
    "reorg": CONV + "[upsample]\n[reorg]\nstride=2\n",
    "reorg3d": CONV + "[upsample]\n[reorg3d]\nstride=2\n",
    "local": "[local]\nfilters=2\nsize=3\npad=1\nactivation=tanh\n",
    "local_avgpool": "[local_avgpool]\nsize=3\nstride=2\n",
    "crop": "[crop]\ncrop_height=4\ncrop_width=3\nflip=1\n",
    "normalization": CONV + "[normalization]\nsize=3\nalpha=.1\n",
    "l2norm": "[l2norm]\n",
    "logistic": "[logistic]\n",
    "empty": CONV + "[empty]\n",
    "implicit": CONV + "[implicit]\nfilters=4\n[scale_channels]\nfrom=-2\n",
    "implicit_mul": CONV + "[implicit_mul]\nfilters=4\n[scale_channels]\nfrom=-2\n",
    "shift_channels": CONV + "[implicit]\nfilters=4\n[route]\nlayers=-2\n[shift_channels]\nfrom=-2\n",
    "control_channels": CONV + "[implicit]\nfilters=4\n[route]\nlayers=-2\n[control_channels]\nfrom=-2\n",
    "deconvolutional": "[deconvolutional]\nfilters=4\nsize=3\nstride=2\npadding=1\nactivation=leaky\n",
    "rnn": "[rnn]\noutput=4\nhidden=3\nactivation=tanh\n",
    "gru": "[gru]\noutput=4\n",
    "lstm": "[lstm]\noutput=4\n",
    "crnn": "[crnn]\noutput=4\nhidden=3\npad=1\nactivation=tanh\n",
    "region": CONVOLUTION_14 + "[region]\nclasses=2\nnum=2\nanchors=1,1,2,1\nsoftmax=1\n",
    "Gaussian_yolo": CONVOLUTION_14.replace("14", "22") + "[Gaussian_yolo]\nclasses=2\nnum=2\nanchors=3,4,6,5\n",
    "detection": "[connected]\noutput=28\n[detection]\nside=2\nclasses=2\nsqrt=1\n",
    "contrastive": CONV + YOLO + "[route]\nlayers=0\n[contrastive]\nyolo_layer=-2\n",
    "conv_lstm": "[conv_lstm]\noutput=4\npad=1\npeephole=1\n",
}
"""A few lines of cfg for every section, for inputs of 3 x 6 x 5."""

WEIGHTS = "its weights belong to one input size"
FIXED_SIZE = {
    "connected": WEIGHTS,
    "detection": "its grid has one size, whatever the input's",
    "local": WEIGHTS,
    "rnn": WEIGHTS,
    "gru": WEIGHTS,
    "lstm": WEIGHTS,
    "crop": "a part of the input, not a size, is kept",
}
DELTA = "its gradient is Darknet's delta, compared with the reference arrays"
NO_TRUE_GRADIENT = {
    "logistic": "its gradient is that of the cross-entropy, not of its output",
    "softmax": "its gradient is that of the cross-entropy, not of its output",
    "yolo": DELTA,
    "region": DELTA,
    "Gaussian_yolo": DELTA,
    "detection": DELTA,
    "contrastive": DELTA,
}



def steps(section: str) -> int:
    """Steps in time that a section is trained with."""
    return 3 if issubclass(registered()[section], RecurrentLayer) else 1


every_section = pytest.mark.parametrize("section", sorted({cls.names[0] for cls in registered().values()}))


@every_section
def test_every_section_has_an_example(section):
    assert f"[{section}]" in EXAMPLES[section]


@every_section
def test_every_section_has_a_test_file(section):
    """Of the name of the layer's file, for what is special about it."""
    module = registered()[section].__module__.rpartition(".")[2]
    assert Path(__file__).with_name(f"test_layers_{module}.py").is_file()


@every_section
def test_shapes(section):
    layer_checks.check_shapes(EXAMPLES[section])


@every_section
def test_gradients(section):
    if section in NO_TRUE_GRADIENT:
        pytest.skip(NO_TRUE_GRADIENT[section])
    text = EXAMPLES[section].replace("[cost]\n", "")
    layer_checks.check_gradients(text, time_steps=steps(section))


@every_section
@pytest.mark.parametrize("device", [name for name in BACKENDS if name != "numpy"])
def test_every_device_computes_the_same(section, device):
    """At inference, and in training where the section is no head; in training dropout draws."""
    layer_checks.check_same_as_numpy(EXAMPLES[section].replace("[cost]\n", ""), device)
    if section in NO_TRUE_GRADIENT:
        return
    text = layer_checks.identity_first(EXAMPLES[section].replace("[cost]\n", ""), 3)
    is_recurrent = issubclass(registered()[section], RecurrentLayer)
    if section != "dropout":  # a number drawn in float32 is not that drawn in float64
        layer_checks.check_same_as_numpy(text, device, time_steps=3 if is_recurrent else 1)


on_gpu = pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")

XNOR = (
    CONV.replace("filters=4", "filters=8")
    + "[convolutional]\nfilters=8\nsize=3\npad=1\nxnor=1\nbatch_normalize=1\nactivation=leaky\n"
    + "[convolutional]\nfilters=4\nsize=1\nbinary=1\nactivation=leaky\n"
)


def behind_a_convolution(section):
    """An example whose section has something to give a gradient to, unless it is a head."""
    return EXAMPLES[section] if section in NO_TRUE_GRADIENT else CONV + EXAMPLES[section]


@every_section
def test_16_bits(section):
    if section != "dropout":  # a number drawn in float32 is not that drawn in float64
        layer_checks.check_with_16_bits(behind_a_convolution(section), "fp16", time_steps=steps(section))


@pytest.mark.cuda
@on_gpu
@every_section
def test_16_bits_on_the_gpu(section):
    if section != "dropout":  # a GPU draws other numbers
        layer_checks.check_same_as_emulated(behind_a_convolution(section), "fp16", time_steps=steps(section))


@pytest.mark.cuda
@on_gpu
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("section", ["batchnorm", "conv_lstm", "yolo"])
def test_the_other_precisions_on_the_gpu(section, precision):
    need_tensor_cores(precision)
    layer_checks.check_same_as_emulated(behind_a_convolution(section), precision, time_steps=steps(section))


@pytest.mark.cuda
@on_gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32"])
@pytest.mark.parametrize(
    "text, shape",
    [(XNOR, (3, 6, 5)), (CONV + CONV.replace("pad=1", "groups=4"), (3, 8, 9))],
    ids=["signs", "on ordinary cores"],
)
def test_precisions_of_convolutions_on_the_gpu(text, shape, precision):
    """Signs and weights of one size are exact in any type; first layers and filters of one channel see exact weights."""
    need_tensor_cores(precision)
    layer_checks.check_same_as_emulated(text, precision, shape)


@every_section
def test_gradients_add_up(section):
    """Where others have put their share of a gradient already."""
    if section in NO_TRUE_GRADIENT or section == "cost":
        pytest.skip(NO_TRUE_GRADIENT.get(section, "its truth has the shape of its input"))
    text = layer_checks.second_readers(EXAMPLES[section], section)
    layer_checks.check_gradients(text, time_steps=steps(section))


@every_section
def test_sharing_memory_changes_nothing(section):
    layer_checks.check_memory_plan(EXAMPLES[section])
    layer_checks.check_memory_plan_of_training(EXAMPLES[section], time_steps=steps(section))


@every_section
def test_pictures_do_not_influence_each_other(section):
    layer_checks.check_batch_independence(EXAMPLES[section])


@every_section
@pytest.mark.parametrize("larger", [(3, 8, 10), (3, 4, 4)])
def test_resized_equals_fresh(section, larger):
    if section in FIXED_SIZE:
        pytest.skip(FIXED_SIZE[section])
    layer_checks.check_resize(EXAMPLES[section], (3, 6, 5), larger)


@every_section
def test_weights_round_trip(section, tmp_path):
    layer_checks.check_weights_round_trip(EXAMPLES[section], (3, 6, 5), tmp_path)


OPTIONS = [
    "[convolutional]\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=linear\n",
    "[convolutional]\nfilters=4\nsize=3\nstride_x=1\nstride_y=2\npadding=2\nactivation=logistic\n",
    "[convolutional]\nfilters=4\nsize=2\npadding=1\nactivation=mish\n",
    "[convolutional]\nfilters=3\nsize=3\npad=1\ngroups=3\nbatch_normalize=1\nactivation=leaky\n",
    "[convolutional]\nfilters=6\nsize=1\ngroups=3\nactivation=swish\n",
    "[convolutional]\nfilters=4\nsize=3\npad=1\ndilation=2\nbatch_normalize=1\nactivation=mish\n",
    "[convolutional]\nfilters=4\nsize=5\npad=1\nbatch_normalize=1\nactivation=normalize_channels_softmax\n",
    "[convolutional]\nfilters=4\nsize=3\nbias=0\nactivation=linear\n",
    "[maxpool]\nsize=3\nstride=1\n",
    "[maxpool]\nsize=3\nstride=2\npadding=1\n",
    "[maxpool]\nsize=2\nstride=2\npadding=0\n",
    "[maxpool]\nsize=2\nstride_x=1\nstride_y=2\n",
    "[upsample]\nstride=3\nscale=.5\n",
    "[upsample]\nstride=-2\nscale=2\n",
    CONV + "[route]\nlayers=-1\n" + CONV,
    CONV + CONV + "[route]\nlayers=-1,-2,1\ngroups=2\ngroup_id=1\n",
    CONV + "[route]\nlayers=-1,-1\n",
    CONV + CONV + CONV + "[shortcut]\nfrom=-2,-3\nactivation=mish\n",
    CONV + "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[shortcut]\nfrom=-2\n",
    CONV + "[convolutional]\nfilters=2\nsize=1\nactivation=linear\n[shortcut]\nfrom=-2\nactivation=logistic\n",
    CONV + "[upsample]\n" + CONV + "[shortcut]\nfrom=-3\n",
    CONV + CONV + "[shortcut]\nfrom=-2\nweights_type=per_feature\n",
    CONV + CONV + CONV + "[shortcut]\nfrom=-2,-3\nweights_type=per_channel\nweights_normalization=relu\n",
    CONV + CONV + "[shortcut]\nfrom=-2\nweights_type=per_channel\nweights_normalization=softmax\nactivation=swish\n",
    "[connected]\noutput=4\nactivation=leaky\nbatch_normalize=1\n[connected]\noutput=3\nactivation=gelu\n",
    CONV + "[convolutional]\nfilters=1\nsize=1\nactivation=logistic\n[scale_channels]\nfrom=-2\nscale_wh=1\nactivation=mish\n",
    CONV + CONV + "[sam]\nfrom=-2\nactivation=swish\n",
    "[dropout]\nprobability=0\n" + CONV,
    "[softmax]\nnoloss=1\n[dropout]\n",
]


@pytest.mark.parametrize("device", [name for name in BACKENDS if name != "numpy"])
@pytest.mark.parametrize("text", OPTIONS)
def test_options_on_every_device(text, device):
    layer_checks.check_same_as_numpy(text, device, (3, 6, 4))
    if "softmax]\nnoloss" not in text:
        layer_checks.check_same_as_numpy(layer_checks.identity_first(text, 3), device, (3, 6, 4))


@pytest.mark.parametrize("text", OPTIONS)
def test_options(text):
    if "softmax]\nnoloss" not in text:
        layer_checks.check_gradients(text, (3, 6, 4), batch=3)
    layer_checks.check_shapes(text, (3, 6, 4))
    layer_checks.check_memory_plan(text, (3, 6, 4))


@pytest.mark.parametrize("normalized", [0, 1])
@pytest.mark.parametrize("activation", [*ELEMENTWISE_ACTIVATIONS, *CHANNEL_ACTIVATIONS])
def test_activations_of_a_convolution(activation, normalized):
    text = f"[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize={normalized}\nactivation={activation}\n"
    layer_checks.check_gradients(text, batch=3)
