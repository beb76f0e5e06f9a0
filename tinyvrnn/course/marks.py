"""The table of a class's marks, and the forms of it that Moodle and Canvas import."""

import csv
import io
import os
import re

from tinyvrnn.course.exercises import EXERCISES, NOTEBOOKS, chapter_of
from tinyvrnn.errors import ConfigError
from tinyvrnn.io.files import given_path, write_atomically

# How they name what they let an instructor download, in front of the notebook's own name.
MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_file_?")
CANVAS = re.compile(r"(?P<name>.+?)(_LATE)?_(?P<id>\d+)_\d+")


class Table:
    """The table of marks, in its file; with `resume`, the rows that are there stay."""

    def __init__(self, path, checks, resume):
        self._path, self.rows = path, {}
        self._points = {number: EXERCISES[number].points for number in checks}
        self._fields = ["student", *checks, "total", "of", "remark"]
        if path.exists():
            self._keep_rows(resume)

    def _keep_rows(self, resume):
        if not resume:
            raise ConfigError(f"{self._path} exists: give --resume to keep its rows, or another --out.")
        fields, rows = _read(self._path)
        if fields != self._fields:
            columns = ",".join(self._fields)
            raise ConfigError(f"{self._path} is not a table of this notebook, {columns}: give another --out.")
        self.rows = {row["student"]: row for row in rows if None not in row.values()}  # a cut row is none

    def add(self, student, points, remark):
        """Write the table with one more row. Returns (total, maximum, remark)."""
        total, most = sum(points.values()), sum(self._points.values())
        self.rows[student] = {"student": student} | points | {"total": total, "of": most, "remark": remark}
        rows = ([self.rows[student][field] for field in self._fields] for student in sorted(self.rows))
        _write(self._path, [self._fields, *rows])
        return total, most, remark

    def notes(self):
        """A sentence on totals that were corrected by hand without their points, or the points without them."""
        odd = [student for student, row in self.rows.items() if row["total"] != self._sum(row)]
        return [f"{self._path} keeps totals that are not the sums of their points: {', '.join(odd)}"] if odd else []

    def _sum(self, row):
        try:
            return f"{sum(float(row[number]) for number in self._points):g}"
        except ValueError:
            return row["total"]


def export(report, moodle=None, canvas=None):
    """Write the totals of a table in the form that Moodle imports, and in Canvas's."""
    fields, rows = _read(given_path(report))
    chapter = chapter_of(fields[1])
    title = f"{chapter} {NOTEBOOKS[chapter]}"
    if moodle:
        _write(moodle, _for_moodle(rows, title))
    if canvas:
        _write(canvas, _for_canvas(rows, title))


def _for_moodle(rows, title):
    """The assignment's grading worksheet for students as Moodle names them, else a table for its grade book."""
    named = [MOODLE.fullmatch(row["student"]) for row in rows]
    if not all(named):
        return [["username", title, "feedback"], *([r["student"], r["total"], r["remark"]] for r in rows)]
    head = ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"]
    return [head] + [
        [f"Participant {match['id']}", match["name"], row["total"], row["of"], "-", row["remark"]]
        for match, row in zip(named, rows, strict=True)
    ]


def _for_canvas(rows, title):
    """A table for the grade book. Students are known by Canvas's own number, or else by their login."""
    table = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title]]
    table += [["    Points Possible", "", "", "", "", rows[0]["of"]]]
    for row in rows:
        match = CANVAS.fullmatch(row["student"])
        who = [match["name"], match["id"], "", ""] if match else [row["student"], "", "", row["student"]]
        table += [[*who, "", row["total"]]]
    return table


def _read(path):
    """(The names of the columns, the rows) of a table, in which a spreadsheet may have left its own marks."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            semicolons = file.readline().startswith("student;")
            file.seek(0)
            reader = csv.DictReader(file, delimiter=";" if semicolons else ",")
            return reader.fieldnames, list(reader)
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table of marks ({error}): save it as CSV in UTF-8.") from None


def _write(path, rows):
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    write_atomically(given_path(path), lambda file: file.write(table.getvalue().encode()))


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
