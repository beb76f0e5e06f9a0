"""Grades folders of submitted notebooks: the cells run in a box, and the grader asks it for each answer."""

import ast
import csv
import functools
import importlib.util
import io
import json
import os
import re
import signal
import stat
import textwrap

from tinyvrnn.course import boxed
from tinyvrnn.course.array_trees import unpacked
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.exercises import EXERCISES, NOTEBOOKS, chapter_of
from tinyvrnn.course.grader import grade
from tinyvrnn.course.sandbox import NOT_WRITTEN, NotYet
from tinyvrnn.errors import ConfigError, DataError, check_whole, how_to_install, shown
from tinyvrnn.io.files import given_path, write_atomically

SECONDS, CELLS = 30, 6  # limit for a cell or a call of an answer; the limit for a run is CELLS times as long
RUNS = 3  # of one notebook at most
LARGEST, HINT = 32 << 20, 160  # bytes of a notebook, characters of a hint
BROKEN = "go on with --resume, and if it dies again, set the next submission aside"


def grade_folder(folder, handed_out, report, seconds=SECONDS, jobs=1, resume=False, tell=list):
    """Grade FOLDER/STUDENT/NAME.ipynb of each student; yields (student, points, maximum, remark).

    After each student writes `report`, a CSV with a column for each exercise; `resume` keeps the rows that it has. A
    notebook that can't be run gets 0 points and a remark. tell([...]) is told what is not defended here. Raises
    DataError if there are no notebooks or the original has no checks, ConfigError if the report can't be written, or
    is there already and not to be resumed.
    """
    check_whole("--seconds", seconds, bits=20)
    check_whole("--jobs", jobs, bits=10)
    folder, handed_out, report = given_path(folder), given_path(handed_out), given_path(report)
    checks, name = _checks_handed_out(handed_out), handed_out.name
    given = {_source(cell) for cell in _cells(handed_out)}
    students = {
        shown(path.name): path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] not in "._"
    }
    if not any(os.path.lexists(path / name) for path in students.values()):
        raise DataError(f"No */{name} in {folder}: each student needs a folder with that notebook in it.")
    require_writable(report)
    table = Table(report, checks, resume)
    _require_box()
    tell(boxed.undefended())
    left = {student: path / name for student, path in students.items() if student not in table.rows}
    for student, (points, remark) in _graded(left, functools.partial(_points_and_remark, checks, seconds, given), jobs):
        yield student, *table.add(student, points, shown(remark))


def _graded(paths, grade_one, jobs):
    """(student, (points, remark)) of each, in the order in which they end."""
    if jobs == 1:
        yield from ((student, grade_one(path)) for student, path in paths.items())
        return
    import multiprocessing  # imported where it is used: a browser has none
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed

    deaf = signal.signal, (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), *deaf) as pool:
        futures = {pool.submit(grade_one, path): student for student, path in paths.items()}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        except BrokenExecutor:
            raise DataError(f"A grading process has died, as a submission without walls can cause: {BROKEN}.") from None
        finally:
            pool.shutdown(cancel_futures=True)


class Table:
    """The table of marks, in its file; with `resume`, the rows that are there stay."""

    def __init__(self, path, checks, resume):
        self._path, self.rows = path, {}
        self._points = {number: EXERCISES[number].points for number in checks}
        self._fields = ["student", *checks, "total", "of", "remark"]
        if path.exists():
            self._read(resume)

    def _read(self, resume):
        if not resume:
            raise ConfigError(f"{self._path} exists: give --resume to keep its rows, or another --out.")
        with open(self._path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file)
            if reader.fieldnames != self._fields:
                columns = ",".join(self._fields)
                raise ConfigError(f"{self._path} is not a table of this notebook, {columns}: give another --out.")
            self.rows = {row["student"]: row for row in reader if None not in row.values()}  # a cut row is none

    def add(self, student, points, remark):
        """Write the table with one more row. Returns (total, maximum, remark)."""
        total, most = sum(points.values()), sum(self._points.values())
        self.rows[student] = {"student": student} | points | {"total": total, "of": most, "remark": remark}
        _write(self._path, [self._fields, *([row[field] for field in self._fields] for row in self._sorted())])
        return total, most, remark

    def _sorted(self):
        return [self.rows[student] for student in sorted(self.rows)]


