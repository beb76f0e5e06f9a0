"""Folders: the layouts of splits, links, twins, files that are not read, files of other forms, and the cache."""

import io
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage import refused

import tinyvrnn.data.readers.content as content
from tinyvrnn import cli
from tinyvrnn.data import SPLITS, load_data, read_sequences
from tinyvrnn.data.readers import ENDINGS, foreign, table
from tinyvrnn.errors import DataError

RNG = np.random.default_rng(0)
SMALL = ["--hidden", "4", "--latent", "2", "--epochs", "1"]


def tables(folder, n=1, first=0):
    """n files, each with a number of its own in its first column."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        np.savetxt(folder / f"{i:02}.csv", [[i, 0.5], [i, 1.5]], delimiter=",")
    return folder


def numbers(data):
    return [[int(x[0, 0]) for x in data.split(s)] for s in SPLITS]


# ---- splits

LAYOUTS = [
    ("train", "valid", "test"),
    ("Training", "Validation", "Testing"),
    ("TRAIN", "DEV", "TEST"),
    ("train", "val", "test"),
]


@pytest.mark.parametrize("names", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("way", ["{}", "csv/{}", "{}/speaker", "data/{}/a/b", "a/b/{}", "a/b/c/{}/d"])
def test_folders_with_the_usual_names_are_splits(tmp_path, names, way):
    for i, name in enumerate(names):
        tables(tmp_path / way.format(name), 2, 10 * i)
    assert numbers(load_data(tmp_path, standardise=False)) == [[0, 1], [10, 11], [20, 21]]


def test_each_of_several_folders_can_hold_the_splits(tmp_path):
    for i, way in enumerate(("a/train", "b/train", "a/valid", "b/test")):
        tables(tmp_path / way, 1, i)
    assert numbers(load_data(tmp_path, standardise=False)) == [[0, 1], [2], [3]]


def named(folder, names):
    """A file of this name for each i, with i in its first column."""
    for i, name in enumerate(names):
        (tables(folder, 1, i) / f"{i:02}.csv").rename(folder / f"{name}.csv")


@pytest.mark.parametrize("way", ["{}", "ptb.{}", "{}_0", "Q-{}-2019", "ecg{}"])
@pytest.mark.parametrize("names", LAYOUTS, ids="-".join)
def test_files_with_the_names_of_splits_are_splits(tmp_path, names, way):
    named(tmp_path, [way.format(name.capitalize() if way == "ecg{}" else name) for name in names])
    assert numbers(load_data(tmp_path, standardise=False)) == [[0], [1], [2]]


def test_files_of_train_and_test_alone(tmp_path):
    named(tmp_path, [f"{s}_{i}" for s in ("train", "test") for i in range(4)])
    data = load_data(tmp_path, standardise=False)
    train, valid, test = numbers(data)
    assert sorted(train + valid) == [0, 1, 2, 3] and len(valid) == 1 and test == [4, 5, 6, 7]
    assert data.source.endswith(", 8 files; a tenth of train, taken at random, validates")


@pytest.mark.parametrize("names", [("ECG_TRAIN", "ECG_TEST"), ("train/0", "train/1", "test/0")])
def test_too_few_files_to_take_some_for_validation(tmp_path, names):
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    named(tmp_path, names)
    refused(tmp_path, "the valid split is empty, .*: name some valid, or give --window N .* to take the end of train")


@pytest.mark.parametrize("names", [("train", "valid", "test", "more"), ("a_train", "a_test", "train_test", "b_train")])
def test_a_file_outside_the_splits_of_the_others_is_named(tmp_path, names):
    named(tmp_path, names)
    with pytest.raises(DataError, match="(more|train_test).csv does not have one of train, valid and test in its name"):
        load_data(tmp_path)


def test_without_a_test_split_validation_is_reported_and_this_is_said(tmp_path, capsys):
    tables(tmp_path / "x" / "train", 2), tables(tmp_path / "x" / "dev", 2, 5)
    data = load_data(tmp_path / "x", standardise=False)
    assert numbers(data) == [[0, 1], [5, 6], [5, 6]]
    assert data.notes == ("there is no test split: the sequences of valid are reported in its place",)
    assert cli.main(["train", str(tmp_path / "x"), *SMALL, "--out", str(tmp_path / "run")]) == 0
    assert f"note  {data.notes[0]}\n" in capsys.readouterr().out
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err == f"tinyvrnn: note: {data.notes[0]}.\n"


@pytest.mark.parametrize(
    "names, message",
    [
        (["trian", "x"], "has a folder or file 'trian': rename it to train, valid or test, or give"),
        (["Tset"], "has a folder or file 'Tset': rename it"),
        (["vaild", "x"], "has a folder or file 'vaild'"),
        (["train-clean-100", "test-clean"], "has a folder or file 'test-clean'"),
        (["a/trian"], "has a folder or file 'trian'"),
        *(
            (names.split(), "has a folder or file '.*': rename it")
            for names in (
                "ecg_train ecg_test",
                "01_train 02_valid 03_test",
                "trainset testset",
                "my-val traindata x",
                "ecgTrain ecgTest",
                "ECGTrain ECGHoldout",
                "ecgtrain ecgval ecgtest",
                "trn tst vld",
                "tr te va",
                "development eval",
            )
        ),
        *(
            ([typo, "x"], f"has a folder or file '{typo}'")
            for typo in "rtain tarin trani etst tets tesitng avlid valdi".split()
        ),
        *(
            (pair.split(), "has a folder or file '.*': rename it")
            for pair in ("trains tests", "trai tst", "traim tesst", "traning testin", "train-1 tesst", "test-a valit x")
        ),
        (["test"], "has the folders test: rename"),
        (["train"], "has the folders train: rename"),
        (["valid", "test"], "has the folders test, valid: rename"),
        (["trian", "valid"], "has the folders trian, valid: rename"),
        (["train", "test", "x"], "x.06.csv is outside .*train, valid and test"),
    ],
)
def test_a_near_miss_is_refused(tmp_path, names, message):
    for i, name in enumerate(names):
        tables(tmp_path / name, 3, 3 * i)
    refused(tmp_path, message)


@pytest.mark.parametrize(
    "names", ["a_valid b_test c_test d", "x_train x_eval", "x-traim x-tesst", "aHeldout bTrain c", "xtrain xtest"]
)
def test_files_with_nearly_the_names_of_splits_are_refused(tmp_path, names):
    named(tmp_path, names.split())
    refused(tmp_path, "has a folder or file '.*': rename it to train, valid or test, or give a folder without such")


WORDS = (  # ordinary names, some of them near those of splits, and no typos of them
    "setting settings trail trailer trait trains strain brain drain terrain rain trainer trained trading tearing ratin "
    "tests tested tester text texts tent tempest rest best vest west nest chest latest greatest contest protest attest "
    "testify resting nesting vesting tasting testament value valued values valley vale valet valiant vanilla van "
    "vals vale-1 avail void video vivid validity invalid validate devil deva device devotion deer den dive van-1 dove "
    "rock jazz blues folk metal opera choral piano violin viola cello flute oboe horn trumpet trombone tuba harp drums "
    "guitar dogs cats birds rain-1 wind sea speech noise left right up down yes no walk run sit stand 2019 2020 a b c"
).split()


@pytest.mark.parametrize("word", WORDS)
def test_an_ordinary_name_is_no_near_miss(word):
    folder = Path("x")
    assert content.split_by_folder(folder, [folder / word / "0.csv", folder / "other" / "1.csv"]) is None
    assert content.split_by_folder(folder, [folder / f"{word}.csv", folder / "other.csv"]) is None


@pytest.mark.parametrize(
    "names", [WORDS, ["dogs", "cats"], ["rest", "rain"], ["value", "text"], ["trail", "road"], ["trains", "tests", "x"]]
)
def test_folders_with_other_names_are_split_at_random(tmp_path, names):
    n = 10 // len(names) + 1
    for i, name in enumerate(names):
        tables(tmp_path / name, n, n * i)
    data = load_data(tmp_path, standardise=False)
    train, valid, test = numbers(data)
    assert data.source.endswith("; split at random, 80 / 10 / 10 per cent")
    assert sorted(train + valid + test) == [*range(n * len(names))] and len(valid) == len(test) == n * len(names) // 10


def test_files_can_be_named_after_sets(tmp_path):
    for i, name in enumerate(("trainset", "validset", "testset")):
        tables(tmp_path / name, 1, i)
        next((tmp_path / name).iterdir()).rename(tmp_path / f"{name}.csv")
        (tmp_path / name).rmdir()
    assert numbers(load_data(tmp_path, standardise=False)) == [[0], [1], [2]]


# ---- links, and files that cannot be read


def test_links_are_followed(tmp_path):
    tables(tmp_path / "elsewhere", 6)
    tables(tmp_path / "x", 1, 10)
    (tmp_path / "x" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "x" / "one.csv").symlink_to(tmp_path / "x" / "10.csv")
    assert sorted(int(x[0, 0]) for x in read_sequences(tmp_path / "x")) == [0, 1, 2, 3, 4, 5, 10, 10]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("links", [{"a/up": ".."}, {"a/self": "."}, {"a/b": "../c", "c/a": "../a"}, {"c": "a"}])
def test_links_without_end_are_refused(tmp_path, links):
    tables(tmp_path / "a", 3)
    for link, to in links.items():
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to(to)
    refused(tmp_path, f"{tmp_path}.* is, or lies behind, a link to a folder that was read already: remove the link")


def test_a_link_that_leads_nowhere_and_a_pipe_are_named(tmp_path):
    (tables(tmp_path, 3) / "x.csv").symlink_to("nowhere")
    refused(tmp_path, "x.csv is a link that leads nowhere, or no regular file: remove it")
    (tmp_path / "x.csv").unlink()
    os.mkfifo(tmp_path / "y.csv")
    refused(tmp_path, "y.csv is a link that leads nowhere, or no regular file: remove it")


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Permissions mean nothing to root, so the failure is planted."""
    tables(tmp_path / "closed", 3), tables(tmp_path / "open", 3)
    scandir, opened = os.scandir, open

    def denied(path, *arguments):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return (opened if arguments else scandir)(path, *arguments)

    with monkeypatch.context() as planted:
        planted.setattr(os, "scandir", denied)
        refused(tmp_path, "closed can't be read: Permission denied")
    monkeypatch.setattr("builtins.open", denied)
    refused(tmp_path, "closed.00.csv can't be read: Permission denied")


