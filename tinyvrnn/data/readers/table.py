"""Folders of .csv: a file for each sequence, a line for each step, with or without a header line of names."""

import csv
import io
import re
import shlex
from array import array
from itertools import chain, islice

import numpy as np

from tinyvrnn.data.readers.content import Content, parsed, read_bytes
from tinyvrnn.data.sequences import Sequences, are_valid, how_to_fix
from tinyvrnn.errors import DataError, counted, shown

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
YEAR = re.compile("(19|20)[0-9]{2}")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
MISSING = ("", "NA")  # cells without a number, as pandas and R write them
LONGEST = 2**20  # characters in a line


def read(files, split, name, medium):
    """Content of `files` (paths), one sequence a file. Raises DataError, with file and line, for any non-number.

    medium: "columns" in it, names, are read in their order, "skip_columns" are left out; the result's has the columns.
    """
    about = str([*(medium.get(key) for key in ("columns", "skip_columns")), bool(are_valid(np.nan))])
    several, heads = zip(*parsed(files, name, lambda path: _table(path, medium), about))
    notes, names = zip(*heads)
    for path, own, values in zip(files, names, several):
        if own != names[0] or values.shape[1] != several[0].shape[1]:
            raise DataError(
                f"{path.name} has {_listed(own, values)}, but {files[0].name} has {_listed(names[0], several[0])}: "
                f"all files of {name} need the same"
            )
    known = None if names[0] is None else {"columns": names[0]}
    return Content(Sequences.from_list(several, name), split, medium=known, notes=tuple(notes[0]))


def _listed(names, values):
    return f"the columns {', '.join(names)!r:.60}" if names else f"{values.shape[1]} columns without names"


def _notes(first, names, values):
    """What was decided about the first line, and doubts about columns. names: those that are read, or None."""
    line = f"the first line, {', '.join(first)!r:.40}, is taken for"
    if names is None:
        whole = len({*first}) == len(first) > 1 and all(map(str.isdecimal, first))
        if whole and ((values[1:] % 1 > 0).any() or all(map(YEAR.fullmatch, first))):
            yield f"{line} data, not for names of columns"
        if len(first) == 2 and not (values % 1).any() and (values[:, 1] > 9).any():
            yield "two columns of whole numbers are read: write decimals with a point if their comma was a decimal one"
        return
    if "" in first:
        index = "the first column has no name, like an index that pandas writes, and"
        yield f"{'a column without a name' if first[0] else index} is left out"
    if any(NUMBER.fullmatch(cell) for cell in first):
        yield f"{line} names of columns, as pandas writes them"
    for name, column in zip(names, values.T) if len(values) > 2 and len(names) > 1 else ():
        if (np.diff(column) == 1).all():
            option = shlex.quote('"{}"'.format(name.replace('"', '""')) if "," in name else name)
            yield f"the column {name!r:.40} counts the steps: leave it out with --skip-columns {shown(option)}"
        elif _numbers_series(column):
            parts = f"groupby({name!r:.40}): x.drop(columns={name!r:.40}).to_csv(f'parts/{{i}}.csv', index=False)"
            how = f"if it numbers series, give each a file, by for i, x in table.{parts}"
            yield f"the column {name!r:.40} is constant over many steps: {how}"


def _numbers_series(column):
    """Whether a column (T,) holds whole numbers, each in one run of steps, of five or more on average."""
    runs = 1 + (np.diff(column) != 0).sum()
    return 1 < runs <= len(column) / 5 and (column % 1 == 0).all() and len(np.unique(column)) == runs


def _table(path, medium):
    """Values (T, X) float64, and a pair: notes, and names of the columns that are read, or None.

    Lines are parsed one by one to save memory.
    """
    rows, numbers, marks = _rows(path), array("d"), {}
    head = list(islice(rows, 2))
    first = head[0][1] if head else []
    if first and first[0].startswith("#") and first[0] != "#":
        raise DataError(f"{path.name}, line {head[0][0]} begins with #: remove the comment, or # before names")
    names = first if head and _is_head(first, head[-1][1]) else None
    used = _used(names, medium, path.name) if names else range(len(first))
    columns = names or range(1, len(first) + 1)
    if names is None and (medium.get("columns") or medium.get("skip_columns")):
        raise DataError(f"{path.name} has no line of names, but columns can be chosen by name only: add one")
    for line, row in chain(head[names is not None :], rows):
        numbers.extend(_numbers(row, columns, used, f"{path.name}, line {line}", marks))
    if not numbers:
        raise DataError(f"{path.name} holds no numbers, but a line for each step is needed: remove the file")
    values, names = np.frombuffer(numbers).reshape(-1, len(used)), names and [names[j] for j in used]
    return values, ([*_commas(marks, path.name), *_notes(first, names, values)], names)


def _commas(marks, name):
    """A note on decimal commas. marks: the first number with a point, a comma, or one that can mark thousands."""
    if "comma" in marks and "point" in marks:
        raise DataError(f"{name} holds {marks['comma']} and {marks['point']}: mark decimals alike, and no thousands")
    if "thousands" in marks and "comma" not in marks:
        raise DataError(
            f"{name} holds {marks['thousands']}, whose comma can mark decimals or thousands: write a point, or nothing"
        )
    return [f"commas are read as decimal commas, as in {marks['comma']}"] if "comma" in marks else []


