"""Sound: RIFF .wav and NIST SPHERE files of one channel, cut into frames of 200 samples, as in the paper.

A step is a frame of the file's integer samples. SPHERE is the format of TIMIT and other sets of the LDC: a text header
("NIST_1A", its size, lines "name -type value" up to end_head), then the samples. Header fields are checked against the
size of the file before use.
"""

import io
import re
import wave

import numpy as np

from tinyvrnn.data.readers.content import Content, progress, read_bytes
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError

FRAME = 200  # samples in a step, as in the paper: 12.5 ms at 16,000 Hz
UNITS = "nats of raw data, in steps of the samples' integers"
BIGGEST_HEADER = 2**16
TO_PCM = "convert it, for example with `sox IN -b 16 -e signed-integer -c 1 OUT.wav`"


def read(files, split, name):
    """Content of `files` (paths), one sequence a file. Raises DataError if they differ in sample rate or width."""
    sequences, first = [], None
    with progress(files, name) as bar:
        for path in bar:
            samples, rate, full_scale = _samples(path)
            first = first or (path.name, rate, full_scale)
            if (rate, full_scale) != first[1:]:
                raise DataError(
                    f"{path.name} has {rate} samples a second and a full scale of {full_scale}, but {first[0]} has "
                    f"{first[1]} and {first[2]}: convert all files of {name} to one rate and width"
                )
            steps = len(samples) // FRAME
            if steps == 0:
                raise DataError(f"{path.name} holds {len(samples)} samples, but a frame has {FRAME}: remove the file")
            sequences.append(samples[: steps * FRAME].reshape(steps, FRAME))
    medium = {"name": "sound", "rate": first[1], "full_scale": float(first[2])}
    return Content(Sequences.from_list(sequences, name), split, medium=medium, units=UNITS)


def _samples(path):
    """Samples (n,) as integers, the sample rate in Hz, and the integer at full scale, of a file in either format."""
    content = read_bytes(path)
    samples, rate, width = (_sphere if content.startswith(b"NIST_1A") else _riff)(content, path.name)
    if not 1 <= rate <= 2**31 - 1:
        raise DataError(f"{path.name} has an impossible rate of {rate} samples a second: fix its header")
    return samples, rate, 2 ** (8 * width - 1)


# ---- RIFF -----------------------------------------------------------------------------------------------------------


def _riff(content, name):
    """Samples, rate, and bytes per sample of a RIFF .wav, read by the standard library."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            channels, width, rate, n = sound.getparams()[:4]
            stored = sound.readframes(n)
    except Exception as error:  # a damaged file makes wave raise wave.Error, EOFError, RuntimeError, struct.error
        if "unknown format" in str(error):
            raise DataError(f"{name} is not plain PCM ({error}): {TO_PCM}") from error
        raise DataError(
            f"{name} is not a valid .wav and may be damaged, truncated or of another format: {TO_PCM}"
        ) from error
    _check_form(channels, width, name)
    if len(stored) != n * width:
        raise DataError(f"{name} holds {len(stored) // width} samples, but its header says {n}: it was truncated")
    return _integers(stored, width, "<"), rate, width


# ---- SPHERE ---------------------------------------------------------------------------------------------------------


def _sphere(content, name):
    """Samples, rate, and bytes per sample of a NIST SPHERE file in plain PCM."""
    size = content[8:16].split(b"\n")[0].strip()
    if not re.fullmatch(rb"\d{1,7}", size) or not 16 <= int(size) <= min(BIGGEST_HEADER, len(content)):
        raise DataError(f"{name} is not a valid NIST SPHERE file, as its header has no valid size: {TO_PCM}")
    fields = _fields(content[16 : int(size)], name)
    coding = fields.get("sample_coding", "pcm")
    if coding != "pcm":
        how = "unpack it with `sph2pipe -p -f wav IN OUT.wav`" if "shorten" in coding else TO_PCM
        raise DataError(f"{name} has samples in the coding {coding!r:.40}, but plain pcm is needed: {how}")
    channels, n, rate, width = (
        _number(fields, key, name, default)
        for key, default in (
            ("channel_count", "1"),
            ("sample_count", None),
            ("sample_rate", None),
            ("sample_n_bytes", None),
        )
    )
    _check_form(channels, width, name)
    stored = content[int(size) :]
    if len(stored) != n * width:
        raise DataError(f"{name} holds {len(stored)} bytes of samples, but its header says {n} of {width} each")
    order = fields.get("sample_byte_format", "1" if width == 1 else "none")
    least_first = "".join(map(str, range(width)))
    if order not in (least_first, least_first[::-1]) and width > 1:
        raise DataError(f"{name} has the byte order {order!r:.20}, but {least_first} or its reverse is needed")
    return _integers(stored, width, "<" if order == least_first else ">", signed=True), rate, width


def _fields(header, name):
    """name -> value, for the lines of a SPHERE header up to end_head."""
    lines = header.decode("latin1").split("\n")
    lines = [line.split(";")[0].strip() for line in lines]
    if "end_head" not in lines:
        raise DataError(f"{name} is not a valid NIST SPHERE file, as its header has no end_head: {TO_PCM}")
    parts = (line.split(None, 2) for line in lines[: lines.index("end_head")])
    return {p[0]: p[2] for p in parts if len(p) == 3}


def _number(fields, key, name, default):
    value = fields.get(key, default)
    if value is None or not re.fullmatch(r"\d{1,15}", value, re.ASCII):
        raise DataError(f"{name}: its header says {key} {value!r:.40}, but a whole number is needed")
    return int(value)


# ---- both -----------------------------------------------------------------------------------------------------------


def _check_form(channels, width, name):
    if channels != 1:
        raise DataError(f"{name} has {channels} channels, but one is needed: choose one or mix them, {TO_PCM}")
    if width not in (1, 2, 3, 4):
        raise DataError(f"{name} has {width} bytes per sample, but 1, 2, 3 or 4 are needed: {TO_PCM}")


def _integers(stored, width, order, signed=False):
    """PCM samples (n,) as int16 or int32. Samples of 8 bits are unsigned in RIFF and signed in SPHERE."""
    if width == 1:
        return np.frombuffer(stored, "i1").astype(np.int16) if signed else np.frombuffer(stored, "u1") - np.int16(128)
    if width == 3:  # into the upper three of four bytes
        four = np.zeros((len(stored) // 3, 4), dtype=np.uint8)
        three = np.frombuffer(stored, np.uint8).reshape(-1, 3)
        four[:, 1:] = three if order == "<" else three[:, ::-1]
        return four.view("<i4")[:, 0].astype(np.int32) >> 8
    return np.frombuffer(stored, f"{order}i{width}").astype(f"=i{width}")
