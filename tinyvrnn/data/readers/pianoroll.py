"""Piano rolls: lists of chords in a .json or a .pickle, or matrices in a .mat, each in three splits.

These are the formats in which the chorales, folk tunes and piano pieces of Boulanger-Lewandowski, Bengio and Vincent,
2012, arXiv:1206.6392, are distributed. A pickle can run code when Python loads it, so pickles.py reads it instead.
"""

import importlib.util
import io
import json
import os
import reprlib
import subprocess
import sys

import numpy as np

from tinyvrnn.data.bach import KEYS, LOWEST
from tinyvrnn.data.readers import mat, pickles
from tinyvrnn.data.readers.content import SPLIT_OF, SPLITS, of_three_splits, read_bytes
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError, how_to_install
from tinyvrnn.io.npz import MEMORY
from tinyvrnn.io.streams import NO_WINDOW

FORM = '{"train": [[[60, 64, 67], ...], ...], "valid": ..., "test": ...}, sequences of chords of MIDI notes'
UNITS = "nats; piano rolls"
LISTS = (list, tuple)
NUMBERS = (int, float, np.integer, np.floating)
MOST_STEPS = MEMORY // (6 * KEYS)  # leaves room for copies of the rows


def read_lists(path):
    """Content of a .json or .pickle of the form FORM. Raises DataError, one sentence, for any other."""
    stored, kind = read_bytes(path, times=64), path.suffix.lower()
    try:
        found = json.loads(stored) if kind == ".json" else pickles.load(stored)
    except DataError as error:
        raise DataError(f"{path.name} {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # one wrong byte makes pickletools raise any of a dozen types
        raise DataError(f"{path.name} is no valid {kind} and may be damaged or truncated: {FORM} is needed") from error
    return _content(found, path.name)


def read_mat(path):
    """Content of a .mat with traindata, validdata and testdata: cells of matrices (T, 88) of 0 and 1, or one matrix."""
    if importlib.util.find_spec("scipy") is None:
        raise DataError(f"a .mat needs scipy, which is not installed: {how_to_install('scipy')}")
    if path.stat().st_size > MEMORY // 8:
        raise DataError(f"{path.name} has more than {MEMORY // 8:,} bytes, the limit for a .mat: save it as .npz")
    # In another process, because a damaged file can make scipy's reader crash its process.
    options = ["-P", "-W", "ignore", "-X", "utf8"]
    program = [sys.executable, *options, mat.__file__, str(path.resolve()), path.name, str(MEMORY), str(MOST_STEPS)]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would reserve address space
    try:
        own = {"stdin": subprocess.DEVNULL, "env": alone, "creationflags": NO_WINDOW}
        done = subprocess.run(program, capture_output=True, **own)
    except OSError as error:
        raise DataError("a .mat is read in a process of its own, and none can start here: save it as .npz") from error
    if done.returncode == mat.REFUSED:
        raise DataError(done.stderr.decode().strip())
    if done.returncode != 0:
        raise DataError(f"{path.name} can't be read and may be damaged, truncated or no .mat: save it again with -v7")
    arrays = np.load(io.BytesIO(done.stdout))
    where = {s: f"{s}data of {path.name}" for s in SPLITS}
    parts = {s: Sequences(arrays[s], arrays[f"{s}_lengths"], where[s]) for s in SPLITS}
    return of_three_splits(parts, units=UNITS)


def _content(found, name):
    """Content of a dict of splits, by any of their usual names in SPLIT_OF."""
    given = found if isinstance(found, dict) else {}
    names = [key for key in given if key.lower() in SPLIT_OF]
    splits = {SPLITS[SPLIT_OF[key.lower()]]: given[key] for key in names}
    if any(not isinstance(splits.get(s), LISTS) for s in SPLITS):
        found = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise DataError(f"{name} holds {found!s:.80}, but {FORM} is needed")
    if len(names) > len(splits):
        raise DataError(f"{name} holds {', '.join(names):.80}, two of which mean the same split: join or rename them")
    others = ", ".join(key for key in given if key not in names)
    notes = [f"{others:.80} is not read, only train, valid and test are"] if others else []
    # In a .json each step takes some bytes, but a pickle can refer to one list a million times.
    if sum(len(sequence) for s in SPLITS for sequence in splits[s] if isinstance(sequence, LISTS)) > MOST_STEPS:
        raise DataError(f"{name} holds more than {MOST_STEPS:,} steps, too many for a list: save it as .npz")
    known = {}
    rolls = {s: [_roll(x, f"sequence {i} of {s} in {name}", known) for i, x in enumerate(splits[s])] for s in SPLITS}
    parts = {s: Sequences.from_list(rolls[s], f"{s} of {name}") for s in SPLITS}
    return of_three_splits(parts, units=UNITS, notes=notes)


def _roll(sequence, where, known):
    """(T, 88) uint8 of a list of T chords; key k is MIDI note 21 + k. known: cache, id of a chord -> its row."""
    if not isinstance(sequence, LISTS):
        raise DataError(f"{where} is {_short(sequence)}, but a list of chords such as [[60, 64, 67], [62]] is needed")
    roll = np.zeros((len(sequence), KEYS), dtype=np.uint8)
    for t, chord in enumerate(sequence):
        if id(chord) not in known:
            known[id(chord)] = _row(chord, f"{where}: step {t}")
        roll[t] = known[id(chord)]
    return roll


def _row(chord, where):
    if not isinstance(chord, LISTS) or len(chord) > KEYS:
        raise DataError(f"{where} is {_short(chord)}, but a list of at most {KEYS} notes is needed")
    row = np.zeros(KEYS, dtype=np.uint8)
    for note in chord:
        is_rest = isinstance(note, NUMBERS) and (note == -1 or note != note)
        if not is_rest:
            row[_key(note, where)] = 1
    return row


def _key(note, where):
    if not isinstance(note, NUMBERS) or isinstance(note, bool) or note % 1:
        raise DataError(f"{where} holds {_short(note)}, but a MIDI note, a whole number, is needed")
    if not LOWEST <= note < LOWEST + KEYS:
        raise DataError(
            f"{where} holds the note {_short(int(note))}, but a piano has {LOWEST} to {LOWEST + KEYS - 1}: "
            "remove it; a rest is an empty chord, -1 or NaN"
        )
    return int(note) - LOWEST


def _short(value):
    """A wrong value in a few characters for a message; it may be nested without end."""
    try:
        return f"{reprlib.repr(value):.40}"
    except ValueError:  # a number that Python refuses to print
        return f"{type(value).__name__} of too many digits"
