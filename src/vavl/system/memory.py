"""Whether the C library gives freed memory back to the system, or keeps it for later use.

Both functions speak to glibc, the C library of most Linux systems; elsewhere they do nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt's parameters in malloc.h
_LARGEST = 2**31 - 1
_LARGEST_OF_OLD = 2**25
"""What glibc before 2.35 takes as a threshold at most: half a heap."""


def release_memory() -> None:
    """Asks the C library to give back, this once, what was freed; takes a millisecond or two.

    Left alone, it keeps freed blocks in pieces that later ones do not fit into: an hour of video
    took 400 MB more than ten seconds.

    Source: ``malloc_trim(3)``.
    """
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def keep_memory() -> None:
    """Has this process keep what it frees, from now on until it ends.

    :func:`release_memory` still gives back what has piled up; what is freed later is kept again.

    A training step frees tensors of some megabytes and wants them again in the next one. Left
    alone, the C library gives them back in between, and the system fills each page with zeros anew.

    Source: ``mallopt(3)``.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _LARGEST)
        if not mallopt(_MMAP_THRESHOLD, _LARGEST):
            mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD)


@cache
def _c_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or none to be found this way
        return None
