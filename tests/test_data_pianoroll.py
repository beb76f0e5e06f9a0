"""Piano rolls as .json, .pickle and .mat: the same rolls from each, and anything else is refused."""

import json
import os
import pickle
import struct
import sys

import numpy as np
import pytest
from damage import refused

from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences
from tinyvrnn.errors import how_to_install

CHORDS = {
    "train": [[[60, 64, 67], [], [21, 108]], [[62]]],
    "valid": [[[59], [60, 60]]],
    "test": [[[55, 59, 62, 67]], [[48], [50], [52]]],
}


def roll(sequence):
    """(T, 88), key by key."""
    return np.array([[int(21 + k in chord) for k in range(88)] for chord in sequence])


def assert_is_chords(data):
    for split, sequences in CHORDS.items():
        assert len(data.split(split)) == len(sequences)
        for read, chords in zip(data.split(split), sequences):
            np.testing.assert_array_equal(read, roll(chords))


def as_json(path, splits=CHORDS):
    path.write_text(json.dumps(splits))
    return path


def as_pickle(path, splits=CHORDS, protocol=None):
    path.write_bytes(pickle.dumps(splits, protocol))
    return path


def as_mat(path, matrices=None, **options):
    scipy_io = pytest.importorskip("scipy.io")
    if matrices is None:
        matrices = {s: cells([roll(x) for x in sequences]) for s, sequences in CHORDS.items()}
    scipy_io.savemat(path, {f"{s}data": x for s, x in matrices.items()}, **options)
    return path


def cells(matrices, dtype=np.float64):
    """A cell array (1, N), as MATLAB saves it."""
    array = np.empty((1, len(matrices)), dtype=object)
    array[0, :] = [m.astype(dtype) for m in matrices]
    return array


def with_numpy(number):
    return {s: [[tuple(number(k) for k in c) for c in x] for x in sequences] for s, sequences in CHORDS.items()}


# ---- what is read


def test_chords_in_json_are_rolls_of_88_keys(tmp_path):
    data = load_data(as_json(tmp_path / "roll.json"))
    assert_is_chords(data)
    assert (data.name, data.kind, data.x_dim, data.units) == ("roll", "binary", 88, "nats; piano rolls")
    assert data.medium == {"name": "piano roll", "steps_per_quarter": 1} and "roll.json" in data.source
    assert len(read_sequences(tmp_path / "roll.json")) == 5


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("number", [int, np.int64, np.uint8, np.dtype(">i2").type])
def test_the_same_in_a_pickle_of_any_protocol_with_python_or_numpy_numbers(tmp_path, protocol, number):
    assert_is_chords(load_data(as_pickle(tmp_path / "roll.pickle", with_numpy(number), protocol)))


@pytest.mark.parametrize("write, ending", [(as_json, "json"), (as_pickle, "pickle")])
@pytest.mark.parametrize("rest", [-1, -1.0, float("nan")])
@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "val", "testing")])
def test_whole_floats_rests_in_voices_and_other_keys(tmp_path, write, ending, rest, names):
    floats = {s: [[[float(k) for k in c] + [rest] for c in x] for x in CHORDS[s]] for s in CHORDS}
    splits = {name: floats[s] for name, s in zip(names, CHORDS)} | {"tempo": 90, "about": {"by": ["Bach"]}}
    data = load_data(write(tmp_path / f"roll.{ending}", splits))
    assert_is_chords(data)
    assert data.notes == ("tempo, about is not read, only train, valid and test are",)


def test_two_names_of_one_split_are_refused(tmp_path):
    """Otherwise one of them would be left out."""
    path = as_json(tmp_path / "roll.json", CHORDS | {"dev": CHORDS["valid"]})
    refused(path, "holds train, valid, test, dev, two of which mean the same split")


def of_python_2(path, note, order="<"):
    """Protocol 2 as written by Python 2: text as bytes, and NumPy's old module path."""
    state = f"(K\x03U\x01{order}NNNJ".encode() + b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    number = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02i8K\x00K\x01tR" + state
    split = b"](](](" + number + b"U\x08" + struct.pack(f"{order}q", note) + b"tReee"
    path.write_bytes(b"\x80\x02}(U\x05train" + split + b"U\x05valid" + split + b"U\x04test" + split + b"u.")
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pickle_of_python_2(tmp_path, order):
    data = load_data(of_python_2(tmp_path / "roll.pkl", 60, order))
    np.testing.assert_array_equal(data.test[0], roll([[60]]))


