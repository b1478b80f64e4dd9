"""The Darknet way of training object detectors.

Names are imported when first used, so that ``import darkpy`` and ``darkpy --help`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from darkpy.version import __version__

if TYPE_CHECKING:
    from darkpy.detection import Detection
    from darkpy.errors import DarkpyError
    from darkpy.network import Network

__all__ = ["DarkpyError", "Detection", "Network", "__version__"]

_HOMES = {"Network": "darkpy.network", "Detection": "darkpy.detection", "DarkpyError": "darkpy.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'darkpy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
