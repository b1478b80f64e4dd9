"""Which loss scale a network trains with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpy.backends.loss_scale import LossScale, LossScaleRule

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.net import NetOptions

FIRST_SCALE = 256.0
"""Where the search for it begins: low, since gradients are sums over the pictures, not means.

In the first update of new weights, batch normalisation makes the gradients of the bare convolutions largest: those of
shapes.cfg fit up to a scale of 2048, yolov3-tiny's up to 4096, yolov4-tiny's to 1024, yolov7-tiny's to 256, mobile's to
16. Too low a scale costs little: at 256 the trained shapes.cfg loses 1 of 140 gradients of a head, the smallest ones.
"""


def create_loss_scale(options: NetOptions, backend: Backend) -> LossScale:
    """As ``loss_scale`` says; without that key found as it trains for fp16, none for what has the range of float32."""
    if backend.activation_dtype == backend.dtype:
        return LossScale()
    if options.loss_scale is not None:
        return backend.loss_scale(LossScaleRule(options.loss_scale))
    if backend.precision == "fp16":
        return backend.loss_scale(LossScaleRule(FIRST_SCALE, is_dynamic=True))
    return LossScale()
