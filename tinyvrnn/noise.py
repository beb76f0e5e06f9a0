"""Random numbers by address: (seed, stream, step) names a block of noise, so nothing is remembered to repeat it.

The counter-based generator Philox (Salmon et al., 2011) is a pure function of a key and a counter. Keyed by the run's
seed and the purpose of the numbers, with the step in the counter's high word, it gives every step 2**192 words of its
own: a resumed run, another backend and a shard of a batch all see the noise that the whole run would have seen.

What a step of training draws is made of these words where the model is: each number depends on its place alone, so a
device makes all of them at once, in one kernel, and NumPy makes the same.
"""

import zlib
from functools import cache
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyvrnn.backend import get_backend, one_launch
from tinyvrnn.errors import ConfigError

# Philox 4x64 of 10 rounds, with the counter as NumPy has it: it is counted on before a block of four words is made
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
    """A NumPy Generator, on the host, that stands at the start of block `step` of the named stream.

    seed: int >= 0, the run's seed. stream: str, what the numbers are for ("train", "shuffle", ...). step: int >= 0.
    Raises ConfigError for a seed that is no such number.
    """
    return np.random.Generator(philox(key_of(seed, stream), step))


def standard_normal(shape, dtype, seed, stream, step=0, backend=None, first=0):
    """eps ~ N(0, I) on `backend` (None: NumPy), two numbers of each word (Box and Muller, 1958):

        word = word_1 + 2**32 word_2,   u_1 = (word_1 + 1/2) / 2**32,   u_2 = word_2 / 2**32
        eps_2k = sqrt(-2 log u_1) cos(2 pi u_2),   eps_2k+1 = sqrt(-2 log u_1) sin(2 pi u_2)

    Address as in `generator`; first: how many numbers of it are left out. A time-major shape (T, B, Z) keeps the noise
    of its first steps when T grows. Each backend and dtype has the same numbers, to rounding. Raises as `generator`.
    """
    return NORMAL.made(shape, dtype, key_of(seed, stream), step, first, backend=backend)


def uniform(shape, dtype, seed, stream, step=0, backend=None):
    """u in [0, 1) on `backend`: `generator(seed, stream, step).random(shape)`, in float64 to the last bit."""
    return UNIFORM.made(shape, dtype, key_of(seed, stream), step, backend=backend)


def key_of(seed, stream):
    """Philox's key, two words. Raises ConfigError for a seed that is no whole number from 0 to 2**64 - 1."""
    if not (isinstance(seed, Integral) and 0 <= seed < 2**64):
        raise ConfigError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}.")
    return np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)


def philox(key, step, block=0):
    """NumPy's generator of words, at the start of a block of four of them."""
    return np.random.Philox(key=key, counter=[block, 0, 0, step])


class Draw(NamedTuple):
    """Numbers made of words: by a device's kernel, and by a function of (array, key, step ...) that fills the array."""

    name: str
    address: str  # the kernel's first arguments, which say where the words are
    operation: str  # C++, of the number i
    twin: object

    def made(self, shape, dtype, key, *place, backend):
        backend = backend or get_backend("numpy")
        made = backend.xp.empty(shape, dtype=dtype)
        if backend.name == "cupy":
            return kernel_of(self, backend.xp)(*key, *map(np.uint64, place), made)
        one_launch(lambda a: self.twin(a, key, *place))(made)
        return made


@cache
def kernel_of(draw, xp):
    """CuPy's kernel, which compiles itself when it is called for the first time."""
    return xp.ElementwiseKernel(draw.address, "T made", draw.operation, f"tinyvrnn_{draw.name}", preamble=PREAMBLE)


def _normal(made, key, step, first):
    block, start = divmod(first, 8)
    words = philox(key, step, block).random_raw((start + made.size + 1) // 2)
    word_1, word_2 = (half.astype(np.uint32).astype(made.dtype) for half in (words, words >> 32))
    r, angle = np.sqrt(-2 * np.log((word_1 + 0.5) * 2**-32)), word_2 * (2 * np.pi * 2**-32)
    pairs = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
    made[...] = pairs.reshape(-1)[start : start + made.size].reshape(made.shape)


def _uniform(made, key, step):
    made[...] = np.random.Generator(philox(key, step)).random(made.shape)


NORMAL = Draw(
    "normal",
    "uint64 seed, uint64 stream, uint64 step, uint64 first",
    """
    word number = first + i, both = philox(number / 8, step, seed, stream).of[number / 2 % 4];
    T u_1 = (T(unsigned(both)) + T(0.5)) * T(1 / 4294967296.0);
    T angle = T(unsigned(both >> 32)) * T(6.283185307179586 / 4294967296.0);
    made = sqrt(-2 * log(u_1)) * (number % 2 ? sin(angle) : cos(angle))
    """,
    _normal,
)
UNIFORM = Draw(
    "uniform",
    "uint64 seed, uint64 stream, uint64 step",
    "made = T(philox(i / 4, step, seed, stream).of[i % 4] >> 11) * T(1 / 9007199254740992.0)",
    _uniform,
)
