"""Streams that break, lack characters or are missing, and texts that come from elsewhere.

Catches: a training or a class's marks lost to a dead `tee`, a full disk behind standard output, a closed terminal, a
name that cannot be encoded; an exit code that hides it; control characters of a file's name, a student's folder or a
checkpoint that reach the terminal or a table.
"""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from test_submissions import NAME, notebook

import runs
import tinyvrnn as tv
from tinyvrnn import cli
from tinyvrnn.course import boxed, submissions
from tinyvrnn.data.readers import content
from tinyvrnn.errors import shown
from tinyvrnn.io.streams import Steady, bar
from tinyvrnn.runs import checkpoint
from tinyvrnn.runs.run import FILES, PICTURES

REQUIRE_BOX = submissions._require_box
QUICK = ["--hidden", "4", "--latent", "2", "--epochs", "2", "--workers", "1"]
TRAIN = [sys.executable, "-m", "tinyvrnn", "train", "digits8", *QUICK, "--out", "run"]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses a shell, and file names of any bytes")


class Breaking(io.TextIOBase):
    """A stream that fails from the second write on, or at each flush."""

    encoding = "utf-8"

    def __init__(self, number, at="write"):
        self.error, self.at, self.written = OSError(number, os.strerror(number)), at, 0

    def write(self, text):
        self.written += 1
        if self.at == "write" and self.written > 1:
            raise self.error
        return len(text)

    def flush(self):
        if self.at == "flush":
            raise self.error

    def close(self):
        """Do not flush: Python 3.14 reports an error at the end of a stream."""


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "no reader": (lambda: Breaking(errno.EPIPE), 0),
    "no reader, seen at a flush": (lambda: Breaking(errno.EPIPE, "flush"), 0),
    "disk full": (lambda: Breaking(errno.ENOSPC), 2),
    "disk full, seen at a flush": (lambda: Breaking(errno.ENOSPC, "flush"), 2),
    "terminal gone": (lambda: Breaking(errno.EIO), 2),
    "closed": (closed, 0),
    "none, as under pythonw": (lambda: None, 0),
}


