"""What a reader gives, and what readers share: a file's bytes, a folder's files, a split where none is given."""

from typing import NamedTuple

import numpy as np

from tinyvrnn.data.sequences import Sequences, permutation
from tinyvrnn.errors import DataError
from tinyvrnn.noise import generator

SPLITS = ("train", "valid", "test")


class Content(NamedTuple):
    """What a user's file or folder holds, as it is there; None: nothing is said of it."""

    sequences: Sequences
    split: np.ndarray | None = None  # (N,) 0 train, 1 valid, 2 test
    labels: np.ndarray | None = None  # (N,)
    medium: dict | None = None  # see tinyvrnn.export
    kind: str | None = None  # "pen", else found from the values
    scale: str | None = None  # of a pen, see tinyvrnn.data.scale
    source: str | None = None
    units: str | None = None


def read_bytes(path):
    """All bytes of a file. Raises DataError where they can't be had."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def of_three_splits(parts, **about):
    """Content of {"train": Sequences, "valid": ..., "test": ...}, whose X is the same."""
    values, lengths = (np.concatenate([getattr(parts[s], a) for s in SPLITS]) for a in ("values", "lengths"))
    return Content(Sequences(values, lengths), np.repeat([0, 1, 2], [len(parts[s]) for s in SPLITS]), **about)


def at_random(n, name, what="sequence"):
    """(N,) 0 train, 1 valid, 2 test: 80 / 10 / 10 per cent by a permutation that never changes."""
    if n < 3:
        raise DataError(
            f"{name} holds {n} {what}{'s' * (n > 1)} and no split, but three are needed at least: "
            "one to train, one to validate, one to test"
        )
    held_out, split = max(1, n // 10), np.zeros(n, dtype=np.int64)
    order = permutation(n, generator(0, "split"))
    split[order[:held_out]], split[order[held_out : 2 * held_out]] = 2, 1
    return split
