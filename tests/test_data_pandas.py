"""Tables that pandas writes: separators, an index, a column of times, headers of numbers, missing values."""

import re
import shlex
import tomllib

import numpy as np
import pandas as pd
import pytest
from damage import refused

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.cli.options import _names
from tinyvrnn.data import load_data, read_sequences, readers
from tinyvrnn.data.sequences import missing_values
from tinyvrnn.errors import DataError
from tinyvrnn.runs import checkpoint

VALUES = np.random.default_rng(0).normal(size=(40, 2)).cumsum(axis=0)
SERIES = "7,.5\n" * 6 + "9,.5\n" * 4
TABLE = pd.DataFrame(VALUES, columns=["load", "temp"])
TIMED = TABLE.assign(time=pd.date_range("2024-01-01", periods=40, freq="h"))[["time", "load", "temp"]]
SMALL = ["--hidden", "4", "--latent", "2", "--epochs", "1"]


def written(path, table, name="a.csv", **options):
    table.to_csv(path / name, **options)
    return path / name


@pytest.mark.parametrize("sep, name", [(",", "a.csv"), (";", "a.csv"), ("\t", "a.csv"), ("\t", "a.tsv")])
@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("lines", ["\n", "\r\n"])
@pytest.mark.parametrize("columns", [["load", "temp"], [0, 1], [0], ["load"], ["2019", "2020"]])
@pytest.mark.one_in(3)
def test_the_numbers_and_names_are_those_of_pandas(tmp_path, sep, name, index, lines, columns):
    if columns == ["2019", "2020"] and not index:
        pytest.skip("a line of numbers is data")
    table = TABLE.iloc[:, : len(columns)].set_axis(columns, axis=1)
    path = written(tmp_path, table, name, sep=sep, index=index, lineterminator=lines)
    data = load_data(path, standardise=False, window=5)
    expected = pd.read_csv(path, sep=sep, index_col=0 if index else None, dtype=str).astype(float)
    np.testing.assert_array_equal(read_sequences(path)[0], expected.to_numpy())
    assert data.medium["columns"] == list(expected.columns)
    assert ("first column has no name" in repr(data)) == index
    assert ("taken for names of columns" in repr(data)) == (not str(columns[0]).isalpha())


@pytest.mark.parametrize("rows", [[[0, 1], [1, 0]], [[0], [1], [0]], [[1, 2, 3], [4, 5, 6]]])
def test_whole_numbers_that_could_be_names_stay_numbers(tmp_path, rows):
    path = written(tmp_path, pd.DataFrame(rows), index=False, header=False)
    assert read_sequences(path)[0].tolist() == rows


@pytest.mark.parametrize(
    "options",
    [
        {"columns": ["load", "temp"]},
        {"columns": ["temp"]},
        {"columns": ["temp", "load"]},
        {"skip_columns": ["time"]},
        {"skip_columns": ["time", "load"]},
        {"columns": ["temp", "time", "load"], "skip_columns": ["time"]},
    ],
)
@pytest.mark.parametrize("kind", [list, np.array, pd.Index, iter])
def test_chosen_columns_are_those_of_pandas(tmp_path, options, kind):
    path = written(tmp_path, TIMED)
    chosen = [c for c in options.get("columns", TIMED) if c not in options.get("skip_columns", ())]
    options = {name: kind(columns) for name, columns in options.items()}
    data = load_data(path, standardise=False, window=100, **options)
    read = np.concatenate([data.split(s).values for s in ("train", "valid", "test")])
    np.testing.assert_array_equal(read, TIMED[chosen].to_numpy())
    assert data.medium["columns"] == chosen


@pytest.mark.parametrize(
    "table, options, message",
    [
        (
            TIMED,
            {},
            "a.csv, line 2, column 'time' holds '2024-01-01 00:00:00', but a number .*, or leave .* --skip-columns",
        ),
        (TIMED, {"skip_columns": ["tim"]}, "has the columns ', time, load, temp', but the column 'tim' is needed"),
        (TIMED, {"columns": ["wind"]}, "but the column 'wind' is needed"),
        (TIMED, {"columns": "load,temp"}, "but the column 'load,temp' is needed"),
        (TIMED, {"columns": 1}, "columns must be names of columns, got \\[1\\]: give a list of strings"),
        (TIMED, {"skip_columns": [0, 0]}, "skip_columns must be names of columns, got \\[0, 0\\]"),
        (TABLE.drop(7).reindex(range(40)), {}, "line 9, column 'load' holds '', but finite float32 numbers"),
        (TIMED, {"skip_columns": ["time", "load", "temp"]}, "no column of a.csv is left"),
        (TABLE.iloc[:0], {}, "a.csv holds no numbers"),
    ],
)
def test_what_is_refused(tmp_path, table, options, message):
    with pytest.raises(DataError, match=message):
        load_data(written(tmp_path, table), window=5, **options)


