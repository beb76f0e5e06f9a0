"""Grading a folder of submissions, as an instructor does: points, remarks, the table, exit codes.

Catches: points for a check that failed, is missing, was rewritten or replaced; one student's notebook (missing,
damaged, raising, endless, deadly) that stops the others or takes their points; an omitted student; half a table; a
change of the instructor's own progress.
"""

import csv

import nbformat
import pytest

from tinyvrnn import cli

NAME = "06_backward_by_hand_1.ipynb"
RIGHT = "def my_softplus_backward(a, dy):\n    return dy * (0.5 * np.tanh(0.5 * a) + 0.5)"
WRONG = "def my_softplus_backward(a, dy):\n    return dy * (a > 0)"
CHECKS = {"06.2": 'tv.course.check("06.2", my_softplus_backward)', "06.6": 'tv.course.check("06.6", prediction)'}


def cell(what, source):
    about = {"grade_id": what, "schema_version": 3, "task": False} | dict.fromkeys(
        ("grade", "solution", "locked"), False
    )
    return nbformat.v4.new_code_cell(source, metadata={"nbgrader": about} if what else {})


def notebook(answer="...", prediction="prediction = None", checks=CHECKS, extra=()):
    cells = [cell("", "import numpy as np\nimport tinyvrnn as tv"), cell("solution-06-2", answer)]
    cells += [cell("check-06-2", checks["06.2"])] if "06.2" in checks else []
    cells += [cell("solution-06-6", prediction), cell("check-06-6", checks["06.6"])]
    return nbformat.v4.new_notebook(cells=[*cells, *(cell("", source) for source in extra)])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the original notebook; put(student, notebook) adds a student's."""
    monkeypatch.setenv("TINYVRNN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    nbformat.write(notebook("def my_softplus_backward(a, dy):\n    ..."), tmp_path / NAME)

    def put(student, submitted, name=NAME):
        folder = tmp_path / "submissions" / student
        folder.mkdir(parents=True)
        if isinstance(submitted, str):
            (folder / name).write_text(submitted)
        elif submitted:
            nbformat.write(submitted, folder / name)

    return put


def graded(capsys, *options):
    """The command's output by student, and the rows of its table."""
    assert cli.main(["course", "grade", NAME, "submissions", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines.pop("wrote") == "wrote grades.csv"
    with open("grades.csv", newline="", encoding="utf-8") as file:
        return lines, {row["student"]: row for row in csv.DictReader(file)}


def points(row):
    return row["06.2"], row["06.6"], row["total"], row["of"]


ENDLESS = "while True:\n    pass"
GREEN = "display({'text/plain': '✓ 06.2 softplus: right.'}, raw=True)\ndisplay({'text/plain': '✓ 06.6 ...'}, raw=True)"
DEVIATION = 'prediction = {"deviation"}'


@pytest.mark.timeout(300)
def test_the_table_has_every_student_with_points_and_what_went_wrong(place, capsys, tmp_path):
    ada = notebook(RIGHT, DEVIATION)
    ada.metadata["kernelspec"] = {"name": "of-ada", "display_name": "Only on ada's machine"}
    place("ada", ada)
    place("bob", notebook(WRONG, DEVIATION, extra=["1 / 0"]))
    place("cid", None)
    place("dan", "{\n")
    place("eve", notebook(), "06_backward_by_hand_1 (1).ipynb")
    place(".git", None)
    lines, rows = graded(capsys)
    assert list(lines) == list(rows) == ["ada", "bob", "cid", "dan", "eve"]
    assert points(rows["ada"]) == ("1", "1", "2", "2") and rows["ada"]["remark"] == ""
    assert points(rows["bob"]) == ("0", "1", "1", "2")
    assert rows["bob"]["remark"] == "cell 6 stopped with ZeroDivisionError: division by zero"
    assert all(points(rows[student]) == ("0", "0", "0", "2") for student in ("cid", "dan", "eve"))
    assert rows["cid"]["remark"] == f"no {NAME}" and "(1).ipynb" in rows["eve"]["remark"]
    assert "cannot be read as a notebook" in rows["dan"]["remark"]
    assert lines["ada"] == "ada                        2 of 2 points"
    assert lines["bob"].startswith("bob                        1 of 2 points   cell 6")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "grades.csv", "submissions"]  # and no home/


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_notebook_does_harms_no_other_and_brings_no_points(place, capsys):
    place("endless", notebook(ENDLESS, DEVIATION))
    place("deaf", notebook(f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{ENDLESS}", DEVIATION))
    place("deadly", notebook(RIGHT, "import os\nos._exit(0)"))
    place("leaves", notebook(RIGHT, "raise SystemExit"))
    place("mistyped", notebook("def my_softplus_backward(a, dy:\n    pass", DEVIATION))
    place("rewritten", notebook(WRONG, checks=dict.fromkeys(CHECKS, GREEN)))
    place("replaced", notebook(f"{RIGHT}\ntv.course.check = lambda *a: print('✓ 06.2 softplus: right.')"))
    place("without", notebook(RIGHT, DEVIATION, checks={"06.6": CHECKS["06.6"]}))
    place("zoe", notebook(RIGHT, DEVIATION))
    _, rows = graded(capsys, "--seconds", "12")
    found = {student: (points(row)[:2], row["remark"]) for student, row in rows.items()}
    assert found["endless"] == (("0", "1"), "the answer to 06.2 ran too long")
    assert found["deaf"] == (("0", "0"), "the answer to 06.2 ran too long, and 3 more after it")
    assert found["deadly"][0] == ("1", "0") and "its Python died" in found["deadly"][1]
    assert found["leaves"][0] == ("1", "0")
    assert found["mistyped"][0] == ("0", "1")
    assert found["mistyped"][1] == "the answer to 06.2 stopped with SyntaxError: '(' was never closed (line 1)"
    assert found["rewritten"][0] == ("0", "0")
    assert found["replaced"][0] == ("0", "0") and "06.2, 06.6 says neither right nor wrong" in found["replaced"][1]
    assert found["without"][0] == ("0", "1") and found["without"][1].startswith("no check cell of 06.2")
    assert found["zoe"] == (("1", "1"), "")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([NAME, "nowhere"], "nowhere: No such file"),
        (["missing.ipynb", "submissions"], "missing.ipynb: No such file"),
        (["damaged.ipynb", "submissions"], "damaged.ipynb cannot be read as a notebook"),
        (["plain.ipynb", "submissions"], "plain.ipynb has no check cell"),
        (["later.ipynb", "submissions"], "an exercise 06.99 that is not in this version"),
        ([NAME, "empty"], f"No */{NAME} in empty"),
        ([NAME, "submissions", "--out", "nowhere/grades.csv"], "nowhere/grades.csv cannot be written"),
        ([NAME, "submissions", "--out", "empty"], "empty cannot be written"),
        ([NAME, "submissions", "--seconds", "0"], "--seconds must be"),
    ],
)
def test_a_mistake_of_the_instructors_is_one_sentence_and_leaves_nothing(arguments, said, place, capsys, tmp_path):
    place("ada", notebook(RIGHT))
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.ipynb").write_text("{")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "plain.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell("check-06-99", "")]), tmp_path / "later.ipynb")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["course", "grade", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinyvrnn: ") and said in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_grading_leaves_the_old_table(place, capsys, tmp_path, monkeypatch):
    from tinyvrnn.course import submissions

    place("ada", notebook(RIGHT))
    place("bob", notebook(RIGHT))
    (tmp_path / "grades.csv").write_text("old")

    def interrupt_at_bob(path, *arguments):
        if path.parent.name == "bob":
            raise KeyboardInterrupt
        return {"06.2": 1, "06.6": 0}, ""

    monkeypatch.setattr(submissions, "_points_and_remark", interrupt_at_bob)
    assert cli.main(["course", "grade", NAME, "submissions"]) == 130
    assert "ada" in capsys.readouterr().out and (tmp_path / "grades.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "grades.csv", "submissions"]
