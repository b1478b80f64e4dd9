"""What must hold for every section: shapes, gradients, memory, batches, sizes, weights files."""

from __future__ import annotations

import pytest

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS
from darkpy.layers import registered
from tests import layer_checks

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
YOLO = "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nmask=0,1\nanchors=3,4,6,5\nnum=2\n"

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
}
"""A few lines of cfg for every section, for inputs of 3 x 6 x 5."""

FIXED_SIZE = {"connected": "its weights belong to one input size"}
NO_TRUE_GRADIENT = {
    "softmax": "its gradient is that of the cross-entropy, not of its output",
    "yolo": "its gradient is Darknet's delta, compared with the reference arrays",
}

every_section = pytest.mark.parametrize("section", sorted({cls.names[0] for cls in registered().values()}))


@every_section
def test_every_section_has_an_example(section):
    assert section in EXAMPLES


@every_section
def test_shapes(section):
    layer_checks.check_shapes(EXAMPLES[section])


@every_section
def test_gradients(section):
    if section in NO_TRUE_GRADIENT:
        pytest.skip(NO_TRUE_GRADIENT[section])
    text = EXAMPLES[section].replace("[cost]\n", "")
    layer_checks.check_gradients(text)


@every_section
def test_sharing_memory_changes_nothing(section):
    layer_checks.check_memory_plan(EXAMPLES[section])


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