# ---- what is said


@pytest.mark.parametrize(
    "name, note",
    [
        ("00.CSV.csv", "00.CSV.csv and 00.csv are named alike, 1 such name in all: remove copies"),
        ("testing_list.txt", "testing_list.txt is not used: a split is read from folders named train, valid and test"),
        ("a.mp3", "a.mp3 is not of a form that is read, 1 such file in all"),
        ("README.md", None),
    ],
)
def test_what_lies_beside_the_data_is_said(tmp_path, name, note):
    (tables(tmp_path, 6) / name).write_text("7,7\n7,8\n")
    assert load_data(tmp_path).notes == (() if note is None else (note,))


def test_tables_beside_other_data_are_left_out_and_this_is_said(tmp_path):
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.full((3, 2), i))
    for name in ("list.csv", "meta.tsv"):
        (tmp_path / name).write_text("title,year\nPrelude,2004\n")
    data = load_data(tmp_path, standardise=False)
    assert sorted(sum(numbers(data), [])) == [*range(6)]
    assert data.notes == ("list.csv is left out beside other data, 2 such files in all",)


def test_an_array_of_one_axis_in_a_folder_is_refused_with_the_mend(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.arange(3.0))
    refused(tmp_path, r"0.npy has shape \(3,\) .*: save x\[:, None\] for X = 1")


