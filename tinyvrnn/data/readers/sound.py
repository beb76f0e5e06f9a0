"""Sound of one channel, cut into frames of 200 samples, as in the paper.

Python's `wave` reads a .wav whose header says plain PCM of 16 bits; the library soundfile reads any other .wav, FLAC,
Ogg and NIST SPHERE, the format of TIMIT and other sets of the LDC, so that the answer is the same on every version of
Python. Samples are the file's integers where it holds integers, else floats with a full scale of 1.
"""

import io
import re
import wave

import numpy as np

from tinyvrnn.data.readers.content import Content, progress, read_bytes
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError, library
from tinyvrnn.io.npz import MEMORY

FRAME = 200  # samples in a step, as in the paper: 12.5 ms at 16,000 Hz
UNITS = "nats of raw data, in steps of the samples' integers"
PCM_16 = 1, 16  # the code of the format and the bits of a sample in the header of a .wav
STREAMED = 2**31 - 2**16  # programs that write to a pipe give the size of a .wav as at least this
MOST = MEMORY // 32  # samples of a compressed file
BLOCK = 2**20  # samples read at once: what a header says is not allocated
BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}
BEGINNINGS = (b"RIFF", b"fLaC", b"OggS", b"NIST_1A")
TO_PCM = "convert it, for example with `sox IN -b 16 -e signed-integer -c 1 OUT.wav`"


def read(files, split, name, medium):
    """Content of `files` (paths), one sequence a file. Raises DataError if they differ in sample rate or width."""
    sequences, kinds = [], {}
    with progress(files, name) as bar:
        for path in bar:
            samples, *kind = _samples(path)
            kinds.setdefault(tuple(kind), []).append(path.name)
            steps = len(samples) // FRAME
            if steps == 0:
                raise DataError(f"{path.name} holds {len(samples)} samples, but a frame has {FRAME}: remove the file")
            sequences.append(samples[: steps * FRAME].reshape(steps, FRAME))
    if len(kinds) > 1:
        several = list(kinds.items())[:3]
        listed = ", ".join(f"{r} a second with full scale {f} in {n[0]:.40} (of {len(n)})" for (r, f), n in several)
        raise DataError(f"{name:.40} holds samples of different kinds, {listed}: convert all to one rate and width")
    (rate, full_scale), *_ = kinds
    medium = {"name": "sound", "rate": rate, "full_scale": float(full_scale)}
    return Content(Sequences.from_list(sequences, name), split, medium=medium, units=UNITS if full_scale > 1 else None)


def _samples(path):
    """Samples (n,), the sample rate in Hz, and the number at full scale."""
    content, name = read_bytes(path), path.name
    if not content.startswith(BEGINNINGS):
        raise DataError(f"{name} is not a sound in .wav, .flac, .ogg, .opus or .sph and may be damaged: {TO_PCM}")
    plain = content.startswith(b"RIFF") and _format(content, name) == PCM_16
    samples, rate, full_scale = _plain(content, name) if plain else _by_soundfile(content, path)
    if not 1 <= rate <= 2**31 - 1:
        raise DataError(f"{name} has an impossible rate of {rate} samples a second: fix its header")
    return samples, rate, full_scale


def _check_form(channels, n, name):
    if channels != 1:
        raise DataError(f"{name} has {channels} channels, but one is needed: choose one or mix them, {TO_PCM}")
    if n > MOST:
        raise DataError(f"{name} has more than {MOST:,} samples, or does not say how many: {TO_PCM}")


def _format(content, name):
    """(code, bits) from the header of a .wav. Raises DataError if its samples are not there or were truncated."""
    at, found = 12, None
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8
        if kind == b"fmt ":
            found = tuple(int.from_bytes(content[i : i + 2], "little") for i in (at, at + 14))
        if kind == b"data" and found:
            if size > len(content) - at and int.from_bytes(content[4:8], "little") < STREAMED:
                raise DataError(f"{name} holds {len(content) - at} bytes, but its header says {size}: it was truncated")
            return found
        at += size + size % 2
    raise DataError(f"{name} is not a valid .wav and may be damaged or truncated: {TO_PCM}")


def _plain(content, name):
    """Samples (n,) as int16, the rate and full scale of plain PCM of 16 bits."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            _check_form(sound.getnchannels(), 0, name)
            stored = sound.readframes(sound.getnframes())
            return np.frombuffer(stored[: len(stored) // 2 * 2], "<i2").astype(np.int16), sound.getframerate(), 2**15
    except DataError:
        raise
    except Exception as error:  # a damaged file makes wave raise wave.Error, EOFError, RuntimeError, struct.error
        raise DataError(f"{name} is not a valid .wav and may be damaged or truncated: {TO_PCM}") from error


def _by_soundfile(content, path):
    """Samples (n,) as int16, int32 or float32, the rate and full scale of any other coding."""
    name = path.name
    soundfile = library("soundfile", "sound", f"{name} is not plain PCM of 16 bits and", f", or {TO_PCM}")
    try:
        with soundfile.SoundFile(path) as sound:  # not the bytes: its callbacks would print errors
            _check_form(sound.channels, sound.frames, name)
            bits = BITS.get(sound.subtype)
            dtype = np.dtype(("int16" if bits <= 16 else "int32") if bits else "float32")
            samples = np.concatenate([np.empty(0, dtype), *sound.blocks(BLOCK, dtype=dtype.name)])
    except DataError:
        raise
    except Exception as error:  # of soundfile, or of Python while it reads a damaged file
        how = "unpack it with `sph2pipe -p -f wav IN OUT.wav`" if content.startswith(b"NIST_1A") else TO_PCM
        raise DataError(f"{name} can't be read and may be damaged or of an unknown coding: {how}") from error
    if not _is_whole(content, sound.frames, len(samples)):
        raise DataError(f"{name} holds {len(samples)} samples, but its header says otherwise: it was truncated")
    if bits is None:
        return samples, sound.samplerate, 1.0
    return samples >> (8 * dtype.itemsize - bits), sound.samplerate, 2 ** (bits - 1)


def _is_whole(content, frames, n):
    """Whether n samples are as many as the header says; soundfile reads truncated SPHERE and Ogg without complaint."""
    if content.startswith(b"NIST_1A"):
        said = re.search(rb"\nsample_count -i +(\d{1,15})\s", content[:1024])
        return said is not None and int(said[1]) == n
    if content.startswith(b"OggS"):
        return _ends_an_ogg(content[content.rindex(b"OggS") :])
    return n == frames


def _ends_an_ogg(page):
    """Whether a page of an Ogg file is marked as the last one and is all there (RFC 3533, section 6)."""
    return len(page) > 26 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