def test_a_pickle_of_python_2_with_bytes_that_are_no_ascii(tmp_path):
    refused(of_python_2(tmp_path / "roll.pkl", 200), "step 0 holds the note 200, but a piano has")


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_same_in_cells_of_a_mat(tmp_path, dtype, compressed):
    matrices = {s: cells([roll(x) for x in sequences], dtype) for s, sequences in CHORDS.items()}
    data = load_data(as_mat(tmp_path / "roll.mat", matrices, do_compression=compressed))
    assert_is_chords(data)
    assert data.kind == "binary" and data.medium["name"] == "piano roll"


def test_one_matrix_or_a_block_of_equal_ones_in_a_mat(tmp_path):
    one = roll(CHORDS["test"][1])
    data = load_data(as_mat(tmp_path / "roll.mat", {"train": one, "valid": np.stack([one, one]), "test": one}))
    np.testing.assert_array_equal(data.train[0], one)
    assert len(data.valid) == 2 and data.valid.lengths.tolist() == [3, 3]


def test_a_roll_trains_and_samples_midi(tmp_path):
    path, run = str(as_json(tmp_path / "roll.json")), str(tmp_path / "run")
    assert cli.main(["train", path, "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert cli.main(["sample", run, "-n", "2", "--out", str(tmp_path / "x.mid")]) == 0
    assert (tmp_path / "x.mid").read_bytes()[:4] == b"MThd"


# ---- what is refused


def changed(train):
    return CHORDS | {"train": train}


@pytest.mark.parametrize("write, ending", [(as_json, "json"), (as_pickle, "pickle")])
@pytest.mark.parametrize(
    "splits, message",
    [
        ([1, 2], "roll.[a-z]+ holds list, but {.train"),
        ({"train": [], "test": []}, r"holds \['test', 'train'\], but {.train"),
        (CHORDS | {"valid": {}}, "but {.train"),
        (changed([]), "train of roll.[a-z]+: got an empty list"),
        (changed([[]]), "sequence 0 has length 0"),
        (changed([[[60]], 7]), "sequence 1 of train .* is 7, but a list of chords"),
        (changed([[60, 62]]), "sequence 0 of train .*step 0 is 60, but a list of at most 88 notes"),
        (changed([[[60], [60] * 89]]), "step 1 is .* at most 88 notes"),
        (changed([[[60], [20]]]), "sequence 0 of train .*step 1 holds the note 20, but a piano has 21 to 108"),
        (changed([[[109]]]), "holds the note 109"),
        (changed([[[-2]]]), "holds the note -2, .*a rest is an empty chord, -1 or NaN"),
        (changed([[[10**400]]]), r"holds the note 10{17}\.\.\.0+, but a piano has 21 to 108"),
        (changed([[[60.5]]]), "holds 60.5, but a MIDI note, a whole number"),
        (changed([[[True]]]), "holds True"),
        (changed([[["60"]]]), "holds '60'"),
        (changed([[[float("inf")]]]), "holds inf"),
    ],
)
def test_what_is_no_roll_is_refused(tmp_path, write, ending, splits, message):
    refused(write(tmp_path / f"roll.{ending}", splits), message)


@pytest.mark.parametrize("sequence", [{"a": 10**5000}, [[10**5000]], [[[10**5000]]], [[{"a": 10**5000}]]])
def test_a_number_of_more_digits_than_python_prints_is_refused(tmp_path, sequence):
    refused(as_pickle(tmp_path / "roll.pickle", changed([sequence])), "(int|list|dict) of too many digits, but a ")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "evil, name",
    [
        (lambda path: Evil(os.system, f"touch {path}"), r"(posix|nt)\.system"),
        (lambda path: Evil(eval, f"open({str(path)!r}, 'w')"), r"(builtins|__builtin__)\.eval"),
        (lambda path: Evil(np.load, str(path)), r"numpy\.load"),
        (lambda path: Evil(getattr, int, "real"), r"(builtins|__builtin__)\.getattr"),
    ],
)
def test_a_pickle_runs_nothing(tmp_path, protocol, evil, name):
    trace = tmp_path / "was-here"
    path = as_pickle(tmp_path / "roll.pickle", changed([[[evil(trace)]]]), protocol)
    refused(
        path, f"roll.pickle holds .*({name}).*, but only lists and arrays of numbers are read, .*save the numbers alone"
    )
    assert not trace.exists()


def test_arrays_in_a_pickle_are_refused(tmp_path):
    refused(
        as_pickle(tmp_path / "roll.pickle", changed([roll([[60]])])), "sequence 0 .* is array.*but a list of chords"
    )


def test_a_number_of_numpy_that_is_none(tmp_path):
    """The dtype is not built by NumPy, since its state could be anything."""
    number = pickle.dumps(np.int64(60), 2)
    for wrong in (number.replace(b"i8", b"O8"), number.replace(b"i8", b"V8"), number.replace(b"i8", b"f4")):
        assert wrong != number
        (tmp_path / "roll.pickle").write_bytes(wrong)
        refused(tmp_path / "roll.pickle", "holds a number of type|damaged|holds float32")


def test_a_pickle_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "roll.pickle"
    path.write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**31) + b".")
    refused(path, "roll.pickle holds list, but")  # an index into the memo allocates nothing
    step, sequence = [60], [[60]] * 1000
    assert step in sequence
    refused(as_pickle(path, changed([sequence] * 5000)), "holds more than 4,067,203 steps, too many for a list")


