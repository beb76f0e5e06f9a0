"""Noise from counters: Philox and the formulas on its words, in NumPy and in a device's kernel.

Catches: a constant, a round or a word of Philox that differs from the published one, words used twice, numbers that are
not normal or not independent, an offset that starts elsewhere, noise that is transferred to a device, a kernel that
makes other numbers than NumPy, and another stream, step or seed with the same noise.
"""

import itertools
import math
import statistics
import zlib

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays import noise, ranks
from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.arrays.strict import StrictArray, launches, transfers
from tinyvrnn.models.batch import Batch
from tinyvrnn.training import loop
from tinyvrnn.training.options import Options

WORD = 2**64
DTYPES = {"float64": 1e-14, "float32": 4e-6}  # dtype: allowed difference of two right answers


# ---- by hand, in Python's whole numbers ----------------------------------------------------------


def philox_by_hand(counter, key):
    """Philox 4x64 of ten rounds, after table 2 and section 3.3 of Salmon et al., 2011."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high_0, low_0 = divmod(0xD2E7470EE14C6C93 * c0, WORD)
        high_1, low_1 = divmod(0xCA5A826395121157 * c2, WORD)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % WORD, (k1 + 0xBB67AE8584CAA73B) % WORD
    return c0, c1, c2, c3


def words_by_hand(count, seed, stream, step, first=0):
    key = [seed, zlib.crc32(stream.encode())]
    blocks = (philox_by_hand((block + 1, 0, 0, step), key) for block in itertools.count(first // 4))
    return list(itertools.islice(itertools.chain.from_iterable(blocks), first % 4, first % 4 + count))


def normal_of(words):
    for word in words:
        u_1, u_2 = (word % 2**32 + 0.5) / 2**32, (word >> 32) / 2**32
        r = math.sqrt(-2 * math.log(u_1))
        yield from (r * math.cos(2 * math.pi * u_2), r * math.sin(2 * math.pi * u_2))


def test_philox_by_hand_has_the_published_answers():
    """The known answers that come with Random123, the authors' own code: all bits 0, and all bits 1."""
    zeros = philox_by_hand((0, 0, 0, 0), (0, 0))
    assert zeros == (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    ones = philox_by_hand([WORD - 1] * 4, [WORD - 1] * 2)
    assert ones == (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)


ADDRESSES = [(0, "train", 0), (7, "sample z", 3), (2**64 - 1, "evaluate", 2**63 + 1), (1, "prime", 2**64 - 1)]
FAR = 2**33 + 3  # numbers of one address: more than a count of 32 bits holds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("address", ADDRESSES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 100])
def test_normal_numbers_are_those_by_hand(count, address, dtype):
    found = noise.standard_normal((count,), dtype, *address)
    assert found.dtype == dtype
    by_hand = [*normal_of(words_by_hand((count + 1) // 2, *address))][:count]
    np.testing.assert_allclose(found, by_hand, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
def test_uniform_numbers_are_those_by_hand_and_of_the_generator(address):
    found = noise.uniform((3, 5), "float64", *address)
    assert found.ravel().tolist() == [(word >> 11) / 2**53 for word in words_by_hand(15, *address)]
    assert np.array_equal(found, noise.generator(*address).random((3, 5)))
    assert np.array_equal(noise.uniform((3, 5), "float32", *address), found.astype("float32"))


@pytest.mark.parametrize("first", [1, 2, 7, 8, 9, 30, 63])
def test_noise_from_a_number_on_is_the_rest_of_the_noise(first):
    for make, dtype in itertools.product((noise.standard_normal, noise.uniform), DTYPES):
        whole = make((100,), dtype, 5, "evaluate", 2)
        assert np.array_equal(make((100 - first,), dtype, 5, "evaluate", 2, first=first), whole[first:])


def test_noise_from_a_far_number_on_is_that_by_hand():
    words = words_by_hand(4, 5, "evaluate", 2, FAR)
    found = noise.uniform((4,), "float64", 5, "evaluate", 2, first=FAR)
    assert found.tolist() == [(word >> 11) / 2**53 for word in words]
    eps = noise.standard_normal((8,), "float64", 5, "evaluate", 2, first=2 * FAR)
    checks.assert_close(eps, np.array([*normal_of(words)]), 1e-14)


@pytest.mark.parametrize("kind", [int, np.uint64, np.int64])
def test_steps_count_as_whole_numbers_whatever_their_kind(kind):
    step = 2**53 + 1  # the first integer that float64 cannot represent
    expected = noise.uniform((5,), "float64", 0, "train", step)
    assert np.array_equal(noise.uniform((5,), "float64", 0, "train", kind(step)), expected)
    assert np.array_equal(noise.generator(0, "train", kind(step)).random(5), expected)
    assert not np.array_equal(noise.uniform((5,), "float64", 0, "train", step - 1), expected)


LARGEST, LEAST = math.sqrt(66 * math.log(2)), math.sqrt(2**-32)
EXTREMES = {  # a word: its first number in float64, and in float32; the second is 0
    0: (LARGEST, LARGEST),  # the smallest u_1
    2**63: (-LARGEST, -LARGEST),
    2**32 - 1: (LEAST, 0),  # the largest u_1, which is 1 in float32
    2**64 - 1: (LEAST, 0),
}


@pytest.mark.parametrize("word", EXTREMES)
def test_extreme_words_make_finite_numbers(word, monkeypatch):
    class Words:
        def random_raw(self, count):
            return np.full(count, word, dtype=np.uint64)

    monkeypatch.setattr(noise, "philox", lambda *place: Words())
    for dtype, expected in zip(("float64", "float32"), EXTREMES[word]):
        first, second = noise.standard_normal((2,), dtype, 0, "train")
        assert first == pytest.approx(expected, rel=1e-6, abs=0) and abs(second) < 2e-6


# ---- what they are for ---------------------------------------------------------------------------


def test_normal_numbers_have_the_distribution_and_are_independent():
    """Kolmogorov's distance at 1 in 1,000 (1.95 / sqrt n); correlations of neighbours and of their squares at 4 sd."""
    n, normal = 200_000, statistics.NormalDist()
    for dtype in DTYPES:
        eps = np.sort(drawn := noise.standard_normal((n,), dtype, 3, "train").astype("float64"))
        below = np.array([normal.cdf(e) for e in eps])
        assert max(abs(below - np.arange(n) / n).max(), abs(below - (np.arange(n) + 1) / n).max()) < 1.95 / math.sqrt(n)
        for f, lag in itertools.product((lambda e: e, np.square, np.abs), (1, 2, 8)):
            assert abs(np.corrcoef(f(drawn[:-lag]), f(drawn[lag:]))[0, 1]) < 4 / math.sqrt(n)
        assert 4 < abs(drawn).max() < math.sqrt(66 * math.log(2))  # the largest that 32 bits and 1/2 can give


def test_other_seeds_streams_and_steps_have_other_noise():
    addresses = itertools.product((0, 1), ("train", "evaluate"), (0, 1))
    for make in (noise.standard_normal, noise.uniform):
        drawn = {address: make((50,), "float64", *address).tobytes() for address in addresses}
        assert len(set(drawn.values())) == len(drawn)


def test_without_more_said_noise_is_numpys_and_of_step_0(monkeypatch):
    monkeypatch.setenv("TINYVRNN_BACKEND", "strict")
    for make in (noise.standard_normal, noise.uniform):
        found = make((4,), "float64", 5, "train")
        assert type(found) is np.ndarray and np.array_equal(found, make((4,), "float64", 5, "train", 0))
    assert np.array_equal(noise.generator(5, "train").random(4), found)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", None])
def test_a_seed_that_is_none_is_refused_by_name(seed):
    for make in (lambda: noise.generator(seed, "train"), lambda: noise.standard_normal((2,), "float32", seed, "train")):
        with pytest.raises(tv.ConfigError, match=r"seed must be a whole number (of at least 0|from 0 to 2\*\*64 - 1)"):
            make()


class Rank(ranks.Ranks):
    """One of several ranks."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("make", [noise.standard_normal, noise.uniform])
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (5, 2, 4, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_ranks_draw_the_columns_of_one_process(make, shape, size):
    """Whatever the shape, from any step on, and where a rank has no column."""
    T, B, *rest = shape
    whole = make(shape, "float64", 5, "train", 2, first=2 * 3 * B * math.prod(rest))
    parts = []
    for rank in range(size):
        with ranks.shared_out(Rank(rank, size)), ranks.own(range(B)) as index:
            first = 2 * 3 * len(index) * math.prod(rest)
            parts.append(make((T, len(index), *rest), "float64", 5, "train", 2, first=first) if index else whole[:, :0])
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


# ---- on a device ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [noise.standard_normal, noise.uniform])
def test_on_strict_noise_is_one_launch_of_the_same_bits_and_crosses_nothing(make):
    launches.reset()
    transfers.reset()
    found = make((4, 3, 2), "float32", 5, "train", 2, get_backend("strict"))
    assert (launches.total, transfers.total) == (1, 0)
    assert isinstance(found, StrictArray) and found.dtype == "float32"
    assert np.array_equal(to_host(found), make((4, 3, 2), "float32", 5, "train", 2))


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"bound": "fivo", "particles": 3}], ids=str)
def test_all_noise_of_a_training_step_is_made_on_the_device(options):
    made = []
    for backend in checks.BACKENDS:
        model, x, *_ = checks.small(backend=backend, dtype="float32")
        transfers.reset()
        batch = loop.with_noise(model, Batch(x), Options(seed=4, **options), 3)
        assert transfers.total == 0
        made.append([a for a in (batch.eps, batch.uniforms, batch.input_mask) if a is not None])
    for host, device in zip(*made, strict=True):
        assert isinstance(device, StrictArray) and np.array_equal(to_host(device), host)


@pytest.fixture
def device(cupy_backend):
    noise.kernel_of.cache_clear()
    yield cupy_backend
    noise.kernel_of.cache_clear()


def require_parity(device):
    """Assert that both kernels give NumPy's numbers, at each address and for large offsets, also in a rank."""
    for dtype, bound in DTYPES.items():
        for address, first in itertools.product(ADDRESSES, (0, 5, FAR)):
            found = to_host(noise.standard_normal((7, 301), dtype, *address, device, first))
            checks.assert_close(found, noise.standard_normal((7, 301), dtype, *address, first=first), bound, "normal")
            found = to_host(noise.uniform((7, 301), dtype, *address, device, first))
            assert np.array_equal(found, noise.uniform((7, 301), dtype, *address, first=first)), "uniform"
        for make in (noise.standard_normal, noise.uniform):
            with ranks.shared_out(Rank(1, 3)), ranks.own(range(10)) as index:
                drawn = [make((4, len(index), 3), dtype, *ADDRESSES[-1], where, 2 * 9) for where in (device, None)]
            checks.assert_close(to_host(drawn[0]), drawn[1], bound, "of a rank")
    assert noise.kernel_of.cache_info().currsize == 2, "it is the kernels that were asked"


def test_a_device_makes_the_numbers_of_numpy(device):
    require_parity(device)


WRONG = [
    ("PREAMBLE", "block + 1", "block"),
    ("PREAMBLE", "0, 0, step", "step, 0, 0"),
    ("PREAMBLE", "round < 10", "round < 9"),
    ("PREAMBLE", "0xD2E7470EE14C6C93", "0xD2E7470EE14C6C95"),
    ("PREAMBLE", "^ seed", "^ stream"),
    ("NORMAL", "first + i", "i"),
    ("NORMAL", "first + i", "unsigned(first + i)"),
    ("NORMAL", "T(0.5)", "T(1.0)"),
    ("NORMAL", "both >> 32", "both"),
    ("NORMAL", "sin(angle)", "-sin(angle)"),
    ("UNIFORM", ">> 11", ">> 12"),
    ("UNIFORM", "number % 4", "0"),
    ("UNIFORM", "first + i", "unsigned(first + i)"),
]


@pytest.mark.parametrize("where, right, wrong", WRONG)
def test_a_wrong_kernel_is_seen(where, right, wrong, device, monkeypatch):
    kernel = getattr(noise, where)
    text = getattr(kernel, "operation", kernel)
    assert text.count(right) == 1
    planted = text.replace(right, wrong)
    monkeypatch.setattr(noise, where, planted if text is kernel else kernel._replace(operation=planted))
    with pytest.raises(AssertionError):
        require_parity(device)
