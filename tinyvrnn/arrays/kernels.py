"""Elementwise functions that a device runs as one kernel: its C++ in the decorator, NumPy's way of it in the body.

    @fused("y dy", "da", "da = dy * (y > 0);")
    def relu_backward(y, dy, out=None):
        return np.multiply(dy, y > 0, out=out)

The decorator names the inputs, the outputs, and the operation on one element of each. NumPy arrays go to the function
as it is written. CuPy's go to one `ElementwiseKernel`, since on a device it is the number of launches that counts
(docs/decisions.md). On strict the function runs inside and counts as one launch. `tests/test_kernels.py` compiles
each operation and compares it with the function.

Arrays broadcast, and all have one dtype, T. Inputs are read before outputs are written, so that an output may lie where
an input does; what an output held may be read. `ru[r u]` is an array whose columns are blocks: the operation is given
each as a view, `ru_r` and `ru_u`. An input that is None counts as 0. Outputs without blocks may be left out, all of
them: then they are new. A function may use its inputs as room for its work, where its docstring says so.
"""

import re
from functools import cache, wraps
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import backend_of
from tinyvrnn.arrays.strict import StrictArray, one_launch

KERNELS = {}  # name -> Kernel

# functions that operations may call, beside CUDA's own; NaN stays NaN in both, as in NumPy
PREAMBLE = """
template <typename T> __device__ T sigmoid(T a) { return (1 + tanh(a / 2)) / 2; }
template <typename T> __device__ T softplus(T a) { T y = log1p(exp(a > 40 ? 40 : a)); return y < a ? a : y; }
"""


class Kernel(NamedTuple):
    """A fused function, taken apart."""

    name: str
    inputs: tuple  # for each argument the names that the operation has for its blocks: (("a_r", "a_u"), ("h",))
    outputs: tuple
    operation: str  # C++
    twin: object  # the same for NumPy arrays


def fused(inputs, outputs, operation):
    """Decorator of an elementwise function of `inputs`, `outputs` (names, as above; in the order of its arguments)."""

    def decorate(twin):
        kernel = KERNELS[twin.__name__] = Kernel(twin.__name__, named(inputs), named(outputs), operation, twin)

        @wraps(twin)
        def call(*arrays, **out):
            if type(arrays[0]) is np.ndarray:
                return twin(*arrays, **out)
            return launch(kernel, backend_of(arrays[0]), arrays, out)

        return call

    return decorate


def named(names):
    """ "ru[r u] h" -> (("ru_r", "ru_u"), ("h",))."""
    found = re.findall(r"(\w+)(?:\[(.*?)\])?", names)
    return tuple(tuple(f"{name}_{block}" for block in blocks.split()) or (name,) for name, blocks in found)


def launch(kernel, backend, arrays, out):
    """Calls the kernel on a device, the function elsewhere; `out` are outputs that are given by name."""
    if backend.name == "numpy":  # a subclass or a scalar
        return kernel.twin(*arrays, **out)
    arrays = (*arrays, *(a for a in out.values() if a is not None))
    if backend.name == "strict":
        result = on_strict(kernel, arrays)
    else:
        result = elementwise_kernel(kernel.name, backend.xp)(*blocks_of(kernel, arrays))
    given = arrays[len(kernel.inputs) :]
    return result if not given else given[0] if len(given) == 1 else given


def on_strict(kernel, arrays):
    """The function of the host arrays inside, as one launch; it refuses dtypes that differ, as CuPy does."""
    dtypes = {str(a.dtype) for a in arrays if isinstance(a, StrictArray)}
    if len(dtypes) > 1:
        raise TypeError(f"Type is mismatched in {kernel.name}: T is {' and '.join(sorted(dtypes))}.")
    return one_launch(kernel.twin)(*arrays)


@cache
def elementwise_kernel(name, xp):
    """CuPy's kernel, which compiles itself when it is called for the first time."""
    kernel = KERNELS[name]
    inputs, outputs = (
        ", ".join(f"T {block}" for blocks in names for block in blocks) for names in (kernel.inputs, kernel.outputs)
    )
    return xp.ElementwiseKernel(inputs, outputs, kernel.operation, f"tinyvrnn_{name}", preamble=PREAMBLE)


def blocks_of(kernel, arrays):
    """Each array's blocks of columns as views, in a row; None is 0."""
    for array, names in zip(arrays, kernel.inputs + kernel.outputs):
        if array is None or len(names) == 1:
            yield from [0 if array is None else array] * len(names)
        else:
            width = array.shape[-1] // len(names)
            yield from (array[..., k * width : (k + 1) * width] for k in range(len(names)))
