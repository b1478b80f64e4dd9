"""How this package's functions are compiled.

Numba keeps compiled code beside the source (or in the user's cache folder), but looks only at the file of the function
that was called. :func:`discard_outdated_code` makes up for that where functions of several files go into one.
"""

from __future__ import annotations

from pathlib import Path

from numba import njit

#: Liberties with float arithmetic that leave NaN and infinity what they are: sums may be taken in any order.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}

#: For functions that compiled functions call; all become part of their caller. A call that is left in the code leads in
#: the process that compiles to another version of the function than in those that load the code, and two versions of
#: one formula may differ in the last bit.
compiled = njit(nogil=True, error_model="numpy", fastmath=FAST_MATH, forceinline=True)

#: For functions called from Python: compiled at the first call, then kept on disk.
entry = njit(nogil=True, error_model="numpy", fastmath=FAST_MATH, cache=True)

#: For formulas whose order of operations matters.
exact = njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)


def discard_outdated_code() -> None:
    """Remove compiled code that is older than any source file of this package or of the NumPy backend.

    Functions of the NumPy backend are compiled too, and kept beside their own source.
    """
    here = Path(__file__).parent
    folders = [here, here.parent / "numpy"]
    newest = max(source.stat().st_mtime for folder in folders for source in folder.glob("*.py"))
    for index in (index for folder in folders for index in (folder / "__pycache__").glob("*.nbi")):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
        except OSError:
            # Another process was faster, or the folder is not ours to change: Numba then does not write here either.
            continue


@entry
def _sample(x):
    """For asking where compiled code is kept."""
    return x


def has_compiled_code() -> bool:
    """Whether compiled functions of this package were kept on disk before."""
    return any(Path(_sample._cache.cache_path).glob("*.nbi"))  # type: ignore[attr-defined]
