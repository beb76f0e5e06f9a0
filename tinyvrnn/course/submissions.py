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

from tinyvrnn.course import boxed
from tinyvrnn.course.array_trees import unpacked
from tinyvrnn.course.exercises import EXERCISES, NOTEBOOKS, chapter_of
from tinyvrnn.course.grader import grade
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.errors import ConfigError, DataError, check_whole, how_to_install, shown
from tinyvrnn.io.files import given_path, write_atomically

SECONDS, CELLS = 30, 6  # limit for one cell; the limit for a notebook is CELLS times as long
LARGEST = 32 << 20  # bytes of a notebook
BROKEN = "go on with --resume, and if it dies again, set the next submission aside"


def grade_folder(folder, handed_out, report, seconds=SECONDS, jobs=1, resume=False, tell=list):
    """Grade FOLDER/STUDENT/NAME.ipynb of each student; yields (student, points, maximum, remark).

    After each student writes `report`, a CSV with a column for each exercise; `resume` keeps the rows that it has. A
    notebook that can't be run gets 0 points and a remark. tell([...]) is told what is not defended here. Raises
    DataError if there are no notebooks or the original has no checks, ConfigError if the report can't be written.
    """
    check_whole("--seconds", seconds, bits=20)
    check_whole("--jobs", jobs, bits=10)
    folder, handed_out, report = given_path(folder), given_path(handed_out), given_path(report)
    checks, name = _checks_handed_out(handed_out), handed_out.name
    students = {
        shown(path.name): path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] not in "._"
    }
    if not any(os.path.lexists(path / name) for path in students.values()):
        raise DataError(f"No */{name} in {folder}: each student needs a folder with that notebook in it.")
    _require_writable(report)
    table = Table(report, checks, students, resume)
    _require_box()
    tell(boxed.undefended())
    left = {student: path / name for student, path in students.items() if student not in table.rows}
    for student, (points, remark) in _graded(left, functools.partial(_points_and_remark, checks, seconds), jobs):
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

    def __init__(self, path, checks, students, resume):
        self._path, self._students, self.rows = path, students, {}
        self._points = {number: EXERCISES[number].points for number in checks}
        self._fields = ["student", *checks, "total", "of", "remark"]
        if resume and path.exists():
            self._read()

    def _read(self):
        with open(self._path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != self._fields:
                raise ConfigError(f"{self._path} is not a table of this notebook: leave out --resume, or give --out.")
            self.rows = {row["student"]: row for row in reader if row["student"] in self._students}

    def add(self, student, points, remark):
        """Write the table with one more row. Returns (total, maximum, remark)."""
        total, most = sum(points.values()), sum(self._points.values())
        self.rows[student] = {"student": student} | points | {"total": total, "of": most, "remark": remark}
        _write(self._path, [self._fields, *(self._row(name) for name in self._students if name in self.rows)])
        return total, most, remark

    def _row(self, student):
        return [self.rows[student][field] for field in self._fields]


def export(report, handed_out, moodle=None, canvas=None):
    """Write the totals of a table in the form that Moodle imports, and in Canvas's."""
    with open(given_path(report), newline="", encoding="utf-8") as file:
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


def grade_notebook(path, checks, seconds=SECONDS):
    """{"06.1": points, ...} of one submitted notebook, and a remark on errors outside the checks.

    checks: {number: the expression that is its answer}. Of the notebook the answers run, and the cells before them that
    they need. A cell that runs longer than `seconds` is interrupted, and the next one runs. See `boxed` for what the
    student's code can reach.
    """
    cells = [cell for cell in _cells(path) if cell["cell_type"] == "code"]
    places = _places(cells, checks)
    run = _Run(cells, checks, seconds)
    with boxed.Box(CELLS * seconds) as box:
        try:
            run.through(box, places)
        except Exception as error:  # a submission can send anything
            reason = error if isinstance(error, boxed.Lost) else "what it sent makes no sense"
            run.remarks.append(f"{run.place}: {reason}; what comes after it counts nothing")
    gone = ", ".join(number for number in checks if number not in {n for ns in places.values() for n in ns})
    if run.faked:
        run.points, run.remarks = dict.fromkeys(checks, 0), [run.faked]
    return run.points, "; ".join([*run.remarks, *([f"no cell of {gone}"] if gone else [])])


class _Run:
    """One notebook on its way through a box: points and remarks so far, and the place where it is."""

    def __init__(self, cells, checks, seconds):
        self._cells, self._checks, self._seconds = cells, checks, seconds
        self.points, self.remarks, self.place, self.faked = dict.fromkeys(checks, 0), [], "the start", ""

    def through(self, box, places):
        """Run the cells that are needed, and grade each answer behind its cell."""
        answers = [i for i, cell in enumerate(self._cells) if _about(cell).startswith("solution-")]
        asked = [(i, self._checks[number]) for i, numbers in places.items() for number in numbers]
        sources = [_source(cell) for cell in self._cells]
        chosen = box.ask("load", sources, answers, asked, seconds=self._seconds)
        if chosen["ticks"]:
            self.faked = "a cell prints the line of a right answer: 0 points"
        for i in sorted({*chosen["chosen"], *places}):
            self.place = _in_words(self._cells[i], i)
            if i in chosen["chosen"]:
                self._run_cell(box, i)
            for number in places.get(i, ()):
                self._grade(box, number)
        if name := box.ask("replaced", seconds=self._seconds):
            self.remarks.append(f"{str(name):.80} was replaced")
            if str(name).startswith("tinyvrnn.course."):
                self.faked = f"{str(name):.80} was replaced: 0 points"

    def _run_cell(self, box, index):
        kind, message = box.ask("run", index, self._seconds, seconds=self._seconds + boxed.GRACE)
        if kind == "KeyboardInterrupt":
            self.remarks.append(f"{self.place} ran too long")
        elif kind and not self.remarks:  # the first explains the others
            message = re.sub(r"\([^()]*, (line \d+)\)", r"(\1)", str(message))
            self.remarks.append(f"{self.place} stopped with {kind}: {message}".rstrip(": "))

    def _grade(self, box, number):
        try:
            reply = box.ask("value", self._checks[number], self._seconds, seconds=self._seconds + boxed.GRACE)
            answer = boxed.Boxed(box, reply["code"]) if "code" in reply else unpacked(reply["value"])
            grade(number, EXERCISES[number], answer)
            self.points[number] = EXERCISES[number].points
        except boxed.Lost:
            raise
        except NotYet:
            pass
        except Exception as error:  # an answer can be anything
            self.remarks.append(f"the answer to {number} cannot be graded: {type(error).__name__}")


def _points_and_remark(checks, seconds, path):
    try:
        if path.parent.is_symlink():
            raise DataError(f"the folder {path.parent.name} is a link, which is not followed")
        return grade_notebook(path, checks, seconds)
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
    return _about(cell) == f"check-{number.replace('.', '-')}" or f'course.check("{number}"' in _source(cell)


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


def _require_writable(report):
    other = report.exists() and not report.is_file()
    if other or report.suffix.lower() == ".ipynb" or not os.access(report.parent, os.W_OK):
        raise ConfigError(f"{report} cannot be written: give --out a .csv in an existing folder.")


def _require_box():
    """Raise ConfigError if not even an empty notebook runs, for which all students would get 0 points."""
    if not importlib.util.find_spec("IPython"):
        raise ConfigError(f"Grading notebooks needs IPython: {how_to_install('teach')}.")
    try:
        with boxed.Box(60) as box:
            box.ask("load", [], [], [], seconds=60)
    except (boxed.Lost, NotYet, OSError) as error:  # no space, a damaged installation
        raise ConfigError(f"This machine can't run notebooks, not even an empty one: {error}.") from None
