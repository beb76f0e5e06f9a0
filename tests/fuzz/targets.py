"""A target for each reader: a small valid file, how it is read, and `attempt`, which judges the reading of a wrong one.

Any file is either read, or refused in one sentence by its reader's exception, within 5 seconds, without a warning and
without leaving files on the disk.
"""

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import warnings
import wave
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

import mido
import numpy as np
import soundfile

import tinyvrnn as tv
from fuzz.isolate import CAN_FORK, forked, time_limit
from tinyvrnn.data import read_sequences
from tinyvrnn.data.readers import mat, pianoroll
from tinyvrnn.runs import checkpoint
from tinyvrnn.runs.run import RESUME, Run, config
from tinyvrnn.training.optim import Adam
from tinyvrnn.training.options import Options
from tinyvrnn.training.state import State

CUBE = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
CHORDS = {"train": [[[60, 64], []], [[21]]], "valid": [[[59]]], "test": [[[48], [108]]]}
XML = (
    '<?xml version="1.0" encoding="ISO-8859-1"?><WhiteboardCaptureSession><StrokeSet><Stroke colour="black">'
    '<Point x="100" y="200" time="1.5"/><Point x="103" y="196" time="1.6"/></Stroke><Stroke><Point x="110" y="200"/>'
    "</Stroke></StrokeSet></WhiteboardCaptureSession>\n"
)


class Target(NamedTuple):
    """A reader. path: of its file in a folder; make() -> bytes of a valid one; read(folder) -> its content."""

    path: str
    make: object
    read: object
    error: type = tv.DataError
    words: tuple = (b"\0",)  # tokens with a meaning in such a file
    checked: bool = False  # checksums detect any wrong byte
    beside: tuple = ()  # paths of other valid files


def write(target, folder, content=None):
    """Write the target's file, and the other files it needs, into a folder. Returns its path."""
    path, *others = (Path(folder) / p for p in (target.path, *target.beside))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # overwriting would make ext4 flush the file and wait for the disk
    path.write_bytes(target.make() if content is None else content)
    for other in others:
        if not other.exists():
            other.write_bytes(target.make())
    return path


def attempt(target, folder, content):
    """The data read from `content`; None if it is properly refused. Raises for anything else."""
    write(target, folder, content)
    said = io.StringIO()
    try:
        with time_limit(), warnings.catch_warnings(), redirect_stderr(said):
            warnings.simplefilter("error")
            value = target.read(Path(folder))
    except target.error as error:
        assert_one_sentence(error)
        value = None
    assert not said.getvalue(), said.getvalue()
    left = {p for p in Path(folder).rglob("*") if p.is_file()} - {
        Path(folder) / p for p in (target.path, *target.beside)
    }
    assert not left, f"reading wrote {left}"
    return value


def assert_one_sentence(error):
    text = str(error)
    assert "\n" not in text and not re.search(r"\. [A-Z]", text) and len(text) < 400, f"not one sentence: {text}"


def same(a, b):
    """Whether two results of `attempt` are the same data."""
    return a is not None and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))


def _same(x, y):
    return np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y


# ---- readers --------------------------------------------------------------------------------------------------------


def read_sequences_of(name):
    def read(folder):
        found = read_sequences(folder / name)
        return found.values, found.lengths

    return read


def _checkpoint(folder):
    model = tv.load(folder)
    manifest, _ = checkpoint.read(folder)
    about = {name: manifest[name] for name in checkpoint.NEEDED}
    return model.theta, model.mean, model.std, model.config, model.units, model.medium, about


def a_run(folder):
    """A Run that resumes in a folder, and a state of its model."""
    model = tv.VRNN(2, 2, 1, likelihood="gaussian", layers=1, seed=3)
    data = tv.Data.from_sequences("small", CUBE, CUBE[:1], CUBE[:1], standardise=True)
    run, state = Run(folder, resume=True), State(model, Adam(model.theta))
    run.model, run.data, run.config = model, data, config(model, data, Options(epochs=3))
    return run, state


def make_resume():
    with TemporaryDirectory() as folder:
        run, state = a_run(folder)
        bound = {"elbo": -1.5, "kl": 0.5, "log_likelihood": -1.0}
        state.records.append({"epoch": 1, "step": 1, "seconds": 0.1, "train": bound, "valid": bound})
        state.epoch = state.step = 1
        with run:
            run.keep(state)
        return (Path(folder) / RESUME).read_bytes()


