"""Grades folders of submitted notebooks: each is executed, with the check cells of the notebook that was handed out."""

import csv
import re
import tempfile
from pathlib import Path

from tinyvrnn.course.exercises import EXERCISES
from tinyvrnn.errors import ConfigError, DataError


def grade_notebook(submitted, handed_out, seconds=120):
    """{"06.1": points, ...} of one submitted notebook; 0 for a check that fails or that is gone.

    The check cells are those of `handed_out`, whatever the student made of them. The code is run as it is, with the
    rights of whoever calls this: use a machine or an account that may come to harm.
    """
    client_class, reader = _jupyter()
    checks = _check_cells(reader(handed_out))
    notebook = reader(submitted)
    for number, own in _check_cells(notebook).items():
        own.source = checks[number].source if number in checks else ""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        arguments = ["--log-level=ERROR"]
        client_class(
            notebook, timeout=seconds, allow_errors=True, resources=resources, extra_arguments=arguments
        ).execute()
    passed = {number for number, cell in _check_cells(notebook).items() if _ran_well(cell)}
    return {number: EXERCISES[number].points if number in passed else 0 for number in checks}


def grade_folder(folder, handed_out, report):
    """Grades FOLDER/STUDENT/NAME.ipynb of each student. Writes `report`, a CSV; yields (student, points, most).

    A notebook that cannot be run has 0 points and its reason beside them. Raises DataError where none is found.
    """
    name, rows = Path(handed_out).name, []
    submitted = sorted(Path(folder).glob(f"*/{name}"))
    if not submitted:
        raise DataError(f"No */{name} in {folder}: each student needs a folder with that notebook in it.")
    for path in submitted:
        points, remark = _points_or_reason(path, handed_out)
        rows.append({"student": path.parent.name, **points, "total": sum(points.values()), "remark": remark})
        yield path.parent.name, rows[-1]["total"], sum(EXERCISES[number].points for number in points), remark
    with open(report, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _points_or_reason(path, handed_out):
    try:
        return grade_notebook(path, handed_out), ""
    except ConfigError:
        raise
    except Exception as error:  # whatever is wrong with one student's file must not stop the others'
        _, reader = _jupyter()
        zero = dict.fromkeys(_check_cells(reader(handed_out)), 0)
        return zero, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def _check_cells(notebook):
    """{exercise number: cell} of nbgrader's grade cells."""
    cells = {}
    for cell in notebook.cells:
        found = re.fullmatch(r"check-(\d\d)-(\d+)", cell.metadata.get("nbgrader", {}).get("grade_id", ""))
        if found:
            cells[f"{found[1]}.{found[2]}"] = cell
    return cells


def _ran_well(cell):
    return bool(cell.source and cell.outputs) and all(output.output_type != "error" for output in cell.outputs)


def _jupyter():
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        raise ConfigError('Grading notebooks needs nbclient: pip install "tinyvrnn[course]".') from error
    return NotebookClient, lambda path: nbformat.read(path, as_version=4)