def export(report, handed_out, moodle=None, canvas=None):
    """Write the totals of a table in the form that Moodle imports, and in Canvas's."""
    with open(given_path(report), newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    number = chapter_of(next(iter(_checks_handed_out(given_path(handed_out)))))
    title, most = f"{number} {NOTEBOOKS[number]}", rows[0]["of"]
    if moodle:
        _write(moodle, [["username", title, "feedback"], *([r["student"], r["total"], r["remark"]] for r in rows)])
    if canvas:
        names = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title]
        marks = [[row["student"], "", "", row["student"], "", row["total"]] for row in rows]
        _write(canvas, [names, ["    Points Possible", "", "", "", "", most], *marks])


def _write(path, rows):
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    write_atomically(given_path(path), lambda file: file.write(table.getvalue().encode()))


# ---- one notebook ----


def grade_notebook(path, checks, seconds=SECONDS, given=()):
    """{"06.1": points, ...} of one submitted notebook, and a remark on why points are missing.

    checks: {number: the expression that is its answer}. given: the sources of the cells as handed out. Of the notebook
    the answers run, and the cells before them that they need. If an answer fails with these, all of the student's own
    cells before it run as well, in another box. A cell that runs longer than `seconds` is interrupted, and the next one
    runs. See `boxed` for what the student's code can reach.
    """
    run = _Run([cell for cell in _cells(path) if cell["cell_type"] == "code"], checks, seconds, given)
    for _ in range(RUNS):
        if run.could_gain():
            with boxed.Box(CELLS * seconds) as box:
                run.through(box)
    return run.points, "; ".join(run.remarks())


