"""Folders of MIDI files as piano rolls, through `mido`: a file for each sequence, a step of a fixed part of a quarter.

A key is down from the step nearest to its beginning to the one nearest to its end, for a step at least. Tempo is
ignored; percussion (channel 10) and notes outside a piano's keys are left out, and counted.
"""

import io
import re
from fractions import Fraction

import numpy as np

from tinyvrnn.data.bach import KEYS, LOWEST
from tinyvrnn.data.readers.content import Content, progress, read_bytes
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError, library
from tinyvrnn.io.npz import MEMORY

STEPS = 4  # in a quarter note
PERCUSSION = 9  # channel 10, counted from 0
MOST_STEPS = MEMORY // (4 * KEYS)
ENDLESS = re.compile(rb"[\x80-\xff]{4096}")  # would be read as one number, in quadratic time


def read(files, split, name, medium):
    """Content of `files` (paths). medium: may state other steps_per_quarter. Raises DataError for damaged files."""
    per_quarter, rolls, left_out = medium.get("steps_per_quarter", STEPS), [], 0
    with progress(files, name) as bar:
        for path in bar:
            spans, outside = _spans(path, per_quarter)
            rolls.append(_roll(spans, path, MOST_STEPS - sum(map(len, rolls))))
            left_out += outside
    source = f"{left_out} notes of percussion or outside the keys of a piano are left out" if left_out else None
    medium = {"name": "piano roll", "steps_per_quarter": per_quarter}
    units = f"nats; piano rolls, {per_quarter} steps a quarter note"
    return Content(Sequences.from_list(rolls, name), split, medium=medium, source=source, units=units)


def _spans(path, per_quarter):
    """(first step, step after the last, key) of each note, and how many notes are left out."""
    content, package = read_bytes(path, times=512), library("mido", "music", "MIDI")
    try:
        if ENDLESS.search(content):
            raise ValueError
        file = package.MidiFile(file=io.BytesIO(content), clip=True)
        notes = [note for track in file.tracks for note in _notes(track)]
    except Exception as error:  # a damaged file makes mido raise any of half a dozen types
        raise DataError(f"{path.name} is not valid MIDI and may be damaged or truncated: export it again") from error
    if file.type not in (0, 1) or file.ticks_per_beat < 1:
        raise DataError(f"{path.name} has independent tracks, or time in seconds: export it as MIDI of type 1")
    ticks = Fraction(file.ticks_per_beat, per_quarter)  # a float could overflow
    steps = [(round(start / ticks), round(end / ticks), note - LOWEST) for start, end, note in notes]
    spans = [(start, max(end, start + 1), key) for start, end, key in steps if 0 <= key < KEYS]
    return spans, len(notes) - len(spans)


def _notes(track):
    """(start, end, note) in ticks of each note; -1 is one of percussion. A repeated key ends the note before."""
    now, down = 0, {}
    for message in track:
        now += message.time
        if message.type in ("note_on", "note_off"):
            key = message.channel, message.note
            if key in down:
                yield down.pop(key), now, -1 if message.channel == PERCUSSION else message.note
            if message.type == "note_on" and message.velocity:
                down[key] = now
    for (channel, note), start in down.items():
        yield start, now, -1 if channel == PERCUSSION else note


def _roll(spans, path, most):
    """(T, 88) uint8."""
    if not spans:
        raise DataError(f"{path.name} holds no notes of a piano: remove the file")
    steps = max(end for _, end, _ in spans)
    if steps > most:
        raise DataError(f"{path.name} makes more than {MOST_STEPS:,} steps, with the files before it: use longer steps")
    (starts, ends, keys), roll = np.array(spans).T, np.zeros((steps, KEYS), dtype=np.uint8)
    for key in np.unique(keys):
        begun, ended = (np.bincount(at[keys == key], minlength=steps + 1) for at in (starts, ends))
        roll[:, key] = np.cumsum(begun - ended)[:-1] > 0
    return roll
