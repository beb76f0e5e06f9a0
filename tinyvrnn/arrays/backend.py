"""The backends: NumPy, CuPy, or strict. A backend creates arrays, and each array identifies its backend.

A function takes the functions to use from its arguments: `xp = namespace(a)`. Only this file imports cupy.
"""

import importlib
import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from numbers import Number
from traceback import clear_frames
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyvrnn.arrays.cpu import available_cores, blas_threads, one_blas_thread
from tinyvrnn.arrays.ranks import world
from tinyvrnn.arrays.strict import StrictArray, launches, strict_asarray, strict_namespace, transfers
from tinyvrnn.errors import BackendError, DataError, TinyvrnnError, how_to_install, out_of_memory

# includes names from strict.py and cpu.py that users reach as `tv.backend`
__all__ = ["Array", "Backend", "available_cores", "backend_of", "blas_threads", "get_backend", "launches", "namespace"]
__all__ += ["numbers_of", "one_blas_thread", "to_host", "transfers"]

# The type of an array in a signature. A CuPy or strict array of the same shape and dtype is accepted as well: CuPy has
# no type hints, so a type checker knows NumPy's arrays only.
Array = NDArray[Any]


class Backend(NamedTuple):
    """A name, a namespace of array functions, and the transfers in both directions.

    Attributes
    ----------
    name : str
        "numpy", "cupy" or "strict".
    xp : module
        Its functions work on the backend's arrays.
    asarray, to_host : callable
        (host or device array, dtype=None) -> device array; device array -> numpy.ndarray.
    """

    name: str
    xp: Any
    asarray: Callable[..., Array]
    to_host: Callable[[Any], Array]


STRICT_FREE = 2**30  # bytes: the free memory of the test double
_within = ContextVar("_within", default=False)  # a device_memory context
_NUMPY = Backend("numpy", np, np.asarray, np.asarray)
_STRICT = Backend("strict", strict_namespace, strict_asarray, lambda array: array.get())


@cache
def _cupy_backend():
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        how = f'{how_to_install("cuda13")} ("cuda12" for an older driver), or use backend="numpy"'
        raise BackendError(f'backend="cupy" needs CuPy, which is not installed: {how}.') from error
    try:
        devices = cupy.cuda.runtime.getDeviceCount()  # `import cupy` alone succeeds on a machine without a GPU
    except Exception as error:  # CuPy raises its own classes, which differ between versions
        raise BackendError(f'backend="cupy" found no usable GPU ({error}): use backend="numpy".') from error
    if devices == 0:
        raise BackendError('backend="cupy" found no GPU on this machine: use backend="numpy".')
    if world().size > 1:
        cupy.cuda.Device(world().local % devices).use()
    return Backend("cupy", cupy, cupy.asarray, cupy.asnumpy)


def get_backend(name: str | None = None) -> Backend:
    """The Backend of a name.

    Parameters
    ----------
    name : "numpy", "cupy" or "strict", optional
        None: the one named by the environment variable TINYVRNN_BACKEND, or "numpy".

    Returns
    -------
    Backend
        The same object in each call.

    Raises
    ------
    BackendError
        The name is unknown, CuPy is not installed, or there is no GPU.
    """
    name = os.environ.get("TINYVRNN_BACKEND") or "numpy" if name is None else name
    if name == "cupy":
        return _cupy_backend()
    if name not in ("numpy", "strict"):
        raise BackendError(f'Unknown backend "{name}": use "numpy", "cupy" or "strict".')
    return _NUMPY if name == "numpy" else _STRICT


def backend_of(array):
    """The Backend of an array. Raises BackendError for anything that is not an array."""
    if isinstance(array, (np.ndarray, np.generic)):
        return _NUMPY
    if _on_device(array):
        return _STRICT if isinstance(array, StrictArray) else _cupy_backend()
    how = "unpack or convert" if isinstance(array, tuple) else "convert"
    raise BackendError(f"Expected an array of NumPy, CuPy or strict, got {type(array).__name__}: {how} it first.")


