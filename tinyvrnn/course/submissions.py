"""Grades folders of submitted notebooks: the cells run in a box, and the grader asks it for each answer."""

import contextlib
import functools
import importlib.util
import re
import signal
import textwrap
from pathlib import Path
from typing import NamedTuple

from tinyvrnn.course import boxed
from tinyvrnn.course.array_trees import unpacked
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.exercises import EXERCISES
from tinyvrnn.course.grader import grade
from tinyvrnn.course.marks import Table, require_writable
from tinyvrnn.course.notebook_file import Notebook, cells_of, checks_handed_out, source
from tinyvrnn.course.sandbox import NOT_WRITTEN, NotYet
from tinyvrnn.errors import ConfigError, DataError, check_whole, how_to_install, shown
from tinyvrnn.io.files import given_path

SECONDS, CELLS = 30, 6  # limit for a cell or a call of an answer; the limit for a run is CELLS times as long
RUNS, HINT = 3, 160  # runs of one notebook at most, characters of a hint
BROKEN = "go on with --resume, and if it dies again, set the next submission aside"


def grade_folder(folder, handed_out, report, seconds=SECONDS, jobs=1, resume=False, tell=list):
    """Grade the notebook of each student; yields (student, points, maximum, remark). See `_handed_in` for their names.

    After each student writes `report`, a CSV with a column for each exercise; `resume` keeps the rows that it has. A
    notebook that can't be run gets 0 points and a remark. tell([...]) is told what is not defended here, and what is
    odd in the table. Raises DataError if there are no notebooks or the original has no checks, ConfigError if the
    report can't be written, or is there already and not to be resumed.
    """
    check_whole("--seconds", seconds, bits=20)
    check_whole("--jobs", jobs, bits=10)
    folder, handed_out, report = given_path(folder), given_path(handed_out), given_path(report)
    checks = checks_handed_out(handed_out)
    students = _handed_in(folder, handed_out)
    if not any(handed.files for handed in students.values()):
        name = handed_out.name
        raise DataError(f"No */{name} in {folder}: each student needs a folder with it, or a file STUDENT_{name}.")
    require_writable(report)
    table = Table(report, checks, resume)
    _require_box()
    tell([*boxed.undefended(), *table.notes()])
    given = {source(cell) for cell in cells_of(handed_out)}
    left = {student: handed for student, handed in students.items() if student not in table.rows}
    grade_one = functools.partial(_points_and_remark, checks, seconds, given, handed_out.name)
    for student, (points, remark) in _graded(left, grade_one, jobs):
        yield student, *table.add(student, points, shown(remark))


def _handed_in(folder, handed_out):
    """{student: HandedIn} of FOLDER/STUDENT/NAME.ipynb and FOLDER/STUDENT_NAME.ipynb, but for names with . or _ first.

    A second file's name may end in " (1)" or "-1", as browsers and Canvas write it.
    """
    form = re.compile(rf"((?P<student>.+)_)?{re.escape(handed_out.stem)}(-\d+| ?\(\d+\))?\.ipynb", re.DOTALL)
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.name[0] not in "._"):
        match = form.fullmatch(path.name)
        if path.is_dir():
            found[shown(path.name)] = HandedIn(path, [file for file in _inside(path) if form.fullmatch(file.name)])
        elif match and match["student"]:
            found.setdefault(shown(match["student"]), HandedIn(None, [])).files.append(path)
    return found


def _inside(folder):
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


class HandedIn(NamedTuple):
    """A student's folder, None for loose files, and the files in it that are named as the notebook is."""

    folder: Path | None
    files: list

    def chosen(self, name):
        """The file to grade: that of the very name, or else the only one. Raises DataError if there is none."""
        if self.folder and self.folder.is_symlink():
            raise DataError(f"the folder {self.folder.name} is a link, which is not followed")
        best = [file for file in self.files if file.name == name] or self.files
        if len(best) > 1:
            raise DataError(f"several notebooks, {', '.join(file.name for file in best)}: leave one")
        if not best:
            others = [*self.folder.glob("*.ipynb"), *self.folder.glob("*.zip"), *self.folder.glob("*/*.ipynb")]
            names = ", ".join(str(path.relative_to(self.folder)) for path in sorted(others)[:3])
            raise DataError(f"no {name}" + (f"; there is {names}" if names else ""))
        return best[0]

    def left_out(self, path):
        """A remark on other files than the graded one, or ""."""
        others = [file.name for file in self.files if file != path]
        return f"graded {path.name}, not {', '.join(others)}" if others else ""


