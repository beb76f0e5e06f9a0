"""Folders of .csv: with and without a header, and every mistake reported with file and line."""

import pytest
from damage import refused

from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences

ROWS = "1,-2.5\n3e2,.5\n-0, 7 \n"


def a_folder(path, n=10, text=ROWS):
    path.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (path / f"{i:02}.csv").write_text(f"{text}{i},{i}\n")
    return path


def single(path, content):
    path = path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("head", ["", "\ufeff", "x,y\n", "\ufeffx,y\n", '"x, in m",y\n', "\n x , y \n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_numbers_with_a_line_of_names_or_none(tmp_path, head, newline):
    read = read_sequences(single(tmp_path, (head + ROWS + "\n\n").replace("\n", newline)))
    assert read[0].tolist() == [[1, -2.5], [300, 0.5], [0, 7]]


def test_one_column(tmp_path):
    assert read_sequences(single(tmp_path, "load\n1\n2\n"))[0].tolist() == [[1], [2]]


def test_a_folder_is_a_data_set(tmp_path):
    data = load_data(a_folder(tmp_path / "trips"), standardise=False)
    assert [len(data.split(s)) for s in ("train", "valid", "test")] == [8, 1, 1] and data.name == "trips"
    assert sorted(x[-1, 0] for s in ("train", "valid", "test") for x in data.split(s)) == list(range(10))
    assert data.units == "nats of raw data" and "the folder trips, 10 files" in data.source and data.medium == {}


def test_subfolders_are_splits(tmp_path):
    for i, split in enumerate(("train", "valid", "test")):
        a_folder(tmp_path / split, 1, f"{i},{i}\n")
    data = load_data(tmp_path, standardise=False)
    assert [data.split(s)[0][0, 0] for s in ("train", "valid", "test")] == [0, 1, 2]


def test_a_folder_trains(tmp_path, capsys):
    run, folder = str(tmp_path / "run"), str(a_folder(tmp_path / "trips"))
    assert cli.main(["train", folder, "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert "AR(1)" in capsys.readouterr().out
    assert cli.main(["evaluate", run, "--data", folder]) == 0
    assert "trips, all split: 10 sequences" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "a.csv holds no numbers"),
        ("x,y\n", "a.csv holds no numbers"),
        ("x,y\n1,2\n3\n", "a.csv, line 3 has 1 column, but the lines above have 2"),
        ("1,2\n3,4,5\n", "a.csv, line 2 has 3 columns"),
        ("1,2\n\n3,4\n", "a.csv, line 2 is empty, but each step needs numbers: fill or remove it"),
        ("x,y\n1,2\n\n  \n3,4\n", "a.csv, line 3 is empty"),
        ("x,y\n1,2\n,\n3,4\n", "a.csv, line 3 is empty, but each step needs numbers"),
        ("x,y\n1,2\nNA,3\n", "a.csv, line 3, column 'x' holds 'NA', but finite float32 numbers"),
        ("# by me\n1,2\n", "a.csv, line 1 begins with #: remove the comment"),
        ("# x,y\n1,2\n", "a.csv, line 1 begins with #: remove the comment, or # before names"),
        ("x y\n1 2\n", "line 2, column 'x y' holds '1 2', but commas, semicolons or tabs between numbers are needed"),
        ("1 | 2\n3 | 4\n", r"line 2, column '1 \| 2' holds '3 \| 4', but commas, semicolons"),
        ("x,y,z\n1,2\n", "line 2 has 2 columns, but the lines above have 3"),
        (
            '"x","y"\n"1",2,3\n',
            "line 2 has 3 columns, .* as R writes it, name its column too .col.names=NA",
        ),
        ("1,2\n3,x\n", "a.csv, line 2, column 2 .counted from 1. holds 'x', but a number"),
        ("1,x\n3,4\n", "a.csv, line 1, column 2 .counted from 1. holds 'x'"),
        (
            "x,y\nz,1\n",
            "line 2, column 'x' holds 'z', but a number .*: correct it, or leave .* --skip-col",
        ),
        ("x,x\n1,2\n", "a.csv has two columns with the name 'x': rename one"),
        ("1,2\n3,\n", "line 2, column 2 .counted from 1. holds ''"),
        ("1,2\n3,1_000\n", "holds '1_000'"),
        ("1,2\n3,0x10\n", "holds '0x10'"),
        ("1,2\n3,\N{ARABIC-INDIC DIGIT ONE}\n", "column 2 .counted from 1. holds"),
        ("1,2\n3,.\n", "column 2 .counted from 1. holds '.', but a number such as -1.5e3 is needed$"),
        ("1,2\nnan,4\n", "line 2, column 1 .counted from 1. holds 'nan', but finite .* --missing nan"),
        ("1,2\n3,-inf\n", "line 2, column 2 .counted from 1. holds '-inf', but finite .* remove that sequence$"),
        ("1,2\n3,1e39\n", "holds '1e39', but finite"),
        ("1,2\n3," + "9" * 200_000 + "\n", "line 2: field larger than field limit"),
        ('1,2\n3,"4\n', "line 2: unexpected end of data"),
        ("1,2\n" + "3," * 2**20, "line 1: a line of more than 1,048,576 characters, but"),
        ("1,2\n3,\0\n", "a.csv, line 2"),
        (b"1,\xff\n", "a.csv is not UTF-8 text"),
        ("1,2\n".encode("utf-16"), "a.csv is not UTF-8 text"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, content, message):
    refused(single(tmp_path, content), message)


@pytest.mark.parametrize(
    "other, message",
    [
        (
            "1\n2\n",
            "10.csv has 1 columns without names, but 00.csv has 2 columns without .*: all files of trips need the same",
        ),
        (
            "y,x\n1,2\n",
            "10.csv has the columns 'y, x', but 00.csv has 2 columns without names: all files of trips need the same",
        ),
    ],
)
def test_files_that_differ(tmp_path, other, message):
    a_folder(tmp_path / "trips")
    (tmp_path / "trips" / "10.csv").write_text(other)
    refused(tmp_path / "trips", message)


def test_two_forms_in_one_folder(tmp_path):
    a_folder(tmp_path / "trips")
    (tmp_path / "trips" / "a.wav").write_bytes(b"")
    refused(tmp_path / "trips", "not a folder of files of one format, as it holds 00.csv and a.wav: give")