def test_equal_sequences_across_splits_are_said(tmp_path):
    for split, n in (("train", 4), ("valid", 3), ("test", 1)):
        tables(tmp_path / split, n, 2)
    assert load_data(tmp_path).notes == tuple(
        f"{n} of {n} sequences of {s} are in {other} too"
        for s, other, n in (("valid", "train", 3), ("test", "train", 1), ("test", "valid", 1))
    )
    tables(tmp_path / "other", 8)
    assert load_data(tmp_path / "other").notes == ()


HINTS = {
    "in [0, 1]": (
        RNG.random((5, 4, 2)),
        "values in [0, 1] are taken for probabilities, as they are: --likelihood gaus",
    ),
    "a pen": (np.concatenate([RNG.normal(size=(5, 4, 2)), RNG.integers(0, 2, (5, 4, 1))], 2), "--likelihood pen"),
    "one-hot": (np.eye(3)[RNG.integers(0, 3, (5, 4))], "each step has a single 1: .* --likelihood categorical"),
    "bits": (RNG.integers(0, 2, (5, 40, 3)), None),
    "real": (RNG.normal(size=(5, 4, 3)), None),
}


@pytest.mark.parametrize("x, hint", HINTS.values(), ids=HINTS)
@pytest.mark.one_in(3)
def test_what_data_are_taken_for_is_said_unless_it_was_chosen(tmp_path, capsys, x, hint):
    np.save(tmp_path / "x.npy", x)
    words = ["train", str(tmp_path / "x.npy"), *SMALL, "--overwrite", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyvrnn: note")]
    assert len(notes) == (hint is not None) and (hint is None or hint.split(":")[0] in notes[0])
    assert cli.main([*words, "--likelihood", "gaussian"]) == 0
    assert "note" not in capsys.readouterr().err


# ---- files of other forms


@pytest.mark.parametrize("ending", foreign.LINES)
def test_a_form_that_is_not_read_names_those_that_are_and_a_conversion(tmp_path, ending):
    path = tmp_path / f"mine{ending}"
    path.write_bytes(b"PK\x03\x04")
    assert ending not in ENDINGS
    line = foreign.LINES[ending].replace("NAME", path.name).replace("STEM", "mine")
    for given in (path, tmp_path):  # the file, and a folder of such files
        with pytest.raises(Exception) as caught:
            load_data(given)
        assert f"mine{ending} is not of a form that is read: convert it, for example by `{line}`, to a .npy" in str(
            caught.value
        )
        assert "damaged" not in str(caught.value)


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(99))
    return file.getvalue()


