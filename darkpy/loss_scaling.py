"""Which loss scale a network trains with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpy.backends.loss_scale import LossScale, LossScaleRule

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.net import NetOptions

FIRST_SCALE = 4096.0
"""Where the search for it begins: gradients are sums over the pictures, not means, so that there is less room above."""


def create_loss_scale(options: NetOptions, backend: Backend) -> LossScale:
    """As ``loss_scale`` says; without that key found as it trains for fp16, none for what has the range of float32."""
    if backend.activation_dtype == backend.dtype:
        return LossScale()
    if options.loss_scale is not None:
        return backend.loss_scale(LossScaleRule(options.loss_scale))
    if backend.precision == "fp16":
        return backend.loss_scale(LossScaleRule(FIRST_SCALE, is_dynamic=True))
    return LossScale()
