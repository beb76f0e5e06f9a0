"""Random numbers by address: (seed, stream, step) names a block of noise, so nothing is remembered to repeat it.

The counter-based generator Philox (Salmon et al., 2011) is a pure function of a key and a counter. Keyed by the run's
seed and the purpose of the numbers, with the step in the counter's high word, it gives every step 2**192 numbers of its
own: a resumed run, another backend and a shard of a batch all see the noise that the whole run would have seen.
"""

import zlib
from numbers import Integral

import numpy as np

from tinyvrnn.errors import ConfigError


def generator(seed, stream, step=0):
    """A NumPy Generator that stands at the start of block `step` of the named stream.

    seed: int >= 0, the run's seed. stream: str, what the numbers are for ("train", "shuffle", ...). step: int >= 0.
    Raises ConfigError for a seed that is no such number.
    """
    if not (isinstance(seed, Integral) and 0 <= seed < 2**64):
        raise ConfigError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}.")
    key = np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step]))


def standard_normal(shape, dtype, seed, stream, step=0):
    """eps ~ N(0, I) on the host. A time-major shape (T, B, Z) keeps the noise of its first steps when T grows."""
    return generator(seed, stream, step).standard_normal(shape, dtype=dtype)
