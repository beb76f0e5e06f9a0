"""Arrays in a .npy, or named arrays in a .npz. Arrays of arrays are pickles, which can run code: pickles.py reads them.

A file of more than LARGE bytes is memory-mapped. A large .npz is first unpacked into the user's cache, once, because a
compressed array can't be read from the middle.
"""

import hashlib
import os
import shutil
import zipfile
from contextlib import nullcontext, suppress

import numpy as np

from tinyvrnn.data.cache import CACHE, cache_folder
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.readers import pickles
from tinyvrnn.data.readers.content import SPLITS, Content, of_three_splits, progress
from tinyvrnn.data.sequences import Sequences, check_same_dimension, check_shapes, integer_array, real_array
from tinyvrnn.errors import DataError, shown
from tinyvrnn.io import npz
from tinyvrnn.io.files import one_at_a_time, replace, write_atomically
from tinyvrnn.io.streams import bar

LARGE = npz.MEMORY // 8  # bytes; larger arrays are memory-mapped
STEPS_AT_ONCE = 2**22
MOST_SEQUENCES = npz.MEMORY // 128
ROWS = (*SPLITS, "x", "values")  # arrays that may be large
BESIDE = ("lengths", "split", "labels", "sample_rate")
READ = {  # the arrays of which a .npz has one -> all that are read then; the first form that fits counts
    SPLITS: {*SPLITS, *(f"{s}_lengths" for s in SPLITS), "sample_rate"},
    ("x",): {"x", *BESIDE},
    ("values",): {"values", *BESIDE},
}
MOST_OBJECTS = npz.MEMORY // 16  # bytes of an array of arrays
FORM = "x (N, T, X), or values (steps, X) with lengths (N,), or train, valid and test, each (N, T, X),"


def read(path):
    """Content of a .npy or .npz in a form that `load_data` documents. Raises DataError, one sentence, for any other."""
    try:
        content = _content(_arrays(path), path.name)
        return content._replace(notes=(*content.notes, *_unread(path)))
    except DataError:
        with suppress(DataError):  # there is no cache
            shutil.rmtree(_folder(path), ignore_errors=True)  # a refused archive leaves nothing in it
        raise


def _unread(path):
    """A note on the arrays of a .npz that are not read."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = npz.members(archive).keys()
    read = members & _form(members)
    if others := sorted(members - read):
        beside = f"beside {', '.join(sorted(read))}; missing values are NaN, with --missing nan"
        yield f"{', '.join(others):.80} of {path.name} is not read {beside}"


def _form(names):
    """The names of the arrays that are read from a .npz that has these."""
    return next((read for first, read in READ.items() if names & {*first}), set())


def _content(arrays, name):
    _check_numbers(arrays, name)
    if any(s in arrays for s in SPLITS):
        missing = [s for s in SPLITS if s not in arrays]
        if missing:
            raise DataError(f"{name} has no {' and no '.join(missing)}, but train, valid and test are needed together")
        parts = {s: _padded(arrays[s], arrays.get(f"{s}_lengths"), f"{s} of {name}") for s in SPLITS}
        check_same_dimension(name, parts)
        kind = "pen" if all(_is_strokes(arrays[s]) for s in SPLITS) else None
        return of_three_splits(parts, medium=_sound(arrays, name), kind=kind)
    if "x" in arrays:
        whole = _padded(arrays["x"], arrays.get("lengths"), f"x of {name}")
    elif "values" in arrays and "lengths" in arrays:
        kind = Mapped.of_rows if isinstance(arrays["values"], np.memmap) else Sequences
        whole = kind(arrays["values"], arrays["lengths"], name)
    else:
        raise DataError(f"{name} holds {sorted(arrays)}, but {FORM} are needed")
    split, labels = (_one_each(arrays, key, len(whole), name) for key in ("split", "labels"))
    if split is not None and not np.isin(split, (0, 1, 2)).all():
        found = sorted({*split.tolist()})
        raise DataError(f"{name}: split holds {found}, but only 0 (train), 1 (valid) and 2 (test) are allowed")
    return Content(whole, split, labels, _sound(arrays, name))


def read_folder(files, split, name, medium):
    """Content of `files` (paths of .npy), each one sequence (T, X)."""
    with progress(files, name) as bar:
        several = [_arrays(path)["x"] for path in bar]
    for path, x in zip(files, several):
        if x.ndim != 2 or x.shape[1] != several[0].shape[-1]:
            raise DataError(
                f"{path.name} has shape {x.shape} and {files[0].name} {several[0].shape}, but each .npy of a folder "
                "must be one sequence (T, X), X the same for all" + ": save x[:, None] for X = 1" * (x.ndim == 1)
            )
    return Content(Sequences.from_list(several, name), split)


def _is_strokes(x):
    """Whether x has the form of sketch-rnn's drawings: an array of arrays (T, 3), whose last column is 0 or 1."""
    return isinstance(x, Sequences) and x.x_dim == 3 and bool(np.isin(x.values[:, 2], (0, 1)).all())


