"""The embedded sets are what their licence files say, and the script that builds them is what built them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tinyvrnn.data import embedded, load_data, read_sequences
from tinyvrnn.data.load import FOLDER

NAMES = ("digits", "digits8", "vowels")


def load_script():
    path = Path(__file__).parent.parent / "scripts" / "build_data.py"
    spec = importlib.util.spec_from_file_location("build_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_data = load_script()


def stored(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize(
    "name, counts, steps, x_dim",
    [
        ("digits", (4000, 500, 500), (28, 28), 28),
        ("digits8", (1437, 180, 180), (8, 8), 8),
        ("vowels", (230, 40, 370), (7, 29), 12),
    ],
)
def test_counts_and_shapes(name, counts, steps, x_dim):
    summary = embedded()[name]
    assert tuple(summary["sequences"].values()) == counts
    assert summary["steps"] == steps and summary["x_dim"] == x_dim
    assert summary["bytes"] == (FOLDER / f"{name}.npz").stat().st_size


def test_all_files_together_are_small():
    assert set(embedded()) == set(NAMES) == {path.stem for path in FOLDER.glob("*.npz")}
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_licence_lies_beside_each_and_names_the_same_licence(name):
    text = (FOLDER / f"{name}.LICENCE.md").read_text()
    for part in ("**Authors**", "**Licence**", "//creativecommons.org/licenses/", "**Taken from**", "**Changed**"):
        assert part in text
    assert f"({embedded()[name]['licence']})" in text
    package, version = build_data.SOURCES[name].package.split("==")
    assert f"{package} {version}" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_content_is_that_of_the_build_script(name):
    assert build_data.content_hash(stored(name)) == build_data.SOURCES[name].sha256


@pytest.mark.parametrize(
    "name, most, dtype", [("digits", 255, "uint8"), ("digits8", 16, "uint8"), ("vowels", None, "float32")]
)
def test_stored_arrays(name, most, dtype):
    arrays = stored(name)
    assert {k: v.dtype.name for k, v in arrays.items()} == {
        "values": dtype,
        "lengths": "int16",
        "split": "uint8",
        "labels": "uint8",
    }
    assert most is None or (arrays["values"].min(), arrays["values"].max()) == (0, most)


@pytest.mark.parametrize("name, threshold", [("digits", 128), ("digits8", 8)])
def test_pixels_are_binarised_at_the_threshold(name, threshold):
    data, raw = load_data(name), read_sequences(FOLDER / f"{name}.npz")
    assert data.kind == "binary" and f"binarised at {threshold}" in data.units
    assert data.train.values.dtype == np.uint8 and threshold in raw.values and threshold - 1 in raw.values
    np.testing.assert_array_equal(data.train.values, raw[: len(data.train)].values >= threshold)


@pytest.mark.parametrize("name", NAMES)
def test_splits_have_every_class_in_its_proportion(name):
    labels = load_data(name).labels
    train = np.bincount(labels["train"]) / len(labels["train"])
    valid = np.bincount(labels["valid"]) / len(labels["valid"])
    assert np.abs(train - valid).max() <= 1 / len(labels["valid"])


@pytest.mark.parametrize("name", NAMES)
def test_no_sequence_is_there_twice(name):
    """So none is in two splits. (Binarised, 47 of the 8 x 8 digits are like another one.)"""
    raw = read_sequences(FOLDER / f"{name}.npz")
    assert len({sequence.tobytes() for sequence in raw}) == len(raw)


def test_the_test_set_of_the_vowels_is_the_official_one():
    """31 to 29 utterances of the speakers 1 to 9, as the data set's own description counts them."""
    assert np.bincount(load_data("vowels").labels["test"])[1:].tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_vowels_are_stored_without_padding():
    for sequence in load_data("vowels", standardise=False).test:
        assert (np.abs(np.diff(sequence[-2:], axis=0)) > 0).any() and sequence[-1].all()


def test_digits_stand_upright():
    """The mean 7 has its bar on top, and the mean 1 is taller than it is wide: rows are time, in reading order."""
    data = load_data("digits")
    images = data.train.values.reshape(-1, 28, 28)
    mean = {c: images[data.labels["train"] == c].mean(axis=0) for c in (1, 7)}
    assert mean[7][7:11].sum() > 1.3 * mean[7][17:21].sum()
    rows, columns = (np.flatnonzero(mean[1].sum(axis=a) > 0.5) for a in (1, 0))
    assert np.ptp(rows) > 1.3 * np.ptp(columns)


def test_the_file_is_the_same_whenever_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    build_data.write(tmp_path / "a.npz", stored("digits8"))
    monkeypatch.setattr("time.time", lambda: 1e9)
    build_data.write(tmp_path / "b.npz", stored("digits8"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as file:
        assert build_data.content_hash(dict(file)) == build_data.SOURCES["digits8"].sha256


def test_content_hash_sees_type_shape_name_and_value():
    same = {"a": np.zeros((2, 3), np.int16)}
    a = same["a"]
    others = [{"b": a}, {"a": a.astype(np.uint16)}, {"a": a.reshape(3, 2)}, {"a": a + 1}]
    assert len({build_data.content_hash(arrays) for arrays in [same, *others]}) == 5


def test_a_changed_package_is_refused(monkeypatch):
    source = build_data.SOURCES["digits8"]._replace(arrays=lambda *_: {"values": np.zeros(3)})
    monkeypatch.setitem(build_data.SOURCES, "digits8", source)
    monkeypatch.setattr(build_data, "download", lambda source: [])
    with pytest.raises(SystemExit, match="carries other data now"):
        build_data.build("digits8")


def test_check_compares_with_the_package(monkeypatch, capsys):
    monkeypatch.setattr(build_data, "build", stored)
    build_data.main(["digits8", "--check"])
    assert "digits8: the same" in capsys.readouterr().out
    monkeypatch.setattr(build_data, "build", lambda name: stored("vowels"))
    with pytest.raises(SystemExit, match="differs from the one built anew"):
        build_data.main(["digits8", "--check"])


def test_build_writes_the_named_sets_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(build_data, "build", stored)
    build_data.main(["digits8", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["digits8.npz"]
    build_data.main(["--out", str(tmp_path)])
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(NAMES)


def test_read_ts_transposes_to_steps_by_dimensions():
    sequences, labels = build_data.read_ts(b"#c\n@data\n1,2,3:4,5,6:7\n\n8:9:1\n")
    np.testing.assert_array_equal(sequences[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(sequences[1], [[8, 9]])
    assert labels.tolist() == [7, 1]


def test_every_prefix_of_the_stratified_order_has_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = build_data.stratified(labels)
    assert sorted(order) == list(range(100))
    for n in range(1, 101):
        counts = np.bincount(labels[order[:n]], minlength=3)
        assert np.abs(counts - n * np.array([0.6, 0.3, 0.1])).max() <= 1.5


def test_the_stratified_order_is_random_and_fixed():
    assert build_data.stratified(np.array([5, 5, 5, 6, 6, 6])).tolist() == [5, 2, 3, 1, 0, 4]
