"""Standardising: the mean to subtract, the scale to divide by, and the resulting shift of the log-density in nats.

Dividing a number by s adds ln s to its log-density: log p(x / s) = log p(x) + ln s.
"""

import numpy as np

from tinyvrnn.arrays.backend import as_array
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.sequences import Sequences, missing_values, real_array
from tinyvrnn.errors import DataError, unknown_name

SCALES = ("one", "authors", "axes")  # of a pen's (dx, dy), see `_pen_moments`
BY_COLUMN = "nats of standardised data (training split's mean and deviation)"
GIVEN = "nats of standardised data (a given mean and deviation)"


def moments(splits, standardise, kind=None, scale=None, sound=False):
    """mean (X,), std (X,), and the units of the standardised data, or None if standardising changes nothing.

    splits: split -> Sequences; the moments are those of "train". standardise: as in Data.from_sequences. scale: one of
    SCALES, for kind "pen". sound: one mean and standard deviation for all columns, which are samples of one waveform.
    """
    train = splits["train"]
    columns = _columns(standardise, train.x_dim)
    if columns is not None:
        mean, std, units = moments(splits, bool(columns.any()), kind, scale, sound)
        if units and not columns.all():
            units += f", column {' and '.join(str(j) for j in np.flatnonzero(~columns))} as given"
        return np.where(columns, mean, 0.0), np.where(columns, std, 1.0), units
    if not (standardise is None or isinstance(standardise, bool | np.bool_)):
        mean, std = _given_moments(standardise, train.x_dim)
        changes = (mean != 0).any() or (std != 1).any()
        return mean, std, GIVEN if changes else None
    if standardise is None:
        standardise = sound or not all(in_unit_interval(x) for x in splits.values())
    if not standardise:
        return np.zeros(train.x_dim), np.ones(train.x_dim), None
    if kind == "pen":
        return _pen_moments(train, scale or "one")
    return _sound_moments(train) if sound else _column_moments(train)


def standardised(sequences, mean, std, where):
    """Sequences of (values - mean) / std in float32, 0 in columns with std 0; mean, std (X,).

    On overflow raises DataError, naming `where`.
    """
    std = np.where(std > 0, std, np.inf)
    if isinstance(sequences, Mapped):
        return sequences.standardised(mean, std)
    values, rows = np.empty(sequences.values.shape, np.float32), 0
    with np.errstate(over="ignore"):  # Sequences refuses overflow and says where it is
        for _, part in sequences.parts():
            values[rows : rows + part.steps] = (part.values - mean) / std
            rows += part.steps
    with missing_values("nan"):  # those of the raw values
        return Sequences(values, sequences.lengths, f"{where}, standardised")


def notes_on_constants(mean, std, medium, *others):
    """Sentences on columns with one value or none in the training data, std (X,) 0, and on those that move in `others`.

    medium: "columns" in it are their names. others: raw Sequences.
    """
    constant, names = np.flatnonzero(std == 0), medium.get("columns")
    parts = (x.values[:, constant] for s in others if len(constant) for _, x in s.parts())
    moved = [(abs(x - mean[constant]) > _rounding(mean[constant].astype(x.dtype))).any(axis=0) for x in parts]
    for columns, what in (
        (constant, "that have one value in the training data, or none, and so are read as 0 and not scored"),
        (constant[np.any(moved, axis=0)] if moved else (), "of these that have other values in the data to be scored"),
    ):
        if len(columns):
            some = ", ".join(names[j] if names else str(j) for j in columns[:5]) + ", ..." * (len(columns) > 5)
            yield f"columns {what}: {some}{' (counted from 0)' * (not names)}"


def in_unit_interval(sequences):
    """Whether all observed values lie in [0, 1]."""
    return not any(((x.values < 0) | (x.values > 1)).any() for _, x in sequences.parts())


def is_binary(sequences):
    """Whether all observed values are 0 or 1."""
    return all(((x.values == 0) | (x.values == 1) | np.isnan(x.values)).all() for _, x in sequences.parts())


def check_scale(scale, kind, name):
    """Raise DataError for an unknown scale, or for a scale given for data other than a pen's."""
    if scale is not None and scale not in SCALES:
        raise DataError(unknown_name("scale", scale, SCALES))
    if scale is not None and kind != "pen":
        raise DataError(
            f"got the scale {scale!r}, but {name} is not read as a pen's steps (dx, dy, pen-up): "
            "omit --scale, or add --likelihood pen"
        )


def _mean(sequences, of):
    """The mean over all steps of of(values (steps, X)), without missing entries, summed in float64."""
    each = (of(x.values) for _, x in sequences.parts())
    sums = ((np.nansum(a, axis=0, dtype=np.float64), (~np.isnan(a)).sum(axis=0)) for a in each)
    total, count = (sum(values) for values in zip(*sums))
    return total / np.maximum(count, 1)