class _Run:
    """One notebook on its way through its boxes: the points and hints so far, and the place where it is."""

    def __init__(self, cells, checks, seconds, given):
        self._cells, self._checks, self._seconds = cells, checks, seconds
        self._sources, self._places = [_source(cell) for cell in cells], _places(cells, checks)
        self._answers = [i for i, cell in enumerate(cells) if _about(cell).startswith("solution-")]
        self._own = [i for i, source in enumerate(self._sources) if source not in given]
        self.points, self._hints, self._replaced, self._faked = dict.fromkeys(checks, 0), {}, [], False
        self._first, self._untried = None, {*range(len(cells))}  # cells of the first run, and of a further run only
        self._final, self._lost, self._loss = set(), {}, ""  # answers, and cells, that are not tried again

    def _left(self):
        """{place: its exercises that another run could still give points}."""
        left = {i: [n for n in ns if not self.points[n] and n not in self._final] for i, ns in self._places.items()}
        return {i: numbers for i, numbers in left.items() if numbers}

    def could_gain(self):
        """Whether another run would have other cells before an answer that has no points."""
        return not self._faked and any(i <= max(self._left(), default=-1) for i in self._untried)

    def through(self, box):
        """Run the cells that are needed, and grade each answer behind its cell."""
        self._index, self._number, self._place = None, None, "the start"
        try:
            self._through(box, self._left())
        except Exception as error:  # a submission can send anything
            self._lose(error if isinstance(error, boxed.Lost) else "what it sent makes no sense")

    def _lose(self, reason):
        """Leave the cell or answer that ended the box out of the next run, which has all others."""
        self._loss = f"{self._place}: {reason}"
        self._untried = set() if self._index is None else {*range(len(self._cells))}
        if self._number:
            self._final.add(self._number)
            self._hints[self._number] = self._loss
        elif self._index is not None:
            self._lost[self._index] = self._loss

    def _through(self, box, places):
        asked = [(i, self._checks[number]) for i, numbers in places.items() for number in numbers]
        loaded = box.ask("load", self._sources, self._answers, self._own, asked, seconds=self._seconds)
        chosen = {*loaded["chosen" if self._first is None else "more"]}
        self._untried, self._stopped = {*loaded["more"]} - chosen, ""
        self._first = chosen if self._first is None else self._first
        for self._index in range(max(places) + 1):
            self._place, self._number = _in_words(self._cells[self._index], self._index), None
            if self._index in chosen:
                self._run_cell(box)
            for number in places.get(self._index, ()):
                self._number = number
                self._grade(box)
            self._stopped = "" if self._index in places else self._stopped
        self._notice(box.ask("replaced", seconds=self._seconds))

    def _run_cell(self, box):
        text = self._lost.get(self._index) or self._error(box)
        if self._index in self._first:
            self._stopped = self._stopped or text  # the first explains the others

    def _error(self, box):
        """Run the cell. Returns why it did not end, or ""."""
        kind, message = box.ask("run", self._index, self._seconds, seconds=self._seconds + boxed.GRACE)
        if kind == "KeyboardInterrupt":
            return f"{self._place} ran too long"
        message = re.sub(r"\([^()]*, (line \d+)\)", r"(\1)", str(message))
        return f"{self._place} stopped with {kind}: {message}".rstrip(": ") if kind else ""

    def _grade(self, box):
        number, exercise = self._number, EXERCISES[self._number]
        once = isinstance(exercise, Prediction)  # a second try would let it be guessed
        self._hints[number] = self._stopped
        if once and self._stopped and any(i < self._index for i in self._untried):
            return
        try:
            answer = self._answer(box)
            if once and answer is not None and answer is not Ellipsis:
                self._final.add(number)
            grade(number, exercise, answer)
            self.points[number] = exercise.points
        except boxed.Lost:
            raise
        except NotYet as error:
            self._hints[number] = self._stopped or _hint(number, error)
        except Exception as error:  # an answer can be anything
            self._hints[number] = f"the answer to {number} cannot be graded: {type(error).__name__}"

    def _answer(self, box):
        reply = box.ask("value", self._checks[self._number], self._seconds, seconds=self._seconds + boxed.GRACE)
        return boxed.Boxed(box, reply["code"], self._seconds) if "code" in reply else unpacked(reply["value"])

    def _notice(self, name):
        """Remark a replaced function, which costs all points if it is the course's own."""
        if name:
            self._faked = str(name).startswith("tinyvrnn.course.")
            self._replaced = [f"{str(name):.80} was replaced" + (": 0 points" if self._faked else "")]
            self.points = dict.fromkeys(self.points, 0) if self._faked else self.points

    def remarks(self):
        """Why points are missing, exercise by exercise, each reason once."""
        if self._faked:
            return self._replaced
        placed = {number for numbers in self._places.values() for number in numbers}
        otherwise = f"{self._loss}; what comes after it counts nothing"
        why = [self._hints.get(n) or otherwise for n in self.points if n in placed and not self.points[n]]
        gone = ", ".join(number for number in self.points if number not in placed)
        return [*dict.fromkeys(why), *self._replaced, *([f"no cell of {gone}"] if gone else [])]


def _hint(number, error):
    """The check's hint in short, on one line."""
    text = "not written" if str(error) == NOT_WRITTEN else str(error)[:1000].rstrip(".")
    return f"{number}: {textwrap.shorten(text, HINT, placeholder=' ...')}"


def _points_and_remark(checks, seconds, given, path):
    try:
        if path.parent.is_symlink():
            raise DataError(f"the folder {path.parent.name} is a link, which is not followed")
        return grade_notebook(path, checks, seconds, given)
    except FileNotFoundError:
        others = ", ".join(sorted(other.name for other in path.parent.glob("*.ipynb")))
        remark = f"no {path.name}" + (f"; there is {others}" if others else "")
    except (OSError, DataError) as error:  # one student's file must not stop the others
        remark = getattr(error, "strerror", None) or str(error)
    return dict.fromkeys(checks, 0), remark


