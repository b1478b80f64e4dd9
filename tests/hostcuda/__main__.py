"""``python -m tests.hostcuda``: build PyCUDA for the stand-in GPU, or say why not."""

from __future__ import annotations

from tests import hostcuda

if hostcuda.cuda_root() is None:
    print("skipped: no cuda.h here, the tests of the GPU backend will be skipped")
else:
    hostcuda.build()
