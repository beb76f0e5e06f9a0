"""Grades folders of submitted notebooks: executes each with the check cells of the original notebook."""

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
from tinyvrnn.errors import ConfigError, DataError, check_whole, how_to_install, shown
from tinyvrnn.io.files import given_path, write_atomically

SECONDS, CELLS = 120, 5  # limit for one cell; the limit for a notebook is CELLS times as long


def grade_folder(folder, handed_out, report, seconds=SECONDS):
    """Grade FOLDER/STUDENT/NAME.ipynb of each student; yields (student, points, maximum, remark).

    Finally writes `report`, a CSV with a column for each exercise. A notebook that can't be run gets 0 points and a
    remark. Raises DataError if there are no notebooks or the original has no checks, ConfigError if the report can't be
    written.
    """
    check_whole("--seconds", seconds, bits=20)
    folder, handed_out, report = given_path(folder), given_path(handed_out), given_path(report)
    name, rows, numbers = handed_out.name, [], list(_checks_handed_out(handed_out))
    students = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    if not any(os.path.isfile(path / name) for path in students):
        raise DataError(f"No */{name} in {folder}: each student needs a folder with that notebook in it.")
    _require_writable(report)
    _require_kernel()
    most = sum(EXERCISES[number].points for number in numbers)
    for path in students:
        points, remark = _points_and_remark(path / name, handed_out, seconds)
        student, total, remark = shown(path.name), sum(points.values()), shown(remark)
        rows.append({"student": student} | points | {"total": total, "of": most, "remark": remark})
        yield student, total, most, remark
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(report, lambda file: file.write(table.getvalue().encode()))


def grade_notebook(submitted, handed_out, seconds=SECONDS):
    """{"06.1": points, ...} of one submitted notebook, and a remark on errors outside the checks.

    The check cells are replaced by those of `handed_out`; a missing one gets 0 points. A cell that runs longer than
    `seconds` is interrupted, and the next one runs. The student's code runs with the rights of the caller: use a
    machine or account without anything to lose.
    """
    checks, notebook = _checks_handed_out(handed_out), _read(submitted)
    for number, cell in _check_cells(notebook).items():
        cell.source, cell.outputs = checks[number].source if number in checks else "", []
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
    except Exception as error:  # one student's file must not stop the others
        remark = _first_line(error)
    return dict.fromkeys(_checks_handed_out(handed_out), 0), remark


def _execute(notebook, seconds):
    """Run all cells, whatever they raise. Returns a remark on interrupted cells and a dead kernel, or ""."""
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
            kernel_name="python3",  # the one named in a notebook may exist on its author's machine only
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
            client.execute(env=os.environ | {"TINYVRNN_HOME": folder})  # keeps the grader's own progress file
        except DeadKernelError:
            died = "its Python died (memory, or an exit): the cells after that count nothing"
    others = f", and {len(slow) - 1} more after it" if len(slow) > 1 else ""
    return "; ".join(words for words in (f"{slow[0]} ran too long{others}" if slow else "", died) if words)


def _silent():
    """A logger without output, since errors become remarks."""
    log = logging.getLogger("tinyvrnn.submissions")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def _passed(cell, number):
    """Whether the check shows its green line, and no error."""
    shown = [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return _error(cell) is None and any(text.startswith(f"✓ {number} ") for text in shown)


def _first_error(notebook):
    """A remark on the first error that was not raised by a check."""
    for i, cell in enumerate(notebook.cells):
        error = _error(cell)
        if error and error.ename != "NotYet":
            message = re.sub(r"\(\d+\.py, (line \d+)\)", r"(\1)", _first_line(error.evalue))
            return f"{_place(notebook, i)} stopped with {error.ename}: {message}".rstrip(": ")
    return ""


def _place(notebook, index):
    """A cell in words: its exercise, or its number."""
    about = notebook.cells[index].metadata.get("nbgrader", {}).get("grade_id", "")
    match = re.fullmatch(r"(solution|check)-(\d\d)-(\d+)", about)
    kinds = {"solution": "the answer to", "check": "the check of"}
    return f"{kinds[match[1]]} {match[2]}.{match[3]}" if match else f"cell {index + 1}"


def _error(cell):
    return next((output for output in cell.get("outputs", []) if output.output_type == "error"), None)


def _first_line(text):
    return (str(text).strip().splitlines() or [""])[0]


def _checks_handed_out(path):
    checks = _check_cells(_read(path))
    unknown = [number for number in checks if number not in EXERCISES]
    if unknown or not checks:
        wrong = f"an exercise {unknown[0]} that is not in this version" if unknown else "no check cell"
        raise DataError(f"{path} has {wrong}: give the original notebook, from notebooks/.")
    return checks


def _check_cells(notebook):
    """{exercise number: cell} of nbgrader's grade cells."""
    cells = {}
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        match = re.fullmatch(r"check-(\d\d)-(\d+)", about) if cell.cell_type == "code" else None
        if match:
            cells[f"{match[1]}.{match[2]}"] = cell
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
    other = report.exists() and not report.is_file()
    if other or report.suffix.lower() == ".ipynb" or not os.access(report.parent, os.W_OK):
        raise ConfigError(f"{report} cannot be written: give --out a .csv in an existing folder.")


def _require_kernel():
    """Raise ConfigError if not even an empty notebook runs, for which all students would get 0 points."""
    _, nbformat = _jupyter()
    try:
        stopped = _execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("0")]), SECONDS)
    except Exception as error:  # no home folder, no space, a damaged installation
        stopped = _first_line(error).rstrip(".")
    if stopped:
        raise ConfigError(f"This machine can't run notebooks, not even an empty one: {stopped}.")


def _jupyter():
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        raise ConfigError(f"Grading notebooks needs nbclient: {how_to_install('teach')}.") from error
    return NotebookClient, nbformat