def _places(cells, checks):
    """{index of a cell: the exercises graded behind it}: the last check's cell, or where there is none the answer's.

    One place for each, since a second try would let a prediction be guessed.
    """
    places = {}
    for number in checks:
        kind = f"solution-{number.replace('.', '-')}"
        behind = [i for i, cell in enumerate(cells) if _is_check(cell, number)]
        for i in (behind or [i for i, cell in enumerate(cells) if _about(cell) == kind])[-1:]:
            places.setdefault(i, []).append(number)
    return places


def _is_check(cell, number):
    return _about(cell) == f"check-{number.replace('.', '-')}" or bool(
        re.search(rf"course\.check\(\s*['\"]{re.escape(number)}['\"]", _source(cell))
    )


def _in_words(cell, index):
    """A cell by its exercise, or its number among the code cells."""
    match = re.fullmatch(r"(solution|check)-(\d\d)-(\d+)", _about(cell))
    kinds = {"solution": "the answer to", "check": "the check of"}
    return f"{kinds[match[1]]} {match[2]}.{match[3]}" if match else f"code cell {index + 1}"


def _about(cell):
    """nbgrader's name of a cell, or "" for what has none."""
    for key in ("metadata", "nbgrader", "grade_id"):
        cell = cell.get(key) if isinstance(cell, dict) else None
    return cell if isinstance(cell, str) else ""


def _source(cell):
    source = cell.get("source")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _checks_handed_out(path):
    """{number: the expression of its answer} of the original notebook."""
    calls = [node for cell in _cells(path) for node in _calls(cell)]
    checks = {str(node.args[0].value): ", ".join(map(ast.unparse, node.args[1:])) for node in calls}
    unknown = [number for number in checks if number not in EXERCISES]
    if unknown or not checks:
        wrong = f"an exercise {unknown[0]} that is not in this version" if unknown else "no check cell"
        raise DataError(f"{path} has {wrong}: give the original notebook, from notebooks/.")
    return checks


def _calls(cell):
    """The calls of `tv.course.check` in a check cell."""
    try:
        nodes = ast.walk(ast.parse(_source(cell))) if _about(cell).startswith("check-") else ()
    except SyntaxError:
        return []
    return [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "tv.course.check"]


def _cells(path):
    """The cells of a notebook. Raises DataError for what is none: a link or device, a file too large, other JSON."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(file, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            raise DataError(f"{path.name} cannot be read as a notebook: it is no file of at most {LARGEST >> 20} MiB")
        text = file.read(LARGEST)
    try:
        cells = json.loads(text.removeprefix(b"\xef\xbb\xbf"))["cells"]
        return [cell | {"cell_type": cell["cell_type"]} for cell in cells]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read as a notebook: {type(error).__name__}: {error}") from None


def require_writable(out, moodle=None, canvas=None):
    """Raise ConfigError unless all tables can be written, each to a file of its own."""
    given = {"--out": out, "--moodle": moodle, "--canvas": canvas}
    paths = {option: given_path(path) for option, path in given.items() if path is not None}
    for option, path in paths.items():
        other = path.exists() and not path.is_file()
        if other or path.suffix.lower() == ".ipynb" or not os.access(path.parent, os.W_OK):
            raise ConfigError(f"{path} cannot be written: give {option} a .csv in an existing folder.")
    if len({path.resolve() for path in paths.values()}) < len(paths):
        raise ConfigError(f"{', '.join(paths)} name one file for several tables: give each its own.")


def _require_box():
    """Raise ConfigError if not even an empty notebook runs, for which all students would get 0 points."""
    if not importlib.util.find_spec("IPython"):
        raise ConfigError(f"Grading notebooks needs IPython: {how_to_install('teach')}.")
    try:
        with boxed.Box(60) as box:
            box.ask("load", [], [], [], [], seconds=60)
    except (boxed.Lost, NotYet, OSError) as error:  # no space, a damaged installation
        raise ConfigError(f"This machine can't run notebooks, not even an empty one: {error}.") from None
