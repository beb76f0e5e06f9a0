"""Memory-mapped corpora: the same data as in memory, and a batch reads only its own rows."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from damage import refused

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.data import Data, baselines, batches, load_data, pad
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.readers import arrays
from tinyvrnn.errors import DataError
from tinyvrnn.runs import run as runs_folder

RNG = np.random.default_rng(0)
CUBE = RNG.normal(3.0, 2.0, size=(30, 7, 3)).astype(np.float32)
LENGTHS = RNG.integers(1, 8, 30)
ROWS = np.concatenate([x[:n] for x, n in zip(CUBE, LENGTHS)])
INK = np.concatenate([np.rint(20 * CUBE[..., :2]), CUBE[..., 2:] > 3], axis=2).astype(np.int16)
FORMS = {
    "npy": CUBE,
    "x": {"x": CUBE, "lengths": LENGTHS, "labels": np.arange(30)},
    "values": {"values": ROWS, "lengths": LENGTHS, "split": np.arange(30) % 3},
    "splits": {"train": CUBE[:20], "valid": CUBE[20:25], "test": CUBE[25:], "train_lengths": LENGTHS[:20]},
    "bits": {"x": CUBE > 3, "lengths": LENGTHS},
    "integers": {"x": INK},
    "sound": {"x": INK, "sample_rate": np.array(8000)},
    "big-endian": {"x": CUBE.astype(">f8")},
}


def save(path, form):
    path = path / ("mine.npz" if isinstance(form, dict) else "mine.npy")
    np.savez(path, **form) if isinstance(form, dict) else np.save(path, form)
    return path


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Make every file count as large, and a part consist of some sequences."""
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrays, "LARGE", 0)
    monkeypatch.setattr("tinyvrnn.data.sequences.NUMBERS_AT_ONCE", 40)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("standardise", [None, False, True])
