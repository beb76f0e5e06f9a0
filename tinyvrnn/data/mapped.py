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
        check_shapes(values, lengths, where)
        return cls.of(values, np.cumsum(lengths) - lengths, lengths, where)

    @classmethod
    def of(cls, values, starts, lengths, where):
        """From values (..., X) and each sequence's first row and length. Raises DataError if they can't be mapped."""
        if values.dtype.kind not in "buif":
            raise DataError(f"{where}: got values of type {values.dtype}, but real numbers are needed")
        if not values.flags.c_contiguous:
            raise DataError(
                f"{where} is in Fortran order, but a file of this size is memory-mapped and must be in C order: "
                "save it with np.ascontiguousarray"
            )
        values = values.view(np.uint8) if values.dtype.kind == "b" else np.asarray(values)
        sequences = cls([values.reshape(-1, values.shape[-1])], np.zeros(len(lengths), np.int64), starts, lengths)
        if len(lengths) > 1 or sequences.longest <= LONGEST:  # a single one that is too long may be cut first
            sequences.check(where)
        return sequences

    @classmethod
    def joined(cls, several):
        """The sequences of several Mapped, one after another."""
        block = [s.block + sum(len(other.blocks) for other in several[:i]) for i, s in enumerate(several)]
        starts, lengths = (np.concatenate([getattr(s, a) for s in several]) for a in ("starts", "lengths"))
        return cls([b for s in several for b in s.blocks], np.concatenate(block), starts, lengths)

    @property
    def longest(self):
        """Bytes in the longest sequence."""
        return self.max_steps * self.x_dim * self.blocks[0].itemsize

    def check(self, where):
        """Raise DataError for a sequence that is too long to be read at once, or values that are not finite."""
        if self.longest > LONGEST:
            raise DataError(
                f"{where}: sequence {self.lengths.argmax()} has {self.longest:,} bytes, but the limit is {LONGEST:,}: "
                "cut it into several, for example by --window N (window=N)"
            )
        check_finite(self, where)

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

    def standardised(self, mean, std):
        """The same sequences, with (x - mean) / std applied when they are read; mean, std (X,)."""
        m, s = self.moments or (0.0, 1.0)
        return Mapped(self.blocks, self.block, self.starts, self.lengths, (m + s * mean, s * std))

    def columns(self, part):
        moments = self.moments and tuple(np.broadcast_to(m, self.x_dim)[part] for m in self.moments)
        return Mapped([b[:, part] for b in self.blocks], self.block, self.starts, self.lengths, moments)

    def _rows(self, i, j):
        return self._read(np.arange(i, j), 0, self.lengths[i:j])

    def _read(self, index, start, lengths):
        """(steps, X), standardised: `lengths` steps of the sequences `index`, from the step `start` on."""
        block, starts = self.block[index], self.starts[index] + start
        if (block == block[0]).all() and (starts[1:] == starts[:-1] + lengths[:-1]).all():  # one after another
            pieces = [(block[0], starts[0], lengths.sum())]
        else:
            pieces = zip(block, starts, lengths)
        rows = np.concatenate([self.blocks[b][s : s + n] for b, s, n in pieces])
        self._let_go()
        return self._scaled(rows, np.repeat(index, lengths)) if self.moments else rows

    def padded(self, index, dtype, start=0, stop=None):
        index = np.arange(len(self))[index]
        lengths = self._left(index, start, stop)
        x = np.zeros((int(lengths.max()), len(index), self.x_dim), dtype)
        b = np.repeat(np.arange(len(index)), lengths)
        x[rows_of(np.zeros_like(lengths), lengths), b] = self._read(index, start, lengths)
        return x, lengths

    def _let_go(self):
        """Release the pages that were read, which would count as memory of this process."""
        for block in self.blocks:
            while isinstance(block, np.ndarray):
                block = block.base
            if isinstance(block, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                block.madvise(mmap.MADV_DONTNEED)

    def pieces(self, index, start, lengths):
        """As in Sequences, without reading anything."""
        return Mapped(self.blocks, self.block[index], self.starts[index] + start, lengths, self.moments)

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