def _graded(students, grade_one, jobs):
    """(student, (points, remark)) of each, in the order in which they end."""
    if jobs == 1:
        yield from ((student, grade_one(handed)) for student, handed in students.items())
        return
    import multiprocessing  # imported where it is used: a browser has none
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed

    deaf = signal.signal, (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), *deaf) as pool:
        futures = {pool.submit(grade_one, handed): student for student, handed in students.items()}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        except BrokenExecutor:
            raise DataError(f"A grading process has died, as a submission without walls can cause: {BROKEN}.") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _points_and_remark(checks, seconds, given, name, handed):
    try:
        path = handed.chosen(name)
        points, remark = grade_notebook(path, checks, seconds, given)
        return points, "; ".join(filter(None, (remark, handed.left_out(path))))
    except (OSError, DataError) as error:  # one student's file must not stop the others
        return dict.fromkeys(checks, 0), getattr(error, "strerror", None) or str(error)


# ---- one notebook ----


def grade_notebook(path, checks, seconds=SECONDS, given=()):
    """{"06.1": points, ...} of one submitted notebook, and a remark on why points are missing.

    checks: {number: the expression that is its answer}. given: the sources of the cells as handed out. Of the notebook
    the answers run, and the cells before them that they need. If an answer fails with these, all of the student's own
    cells before it run as well, in another box. A cell that runs longer than `seconds` is interrupted, and the next one
    runs. See `boxed` for what the student's code can reach.
    """
    notebook = Notebook(path, checks, given)
    marks, untried = _Marks(checks, notebook.places), range(len(notebook.sources))
    for attempt in range(RUNS):
        if any(index <= max(marks.left(), default=-1) for index in untried):
            with boxed.Box(CELLS * seconds) as box:
                untried = _Run(notebook, marks, box, seconds).through(all_own=attempt > 0)
    return marks.points, "; ".join(marks.remarks())


class _Marks:
    """What is known of a notebook: its points, why others are missing, and what is not tried again.

    ended: {index of a cell that ended its box: how}; it is left out of later runs. loss: what ended the last box.
    """

    def __init__(self, checks, places):
        self.points, self._places, self._reasons, self._final = dict.fromkeys(checks, 0), places, {}, set()
        self.ended, self.loss, self._replaced, self._faked = {}, "", [], False

    def left(self):
        """{index of a cell: the exercises behind it that another run could still give points}."""
        left = {i: [n for n in ns if not self.points[n] and n not in self._final] for i, ns in self._places.items()}
        return {i: numbers for i, numbers in left.items() if numbers and not self._faked}

    def award(self, number):
        self.points[number] = EXERCISES[number].points

    def refuse(self, number, reason, final=False):
        """Keep why an exercise has no points; final: it is not tried again."""
        self._reasons[number] = reason
        self._final |= {number} if final else set()

    def notice(self, name):
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
        otherwise = f"{self.loss}; what comes after it counts nothing"
        why = [self._reasons.get(n) or otherwise for n in self.points if n in placed and not self.points[n]]
        gone = ", ".join(number for number in self.points if number not in placed)
        return [*dict.fromkeys(why), *self._replaced, *([f"no cell of {gone}"] if gone else [])]