@pytest.fixture
def students(tmp_path, monkeypatch):
    """students(*folders): submissions of these students, all graded as right, without running them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submissions, "_require_box", lambda: None)
    monkeypatch.setattr(submissions, "grade_notebook", lambda *a: ({"06.2": 1, "06.6": 1}, "cell 3\x1b[2J\udcff\r\nx"))
    nbformat.write(notebook(), tmp_path / NAME)

    def submitted(*folders):
        for folder in folders:
            path = tmp_path / "submissions" / os.fsdecode(folder)
            path.mkdir(parents=True)
            shutil.copy(NAME, path)
        return ["course", "grade", NAME, "submissions"]

    return submitted


def marks():
    with open("grades.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("which", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
def test_a_stream_that_breaks_ends_no_training_and_loses_no_marks(kind, which, students, tmp_path, monkeypatch):
    make, code = STREAMS[kind]
    monkeypatch.setattr(cli.commands.report, "draw_pictures", lambda *arguments: None)
    commands = ["train", "digits8", *QUICK, "--out", "run"], students("ada", "bob")
    for arguments in commands:
        with monkeypatch.context() as patch:
            for name in which:
                patch.setattr(sys, name, make())
            assert cli.main(arguments) == (code if "stdout" in which else 0)
            for name in which if kind.startswith("none") else ():
                with getattr(sys, name) as stream:
                    assert stream.name == os.devnull and os.get_inheritable(stream.fileno()), "its number is not taken"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(set(FILES) - set(PICTURES))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert [(row["student"], row["total"]) for row in marks()] == [("ada", "2"), ("bob", "2")]


def test_what_is_lost_on_standard_output_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Breaking(errno.ENOSPC))
    assert cli.main(["exact", "--json"]) == 2
    said = "tinyvrnn: standard output: No space left on device; what was printed is lost, all else is done.\n"
    assert capsys.readouterr().err == said
    monkeypatch.setattr(sys, "stdout", Breaking(errno.ENOSPC))
    monkeypatch.setattr(cli.commands.report, "print_checks", lambda checks: print("a\nb") or ["tanh"])
    assert cli.main(["gradcheck"]) == 1, "a failed check counts more"


@linux
@pytest.mark.parametrize(
    "streams, code",
    [
        pytest.param("| true", 0, id="dead reader", marks=pytest.mark.slow),
        pytest.param(">/dev/full", 2, id="full disk"),
        pytest.param("<&- >&- 2>&-", 0, id="closed", marks=pytest.mark.slow),
    ],
)
def test_a_real_training_goes_on_without_its_streams(streams, code, tmp_path):
    command = ["bash", "-c", f'"$@" {streams}; exit ${{PIPESTATUS[0]}}', "bash", *TRAIN]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == code and done.stderr.count("\n") == (code == 2), done.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == list(FILES)
    assert tv.load(tmp_path / "run").x_dim == 8 and imread(tmp_path / "run" / "curves.png").std() > 0.05


@pytest.mark.parametrize("kind", STREAMS)
def test_a_bar_survives_its_stream(kind, monkeypatch):
    monkeypatch.setattr(sys, "stderr", STREAMS[kind][0]())
    assert len(tv.train(runs.small_model(), runs.small_data("gaussian"), epochs=2, workers=1)) == 2
    assert list(bar(range(3))) == [0, 1, 2]
    with content.progress([1, 2], "x") as files:
        assert list(files) == [1, 2]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8", "utf-16"])
def test_every_text_fits_every_encoding(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    print("é □ 日本 \udcff", file=Steady(stream), flush=True)
    text = stream.buffer.getvalue().decode(encoding)
    assert text.endswith(" \\udcff\n") and len(text) >= len("é □ 日本 \\udcff\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_of_few_characters_shows_the_course(encoding, students, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert cli.main(["course", "status"]) == 0 and cli.main(students("Grüße", "日本")) == 0
    assert "日本 2" == f"{marks()[1]['student']} {marks()[1]['total']}"


# ---- texts from elsewhere


@pytest.mark.parametrize("kind", ["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
def test_shown_has_no_character_that_acts(kind):
    acting = [c for c in map(chr, range(0x11000)) if unicodedata.category(c) == kind]
    text = shown("".join(acting))
    assert acting and text.isprintable() and text.isascii() and text.count("\\") == len(acting)


@pytest.mark.parametrize("text", ["", "a b", "Grüße, 日本 €", "$x$ \\x1b {} %s", "'\""])
def test_shown_keeps_what_can_be_read(text):
    assert shown(text) == text


EVIL = "a\x1b[31m\r\nb\x9b2J$\\foo$\u202e"


def harmless(text, lines=None):
    """Assert that a terminal only prints a text."""
    assert all(line.isprintable() for line in text.split("\n")), repr(text)
    assert lines is None or text.count("\n") == lines, text


def test_errors_and_answers_show_no_control_characters(monkeypatch, tmp_path):
    def answer(a, dy):
        raise ValueError(EVIL)

    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path))
    for call in (lambda: tv.course.check("06.2", answer), lambda: tv.course.check(EVIL, answer)):
        with pytest.raises(tv.TinyvrnnError) as caught:
            call()
        harmless(str(caught.value), 0)
        assert "\\x1b[31m" in str(caught.value)


@linux
@pytest.mark.parametrize("name", [EVIL, "caf\udce9", "日本"])
def test_the_name_of_data_reaches_terminal_and_files_escaped(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open(f"{name}.npy", "wb") as file:
        np.save(file, np.arange(60).reshape(10, 3, 2) % 2)
    assert cli.main(["train", f"{name}.npy", *QUICK]) == 0
    folder = tmp_path / "runs" / shown(name)
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert config["data"]["source"].endswith(f"/{shown(name)}.npy")
    assert all(json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert cli.main(["evaluate", str(folder)]) == 0, "the checkpoint knows the true name"
    assert cli.main(["evaluate", str(folder), "--data", f"{name}.npy"]) == 0
    out, err = capsys.readouterr()
    harmless(out)
    harmless(err)
    assert out.count(f"{shown(name)}, ") == 3 and f"wrote runs/{shown(name)}/" in out


@linux
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", f"nowhere/{EVIL}.npy"],
        ["train", "digits8", "--likelihood", EVIL],
        ["train", "digits8", f"--{EVIL}"],
        ["evaluate", f"{EVIL}"],
        ["sample", "run", "--out", f"{EVIL}.jpg"],
        ["gradcheck", "--plugin", f"{EVIL}.py"],
        ["data", EVIL],
        [EVIL],
        ["course", "grade", f"{EVIL}.ipynb", "submissions"],
    ],
    ids=lambda arguments: " ".join(a for a in arguments if EVIL not in a),
)
def test_an_argument_is_shown_escaped(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{EVIL}.py").write_text(f"raise ValueError({EVIL!r})")
    with pytest.raises(SystemExit):
        raise SystemExit(cli.main(arguments))
    out, err = capsys.readouterr()
    assert out == "" and "\\x1b[31m\\r\\nb\\x9b2J" in err
    harmless(err, 1)


def test_the_units_of_a_checkpoint_are_shown_escaped(tmp_path, capsys):
    model = tv.VRNN(x_dim=8, h_dim=4, z_dim=2, seed=0)
    model.units = EVIL
    tv.save(model, tmp_path, data="digits8")
    manifest, arrays = checkpoint.read(tmp_path)
    checkpoint.write(tmp_path / "checkpoint.npz", manifest | {"data": None}, arrays)
    for data in (["--data", "digits8"], []):
        cli.main(["evaluate", str(tmp_path), *data])
        out, err = capsys.readouterr()
        harmless(out + err)
        assert "\\x1b[31m" in out or "name a set, file or folder with --data" in err


@linux
def test_marks_are_kept_whatever_the_folders_are_called(students, capsys):
    folders = [b"M\x81ller", "Grüße".encode(), "日本".encode(), EVIL.encode(), b"\xff", b"ada"]
    assert cli.main(students(*folders)) == 0
    harmless(out := capsys.readouterr().out, len(folders) + 1)
    names = sorted(shown(os.fsdecode(folder)) for folder in folders)
    assert sorted(row["student"] for row in marks()) == names and all(row["total"] == "2" for row in marks())
    assert {row["remark"] for row in marks()} == {"cell 3\\x1b[2J\\udcff\\r\\nx"} and all(name in out for name in names)


@pytest.mark.parametrize("fails", [OSError("No space left on device"), boxed.Lost("Python died")])
def test_no_student_gets_0_points_for_a_machine_that_runs_no_notebook(fails, students, capsys, monkeypatch):
    def box(seconds):
        raise fails

    arguments = students("ada")
    monkeypatch.setattr(submissions, "_require_box", REQUIRE_BOX)
    monkeypatch.setattr(boxed, "Box", box)
    assert cli.main(arguments) == 2 and not os.path.exists("grades.csv")
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinyvrnn: This machine can't run notebooks") and str(fails) in err
