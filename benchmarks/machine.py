"""The machine and the library versions of a measurement."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import tinyvrnn
from tinyvrnn.arrays.cpu import available_cores


def describe():
    """{"CPU": ..., "cores": ..., versions}: plain values, for the head of the table and for JSON."""
    return {
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
    """{"GPU": ..., versions} of the device that CuPy and PyTorch use, from CuPy."""
    runtime = cupy.cuda.runtime
    return {
        "GPU": runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode(),
        "CuPy": cupy.__version__,
        "CUDA of CuPy": str(runtime.runtimeGetVersion()),
    }


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
