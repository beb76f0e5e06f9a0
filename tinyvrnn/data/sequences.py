"""Ragged sequences in one array, and the padded time-major batches that a model reads.

N sequences of T_1 .. T_N steps lie one after another in `values` (T_1 + ... + T_N, X). Padding exists only in batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinyvrnn.arrays.backend import Array, as_array, backend_of
from tinyvrnn.arrays.noise import generator
from tinyvrnn.errors import DataError, check_whole, unknown_name

NUMBERS_AT_ONCE = 2**20  # in a part: 8 MB as float64
POOL = 50  # batches sorted by length together: enough to reduce padding, few enough to keep batches random
FLOAT32_MAX = np.finfo(np.float32).max
MISSING = ("nan",)
PADDING = "if NaN pads shorter sequences, give a list without it, or save np.savez(file, x=x, lengths=lengths)"
_missing: ContextVar[str | None] = ContextVar("missing", default=None)


class Sequences:
    """N sequences of T_i steps of X numbers each, one after another in one array on the host.

    len() is N; an integer index gives a view (T_i, X), and a slice, an index array or a mask gives Sequences.

    Parameters
    ----------
    values : array (sum of T_i, X)
        Finite real numbers of any dtype.
    lengths : integers (N,)
        The T_i, at least 1 each.
    where : str
        Names the sequences in error messages only.

    Attributes
    ----------
    values : numpy.ndarray (sum of T_i, X)
        Steps without padding.
    lengths : numpy.ndarray (N,) of intp
        The T_i.
    offsets : numpy.ndarray (N + 1,) of intp
        Sequence i is values[offsets[i]:offsets[i + 1]].

    Raises
    ------
    DataError
        The set or a sequence is empty, a shape is wrong, or a value is not a finite real number.
    """

    values: Array
    lengths: Array
    offsets: Array

    def __init__(self, values: ArrayLike, lengths: ArrayLike, where: str = "the sequences") -> None:
        self.values, self.lengths = real_array(values, where), integer_array(lengths, f"the lengths of {where}")
        check_shapes(self.values, self.lengths, where)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        check_finite(self, where)

    @classmethod
    def unchecked(cls, values, lengths):
        """Sequences of values (steps, X) and lengths (N,) that are known to be valid."""
        sequences = cls.__new__(cls)
        sequences.values, sequences.lengths = values, lengths
        sequences.offsets = np.concatenate([[0], np.cumsum(lengths)])
        return sequences

    @classmethod
    def from_list(cls, arrays: Iterable[ArrayLike], where: str = "the sequences") -> Sequences:
        """Sequences from a list of arrays (T_i, X), or from one array (N, T, X).

        Parameters
        ----------
        arrays : list of arrays (T_i, X), or array (N, T, X)
            Finite real numbers; X is the same for all.
        where : str
            Names the sequences in error messages only.

        Returns
        -------
        Sequences
            With a copy of the values.

        Raises
        ------
        DataError
            The list is empty, or the arrays do not fit together.
        """
        if not isinstance(arrays, list | tuple | Iterator):
            given = type(arrays).__name__
            arrays = as_array(arrays, where)  # iterating a table or a matrix would give something else than its rows
            if getattr(arrays, "ndim", 0) == 0:
                raise DataError(f"{where}: got {given}, but a list of arrays (T, X) is needed")
        real: list[Array] = [real_array(a, f"sequence {i} of {where}") for i, a in enumerate(arrays)]
        if not real:
            raise DataError(f"{where}: got an empty list, but at least one array (T, X) is needed")
        for i, a in enumerate(real):
            if a.ndim != 2:
                how = ": give x[:, None] for X = 1" * (a.ndim == 1)
                raise DataError(f"{where}: sequence {i} has shape {a.shape}, but each must be (T, X){how}")
            if a.shape[1] != real[0].shape[1]:
                raise DataError(
                    f"{where}: sequence {i} has shape {a.shape} and sequence 0 {real[0].shape}, "
                    "but each must be (T, X), X the same for all"
                )
        return cls(np.concatenate(real), [len(a) for a in real], where)

    @property
    def x_dim(self) -> int:
        """X, the number of values in a step."""
        return self.values.shape[1]

    @property
    def steps(self) -> int:
        """The total number of steps, without padding."""
        return int(self.offsets[-1])

    @property
    def max_steps(self) -> int:
        """The length of the longest sequence."""
        return int(self.lengths.max())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    def parts(self):
        """Pairs (index of the first sequence, Sequences in memory), each of some megabytes or a single sequence."""
        part = self.offsets[1:] * self.x_dim // NUMBERS_AT_ONCE  # where a sequence ends, counted in parts
        first = np.flatnonzero(np.diff(part, prepend=-1))
        for i, j in zip(first, [*first[1:], len(self)]):
            yield int(i), Sequences.unchecked(self._rows(i, j), self.lengths[i:j])

    def columns(self, part):
        """Sequences of the columns in `part`, a slice."""
        return Sequences.unchecked(self.values[:, part], self.lengths)

    def _rows(self, i, j):
        """(steps, X) of the sequences i to j - 1."""
        return self.values[self.offsets[i] : self.offsets[j]]

    def padded(
        self, index: slice | ArrayLike, dtype: DTypeLike, start: int = 0, stop: int | None = None
    ) -> tuple[Array, Array]:
        """One batch of the sequences `index`, time-major and zero-padded.

        Parameters
        ----------
        index : integers (B,) or slice
            Which sequences, one a column.
        dtype : dtype
            Of x.
        start, stop : int
            Take only these steps of each sequence, which must be longer than `start`; stop None: to the end.

        Returns
        -------
        x : numpy.ndarray (T, B, X)
            T is the longest of the lengths.
        lengths : numpy.ndarray (B,) of intp
            Real steps of each sequence.
        """
        starts, lengths = self.offsets[:-1][index] + start, self._left(index, start, stop)
        t = np.arange(lengths.max())[:, None]
        # Row (t, b) of the batch is step t of sequence index[b]; one take reads them all.
        x = self.values.take(starts + t, axis=0, mode="clip").astype(dtype)
        x[t >= lengths] = 0
        return x, lengths

    def _left(self, index, start, stop):
        """(B,) the number of steps that the sequences `index` have from `start` to `stop`."""
        return np.minimum(self.lengths[index], self.lengths[index] if stop is None else stop) - start

    def time(self):
        """(steps,) intp: the step t, from 0, of each row of `values` within its sequence."""
        return np.arange(self.steps) - np.repeat(self.offsets[:-1], self.lengths)

    def place(self, row):
        """(sequence, t) of a row of `values`, for messages."""
        i = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return i, int(row - self.offsets[i])

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """An int gives a (T_i, X) view; a slice, an index array or a mask gives Sequences."""
        index = np.arange(len(self))[key]
        if index.ndim == 0:
            return self._rows(index, index + 1)
        return self.pieces(index, 0, self.lengths[index])

    def pieces(self, index, start, lengths):
        """Sequences of `lengths` (M,) steps of the sequences `index` (M,), from the steps `start` (M,) on."""
        with missing_values("nan"):  # those of the whole set
            return Sequences(self.values[rows_of(self.offsets[:-1][index] + start, lengths)], lengths)

    def __repr__(self):
        shortest = "" if self.lengths.min() == self.max_steps else f"{self.lengths.min()}.."
        return f"Sequences({len(self)} of {shortest}{self.max_steps} steps of {self.x_dim}, {self.dtype})"


class Resident(Sequences):
    """Sequences whose values (steps, X), checked before, stay on a device in the dtype of the model that reads them."""

    def padded(self, index, dtype, start=0, stop=None):
        """As in Sequences, with other rows in the padding, which `validate` zeroes. Only row numbers (B,) are sent."""
        starts, lengths = self.offsets[:-1][index] + start, self._left(index, start, stop)
        device = backend_of(self.values)
        rows = device.asarray(starts) + device.xp.arange(int(lengths.max()))[:, None]
        return self.values[device.xp.minimum(rows, self.steps - 1)], lengths


def pad(sequences: Sequences | Iterable[ArrayLike], dtype: DTypeLike = "float32") -> tuple[Array, Array]:
    """One batch of all sequences, time-major and zero-padded.

    Parameters
    ----------
    sequences : Sequences, list of arrays (T_i, X), or array (N, T, X)
        Finite real numbers; X is the same for all.
    dtype : dtype
        Of x.

    Returns
    -------
    x : numpy.ndarray (T, B, X)
        T is the longest length, B the number of sequences.
    lengths : numpy.ndarray (B,) of intp
        Real steps of each sequence.

    Raises
    ------
    DataError
        The list is empty, or the arrays do not fit together.
    """
    return as_sequences(sequences).padded(slice(None), dtype)


def batches(
    sequences: Sequences,
    batch_size: int,
    seed: int | None = None,
    epoch: int = 0,
    dtype: DTypeLike = "float32",
    first: int = 0,
) -> Iterator[tuple[Array, Array, Array]]:
    """Iterate over batches that hold each sequence exactly once; a smaller last batch is included.

    Parameters
    ----------
    sequences : Sequences, or list of arrays (T_i, X)
        The set.
    batch_size : int
        B, at least 1.
    seed : int, optional
        Shuffles the batches, which group sequences of similar length to reduce padding. None, for evaluation: in order
        of length.
    epoch : int
        Each epoch has another order.
    dtype : dtype
        Of x.
    first : int
        Skip this many batches, to resume within an epoch.

    Returns
    -------
    iterator of (x, lengths, index)
        x (T, B, X), zero-padded; lengths (B,); index (B,), the number of the sequence in each column.

    Raises
    ------
    ConfigError
        The batch size or the seed is invalid.
    DataError
        These are no sequences.
    """
    sequences = as_sequences(sequences)
    if seed is None:
        plan = in_order_of_length(sequences, batch_size)
    else:
        plan = in_random_order(sequences.lengths, batch_size, seed, epoch)
    return ((*sequences.padded(index, dtype), index) for index in plan[first:])


def in_order_of_length(sequences, batch_size):
    """Index arrays of the batches for evaluation."""
    return _cut(np.argsort(sequences.lengths, kind="stable"), check_whole("batch_size", batch_size))


def in_random_order(lengths, batch_size, seed, epoch):
    """Index arrays: shuffle, sort by length inside pools, cut into batches, shuffle the batches."""
    check_whole("batch_size", batch_size)
    rng = generator(seed, "shuffle", epoch)
    order = permutation(len(lengths), rng)
    # Set the smaller batch aside before sorting: cut off afterwards, it would always hold the longest sequences.
    whole = len(order) - len(order) % batch_size
    pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in _cut(order[:whole], POOL * batch_size)]
    plan = [batch for pool in pools for batch in _cut(pool, batch_size)] + _cut(order[whole:], batch_size)
    return [plan[i] for i in permutation(len(plan), rng)]


def _cut(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def permutation(n, rng):
    """(n,) intp, a random order of range(n) that, unlike Generator.permutation, is the same in all NumPy versions."""
    return np.argsort(rng.random(n), kind="stable")


def rows_of(starts, lengths):
    """(sum of lengths,) the row numbers starts[i], starts[i] + 1, ... of all ranges, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def as_sequences(sequences, where="the sequences"):
    """Sequences from Sequences (unchanged), a list of arrays (T_i, X), or an array (N, T, X)."""
    if hasattr(sequences, "train"):
        raise DataError(f"{where}: got {type(sequences).__name__}, which has three splits: give one, as data.test")
    return sequences if isinstance(sequences, Sequences) else Sequences.from_list(sequences, where)


