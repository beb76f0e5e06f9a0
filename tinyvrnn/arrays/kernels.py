"""Elementwise functions that a device runs as one kernel: the C++ in the decorator, the NumPy code in the body.

    @fused("y dy", "da", "da = dy * (y > 0);")
    def relu_backward(y, dy, out=None):
        return np.multiply(dy, y > 0, out=out)

The decorator names the inputs, the outputs, and the operation on one element of each. With NumPy arrays the function
runs as written. With CuPy's it becomes one `ElementwiseKernel`, since on a device the number of launches dominates
(docs/decisions.md). On strict the function runs on the host arrays and counts as one launch. `tests/test_kernels.py`
compiles each operation and compares it with the function.

Arrays broadcast and share one dtype, T. An output may be one of the inputs, in the same order of elements, if the
operation does not read that input after it has written the output; it may read an output's old value. `ru[r u]` is an
array whose columns are blocks; the operation gets them as views `ru_r` and `ru_u`. An input of None counts as 0.
Outputs without blocks may be omitted, all together: then they are allocated. A function may use its inputs as scratch
space if its docstring says so.
"""

import re
from functools import cache, wraps
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import backend_of
from tinyvrnn.arrays.strict import StrictArray, counted_as_one_launch

KERNELS: dict[str, "Kernel"] = {}

# functions that operations may call in addition to CUDA's; both propagate NaN, as NumPy does
PREAMBLE = """
template <typename T> __device__ T sigmoid(T a) { return (1 + tanh(a / 2)) / 2; }
template <typename T> __device__ T softplus(T a) { T y = log1p(exp(a > 40 ? 40 : a)); return y < a ? a : y; }
"""


class Kernel(NamedTuple):
    """The parts of a fused function."""

    name: str
    inputs: tuple  # for each argument, the operation's names of its blocks: (("a_r", "a_u"), ("h",))
    outputs: tuple
    operation: str  # C++
    twin: object  # the function for NumPy arrays


def fused(inputs, outputs, operation):
    """Decorator for an elementwise function; `inputs` and `outputs` name its arguments in order, as above."""

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
    matches = re.findall(r"(\w+)(?:\[(.*?)\])?", names)
    return tuple(tuple(f"{name}_{block}" for block in blocks.split()) or (name,) for name, blocks in matches)


def launch(kernel, backend, arrays, out):
    """Call the kernel on a device, the function elsewhere. out: outputs passed by name."""
    if backend.name == "numpy":  # a subclass or a scalar
        return kernel.twin(*arrays, **out)
    arrays = (*arrays, *(a for a in out.values() if a is not None))
    if backend.name == "strict":
        dtypes = {str(a.dtype) for a in arrays if isinstance(a, StrictArray)}
        if len(dtypes) > 1:  # CuPy refuses them too
            raise TypeError(f"Type is mismatched in {kernel.name}: T is {' and '.join(sorted(dtypes))}.")
        result = counted_as_one_launch(kernel.twin)(*arrays)
    else:
        result = elementwise_kernel(kernel.name, backend.xp)(*blocks_of(kernel, arrays))
    outputs = arrays[len(kernel.inputs) :]
    return result if not outputs else outputs[0] if len(outputs) == 1 else outputs


@cache
def elementwise_kernel(name, xp):
    """CuPy's kernel, which is compiled on its first call."""
    kernel = KERNELS[name]
    inputs, outputs = (
        ", ".join(f"T {block}" for blocks in names for block in blocks) for names in (kernel.inputs, kernel.outputs)
    )
    return xp.ElementwiseKernel(inputs, outputs, kernel.operation, f"tinyvrnn_{name}", preamble=PREAMBLE)


def blocks_of(kernel, arrays):
    """Views of the blocks of all arrays, one after another; 0 for each block of None."""
    for array, names in zip(arrays, kernel.inputs + kernel.outputs):
        if array is None or len(names) == 1:
            yield from [0 if array is None else array] * len(names)
        else:
            width = array.shape[-1] // len(names)
            yield from (array[..., k * width : (k + 1) * width] for k in range(len(names)))