def test_it_is_the_same_data_as_in_memory(tmp_path, large, monkeypatch, form, standardise):
    path = save(tmp_path, form)
    data = load_data(path, standardise)
    with monkeypatch.context() as small:
        small.setattr(arrays, "LARGE", 2**28)
        memory = load_data(path, standardise)
    assert isinstance(data.train, Mapped) and not isinstance(memory.train, Mapped)
    assert (data.kind, data.units, data.medium) == (memory.kind, memory.units, memory.medium)
    np.testing.assert_allclose(data.mean, memory.mean, rtol=1e-12)
    np.testing.assert_allclose(data.std, memory.std, rtol=1e-12)
    for split in ("train", "valid", "test"):
        a, b = data.split(split), memory.split(split)
        assert repr(a) == repr(b) and a.lengths.tolist() == b.lengths.tolist() and a.steps == b.steps
        np.testing.assert_allclose(a.values, b.values, rtol=1e-6, atol=1e-6)
        for i in range(-1, len(b)):
            np.testing.assert_allclose(a[i], b[i], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(data.labels[split], memory.labels[split])
        for (x, *others), (y, *same) in zip(batches(a, 4, seed=1), batches(b, 4, seed=1), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
            assert [o.tolist() for o in others] == [s.tolist() for s in same] and x.dtype == y.dtype
    assert baselines(data) == pytest.approx(baselines(memory), rel=1e-5)


def test_a_pen_in_a_file(tmp_path, large):
    data = load_data(save(tmp_path, FORMS["integers"]), kind="pen")
    memory = Data.from_sequences("ink", *(data.split(s).values[None] for s in ("train", "valid", "test")), False)
    assert data.std[0] == data.std[1] != 1 and set(np.unique(data.train.values[:, 2])) == {0, 1}
    assert memory.x_dim == 3 and np.isfinite(list(baselines(data).values())).all()


def test_parts_are_all_of_it_in_order(tmp_path, large):
    sequences = load_data(save(tmp_path, FORMS["x"]), False).train
    parts = list(sequences.parts())
    assert len(parts) > 3 and [i for i, _ in parts] == np.cumsum([0, *(len(p) for _, p in parts[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([p.values for _, p in parts]), sequences.values)
    for _, p in parts:
        assert p.offsets[-1] == len(p.values)


def test_standardising_twice_is_once_by_both(tmp_path, large):
    sequences = load_data(save(tmp_path, FORMS["x"]), False).train
    twice = sequences.standardised(1.0, 2.0).standardised(np.full(3, 0.5), np.full(3, 4.0))
    np.testing.assert_allclose(twice[1], ((sequences[1] - 1) / 2 - 0.5) / 4, rtol=1e-5)


def test_choosing_keeps_the_values_in_the_file(tmp_path, large):
    sequences = load_data(save(tmp_path, FORMS["x"]), False).train
    chosen = sequences[[3, 1]][::-1]
    assert isinstance(chosen, Mapped) and chosen.blocks is sequences.blocks
    np.testing.assert_array_equal(chosen[0], sequences[1])
    x, lengths = pad(sequences[:2])
    assert lengths.tolist() == [len(sequences[0]), len(sequences[1])] and x.dtype == np.float32
    with pytest.raises(IndexError):
        sequences[len(sequences)]


class Counted:
    """An array that records which rows are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        self.read.append((key.start, key.stop))
        return self.array[key]


def test_a_batch_reads_its_own_rows_and_no_others(tmp_path):
    block = Counted(ROWS)
    sequences = Mapped([block], np.zeros(30, int), np.cumsum(LENGTHS) - LENGTHS, LENGTHS).standardised(1.0, 2.0)
    _, _, index = next(batches(sequences, 4, seed=0))
    assert sorted(block.read) == sorted(
        (int(sequences.starts[i]), int(sequences.starts[i] + LENGTHS[i])) for i in index
    )


def test_a_run_on_a_mapped_file_is_that_on_the_same_in_memory(tmp_path, large, monkeypatch):
    path, records = save(tmp_path, FORMS["x"]), []
    for limit in (0, 2**28):
        monkeypatch.setattr(arrays, "LARGE", limit)
        records.append(
            tv.train(tv.VRNN(3, 8, 2, likelihood="gaussian"), load_data(path), False, epochs=2, batch=8, workers=1)[-1]
        )
    assert records[0]["valid"]["elbo"] == pytest.approx(records[1]["valid"]["elbo"], rel=1e-5)


def test_any_changed_value_of_a_mapped_file_changes_its_fingerprint(tmp_path, large):
    def digest(**changes):
        return runs_folder.fingerprint(load_data(save(tmp_path, FORMS["splits"] | changes), standardise=False))

    data, expected = load_data(save(tmp_path, FORMS["splits"]), standardise=False), hashlib.sha256()
    for own in (data.train, data.valid, data.test):
        for array in (own.lengths, own.values):
            expected.update(np.ascontiguousarray(array).tobytes())
    genuine = digest()
    assert isinstance(data.train, Mapped) and genuine == expected.hexdigest()
    for i in range(20):
        changed = CUBE[:20].copy()
        changed[i, 0, 0] += 1
        assert digest(train=changed) != genuine
    assert digest(train=CUBE[:1], train_lengths=[3]) != digest(train=CUBE[:1], train_lengths=[4])


def test_the_command_takes_a_large_file(tmp_path, large, capsys):
    run = str(tmp_path / "run")
    options = ["--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]
    assert cli.main(["train", str(save(tmp_path, FORMS["values"])), *options]) == 0
    assert cli.main(["evaluate", run]) == 0
    assert "AR(1)" in capsys.readouterr().out


# ---- the cache


def test_an_archive_is_unpacked_once(tmp_path, large, capsys):
    path = save(tmp_path, FORMS["values"])
    load_data(path)
    assert "unpacking mine.npz into" in capsys.readouterr().err
    unpacked = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")}
    assert set(unpacked) == {"values.npy", "lengths.npy", "split.npy"}
    load_data(path)
    assert capsys.readouterr().err == ""
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")} == unpacked


def test_an_archive_that_was_changed_is_unpacked_again(tmp_path, large):
    path = save(tmp_path, FORMS["values"])
    before = load_data(path, False).train.values
    size = path.stat().st_size
    save(tmp_path, FORMS["values"] | {"values": ROWS + 1})
    os.utime(path, ns=(10**9, 10**9))
    assert path.stat().st_size == size
    np.testing.assert_array_equal(load_data(path, False).train.values, before + 1)


def test_an_archive_that_was_changed_with_equal_size_and_time_too(tmp_path, large):
    path = save(tmp_path, FORMS["values"])
    before, times = load_data(path, False).train.values, path.stat()
    save(tmp_path, FORMS["values"] | {"values": ROWS + 1})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    np.testing.assert_array_equal(load_data(path, False).train.values, before + 1)
    assert len(unpacked(tmp_path)) == 3, "the older version is removed"


def unpacked(tmp_path):
    """The arrays in the cache, and whatever else an unpacking could leave there."""
    return [path for path in (tmp_path / "cache").rglob("*") if path.suffix != ".lock" and path.is_file()]


def test_what_a_killed_unpacking_left_is_cleared(tmp_path, large, monkeypatch):
    path, forked = save(tmp_path, FORMS["values"]), os.fork()
    if forked == 0:  # the child is killed in the middle of the second array
        monkeypatch.setattr(arrays, "_unpack", lambda *_: unpacked(tmp_path) and os.kill(os.getpid(), signal.SIGKILL))
        load_data(path)
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == signal.SIGKILL
    left = unpacked(tmp_path)
    assert left
    np.savez(tmp_path / "other.npz", **FORMS["values"])
    load_data(tmp_path / "other.npz")
    assert len(unpacked(tmp_path)) == 3 and not set(left) & set(unpacked(tmp_path))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_an_unpacking_that_fails_leaves_nothing(tmp_path, large, monkeypatch, stop):
    path = save(tmp_path, FORMS["values"])

    def fail(*_):
        if len(unpacked(tmp_path)) == 2:  # one array and the beginning of another
            raise stop

    monkeypatch.setattr(arrays, "_unpack", fail)
    with pytest.raises((DataError, KeyboardInterrupt, MemoryError)):
        load_data(path)
    assert not unpacked(tmp_path)


def test_a_compressed_archive_too(tmp_path, large):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **FORMS["values"])
    np.testing.assert_array_equal(load_data(path, False).train[0], ROWS[: LENGTHS[0]])


def test_a_cache_that_was_cut_short_is_written_again(tmp_path, large):
    path = save(tmp_path, FORMS["values"])
    before = load_data(path, False).train.values
    (whole,) = (tmp_path / "cache").rglob("values.npy")
    whole.write_bytes(whole.read_bytes()[:100])
    np.testing.assert_array_equal(load_data(path, False).train.values, before)


def test_a_cache_that_can_not_hold_it(tmp_path, large, monkeypatch):
    path = save(tmp_path, FORMS["values"])
    (tmp_path / "cache").write_text("")
    refused(path, "can't write .*: set TINYVRNN_CACHE to a writable folder")
    (tmp_path / "cache").unlink()
    usage = arrays.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: usage._replace(free=10))
    refused(path, "mine.npz needs [0-9,]+ bytes to be unpacked in .*, but 10 are free")


# ---- what is refused


@pytest.mark.parametrize(
    "form, message",
    [
        (np.asfortranarray(CUBE), "x of mine.npy is in Fortran order"),
        (CUBE[0, 0], r"x of mine.npy has shape \(3,\), but \(N, T, X\)"),
        (CUBE[0], "mine.npy holds 1 sequence and no split"),
        (CUBE * 1j, "type complex64, but real numbers"),
        (np.array([None, "a"]), "mine.npy holds an object array"),
        ({"x": CUBE, "lengths": [0] + [5] * 29}, "x of mine.npz: sequence 0 has length 0"),
        ({"x": CUBE, "lengths": [8] + [5] * 29}, "at most 7 steps, but the lengths"),
        ({"values": ROWS, "lengths": LENGTHS[1:]}, "mine.npz: the lengths add up to"),
        ({"x": CUBE, "split": np.full(30, 3)}, r"mine.npz: split holds \[3\], but only 0"),
        ({"x": CUBE * np.nan}, "x of mine.npz: sequence 0, step 0, dimension 0 .* holds nan"),
        ({"a": CUBE}, r"mine.npz holds \['a'\], but x"),
        ({"train": CUBE, "valid": CUBE, "test": CUBE[..., :2]}, r"differ \(train 3, valid 3, test 2\)"),
    ],
)
def test_mistakes_in_a_large_file(tmp_path, large, form, message):
    refused(save(tmp_path, form), message)
    assert not unpacked(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_placed(tmp_path, large, value):
    x = CUBE.copy()
    x[17, 3, 1] = value
    refused(save(tmp_path, x), f"x of mine.npy: sequence 17, step 3, dimension 1 .* holds {value}")
    lengths = np.full(30, 3)
    assert load_data(save(tmp_path, {"x": x, "lengths": lengths})).train.max_steps == 3, (
        "what is padded may be anything"
    )


def test_a_value_that_no_likelihood_takes_is_placed(tmp_path, large):
    bits = (CUBE > 3).astype(np.float32)
    bits[16:, 2, 1] = 2
    data = load_data(save(tmp_path, bits), False)
    with pytest.raises(DataError, match=r"the train split of mine: sequence 1\d, step 2, dimension 1 .* holds 2.0"):
        tv.data.check_suits(data, tv.distributions.LIKELIHOODS["bernoulli"])


def test_what_overflows_when_it_is_standardised(tmp_path, large):
    train = load_data(save(tmp_path, CUBE), False).train
    with pytest.raises(DataError, match="sequence 2 holds .*, which overflows float32 when standardised"):
        train.standardised(np.zeros(3), np.full(3, 1e-60))[2]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_large_file_cut_short_is_refused(tmp_path, large, kind):
    path = save(tmp_path, CUBE if kind == "npy" else {"x": CUBE})
    whole = path.read_bytes()
    for size in [0, 5, 60, 127, 128, 200, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path, "mine.np[yz] can't be read and may be damaged, truncated")


# ---- memory

TRAIN = """
    import resource, sys
    import numpy as np
    import tinyvrnn as tv
    from tinyvrnn.data import baselines
    in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    size = 15_000 * 50 * 400
    limit = in_use + size + 200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    data = tv.load_data(sys.argv[1], standardise=True)
    tv.train(tv.VRNN(200, 8, 2, likelihood="gaussian"), data, False, minutes=0.01, batch=2, workers=1)
    print(len(data.train), data.units, baselines(data, kind="real"))
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        print("and all of it does not fit")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_training_on_more_than_fits_into_the_memory(tmp_path):
    """300 MB, nearly all zeros, sparse on the disk, with 200 MB allowed in addition to the mapping."""
    path = tmp_path / "large.npy"
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.int16)) | {"shape": (15_000, 50, 200)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 15_000 * 50 * 400)
        for _ in range(10):  # no column is constant
            file.write(np.arange(1, 201, dtype=np.int16).tobytes())
            file.seek(49 * 400, 1)
    program = [sys.executable, "-c", textwrap.dedent(TRAIN), str(path)]
    done = subprocess.run(program, capture_output=True, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("12000 ") and done.stdout.endswith("and all of it does not fit\n")
