"""Random numbers by address: (seed, stream, step) identifies a block of noise, so repeating it needs no saved state.

The counter-based generator Philox (Salmon et al., 2011) is a pure function of a key, the run's seed and the purpose of
the numbers, and a counter, whose high word is the step. So a resumed run, or a rank with some columns of a batch, draws
the same noise as an uninterrupted run, and a device generates all numbers in one kernel, the same as NumPy.
"""

from __future__ import annotations

import zlib
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from tinyvrnn.arrays.backend import Array, Backend, get_backend
from tinyvrnn.arrays.cpu import check_memory
from tinyvrnn.arrays.ranks import columns, pieces
from tinyvrnn.arrays.strict import counted_as_one_launch
from tinyvrnn.errors import check_whole

# Philox 4x64 with 10 rounds; as in NumPy, the counter is incremented before each block of four words
PREAMBLE = """
typedef unsigned long long word;
struct Words { word of[4]; };

__device__ Words philox(word block, word step, word seed, word stream) {
    const word m_0 = 0xD2E7470EE14C6C93ULL, m_1 = 0xCA5A826395121157ULL;
    Words c = {{block + 1, 0, 0, step}};
    for (int round = 0; round < 10; ++round) {
        word high_0 = __umul64hi(m_0, c.of[0]), high_1 = __umul64hi(m_1, c.of[2]);
        c = {{high_1 ^ c.of[1] ^ seed, m_1 * c.of[2], high_0 ^ c.of[3] ^ stream, m_0 * c.of[0]}};
        seed += 0x9E3779B97F4A7C15ULL;
        stream += 0xBB67AE8584CAA73BULL;
    }
    return c;
}
"""


def generator(seed, stream, step=0):
    """A NumPy Generator, on the host, at the start of block `step` of the named stream.

    seed: int >= 0, the run's seed. stream: str, the purpose of the numbers ("train", "shuffle", ...). step: int >= 0.
    Raises ConfigError for an invalid seed.
    """
    return np.random.Generator(philox(key_of(seed, stream), step))


def standard_normal(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    seed: int,
    stream: str,
    step: int = 0,
    backend: Backend | None = None,
    first: int = 0,
) -> Array:
    """eps ~ N(0, I), identified by (seed, stream, step); two numbers from each word of Philox.

        word = word_1 + 2**32 word_2,   u_1 = (word_1 + 1/2) / 2**32,   u_2 = word_2 / 2**32
        eps_2k = sqrt(-2 log u_1) cos(2 pi u_2),   eps_2k+1 = sqrt(-2 log u_1) sin(2 pi u_2)

    In a time-major shape (T, B, Z) the noise of the first steps does not depend on T. The numbers are the same on all
    backends up to rounding, and float32 agrees with float64 to 3e-4, since u_1 near 1 has few digits.

    Parameters
    ----------
    shape, dtype : tuple of int, "float32" or "float64"
        Of the result.
    seed : int
        0 to 2**64 - 1, the run's seed.
    stream : str
        Purpose of the numbers ("train", "evaluate", ...); two streams are independent.
    step : int
        Block of the stream, at least 0.
    backend : Backend, optional
        Where to generate them; None: NumPy.
    first : int
        Skip this many numbers.

    Returns
    -------
    array of `shape`
        The same for the same arguments.

    Raises
    ------
    ConfigError
        The seed is invalid.

    References
    ----------
    Box and Muller, 1958; Philox: Salmon et al., 2011.
    """
    return NORMAL.draw(shape, dtype, key_of(seed, stream), step, first, backend)


def uniform(shape, dtype, seed, stream, step=0, backend=None, first=0):
    """u in [0, 1): `generator(seed, stream, step).random(shape)` on `backend`. In float32, u may round to 1."""
    return UNIFORM.draw(shape, dtype, key_of(seed, stream), step, first, backend)


def key_of(seed, stream):
    """The key of Philox, two words."""
    check_whole("seed", seed, 0, bits=64)
    return np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)


def philox(key, step, block=0):
    """NumPy's bit generator at the start of a block of four words."""
    return np.random.Philox(key=key, counter=np.array([block, 0, 0, step], dtype=np.uint64))


class Draw(NamedTuple):
    """A way to make numbers out of words."""

    name: str  # of the kernel
    operation: str  # C++ for the number `first + i`
    twin: object  # (out, key, step, first) -> None, fills `out`

    def draw(self, shape, dtype, key, step, first, backend):
        backend = get_backend("numpy") if backend is None else backend
        check_memory(prod(shape), dtype, f"Random numbers of shape {tuple(shape)}")
        out = backend.xp.empty(shape, dtype=dtype)
        for piece, start in pieces(out, first, *columns.get()) if columns.get() and out.size else [(out, first)]:
            if backend.name == "cupy":
                kernel_of(self, backend.xp)(*key, np.uint64(step), np.uint64(start), piece)
            else:
                counted_as_one_launch(lambda a, start=start: self.twin(a, key, step, start))(piece)
        return out


@cache
def kernel_of(draw, xp):
    """CuPy's kernel, which is compiled on its first call."""
    parameters = ", ".join(f"uint64 {name}" for name in ("seed", "stream", "step", "first"))
    return xp.ElementwiseKernel(parameters, "T out", draw.operation, f"tinyvrnn_{draw.name}", preamble=PREAMBLE)


def _normal(out, key, step, first):
    block, start = divmod(first, 8)
    words = philox(key, step, block).random_raw((start + out.size + 1) // 2)
    pairs = words.astype("<u8").view("<u4").reshape(len(words), 2).astype(out.dtype)  # word_1, word_2
    r, angle = np.sqrt(-2 * np.log((pairs[:, 0] + 0.5) * 2**-32)), pairs[:, 1] * (2 * np.pi * 2**-32)
    pairs[:, 0], pairs[:, 1] = r * np.cos(angle), r * np.sin(angle)
    out[...] = pairs.ravel()[start : start + out.size].reshape(out.shape)


def _uniform(out, key, step, first):
    block, start = divmod(first, 4)
    numbers = np.random.Generator(philox(key, step, block)).random(start + out.size)
    out[...] = numbers[start:].reshape(out.shape)


NORMAL = Draw(
    "normal",
    """
    word number = first + i, both = philox(number / 8, step, seed, stream).of[number / 2 % 4];
    T u_1 = (T(unsigned(both)) + T(0.5)) * T(1 / 4294967296.0);
    T angle = T(unsigned(both >> 32)) * T(6.283185307179586 / 4294967296.0);
    out = sqrt(-2 * log(u_1)) * (number % 2 ? sin(angle) : cos(angle))
    """,
    _normal,
)
UNIFORM = Draw(
    "uniform",
    """
    word number = first + i;
    out = T(philox(number / 4, step, seed, stream).of[number % 4] >> 11) * T(1 / 9007199254740992.0)
    """,
    _uniform,
)
