"""Grading a folder of submissions, as an instructor does: points, remarks, the table, exit codes.

Catches: points for a check that failed, was rewritten or replaced; one student's notebook (missing, damaged, raising,
endless, deadly, hostile) that stops the others or takes their points; an honest one that loses points for its form; an
omitted student; half a table; a change of the instructor's own progress. What only walls can defend is tried where
bubblewrap is installed.
"""

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from tinyvrnn import cli
from tinyvrnn.course import EXERCISES, array_trees, boxed, notebook_file, submissions
from tinyvrnn.errors import DataError

NAME = "06_backward_by_hand_1.ipynb"
SOLUTIONS = Path(__file__).parent.parent / "notebooks" / "solutions"
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
    assert err == "".join(f"tinyvrnn: note: {note}.\n" for note in boxed.undefended())
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines.pop("wrote") == "wrote grades.csv"
    with open("grades.csv", newline="", encoding="utf-8") as file:
        return lines, {row["student"]: row for row in csv.DictReader(file)}


def points(row):
    return row["06.2"], row["06.6"], row["total"], row["of"]


DEVIATION = 'prediction = {"deviation"}'


@pytest.mark.timeout(300)
def test_the_table_has_every_student_with_points_and_what_went_wrong(place, capsys, tmp_path):
    ada = notebook(RIGHT, DEVIATION)
    ada.metadata["kernelspec"] = {"name": "of-ada", "display_name": "Only on ada's machine"}
    place("ada", ada)
    place("bob", notebook(f"1 / 0\n{WRONG}", DEVIATION, extra=["2 / 0"]))  # what no answer needs is not run
    place("cid", None)
    place("dan", "{\n")
    place("eve", notebook(RIGHT, DEVIATION), "06 mine.ipynb")
    place(".git", None)
    lines, rows = graded(capsys)
    assert list(lines) == list(rows) == ["ada", "bob", "cid", "dan", "eve"]
    assert points(rows["ada"]) == ("1", "1", "2", "2") and rows["ada"]["remark"] == ""
    assert points(rows["bob"]) == ("0", "1", "1", "2")
    assert rows["bob"]["remark"] == "the answer to 06.2 stopped with ZeroDivisionError: division by zero"
    assert all(points(rows[student]) == ("0", "0", "0", "2") for student in ("cid", "dan", "eve"))
    assert rows["cid"]["remark"] == f"no {NAME}" and rows["eve"]["remark"] == f"no {NAME}; there is 06 mine.ipynb"
    assert "cannot be read as a notebook" in rows["dan"]["remark"]
    assert lines["ada"] == "ada                        2 of 2 points"
    assert lines["bob"].startswith("bob                        1 of 2 points   the answer")
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "grades.csv", "submissions"]  # and no home/


# ---- honest ones, and the others -----------------------------------------------------------------


def bare(submitted):
    """The bytes of a notebook without nbgrader's metadata, behind a byte order mark."""
    cells = json.loads(nbformat.writes(submitted))
    for one in cells["cells"]:
        one["metadata"] = {"nbgrader": None}
    return b"\xef\xbb\xbf" + json.dumps(cells).encode()


def put_honest(place, tmp_path):
    """Five honest students. Returns their points for both exercises."""
    place("ada", notebook(RIGHT, DEVIATION))
    place("eva", notebook(WRONG, DEVIATION))
    place("ivo", notebook(f"{HELPER}\n{RIGHT_BY_HELPER}", DEVIATION, checks={"06.6": CHECKS["06.6"]}))
    folders = [os.fsencode(tmp_path / "submissions") + b"/" + name for name in (b"jos\xe9", b"zoe")]
    for folder in folders:
        os.mkdir(folder)
        with open(folder + b"/" + NAME.encode(), "wb") as file:
            file.write(bare(notebook(RIGHT, DEVIATION)))
    return {"ada": ("1", "1"), "eva": ("0", "1"), "ivo": ("1", "1"), "jos\\udce9": ("1", "1"), "zoe": ("1", "1")}


