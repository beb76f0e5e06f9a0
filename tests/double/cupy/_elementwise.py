"""cupy.ElementwiseKernel of the test double: the operation compiled for the CPU, for float32 and float64.

CUDA's functions (exp, log1p, tanh, sqrt ...) become those of <cmath>, which are overloaded for float as CUDA's are.
Compiled kernels are kept in the folder of temporary files.
"""

import ctypes
import getpass
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ._arrays import host_of, launches, ndarray, same_view

COMPILER = shutil.which("g++") or shutil.which("clang++")
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


class ElementwiseKernel:
    """`kernel(*inputs)` returns new outputs; `kernel(*inputs, *outputs)` writes into given ones, and may read them."""

    def __init__(self, in_params, out_params, operation, name="kernel", preamble=""):
        self.inputs, self.outputs = in_params.split(", "), out_params.split(", ")
        self.name, self.operation, self.preamble = name, operation, preamble
        self._library = None

    @property
    def library(self):
        """Compiled on the first call, as a GPU's kernels are."""
        if self._library is None:
            self._library = ctypes.CDLL(str(compiled(self.source())))
        return self._library

    def source(self):
        declared = []
        for k, parameter in enumerate(self.inputs + self.outputs):
            kind, variable = parameter.replace("uint64", "uint64_t").split()
            const = "const " * (k < len(self.inputs))
            declared.append(f"{const}{kind} &{variable} = (({const}{kind} *)arrays[{k}])[i];")
        declarations = "\n        ".join(declared)
        return SOURCE.format(preamble=self.preamble, declarations=declarations, operation=self.operation)

    def __call__(self, *arrays):
        hosts = host_of(arrays)
        inputs, given = hosts[: len(self.inputs)], hosts[len(self.inputs) :]
        dtype = self._dtype(hosts)
        shape = np.broadcast_shapes(*map(np.shape, inputs)) if inputs and not given else given[0].shape
        results = given or tuple(np.empty(shape, dtype) for _ in self.outputs)
        self._check(inputs, results, shape)
        self._run(inputs, results, shape, dtype)
        launches.total += 1
        made = arrays[len(self.inputs) :] or tuple(map(ndarray, results))
        return made[0] if len(made) == 1 else made

    def _dtype(self, hosts):
        """The one T of all arrays."""
        dtypes = {str(a.dtype) for a in hosts if isinstance(a, np.ndarray)}
        if len(dtypes) != 1:
            raise TypeError(f"Type is mismatched. {self.name}: T is {' and '.join(sorted(dtypes))}")
        return dtypes.pop()

    def _check(self, inputs, results, shape):
        """Refuse outputs of another shape, and inputs whose elements other threads could overwrite first."""
        for result in results:
            if result.shape != np.broadcast_shapes(shape, *map(np.shape, inputs)):
                raise ValueError(f"{self.name}: Out shape is mismatched")
            for a in inputs:
                if isinstance(a, np.ndarray) and not same_view(a, result) and np.shares_memory(a, result):
                    raise ValueError(f"{self.name}: an input overlaps an output, so that threads race")

    def _run(self, inputs, results, shape, dtype):
        """Run on contiguous copies; an input that is also an output shares its copy, as both share memory on a GPU."""
        outputs = [np.array(result, order="C") for result in results]
        flat = []
        for parameter, a in zip(self.inputs, inputs):
            aliases = [out for result, out in zip(results, outputs) if same_view(a, result)]
            kind = np.uint64 if "uint64" in parameter else dtype
            flat += aliases[:1] or [np.array(np.broadcast_to(a, shape), kind, order="C")]
        flat += outputs
        pointers = (ctypes.c_void_p * len(flat))(*(a.ctypes.data for a in flat))
        getattr(self.library, f"run_{dtype}")(ctypes.c_int64(outputs[0].size), pointers)
        for result, values in zip(results, outputs):
            result[...] = values


def compiled(source):
    """The path of the compiled source, without contraction of a * b + c and with NumPy's rounding."""
    folder = Path(tempfile.gettempdir()) / f"tinyvrnn-kernels-{getpass.getuser()}"
    path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.so"
    if not path.exists():
        if COMPILER is None:
            raise RuntimeError("The test double of CuPy compiles its kernels: install g++ or clang++.")
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            code, made = Path(own, "kernel.cpp"), Path(own, "kernel.so")
            code.write_text(source, encoding="utf-8")
            command = [COMPILER, "-O1", "-ffp-contract=off", "-fPIC", "-shared", str(code), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"The operation does not compile:\n{done.stderr}")
            os.replace(made, path)
    return path
