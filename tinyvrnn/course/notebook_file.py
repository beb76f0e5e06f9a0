"""Reads notebooks, those handed out and those handed in, without running anything of them."""

import ast
import json
import os
import re
import stat

from tinyvrnn.course.exercises import EXERCISES
from tinyvrnn.errors import DataError

LARGEST = 32 << 20  # bytes of a notebook


class Notebook:
    """A submitted notebook: the sources of its code cells, and which of them matter to grading.

    checks: {number: the expression that is its answer}. places: {index of a cell: the exercises graded behind it}.
    answers: indices of the cells for answers. own: indices of the cells that are not as handed out.
    """

    def __init__(self, path, checks, given=()):
        cells = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
        self.checks, self.places = checks, _places(cells, checks)
        self.sources = [source(cell) for cell in cells]
        self.names = [_in_words(cell, index) for index, cell in enumerate(cells)]
        self.answers = [i for i, cell in enumerate(cells) if _about(cell).startswith("solution-")]
        self.own = [i for i, text in enumerate(self.sources) if text not in given]


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
        re.search(rf"course\.check\(\s*['\"]{re.escape(number)}['\"]", source(cell))
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


def source(cell):
    """The text of a cell, which a file may hold as a list of lines."""
    text = cell.get("source")
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def checks_handed_out(path):
    """{number: the expression of its answer} of the original notebook. Raises DataError if it has none."""
    calls = [node for cell in cells_of(path) for node in _calls(cell)]
    checks = {str(node.args[0].value): ", ".join(map(ast.unparse, node.args[1:])) for node in calls}
    unknown = [number for number in checks if number not in EXERCISES]
    if unknown or not checks:
        wrong = f"an exercise {unknown[0]} that is not in this version" if unknown else "no check cell"
        raise DataError(f"{path} has {wrong}: give the original notebook, from notebooks/.")
    return checks


def _calls(cell):
    """The calls of `tv.course.check` in a check cell."""
    try:
        nodes = ast.walk(ast.parse(source(cell))) if _about(cell).startswith("check-") else ()
    except SyntaxError:
        return []
    return [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "tv.course.check"]


def cells_of(path):
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