@pytest.mark.parametrize(
    "name, start, message",
    [
        ("a.npy", b"x,y\r\n1,2\n", "a.npy seems to be a file of the form .csv .*: rename it to a.csv"),
        ("a.npz", b"\x89HDF\r\n\x1a\n", "a.npz seems to be a file of the form .h5 .*h5py.File"),
        ("a.npy", b"\x80\x04K\x01.", "form .pickle .*: rename it to a.pickle"),
        ("a.csv", zipped("a.csv"), r'form .zip .* `shutil.unpack_archive\("a.csv", "a", "zip"\)'),
        (
            "a.csv",
            zipped("_rels/.rels", "[Content_Types].xml"),
            "a.csv seems to be a file of the form .xlsx .*pandas.read_excel",
        ),
        ("a.csv", b"PAR1" + bytes(9), "form .parquet"),
        ("a.json", b"\x1f\x8b\x08", "form .gz .* `gunzip -c a.json > a-unpacked.json`"),
        ("a.pickle", b"\x93NUMPY\x01\0", "form .npy .*: rename it to a.npy"),
        ("a.csv", b"RIFF\0\0\0\0WAVE", "form .wav"),
        ("a.wav", b"MThd", "form .mid"),
        ("a.xyz", b"\x89HDF\r\n\x1a\n", "form .h5 .*h5py.File"),
        ("a.xyz", b"1 2 3", "a.xyz is not of a form that is read: save it as a .npy"),
        ("a", b"1 2 3", "a is not of a form that is read: save it as a .npy"),
    ],
)
def test_a_file_of_another_kind_than_its_ending_says(tmp_path, name, start, message):
    (tmp_path / name).write_bytes(start)
    refused(tmp_path / name, message)
    if name.endswith((".csv", ".wav")):
        refused(tables(tmp_path, 0), message)