def _check_numbers(arrays, name):
    """Raise DataError for arrays in place of numbers, or so many sequences that an entry for each fills the memory."""
    for key, array in arrays.items():
        ragged = isinstance(array, Sequences)
        if ragged and key not in (*SPLITS, "x"):
            raise DataError(f"{name}: {key} is an array of arrays, but plain numbers are needed")
        one = not ragged and (array.ndim == 0 or array.ndim == 2 and key in (*SPLITS, "x"))  # (T, X) is one sequence
        n = 0 if one or key == "values" else len(array)
        if n > MOST_SEQUENCES:
            raise DataError(f"{name}: {key} has {n:,} sequences, but the limit is {MOST_SEQUENCES:,}: use more files")


def _sound(arrays, name):
    """The medium of a file with a sample_rate. Full scale is 1 for floats, and 32,768 for int16."""
    if "sample_rate" not in arrays:
        return None
    rate = arrays["sample_rate"]
    if rate.shape != () or rate.dtype.kind not in "ui" or not 1 <= rate <= 2**31 - 1:
        raise DataError(f"{name}: sample_rate must be a whole number of samples a second, such as 16000")
    first = next(arrays[key] for key in ("train", "x", "values") if key in arrays)
    full_scale = float(np.iinfo(first.dtype).max) + 1 if first.dtype.kind in "iu" else 1.0
    return {"name": "sound", "rate": int(rate), "full_scale": full_scale}


def _arrays(path):
    """name -> array, for the known names in a .npz; {"x": array} for a .npy."""
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                return {"x": _array(file, path, path.stat().st_size > LARGE)}
            with zipfile.ZipFile(file) as archive:
                return _members(archive, path)
    except (DataError, MemoryError):
        raise
    except npz.ObjectArrayError:
        raise DataError(
            f"{path.name} holds an object array of more than {MOST_OBJECTS:,} bytes: save ragged sequences as "
            "np.savez(file, values=np.concatenate(list), lengths=[len(s) for s in list])"
        ) from None
    except Exception as error:  # one wrong byte makes NumPy, zipfile, zlib or tokenize raise any of a dozen types
        raise DataError(
            f"{path.name} can't be read and may be damaged, truncated or no .npy or .npz file: "
            "save it again with np.save or np.savez"
        ) from error


def _array(file, path, mapped):
    """The array in an open .npy, memory-mapped if `mapped`."""
    file.seek(0)
    size = path.stat().st_size
    if not mapped:
        return _in_memory(file, size, path.name)
    header = npz.read_header(file, size)
    return np.memmap(path, header.dtype, "r", header.offset, header.shape, header.order)


def _in_memory(stream, size, where):
    """The array in a stream that holds a .npy of `size` bytes; Sequences of an array of arrays (T, X)."""
    try:
        return npz.read_array(stream, size)
    except npz.ObjectArrayError as error:
        if size > MOST_OBJECTS:
            raise
        stream.seek(error.offset)
    try:
        several = pickles.load(stream.read())
    except DataError as error:
        raise DataError(f"{where} {error}") from None
    if several.ndim != 1 or any(type(x) is not np.ndarray or x.dtype == object for x in several):
        raise DataError(f"{where} is an object array of {several.shape}, but one of arrays (T, X) of numbers is needed")
    return Sequences.from_list(list(several), where)


