"""cupy.ElementwiseKernel for machines without a device: the same arguments, compiled for the CPU.

CUDA's functions (exp, log1p, tanh, sqrt ...) become those of <cmath>, which are overloaded for float as CUDA's are.
Arrays are NumPy's.
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tinyvrnn.arrays.backend import Backend

COMPILER = shutil.which("g++") or shutil.which("clang++")
compiled = pytest.mark.skipif(COMPILER is None, reason="needs g++ or clang++, to compile the operations with")
empty = np.empty
DEVICE = Backend("cupy", sys.modules[__name__], None, None)  # as far as kernels see
SOURCE = """
#include <cmath>
#include <cstdint>
#define __device__
using namespace std;
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {{ return (unsigned __int128)a * b >> 64; }}
{preamble}
template <typename T> void run(int64_t size, void **arrays) {{
    for (int64_t i = 0; i < size; ++i) {{
        {declarations}
        {operation};
    }}
}}
extern "C" void run_float32(int64_t size, void **arrays) {{ run<float>(size, arrays); }}
extern "C" void run_float64(int64_t size, void **arrays) {{ run<double>(size, arrays); }}
"""


def library(source):
    """The compiled source, without contraction of a * b + c and with NumPy's rounding."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cpp"
        path.write_text(source, encoding="utf-8")
        command = [COMPILER, "-O1", "-ffp-contract=off", "-fPIC", "-shared", str(path), "-o", str(path) + ".so"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(path) + ".so")


class ElementwiseKernel:
    """`kernel(*inputs)` returns new outputs; `kernel(*inputs, *outputs)` writes into given ones, and may read them."""

    def __init__(self, in_params, out_params, operation, name, preamble=""):
        self.inputs, self.outputs = in_params.split(", "), out_params.split(", ")
        declared = []
        for k, parameter in enumerate(self.inputs + self.outputs):
            kind, variable = parameter.replace("uint64", "uint64_t").split()
            const = "const " * (k < len(self.inputs))
            declared.append(f"{const}{kind} &{variable} = (({const}{kind} *)arrays[{k}])[i];")
        source = SOURCE.format(preamble=preamble, declarations="\n        ".join(declared), operation=operation)
        self.library, self.name = library(source), name

    def __call__(self, *arrays):
        inputs, given = arrays[: len(self.inputs)], arrays[len(self.inputs) :]
        (dtype,) = {a.dtype for a in arrays if isinstance(a, np.ndarray)}  # as in CuPy, one T for all
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        results = given or tuple(np.empty(shape, dtype) for _ in self.outputs)
        assert all(a.shape == shape for a in results), f"{self.name}: an output does not have the shape {shape}"
        dtypes = [np.uint64 if "uint64" in parameter else dtype for parameter in self.inputs + self.outputs]
        flat = [np.array(np.broadcast_to(a, shape), d, order="C") for a, d in zip((*inputs, *results), dtypes)]
        pointers = (ctypes.c_void_p * len(flat))(*(a.ctypes.data for a in flat))
        getattr(self.library, f"run_{dtype}")(ctypes.c_int64(flat[-1].size), pointers)
        for result, values in zip(results, flat[len(inputs) :]):
            result[...] = values
        return results[0] if len(results) == 1 else results
