"""A student's folder: `tinyvrnn course start`, in a checkout and after an installation.

Catches: work that is overwritten, a new edition that is not brought or brought twice, a solution that is handed out,
work that git would commit to the package, and progress that is kept elsewhere.
"""

import json
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest

from tinyvrnn import cli, course
from tinyvrnn.course import lab, progress, source

NOTEBOOKS = sorted(path.name for path in (source.ROOT / "notebooks").glob("[0-9]*.ipynb"))
ONE = NOTEBOOKS[6]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.delenv("TINYVRNN_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def start(capsys):
    """The names of the files that the command writes."""
    assert cli.main(["course", "start", "mine"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "your folder is mine; open it with: jupyter lab mine"
    return [Path(line.removeprefix("wrote ")).name for line in lines]


def edition(tmp_path, monkeypatch, text):
    """An installed package whose only notebook has that text."""
    path = tmp_path / "installed" / "share" / "tinyvrnn" / "notebooks" / ONE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    file = SimpleNamespace(match=PurePosixPath(f"../../../share/tinyvrnn/notebooks/{ONE}").match, locate=lambda: path)
    other = SimpleNamespace(match=PurePosixPath("tinyvrnn/__init__.py").match)
    monkeypatch.setattr(lab, "ROOT", tmp_path / "installed")
    monkeypatch.setattr(lab, "files", lambda name: [file, other])


def test_the_folder_has_every_notebook_and_no_solution(capsys, tmp_path):
    assert start(capsys) == NOTEBOOKS and start(capsys) == []
    for name in NOTEBOOKS:
        text = (tmp_path / "mine" / name).read_text(encoding="utf-8")
        assert text == (source.ROOT / "notebooks" / name).read_text(encoding="utf-8") and "BEGIN SOLUTION" not in text
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".tinyvrnn", *NOTEBOOKS]


def test_work_stays_and_a_new_edition_comes_beside_it_once(capsys, tmp_path, monkeypatch):
    edition(tmp_path, monkeypatch, "first")
    assert start(capsys) == [ONE]
    mine, second = tmp_path / "mine" / ONE, ONE.replace(".ipynb", ".edition-2.ipynb")
    mine.write_text("work")
    assert start(capsys) == [] and mine.read_text() == "work"
    edition(tmp_path, monkeypatch, "second")
    assert start(capsys) == [second] and start(capsys) == []
    assert mine.read_text() == "work" and (tmp_path / "mine" / second).read_text() == "second"
    (tmp_path / "mine" / second).write_text("more work")
    edition(tmp_path, monkeypatch, "third")
    assert start(capsys) == [ONE.replace(".ipynb", ".edition-3.ipynb")]
    assert (tmp_path / "mine" / second).read_text() == "more work"
    mine.unlink()
    assert start(capsys) == [ONE] and mine.read_text() == "third"


def test_a_lost_record_of_editions_loses_no_work(capsys, tmp_path, monkeypatch):
    edition(tmp_path, monkeypatch, "first")
    start(capsys)
    (tmp_path / "mine" / ONE).write_text("work")
    (tmp_path / "mine" / ".tinyvrnn" / ONE).unlink()
    assert start(capsys) == [ONE.replace(".ipynb", ".edition-2.ipynb")]
    assert (tmp_path / "mine" / ONE).read_text() == "work"


def test_progress_is_kept_in_the_folder_that_one_works_in(capsys, tmp_path, monkeypatch):
    start(capsys)
    assert progress.path() == tmp_path / "home" / ".tinyvrnn" / "course.json"
    monkeypatch.chdir(tmp_path / "mine")
    course.check("06.2", lambda a, dy: dy * (1 + np.tanh(a / 2)) / 2)
    assert json.loads((tmp_path / "mine" / ".tinyvrnn" / "course.json").read_text())["06.2"]["passed"]
    assert not (tmp_path / "home").exists() and "course.json" in course.status()


def test_git_ignores_a_folder_in_a_checkout_and_no_other(capsys, tmp_path, monkeypatch):
    edition(tmp_path, monkeypatch, "first")
    start(capsys)
    assert not (tmp_path / "mine" / ".gitignore").exists()
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    start(capsys)
    assert (tmp_path / "mine" / ".gitignore").read_text() == "*\n"


def test_a_file_is_no_folder(capsys, tmp_path):
    (tmp_path / "mine").write_text("work")
    assert cli.main(["course", "start", "mine"]) == 2
    assert capsys.readouterr().err.startswith("tinyvrnn: mine is a file: give a new folder")
    assert (tmp_path / "mine").read_text() == "work"
