"""Piano rolls: lists of chords in a .json, the same in a .pickle, or matrices in a .mat, each in three splits.

The forms in which the chorales, folk tunes and piano pieces of Boulanger-Lewandowski, Bengio and Vincent, 2012,
arXiv:1206.6392, go around. A pickle can run code when it is opened, so that only what lists of numbers are made of is
allowed in it, and NumPy's numbers are made here and not by what the file says.
"""

import importlib.util
import io
import json
import pickle
import pickletools
import re
import subprocess
import sys

import numpy as np

from tinyvrnn.data.bach import KEYS, LOWEST
from tinyvrnn.data.readers import mat
from tinyvrnn.data.readers.content import SPLITS, of_three_splits, read_bytes
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError

FORM = '{"train": [[[60, 64, 67], ...], ...], "valid": ..., "test": ...}, sequences of chords of MIDI notes'
UNITS = "nats; piano rolls"
LISTS = (list, tuple)


def read_json(path):
    """Content of a .json of the form FORM. Raises DataError, one sentence, for any other."""
    text = read_bytes(path)
    try:
        splits = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no .json, being damaged or cut short: {FORM} is needed") from error
    return _content(splits, path.name, len(text))


def read_pickle(path):
    """Content of a .pickle of the form FORM, its numbers Python's or NumPy's. Raises DataError for all else."""
    stored = read_bytes(path)
    try:
        _check_memo(stored)
        splits = _Unpickler(io.BytesIO(stored), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{path.name} {error}") from None
    except Exception as error:  # one wrong byte makes pickle raise any of a dozen types
        raise DataError(f"{path.name} is no .pickle, being damaged or cut short: {FORM} is needed") from error
    return _content(splits, path.name, len(stored))


def read_mat(path):
    """Content of a .mat with traindata, validdata and testdata: cells of matrices (T, 88) of 0 and 1, or one matrix."""
    if importlib.util.find_spec("scipy") is None:
        raise DataError("a .mat needs scipy, which is not installed: pip install 'tinyvrnn[scipy]'")
    # In another process, because a damaged file can make scipy's reader end the process that it runs in.
    program = [sys.executable, "-P", mat.__file__, str(path.resolve()), path.name]
    done = subprocess.run(program, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode == mat.REFUSED:
        raise DataError(done.stderr.decode().strip())
    if done.returncode != 0:
        raise DataError(f"{path.name} can't be read, being damaged, cut short or no .mat: save it again with -v7")
    arrays = np.load(io.BytesIO(done.stdout))
    where = {s: f"{s}data of {path.name}" for s in SPLITS}
    parts = {s: Sequences(arrays[s], arrays[f"{s}_lengths"], where[s]) for s in SPLITS}
    return of_three_splits(parts, units=UNITS)


# ---- lists of chords ------------------------------------------------------------------------------------------------


def _content(splits, name, size):
    if not isinstance(splits, dict) or any(not isinstance(splits.get(s), LISTS) for s in SPLITS):
        found = sorted(map(str, splits)) if isinstance(splits, dict) else type(splits).__name__
        raise DataError(f"{name} holds {found!s:.80}, but {FORM} is needed")
    # In a file every step takes up a byte at least, but in a pickle a list may stand for a million others like it.
    if sum(len(sequence) for s in SPLITS for sequence in splits[s] if isinstance(sequence, LISTS)) > size:
        raise DataError(f"{name} holds more steps than bytes, being made to fill the memory: save it as a plain .json")
    rolls = {s: [_roll(x, f"sequence {i} of {s} in {name}") for i, x in enumerate(splits[s])] for s in SPLITS}
    return of_three_splits({s: Sequences.from_list(rolls[s], f"{s} of {name}") for s in SPLITS}, units=UNITS)


def _roll(sequence, where):
    """(T, 88) uint8 of a list of T chords, key k being MIDI note 21 + k."""
    if not isinstance(sequence, LISTS):
        raise DataError(f"{where} is {sequence!r:.40}, but a list of chords such as [[60, 64, 67], [62]] is needed")
    roll = np.zeros((len(sequence), KEYS), dtype=np.uint8)
    for t, chord in enumerate(sequence):
        if not isinstance(chord, LISTS) or len(chord) > KEYS:
            raise DataError(f"{where}: step {t} is {chord!r:.40}, but a list of at most {KEYS} notes is needed")
        for note in chord:
            roll[t, _key(note, t, where)] = 1
    return roll


def _key(note, t, where):
    if not isinstance(note, int | np.integer) or isinstance(note, bool):
        raise DataError(f"{where}: step {t} holds {note!r:.40}, but a MIDI note, a whole number, is needed")
    if not LOWEST <= note < LOWEST + KEYS:
        raise DataError(
            f"{where}: step {t} holds the note {int(note)!s:.20}, but a piano has {LOWEST} to {LOWEST + KEYS - 1}: "
            "leave it out, also where it stands for a rest, which is an empty chord"
        )
    return int(note) - LOWEST


# ---- pickles --------------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """One that knows lists, tuples, dicts, strings, numbers, and NumPy's numbers, which it makes itself."""

    def find_class(self, module, name):
        # Made anew each time: an opcode can change the attributes of what it is given, for this file alone then.
        if (module, name) == ("numpy", "dtype"):
            return type("dtype", (_Dtype,), {})
        if (module, name) in (("numpy._core.multiarray", "scalar"), ("numpy.core.multiarray", "scalar")):
            return lambda dtype, stored: dtype.number(stored)
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return lambda text, encoding: text.encode("latin1")
        raise DataError(
            f"holds {module}.{name}, but lists of numbers are all that is read from a pickle, which could run any "
            "code: save it as .json"
        )


class _Dtype:
    """What a pickle says of a number's type: "i8" and the order of its bytes."""

    def __init__(self, code, *flags):
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = state[1]

    def number(self, stored):
        if not (re.fullmatch("b1|[iu][1248]|f[248]", self.code) and self.order in ("<", ">", "=", "|")):
            raise DataError(f"holds a number of type {self.code!r:.20}, but plain whole numbers are needed")
        stored = stored.encode("latin1") if isinstance(stored, str) else stored
        (number,) = np.frombuffer(stored, self.order.replace("|", "=") + self.code)
        return number


def _check_memo(stored):
    """Raises DataError where a place in pickle's memo lies beyond all that a file can fill: it would be allocated."""
    for opcode, argument, _ in pickletools.genops(stored):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(stored):
            raise DataError("is no .pickle, being damaged or made to fill the memory: save it as .json")