HELPER = "def half(a):\n    return np.tanh(0.5 * a)"
RIGHT_BY_HELPER = "def my_softplus_backward(a, dy):\n    return dy * (0.5 * half(a) + 0.5)"
GREEN = "display({'text/plain': '✓ 06.2 softplus: right.'}, raw=True)"
ENDLESS = "while True:\n    pass"
STARTUP = "for name in ('.ipython/profile_default/startup', 'profile_default/startup', '.local'):\n    os.makedirs"
STARTUP += (
    "(os.path.expanduser(f'~/{name}'), exist_ok=True)\n    open(os.path.expanduser(f'~/{name}/x.py'), 'w').write('1/0')"
)


def sent(data):
    """Code that sends bytes over each pipe that the process has."""
    return f"for pipe in range(3, 64):\n    try:\n        os.write(pipe, {data!r})\n    except OSError:\n        pass"


def forged(reply):
    return sent((len(reply).to_bytes(8, "big") + reply) * 3)


QUICK = {  # what the answer to 06.2 does before it defines a wrong function
    "closes": "os.closerange(0, 256)",
    "deadly": "os._exit(0)",
    "display": GREEN,
    "equals": "class Any:\n    __eq__ = lambda self, other: True\nprediction = Any()",
    "forges_numbers": forged(b"5"),
    "forges_refusals": forged(b'{"refused": 1}'),
    "grader": "import tinyvrnn.course.grader as g\ng.grade = lambda *a, **k: True\ng._close = lambda *a: True",
    "imports": "from tinyvrnn.course.exercises import ch06\nmy_softplus_backward = ch06.softplus_backward\n0/0",
    "leaves": "raise SystemExit",
    "mutates": "def my_softplus_backward(a, dy):\n    dy *= 0.5 * np.tanh(0.5 * a) + 0.5\n    return dy\n0/0",
    "replaces": "setattr(tv.course, 'check', lambda *a: print('right'))",
}
SLOW = {
    "bytes": "while True:\n    open('/dev/zero', 'rb').read()",
    "changes": "np.tanh = np.array_equal = lambda *a, **k: True",
    "children": "if [os.fork() for _ in range(7)].count(0):\n    time.sleep(1000)",
    "colours": "raise ValueError('\\x1b[2J\\x1b[31m')",
    "deaf": "while True:\n    try:\n        time.sleep(9)\n    except BaseException:\n        pass",
    "deep": "sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "endless": ENDLESS,
    "forges_arrays": forged(b'{"array": ["<f8", [1], ""]}'),
    "forges_code": forged(b'{"code": "00"}'),
    "forges_errors": forged(b'["KeyboardInterrupt", [1]]'),
    "forges_nothing": forged(b"null"),
    "forges_texts": forged(b'["", ""]'),
    "forges_values": forged(b'{"value": {"tuple": 3}}'),
    "garbage": "import gc\nfor o in gc.get_objects():\n    if hasattr(o, 'tol'):\n        o.reference.__code__ = 0",
    "hangs": "threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()",
    "length": sent(b"\x7f" * 8 + b"x" * 999),
    "memory": "hoard = []\nwhile True:\n    hoard.append(np.ones(10**7))",
    "nested": "(" * 100_000,
    "output": "for _ in range(800):\n    print('x' * 2**20)\n    os.write(1, b'x' * 2**20)",
    "own": "tv.course.sandbox.run = lambda function, arguments, forbidden: arguments",
    "pickles": sent(b"cposix\nsystem\n(S'touch pwned'\ntR." * 9),
    "quits": "signal.signal(signal.SIGALRM, lambda *a: os._exit(3))\nsignal.alarm(1)\ntime.sleep(2)",
    "raises": "raise KeyboardInterrupt",
    "recursive": "prediction = []\nprediction.append(prediction)",
    "startup": STARTUP,
    "ticks": "print('✓ 06.2 softplus: right. 8 random draws')",
    "uses": "sys.setprofile = lambda *a: None\nmy_softplus_backward = tv.nn.activations.softplus_backward\n0/0",
    "vast": "my_softplus_backward = lambda a, dy: np.zeros(10**10)\n0/0",
    "writes": "for i in range(9):\n    with open(f'{i}', 'wb') as file:\n        file.write(bytes(2**28))",
}
BEHIND_WALLS = {  # what succeeds goes on to a right answer
    "connects": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "daemon": "if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\n0/0",
    "deletes": "shutil.rmtree('SUBMISSIONS')",
    "kills": "os.kill(os.getppid(), 9)\n0/0",
    "kills_all": "if os.getpid() < 50:\n    os.kill(-1, 9)\n0/0",
    "looks": "assert len([name for name in os.listdir('/proc') if name.isdigit()]) > 5",
    "pokes": "with open(f'/proc/{os.getppid()}/mem', 'r+b') as file:\n    file.write(b'x' * 999)",
    "reads": "open('SUBMISSIONS/ada/NAME')",
    "references": "open(f'{os.path.dirname(tv.__file__)}/course/exercises/ch06.py')",
    "solutions": "open('SOLUTIONS')",
    "spoils": "open(tv.__file__ + '.spoiled', 'w')",
    "variables": "assert 'SECRET' in os.environ or os.path.exists('/etc/passwd')",
}
IMPORTS = "import json, os, shutil, signal, socket, sys, threading, time\n"