def _resume(folder):
    run, state = a_run(folder)
    run._restore(state)
    vectors, counts = state.saved()
    return *vectors.values(), counts


def _mat(folder):
    with scipy_at_hand():
        return read_sequences_of("a.mat")(folder)


@contextmanager
def scipy_at_hand():
    """Run the program that reads a .mat in a fork of this process, where scipy is imported already (0.4 s)."""
    if not CAN_FORK:
        yield
        return
    import scipy.io  # noqa: F401

    with mock.patch.object(pianoroll.subprocess, "run", _run_mat):
        yield


def _run_mat(program, **options):
    *_, script, path, name, memory, steps = program
    assert script == mat.__file__

    def work():
        warnings.simplefilter("ignore")
        with mock.patch.object(sys, "stdout", io.TextIOWrapper(io.BytesIO())), redirect_stderr(io.StringIO()) as err:
            try:
                with mock.patch.object(mat, "limit_memory", lambda most: None), time_limit():
                    mat.main(path, name, memory, steps)
            except SystemExit as stop:
                return stop.code, b"", err.getvalue().encode()
            return 0, sys.stdout.buffer.getvalue(), b""

    outcome = forked(work, memory=int(memory))
    code, out, err = outcome.value or (1, b"", b"")
    return subprocess.CompletedProcess(program, code, out, err)


# ---- genuine files --------------------------------------------------------------------------------------------------


def make_checkpoint():
    model = tv.VRNN(2, 2, 1, likelihood="gaussian", layers=1, seed=3)
    model.medium = {"name": "sound", "rate": 8000, "full_scale": 1.0}
    with TemporaryDirectory() as folder:
        return tv.save(model, folder, step=5, data="vowels", steps=29).read_bytes()


def _bytes(write):
    write(stored := io.BytesIO())
    return stored.getvalue()


def make_npy():
    return _bytes(lambda file: np.save(file, CUBE))


def make_npz():
    return _bytes(lambda file: np.savez_compressed(file, x=CUBE, lengths=[1, 2, 3, 3], split=[0, 1, 2, 0]))


def make_mat():
    import scipy.io

    cells = {s: _cells([roll(x) for x in sequences]) for s, sequences in CHORDS.items()}
    matrices = {f"{s}data": x for s, x in cells.items()}
    return _bytes(lambda file: scipy.io.savemat(file, matrices))


def _cells(matrices):
    array = np.empty((1, len(matrices)), dtype=object)
    array[0, :] = matrices
    return array


def roll(sequence):
    """(T, 88) from a list of chords, key by key."""
    return np.array([[int(21 + k in chord) for k in range(88)] for chord in sequence], dtype=np.uint8)


def make_wav(samples=250):
    def write(file):
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
            sound.writeframes(np.arange(samples, dtype="<i2").tobytes())

    return _bytes(write)


def make_float_wav():
    return _bytes(lambda file: soundfile.write(file, np.arange(200) / 1000, 8000, "FLOAT", format="WAV"))


def make_flac(samples=range(1000)):
    return _bytes(lambda file: soundfile.write(file, np.asarray(samples, np.int16), 8000, "PCM_16", format="FLAC"))


