"""Bach's four-part chorales as piano rolls, parsed once from the corpus of the package `music21`, then cached.

A step is a quarter note and holds the keys that sound at its beginning. The chorales are transposed to C major or
A minor and split 60 / 20 / 20, as is usual since Boulanger-Lewandowski, Bengio and Vincent, 2012, arXiv:1206.6392.
Their selection and split differ from ours, so results are close to published ones but not directly comparable.
"""

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.cache import CACHE, cache_folder
from tinyvrnn.data.sequences import permutation
from tinyvrnn.errors import DataError, library, shown
from tinyvrnn.io.files import write_atomically
from tinyvrnn.io.streams import bar

LOWEST, KEYS = 21, 88  # MIDI note of a piano's lowest key (A0), and its number of keys
TONIC = {"major": 0, "minor": 9}  # pitch classes of C and A, to which the chorales are transposed


def cached():
    """Path of the chorales' .npz in the cache, built on the first call. Raises DataError."""
    music21 = library("music21", "music", "bach")
    path = cache_folder() / f"music21-{music21.__version__}" / "bach.npz"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = build(music21, sorted(music21.corpus.getComposer("bach", fileExtensions=("mxl",))))
            write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    except OSError as error:
        raise DataError(f"can't write {path}: {error.strerror or error}: set {CACHE} to a writable folder") from error
    return path


def build(music21, paths):
    """Arrays of the four-part scores among `paths`: values, lengths, split (0 train, 1 valid, 2 test; 60 / 20 / 20)."""
    rolls = {}
    for path in bar(paths, desc=f"reading Bach's chorales into {shown(cache_folder())}, once", unit="score"):
        score = music21.converter.parse(path)
        if len(score.parts) == 4:
            roll = piano_roll(score)
            rolls.setdefault(roll.tobytes(), roll)  # the corpus has some chorales twice
    rolls = list(rolls.values())
    order, split = permutation(len(rolls), generator(0, "bach")), np.zeros(len(rolls), dtype=np.uint8)
    fifth = len(rolls) // 5
    split[order[:fifth]], split[order[fifth : 2 * fifth]] = 2, 1
    return {"values": np.concatenate(rolls), "lengths": np.array([len(r) for r in rolls]), "split": split}


def piano_roll(score):
    """(T, 88) uint8, transposed to C major or A minor: [t, k] is 1 if MIDI note 21 + k sounds at the t-th quarter.

    Quarters are counted from the bar lines, so an upbeat of an eighth is dropped.
    """
    key = score.analyze("key")
    shift = (TONIC[key.mode] - key.tonic.pitchClass + 6) % 12 - 6
    bar = score.parts[0].getElementsByClass("Measure").first()
    whole = float(bar.barDuration.quarterLength)
    first = (whole - float(bar.paddingLeft)) % whole % 1  # the part of a quarter by which an upbeat is longer
    roll = np.zeros((int(np.ceil(score.highestTime - first)), KEYS), dtype=np.uint8)
    for note in (note for part in score.parts for note in part.flatten().notes):
        start = float(note.offset) - first
        steps = slice(max(0, _ceil(start)), _ceil(start + float(note.quarterLength)))
        for pitch in note.pitches:
            roll[steps, pitch.midi + shift - LOWEST] = 1
    return roll[: np.flatnonzero(roll.any(axis=1))[-1] + 1]


def _ceil(quarters):
    return int(np.ceil(quarters - 1e-6))  # rounding can put the end of a triplet just after the beat