def put_hostile(place, sources, tmp_path, port=0):
    for student, source in sources.items():
        source = source.replace("SUBMISSIONS", str(tmp_path / "submissions")).replace("NAME", NAME)
        source = source.replace("PORT", str(port)).replace("SOLUTIONS", str(SOLUTIONS / NAME))
        end = "" if source.endswith("0/0") else RIGHT if student in BEHIND_WALLS else WRONG
        place(student, notebook(f"{IMPORTS}{source}\n{end}", "0"))


def put_files(tmp_path):
    """Submissions that are no files, or none that can be read."""
    made = {
        "device": lambda path: path.symlink_to("/dev/zero"),
        "fifo": os.mkfifo,
        "json": lambda path: path.write_text("[" * 10**6),
        "large": lambda path: path.write_bytes(bytes(notebook_file.LARGEST + 1)),
        "link": lambda path: path.symlink_to(tmp_path / "submissions" / "ada" / NAME),
        "odd": lambda path: path.write_text(
            '{"cells": [{"cell_type": "code", "metadata": [], "source": [7, null, "\\ud800("]}, 3]}'
        ),
    }
    for student, make in made.items():
        (tmp_path / "submissions" / student).mkdir()
        make(tmp_path / "submissions" / student / NAME)
    (tmp_path / "submissions" / "twin").symlink_to(tmp_path / "submissions" / "ada")
    return [*made, "twin"]


def split(rows, honest):
    """The points of the honest, and the students among the others who have any."""
    found = {student: points(row)[:2] for student, row in rows.items()}
    return {student: found.pop(student) for student in honest}, [name for name in found if found[name] != ("0", "0")]


def test_a_prediction_is_tried_once(tmp_path):
    guesses = [
        cell(f"solution-06-{i}", guess) for i, guess in enumerate(["prediction = 0", DEVIATION, "prediction = 1"])
    ]
    cells = [part for guess in guesses for part in (guess, cell("check-06-6", CHECKS["06.6"]))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / NAME)
    assert submissions.grade_notebook(tmp_path / NAME, {"06.6": "prediction"})[0] == {"06.6": 0}


