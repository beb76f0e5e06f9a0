"""The embedded sets match their licence files and the script that builds them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tinyvrnn.data import embedded, load_data, read_sequences
from tinyvrnn.data.load import FOLDER

NAMES = ("digits", "digits8", "strokes", "vowels")


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
        ("strokes", (2016, 250, 250), (4, 71), 3),
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
    "name, most, dtype, label_dtype",
    [
        ("digits", 255, "uint8", "uint8"),
        ("digits8", 16, "uint8", "uint8"),
        ("strokes", None, "int16", "uint16"),
        ("vowels", None, "float32", "uint8"),
    ],
)
def test_stored_arrays(name, most, dtype, label_dtype):
    arrays = stored(name)
    assert {k: v.dtype.name for k, v in arrays.items()} == {
        "values": dtype,
        "lengths": "int16",
        "split": "uint8",
        "labels": label_dtype,
    }
    assert most is None or (arrays["values"].min(), arrays["values"].max()) == (0, most)


@pytest.mark.parametrize("name, threshold", [("digits", 128), ("digits8", 8)])
def test_pixels_are_binarised_at_the_threshold(name, threshold):
    data, raw = load_data(name), read_sequences(FOLDER / f"{name}.npz")
    assert data.kind == "binary" and f"binarised at {threshold}" in data.units
    assert data.train.values.dtype == np.uint8 and threshold in raw.values and threshold - 1 in raw.values
    np.testing.assert_array_equal(data.train.values, raw[: len(data.train)].values >= threshold)


def strokes_class(data, split):
    lifts = [int(x[:, 2].sum()) for x in data.split(split)]
    return np.array(lifts) + 11 * (data.labels[split] >= 0x4E00)


@pytest.mark.parametrize("name", NAMES)
def test_splits_have_every_class_in_its_proportion(name):
    labels = load_data(name).labels
    if name == "strokes":  # the label is the character; the classes are its script and its number of strokes
        labels = {split: strokes_class(load_data(name, False), split) for split in labels}
    train = np.bincount(labels["train"]) / len(labels["train"])
    valid = np.bincount(labels["valid"]) / len(labels["valid"])
    assert np.abs(train - valid).max() <= 1 / len(labels["valid"])


@pytest.mark.parametrize("name", NAMES)
def test_no_sequence_is_there_twice(name):
    """So none is in two splits. (Binarised, 47 of the 8 x 8 digits equal another one.)"""
    raw = read_sequences(FOLDER / f"{name}.npz")
    assert len({sequence.tobytes() for sequence in raw}) == len(raw)


def test_the_test_set_of_the_vowels_is_the_official_one():
    """31 to 29 utterances of the speakers 1 to 9, as the data set's own description counts them."""
    assert np.bincount(load_data("vowels").labels["test"])[1:].tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_vowels_are_stored_without_padding():
    for sequence in load_data("vowels", standardise=False).test:
        assert (np.abs(np.diff(sequence[-2:], axis=0)) > 0).any() and sequence[-1].all()


def character(x):
    """Points (n, 2) of each stroke of x (T, 3), in tenths of KanjiVG's unit from the square's top left corner."""
    points = 545 + np.cumsum(x[:, :2].astype(int), axis=0)
    return np.split(points, np.flatnonzero(x[:, 2])[:-1] + 1)


def test_strokes_are_those_of_the_drawings():
    """Ends added up by hand from KanjiVG's files of 一 (one stroke) and 心 (four)."""
    data = load_data("strokes", standardise=False)
    ends = {
        0x4E00: [((11, 54.25), (96.88, 50))],
        0x5FC3: [
            ((16.88, 52.75), (13.13, 75.75)),
            ((31.25, 49.25), (87.5, 72)),
            ((50.25, 26), (59, 33.75)),
            ((85.5, 30), (96, 44)),
        ],
    }
    for code, expected in ends.items():
        (x,) = [x for s in ("train", "valid", "test") for x, y in zip(data.split(s), data.labels[s]) if y == code]
        found = [(stroke[0] / 10, stroke[-1] / 10) for stroke in character(x)]
        np.testing.assert_allclose(found, expected, atol=0.051)


def test_strokes_have_even_steps_inside_the_square_and_lift_the_pen_at_the_end():
    for x in load_data("strokes", standardise=False).train:
        assert set(x[:, 2]) <= {0, 1} and x[-1, 2] == 1
        for points in character(x):
            assert points.min() >= 0 and points.max() <= 1090 and len(points) > 1
            chords = np.hypot(*np.diff(points, axis=0).T)  # of a bent path: shorter than the way along it
            assert chords.max() <= 151 and (len(points) == 2 or chords.max() > 66)


def test_all_kana_are_there_and_kanji_of_up_to_ten_strokes():
    data = load_data("strokes", standardise=False)
    codes = np.concatenate(list(data.labels.values()))
    assert {*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)} == set(codes[codes < 0x4E00].tolist())
    lifts = np.concatenate([[x[:, 2].sum() for x in data.split(s)] for s in data.labels])
    assert lifts.max() == 10 and len(set(codes.tolist())) == len(codes) == 2516
    assert np.median(np.concatenate([data.split(s).lengths for s in data.labels])) == 45


def test_the_path_of_a_pen_is_read_as_svg_means_it():
    """M and m move, C is a cubic Bezier curve, S one whose first control point mirrors the last; the small ones add."""
    absolute = build_data.curve("M0,0C0,10,10,10,10,0S20-10,20,0")
    np.testing.assert_allclose(absolute[[0, 16, 32, 48, 64]], [[0, 0], [5, 7.5], [10, 0], [15, -7.5], [20, 0]])
    np.testing.assert_allclose(build_data.curve("m3,4c0,10,10,10,10,0s10-10,10,0"), absolute + [3, 4])
    np.testing.assert_allclose(build_data.curve("M1,2m3,4M5,6"), [[1, 2], [4, 6], [5, 6]])
    assert build_data.read_numbers("1.5-.25,3.-2 7").tolist() == [1.5, -0.25, 3, -2, 7]
    with pytest.raises(AssertionError, match="unknown command"):
        build_data.curve("M0,0L1,1")


def test_points_stand_at_even_distances_along_the_path():
    corner = np.array([[0, 0], [30, 0], [30, 0.0], [30, 14]])
    np.testing.assert_allclose(build_data.even(corner), [[0, 0], [11, 0], [22, 0], [30, 3], [30, 14]])
    np.testing.assert_allclose(build_data.even(corner[:2] / 30), [[0, 0], [1, 0]])
    np.testing.assert_allclose(build_data.even(corner[:2] * 0.6), [[0, 0], [9, 0], [18, 0]])


def test_pen_steps_round_points_and_not_steps():
    line = np.array([[54.5, 54.5], [54.54, 54.5], [54.58, 54.5], [54.62, 54.5]])
    steps = build_data.pen_steps([line, line[::-1]])
    assert steps.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [-1, 0, 0], [0, 0, 1]]


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
