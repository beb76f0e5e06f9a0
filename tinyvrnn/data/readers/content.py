"""What a reader gives, and what readers share: a file's bytes, a folder's files, a split where none is given."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.sequences import Sequences, permutation
from tinyvrnn.errors import DataError
from tinyvrnn.io.npz import MEMORY

SPLITS = ("train", "valid", "test")


class Content(NamedTuple):
    """What a user's file or folder holds, as it is there; None: nothing is said of it."""

    sequences: Sequences
    split: np.ndarray | None = None  # (N,) 0 train, 1 valid, 2 test
    labels: np.ndarray | None = None  # (N,)
    medium: dict | None = None  # see tinyvrnn.runs.export
    kind: str | None = None  # "pen", else found from the values
    scale: str | None = None  # of a pen, see tinyvrnn.data.scale
    source: str | None = None
    units: str | None = None


def read_bytes(path, times=8):
    """All bytes of a file, of which each becomes `times` in memory at most. Raises DataError where it can't be read."""
    most = MEMORY // times
    try:
        if path.stat().st_size > most:
            raise DataError(
                f"{path.name} is of more than {most:,} bytes, the most that one file of this form may have: "
                "cut it into several, or save it as .npz"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def of_three_splits(parts, **about):
    """Content of {"train": Sequences, "valid": ..., "test": ...}, whose X is the same."""
    several = [parts[s] for s in SPLITS]
    if any(isinstance(s, Mapped) for s in several):
        whole = Mapped.joined(several)
    else:
        whole = Sequences(*(np.concatenate([getattr(s, a) for s in several]) for a in ("values", "lengths")))
    return Content(whole, np.repeat([0, 1, 2], [len(s) for s in several]), **about)


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


def files_of(folder, endings):
    """The files below a folder that have one of the endings, hidden ones left out, in an order that never changes."""
    try:
        found = [p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file()]
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror or error}") from error
    below = {p: p.relative_to(folder).parts for p in found}
    return sorted((p for p in found if not any(part.startswith(".") for part in below[p])), key=below.get)


def progress(files, name):
    """The files, in a bar for a person where reading them takes more than two seconds: `with` takes it away again."""
    return tqdm(files, desc=f"reading {name}", unit="file", delay=2, leave=False)


def split_by_folder(folder, files):
    """(N,) from the subfolders train, valid and test in which the files lie; None where there are no such folders.

    Names are read in any case. With train and test alone, a tenth of the files in train validates.
    """
    first = [p.relative_to(folder).parts[0].lower() if p.parent != folder else "" for p in files]
    if not {"train", "test"} <= set(first):
        return None
    outside = [p for p, name in zip(files, first) if name not in SPLITS]
    if outside:
        raise DataError(
            f"{outside[0].relative_to(folder)} lies outside {folder.name}/train, valid and test: move or remove it"
        )
    split = np.array([SPLITS.index(name) for name in first])
    if "valid" not in first:
        trained = np.flatnonzero(split == 0)
        split[trained[at_random(len(trained), f"{folder.name}/train", "file") == 1]] = 1
    return split