@pytest.mark.skipif(sys.platform == "win32", reason="it has neither these files nor these calls")
@pytest.mark.timeout(300)
def test_hostile_submissions_cost_only_their_authors(place, capsys, tmp_path):
    honest = put_honest(place, tmp_path)
    put_hostile(place, QUICK, tmp_path)
    files = put_files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    _, rows = graded(capsys, "--jobs", "2")
    assert split(rows, honest) == (honest, [])
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "grades.csv"])
    remarks = {student: row["remark"] for student, row in rows.items()}
    assert all(
        remarks[student] for student in (*QUICK, *files) if student not in ("equals", "grader", "leaves", "mutates")
    )
    assert not any(remarks[student] for student in honest if honest[student] == ("1", "1"))
    assert remarks["replaces"] == "tinyvrnn.course.check was replaced: 0 points"
    assert remarks["deadly"].startswith("the answer to 06.2: Python died") and "is a link" in remarks["twin"]
    assert "cannot be read as a notebook" in remarks["fifo"] and "cannot be read as a notebook" in remarks["json"]


@pytest.mark.skipif(not boxed.walled(), reason="bubblewrap is not here")
def test_a_box_has_no_more_than_256_mib_to_write():
    hidden = str(boxed.PACKAGE / "course" / "exercises")
    code = f"""for place in ["/", "/dev", "/dev/shm", "/etc", "/root", "/tmp", "/usr", "/work", {hidden!r}]:
    try:
        with open(place + "/x", "wb", 0) as file:
            print(place, sum(file.write(bytes(1 << 20)) for _ in range(300)))
    except OSError:
        print(place, 0)
"""
    command = [*boxed._walls(), *boxed._python(), "-c", code]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 9 and all(line.endswith(" 0") for line in lines), lines


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


def left_behind(seconds):
    """The boxes with that limit for a cell that are there now and do not end within a minute, as another test's do."""
    mine, end = b'"CPU": %d,' % (submissions.CELLS * seconds), time.monotonic() + 60
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if is_box(path, mine)]
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = [path for path in left if is_box(path, mine)]
    return left


