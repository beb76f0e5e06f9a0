"""Content, the result of a reader, and what readers share: a file's bytes, a folder's files, a default split."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.sequences import Sequences, permutation
from tinyvrnn.errors import DataError, shown
from tinyvrnn.io.npz import MEMORY
from tinyvrnn.io.streams import bar

MOST_FILES = 1_000_000  # in a folder that is searched
SPLITS = ("train", "valid", "test")


class Content(NamedTuple):
    """Raw contents of a user's file or folder; None for what it does not state.

    sequences: all N sequences.
    split: (N,) 0 train, 1 valid, 2 test.
    labels: (N,).
    medium: the meaning of the numbers, see `tinyvrnn.runs.export`.
    kind: "pen"; None infers it from the values.
    scale: for a pen, see `tinyvrnn.data.scale`.
    source: where the data come from, for people.
    units: of a log-likelihood of the data.
    """

    sequences: Sequences
    split: np.ndarray | None = None
    labels: np.ndarray | None = None
    medium: dict | None = None
    kind: str | None = None
    scale: str | None = None
    source: str | None = None
    units: str | None = None


def read_bytes(path, times=8):
    """All bytes of a file. Raises DataError if it can't be read, or if `times` its size would exceed MEMORY."""
    most = MEMORY // times
    try:
        if path.stat().st_size > most:
            raise DataError(
                f"{path.name} has more than {most:,} bytes, the limit for a file of this format: "
                "cut it into several, or save it as .npz"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def of_three_splits(parts, **about):
    """Content of {"train": Sequences, "valid": ..., "test": ...}, which must agree in X."""
    several = [parts[s] for s in SPLITS]
    if any(isinstance(s, Mapped) for s in several):
        whole = Mapped.joined(several)
    else:
        whole = Sequences(*(np.concatenate([getattr(s, a) for s in several]) for a in ("values", "lengths")))
    return Content(whole, np.repeat([0, 1, 2], [len(s) for s in several]), **about)


def at_random(n, name, what="sequence"):
    """(N,) 0 train, 1 valid, 2 test: 80 / 10 / 10 per cent by a fixed permutation."""
    if n < 3:
        raise DataError(
            f"{name} holds {n} {what}{'s' * (n > 1)} and no split, but at least three are needed: "
            "one to train, one to validate, one to test"
        )
    held_out, split = max(1, n // 10), np.zeros(n, dtype=np.int64)
    order = permutation(n, generator(0, "split"))
    split[order[:held_out]], split[order[held_out : 2 * held_out]] = 2, 1
    return split


def files_of(folder, endings):
    """The files below a folder with one of the endings, without hidden ones, in a fixed order."""
    try:
        found = list(islice(folder.rglob("*"), MOST_FILES + 1))
        paths = [p for p in found if p.suffix.lower() in endings and p.is_file()]
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror or error}") from error
    if len(found) > MOST_FILES:
        raise DataError(f"{folder} holds more than {MOST_FILES:,} files: give the folder of the data alone")
    below = {p: p.relative_to(folder).parts for p in paths}
    return sorted((p for p in paths if not any(part.startswith(".") for part in below[p])), key=below.get)


def progress(files, name):
    """The files, with a progress bar if reading takes more than two seconds. A context: its end removes the bar."""
    return bar(files, desc=f"reading {shown(name)}", unit="file", delay=2, leave=False)


def split_by_folder(folder, files):
    """(N,) 0 train, 1 valid, 2 test, from subfolders with these names; None without folders train and test.

    Upper and lower case are the same. Without valid, a tenth of the files in train is used for validation.
    """
    first = [p.relative_to(folder).parts[0].lower() if p.parent != folder else "" for p in files]
    if not {"train", "test"} <= set(first):
        return None
    outside = [p for p, name in zip(files, first) if name not in SPLITS]
    if outside:
        raise DataError(
            f"{outside[0].relative_to(folder)} is outside {folder.name}/train, valid and test: move or remove it"
        )
    split = np.array([SPLITS.index(name) for name in first])
    if "valid" not in first:
        trained = np.flatnonzero(split == 0)
        split[trained[at_random(len(trained), f"{folder.name}/train", "file") == 1]] = 1
    return split
