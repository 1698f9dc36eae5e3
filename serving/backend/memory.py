"""Gives the memory of what was unloaded back to the system.

A freed model leaves holes that the C library keeps for later: without this, a process that loads
model after model grows by what does not fit into them.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Frees what nobody refers to, and returns it; on Linux with glibc, elsewhere only frees."""
    gc.collect()  # TensorFlow's objects refer to one another: the count never falls
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
