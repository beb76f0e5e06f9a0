"""One long array or table is cut into windows, and divided by time before the cut, so that no step is in two splits."""

import json
import tomllib

import numpy as np
import pytest
from damage import refused

from tinyvrnn import cli
from tinyvrnn.data import SPLITS, load_data, read_like, read_sequences
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.data.readers import arrays, content
from tinyvrnn.errors import DataError, TinyvrnnError

STEPS = 103
LONG = np.arange(2.0 * STEPS).reshape(STEPS, 2)
SMALL = ["--hidden", "4", "--latent", "2", "--epochs", "1"]


def long_file(path, form, x=LONG):
    path = path / f"long.{form}"
    if form == "npy":
        np.save(path, x)
    elif form == "npz":
        np.savez(path, x=x)
    else:
        np.savetxt(path, x, delimiter=",", fmt="%.17g")
    return path


def windows(own, window, stride):
    """The windows of one span of steps, one after another."""
    start, found = 0, []
    while start < len(own):
        found.append(own[start : start + window].tolist())
        start = len(own) if start + window >= len(own) else start + stride
    return found


@pytest.mark.parametrize("form", ["npy", "npz", "csv"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("window, stride", [(10, None), (10, 3), (10, 25), (7, 7), (1, 1), (500, None), (90, 80)])
def test_windows_are_those_of_a_loop(tmp_path, monkeypatch, form, mapped, window, stride):
    if mapped:
        monkeypatch.setattr(arrays, "LARGE", 0)
        monkeypatch.setattr("tinyvrnn.data.mapped.LONGEST", LONG.nbytes - 1)
        monkeypatch.setattr(content, "LONGEST", LONG.nbytes - 1)
        monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    data = load_data(long_file(tmp_path, form), standardise=False, window=window, stride=stride)
    assert data.source == f"the file long.{form}; split by time, 80 / 10 / 10 per cent"
    assert isinstance(data.train, Mapped) == (mapped and form != "csv")
    seen = {}
    for split, (start, end) in zip(SPLITS, ((0, 82), (82, 92), (92, 103))):
        expected = windows(LONG[start:end], window, stride or window)
        assert [x.tolist() for x in data.split(split)] == expected
        seen[split] = {x for window in data.split(split) for x in window[:, 0]}
    assert not seen["train"] & seen["valid"] and not seen["valid"] & seen["test"] and not seen["train"] & seen["test"]
    assert data.medium["window"] == window and data.medium["stride"] == (stride or window)


@pytest.mark.parametrize("form", ["npy", "csv"])
@pytest.mark.parametrize("names", [("ECG_TRAIN", "ECG_TEST"), ("train/0", "train/1", "test/0")], ids=len)
@pytest.mark.parametrize("window, stride", [(10, None), (10, 3), (500, None)])
def test_the_end_of_train_validates_if_only_a_test_split_is_named(tmp_path, form, names, window, stride):
    expected = {split: [] for split in SPLITS}
    for i, name in enumerate(names):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        x = LONG + 1000 * i
        long_file(tmp_path, form, x).rename(tmp_path / "x" / f"{name}.{form}")
        spans = {"test": (0, 103)} if "test" in name.lower() else {"train": (0, 92), "valid": (92, 103)}
        for split, (start, end) in spans.items():
            expected[split] += windows(x[start:end], window, stride or window)
    data = load_data(tmp_path / "x", standardise=False, window=window, stride=stride)
    assert data.source.endswith("; the last tenth of each sequence of train validates")
    for split in SPLITS:
        assert [own.tolist() for own in data.split(split)] == expected[split]
    assert [len(own) for own in read_like(tmp_path / "x", {"window": None})] == [103] * len(names)


def test_whole_sequences_are_split_before_they_are_cut(tmp_path):
    cube = np.arange(20 * 9.0).reshape(20, 9, 1)
    path = long_file(tmp_path, "npy", cube)
    whole, cut = (load_data(path, standardise=False, window=window) for window in (None, 4))
    for split in SPLITS:
        pieces = [x[t : t + 4].tolist() for x in whole.split(split) for t in (0, 4, 8)]
        assert [x.tolist() for x in cut.split(split)] == pieces


def test_labels_go_with_their_windows(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((6, 4, 1)), labels=np.arange(6), split=[0, 0, 1, 1, 2, 2])
    assert load_data(tmp_path / "a.npz", window=3).labels["valid"].tolist() == [2, 2, 3, 3]


def test_one_array_is_one_sequence_where_no_split_is_needed(tmp_path):
    assert [len(x) for x in read_sequences(long_file(tmp_path, "npy"))] == [STEPS]


@pytest.mark.parametrize("form", ["npy", "npz", "csv"])
def test_without_a_window_the_sentence_names_it(tmp_path, form):
    refused(long_file(tmp_path, form), f"long.{form} holds 1 sequence and no split, .* or --window N .window=N. to cut")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 3}, "a stride is for windows: give --window N too"),
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"window": 2.5}, "window must be a whole number"),
        ({"window": 3, "stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ({"window": 2**70}, "window must be a whole number"),
        ({"window": 10, "columns": ["a"]}, "columns can be chosen in .csv files .* but not in long.npy"),
    ],
)
def test_options_that_make_no_windows(tmp_path, options, message):
    with pytest.raises(TinyvrnnError, match=message):
        load_data(long_file(tmp_path, "npy"), **options)


def test_too_short_and_too_many(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="long.npy has 9 steps, but at least ten are needed for a split by time"):
        load_data(long_file(tmp_path, "npy", LONG[:9]), window=2)
    np.savez(tmp_path / "pair.npz", values=LONG[:20], lengths=[9, 11], split=[0, 2])
    with pytest.raises(DataError, match="pair.npz has 9 steps, but at least ten are needed for a split by time"):
        load_data(tmp_path / "pair.npz", window=2)
    monkeypatch.setattr(content, "MEMORY", 20 * LONG.nbytes)
    with pytest.raises(DataError, match="the windows of long.npy overlap too much .*: give a larger stride"):
        load_data(long_file(tmp_path, "npy"), window=20, stride=1)


def test_a_run_reads_its_windows_again(tmp_path, capsys):
    """Evaluation cuts as training did; a forecast continues the whole sequence."""
    path, run, out = str(long_file(tmp_path, "npy", np.sin(LONG))), str(tmp_path / "run"), str(tmp_path / "out.npz")
    assert cli.main(["train", path, "--window", "20", "--stride", "5", *SMALL, "--out", run]) == 0
    capsys.readouterr()
    recorded = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["data"]
    assert (recorded["window"], recorded["stride"]) == (20, 5)
    for options, sequences in (([], 1), (["--split", "train"], 14), (["--data", path], 18)):
        assert cli.main(["evaluate", run, "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["sequences"] == sequences and "AR(1)" in found["baselines"]
    assert cli.main(["infer", run, "--data", path, "--out", out]) == 0
    assert np.load(out)["lengths"].tolist() == [20] * 17 + [18]
    assert cli.main(["forecast", run, "--prime", path, "--steps", "2", "--out", out]) == 0
    assert "2 steps after 1 sequence, 100 draws of each" in capsys.readouterr().out
