"""Text (.txt, UTF-8): a step is a character, one-hot over the alphabet, which is all characters of the data in order.

A file is cut at its empty lines, or into lines if it has none. In a folder each file is one sequence.
"""

import io
import re
from itertools import islice

import numpy as np

from tinyvrnn.data.readers.content import Content, progress, read_bytes
from tinyvrnn.data.readers.table import NUMBER
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError, counted
from tinyvrnn.io.npz import MEMORY

MOST = MEMORY // 4  # zeros and ones in all steps


def read(files, split, name, medium):
    """Content of `files` (paths). The alphabet of a text's `medium` replaces that of the files."""
    with progress(files, name) as bar:
        texts = [_text(path) for path in bar]
    for path, text in zip(files, texts) if "alphabet" not in medium else ():
        _check_no_numbers(path, text)
    if split is None and len(files) == 1:
        pieces = re.split(r"\n\s*\n", texts[0])
        texts = [piece for piece in (pieces if len(pieces) > 1 else texts[0].split("\n")) if piece.strip()]
    if not all(texts) or not texts:
        raise DataError(f"{name} holds a text without a character: remove it")
    characters = "".join(texts)
    alphabet = medium.get("alphabet") or "".join(sorted(set(characters)))
    unknown = "".join(sorted(set(characters) - set(alphabet)))
    if unknown:
        some = counted(len(unknown), "character")
        raise DataError(
            f"{name} holds {some} that the model's alphabet does not have ({unknown[:20]!a}): "
            "replace them, or train on text that holds them"
        )
    values = _one_hot(characters, alphabet, name)
    sequences = Sequences(values, [len(text) for text in texts], name)
    return Content(sequences, split, medium={"name": "text", "alphabet": alphabet}, units="nats; characters")


def _text(path):
    try:
        return read_bytes(path, times=64).decode("utf-8-sig").replace("\r\n", "\n").strip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: save it as UTF-8") from error


def _check_no_numbers(path, text):
    """Raise DataError for a table, as numpy.savetxt writes it."""
    lines = [line for line in islice(io.StringIO(text), 20) if line.strip()]
    cells = [cell for line in lines for cell in re.split(r"[\s,;]+", line) if cell]
    if len(lines) > 1 and all(NUMBER.fullmatch(cell) for cell in cells):
        table = f'numpy.savetxt("{path.stem}.csv", numpy.loadtxt("{path.name}"), delimiter=",")'
        raise DataError(f"{path.name} holds numbers, not text: save a table with commas, for example by `{table}`")


def _one_hot(characters, alphabet, name):
    """(steps, X) uint8; column j is the j-th character of the alphabet, which is in order."""
    if len(characters) * len(alphabet) > MOST:
        raise DataError(
            f"{name} holds {len(characters):,} characters, {len(alphabet):,} different ones, but their product may be "
            f"{MOST:,} at most: give a part of it, or replace rare characters"
        )
    known, codes = (np.frombuffer(text.encode("utf-32-le"), "<u4") for text in (alphabet, characters))
    values = np.zeros((len(codes), len(known)), np.uint8)
    values[np.arange(len(codes)), np.searchsorted(known, codes)] = 1
    return values
