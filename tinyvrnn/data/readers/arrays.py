"""Arrays in a .npy, or in a .npz by name. Pickles inside are never opened: they can run code."""

import numpy as np

from tinyvrnn.data.readers.content import SPLITS, Content, of_three_splits
from tinyvrnn.data.sequences import Sequences, check_same_dimension, integer_array, real_array
from tinyvrnn.errors import DataError


def read(path):
    """Content of a .npy or .npz, of a form that `load_data` names. Raises DataError, one sentence, for any other."""
    arrays, name = _arrays(path), path.name
    if any(s in arrays for s in SPLITS):
        return of_three_splits(_three_splits(arrays, name), medium=_sound(arrays, name))
    if "x" in arrays:
        whole = _padded(arrays["x"], arrays.get("lengths"), f"x of {name}")
    elif "values" in arrays and "lengths" in arrays:
        whole = Sequences(arrays["values"], arrays["lengths"], name)
    else:
        raise DataError(
            f"{name} holds {sorted(arrays) or 'no arrays'}, but x (N, T, X), or values (steps, X) with "
            "lengths (N,), or train, valid and test, each (N, T, X), are needed"
        )
    split, labels = (_one_each(arrays, key, len(whole), name) for key in ("split", "labels"))
    return Content(whole, split, labels, _sound(arrays, name))


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
    """name -> array of a .npz; {"x": array} of a .npy."""
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
    check_same_dimension(name, parts)
    return parts


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
