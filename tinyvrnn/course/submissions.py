"""Grades folders of submitted notebooks: each is executed, with the check cells of the notebook that was handed out."""

import csv
import io
import logging
import os
import re
import tempfile
import time
import warnings
from pathlib import Path

from tinyvrnn.course.exercises import EXERCISES
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.io.files import write_atomically

SECONDS, CELLS = 120, 5  # of one cell; a whole notebook has as long as so many cells


def grade_folder(folder, handed_out, report, seconds=SECONDS):
    """Grades FOLDER/STUDENT/NAME.ipynb of each student; yields (student, points, most, remark). Writes `report` at the
    end, a CSV with a column for each exercise.

    What keeps a notebook from being run is a remark beside its 0 points. Raises DataError where no notebook is found or
    the one handed out has no checks, ConfigError where the report cannot be written.
    """
    if seconds < 1:
        raise ConfigError(f"--seconds is {seconds}: a cell needs 1 or more.")
    name, rows, numbers = Path(handed_out).name, [], list(_checks_handed_out(handed_out))
    students = sorted(path for path in Path(folder).iterdir() if path.is_dir() and path.name[0] not in "._")
    if not any((path / name).is_file() for path in students):
        raise DataError(f"No */{name} in {folder}: each student needs a folder with that notebook in it.")
    _require_writable(Path(report))
    most = sum(EXERCISES[number].points for number in numbers)
    for path in students:
        points, remark = _points_and_remark(path / name, handed_out, seconds)
        total = sum(points.values())
        rows.append({"student": path.name} | points | {"total": total, "of": most, "remark": remark})
        yield path.name, total, most, remark
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(Path(report), lambda file: file.write(table.getvalue().encode()))


def grade_notebook(submitted, handed_out, seconds=SECONDS):
    """{"06.1": points, ...} of one submitted notebook, and a remark on what went wrong beside the checks.

    The check cells are those of `handed_out`, whatever the student made of them; one that is gone has 0 points. A cell
    that runs longer than `seconds` is interrupted, and the next one runs. The code is run as it is, with the rights of
    whoever calls this: use a machine or an account that may come to harm.
    """
    checks, notebook = _checks_handed_out(handed_out), _read(submitted)
    for number, own in _check_cells(notebook).items():
        own.source, own.outputs = checks[number].source if number in checks else "", []
    stopped = _execute(notebook, seconds)
    cells = _check_cells(notebook)
    points = {
        number: EXERCISES[number].points if number in cells and _passed(cells[number], number) else 0
        for number in checks
    }
    gone = ", ".join(number for number in checks if number not in cells)
    mute = [number for number, cell in cells.items() if cell.outputs and not points.get(number) and not _error(cell)]
    remarks = [
        stopped,
        f"no check cell of {gone}" if gone else "",
        f"the check of {', '.join(mute)} says neither right nor wrong: was it replaced?" if mute else "",
        "" if stopped else _first_error(notebook),
    ]
    return points, "; ".join(remark for remark in remarks if remark)


def _points_and_remark(path, handed_out, seconds):
    try:
        return grade_notebook(path, handed_out, seconds)
    except ConfigError:
        raise
    except FileNotFoundError:
        others = ", ".join(sorted(other.name for other in path.parent.glob("*.ipynb")))
        remark = f"no {path.name}" + (f"; there is {others}" if others else "")
    except Exception as error:  # whatever is wrong with one student's file must not stop the others'
        remark = _first_line(error)
    return dict.fromkeys(_checks_handed_out(handed_out), 0), remark


def _execute(notebook, seconds):
    """Runs all cells, on to the last whatever they raise. Returns in words what stopped it or a cell, or nothing."""
    client_class, _ = _jupyter()
    from nbclient.exceptions import DeadKernelError

    end, slow, died = time.monotonic() + CELLS * seconds, [], ""

    def time_left(cell):
        return max(1, min(seconds, end - time.monotonic()))

    def interrupted(cell, cell_index, execute_reply):
        if execute_reply["content"].get("ename") == "Interrupted":
            slow.append(_place(notebook, cell_index))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = client_class(
            notebook,
            timeout_func=time_left,
            interrupt_on_timeout=True,
            error_on_timeout={"ename": "Interrupted", "evalue": "", "traceback": []},
            allow_errors=True,
            on_cell_executed=interrupted,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=CRITICAL"],
            log=_silent(),
        )
        try:
            client.execute(env=os.environ | {"TINYVRNN_HOME": folder})  # a student's passes are not the grader's own
        except DeadKernelError:
            died = "its Python died (memory, or an exit): what comes after that counts nothing"
    others = f", and {len(slow) - 1} more after it" if len(slow) > 1 else ""
    return "; ".join(words for words in (f"{slow[0]} ran too long{others}" if slow else "", died) if words)


def _silent():
    """A logger that says nothing: what goes wrong becomes a remark."""
    log = logging.getLogger("tinyvrnn.submissions")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def _passed(cell, number):
    """Whether the check has shown its green line, and no error."""
    shown = [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return _error(cell) is None and any(text.startswith(f"✓ {number} ") for text in shown)


def _first_error(notebook):
    """In words, the first error that is not a check's verdict."""
    for i, cell in enumerate(notebook.cells):
        error = _error(cell)
        if error and error.ename != "NotYet":
            said = re.sub(r"\(\d+\.py, (line \d+)\)", r"(\1)", _first_line(error.evalue))
            return f"{_place(notebook, i)} stopped with {error.ename}: {said}".rstrip(": ")
    return ""


def _place(notebook, index):
    """A cell in words: of which exercise it is, or the how many-th."""
    about = notebook.cells[index].metadata.get("nbgrader", {}).get("grade_id", "")
    found = re.fullmatch(r"(solution|check)-(\d\d)-(\d+)", about)
    kinds = {"solution": "the answer to", "check": "the check of"}
    return f"{kinds[found[1]]} {found[2]}.{found[3]}" if found else f"cell {index + 1}"


def _error(cell):
    return next((output for output in cell.get("outputs", []) if output.output_type == "error"), None)


def _first_line(text):
    return (str(text).strip().splitlines() or [""])[0]


def _checks_handed_out(path):
    checks = _check_cells(_read(path))
    unknown = [number for number in checks if number not in EXERCISES]
    if unknown or not checks:
        wrong = f"an exercise {unknown[0]} that is not in this version" if unknown else "no check cell"
        raise DataError(f"{path} has {wrong}: give the notebook that was handed out, of notebooks/.")
    return checks


def _check_cells(notebook):
    """{exercise number: cell} of nbgrader's grade cells."""
    cells = {}
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        found = re.fullmatch(r"check-(\d\d)-(\d+)", about) if cell.cell_type == "code" else None
        if found:
            cells[f"{found[1]}.{found[2]}"] = cell
    return cells


def _read(path):
    _, nbformat = _jupyter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return nbformat.read(path, as_version=4)
        except OSError:
            raise
        except Exception as error:
            raise DataError(f"{Path(path).name} cannot be read as a notebook: {_first_line(error)}") from None


def _require_writable(report):
    if report.is_dir() or not os.access(report.parent, os.W_OK):
        raise ConfigError(f"{report} cannot be written: name a file in a folder that is there with --out.")


def _jupyter():
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        raise ConfigError('Grading notebooks needs nbclient: pip install "tinyvrnn[course]".') from error
    return NotebookClient, nbformat
