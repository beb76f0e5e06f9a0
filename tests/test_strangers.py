"""Untrusted files: any file is read correctly or refused in one sentence, quickly and in little memory.

The files come from tests/fuzz/; `make fuzz` tries the same for minutes. docs/testing.md states the numbers in TRIES.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from checkpoints import make as make_version_1
from damage import refused
from fuzz import damage, targets
from fuzz.hostile import HOSTILE, LITTLE, archive, mat_array, mat_element, mat_file, npy_of, with_manifest
from fuzz.isolate import forked
from fuzz.targets import TARGETS, attempt, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.data import read_sequences, readers
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.readers import arrays
from tinyvrnn.errors import DataError
from tinyvrnn.io.npz import MEMORY
from tinyvrnn.runs import checkpoint
from tinyvrnn.training.state import COUNTS

ROOT = str(Path(tv.__file__).parent.parent)
TRIES = {"flips": 150, "flips, slow": 2_000, "mutations": 100, "mutations, slow": 2_000, "lengths": 200}
SLOW = pytest.mark.slow
ALL = [pytest.param(name, marks=[SLOW] * (name == "mat")) for name in TARGETS]  # a fork for each .mat
FACTORS = dict.fromkeys(("json", "pickle", "xml", "txt", "drawings"), 64) | {
    "midi": 512
}  # bytes of memory for a byte of a file
LINES = ("csv", "txt")  # any beginning of a text file is one
READ_WHEN_CUT = ("csv", "xml")  # a .csv with fewer lines is valid, and an .xml without its last newline
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("amount", ["lengths", pytest.param("all", marks=SLOW)])
@pytest.mark.parametrize("name", ALL)
def test_cut_at_any_length_it_is_refused(tmp_path, name, amount):
    target = TARGETS[name]
    whole = target.make()
    genuine = attempt(target, tmp_path, whole)
    assert same(genuine, attempt(target, tmp_path, whole))
    for content in damage.truncations(whole, TRIES.get(amount)):
        value = attempt(target, tmp_path, content)
        assert value is None or name in LINES or (name in READ_WHEN_CUT and same(value, genuine)), len(content)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("amount", ["flips", pytest.param("flips, slow", marks=SLOW)])
@pytest.mark.parametrize("name", ALL)
def test_with_any_wrong_byte_it_is_the_same_or_refused(tmp_path, name, amount):
    """Or, in formats without a checksum, other data of the right form."""
    target = TARGETS[name]
    whole = target.make()
    genuine, refused = attempt(target, tmp_path, whole), 0
    for content in damage.flips(whole, TRIES[amount]):
        value = attempt(target, tmp_path, content)
        refused += value is None
        assert value is None or not target.checked or same(value, genuine)
    assert refused > TRIES[amount] / 20


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("amount", ["mutations", pytest.param("mutations, slow", marks=SLOW)])
@pytest.mark.parametrize("name", ALL)
def test_changed_in_some_places_it_is_read_or_refused(tmp_path, name, amount):
    target = TARGETS[name]
    tries = TRIES[amount] // 10 if name == "mat" else TRIES[amount]
    for content in islice(damage.mutations(target.make(), target.words, seed=1), tries):
        attempt(target, tmp_path, content)


@pytest.mark.one_in(3)
@LINUX
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(tmp_path, name):
    form, make = HOSTILE[name]
    content = make()
    target = TARGETS[form]
    if form == "mat":
        target = target._replace(read=targets.read_sequences_of("a.mat"))  # in a process of its own, as for a user
    outcome = forked(
        lambda: attempt(target, tmp_path, content) is None, memory=LITTLE + FACTORS.get(form, 8) * len(content)
    )
    assert outcome == (True, None, "", 0)


@pytest.mark.parametrize("ending", ["json", "pickle", "csv", "wav", "sph", "mat"])
def test_a_file_that_would_become_too_large_is_not_read(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.touch()
    most = MEMORY // (64 if ending in FACTORS else 8)
    os.truncate(path, most + 1)  # zeros in a sparse file
    refused(path, f"a.{ending} has more than {most:,} bytes, the limit for .*save it as .npz")


@pytest.mark.parametrize(
    "name, message", [("2**40 lists", "holds .* whole number"), ("a deep note", "holds .* whole number")]
)
def test_lists_without_end_are_named_in_few_words(tmp_path, name, message):
    (tmp_path / "a.pickle").write_bytes(HOSTILE[name][1]())
    refused(tmp_path / "a.pickle", message)


# ---- bombs: as much as the limit allows -----------------------------------------------------------------------------


def packed(member, header, zeros, **more):
    """A .npz of one member, a header and then zeros, a thousand times smaller than it says, and of small ones."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as file, file.open(member, "w", force_zip64=True) as to:
        to.write(header)
        for _ in range(zeros // 10**6):
            to.write(bytes(10**6))
    with zipfile.ZipFile(stored, "a") as file:
        for name, array in more.items():
            file.writestr(f"{name}.npy", bytes_of(np.save, array))
    return stored.getvalue()


def with_lengths(stored):
    return archive([("x.npy", npy_of("<f4", (3, 1, 1), bytes(12))), ("lengths.npy", stored)])


def a_large_mat(rows):
    """One matrix of zeros, packed."""
    head, numbers = mat_array(rows, 88, size=rows * 88 * 8)[8:], rows * 88 * 8
    pack = zlib.compressobj(1)
    packed = [pack.compress(mat_element(14, len(head) + numbers) + head)]
    packed += [pack.compress(bytes(88 * 8 * 1000)) for _ in range(rows // 1000)] + [pack.flush()]
    return mat_file(mat_element(15, len(b"".join(packed)), b"".join(packed)))


BOMBS = {  # name -> (path, function that makes the bytes, whether it is read)
    "250 MB with lengths": (
        "a.npz",
        lambda: packed("x.npy", npy_of("|u1", (250, 10**6, 1)), 250 * 10**6, lengths=[10**6] * 249 + [9]),
        True,
    ),
    "250 MB of zeros": ("a.npz", lambda: packed("x.npy", npy_of("|u1", (250, 10**6, 1)), 250 * 10**6), True),
    "600 MB of zeros": ("a.npz", lambda: packed("x.npy", npy_of("<f4", (6, 25 * 10**6, 1)), 600 * 10**6), True),
    "600 MB in one sequence": ("a.npz", lambda: packed("x.npy", npy_of("<f4", (1, 15 * 10**7, 1)), 600 * 10**6), False),
    "lengths of 300 MB": ("a.npz", lambda: with_lengths(bytes(3 * 10**8)), False),
    "4.2 million steps": ("a.json", lambda: json.dumps({s: [[[]] * 1_400_000] for s in arrays.SPLITS}).encode(), False),
    "11 million lists": ("a.json", lambda: b'{"train": [[' + b"[]," * (2**25 // 3 - 99) + b"[]]]}", False),
    "7 million lists of lists": ("a.json", lambda: b"[" + b"[[]]," * (2**25 // 5 - 9) + b"[]]", False),
    "5 million objects": ("a.json", lambda: b"[" + b'{"":1},' * (2**25 // 7 - 9) + b"[]]", False),
    "17 million instructions": ("a.pickle", lambda: b"\x80\2" + b"]" * (2**24 + 9) + b".", False),
    "17 million places in the memo": (
        "a.npy",
        lambda: npy_of("|O", (1,), b"\x80\4]" + b"\x94" * (2**24 + 9) + b"."),
        False,
    ),
    "60 million packed samples": ("a.flac", lambda: targets.make_flac(np.zeros(6 * 10**7, np.int16)), True),
    "2 million numbers": ("a.csv", lambda: b"1\n" * 2**21, True),
    "a column of 250 MB": ("a.wav", lambda: targets.make_wav(125 * 10**6), True),
    "2 GB in a matrix": ("a.mat", lambda: a_large_mat(3 * 10**6), False),
    "3 million elements": (
        "lineStrokes/a01-000u-01.xml",
        lambda: b"<a>" + b'<a b=""/>' * (2**25 // 9 - 9) + b"</a>",
        False,
    ),
}


@SLOW
@LINUX
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_up_no_more_than_the_limit(tmp_path, monkeypatch, name):
    path, make, is_read = BOMBS[name]
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(make())
    outcome = forked(lambda: len(read_sequences(tmp_path if path.endswith("xml") else file)), memory=MEMORY)
    assert (outcome.raised, outcome.signal) == (None if is_read else "DataError", 0), outcome


@LINUX
def test_what_reads_a_mat_may_allocate_no_more_than_the_limit(tmp_path, monkeypatch):
    """The limit applies to the process: a small file fits, but not with a lower limit."""
    path = targets.write(TARGETS["mat"], tmp_path)
    assert len(read_sequences(path)) == 4
    monkeypatch.setattr(targets.pianoroll, "MEMORY", 2**26)
    refused(path, "a.mat can't be read and may be damaged")


# ---- right, or refused: whatever the shapes, dtypes and orders ------------------------------------------------------

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = st.sampled_from("|b1 |u1 <i2 >i2 <i8 >i8 <u8 <f2 >f2 <f4 >f4 <f8 >f8 <c8 <U2 |S3 <M8[s] |V4".split())
EXAMPLES = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # all examples may share a folder
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
CHORD = st.lists(st.integers(21, 108), max_size=4).map(tuple)
ROLL = st.lists(st.lists(CHORD, min_size=1, max_size=4), min_size=1, max_size=3)
ROLLS = st.fixed_dictionaries({"train": ROLL, "valid": ROLL, "test": ROLL})


def bytes_of(save, *arguments, **named):
    save(stored := io.BytesIO(), *arguments, **named)
    return stored.getvalue()


def array(shape, dtype):
    """Small whole numbers, which every dtype can hold."""
    return (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype("<i8").astype(dtype)


@EXAMPLES
@given(SHAPES, DTYPES, st.booleans())
def test_an_array_of_any_shape_dtype_and_order(tmp_path, shape, dtype, by_columns):
    x = np.asarray(array(shape, dtype), order="F" if by_columns else "C")
    found = attempt(TARGETS["npy"], tmp_path, bytes_of(np.save, x))
    if len(shape) in (2, 3) and 0 not in shape and x.dtype.kind in "buif":
        assert np.array_equal(found[0], x.reshape(-1, shape[-1])) and set(found[1]) == {shape[-2]}
    else:
        assert found is None


@EXAMPLES
@given(st.sampled_from(list(itertools.permutations(("values", "lengths", "split", "labels")))), DTYPES, DTYPES)
def test_an_archive_in_any_order_of_keys(tmp_path, names, of_values, of_lengths):
    arrays = {"values": array((4, 2), of_values), "lengths": array((4,), of_lengths), "split": [0, 1, 2, 0]}
    arrays |= {"labels": [1, 2, 3, 4]}
    with contextlib.suppress(TypeError):
        arrays["lengths"][...] = 1
    found = attempt(TARGETS["npz"], tmp_path, bytes_of(np.savez, **{name: arrays[name] for name in names}))
    if arrays["values"].dtype.kind in "buif" and arrays["lengths"].dtype.kind in "ui":
        assert np.array_equal(found[0], arrays["values"]) and found[1].tolist() == [1, 1, 1, 1]
    else:
        assert found is None


@EXAMPLES
@given(st.permutations(["'descr': '>f4'", "'fortran_order': False", "'shape': (2, 2, 1)"]), st.sampled_from(["", ", "]))
def test_a_header_in_any_order_of_keys(tmp_path, parts, end):
    data = np.arange(4, dtype=">f4").tobytes()
    found = attempt(TARGETS["npy"], tmp_path, targets.npy("{" + ", ".join(parts) + end + "}", data))
    assert found[0].ravel().tolist() == [0, 1, 2, 3]


def test_a_header_of_python_2(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 2L, 1L), }"
    found = attempt(TARGETS["npy"], tmp_path, targets.npy(header, np.arange(4, dtype="<f4").tobytes()))
    assert found[0].ravel().tolist() == [0, 1, 2, 3]


@EXAMPLES
@given(JSON)
def test_any_json(tmp_path, value):
    assert attempt(TARGETS["json"], tmp_path, json.dumps(value).encode()) is None


@EXAMPLES
@given(JSON, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_pickle(tmp_path, value, protocol):
    assert attempt(TARGETS["pickle"], tmp_path, pickle.dumps(value, protocol)) is None


@EXAMPLES
@given(ROLLS, st.integers(0, pickle.HIGHEST_PROTOCOL), st.permutations(["train", "valid", "test"]))
def test_rolls_are_the_same_in_both_forms_and_any_order(tmp_path, rolls, protocol, order):
    rolls = {name: rolls[name] for name in order}
    expected = np.concatenate([targets.roll(x) for s in ("train", "valid", "test") for x in rolls[s]])
    for form, content in (("json", json.dumps(rolls).encode()), ("pickle", pickle.dumps(rolls, protocol))):
        assert np.array_equal(attempt(TARGETS[form], tmp_path / form, content)[0], expected)


@EXAMPLES
@given(st.text("0123456789.,;eE+-\"'\n\r\t xyzäß\0", max_size=60))
def test_any_csv(tmp_path, text):
    attempt(TARGETS["csv"], tmp_path, text.encode())


@EXAMPLES
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=2), min_size=1, max_size=5), st.booleans())
def test_a_table_of_numbers(tmp_path, rows, named):
    lines = ["a,b"] * named + [",".join(map(repr, row)) for row in rows]
    assert np.array_equal(attempt(TARGETS["csv"], tmp_path, "\n".join(lines).encode())[0], rows)


@EXAMPLES
@given(
    st.sampled_from(["sample_count", "channel_count", "sample_rate", "sample_n_bytes", "sample_byte_format"]), st.text()
)
def test_any_field_of_a_sphere_header(tmp_path, field, value):
    content = targets.make_sphere(size=1024, **{field: "-i " + value.replace("\n", " ")[:200]})
    attempt(TARGETS["sphere"], tmp_path, content)


@EXAMPLES
@given(*[st.integers(0, 2**16 - 1)] * 3, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_any_header_of_a_wav(tmp_path, code, channels, bits, rate, size):
    whole = targets.make_wav()
    fmt = struct.pack("<HHIIHH", code, channels, rate, 0, 2, bits)
    attempt(TARGETS["wav"], tmp_path, whole[:20] + fmt + whole[36:40] + struct.pack("<I", size) + whole[44:])


@EXAMPLES
@given(st.text(), st.text())
def test_any_point(tmp_path, x, y):
    quoted = " ".join(f"{axis}={quoteattr(value)}" for axis, value in (("x", x), ("y", y)))
    text = targets.XML.replace('<Point x="110" y="200"/>', f"<Point {quoted}/>")
    attempt(TARGETS["xml"], tmp_path, text.encode("latin1", "xmlcharrefreplace"))


@EXAMPLES
@given(st.sampled_from([*checkpoint.NEEDED, "format", "more"]), JSON)
def test_any_field_of_a_manifest(tmp_path, field, value):
    genuine = attempt(TARGETS["checkpoint"], tmp_path, TARGETS["checkpoint"].make())
    found = attempt(TARGETS["checkpoint"], tmp_path, with_manifest(lambda m: m | {field: value}))
    assert found is None or same(found[:4], genuine[:4])


@EXAMPLES
@given(st.sampled_from([*COUNTS, "k", "totals"]), JSON)
def test_any_count_of_a_state(tmp_path, name, value):
    content = with_manifest(lambda m: m | {"counts": m["counts"] | {name: value}}, "resume")
    attempt(TARGETS["resume"], tmp_path, content)


@EXAMPLES
@given(
    st.sampled_from(
        ["x_dim", "h_dim", "z_dim", "features", "layers", "seed", "dtype", "cell", "posterior", "likelihood"]
    ),
    JSON,
)
def test_any_option_in_a_configuration(tmp_path, option, value):
    attempt(TARGETS["checkpoint"], tmp_path, with_manifest(lambda m: m | {"config": m["config"] | {option: value}}))


@EXAMPLES
@given(st.sampled_from([name for name in TARGETS if name != "mat"]), st.binary(max_size=200))
def test_any_bytes(tmp_path, name, content):
    with TemporaryDirectory(dir=tmp_path) as own:
        assert attempt(TARGETS[name], own, content) is None or name in LINES


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_a_large_file_with_a_wrong_byte(tmp_path, monkeypatch, capsys, form):
    """Memory-mapped arrays are checked against the file too, and unpacked only if their headers fit."""
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrays, "LARGE", 0)
    target = TARGETS[form]
    path = targets.write(target, tmp_path)
    genuine = read_sequences(path).values
    assert isinstance(read_sequences(path), Mapped)
    whole = path.read_bytes()
    for content in (*damage.flips(whole, TRIES["mutations"]), *damage.truncations(whole, TRIES["lengths"])):
        path.write_bytes(content)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        try:
            found = read_sequences(path)
        except DataError as error:
            targets.assert_one_sentence(error)
            assert not [*(tmp_path / "cache").rglob("*.npy")]
        else:
            assert form == "npy" or np.array_equal(found.values, genuine)


# ---- payloads -------------------------------------------------------------------------------------------------------


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["npy", "npz", "npz beside", "checkpoint", "mat", "pickle"])
def test_a_payload_leaves_no_trace(tmp_path, form):
    """Python's unpickler runs it; none of these readers does."""
    trace = tmp_path / "was-here"
    objects = np.array([Payload(trace)], dtype=object)
    stored = bytes_of(np.save, objects)
    np.load(io.BytesIO(stored), allow_pickle=True)
    assert trace.exists()
    trace.rmdir()
    rolls = pickle.dumps({"train": [[[Payload(trace)]]], "valid": [], "test": []})
    with np.load(io.BytesIO(TARGETS["checkpoint"].make())) as found:
        arrays = dict(found) | {"theta": objects}
    content = {
        "npy": lambda: stored,
        "npz": lambda: bytes_of(np.savez, x=objects),
        "npz beside": lambda: bytes_of(np.savez, x=targets.CUBE, lengths=objects),
        "checkpoint": lambda: bytes_of(np.savez, **arrays),
        "mat": lambda: rolls,
        "pickle": lambda: rolls,
    }[form]()
    assert attempt(TARGETS[form.split()[0]], tmp_path, content) is None
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../x.npy", "/tmp/x.npy", "a/../../x.npy", "..\\x.npy", "C:x.npy"])
@pytest.mark.parametrize("large", [0, 2**28])
def test_a_name_in_an_archive_is_no_path(tmp_path, monkeypatch, name, large):
    """Such a member is ignored, and the others are read."""
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrays, "LARGE", large)
    (tmp_path / "a").mkdir()
    member = targets.make_npy()
    (tmp_path / "a" / "a.npz").write_bytes(archive([("x.npy", member), (name, member)]))
    assert np.array_equal(read_sequences(tmp_path / "a" / "a.npz").values, targets.CUBE.reshape(-1, 2))
    files = {p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert files == {"a.npz"} | ({"x.npy"} if not large else set())
    assert not {p for p in tmp_path.rglob("x.npy")} - {p for p in (tmp_path / "cache" / "unpacked").rglob("x.npy")}
    (tmp_path / "a" / "a.npz").write_bytes(archive([(name, member)]))
    refused(tmp_path / "a" / "a.npz", "a.npz holds .*x'?., but x")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name",
    ["/", "{}", "{}/home", "{}/pipe", "{}/loop", "/dev/zero", "//server/share", "\\\\server\\share", "", ".", "~"]
    + ["{}/gone.npz", "a\0b", "/" + 5000 * "a", "{}/in/../..", "/proc/self/environ"],
)
def test_data_that_a_stranger_named_is_not_searched(tmp_path, monkeypatch, capsys, name):
    """`evaluate` reads the data that the checkpoint names, without which it asks for --data."""
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    monkeypatch.chdir(tmp_path)
    for folder in ("home/me", "in"):
        (tmp_path / folder).mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "pipe").symlink_to(tmp_path / "pipe.npz")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    tv.save(tv.VRNN(2, 2, 1, likelihood="gaussian", layers=1), tmp_path / "run", data=name.format(tmp_path))
    monkeypatch.setattr(readers, "read", lambda path: pytest.fail(f"{path} is read"))
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"tinyvrnn: .*/run says that it was trained on .*: name a set, file or folder with --data\.\n", error
    )


# ---- the command ----------------------------------------------------------------------------------------------------

BY_COMMAND = "npz a trillion rows,npz a bomb,npz two of one name,json a million brackets and,pickle bytes of 4 GB"
BY_COMMAND += (
    ",pickle 2**40 lists as splits,mat cells without end,wav a chunk of 4 GB,sphere samples of 4 GB,xml laughs"
)
BY_COMMAND += ",csv a line without end,npy a header of 4 GB,checkpoint a wide model,checkpoint a manifest of brackets"


@pytest.mark.parametrize("words", BY_COMMAND.split(","))
def test_the_command_says_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, words):
    form, _, start = words.partition(" ")
    make = next(make for name, (f, make) in HOSTILE.items() if f == form and name.startswith(start))
    path = targets.write(TARGETS[form], tmp_path / "in", make())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    given = str(tmp_path / "in" if form in ("xml", "checkpoint") else path)
    command = ["evaluate", given] if form == "checkpoint" else ["train", given, "--epochs", "1"]
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinyvrnn: ") and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_program_too(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * 10**6)
    program = [sys.executable, "-m", "tinyvrnn", "train", "a.json"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# ---- versions -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_version_1_is_read_with_the_same_bits(tmp_path):
    """A file written by the first release with tests/checkpoints/make.py, which describes its content."""
    model = tv.load(make_version_1.FOLDER)
    assert hashlib.sha256((make_version_1.FOLDER / checkpoint.FILE).read_bytes()).hexdigest() == make_version_1.SHA256
    assert np.array_equal(model.theta, make_version_1.theta(model.theta.size)) and model.theta.dtype == np.float32
    assert model.mean.tolist() == [0.5, -1.25] and model.std.tolist() == [2.0, 0.125]
    assert model.config == make_version_1.CONFIG and model.units == "nats of something"
    manifest, _ = checkpoint.read(make_version_1.FOLDER)
    assert (manifest["version"], manifest["step"], manifest["data"], manifest["steps"]) == (1, 7, "vowels", 29)


@pytest.mark.parametrize(
    "version, message",
    [
        (99, "has version 99, but this tinyvrnn reads up to [0-9]+: install a newer one"),
        (10**30, "has version 1000.*: install a newer one"),
        (0, "has the invalid version 0: train again or restore a copy"),
        (-1, "has the invalid version -1:"),
        ("1", "has the invalid version '1':"),
        (1.0, "has the invalid version 1.0:"),
        (True, "has the invalid version True:"),
        (None, "has the invalid version None:"),
        ([1], r"has the invalid version \[1\]:"),
        ({}, "has the invalid version {}:"),
        ("9" * 5000, "has the invalid version '999999"),
    ],
)
def test_a_version_that_is_not_known_says_what_to_do(tmp_path, version, message):
    path = targets.write(TARGETS["checkpoint"], tmp_path, with_manifest(lambda m: m | {"version": version}))
    with pytest.raises(tv.CheckpointError, match=message) as caught:
        tv.load(path.parent)
    targets.assert_one_sentence(caught.value)


@pytest.mark.parametrize("order", "<>")
def test_a_checkpoint_of_either_order_of_bytes(tmp_path, order):
    genuine = attempt(TARGETS["checkpoint"], tmp_path, TARGETS["checkpoint"].make())
    with np.load(io.BytesIO(TARGETS["checkpoint"].make())) as found:
        stored = dict(found)
    manifest = json.loads(stored.pop("manifest").tobytes())
    stored = {name: x.astype(x.dtype.newbyteorder(order)) for name, x in reversed(stored.items())}
    manifest["arrays"] = {name: checkpoint._describe(x) for name, x in stored.items()}
    text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    again = attempt(TARGETS["checkpoint"], tmp_path, bytes_of(np.savez, **stored, manifest=text))
    assert same(again[:6], genuine[:6])


def test_the_table_in_the_documentation_counts_what_is_here():
    table = (Path(ROOT) / "docs" / "testing.md").read_text(encoding="utf-8")
    page = table.partition("## What happens to files and runs")[2]
    counts = {
        "a file truncated": f"all: {TRIES['lengths']} of each; every length †",
        "one wrong byte": f"{TRIES['flips']} for each form; {TRIES['flips, slow']:,} †",
        "one to four changes": f"{TRIES['mutations']} for each form (10 `.mat` †); {TRIES['mutations, slow']:,} †",
        "sizes that lie": f"{len(HOSTILE)} files",
        "bombs as large": f"{len(BOMBS)} files",
        "hostile files given": f"{len(BY_COMMAND.split(','))}, and 1",
    }
    for row, count in counts.items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {row}"))
        assert f"| {count}" in line, f"{row}: the tests try {count}"
