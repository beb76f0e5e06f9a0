"""Content, the result of a reader, and what readers share: a file's bytes, a folder's files, a default split."""

from itertools import islice
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.mapped import LONGEST, Mapped
from tinyvrnn.data.sequences import Sequences, permutation
from tinyvrnn.errors import DataError, check_whole, shown
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
    notes: sentences for people about what was decided or left out.
    """

    sequences: Sequences
    split: np.ndarray | None = None
    labels: np.ndarray | None = None
    medium: dict | None = None
    kind: str | None = None
    scale: str | None = None
    source: str | None = None
    units: str | None = None
    notes: tuple = ()


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
            + ", or --window N (window=N) to cut long ones into windows of N steps"
            * (what == "sequence")
        )
    held_out, split = max(1, n // 10), np.zeros(n, dtype=np.int64)
    order = permutation(n, generator(0, "split"))
    split[order[:held_out]], split[order[held_out : 2 * held_out]] = 2, 1
    return split


def cut(content, medium, name):
    """Content of windows of medium["window"] steps, one every medium["stride"] steps, if the medium has a window.

    The last window of a sequence may be shorter. The split is made before the cut, so windows of different splits
    share no step.
    """
    whole = content.sequences
    if "window" in medium:
        window = check_whole("window", medium["window"])
        stride = check_whole("stride", medium.get("stride", window))
        index, start, lengths, split = _windows(content, *(min(n, whole.max_steps) for n in (window, stride)), name)
        if not isinstance(whole, Mapped) and lengths.sum() * whole.x_dim * whole.dtype.itemsize > MEMORY // 2:
            raise DataError(f"the windows of {name} overlap too much to fit into memory: give a larger stride")
        labels = None if content.labels is None else content.labels[index]
        medium = (content.medium or {}) | {"window": window, "stride": stride}
        pieces = whole.pieces(index, start, lengths)
        content = content._replace(sequences=pieces, split=split, labels=labels, medium=medium)
    elif "stride" in medium:
        raise DataError("a stride is for windows: give --window N too (window=N)")
    if isinstance(whole, Mapped) and whole.longest > LONGEST:
        content.sequences.check(name)
    return content


def _windows(content, window, stride, name):
    """Sequence, first step, length and split of each window."""
    index, first, end, split = _before_the_cut(content, name)
    starts = [np.arange(a, max(b - window, a) + stride, stride) for a, b in zip(first, end)]
    starts = [t[t < b] for t, b in zip(starts, end)]  # a stride beyond the window can lead past the end
    own, start = np.repeat(np.arange(len(starts)), [len(t) for t in starts]), np.concatenate(starts)
    return index[own], start, np.minimum(window, end[own] - start), split[own]


def _before_the_cut(content, name):
    """Sequence, first step, end and split of each span to cut: whole sequences, or fewer than three divided by time."""
    lengths, n = content.sequences.lengths, len(content.sequences)
    if content.split is not None or n > 2:
        split = at_random(n, name) if content.split is None else content.split
        return np.arange(n), np.zeros(n, np.int64), lengths, split
    if lengths.min() < 10:
        raise DataError(f"{name} has {lengths.min()} steps, but at least ten are needed for a split by time")
    ends = lengths[:, None] * [0, 8, 9, 10] // 10
    return np.repeat(np.arange(n), 3), ends[:, :-1].ravel(), ends[:, 1:].ravel(), np.tile([0, 1, 2], n)


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
