"""A test double of the module `cupy`, for machines without a GPU: PYTHONPATH=tests/double makes `import cupy` find it.

Arrays are NumPy's inside. They refuse what CuPy's refuse, and also what CuPy does only by a hidden transfer: NumPy
functions of device arrays, host arrays as indices, and assignment of host arrays. Kernels are compiled for the CPU, so
results are those of the C++ that a GPU would run. The memory pool counts bytes, has a limit and runs out of memory.
Behaviour follows CuPy 14; tests/test_double.py compares both where CuPy is installed.
"""

import numpy as np
from numpy import bool_, float32, float64, inf, int32, int64, nan, newaxis, pi, uint8, uint64  # noqa: F401

from tinyvrnn.arrays.strict import FUNCTIONS

from . import cuda  # noqa: F401
from ._arrays import array, asarray, asnumpy, empty, empty_like, launches, ndarray, on_device, transfers  # noqa: F401
from ._elementwise import COMPILER, ElementwiseKernel  # noqa: F401
from .cuda import memory

__version__ = "14 (test double)"
is_test_double = True


def get_default_memory_pool():
    return memory.pool


def get_default_pinned_memory_pool():
    return memory.pinned_pool


for _name in FUNCTIONS:
    if _name not in ("empty", "empty_like"):
        globals()[_name] = on_device(getattr(np, _name), sequence=_name in ("concatenate", "stack"))