class _Run:
    """A notebook on its way through one box. index, number: the cell and the exercise that it is at."""

    def __init__(self, notebook, marks, box, seconds):
        self._notebook, self._marks, self._box, self._seconds = notebook, marks, box, seconds
        self._index = self._number = None

    def through(self, all_own):
        """Run the cells that answers need, and grade each answer behind its cell. Returns the cells not yet tried.

        all_own: run all of the student's own cells.
        """
        try:
            return self._through(all_own)
        except Exception as error:  # a submission can send anything
            return self._lose(error if isinstance(error, boxed.Lost) else "what it sent makes no sense")

    def _lose(self, reason):
        """Leave the cell or answer that ended the box out of the next run, which tries all others."""
        index, marks = self._index, self._marks
        marks.loss = f"{'the start' if index is None else self._notebook.names[index]}: {reason}"
        if self._number:
            marks.refuse(self._number, marks.loss, final=True)
        elif index is not None:
            marks.ended[index] = marks.loss
        return set() if index is None else {*range(len(self._notebook.sources))}

    def _through(self, all_own):
        left = self._marks.left()
        needed, more = self._load(left)
        chosen, stopped = more if all_own else needed, ""
        for self._index in range(max(left) + 1):
            self._number = None
            if self._index in chosen:
                error = self._marks.ended.get(self._index) or self._error()
                stopped = stopped or (error if self._index in needed else "")  # the first explains the others
            for number in left.get(self._index, ()):
                self._number = number
                self._grade(stopped, last=not any(i < self._index for i in more - chosen))
            stopped = "" if self._index in left else stopped
        self._marks.notice(self._box.ask("replaced", seconds=self._seconds))
        return more - chosen

    def _load(self, left):
        """Indices of the cells that the answers need, and of those with all that are the student's own."""
        notebook = self._notebook
        checks = [(index, notebook.checks[number]) for index, numbers in left.items() for number in numbers]
        cells = notebook.sources, notebook.answers, notebook.own
        loaded = self._box.ask("load", *cells, checks, seconds=self._seconds)
        return {*loaded["chosen"]}, {*loaded["more"]}

    def _error(self):
        """Run the cell. Returns why it did not end, or ""."""
        kind, message = self._ask("run", self._index)
        name = self._notebook.names[self._index]
        if kind == "KeyboardInterrupt":
            return f"{name} ran too long"
        message = re.sub(r"\([^()]*, (line \d+)\)", r"(\1)", str(message))
        return f"{name} stopped with {kind}: {message}".rstrip(": ") if kind else ""

    def _grade(self, stopped, last):
        """Grade the answer. stopped: why a cell before it did not end. last: no other run has more cells before it."""
        number, exercise, answer = self._number, EXERCISES[self._number], None
        once = isinstance(exercise, Prediction)  # a second try would let it be guessed
        if once and stopped and not last:
            self._marks.refuse(number, stopped)
            return
        try:
            answer = self._answer()
            grade(number, exercise, answer)
            self._marks.award(number)
            return
        except boxed.Lost:
            raise
        except NotYet as error:
            reason = stopped or _hint(number, error)
        except Exception as error:  # an answer can be anything
            reason = f"the answer to {number} cannot be graded: {type(error).__name__}"
        self._marks.refuse(number, reason, final=once and answer is not None and answer is not ...)

    def _answer(self):
        reply = self._ask("value", self._notebook.checks[self._number])
        return boxed.Boxed(self._box, reply["code"], self._seconds) if "code" in reply else unpacked(reply["value"])

    def _ask(self, what, argument):
        return self._box.ask(what, argument, self._seconds, seconds=self._seconds + boxed.GRACE)


def _hint(number, error):
    """The check's hint in short, on one line."""
    text = "not written" if str(error) == NOT_WRITTEN else str(error)[:1000].rstrip(".")
    return f"{number}: {textwrap.shorten(text, HINT, placeholder=' ...')}"


def _require_box():
    """Raise ConfigError if not even an empty notebook runs, for which all students would get 0 points."""
    if not importlib.util.find_spec("IPython"):
        raise ConfigError(f"Grading notebooks needs IPython: {how_to_install('teach')}.")
    try:
        with boxed.Box(60) as box:
            box.ask("load", [], [], [], [], seconds=60)
    except (boxed.Lost, NotYet, OSError) as error:  # no space, a damaged installation
        raise ConfigError(f"This machine can't run notebooks, not even an empty one: {error}.") from None
