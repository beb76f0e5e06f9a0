"""The CPU: how many threads BLAS uses, which cores there are, and freed memory that is kept for the next arrays."""

import ctypes
import os
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController


def keep_freed_memory():
    """Lets glibc keep up to 1 GiB of freed memory for the next arrays, instead of returning it to the system each step.

    A training step frees and makes the same arrays again and again; fetching their pages anew costs up to a third of
    the step (docs/performance.md). Other C libraries have no such setting, and are left alone.
    """
    trim_threshold, top_pad, mmap_threshold, MiB = -1, -2, -3, 2**20
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((mmap_threshold, 32 * MiB), (trim_threshold, 1024 * MiB), (top_pad, 16 * MiB)):
            mallopt(parameter, size)


def give_back_freed_memory():
    """Returns to the system what glibc keeps: of a process that rests."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def blas_threads(count):
    """Context: BLAS uses `count` threads inside, and what it used before outside.

    The setting is the whole process's: whoever comes first sets and undoes it, and who comes meanwhile leaves it alone.
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
    """Context: BLAS uses one thread inside, and what it used before outside, unless `blas_threads` says otherwise.

    The products of most models are small. Handing each to several threads costs more than it saves
    (docs/performance.md), so cores are used by splitting the batch (training/parallel.py), and no setting of the user's
    process stays changed.
    """
    return blas_threads(1)


def available_cores():
    """Cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_limiting = Lock()


@cache
def _blas():
    return ThreadpoolController()


keep_freed_memory()
