"""Folders of .csv: a file for each sequence, a line for each step, with or without a header line of names."""

import csv
import io
import re
from array import array

import numpy as np

from tinyvrnn.data.readers.content import Content, progress, read_bytes
from tinyvrnn.data.sequences import FIX, Sequences, are_valid
from tinyvrnn.errors import DataError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
LONGEST = 2**20  # characters in a line


def read(files, split, name, medium):
    """Content of `files` (paths), one sequence a file. Raises DataError, with file and line, for any non-number."""
    sequences, first = [], None
    with progress(files, name) as bar:
        for path in bar:
            names, values = _table(path)
            first = first or (path.name, names, values.shape[1])
            if values.shape[1] != first[2]:
                raise DataError(
                    f"{path.name} has {values.shape[1]} columns, but {first[0]} has {first[2]}: "
                    f"all files of {name} need the same number"
                )
            if names != first[1]:
                raise DataError(
                    f"{path.name} has the columns {_listed(names)}, but {first[0]} has {_listed(first[1])}: "
                    f"use the same columns in all files of {name}"
                )
            sequences.append(values)
    return Content(Sequences.from_list(sequences, name), split)


def _listed(names):
    return f"{', '.join(names)!r:.60}" if names else "no names"


def _table(path):
    """The column names, or None, and the values (T, X) float64. Lines are parsed one by one to save memory."""
    names, numbers, width = None, array("d"), None
    for line, row in _rows(path):
        if width is None:
            names = None if any(NUMBER.fullmatch(cell) for cell in row) else row
            width = len(row)
            if names:
                continue
        numbers.extend(_numbers(row, width, f"{path.name}, line {line}"))
    if not numbers:
        raise DataError(f"{path.name} holds no numbers, but a line for each step is needed: remove the file")
    return names, np.frombuffer(numbers).reshape(-1, width)


def _rows(path):
    """Pairs (number of the row's last line, cells) for the rows that are not empty."""
    try:
        rows = csv.reader(_lines(io.TextIOWrapper(io.BytesIO(read_bytes(path)), "utf-8-sig", newline="")), strict=True)
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield rows.line_num, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path.name}, line {rows.line_num}: {error}, but numbers between commas are needed") from error


def _lines(text):
    """The lines of a text file. Limits their length, because each cell of a line becomes an object."""
    while line := text.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise csv.Error(f"a line of more than {LONGEST:,} characters")
        yield line


def _numbers(row, width, where):
    if len(row) != width:
        raise DataError(f"{where} has {len(row)} columns, but the lines above have {width}: put a number into each")
    for column, cell in enumerate(row, 1):
        if not NUMBER.fullmatch(cell):
            raise DataError(f"{where}, column {column} holds {cell!r:.40}, but a number such as -1.5e3 is needed")
        if not are_valid(float(cell)):
            raise DataError(f"{where}, column {column} holds {cell:.40}, but finite float32 numbers are needed: {FIX}")
    return [float(cell) for cell in row]