def test_arrays_are_read_whatever_their_ending(tmp_path):
    x = RNG.normal(size=(4, 3, 2))
    with open(tmp_path / "mine.data", "wb") as file:
        np.save(file, x)
    np.testing.assert_array_equal(read_sequences(tmp_path / "mine.data").values, x.reshape(12, 2))
    np.savez(tmp_path / "b.npz", x=x)
    assert (
        zipfile.is_zipfile(tmp_path / "b.npz")
        and len(read_sequences((tmp_path / "b.npz").rename(tmp_path / "b.npy"))) == 4
    )


# ---- the cache


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """Keep everything that is parsed; the list counts the files that are."""
    monkeypatch.setenv("TINYVRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "SLOW", -1.0)
    seen, parse = [], table._table
    monkeypatch.setattr(table, "_table", lambda *a: seen.append(a[0].name) or parse(*a))
    return seen


def test_files_are_parsed_once(tmp_path, slow):
    folder = tables(tmp_path / "x", 3)
    first, again = read_sequences(folder), read_sequences(folder)
    np.testing.assert_array_equal(first.values, again.values)
    assert slow == ["00.csv", "01.csv", "02.csv"] and again.lengths.tolist() == [2, 2, 2]
    folder.rename(tmp_path / "y")
    assert len(read_sequences(tmp_path / "y")) == 3 == len(slow), "the place does not count"


@pytest.mark.parametrize("change", ["content", "name", "one more", "damage"])
def test_what_has_changed_is_parsed_again(tmp_path, slow, change):
    folder = tables(tmp_path / "x", 3)
    first, path = read_sequences(folder), folder / "01.csv"
    times = path.stat()
    if change == "content":  # of the same size, at the same time
        path.write_text(path.read_text().replace("5", "6"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "name":
        path.rename(folder / "99.csv")
    elif change == "one more":
        tables(folder, 1, 7)
    else:
        (kept,) = (tmp_path / "cache").rglob("*.npz")
        kept.write_bytes(kept.read_bytes()[:-30])
    n, again = len(slow), read_sequences(folder)
    assert len(slow) == n + 3 + (change == "one more")
    assert again.values.tolist() != first.values.tolist() or change == "damage"


def test_other_columns_are_parsed_again(tmp_path, slow):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 20)
    for columns, expected in ((None, [1, 2]), (["a"], [1]), (["b"], [2]), (["b"], [2])):
        assert load_data(tmp_path / "a.csv", False, window=5, columns=columns).train[0][0].tolist() == expected
    assert len(slow) == 3


def test_empty_rows_that_count_are_parsed_again(tmp_path, slow):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 19 + ",\n")
    for missing, steps in ((None, 19), ("nan", 20), (None, 19)):
        assert load_data(tmp_path / "a.csv", False, window=5, missing=missing).train.lengths.sum() == steps * 8 // 10


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, slow):
    (tmp_path / "cache").write_text("a file")
    assert len(read_sequences(tables(tmp_path / "x", 3))) == 3


def test_what_is_read_fast_leaves_nothing(tmp_path, slow, monkeypatch):
    monkeypatch.setattr(content, "SLOW", 60.0)
    read_sequences(tables(tmp_path / "x", 3))
    assert not (tmp_path / "cache").exists()


# ---- progress bars


def test_a_progress_bar_does_not_fill_a_log(capsys):
    from tinyvrnn.io.streams import bar

    for _ in bar(range(300), mininterval=0):
        time.sleep(0.0005)
    assert capsys.readouterr().err.count("\r") <= 3


def test_train_does_not_doubt_the_scale_that_it_chose(tmp_path):
    """A single training sequence, far from the others, standardises them."""
    x = np.cumsum(np.full((5, 6, 2), 0.01), axis=1) * RNG.normal(size=(5, 6, 2))
    np.savez(tmp_path / "far.npz", x=x + 3 * np.arange(5)[:, None, None], split=[0, 1, 1, 2, 2])
    assert (
        cli.main(
            ["train", str(tmp_path / "far.npz"), *SMALL, "--likelihood", "gaussian", "--out", str(tmp_path / "run")]
        )
        == 0
    )
