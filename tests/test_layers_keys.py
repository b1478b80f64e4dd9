"""Every key that Darknet reads: it works, it is known to change nothing here, or it is refused by name.

The table lists what Darknet's parser asks for (parser.c), section by section, so that none is forgotten and none
changes its meaning by accident. Keys that darkpy adds need no line.
"""

from __future__ import annotations

import ast
import dataclasses
from functools import cache
from pathlib import Path

import pytest

import darkpy
from darkpy.config.cfg import read_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import CommonOptions, ineffective_keys, known_keys, refused_keys
from darkpy.layers import registered
from tests.conftest import SHARED

CONVOLUTION = "size stride pad padding dilation groups activation batch_normalize"
YOLO = (
    "classes num mask anchors max scale_x_y jitter resize random map ignore_thresh truth_thresh iou_thresh "
    "iou_thresh_kind iou_loss iou_normalizer obj_normalizer cls_normalizer max_delta objectness_smooth label_smooth_eps "
    "counters_per_class nms_kind beta_nms"
)
TRACKING = "embedding_layer track_history_size sim_thresh dets_for_track dets_for_show track_ciou_norm"

WORKS = {
    "net": "batch subdivisions width height channels inputs time_steps track augment_speed sequential_subdivisions "
    "max_crop min_crop momentum decay adam B1 B2 eps learning_rate learning_rate_min policy step scale steps scales "
    "seq_scales gamma power sgdr_cycle sgdr_mult burn_in max_batches angle aspect saturation exposure hue flip blur "
    "gaussian_noise mixup cutmix mosaic mosaic_bound letter_box contrastive contrastive_jit_flip contrastive_color "
    "label_smooth_eps resize_step ema_alpha max_chart_loss",
    "every layer": "clip onlyforward dont_update burnin_update stopbackward train_only_bn dontload dontloadscales "
    "learning_rate",
    "convolutional": f"filters {CONVOLUTION} stride_x stride_y cbn binary xnor antialiasing share_index",
    "shortcut": "from activation weights_type weights_normalization",
    "route": "layers groups group_id",
    "maxpool": "size stride stride_x stride_y padding maxpool_depth out_channels antialiasing",
    "local_avgpool": "size stride stride_x stride_y padding",
    "yolo": f"{YOLO} new_coords focal_loss show_details",
    "Gaussian_yolo": f"{YOLO} uc_normalizer yolo_point",
    "upsample": "stride scale",
    "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
    "avgpool": "",
    "batchnorm": "",
    "empty": "",
    "activation": "activation",
    "scale_channels": "from scale_wh activation",
    "sam": "from activation",
    "softmax": "groups temperature tree spatial noloss",
    "contrastive": "yolo_layer temperature cls_normalizer max_delta contrastive_neg_max",
    "connected": "output activation batch_normalize",
    "cost": "type scale",
    "region": "coords classes num max anchors softmax bias_match jitter resize random thresh rescore classfix tree map "
    "coord_scale object_scale noobject_scale class_scale focal_loss",
    "detection": "coords classes num side max softmax sqrt rescore forced jitter resize random coord_scale object_scale "
    "noobject_scale class_scale",
    "rnn": "output hidden activation batch_normalize shortcut logistic",
    "crnn": f"output hidden shortcut {CONVOLUTION}",
    "gru": "output batch_normalize",
    "lstm": "output batch_normalize",
    "conv_lstm": f"output peephole state_constrain lstm_activation {CONVOLUTION}",
    "reorg": "stride reverse",
    "reorg3d": "stride reverse",
    "crop": "crop_height crop_width flip noadjust",
    "local": "filters size stride pad activation",
    "normalization": "alpha beta kappa size",
    "implicit": "filters atoms",
    "deconvolutional": "filters size stride activation batch_normalize",
    "l2norm": "",
    "logistic": "",
}
INEFFECTIVE = {
    "net": "dynamic_minibatch optimized_memory workspace_size_limit_MB use_cuda_graph show_receptive_field "
    "try_fix_nan attention unsupervised max_ratio min_ratio center notruth random clip",
    "convolutional": "bin_output flipped dot stream wait_stream grad_centr reverse angle",
    "route": "stream wait_stream",
    "yolo": f"delta_normalizer {TRACKING}",
    "Gaussian_yolo": "delta_normalizer",
    "contrastive": "classes",
    "cost": "ratio",
    "region": "absolute log sqrt mask_scale",
    "detection": "reorg",
    "conv_lstm": "shortcut time_normalizer",
    "crop": "angle saturation exposure shift",
}
REFUSED = {
    "net": "weights_reject_freq equidistant_point badlabels_rejection_percentage num_sigmas_reject_badlabels "
    "adversarial_lr",
    "convolutional": "assisted_excitation coordconv sway rotate stretch stretch_sway",
    "maxpool": "maxpool_zero_nonmax",
    "crnn": "xnor",
    "conv_lstm": "xnor bottleneck",
}

DECLARED = {"net": NetOptions, "every layer": CommonOptions, **{cls.names[0]: cls.Options for cls in registered().values()}}
OF_DARKPY = {"implicit_mul", "shift_channels", "control_channels"}
"""Sections that this Darknet does not have."""


def keys(table: dict[str, str], section: str) -> set[str]:
    return set(table.get(section, "").split())


def options(section: str) -> dict[str, dataclasses.Field]:
    """The fields of a section's own options by their key."""
    common = () if section in ("net", "every layer") else {field.name for field in dataclasses.fields(CommonOptions)}
    fields = dataclasses.fields(DECLARED[section])
    return {field.name.removesuffix("_"): field for field in fields if field.name not in common}


def test_every_section_is_in_the_table():
    assert set(WORKS) | OF_DARKPY == set(DECLARED)


@pytest.mark.parametrize("section", sorted(WORKS))
def test_every_key_has_its_fate(section):
    declared = DECLARED[section]
    assert keys(WORKS, section) <= set(options(section))
    assert keys(INEFFECTIVE, section) <= set(ineffective_keys(declared))
    assert keys(REFUSED, section) <= set(refused_keys(declared))
    assert not set(options(section)) & {*ineffective_keys(declared), *refused_keys(declared)}


@pytest.mark.parametrize("section", sorted(DECLARED))
def test_every_option_is_read(section):
    """Somewhere in the package, by its name; one that allows a single value need not be."""
    for key, field in options(section).items():
        (rule,) = field.metadata.values()
        assert field.name in names_read() or len(rule.choices) == 1, f"nobody reads {key}= of [{section}]"


@cache
def names_read() -> set[str]:
    """Every attribute that some code of the package asks for, by a dot or with ``getattr``."""
    found: set[str] = set()
    for path in Path(darkpy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def test_the_keys_of_published_files_work(shared):
    """Or change nothing in Darknet either; none of them is refused."""
    for path in sorted((SHARED / "zoo").rglob("*.cfg")):
        config = read_cfg(path)
        for section in (config.net, *config.layers):
            cls = NetOptions if section is config.net else registered()[section.name].Options
            used = {entry.key for entry in section.entries}
            assert used <= set(known_keys(cls)), path
            assert not used & set(refused_keys(cls)), path