def check_same_dimension(name, splits):
    """Raise DataError if the splits (split -> Sequences) differ in X."""
    dims = {s: x.x_dim for s, x in splits.items()}
    if len(set(dims.values())) > 1:
        listed = ", ".join(f"{s} {x_dim}" for s, x_dim in dims.items())
        raise DataError(f"{name}: the numbers in each step differ ({listed}), but X must be the same for all splits")


def real_array(values, where):
    """An array of real numbers; booleans become 0 and 1. Raises DataError for whatever is none."""
    values = as_array(values, where)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def integer_array(values, where):
    """(N,) intp, as counts and indices must be on a 32-bit system. Raises DataError for what has no place in it."""
    values = as_array(values, where)
    if values.ndim != 1 or values.size and values.dtype.kind not in "ui":
        raise DataError(f"{where}: got an array {values.shape} of {values.dtype}, but (N,) integers are needed")
    if values.size and values.max() > np.iinfo(np.intp).max:
        raise DataError(f"{where}: got {values.max()}, which overflows {np.dtype(np.intp)}: give small integers")
    return values.astype(np.intp)


def check_shapes(values, lengths, where):
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(f"{where}: got values of shape {values.shape}, but (steps, X) with X >= 1 is needed")
    if len(lengths) == 0:
        raise DataError(f"{where}: got no sequences at all, but at least one is needed")
    if lengths.min() < 1:
        i = lengths.argmin()
        raise DataError(f"{where}: sequence {i} has length {lengths[i]}, but each needs at least 1 step: leave it out")
    # Compare the longest first: a sum that overflows could equal the number of steps.
    if lengths.max() > len(values) or lengths.sum() != len(values):
        raise DataError(
            f"{where}: the lengths add up to {sum(lengths.tolist())} steps, but there are {len(values)}: "
            "give the number of steps of each sequence"
        )


