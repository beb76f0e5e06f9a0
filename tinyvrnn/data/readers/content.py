"""Content, the result of a reader, and what readers share: a file's bytes, a folder's files, a default split."""

import functools
import hashlib
import inspect
import json
import os
import re
import time
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.cache import cache_folder
from tinyvrnn.data.mapped import LONGEST, Mapped
from tinyvrnn.data.sequences import Sequences, permutation, rows_of
from tinyvrnn.errors import DataError, check_whole, counted, shown
from tinyvrnn.io.files import write_atomically
from tinyvrnn.io.npz import MEMORY
from tinyvrnn.io.streams import bar

MOST_FILES = 1_000_000  # in a folder that is searched
SLOW = 2.0  # seconds of parsing, from which on its result is kept in the cache
SPLITS = ("train", "valid", "test")
SPLIT_OF = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
NEAR = ("exact", "swapped", "off", "no")  # by no letter, two neighbouring ones, one letter, or more
DOUBTFUL = dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), 3)  # valid for some people, test for others
DOUBTFUL |= {"trn": 0, "tr": 0, "vld": 1, "va": 1, "development": 1, "tst": 2, "te": 2}
RENAME = "rename it to train, valid or test, or give a folder without such names to split it at random"


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
    how: how the split was made, for people, where the data do not say it.
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
    how: str | None = None


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
        how = ", or --window N (window=N) to cut long ones into windows of N steps" * (what == "sequence")
        raise DataError(
            f"{name} holds {counted(n, what)} and no split, but at least three are needed: "
            f"one to train, one to validate, one to test{how}"
        )
    held_out, split = max(1, n // 10), np.zeros(n, dtype=np.int64)
    order = permutation(n, generator(0, "split"))
    split[order[:held_out]], split[order[held_out : 2 * held_out]] = 2, 1
    return split


def with_split(content, name):
    """Content of three or more sequences with a split, made at random, and with some to validate."""
    n, split = len(content.sequences), content.split
    if split is None and n > 2:
        return content._replace(split=at_random(n, name), how="split at random, 80 / 10 / 10 per cent")
    trained = np.flatnonzero(split == 0)
    if split is not None and {*np.unique(split)} == {0, 2} and len(trained) > 2:
        split = split.copy()
        split[trained[at_random(len(trained), name) == 1]] = 1
        return content._replace(split=split, how="a tenth of train, taken at random, validates")
    return content


def cut(content, medium, name):
    """Content of windows of medium["window"] steps, one every medium["stride"] steps, if the medium has a window.

    The last window of a sequence may be shorter. The split is made before the cut, so windows of different splits
    share no step.
    """
    whole = content.sequences
    if medium.get("window") is not None:
        window = check_whole("window", medium["window"])
        stride = check_whole("stride", medium.get("stride", window))
        content, *spans = _before_the_cut(content, name)
        index, start, lengths, split = _windows(*spans, *(min(n, whole.max_steps) for n in (window, stride)))
        if not isinstance(whole, Mapped) and lengths.sum() * whole.x_dim * whole.dtype.itemsize > MEMORY // 2:
            raise DataError(f"the windows of {name} overlap too much to fit into memory: give a larger stride")
        labels = None if content.labels is None else content.labels[index]
        medium = (content.medium or {}) | {"window": window, "stride": stride}
        pieces = whole.pieces(index, start, lengths)
        content = content._replace(sequences=pieces, split=split, labels=labels, medium=medium)
    if isinstance(whole, Mapped) and whole.longest > LONGEST:
        content.sequences.check(name)
    return content


def _windows(index, first, end, split, window, stride):
    """Sequence, first step, length and split of each window. index, first, end, split: of the spans (M,) to cut."""
    steps = end - first
    n = 1 + np.maximum(0, -(-(steps - window) // stride))  # windows, up to the first one that reaches the end
    n = np.minimum(n, -(-steps // stride))  # a stride beyond the window can lead past it
    own = np.repeat(np.arange(len(n)), n)
    start = first[own] + stride * rows_of(np.zeros_like(n), n)
    return index[own], start, np.minimum(window, end[own] - start), split[own]


def _before_the_cut(content, name):
    """Content, and sequence, first step, end and split of each span to cut, of which some are empty.

    Most sequences are one span. Without a split all are divided by time, and so are those of train if there is a test
    split, but none to validate; `with_split` leaves only one or two such sequences.
    """
    lengths, n, split = content.sequences.lengths, len(content.sequences), content.split
    if split is None:
        tenths = np.tile([0, 8, 9, 10], (n, 1))
        content = content._replace(how="split by time, 80 / 10 / 10 per cent")
    else:
        tenths = np.array([[0, 10, 10, 10], [0, 0, 10, 10], [0, 0, 0, 10]])[split]
        if {*np.unique(split)} == {0, 2}:
            tenths[split == 0] = 0, 9, 10, 10
            content = content._replace(how="the last tenth of each sequence of train validates")
    divided = (tenths % 10 > 0).any(axis=1)
    if lengths[divided].min(initial=10) < 10:
        raise DataError(
            f"{name} has {counted(lengths[divided].min(), 'step')}, but at least ten are needed for a split by time"
        )
    ends = lengths[:, None] * tenths // 10
    return content, np.repeat(np.arange(n), 3), ends[:, :-1].ravel(), ends[:, 1:].ravel(), np.tile([0, 1, 2], n)


def files_of(folder, endings):
    """The files below a folder with one of the endings, and the others, each in a fixed order, without hidden ones."""
    try:
        found = sorted(islice(_walk(folder), MOST_FILES + 1), key=lambda p: p.relative_to(folder).parts)
        files = [p for p in found if p.suffix.lower() in endings]
        odd = [p for p in files if not p.is_file()]
    except OSError as error:
        raise DataError(f"{error.filename or folder} can't be read: {error.strerror or error}") from error
    if len(found) > MOST_FILES:
        raise DataError(f"{folder} holds more than {MOST_FILES:,} files: give the folder of the data alone")
    if odd:
        raise DataError(f"{odd[0]} is a link that leads nowhere, or no regular file: remove it")
    return files, [p for p in found if p.suffix.lower() not in endings]


def _walk(folder):
    """All files below a folder, through links too. Raises OSError, and DataError for a folder that comes twice."""
    errors, seen = [], set()
    for top, below, files in os.walk(folder, followlinks=True, onerror=errors.append):
        if os.path.realpath(top) in seen:
            raise DataError(f"{top} is, or lies behind, a link to a folder that was read already: remove the link")
        seen.add(os.path.realpath(top))
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(top, name) for name in files if not name.startswith("."))
    if errors:
        raise errors[0]


def parsed(files, name, parse, about=""):
    """[parse(path) for path in files], each an array and a plain value; kept in the cache if it takes SLOW seconds.

    The key is all that decides the result: the text `about`, the reader's code, the files' names and their bytes.
    """
    key = hashlib.sha256(Path(inspect.getfile(parse)).read_bytes() + about.encode())
    for path in files:
        key.update(f"{path.name!a} ".encode() + hashlib.sha256(read_bytes(path)).digest())
    kept, start = None, time.monotonic()
    with suppress(DataError):  # there is no cache
        kept = cache_folder() / "parsed" / f"{key.hexdigest()}.npz"
    with suppress(Exception), open(kept, "rb") as file, np.load(file) as found:  # whatever is not whole is parsed again
        values, ends, plain = (found[member] for member in ("values", "ends", "plain"))
        return list(zip(np.split(values, ends[:-1]), json.loads(plain.tobytes()), strict=True))
    with progress(files, name) as bar:
        result = [parse(path) for path in bar]
    if kept is not None and time.monotonic() - start > SLOW and len({x.shape[1:] for x, _ in result}) == 1:
        arrays, plain = zip(*result)
        ends, plain = np.cumsum([len(x) for x in arrays]), np.frombuffer(json.dumps(plain).encode(), np.uint8)
        with suppress(OSError):  # a cache that can't be written only costs time
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, lambda file: np.savez(file, values=np.concatenate(arrays), ends=ends, plain=plain))
    return result


def unused_lists(paths):
    """A note on files that look like lists of a split, which no reader takes."""
    lists = [p.name for p in paths if re.search("train|valid|dev|test|split", p.stem, re.I)]
    return [f"{lists[0]} is not used: a split is read from folders named train, valid and test"] if lists else []


def progress(files, name):
    """The files, with a progress bar if reading takes more than two seconds. A context: its end removes the bar."""
    return bar(files, desc=f"reading {shown(name)}", unit="file", delay=2, leave=False)


def split_by_folder(folder, files):
    """(N,) 0 train, 1 valid, 2 test, from SPLIT_OF the folders that hold the files, or of all files; None without any.

    The folders can be at any level. Raises DataError unless there are train and another split, and for folders or files
    that are named almost like a split.
    """
    ways = [p.relative_to(folder).with_suffix("").parts for p in files]
    levels = [[way[level] if len(way) > level + 1 else "" for way in ways] for level in range(max(map(len, ways)) - 1)]
    lower = ([name.lower() for name in names] for names in levels)
    names, stems = next((names for names in lower if SPLIT_OF.keys() & set(names)), None), [way[-1] for way in ways]
    if names is None:
        for level in levels:
            _check_near(folder, {*level} - {""})
        names = _words(stems, files)
    if names is None:
        _check_near(folder, {*stems})
        return None
    split = np.array([SPLIT_OF.get(name, -1) for name in names])
    if not {0} < {*split} - {-1}:
        raise DataError(f"{folder} has the folders {', '.join(sorted(set(names)))!s:.80}: {RENAME}")
    if split.min() < 0:
        raise DataError(
            f"{files[split.argmin()].relative_to(folder)} is outside {folder.name}/train, valid and test: "
            "move or remove it"
        )
    return split


def _words(stems, files):
    """The name of a split in each stem, as in ptb.train; None unless they name train and another split."""
    words = [SPLIT_OF.keys() & {*_parts(stem)} for stem in stems]
    found, odd = {SPLIT_OF[word] for word in chain(*words)}, [len(own) != 1 for own in words]
    if len(found) < 2 or 0 not in found and any(odd):
        return None
    if any(odd):
        raise DataError(
            f"{files[odd.index(True)].name} does not have one of train, valid and test in its name as "
            f"{files[next(i for i, own in enumerate(words) if own)].name} does: rename or remove it"
        )
    return [own.pop() for own in words]


def _parts(name):
    """The words of a name such as ECG_TRAIN or ecgTrain, in lower case, without the ending of trainset or testdata."""
    ending = f"^({'|'.join(SPLIT_OF)})(set|data)$"
    words = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name) or [""]
    return [re.sub(ending, r"\1", word.lower()) for word in words]


def _check_near(folder, names):
    """Raise DataError if the folders or files `names` of one level seem to be splits, although none has its name.

    One with two neighbouring letters of a split swapped, such as "trian", is enough. Otherwise there must be two
    splits: one by its exact word, as in "train-clean" or "ecg_train", or no other folders, as in "trains" and "tests".
    """
    same = len(os.path.commonprefix([*names]))
    if len(names) > 1 and any({name[i:].lower() for name in names} <= SPLIT_OF.keys() for i in range(1, same + 1)):
        raise DataError(f"{folder} has a folder or file {min(names)!r:.40}: {RENAME}")  # as ecgtrain and ecgtest
    near = {name: min(map(_near, _parts(name)), key=lambda found: NEAR.index(found[1])) for name in sorted(names)}
    exact, swapped, off, _ = ({name: k for name, (k, how) in near.items() if how == kind} for kind in NEAR)
    splits = exact | off if exact or len(off) == len(names) else {}
    if swapped or len({*splits.values()}) > 1:
        raise DataError(f"{folder} has a folder or file {next(iter(swapped or splits))!r:.40}: {RENAME}")


@functools.cache
def _near(word):
    """The split whose name a word is, or nearly is, and which one of NEAR."""
    if word in DOUBTFUL:
        return DOUBTFUL[word], "off"
    for name, split in SPLIT_OF.items():
        same = len(os.path.commonprefix([word, name]))
        a, b = word[same:], name[same:]
        end = len(os.path.commonprefix([a[::-1], b[::-1]]))
        a, b = a[: len(a) - end], b[: len(b) - end]
        if a == b:
            return split, "exact"
        if len(name) > 3 and len(a) == 2 and a == b[::-1]:
            return split, "swapped"
        if len(name) > 3 and same and len(a) < 2 and len(b) < 2:
            return split, "off"
    return None, NEAR[-1]