def _column_moments(train):
    mean = _mean(train, lambda x: x)
    std = np.sqrt(_mean(train, lambda x: (x - mean) ** 2))
    low, spread = _range(train)
    constant = ~(spread > _rounding(low))  # also those without an observed value
    mean[constant], std[constant] = np.nan_to_num(low[constant]), 0.0
    return mean, std, BY_COLUMN


def _range(train):
    """The least value (X,) of each column, and how far the greatest lies above it, a difference that int16 overflows.

    Constants are found by them: the standard deviation of 0.1, 0.1, ... comes out as 1e-17, not as 0.
    """
    low, high = zip(*((np.fmin.reduce(x.values), np.fmax.reduce(x.values)) for _, x in train.parts()))
    return np.fmin.reduce(low), np.subtract(np.fmax.reduce(high), np.fmin.reduce(low), dtype=np.float64)


def _rounding(values):
    """How far apart two floats may lie that stand for the same number, such as 1.1 * 3 and 3.3."""
    return 4 * np.finfo(values.dtype).eps * abs(values) if values.dtype.kind == "f" else 0


def _sound_moments(train):
    """One mean and one standard deviation for all samples, as in the paper: frame boundaries are arbitrary."""
    X = train.x_dim
    m = float(_mean(train, lambda x: x).mean())
    s = float(np.sqrt(_mean(train, lambda x: (x - m) ** 2).mean()))
    low, spread = _range(train)
    if not (spread > _rounding(low)).any() and (low == low[0]).all():
        return np.full(X, m), np.zeros(X), BY_COLUMN
    units = (
        f"nats of standardised data; samples less one mean, {m:.4g}, divided by one deviation, {s:.6g}: "
        f"{X} ln {s:.6g} = {X * np.log(s):.6g} a step more than of raw data"
    )
    return np.full(X, m), np.full(X, s), units


def _pen_moments(train, scale):
    """Scales of dx and dy, without a shift, so that a pen at rest stays at 0.

    "one": one scale, the root mean square of both, so that drawings keep their proportions;
    "axes": one scale for each axis;
    "authors": one scale as in the code of the paper's authors, sqrt(E[dx^2 + dy^2] - (E[dx] + E[dy])^2) with y upwards.
    It is about sqrt(2) times "one", since they divide the sum over both axes by the number of steps.
    """
    low, spread = _range(train)
    for j in np.flatnonzero(spread[:2] == 0):
        raise DataError(
            f"{('dx', 'dy')[j]} is {low[j]:g} in every step of the train split, but a pen moves along both axes: "
            "give --likelihood gaussian (kind=None)"
        )
    squares, means = (_mean(train, lambda x, k=k: x[:, :2].astype(np.float64) ** k) for k in (2, 1))
    if scale == "axes":
        s = np.sqrt(squares)
        how = f"dx divided by {s[0]:.4g}, dy by {s[1]:.4g}: ln {s[0]:.4g} + ln {s[1]:.4g}"
    else:
        both = squares.mean() if scale == "one" else squares.sum() - (means[0] - means[1]) ** 2
        s = np.full(2, np.sqrt(both))
        how = f"dx and dy divided by one scale, {s[0]:.4g}: 2 ln {s[0]:.4g}"
    units = f"nats of standardised data; {how} = {np.log(s).sum():.4g} a step more than of raw data"
    return np.zeros(3), np.array([*s, 1.0]), units


def _columns(standardise, x_dim):
    """`standardise` as (X,) booleans, or None if it is no such thing: None, a boolean or a pair of moments."""
    is_pair = isinstance(standardise, tuple | list) and len(standardise) == 2
    if standardise is None or isinstance(standardise, bool | np.bool_):
        return None
    if is_pair and not isinstance(standardise[0], bool | np.bool_):
        return None
    columns = as_array(standardise, "standardise")
    if columns.ndim == 2 and len(columns) == 2:
        return None
    if columns.dtype != bool or columns.shape != (x_dim,):
        raise DataError(
            f"got standardise={columns.tolist()!r:.60}, but this data has {x_dim} numbers in each step: "
            "give True or False for each"
        )
    return columns


def _given_moments(pair, x_dim):
    names = "the mean to standardise by", "the standard deviation to standardise by"
    mean, std = (real_array(moment, name).astype(np.float64) for moment, name in zip(pair, names))
    if mean.shape != (x_dim,) or std.shape != (x_dim,):
        raise DataError(
            f"got a mean {mean.shape} and a standard deviation {std.shape} to standardise by, but this data has "
            f"{x_dim} numbers in each step: use data like the model's training data"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise DataError(
            "got a mean or standard deviation that is not finite, or a standard deviation that is negative: "
            "give the pair that the model was trained with"
        )
    return mean, std
