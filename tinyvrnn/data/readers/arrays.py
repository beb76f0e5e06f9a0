"""Arrays in a .npy, or in a .npz by name. Pickles inside are never opened: they can run code.

A file of more than LARGE bytes stays where it is, memory-mapped; a large .npz is first unpacked into the user's cache,
once, because what is compressed can't be read in the middle.
"""

import hashlib
import re
import shutil
import zipfile

import numpy as np
from tqdm import tqdm

from tinyvrnn.data.cache import CACHE, cache_folder
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.readers.content import SPLITS, Content, of_three_splits
from tinyvrnn.data.sequences import Sequences, check_same_dimension, integer_array, real_array
from tinyvrnn.errors import DataError
from tinyvrnn.files import write_atomically

LARGE = 2**28  # bytes of arrays, from which on they are not copied into the memory


def read(path):
    """Content of a .npy or .npz, of a form that `load_data` names. Raises DataError, one sentence, for any other."""
    arrays, name = _arrays(path), path.name
    if any(s in arrays for s in SPLITS):
        return of_three_splits(_three_splits(arrays, name), medium=_sound(arrays, name))
    if "x" in arrays:
        whole = _padded(arrays["x"], arrays.get("lengths"), f"x of {name}")
    elif "values" in arrays and "lengths" in arrays:
        kind = Mapped.of_rows if isinstance(arrays["values"], np.memmap) else Sequences
        whole = kind(arrays["values"], arrays["lengths"], name)
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
        if _size(path) > LARGE:
            return _mapped(path)
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except DataError:
        raise
    except Exception as error:  # one wrong byte makes NumPy, zipfile, zlib or tokenize raise any of a dozen types
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path.name} holds an object array, which is a pickle and not read: save ragged sequences "
                "as np.savez(file, values=np.concatenate(list), lengths=[len(s) for s in list])"
            ) from None
        raise DataError(
            f"{path.name} can't be read, being damaged, cut short or no .npy or .npz file: "
            "save it again with np.save or np.savez"
        ) from error


def _size(path):
    """The bytes of the arrays in a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return path.stat().st_size


def _mapped(path):
    """`_arrays`, memory-mapped, of a .npz in its cache."""
    if not zipfile.is_zipfile(path):
        return {"x": np.lib.format.open_memmap(path, mode="r")}
    members = _unpacked(path)
    return {
        key: np.load(member, mmap_mode="r" if key in (*SPLITS, "x", "values") else None, allow_pickle=False)
        for key, member in members.items()
    }


def _unpacked(path):
    """name -> path of a .npy in the cache, for each array of a .npz; written where it isn't there yet."""
    about = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_folder() / "unpacked" / f"{path.stem}-{key}"
    with zipfile.ZipFile(path) as archive:
        arrays = [member for member in archive.infolist() if re.fullmatch(r"\w+\.npy", member.filename)]
        missing = [m for m in arrays if not _is_whole(folder / m.filename, m.file_size)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            needed, free = sum(m.file_size for m in missing), shutil.disk_usage(folder).free
            if needed > free:
                raise DataError(
                    f"{path.name} needs {needed:,} bytes to be unpacked in {folder}, but {free:,} are free: "
                    f"name another folder in {CACHE}, or save its largest array as a .npy"
                )
            for member in tqdm(missing, desc=f"unpacking {path.name} into {folder}, once", disable=not missing):
                with archive.open(member) as packed:
                    write_atomically(
                        folder / member.filename, lambda file, p=packed: shutil.copyfileobj(p, file, 2**20)
                    )
        except OSError as error:
            raise DataError(
                f"can't write {folder}: {error.strerror or error}: name a folder that can be written to in {CACHE}"
            ) from error
    return {member.filename.removesuffix(".npy"): folder / member.filename for member in arrays}


def _is_whole(path, size):
    return path.is_file() and path.stat().st_size == size


def _three_splits(arrays, name):
    missing = [s for s in SPLITS if s not in arrays]
    if missing:
        raise DataError(f"{name} has no {' and no '.join(missing)}, but train, valid and test are needed together")
    parts = {s: _padded(arrays[s], arrays.get(f"{s}_lengths"), f"{s} of {name}") for s in SPLITS}
    check_same_dimension(name, parts)
    return parts


def _padded(x, lengths, where):
    """Sequences of x (N, T, X), cut to lengths (N,) where those are given."""
    x = x if isinstance(x, np.memmap) else real_array(x, where)
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
    if isinstance(x, np.memmap):
        return Mapped.of_cube(x, lengths, where)
    return Sequences(x[np.arange(steps) < lengths[:, None]], lengths, where)


def _one_each(arrays, key, n, name):
    if key not in arrays:
        return None
    values = integer_array(arrays[key], f"{key} of {name}")
    if len(values) != n:
        raise DataError(f"{name}: {key} has {len(values)} numbers, but there are {n} sequences: give one for each")
    return values
