"""Arrays of different lengths: drawings in the form of sketch-rnn, object arrays, and a folder of .npy."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from damage import refused

from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences

RNG = np.random.default_rng(0)
PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3, 4])  # those of Python 2, of NumPy before 2, and since


def ragged(arrays):
    several = np.empty(len(arrays), dtype=object)
    several[:] = arrays
    return several


def drawing(steps, dtype=np.int16):
    return np.column_stack([RNG.integers(-99, 99, (steps, 2)), RNG.integers(0, 2, steps)]).astype(dtype)


def save(path, protocol=4, **arrays):
    """A .npz as NumPy writes it, with arrays of objects in any of the protocols that it has used."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            file, array = io.BytesIO(), np.asanyarray(array)
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(pickle.dumps(array, protocol) if array.dtype == object else array.tobytes())
            archive.writestr(f"{name}.npy", file.getvalue())
    return path


DRAWINGS = {
    s: ragged([drawing(n) for n in sizes]) for s, sizes in {"train": (5, 2, 9), "valid": (3, 4), "test": (1, 6)}.items()
}


@PROTOCOLS
def test_drawings_are_what_numpy_reads(tmp_path, protocol):
    data = load_data(save(tmp_path / "cat.npz", protocol, **DRAWINGS), standardise=False)
    with np.load(tmp_path / "cat.npz", allow_pickle=True, encoding="latin1") as expected:
        for split in ("train", "valid", "test"):
            assert len(data.split(split)) == len(expected[split])
            for found, x in zip(data.split(split), expected[split]):
                np.testing.assert_array_equal(found, x, strict=True)
    assert (data.kind, data.medium) == ("pen", {"name": "ink"})


def test_drawings_of_python_2(tmp_path):
    """Protocol 2, text in place of bytes, and NumPy's old module path."""
    whole = np.array([[1, -2, 0], [3, 4, 1]], np.int16).tobytes()
    before = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR"
    dtype = b"cnumpy\ndtype\n(U\x02%sK\0K\1tR(K\x03U\x01%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK%ctb"
    inner = (
        before[2:]
        + b"(K\1(K\x02K\x03t"
        + dtype % (b"i2", b"<", b"\0")
        + b"I00\nU"
        + bytes([len(whole)])
        + whole
        + b"tb"
    )
    outer = before + b"(K\1(K\x01t" + dtype % (b"O8", b"|", b"?") + b"I00\n](" + inner + b"etb."
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1L,), }"
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + outer
    (tmp_path / "a.npy").write_bytes(content)
    assert read_sequences(tmp_path / "a.npy")[0].tolist() == [[1, -2, 0], [3, 4, 1]]


@PROTOCOLS
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "u1", "?", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_numbers_and_lengths(tmp_path, protocol, dtype, order):
    arrays = [np.asarray(RNG.integers(0, 2, (n, 5)).astype(dtype), order=order) for n in (3, 1, 4)]
    arrays += [arrays[0], arrays[1][:, ::-1]]  # one of them twice
    found = read_sequences(save(tmp_path / "a.npz", protocol, x=ragged(arrays)))
    assert [x.tolist() for x in found] == [x.tolist() for x in arrays]


def test_drawings_train_a_pen(tmp_path):
    path, run = str(save(tmp_path / "cat.npz", **DRAWINGS)), str(tmp_path / "run")
    assert cli.main(["train", path, "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert cli.main(["sample", run, "-n", "2", "--steps", "5", "--out", str(tmp_path / "x.gif")]) == 0
    assert cli.main(["evaluate", run, "--data", path]) == 0


class Call:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return __import__("os").mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "several, message",
    [
        (
            lambda path: ragged([Call(path)] * 3),
            r"x of a.npz holds '[a-z]+\.mkdir', but only lists and arrays of numbers",
        ),
        (lambda path: ragged([None, "a", 3]), r"x of a.npz is an object array of \(3,\), but one of arrays \(T, X\)"),
        (lambda path: ragged([[[1, 2]], [[3, 4]]]), "but one of arrays"),
        (lambda path: np.array([[1, 2]], dtype=object), r"object array of \(1, 2\), but one of arrays"),
        (lambda path: ragged([ragged([np.ones((1, 2))])]), "but one of arrays"),
        (lambda path: ragged([ragged([ragged([ragged([1])])])]), "holds arrays of arrays"),
        (lambda path: ragged([np.ones((2, 3)), np.ones((2, 2))]), "sequence 1 has shape"),
        (lambda path: ragged([np.array(["a"])]), "holds a number of type 'U1', but plain numbers are needed"),
        (lambda path: ragged([np.ones((2, 3)) * 1j]), "holds a number of type 'c16'"),
        (lambda path: ragged([np.ones((1, 2), "i4,i4")]), "holds a number of type 'V8'"),
    ],
)
def test_other_objects_are_refused(tmp_path, several, message):
    trace = tmp_path / "was-here"
    refused(save(tmp_path / "a.npz", x=several(trace)), message)
    assert not trace.exists()


@pytest.mark.parametrize("key", ["lengths", "labels", "split", "values", "sample_rate"])
def test_arrays_in_place_of_numbers_are_refused(tmp_path, key):
    arrays = {"values": np.ones((3, 2)), "lengths": [1, 1, 1]} | {key: ragged([np.ones((1, 2))] * 3)}
    refused(save(tmp_path / "a.npz", **arrays), f"a.npz: {key} is an array of arrays, but plain numbers are needed")


# ---- folders of .npy


@pytest.mark.parametrize("splits", [("", "", ""), ("train", "valid", "test")])
def test_a_folder_of_arrays(tmp_path, splits):
    arrays = [RNG.normal(size=(n, 3)) for n in (4, 2, 5)]
    for i, (split, x) in enumerate(zip(splits, arrays)):
        (tmp_path / "x" / split).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "x" / split / f"{i}.npy", x)
    data = load_data(tmp_path / "x", standardise=False)
    found = [x.tolist() for split in ("train", "valid", "test") for x in data.split(split)]
    assert sorted(found) == sorted(x.tolist() for x in arrays) and "3 files" in data.source
    assert not splits[0] or found == [x.tolist() for x in arrays]


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((2, 4)), np.ones((2, 3, 1)), np.ones(())])
def test_an_array_of_another_shape_is_refused(tmp_path, wrong):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.ones((2, 3)))
    np.save(tmp_path / "9.npy", wrong)
    refused(tmp_path, r"9.npy has shape .* and 0.npy \(2, 3\), but each .npy of a folder must be one sequence \(T, X\)")