def make_midi():
    notes = [mido.Message("note_on", note=60 + k // 2, velocity=64 * (k % 2 == 0), time=120) for k in range(8)]
    both = mido.MidiFile(tracks=[mido.MidiTrack([mido.MetaMessage("set_tempo")]), mido.MidiTrack(notes)])
    return _bytes(lambda file: both.save(file=file))


def make_drawings():
    """An array of arrays, as in the drawings of sketch-rnn."""
    several = np.empty(4, dtype=object)
    several[:] = [np.arange(3 * n, dtype=np.int16).reshape(n, 3) for n in (2, 1, 3, 2)]
    return _bytes(lambda file: np.save(file, several))


def make_sphere(samples=250, size=1024, **fields):
    header = {
        "channel_count": "-i 1",
        "sample_count": f"-i {samples}",
        "sample_rate": "-i 16000",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": "-s2 01",
        "sample_coding": "-s3 pcm",
    } | fields
    lines = ["NIST_1A", f"{size:7}", *(f"{name} {value}" for name, value in header.items()), "end_head\n"]
    return "\n".join(lines).encode().ljust(size) + np.arange(samples, dtype="<i2").tobytes()


def npy(header, data=b"", version=(1, 0)):
    """A .npy with the given header text."""
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data


TARGETS = {
    "checkpoint": Target(
        checkpoint.FILE,
        make_checkpoint,
        _checkpoint,
        tv.CheckpointError,
        (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"manifest.npy", b"theta.npy", b"\x93NUMPY", b"../"),
        checked=True,
    ),
    "resume": Target(
        RESUME,
        make_resume,
        _resume,
        tv.CheckpointError,
        (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"manifest.npy", b"best_theta.npy", b"\x93NUMPY", b"../"),
        checked=True,
    ),
    "npz": Target(
        "a.npz",
        make_npz,
        read_sequences_of("a.npz"),
        words=(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"x.npy", b"\x93NUMPY", b"../"),
        checked=True,
    ),
    "npy": Target(
        "a.npy",
        make_npy,
        read_sequences_of("a.npy"),
        words=(b"\x93NUMPY", b"descr", b"'|O'", b"'<f8'", b"'a5'", b"(", b",", b"L", b"-1", b"True", b"PK\x05\x06"),
    ),
    "json": Target(
        "a.json",
        lambda: json.dumps(CHORDS).encode(),
        read_sequences_of("a.json"),
        words=(b"[", b"]", b"{", b'"', b",", b"NaN", b"1e999", b"-", b"null", b"\\ud800", b"\xff\xfe", b"9" * 5000),
    ),
    "pickle": Target(
        "a.pickle",
        lambda: pickle.dumps(
            {s: [[tuple(np.int16(k) for k in c) for c in x] for x in several] for s, several in CHORDS.items()}, 2
        ),
        read_sequences_of("a.pickle"),
        words=(
            b"cos\nsystem\n",
            b"(",
            b"]",
            b"}",
            b"R",
            b"b",
            b"0",
            b"2",
            b"\x85",
            b"\x93",
            b"\x8e",
            b"\x96",
            b"h\0",
            b".",
        ),
    ),
    "drawings": Target(
        "a.npy",
        make_drawings,
        read_sequences_of("a.npy"),
        words=(b"cos\nsystem\n", b"(", b"]", b"R", b"b", b"\x85", b"\x93", b"h\0", b"O8", b"i2", b".", b"'|O'"),
    ),
    "mat": Target("a.mat", make_mat, _mat, words=(b"\x0e\0\0\0", b"\x0f\0\0\0", b"x\x9c", b"traindata")),
    "wav": Target(
        "a.wav", make_wav, read_sequences_of("a.wav"), words=(b"RIFF", b"WAVE", b"fmt ", b"data", b"LIST", b"RIFX")
    ),
    "sphere": Target(
        "a.sph",
        make_sphere,
        read_sequences_of("a.sph"),
        words=(b"NIST_1A", b"end_head\n", b"sample_count -i ", b"\n", b";", b"-1", b"sample_coding -s3 ulaw\n"),
    ),
    "float wav": Target(
        "a.wav", make_float_wav, read_sequences_of("a.wav"), words=(b"RIFF", b"fmt ", b"fact", b"data")
    ),
    "flac": Target("a.flac", make_flac, read_sequences_of("a.flac"), words=(b"fLaC", b"OggS", b"\xff\xf8")),
    "midi": Target(
        "a.mid",
        make_midi,
        read_sequences_of("a.mid"),
        words=(b"MThd", b"MTrk", b"\x80", b"\x90", b"\xff\x2f\0", b"\xf0", b"\xff\x58\4", b"\xff" * 5),
    ),
    "txt": Target("a.txt", "ab\né\r\n\n漢 b\n".encode, read_sequences_of("a.txt"), words=(b"\n\n", b"\r", b"\xff\xfe")),
    "xml": Target(
        "lineStrokes/a01-000u-01.xml",
        XML.encode,
        read_sequences_of("."),
        beside=("lineStrokes/a01-001u-01.xml", "lineStrokes/a01-002u-01.xml"),
        words=(
            b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
            b"&b;",
            b"<Stroke>",
            b"</Stroke>",
            b"<Point",
            b"<![CDATA[",
            b"UTF-16",
            b"unicode_escape",
            b"hex",
            b"\xff\xfe",
        ),
    ),
    "csv": Target(
        "a.csv",
        b"x,y\n1,-2.5\n3e2,.5\n-0, 7 \n".decode().encode,
        read_sequences_of("a.csv"),
        words=(b",", b"\n", b"\r", b'"', b"nan", b"1e999", b"\xef\xbb\xbf", b"\0", b"1_0"),
    ),
}