def namespace(array):
    """The module whose functions work on this array: numpy, cupy or the strict namespace."""
    return np if type(array) is np.ndarray else backend_of(array).xp


def numbers_of(chosen, backend):
    """The indices of the True entries of a host array (n,), on the backend, to index its arrays."""
    return backend.asarray(np.flatnonzero(chosen))


def to_host(array: Array) -> Array:
    """The array as numpy.ndarray; copied only from a device.

    Parameters
    ----------
    array : array
        Of any backend, shape and dtype.

    Returns
    -------
    numpy.ndarray
        Same shape and dtype.

    Raises
    ------
    BackendError
        It is not an array.
    """
    return backend_of(array).to_host(array)


def as_array(value, name):
    """A list, tensor, table or buffer as numpy.ndarray of real numbers; None and a device array as they are.

    Raises DataError for what cannot be converted.
    """
    if value is None or type(value) is np.ndarray and value.dtype.kind in "buif" or _on_device(value):
        return value
    if _is_masked(value):
        raise DataError(f"{name} is a masked array, whose mask would be ignored: remove or replace the masked values.")
    try:
        array = _converted(value)
    except Exception as error:  # each library raises its own classes
        parts = isinstance(value, list | tuple) and isinstance(error, ValueError)
        why = "parts of unequal lengths" if parts else str(error).strip().split("\n")[0].rstrip(".")
        what = f"{name} is a {type(value).__name__} that cannot be read as an array ({why})"
        how = "use tinyvrnn.data.pad" if hasattr(value, "lengths") else "convert it to a NumPy array first"
        raise DataError(f"{what}: {how}.") from error
    if array.dtype.kind not in "buif":
        what = f"{name} has values of type {array.dtype}, but real numbers are needed"
        raise DataError(f"{what}: convert them with .astype('float32').")
    return array


def _converted(value):
    """A NumPy array; an object that is only a sequence, such as Sequences, has no axes to rely on and is no array."""
    if isinstance(value, list | tuple | Number) or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(memoryview(value))


def _is_masked(value):
    if isinstance(value, list | tuple):
        return any(_is_masked(part) for part in value if isinstance(part, list | tuple | np.ma.MaskedArray))
    return isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value)


def _on_device(value):
    return isinstance(value, StrictArray) or type(value).__module__.partition(".")[0] == "cupy"


@contextmanager
def device_memory(backend):
    """Context: running out of memory is a BackendError, and the end gives back the memory that is not in use.

    Does nothing within another such context, so that the evaluation after each epoch does not empty the pools.
    """
    if backend.name == "numpy" or _within.get():
        yield
        return
    token = _within.set(True)
    try:
        yield
    except (TinyvrnnError, MemoryError, KeyboardInterrupt) as error:
        clear_frames(error.__traceback__)  # a notebook keeps the exception, and with it the arrays of its frames
        if isinstance(error, MemoryError):
            raise BackendError(out_of_memory(error)) from error
        raise
    finally:
        _within.reset(token)
        free_pools(backend)


def free_pools(backend):
    """Give back the memory that CuPy keeps for new arrays, on the device and on the host."""
    if backend.name == "cupy":
        backend.xp.get_default_memory_pool().free_all_blocks()
        backend.xp.get_default_pinned_memory_pool().free_all_blocks()


def free_memory(backend):
    """Free bytes on the device."""
    return backend.xp.cuda.runtime.memGetInfo()[0] if backend.name == "cupy" else STRICT_FREE


def warn_of_slow_float64(backend):
    """Warn the caller's caller if the device computes far faster in float32 than in float64, and says so."""
    times = 1
    with suppress(Exception):  # NumPy and strict have no cuda, and CuPy raises its own classes
        times = backend.xp.cuda.Device().attributes["SingleToDoublePrecisionPerfRatio"]
    if times >= 16:  # a GPU of a data centre has 2, most others 32 or 64
        what = f"float64 takes up to {times} times as long as float32 on this GPU"
        warnings.warn(f"{what}: train a model of dtype float32 (--dtype float32)", stacklevel=3)