@contextmanager
def missing_values(missing):
    """Context: with missing "nan", Sequences made in it may hold NaN at missing entries."""
    if missing is not None and missing not in MISSING:
        raise DataError(unknown_name("missing", missing, MISSING))
    token = _missing.set(missing)
    try:
        yield
    finally:
        _missing.reset(token)


def are_valid(values):
    """Whether each value is finite in float32, or NaN where that marks missing entries."""
    valid = np.abs(values) <= FLOAT32_MAX  # NaN compares as False
    return valid | np.isnan(values) if _missing.get() else valid


def observed_in(x):
    """(T, B, X) bool, False where x is NaN, a missing entry; None if none is, or if x is on a device."""
    return ~np.isnan(x) if isinstance(x, np.ndarray) and np.isnan(x).any() else None


def has_gaps(sequences):
    """Whether an entry of the sequences is missing."""
    return sequences.dtype.kind == "f" and any(np.isnan(part.values).any() for _, part in sequences.parts())


def check_finite(sequences, where):
    """Raise DataError, with its place, for the first value that is not finite in float32."""
    if sequences.dtype.kind != "f":
        return
    for first, part in sequences.parts():
        bad = ~are_valid(part.values)
        if bad.any():
            how = PADDING if len(sequences) > 1 and _is_padding(part, bad) else how_to_fix(part.values[bad][0])
            needed = f"but finite float32 numbers are needed: {how}"
            refuse(part, bad, where, needed, first)


def _is_padding(part, bad):
    """Whether the True in bad (steps, X) are steps of NaN at the ends of sequences, as of shorter ones in one array."""
    empty = np.isnan(part.values).all(axis=1)
    resumed = np.append(False, empty[:-1]) & ~empty
    inside = np.where(part.time() == 0, empty, resumed)
    return (bad == empty[:, None]).all() and not inside.any()


def how_to_fix(value):
    """What to do about a number that is not finite in float32."""
    how = '; if NaN marks missing values, give --missing nan (load_data and Data.from_sequences: missing="nan")'
    return "fix or remove that sequence" + how * bool(np.isnan(value))


def refuse(sequences, bad, where, needed, first=0):
    """Raise DataError for the first True in bad (steps, X): its sequence, counted from `first`, step and dimension."""
    row, j = np.argwhere(bad)[0]
    i, t = sequences.place(row)
    value = sequences.values[row, j]
    raise DataError(f"{where}: sequence {first + i}, step {t}, dimension {j} (counted from 0) holds {value}, {needed}")