def test_an_empty_cell_is_a_missing_number_where_nan_is(tmp_path):
    table = TABLE.mask(np.random.default_rng(1).random(TABLE.shape) < 0.3)
    data = load_data(written(tmp_path, table), standardise=False, window=8, missing="nan")
    np.testing.assert_array_equal(np.concatenate([data.split(s).values for s in ("train", "valid", "test")]), table)


@pytest.mark.parametrize("options", [{"sep": ";"}, {"sep": ","}, {"sep": "\t"}])
@pytest.mark.parametrize("columns", [["load"], ["load", "temp"]])
@pytest.mark.parametrize("header", [True, False])
def test_decimal_commas_are_read_or_doubted(tmp_path, options, columns, header):
    table = TABLE[columns]
    path = written(tmp_path, table, **options, decimal=",", index=False, header=header)
    if columns == ["load"] and options["sep"] != "," and header:  # 0,125 below a single name
        with pytest.raises(DataError, match="has 2 columns, but the lines above have 1: .*, with a point for decimals"):
            load_data(path, window=5)
    elif columns == ["load"] and options["sep"] != ",":  # 0,125 and so on: two columns of whole numbers
        assert "write decimals with a point" in load_data(path, window=5).notes[0]
    else:
        np.testing.assert_array_equal(read_sequences(path).values, table)
        assert "commas are read as decimal commas, as in " in load_data(path, window=5).notes[0]


@pytest.mark.parametrize("thousands", [",", "."])
def test_a_mark_of_thousands_is_not_taken_for_one_of_decimals(tmp_path, thousands):
    path = tmp_path / "a.csv"
    path.write_text("a;b\n" + "".join(f"{1234 + i:,};{2000 * i:,}\n" for i in range(30)).replace(",", thousands))
    if thousands == ",":
        with pytest.raises(DataError, match="a.csv holds 1,234, whose comma can mark decimals or thousands: write"):
            load_data(path, window=5)
        path.write_text(path.read_text() + "0,5;1\n")
        assert read_sequences(path).values[0].tolist() == [1.234, 0], "0,5 tells that commas mark decimals"
    path.write_text(path.read_text() + "1.5;2,5\n")
    with pytest.raises(DataError, match="a.csv holds .,5 and 1.+: mark decimals alike, and no thousands"):
        load_data(path, window=5)
    path.write_text("a;b\n1.234,5;2\n")
    with pytest.raises(DataError, match="'1.234,5', but a number without marks of thousands is needed"):
        load_data(path, window=5)