# ---- .mat


@pytest.mark.parametrize(
    "matrices, message",
    [
        ({"train": roll([[60]]), "valid": roll([[60]])}, "has no testdata, but traindata, validdata and testdata"),
        ({"train": np.ones((3, 87))}, r"traindata of roll.mat: matrix 0 is .*\(3, 87\), but numbers \(T, 88\)"),
        ({"train": cells([roll([[60]]), 0.5 * roll([[60]])])}, "matrix 1 holds numbers other than 0 and 1"),
        ({"train": np.full((3, 88), np.nan)}, "other than 0 and 1"),
        ({"train": "text"}, "matrix 0 is <U4"),
        ({"train": {"a": 1}}, "matrix 0 is .*but numbers"),
        ({"train": np.empty((1, 0), dtype=object)}, "traindata of roll.mat is empty"),
    ],
)
def test_a_mat_that_is_no_roll_is_refused(tmp_path, matrices, message):
    others = {} if len(matrices) == 2 else {s: roll([[60]]) for s in ("valid", "test")}
    refused(as_mat(tmp_path / "roll.mat", matrices | others), message)


def test_sparse_matrices_are_refused(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    others = {s: roll([[60]]) for s in ("valid", "test")}
    path = as_mat(tmp_path / "roll.mat", {"train": sparse.csc_array(roll([[60]]).astype(float))} | others)
    refused(path, "traindata of roll.mat: matrix 0 is cs._[a-z]+, but numbers")


def test_a_mat_of_version_7_3_is_refused(tmp_path):
    pytest.importorskip("scipy.io")
    header = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49)
    (tmp_path / "roll.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(600))
    refused(tmp_path / "roll.mat", "a .mat of version 7.3, which is not read: save it with -v7")


def test_a_mat_that_ends_the_reading_process_does_not_end_this_one(tmp_path):
    """This byte makes scipy 1.17 crash with a segmentation fault."""
    path = as_mat(tmp_path / "roll.mat")
    content = bytearray(path.read_bytes())
    content[236] ^= 1
    path.write_bytes(content)
    refused(path, "roll.mat can't be read and may be damaged, truncated or no .mat")


def test_without_scipy_there_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "roll.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert cli.main(["train", str(tmp_path / "roll.mat")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"tinyvrnn: a .mat needs scipy, which is not installed: {how_to_install('scipy')}.\n"


def test_a_roll_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    path = as_json(tmp_path / "roll.json")
    monkeypatch.setattr(type(path), "read_bytes", denied)
    refused(path, "roll.json can't be read: Permission denied")
