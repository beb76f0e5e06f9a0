"""Memory-mapped sequences, for a corpus larger than memory: a batch reads only its own rows from the file.

Operations that need all values once (the check for finite numbers, moments, baselines) iterate over `parts`, some
megabytes at a time. Rows are standardised when they are read. The interface is that of Sequences.
"""

import mmap

import numpy as np

from tinyvrnn.data.sequences import Sequences, check_finite, check_shapes, integer_array, rows_of
from tinyvrnn.errors import DataError
from tinyvrnn.io import npz

LONGEST = npz.MEMORY // 8  # bytes in one sequence, since a sequence is read as a whole


class Mapped(Sequences):
    """N sequences in memory-mapped arrays.

    blocks: list of arrays (rows, X); sequence i is blocks[block[i]][starts[i]:starts[i] + lengths[i]].
    moments: None, or a pair (mean (X,), std (X,)) by which rows are standardised, in float32, when they are read.
    """

    def __init__(self, blocks, block, starts, lengths, moments=None):
        self.blocks, self.block, self.starts, self.lengths, self.moments = blocks, block, starts, lengths, moments
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])

    @classmethod
    def of_rows(cls, values, lengths, where):
        """From values (steps, X), the sequences one after another, and lengths (N,). Raises as Sequences does."""
        lengths = integer_array(lengths, f"the lengths of {where}")
        values = _rows(values, where)
        check_shapes(values, lengths, where)
        return cls._checked(values, np.cumsum(lengths) - lengths, lengths, where)

    @classmethod
    def of_cube(cls, x, lengths, where):
        """From x (N, T, X), each sequence cut to its length in lengths (N,). Raises as Sequences does."""
        n, steps, x_dim = x.shape
        if n == 0 or lengths.min() < 1 or x_dim == 0:
            check_shapes(np.empty((int(lengths.sum()), x_dim), np.uint8), lengths, where)
        return cls._checked(_rows(x, where).reshape(n * steps, x_dim), np.arange(n) * steps, lengths, where)

    @classmethod
    def joined(cls, several):
        """The sequences of several Mapped, one after another."""
        block = [s.block + sum(len(other.blocks) for other in several[:i]) for i, s in enumerate(several)]
        starts, lengths = (np.concatenate([getattr(s, a) for s in several]) for a in ("starts", "lengths"))
        return cls([b for s in several for b in s.blocks], np.concatenate(block), starts, lengths)

    @classmethod
    def _checked(cls, values, starts, lengths, where):
        longest = int(lengths.max()) * values.shape[1] * values.itemsize
        if longest > LONGEST:
            raise DataError(
                f"{where}: sequence {lengths.argmax()} has {longest:,} bytes, but the limit is {LONGEST:,}: "
                "cut it into several"
            )
        sequences = cls([values], np.zeros(len(lengths), np.int64), starts, lengths)
        check_finite(sequences, where)
        return sequences

    @property
    def values(self):
        """All steps (steps, X), in memory; for small sets only."""
        return np.concatenate(list(self))

    @property
    def dtype(self):
        return np.dtype(np.float32) if self.moments else self.blocks[0].dtype

    @property
    def x_dim(self):
        return self.blocks[0].shape[1]

    @property
    def steps(self):
        return int(self.offsets[-1])

    def standardised(self, mean, std):
        """The same sequences, with (x - mean) / std applied when they are read; mean, std (X,)."""
        m, s = self.moments or (0.0, 1.0)
        return Mapped(self.blocks, self.block, self.starts, self.lengths, (m + s * mean, s * std))

    def columns(self, part):
        moments = self.moments and tuple(np.broadcast_to(m, self.x_dim)[part] for m in self.moments)
        return Mapped([b[:, part] for b in self.blocks], self.block, self.starts, self.lengths, moments)

    def _rows(self, i, j):
        """As in Sequences; one slice if the sequences lie one after another in one block."""
        block, starts, lengths = self.block[i:j], self.starts[i:j], self.lengths[i:j]
        if (block != block[0]).any():
            rows = np.concatenate([self.blocks[b][s : s + n] for b, s, n in zip(block, starts, lengths)])
        elif (starts[1:] == starts[:-1] + lengths[:-1]).all():
            rows = self.blocks[block[0]][starts[0] : starts[-1] + lengths[-1]]
        else:
            rows = self.blocks[block[0]][rows_of(starts, lengths)]
        rows = self._scaled(rows, np.repeat(np.arange(i, j), lengths)) if self.moments else np.array(rows)
        self._let_go()
        return rows

    def padded(self, index, dtype, start=0, stop=None):
        index = np.arange(len(self))[index]
        lengths = self._left(index, start, stop)
        x = np.zeros((int(lengths.max()), len(index), self.x_dim), dtype)
        pieces = zip(self.block[index], self.starts[index] + start, lengths)
        rows = np.concatenate([self.blocks[block][s : s + n] for block, s, n in pieces])
        b = np.repeat(np.arange(len(index)), lengths)
        x[rows_of(np.zeros_like(lengths), lengths), b] = self._scaled(rows, index[b]) if self.moments else rows
        self._let_go()
        return x, lengths

    def _let_go(self):
        """Release the pages that were read, which would count as memory of this process."""
        for block in self.blocks:
            while isinstance(block, np.ndarray):
                block = block.base
            if isinstance(block, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                block.madvise(mmap.MADV_DONTNEED)

    def __getitem__(self, key):
        if not isinstance(key, int | np.integer):
            index = np.arange(len(self))[key]
            return Mapped(self.blocks, self.block[index], self.starts[index], self.lengths[index], self.moments)
        index = range(len(self))[key]
        rows = self.blocks[self.block[index]][self.starts[index] : self.starts[index] + self.lengths[index]]
        return rows if self.moments is None else self._scaled(rows, np.full(len(rows), index))

    def _scaled(self, rows, index):
        """Standardise rows (n, X). index (n,): the sequence of each row, for the message."""
        mean, std = self.moments
        with np.errstate(over="ignore"):
            scaled = ((rows - mean) / std).astype(np.float32)
        if np.isinf(scaled).any():
            bad = index == index[np.isinf(scaled).any(axis=1)][0]
            raise DataError(
                f"sequence {index[bad][0]} holds {np.abs(rows[bad]).max()}, which overflows float32 when standardised: "
                "fix or remove that sequence"
            )
        return scaled


def _rows(values, where):
    """The array, checked to be real and C-contiguous; booleans become uint8."""
    if values.dtype.kind not in "buif":
        raise DataError(f"{where}: got values of type {values.dtype}, but real numbers are needed")
    if not values.flags.c_contiguous:
        raise DataError(
            f"{where} is in Fortran order, but a file of this size is memory-mapped and must be in C order: "
            "save it with np.ascontiguousarray"
        )
    values = np.asarray(values)
    return values.view(np.uint8) if values.dtype.kind == "b" else values
