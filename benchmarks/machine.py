"""The machine and the library versions of a measurement."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import tinyvrnn
from tinyvrnn.arrays.backend import get_backend
from tinyvrnn.arrays.cpu import available_cores

# set before any library loads CUDA: cuBLAS and cuDNN compute true float32 products, and JAX takes memory as it needs it
os.environ |= {"NVIDIA_TF32_OVERRIDE": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def describe(backend="numpy"):
    """{"CPU": ..., "cores": ..., versions}: plain values, for the head of the table and for JSON."""
    return (gpu(get_backend(backend).xp) if backend == "cupy" else {}) | {
        "CPU": cpu_model(),
        "cores": available_cores(),
        "load before": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "tinyvrnn": tinyvrnn.__version__,
        "NumPy": np.__version__,
        "BLAS of NumPy": blas(),
        "PyTorch": package_version("torch"),
        "JAX": package_version("jax"),
        "dtype": "float32",
    }


def cpu_model():
    """The model name of the CPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu(cupy):
    """{"GPU": ..., versions} of the device that all libraries use, from CuPy."""
    if is_double(cupy):
        return {"GPU": "test double", "CuPy": "test double"}
    runtime = cupy.cuda.runtime
    return {
        "GPU": runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode(),
        "CuPy": cupy.__version__,
        "CUDA of CuPy": str(runtime.runtimeGetVersion()),
        "newest CUDA of the driver": str(runtime.driverGetVersion()),
    }


def is_double(cupy):
    """Whether this is the tests' double of CuPy, which computes on the CPU."""
    return getattr(cupy, "is_test_double", False)


def peer_device(backend):
    """Where the peers of a tinyvrnn on `backend` run: "cuda", or "cpu"; a GPU is never compared with a CPU."""
    return "cuda" if backend == "cupy" and not is_double(get_backend(backend).xp) else "cpu"


def load():
    """The load average of the last minute. Measurements need it to be nearly zero."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def blas():
    """Name and version of the libraries that multiply NumPy's matrices."""
    found = [f"{info['internal_api']} {info['version']}" for info in threadpool_info() if info["user_api"] == "blas"]
    return ", ".join(found) or "unknown"


def package_version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