def _is_head(row, after):
    """Whether a first row holds names: cells that are no numbers, or the whole numbers by which pandas names columns.

    Such numbers follow the name of an index, which can be empty, or count from 0. But 0, 1 above two whole numbers is
    data.
    """
    numbers = [cell for cell in row if NUMBER.fullmatch(cell) or DECIMAL_COMMA.fullmatch(cell)]
    if row[0] not in numbers:
        return any(cell not in MISSING for cell in row) and all(map(str.isdecimal, numbers))
    from_0 = row == [str(j) for j in range(len(row))]
    return from_0 and (len(row) > 2 or not all(cell.isdecimal() for cell in after))


def _used(names, medium, name):
    """The numbers of the columns to read."""
    twice = [column for column in names if column and names.count(column) > 1]
    if twice:
        raise DataError(f"{name} has two columns with the name {twice[0]!r:.40}: rename one")
    wanted, skipped = medium.get("columns"), medium.get("skip_columns") or ()
    if len({*(wanted or ())}) < len(wanted or ()):
        raise DataError(f"the columns {', '.join(wanted)!r:.80} are asked for, one of them twice: name each once")
    for column in (*(wanted or ()), *skipped):
        if column not in names:
            raise DataError(f"{name} has the columns {', '.join(names)!r:.80}, but the column {column!r:.40} is needed")
    wanted = [column for column in (names if wanted is None else wanted) if column and column not in skipped]
    if not wanted:
        raise DataError(f"no column of {name} is left: choose some with --columns or --skip-columns")
    return [names.index(column) for column in wanted]


def _rows(path):
    """Pairs (number of the row's last line, cells). Raises DataError for an empty line between two rows."""
    try:
        text = io.TextIOWrapper(io.BytesIO(read_bytes(path)), "utf-8-sig", newline="")
        rows, seen, empty = csv.reader(_lines(text), delimiter=_delimiter(path), strict=True), False, None
        for row in rows:
            there = any(row) or row and are_valid(np.nan)  # Excel writes commas alone below a table
            if there and empty:
                raise DataError(f"{path.name}, line {empty} is empty, but each step needs numbers: fill or remove it")
            if there:
                seen = True
                yield rows.line_num, [cell.strip() for cell in row]
            elif seen:
                empty = empty or rows.line_num
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: save it as UTF-8") from error
    except csv.Error as error:
        where = f"{path.name}, line {rows.line_num}"
        raise DataError(f"{where}: {error}, but numbers between commas are needed") from error


def _delimiter(path):
    with open(path, encoding="utf-8-sig") as text:
        first = next(iter(text.read(LONGEST).strip("\n ").splitlines()), "")
    return next((c for c in ";\t" if c in first), ",")


def _lines(text):
    """The lines of a text file. Limits their length, because each cell of a line becomes an object."""
    while line := text.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise csv.Error(f"a line of more than {LONGEST:,} characters")
        yield line if line.strip(" \r\n") else "\n"


def _numbers(row, columns, used, where, marks):
    """The numbers in a row. columns: the names of all columns, or their numbers. marks: of decimals, is filled in."""
    if len(row) != len(columns):
        needed, above = "a number in each is needed, with a point for decimals", f"the lines above have {len(columns)}"
        if isinstance(columns[0], str) and len(row) == len(columns) + 1:
            needed += "; if the first is the name of a row, as R writes it, name its column too (col.names=NA)"
        raise DataError(f"{where} has {counted(len(row), 'column')}, but {above}: {needed}")
    for j in used:
        cell, needed = "nan" if row[j] in MISSING else row[j], None
        if DECIMAL_COMMA.fullmatch(cell):  # in quotes, or between semicolons or tabs
            marks.setdefault("thousands" if THOUSANDS.fullmatch(cell) else "comma", cell)
            cell = cell.replace(",", ".")
        elif "." in cell:
            marks.setdefault("point", cell)
        if not NUMBER.fullmatch(cell):
            needed = _needed(cell, isinstance(columns[j], str))
        elif not are_valid(float(cell)):
            needed = f"finite float32 numbers are needed: {how_to_fix(float(cell))}"
        if needed:
            from_1 = " (counted from 1)" * isinstance(columns[j], int)
            raise DataError(f"{where}, column {columns[j]!r:.40}{from_1} holds {row[j]!r:.40}, but {needed}")
        yield float(cell)


def _needed(cell, is_named):
    """What is needed in place of a cell that is no number."""
    if all(map(NUMBER.fullmatch, re.split(r"\s*\|\s*|\s+", cell))):
        return "commas, semicolons or tabs between numbers are needed"
    if re.fullmatch(r"[+-]?\d[\d.,' ]*", cell, re.ASCII):
        return "a number without marks of thousands is needed"
    missing = ", or nothing, NA or NaN where it is missing" * bool(are_valid(np.nan))
    otherwise = ": correct it, or leave the column out by --skip-columns" * is_named
    return f"a number such as -1.5e3 is needed{missing}{otherwise}"