def is_box(path, limit):
    with contextlib.suppress(OSError):  # a process that has ended meanwhile
        line = path.read_bytes()
        return b"course/box.py" in line and limit in line
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has neither these files nor these calls")
@pytest.mark.timeout(300)
def test_forty_hostile_submissions_change_no_honest_marks(place, capsys, tmp_path, monkeypatch, listener):
    monkeypatch.setenv("SECRET", "1")
    honest, start = put_honest(place, tmp_path), time.monotonic()
    walls = BEHIND_WALLS if boxed.walled() else {}
    assert len(QUICK | SLOW) >= 30 and not set(QUICK) & set(SLOW)
    put_hostile(place, SLOW | walls, tmp_path, listener.getsockname()[1])
    _, rows = graded(capsys, "--seconds", "4", "--jobs", "2")
    assert split(rows, honest) == (honest, [])
    assert all(row["remark"].isprintable() for row in rows.values())
    assert "ran too long" in rows["endless"]["remark"] and "ended" in rows["deaf"]["remark"]
    assert not Path("pwned").exists() and not list(Path(boxed.PACKAGE).glob("*.spoiled"))
    assert not walls or not left_behind(4)
    with pytest.raises(TimeoutError):
        listener.accept()
    assert time.monotonic() - start < 240


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
        ([NAME, "submissions", "--moodle", "nowhere/m.csv"], "nowhere/m.csv cannot be written: give --moodle"),
        ([NAME, "submissions", "--canvas", "./grades.csv"], "--out, --canvas name one file for several tables"),
    ],
)
def test_a_mistake_of_the_instructors_is_one_sentence_and_leaves_nothing(arguments, said, place, capsys, tmp_path):
    place("ada", notebook(RIGHT))
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.ipynb").write_text("{")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "plain.ipynb")
    later = nbformat.v4.new_notebook(cells=[cell("check-06-99", 'tv.course.check("06.99", 1)')])
    nbformat.write(later, tmp_path / "later.ipynb")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["course", "grade", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinyvrnn: ") and said in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_grading_is_resumed(place, capsys, tmp_path, monkeypatch):
    place("ada", notebook(RIGHT))
    place("bob", notebook(RIGHT))
    place("cid", notebook(RIGHT))
    asked = []

    def interrupt_at_bob(checks, seconds, given, name, handed):
        asked.append(handed.folder.name)
        if asked == ["ada", "bob"]:
            raise KeyboardInterrupt
        return {"06.2": 1, "06.6": 0}, ""

    monkeypatch.setattr(submissions, "_require_box", lambda: None)
    monkeypatch.setattr(submissions, "_points_and_remark", interrupt_at_bob)
    assert cli.main(["course", "grade", NAME, "submissions"]) == 130
    with open("grades.csv", newline="", encoding="utf-8") as file:
        assert [row["student"] for row in csv.DictReader(file)] == ["ada"]
    assert cli.main(["course", "grade", NAME, "submissions", "--resume"]) == 0
    assert asked == ["ada", "bob", "bob", "cid"]
    with open("grades.csv", newline="", encoding="utf-8") as file:
        assert [points(row) for row in csv.DictReader(file)] == [("1", "0", "1", "2")] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "grades.csv", "submissions"]
    (tmp_path / "grades.csv").write_text("student,total\nada,1\n")
    capsys.readouterr()
    assert cli.main(["course", "grade", NAME, "submissions", "--resume"]) == 2
    assert "grades.csv is not a table of this notebook" in capsys.readouterr().err


def test_rows_that_a_table_has_are_lost_in_no_way(place, capsys, tmp_path, monkeypatch):
    """Of other students, corrected by hand, or of another notebook."""
    monkeypatch.setattr(submissions, "_require_box", lambda: None)
    monkeypatch.setattr(submissions, "_points_and_remark", lambda *given: ({"06.2": 1, "06.6": 0}, ""))
    place("bob", notebook(RIGHT))
    table = "student,06.2,06.6,total,of,remark\r\nada,0,1,1,2,by hand\r\nzoe,1\r\n"
    for mark in ("", "\ufeff"):
        (tmp_path / "grades.csv").write_text(mark + table, encoding="utf-8", newline="")
        assert cli.main(["course", "grade", NAME, "submissions"]) == 2
        assert "grades.csv exists: give --resume to keep its rows, or another --out" in capsys.readouterr().err
        assert (tmp_path / "grades.csv").read_bytes().decode() == mark + table
        assert cli.main(["course", "grade", NAME, "submissions", "--resume"]) == 0
        lines = (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()
        assert lines[1:] == ["ada,0,1,1,2,by hand", "bob,1,0,1,2,"]


def test_a_grading_process_that_dies_is_said():
    with pytest.raises(DataError, match="A grading process has died.*--resume"):
        list(submissions._graded({"ada": 0}, os._exit, 2))


@pytest.fixture
def told(monkeypatch):
    """Grading runs nothing: the remark on a notebook is its name."""
    marks = {"06.2": 1, "06.6": 0}
    monkeypatch.setattr(submissions, "_require_box", lambda: None)
    monkeypatch.setattr(submissions, "grade_notebook", lambda path, *rest: (marks, f"{path.name}, graded"))


SECOND, THIRD = NAME.replace(".", " (1)."), NAME.replace(".", "-2.")
HANDED_IN = {  # files by student, and the remark
    "ada": ([f"ada/{NAME}"], f"{NAME}, graded"),
    "bob": ([f"bob/{SECOND}"], f"{SECOND}, graded"),
    "cid": ([f"cid/{NAME}", f"cid/{THIRD}"], f"{NAME}, graded; graded {NAME}, not {THIRD}"),
    "dan": ([f"dan/{SECOND}", f"dan/{THIRD}"], f"several notebooks, {SECOND}, {THIRD}: leave one"),
    "eve": ([f"eve/inner/{NAME}", "eve/work.zip"], f"no {NAME}; there is inner/{NAME}, work.zip"),
    "fay": ([f"fay/fay_{NAME}"], f"fay_{NAME}, graded"),
    "Kay Al_77_assignsubmission_file": ([f"Kay Al_77_assignsubmission_file_{NAME}"],) * 2,
    "hoppergrace_1234_56789": ([f"hoppergrace_1234_56789_{NAME}"],) * 2,
    "kayal_LATE_77_88": ([f"kayal_LATE_77_88_{THIRD}"],) * 2,
}


def test_submissions_are_found_as_browsers_moodle_and_canvas_name_them(place, capsys, tmp_path, told):
    for file in [file for files, _ in HANDED_IN.values() for file in files] + [NAME, f"_old/{NAME}", "notes.txt"]:
        path = tmp_path / "submissions" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    _, rows = graded(capsys)
    remarks = {who: said if isinstance(said, str) else f"{said[0]}, graded" for who, (_, said) in HANDED_IN.items()}
    assert {student: row["remark"] for student, row in rows.items()} == remarks


MOODLE = "Identifier,Full name,Grade,Maximum Grade,Last modified (grade),Feedback comments"
TITLE = "06 Backward by hand I"
FORMS = {  # students' names, and the lines of the tables that Moodle and Canvas import
    ("ada", "bob_2"): (
        [f"username,{TITLE},feedback", "ada,1,R", "bob_2,1,R"],
        ["ada,,,ada,,1", "bob_2,,,bob_2,,1"],
    ),
    ("Kay Al_7_assignsubmission_file_", "Li_8_assignsubmission_file"): (
        [MOODLE, "Participant 7,Kay Al,1,2,-,R", "Participant 8,Li,1,2,-,R"],
        [f"{name},,,{name},,1" for name in ("Kay Al_7_assignsubmission_file_", "Li_8_assignsubmission_file")],
    ),
    ("hoppergrace_12_34", "kayal_LATE_77_88"): (
        [f"username,{TITLE},feedback", "hoppergrace_12_34,1,R", "kayal_LATE_77_88,1,R"],
        ["hoppergrace,12,,,,1", "kayal,77,,,,1"],
    ),
}


@pytest.mark.parametrize("students, tables", FORMS.items(), ids=[" ".join(students) for students in FORMS])
def test_moodle_and_canvas_get_their_forms(students, tables, place, capsys, tmp_path, told):
    for student in students:
        place(student, notebook(RIGHT))
    assert cli.main(["course", "grade", NAME, "submissions", "--moodle", "m.csv", "--canvas", "c.csv"]) == 0
    assert capsys.readouterr().out.endswith("wrote grades.csv\nwrote m.csv\nwrote c.csv\n")
    head = [f"Student,ID,SIS User ID,SIS Login ID,Section,{TITLE}", "    Points Possible,,,,,2"]
    found = [
        (tmp_path / name).read_text().replace(f'"{NAME}, graded"', "R").splitlines() for name in ("m.csv", "c.csv")
    ]
    assert found == [tables[0], [*head, *tables[1]]]


def test_a_table_that_a_spreadsheet_wrote_is_read(place, capsys, tmp_path, told):
    place("bob", notebook(RIGHT))
    table = "student;06.2;06.6;total;of;remark\r\nada;0,5;1;1,5;2;é\r\nzoe;1;0;0;2;late\r\n"
    (tmp_path / "grades.csv").write_text(table, encoding="utf-8", newline="")
    assert cli.main(["course", "grade", NAME, "submissions", "--resume", "--canvas", "c.csv"]) == 0
    assert "grades.csv keeps totals that are not the sums of their points: zoe" in capsys.readouterr().err
    assert (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()[1:] == [
        'ada,"0,5",1,"1,5",2,é',
        f'bob,1,0,1,2,"{NAME}, graded"',
        "zoe,1,0,0,2,late",
    ]
    (tmp_path / "grades.csv").write_text(table, encoding="cp1252", newline="")
    assert cli.main(["course", "grade", NAME, "submissions", "--resume"]) == 2
    assert "save it as CSV in UTF-8" in capsys.readouterr().err


# ---- what the answers need, and why they are wrong ------------------------------------------------

NEEDED = {  # cells before and after the answer; it calls half(a), or what the cell above defines
    "a forward call": ["def outer(a):\n    return half(a)", HELPER, RIGHT_BY_HELPER.replace("half", "outer")],
    "behind the answer": [RIGHT_BY_HELPER, HELPER],
    "filled": ["M = np.zeros(1)", "np.copyto(M, 0.5)", RIGHT.replace("0.5", "M")],
    "a function that sets": ["def setup():\n    global K\n    K = 0.5", "setup()", RIGHT.replace("0.5", "K")],
    "a filled list": ["L = []\ndef fill(l):\n    l.append(0.5)", "fill(L)", RIGHT.replace("0.5", "L[0]")],
    "an alias": ["L = [0]\nQ = L", "Q[0] = 0.5", RIGHT.replace("0.5", "L[0]")],
    "a magic": ["%time K = 0.5", RIGHT.replace("0.5", "K")],
    "the last result": ["0.5", "K = _", RIGHT.replace("0.5", "K")],
}


def graded_cells(tmp_path, sources, checks=("06.2",), seconds=30, ends=()):
    """Points and remark of the cells, of which the last is the answer to 06.2, with its check behind all."""
    cells = [cell("", "import numpy as np\nimport tinyvrnn as tv"), *(cell("", source) for source in sources)]
    cells += [cell("check-06-2", CHECKS["06.2"]), *ends]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / NAME)
    expressions = {"06.2": "my_softplus_backward", "06.6": "prediction"}
    return submissions.grade_notebook(tmp_path / NAME, {n: expressions[n] for n in checks}, seconds)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("sources", NEEDED.values(), ids=NEEDED)
def test_a_right_answer_has_its_points_whatever_cells_it_needs(sources, tmp_path):
    assert graded_cells(tmp_path, sources) == ({"06.2": EXERCISES["06.2"].points}, "")


def test_a_second_run_does_not_guess_a_prediction(tmp_path):
    guess = ["L = [0]\ndef fill(l):\n    l[0] = 1", "fill(L)", "prediction = {'deviation'} if L[0] else {'mean'}"]
    cells = [cell("", source) for source in guess] + [cell("check-06-6", CHECKS["06.6"])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / NAME)
    assert submissions.grade_notebook(tmp_path / NAME, {"06.6": "prediction"})[0] == {"06.6": 0}


WRONG_SIGN = RIGHT.replace("dy * (", "-dy * (")
HINTS = {
    "06.2: da has the wrong sign": WRONG_SIGN,
    "06.2: not written": "def my_softplus_backward(a, dy):\n    ...",
    "NameError: name 'my_softplus_backward' is not defined": "def my_backward(a, dy):\n    return dy",
    "06.2: It was still running after 5 s": "def my_softplus_backward(a, dy):\n    while True:\n        pass",
    "stopped with NotYet: Your 06.1 answer: it is missing": (
        "tv.course.mine('06.1')\ndef my_softplus_backward(a, dy):\n    return dy"
    ),
    "06.2: It stopped with ValueError": "def my_softplus_backward(a, dy):\n    raise ValueError('x\\n' * 10**6)",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("said, answer", HINTS.items(), ids=HINTS)
def test_a_remark_says_why_an_answer_is_wrong(said, answer, tmp_path):
    marks, remark = graded_cells(tmp_path, [answer], seconds=5)
    assert marks == {"06.2": 0} and said in remark and len(remark) < 200 and "\n" not in remark


def test_every_exercise_has_its_own_remark(tmp_path):
    last = [cell("solution-06-6", "prediction = ("), cell("check-06-6", CHECKS["06.6"])]
    marks, remark = graded_cells(tmp_path, ["import torch_of_ada\n" + RIGHT], CHECKS, ends=last)
    assert marks == {"06.2": 0, "06.6": 0}
    assert "stopped with ModuleNotFoundError" in remark and "the answer to 06.6 stopped with SyntaxError" in remark


def test_a_tick_in_a_docstring_costs_nothing(tmp_path):
    answer = RIGHT.replace("):\n", '):\n    """My answer. ✓ 06.2 done on Monday."""\n')
    assert graded_cells(tmp_path, [answer]) == ({"06.2": EXERCISES["06.2"].points}, "")


@pytest.mark.one_in(2)
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "answer", [f"{RIGHT}\nsum(range(10**15))", "my_softplus_backward = lambda a, dy: sum(range(10**15))"]
)
def test_an_endless_call_of_c_costs_its_own_exercise_only(answer, tmp_path):
    last = [cell("solution-06-6", DEVIATION), cell("check-06-6", CHECKS["06.6"])]
    marks, remark = graded_cells(tmp_path, [answer], CHECKS, 5, last)
    assert marks == {"06.2": 0, "06.6": EXERCISES["06.6"].points} and "ran too long and was ended" in remark


@pytest.mark.parametrize("quote", "'\"")
def test_the_last_check_counts_in_either_quotes(quote, tmp_path):
    last = [cell("", f"{RIGHT}\ntv.course.check({quote}06.2{quote}, my_softplus_backward)")]
    assert graded_cells(tmp_path, [WRONG], ends=last) == ({"06.2": EXERCISES["06.2"].points}, "")


# ---- across the pipe -----------------------------------------------------------------------------

VALUES = [
    None,
    ...,
    True,
    3,
    10**40,
    0.1,
    float("inf"),
    "é\ud800",
    (1, [2, {"a": (3,)}]),
    {1, 2},
    {"x"},
    {3: None},
    {(1, 2)},
    {frozenset({"a"})},
    [],
    (),
]
VALUES += [
    np.arange(6.0).reshape(2, 3),
    np.zeros((0, 3), "f4"),
    np.array(2.5),
    np.float32(0.1),
    np.array([True]),
    1j * np.ones(2),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_went(value):
    back = array_trees.unpacked(json.loads(json.dumps(array_trees.packed(value))))
    assert type(back) is type(value) and repr(back) == repr(value)
    assert getattr(back, "dtype", None) == getattr(value, "dtype", None)


def test_an_array_of_words_comes_back_as_a_list():
    assert array_trees.unpacked(array_trees.packed(np.array(["up", "down"]))) == ["up", "down"]


BAD = [
    {"array": ["|O", [1], "AAAAAAAAAAA="], "scalar": False},
    {"array": ["<f8", [9], ""], "scalar": False},
    {"x": []},
    {},
]
BAD += [{"x": []}, {"set": [{"list": []}]}, {"dict": [[{"list": []}, 1]]}, {"array": [1, 2, 3]}, {"list": 3}]


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_other_forms_are_refused(value):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        array_trees.unpacked(value)


def test_changes_of_arguments_come_back():
    arguments = (np.zeros(2), {"a": np.zeros(2)}, [1, np.zeros(2)], {"b": 1}, 3)
    changed = (np.ones(2), {"a": np.ones(2)}, [1], {"b": 1, "c": 2}, 4)
    array_trees.restore(arguments, changed)
    assert repr(arguments[:4]) == repr(changed[:4])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_class_of_200_takes_less_than_an_hour_on_two_cores(capsys):
    seconds = {}
    for path in sorted(SOLUTIONS.glob("[0-9]*.ipynb")):
        if path.name.startswith("13"):  # it has no check
            continue
        checks, start = notebook_file.checks_handed_out(path), time.monotonic()
        marks, remark = submissions.grade_notebook(path, checks)
        seconds[path.stem] = time.monotonic() - start
        assert marks == {number: EXERCISES[number].points for number in checks} and remark == "", path
    with capsys.disabled():
        print("\nseconds a notebook:", {name: round(value, 1) for name, value in seconds.items()})
    assert max(seconds.values()) < 18, "200 of them on two cores"
