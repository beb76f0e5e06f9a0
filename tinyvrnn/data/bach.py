"""Bach's four-part chorales as piano rolls, from the corpus in the package `music21`: read once, then from a cache.

A step is a quarter note, and what sounds at its beginning is what is in it: the usual way for such sets since
Boulanger-Lewandowski, Bengio and Vincent, 2012, arXiv:1206.6392, who also brought them to C major or A minor and split
them 60 / 20 / 20. Their selection and split are others, so that figures are like those in tables, and not the same.
"""

import numpy as np
from tqdm import tqdm

from tinyvrnn.arrays.noise import generator
from tinyvrnn.data.cache import CACHE, cache_folder
from tinyvrnn.data.sequences import permutation
from tinyvrnn.errors import DataError
from tinyvrnn.io.files import write_atomically

LOWEST, KEYS = 21, 88  # MIDI's A0, and as many as a piano has
TONIC = {"major": 0, "minor": 9}  # C and A, where the chorales are brought


def cached():
    """The path of the chorales' .npz in the cache, where they are written first if need be. Raises DataError."""
    music21 = _music21()
    path = cache_folder() / f"music21-{music21.__version__}" / "bach.npz"
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = build(music21, sorted(music21.corpus.getComposer("bach", fileExtensions=("mxl",))))
            write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
        except OSError as error:
            raise DataError(
                f"can't write {path}: {error.strerror or error}: name a folder that can be written to in {CACHE}"
            ) from error
    return path


def build(music21, paths):
    """values, lengths and split (0 train, 1 valid, 2 test: 60 / 20 / 20 per cent) of the four-part scores in files."""
    rolls = {}
    for path in tqdm(paths, desc=f"reading Bach's chorales into {cache_folder()}, once", unit="score"):
        score = music21.converter.parse(path)
        if len(score.parts) == 4:
            roll = piano_roll(score)
            rolls.setdefault(roll.tobytes(), roll)  # some chorales are in the corpus twice
    rolls = list(rolls.values())
    order, split = permutation(len(rolls), generator(0, "bach")), np.zeros(len(rolls), dtype=np.uint8)
    fifth = len(rolls) // 5
    split[order[:fifth]], split[order[fifth : 2 * fifth]] = 2, 1
    return {"values": np.concatenate(rolls), "lengths": np.array([len(r) for r in rolls]), "split": split}


def piano_roll(score):
    """(T, 88) uint8: key k is down in step t where MIDI note 21 + k sounds at the t-th quarter, in C major or A minor.

    The quarters are those of the bars: an upbeat of an eighth is left out.
    """
    key = score.analyze("key")
    shift = (TONIC[key.mode] - key.tonic.pitchClass + 6) % 12 - 6
    first = _upbeat(score) % 1
    roll = np.zeros((int(np.ceil(score.highestTime - first)), KEYS), dtype=np.uint8)
    for note in (note for part in score.parts for note in part.flatten().notes):
        start = float(note.offset) - first
        steps = slice(max(0, _ceil(start)), _ceil(start + float(note.quarterLength)))
        for pitch in note.pitches:
            roll[steps, pitch.midi + shift - LOWEST] = 1
    return roll[: np.flatnonzero(roll.any(axis=1))[-1] + 1]


def _upbeat(score):
    """The quarters before the first whole bar, 0 where the first bar is whole."""
    bar = score.parts[0].getElementsByClass("Measure").first()
    whole = float(bar.barDuration.quarterLength)
    return (whole - float(bar.paddingLeft)) % whole


def _ceil(quarters):
    return int(np.ceil(quarters - 1e-6))  # a triplet's end, summed up, may lie a hair behind the beat


def _music21():
    try:
        import music21
    except ImportError:
        raise DataError("bach needs music21, which is not installed: pip install 'tinyvrnn[music]'") from None
    return music21
