"""Text: the characters that Python reads, an alphabet that stays with the model, and what is refused."""

import re

import numpy as np
import pytest
from damage import refused
from fuzz.hostile import with_manifest
from fuzz.targets import TARGETS

import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.data import load_data, read_sequences

NAMES = "Ada\nBlaise\nÉmilie\nKurt\nEmmy\n"
VERSES = "Tyger Tyger,\nburning bright\n\nIn the forests\n\n  \nof the night;\n\n"


def text_of(data, x):
    """The text of one-hot rows, character by character."""
    return "".join(data.medium["alphabet"][list(row).index(1)] for row in x)


def pieces(content):
    """What a file is cut into: at empty lines if there are any, else into lines."""
    content = content.replace("\r\n", "\n").removeprefix("\ufeff")
    cut = re.split(r"\n\s*\n", content.strip("\n")) if "\n\n" in content.strip("\n") else content.split("\n")
    return [piece for piece in cut if piece.strip()]


@pytest.mark.parametrize("content", [NAMES, NAMES.replace("\n", "\r\n"), "\ufeff" + NAMES, VERSES, "\n\n" + VERSES])
def test_a_file_is_cut_into_paragraphs_or_lines(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content.encode())
    data = load_data(tmp_path / "a.txt")
    read = [text_of(data, x) for x in (*data.train, *data.valid, *data.test)]
    assert sorted(read) == sorted(pieces(content)) and len(read) in (3, 5)
    assert data.medium == {"name": "text", "alphabet": "".join(sorted({c for piece in read for c in piece}))}
    assert (data.kind, data.units, data.train.dtype) == ("binary", "nats; characters", np.uint8)


def test_a_line_of_blanks_is_an_empty_line(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\n \nc\nd\n\t\ne\nf\n")
    assert read_sequences(tmp_path / "a.txt").lengths.tolist() == [3, 3, 3]


@pytest.mark.parametrize("folders", [False, True])
def test_in_a_folder_each_file_is_a_sequence(tmp_path, folders):
    for i, split in enumerate(("train", "valid", "test")):
        path = tmp_path / "poems" / (split if folders else "") / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(VERSES * (i + 1), encoding="utf-8", newline="")
    data = load_data(tmp_path / "poems")
    read = {split: [text_of(data, x) for x in data.split(split)] for split in ("train", "valid", "test")}
    expected = [(VERSES * n).strip("\n") for n in (1, 2, 3)]
    assert sorted(sum(read.values(), [])) == sorted(expected)
    assert not folders or list(read.values()) == [[text] for text in expected]


def test_text_beside_other_files_is_left_out(tmp_path):
    """As in TIMIT, where each sound has its words beside it."""
    for i in range(3):
        (tmp_path / f"{i}.csv").write_text("1,2\n3,4\n")
        (tmp_path / f"{i}.TXT").write_text("0 99 words")
    assert read_sequences(tmp_path).values.tolist() == [[1, 2], [3, 4]] * 3


def test_a_run_writes_text_and_reads_new_text_with_its_alphabet(tmp_path, capsys):
    text, run, out = tmp_path / "names.txt", str(tmp_path / "run"), tmp_path / "x.txt"
    text.write_text(NAMES * 4, encoding="utf-8")
    assert cli.main(["train", str(text), "--hidden", "8", "--latent", "2", "--epochs", "1", "--out", run]) == 0
    assert tv.load(run).likelihood.name == "categorical"
    alphabet = tv.load(run).medium["alphabet"]
    assert cli.main(["sample", run, "-n", "3", "--steps", "5", "--out", str(out)]) == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [len(line) for line in lines] == [5] * 3 and set("".join(lines)) <= set(alphabet)
    prime = tmp_path / "prime.txt"
    prime.write_text("Emi\nKur\n", encoding="utf-8")
    assert cli.main(["sample", run, "--prime", str(prime), "--steps", "2", "--out", str(out)]) == 0
    assert [line[:3] for line in out.read_text(encoding="utf-8").splitlines()] == ["Emi", "Kur"]
    for words in (["evaluate", run], ["infer", run, "--out", str(tmp_path / "z.npz")]):
        assert cli.main([*words, "--data", str(prime)]) == 0
    assert cli.main(["forecast", run, "--prime", str(prime), "--steps", "2", "--out", str(tmp_path / "f.npz")]) == 0
    assert np.load(tmp_path / "f.npz")["draws"].shape[1:] == (2, 2, len(alphabet))
    prime.write_text("Øys\nzoo\n", encoding="utf-8")
    for words in (["evaluate", run, "--data"], ["sample", run, "--out", str(out), "--prime"]):
        capsys.readouterr()
        assert cli.main([*words, str(prime)]) == 2
        expected = r"prime.txt holds 3 characters that the model's alphabet does not have \('oz\\xd8'\): replace them"
        assert re.search(expected, capsys.readouterr().err)
    assert cli.main(["sample", run, "--out", str(tmp_path / "x.mid")]) == 2


@pytest.mark.parametrize("content", ["", "\n", " \n\n \n", "\r\n"])
def test_no_text_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content.encode())
    refused(tmp_path / "a.txt", "a.txt holds a text without a character: remove it")


@pytest.mark.parametrize("options", [{}, {"delimiter": ","}, {"delimiter": "; ", "fmt": "%d"}, {"delimiter": "\t"}])
def test_numbers_are_refused_with_a_line_that_makes_them_a_table(tmp_path, options):
    np.savetxt(tmp_path / "sav.txt", np.arange(60).reshape(30, 2), **options)
    message = (
        r'sav.txt holds numbers, not text: .* `numpy.savetxt\("sav.csv", numpy.loadtxt\("sav.txt"\), delimiter=","\)`'
    )
    refused(tmp_path / "sav.txt", message)
    (tmp_path / "sav.txt").write_text("in 2019\n7 8\n9 9\n")
    assert len(read_sequences(tmp_path / "sav.txt")) == 3


def test_an_empty_file_in_a_folder_is_refused(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("a" * i)
    refused(tmp_path, "holds a text without a character")


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(NAMES.encode("latin1"))
    refused(tmp_path / "a.txt", "a.txt is not UTF-8 text: save it as UTF-8")


def test_one_line_is_no_data_set(tmp_path):
    (tmp_path / "a.txt").write_text("one line")
    refused(tmp_path / "a.txt", "a.txt holds 1 sequence and no split")


@pytest.mark.parametrize("alphabet", [None, 7, "", "a", "ba", "aa", "abc", "a\ud800", ["a", "b"]])
def test_an_alphabet_that_is_none_in_a_checkpoint_is_refused(tmp_path, alphabet):
    target = TARGETS["checkpoint"]
    medium = {"name": "text", "alphabet": alphabet}
    (tmp_path / target.path).write_bytes(with_manifest(lambda m: m | {"medium": medium}))
    with pytest.raises(tv.CheckpointError, match="damaged"):
        tv.load(tmp_path)
    (tmp_path / target.path).write_bytes(with_manifest(lambda m: m | {"medium": medium | {"alphabet": "ab"}}))
    assert tv.load(tmp_path).medium["alphabet"] == "ab"
