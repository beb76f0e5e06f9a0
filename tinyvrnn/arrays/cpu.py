"""The CPU: the number of BLAS threads, the available cores, and the reuse of freed memory."""

import ctypes
import os
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock

import numpy as np
from threadpoolctl import ThreadpoolController

from tinyvrnn.errors import SIZE, ConfigError


def keep_freed_memory():
    """Let glibc keep up to 1 GiB of freed memory for new arrays; other C libraries have no such setting.

    A training step allocates the same arrays each time; fetching their pages costs up to a third of it
    (docs/performance.md).
    """
    trim_threshold, top_pad, mmap_threshold, MiB = -1, -2, -3, 2**20
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((mmap_threshold, 32 * MiB), (trim_threshold, 1024 * MiB), (top_pad, 16 * MiB)):
            mallopt(parameter, size)


def give_back_freed_memory():
    """Return the freed memory that glibc keeps to the system, in an idle process."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def blas_threads(count):
    """Context: BLAS uses `count` threads inside, and the previous number again afterwards.

    The setting belongs to the whole process. The outermost context, in any thread, sets and resets it; others, entered
    meanwhile, do nothing.
    """
    if not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _blas().limit(limits=count, user_api="blas"):
            yield
    finally:
        _limiting.release()


def one_blas_thread():
    """Context: BLAS uses one thread inside, unless an enclosing `blas_threads` has set another number.

    The products of most models are small, and splitting each over threads costs more than it saves
    (docs/performance.md). training/parallel.py uses the cores instead, by splitting the batch.
    """
    return blas_threads(1)


def available_cores():
    """The number of cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_memory(numbers, dtype, what):
    """Raise ConfigError if so many numbers of a dtype take more memory than this machine has. what: needs them."""
    size, memory = numbers * np.dtype(dtype).itemsize, _memory()
    if size > memory:
        has = f"this machine has {memory / 2**30:,.3g} GiB of memory: use smaller numbers"
        raise ConfigError(f"{what} would need {size / 2**30:,.3g} GiB, and {has}.")


@cache
def _memory():
    """Bytes of memory of this machine; where the system does not tell, the largest 64-bit size."""
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2**SIZE - 1


_limiting = Lock()


@cache
def _blas():
    return ThreadpoolController()


keep_freed_memory()
