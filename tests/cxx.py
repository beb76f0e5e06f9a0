"""cupy.ElementwiseKernel for machines without a device: the same arguments, compiled for the processor.

CUDA's functions (exp, log1p, tanh, sqrt ...) are those of <cmath>, which are overloaded for float as CUDA's are.
Arrays are NumPy's.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

COMPILER = shutil.which("g++") or shutil.which("clang++")
SOURCE = """
#include <cmath>
#include <cstdint>
#define __device__
using namespace std;
{preamble}
template <typename T> void run(int64_t size, T **arrays) {{
    for (int64_t i = 0; i < size; ++i) {{
        {declarations}
        {operation};
    }}
}}
extern "C" void run_float32(int64_t size, float **arrays) {{ run<float>(size, arrays); }}
extern "C" void run_float64(int64_t size, double **arrays) {{ run<double>(size, arrays); }}
"""


def library(source):
    """The source, compiled: without contraction of a * b + c, and with the rounding that NumPy has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cpp"
        path.write_text(source, encoding="utf-8")
        command = [COMPILER, "-O1", "-ffp-contract=off", "-fPIC", "-shared", str(path), "-o", str(path) + ".so"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(path) + ".so")


class ElementwiseKernel:
    """`kernel(*inputs)` gives new outputs; `kernel(*inputs, *outputs)` writes into given ones, and may read them."""

    def __init__(self, in_params, out_params, operation, name, preamble=""):
        self.inputs, self.outputs = in_params.split(", "), out_params.split(", ")
        declared = [f"const {p} = arrays[{k}][i];" for k, p in enumerate(self.inputs)]
        first, outputs = len(self.inputs), [p.replace("T ", "T &") for p in self.outputs]
        declared += [f"{p} = arrays[{first + k}][i];" for k, p in enumerate(outputs)]
        source = SOURCE.format(preamble=preamble, declarations="\n        ".join(declared), operation=operation)
        self.library, self.name = library(source), name

    def __call__(self, *arrays):
        inputs, given = arrays[: len(self.inputs)], arrays[len(self.inputs) :]
        (dtype,) = {a.dtype for a in arrays if isinstance(a, np.ndarray)}  # CuPy has one T for all, too
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        results = given or tuple(np.empty(shape, dtype) for _ in self.outputs)
        assert all(a.shape == shape for a in results), f"{self.name}: an output does not have the shape {shape}"
        flat = [np.array(np.broadcast_to(a, shape), dtype=dtype, order="C") for a in (*inputs, *results)]
        pointers = (ctypes.c_void_p * len(flat))(*(a.ctypes.data for a in flat))
        getattr(self.library, f"run_{dtype}")(ctypes.c_int64(flat[-1].size), pointers)
        for result, values in zip(results, flat[len(inputs) :]):
            result[...] = values
        return results[0] if len(results) == 1 else results