def _members(archive, path):
    members = npz.members(archive)
    form = _form(members.keys())
    known = {name: member for name, member in members.items() if name in form}
    if not known:
        found = sorted(name.removesuffix(".npy") for name in archive.namelist())
        raise DataError(f"{path.name} holds {found!s:.80}, but {FORM} are needed")
    if any(member.file_size > npz.MEMORY // 8 for name, member in known.items() if name not in ROWS):
        raise ValueError("more than a number for each sequence")
    if sum(member.file_size for member in known.values()) <= LARGE:
        return {n: _in_memory(archive.open(m), m.file_size, f"{n} of {path.name}") for n, m in known.items()}
    arrays = {}
    for name, unpacked in _unpacked(archive, known, path).items():
        with open(unpacked, "rb") as file:
            arrays[name] = _array(file, unpacked, name in ROWS)
    return arrays


def _unpacked(archive, members, path):
    """name -> path of a .npy in the cache, for each array of a .npz, which is unpacked unless it is there already."""
    for member in members.values():
        npz.read_header(archive.open(member), member.file_size)  # check all headers before writing anything
    folder = _folder(path) / _version(members, path)
    files = {name: folder / f"{name}.npy" for name in members}  # known names only: never a path out of the archive
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if _are_whole(files, members) else one_at_a_time(folder.parent.parent):
            if not _are_whole(files, members):  # another process may have unpacked it meanwhile
                _unpack_into(folder, archive, members, path)
    except OSError as error:
        raise DataError(f"can't write {folder}: {error.strerror or error}: set {CACHE} to a writable folder") from error
    return files


def _unpack_into(folder, archive, members, path):
    """Write all members, or nothing; remove older versions of this archive, and what a killed process left."""
    part = folder.parent.with_name(".part")  # only one process unpacks at a time
    for old in (part, *folder.parent.iterdir()):
        shutil.rmtree(old, ignore_errors=True)
    needed, free = sum(member.file_size for member in members.values()), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(
            f"{path.name} needs {needed:,} bytes to be unpacked in {folder}, but {free:,} are free: "
            f"set {CACHE} to another folder, or save its largest array as a .npy"
        )
    try:
        part.mkdir()
        for name in bar(members, desc=shown(f"unpacking {path.name} into {folder}, once")):
            write_atomically(part / f"{name}.npy", lambda file, m=members[name]: _unpack(archive, m, file))
        replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _folder(path):
    """The folder of an archive in the cache; each version of it has one of its own there."""
    name = f"{path.stem}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]}"
    return cache_folder() / "unpacked" / name


def _version(members, path):
    """A digest that differs where the archive has changed, even with the same size and time: of its checksums."""
    sums = [(name, member.file_size, member.CRC) for name, member in sorted(members.items())]
    about = path.stat()
    return hashlib.sha256(f"{sums} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:16]


def _unpack(archive, member, file):
    with archive.open(member) as packed:
        shutil.copyfileobj(packed, file, 2**20)
    if file.tell() != member.file_size:
        raise ValueError(f"{member.filename} is shorter than its header says")


def _are_whole(files, members):
    return all(f.is_file() and f.stat().st_size == members[name].file_size for name, f in files.items())


def _padded(x, lengths, where):
    """Sequences of x (N, T, X), cut to lengths (N,) unless that is None."""
    if isinstance(x, Sequences):
        return x
    x = x if isinstance(x, np.memmap) else real_array(x, where)
    if x.ndim == 2:
        x = x[None]
    if x.ndim != 3:
        raise DataError(
            f"{where} has shape {x.shape}, but (N, T, X) is needed, N sequences of T steps of X numbers, or (T, X), "
            "one sequence: reshape it, for example with x[:, None] if it is a single column"
        )
    n, steps, _ = x.shape
    lengths = np.full(n, steps) if lengths is None else integer_array(lengths, f"the lengths of {where}")
    if len(lengths) != n or lengths.max(initial=0) > steps:
        raise DataError(
            f"{where} holds {n} sequences of at most {steps} steps, but the lengths are {len(lengths)} "
            f"numbers up to {lengths.max(initial=0)}"
        )
    check_shapes(np.broadcast_to(0, (max(0, lengths.sum()), x.shape[2])), lengths, where)
    if isinstance(x, np.memmap):
        return Mapped.of(x, np.arange(n) * steps, lengths, where)
    return Sequences(_without_padding(x, lengths), lengths, where)


def _without_padding(x, lengths):
    """The real steps (steps, X) of x (N, T, X). In slices, because indexing by a mask allocates an index per step."""
    n, steps, x_dim = x.shape
    if (lengths == steps).all():
        return x.reshape(n * steps, x_dim)
    some = STEPS_AT_ONCE // steps
    if some == 0:
        return np.concatenate([row[:length] for row, length in zip(x, lengths)])
    real = (np.arange(steps) < lengths[i : i + some, None] for i in range(0, n, some))
    return np.concatenate([x[i : i + some][mask] for i, mask in zip(range(0, n, some), real)])


def _one_each(arrays, key, n, name):
    if key not in arrays:
        return None
    values = integer_array(arrays[key], f"{key} of {name}")
    if len(values) != n:
        raise DataError(f"{name}: {key} has {len(values)} numbers, but there are {n} sequences: give one for each")
    return values