def test_names_with_commas_can_be_chosen(tmp_path, capsys):
    path = str(written(tmp_path, TABLE.rename(columns={"load": "load, kW"}).assign(n=range(40)), index=False))
    words = ["train", path, "--window", "5", "--epochs", "1", "--hidden", "4", "--latent", "2", "--overwrite"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--columns", 'temp,"load, kW"']) == 0
    assert tv.load(tmp_path / "run").medium["columns"] == ["temp", "load, kW"]
    recorded = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["data"]
    assert recorded["columns"] == ["temp", "load, kW"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--columns", "temp,temp"]) == 2
    assert "the columns 'temp, temp' are asked for, one of them twice: name each once" in capsys.readouterr().err


def test_a_name_in_advice_can_be_typed_as_it_is(tmp_path):
    path = written(tmp_path, TABLE.assign(**{"step, of 40": range(40)}), index=False)
    option = shlex.split(load_data(path, window=5).notes[0].partition("--skip-columns ")[2])
    assert load_data(path, window=5, skip_columns=_names(*option)).x_dim == 2


@pytest.mark.parametrize(
    "text, names, note",
    [
        ("time,0,1\n5,.5,2\n", ["time", "0", "1"], "'time, 0, 1', is taken for names of columns"),
        (",0,1\n5,.5,2\n", ["0", "1"], "is taken for names of columns"),
        (",1.5,2\n5,.5,2\n", None, None),
        ("NA,1.5,2\n5,.5,2\n", None, None),
        ("2019,2020\n.5,2\n", None, "'2019, 2020', is taken for data"),
        ("2019,2020,2021\n7,2,5\n", None, "'2019, 2020, 2021', is taken for data"),
        ("2019,2020\n7,2\n", None, "two columns of whole numbers are read"),
        ("a,,b\n1,2,4\n", ["a", "b"], "a column without a name is left out"),
        ("a,b,,\n1,2,,\n,,,\n", ["a", "b"], "a column without a name is left out"),
        (",,a,b\n1,2,3,9\n", ["a", "b"], "the first column has no name"),
        ("id,x\n1,5\n2,5\n3,5\n", ["id", "x"], "the column 'id' counts the steps: .* --skip-columns id"),
        (
            "id,x\n" + SERIES,
            ["id", "x"],
            r"'id' is constant over many steps: .*groupby\('id'\): .*f'parts/{i}.csv'",
        ),
        ("x,id\n" + "5,1\n5,2\n" * 9, ["x", "id"], None),
    ],
)
def test_what_is_decided_about_the_first_line_and_columns(tmp_path, text, names, note):
    (tmp_path / "a.csv").write_text(text)
    with missing_values("nan" if names is None else None):
        read = readers.read(tmp_path / "a.csv", {})
    assert (read.medium or {}).get("columns") == names
    assert re.search(note, read.notes[-1]) if note else read.notes == ()


@pytest.mark.parametrize("rows", [1, 30])
def test_empty_rows_below_a_table_are_left_out(tmp_path, rows):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n" + ",\n" * rows)
    assert read_sequences(tmp_path / "a.csv")[0].tolist() == [[1, 2], [3, 4]]
    with missing_values("nan"):
        assert len(readers.read(tmp_path / "a.csv", {}).sequences.values) == 2 + rows


def test_columns_without_names(tmp_path):
    path = written(tmp_path, TABLE, index=False, header=False)
    with pytest.raises(DataError, match="a.csv has no line of names, but columns can be chosen by name only"):
        load_data(path, window=5, columns=["load"])


def test_files_of_a_folder_with_other_columns(tmp_path):
    for i in range(3):
        written(tmp_path, TABLE, f"{i}.csv")
    written(tmp_path, TABLE[["temp", "load"]], "3.csv")
    refused(tmp_path, "3.csv has the columns 'temp, load', but 0.csv has the columns 'load, temp': all files of")


def test_a_run_reads_new_tables_by_the_names_of_its_columns(tmp_path, capsys):
    """In any order and among others; a table that lacks one is refused."""
    run, out = str(tmp_path / "run"), str(tmp_path / "out.npz")
    path = written(tmp_path, TIMED)
    assert cli.main(["train", str(path), "--window", "8", "--columns", "load,temp", *SMALL, "--out", run]) == 0
    assert checkpoint.read(run)[0]["medium"]["columns"] == ["load", "temp"]
    capsys.readouterr()
    assert cli.main(["evaluate", run]) == 0 and "AR(1)" in capsys.readouterr().out
    printed = set()
    for table in (TABLE, TIMED, TABLE[["temp", "load"]]):
        assert cli.main(["evaluate", run, "--data", str(written(tmp_path, table, "new.csv"))]) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1
    other = str(written(tmp_path, TABLE.rename(columns={"temp": "wind"}), "new.csv"))
    sentence = "tinyvrnn: new.csv has the columns ', load, wind', but the column 'temp' is needed.\n"
    for words in (
        ["evaluate", run, "--data", other],
        ["evaluate", run, "--data", other, "--split", "valid"],
        ["infer", run, "--data", other, "--out", out],
        ["forecast", run, "--prime", other, "--steps", "2", "--out", out],
        ["sample", run, "--prime", other, "--out", out],
    ):
        assert cli.main(words) == 2 and capsys.readouterr().err == sentence


def test_what_is_decided_about_new_tables_is_said(tmp_path, capsys):
    run, out, path = str(tmp_path / "run"), str(tmp_path / "out.npz"), str(written(tmp_path, TABLE))
    assert cli.main(["train", path, "--window", "8", *SMALL, "--out", run]) == 0
    for words in (
        ["evaluate", run, "--data", path],
        ["infer", run, "--data", path, "--out", out],
        ["forecast", run, "--prime", path, "--steps", "2", "--out", out],
        ["sample", run, "--prime", path, "--out", out],
    ):
        capsys.readouterr()
        assert cli.main(words) == 0
        assert capsys.readouterr().err.count("tinyvrnn: note: the first column has no name") == 1, words
