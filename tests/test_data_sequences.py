"""Ragged sequences and their batches: nothing lost, nothing duplicated, zeros after each end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyvrnn.data import Sequences, batches, pad
from tinyvrnn.errors import ConfigError, DataError


def ragged(lengths, x_dim=3):
    """Sequences in which all numbers differ and none is 0."""
    total = sum(lengths)
    return Sequences(np.arange(1, total * x_dim + 1, dtype=np.float64).reshape(total, x_dim), lengths)


def test_a_sequence_is_a_view_of_its_own_rows():
    sequences = ragged([2, 1, 4])
    assert (len(sequences), sequences.x_dim, sequences.steps, sequences.max_steps) == (3, 3, 7, 4)
    assert sequences.offsets.tolist() == [0, 2, 3, 7]
    assert sequences.time().tolist() == [0, 1, 0, 0, 1, 2, 3]
    np.testing.assert_array_equal(sequences[1], [[7, 8, 9]])
    np.testing.assert_array_equal(sequences[-1], sequences.values[3:])
    assert np.shares_memory(sequences[2], sequences.values)
    assert [len(s) for s in sequences] == [2, 1, 4]
    with pytest.raises(IndexError):
        sequences[3]


@pytest.mark.parametrize(
    "key, kept", [(slice(1, None), [1, 2]), ([2, 0], [2, 0]), (np.array([True, False, True]), [0, 2])]
)
def test_choosing_several_gives_sequences_in_that_order(key, kept):
    sequences = ragged([2, 1, 4])
    chosen = sequences[key]
    assert isinstance(chosen, Sequences)
    assert len(chosen) == len(kept)
    for a, i in zip(chosen, kept, strict=True):
        np.testing.assert_array_equal(a, sequences[i])


def test_from_list_keeps_each_array_and_reads_booleans_as_numbers():
    arrays = [np.ones((2, 3)), np.zeros((5, 3))]
    for a, b in zip(Sequences.from_list(arrays), arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    bits = Sequences.from_list([[[True, False]]]).values
    assert bits.dtype == np.uint8 and bits.tolist() == [[1, 0]]
    assert len(Sequences.from_list(np.zeros((4, 2, 3)))) == 4


def test_repr_is_one_line():
    assert repr(ragged([2, 1])) == "Sequences(2 of 1..2 steps of 3, float64)"
    assert repr(ragged([2, 2])) == "Sequences(2 of 2 steps of 3, float64)"


@settings(deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=9))
def test_pad_is_time_major_and_zero_past_each_end(lengths):
    sequences = ragged(lengths)
    x, got = pad(sequences)
    assert x.shape == (max(lengths), len(lengths), 3)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    assert got.tolist() == lengths
    for b, a in enumerate(sequences):
        np.testing.assert_array_equal(x[: lengths[b], b], a)
        assert not x[lengths[b] :, b].any()


def test_pad_takes_a_list_and_a_dtype():
    x, lengths = pad([np.ones((2, 1)), np.ones((1, 1))], dtype="float64")
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x[:, :, 0], [[1, 1], [1, 0]])
    assert lengths.tolist() == [2, 1]


def test_pad_writes_nothing_into_the_data():
    sequences = ragged([1, 3])
    before = sequences.values.copy()
    x, _ = pad(sequences, dtype="float64")
    x += 1
    np.testing.assert_array_equal(sequences.values, before)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 9), st.sampled_from([None, 0, 7]))
def test_each_sequence_appears_exactly_once_and_whole(lengths, batch_size, seed):
    sequences, seen = ragged(lengths), []
    for x, batch_lengths, index in batches(sequences, batch_size, seed, epoch=2):
        assert 1 <= len(index) <= batch_size and x.shape[:2] == (batch_lengths.max(), len(index))
        for b, i in enumerate(index):
            np.testing.assert_array_equal(x[: batch_lengths[b], b], sequences[i])
        seen.append(index)
    assert len(seen) == -(-len(lengths) // batch_size)
    assert sorted(np.concatenate(seen)) == list(range(len(lengths)))


def plan(sequences, *args, **kwargs):
    return [index.tolist() for _, _, index in batches(sequences, *args, **kwargs)]


def test_the_order_is_fixed_by_seed_and_epoch():
    sequences = ragged([3] * 50)
    assert plan(sequences, 8, seed=1, epoch=4) == plan(sequences, 8, seed=1, epoch=4)
    assert plan(sequences, 8, seed=1, epoch=4) != plan(sequences, 8, seed=1, epoch=5)
    assert plan(sequences, 8, seed=1, epoch=4) != plan(sequences, 8, seed=2, epoch=4)


def test_the_order_is_that_of_the_first_release():
    """A resumed run must get the same batches as an uninterrupted one, with any version of NumPy."""
    assert plan(ragged([1, 2, 3, 4, 5, 6, 7]), 2, seed=0) == [[3, 4], [0, 1], [2], [5, 6]]


def test_without_a_seed_the_order_is_that_of_length():
    assert plan(ragged([3, 1, 2, 1]), 3) == [[1, 3, 2], [0]]


def test_buckets_leave_little_padding():
    lengths = np.random.default_rng(0).integers(1, 100, 3203)
    sequences = Sequences(np.ones((lengths.sum(), 1), np.uint8), lengths)
    padded = sum(x.size for x, _, _ in batches(sequences, 32, seed=0))
    assert padded < 1.1 * sequences.steps  # in random order it is 1.9 times


def test_batches_of_long_and_short_sequences_come_mixed():
    firsts = [lengths[0] for _, lengths, _ in batches(ragged(list(range(1, 65))), 4, seed=0)]
    assert firsts != sorted(firsts)


def test_the_smaller_batch_does_not_always_hold_the_longest():
    lengths = list(range(1, 12))
    small = [
        index
        for epoch in range(5)
        for _, _, index in batches(ragged(lengths), 10, seed=0, epoch=epoch)
        if len(index) == 1
    ]
    assert len({int(i[0]) for i in small}) > 1


def test_batch_size_must_be_positive():
    with pytest.raises(ConfigError, match="batch_size must be a whole number of at least 1, got 0"):
        batches(ragged([1]), 0)


VALUES = np.ones((4, 2))
REFUSED = {
    "no sequences": (np.ones((0, 2)), [], "no sequences at all"),
    "length 0": (VALUES, [4, 0], "sequence 1 has length 0"),
    "negative": (VALUES, [5, -1], "sequence 1 has length -1"),
    "sum": (VALUES, [1, 2], "add up to 3 steps, but there are 4"),
    "overflowing sum": (VALUES, [2**62, 2**62, 2**62, 2**62 + 4], "add up to 18446744073709551620 steps"),
    "overflowing length": (VALUES, np.array([2**64 - 4], np.uint64), "18446744073709551612, which overflows int64"),
    "lengths 2-D": (VALUES, [[4]], r"\(1, 1\) of int64, but \(N,\) integers"),
    "lengths float": (VALUES, [4.0], "float64, but .* integers"),
    "values 1-D": (np.ones(4), [4], r"shape \(4,\), but \(steps, X\)"),
    "no dimension": (np.ones((4, 0)), [4], r"shape \(4, 0\), but .* X >= 1"),
    "complex": (VALUES * 1j, [4], "type complex128, but real numbers"),
    "text": (VALUES.astype(str), [4], "type <U32, but real numbers"),
    "object": (VALUES.astype(object), [4], "type object, but real numbers"),
    "nested": ([[1, 2], [3]], [2], "parts of unequal lengths"),
}


@pytest.mark.parametrize("values, lengths, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_set_of_sequences_is_refused(values, lengths, message):
    with pytest.raises(DataError, match=message) as caught:
        Sequences(values, lengths, "train of mine")
    assert "train of mine" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_in_float32_are_placed(value):
    values = np.zeros((6, 2))
    values[4, 1] = value
    with pytest.raises(DataError, match=r"mine: sequence 1, step 2, dimension 1 .* holds .*finite float32"):
        Sequences(values, [2, 4], "mine")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ([], "empty list"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"sequence 1 has shape \(2, 4\) and sequence 0 \(2, 3\)"),
        ([np.ones(3)], r"sequence 0 has shape \(3,\), but each must be \(T, X\): give x\[:, None\] for X = 1"),
        ([np.ones((3, 2)), np.ones((1, 3, 2))], r"sequence 1 has shape \(1, 3, 2\), but each must be \(T, X\)$"),
        ([np.ones((2, 1)), np.ones((0, 1))], "sequence 1 has length 0"),
        ([np.ones((2, 1)), ["a"]], "sequence 1 of the sequences has values of type <U1"),
    ],
)
def test_from_list_refuses(arrays, message):
    with pytest.raises(DataError, match=message):
        Sequences.from_list(arrays)
