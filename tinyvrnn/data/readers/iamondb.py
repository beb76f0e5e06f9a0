"""IAM-OnDB (Liwicki and Bunke, 2005): handwritten lines, lineStrokes/**/*.xml, as steps (dx, dy, pen-up).

A step leads from one point to the next, so a line of n points has n - 1 steps. pen-up is 1 at the last point of a
stroke, as in the code of the paper's authors, but y points downwards here. defusedxml refuses harmful XML: entities,
document types, references to other files.
"""

import re
import warnings

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from tinyvrnn.data.readers.content import Content, at_random, files_of, parsed, read_bytes, unused_lists
from tinyvrnn.data.sequences import Sequences
from tinyvrnn.errors import DataError

# The lists that come with the set: one to train, two to validate, one for the final test.
LISTS = {"trainset.txt": 0, "testset_v.txt": 1, "testset_t.txt": 1, "testset_f.txt": 2}
UNITS = "nats of raw data, dx and dy in units of the whiteboard"
FARTHEST = 10**6  # limit of a coordinate, in units of the whiteboard, whose diagonal is some 10,000


def read(folder):
    """Content of the lines below folder/lineStrokes.

    The lists beside lineStrokes give the split, and lines in none of them are skipped. Without lists the split is
    random by form, so the lines of a page stay together. Raises DataError for invalid files and lists.
    """
    (files, others), name = files_of(folder / "lineStrokes", (".xml",)), folder.resolve().name
    if not files:
        raise DataError(f"{folder} has no .xml in lineStrokes: unpack the set's lineStrokes-all.tar.gz there")
    split, how = _split_of_lists(folder, files), None
    if split is None:
        how = "split at random by form, 80 / 10 / 10 per cent"
        forms, form = np.unique([_form(path) for path in files], return_inverse=True)
        split = at_random(len(forms), name, "form")[form]
    files, split = [p for p, k in zip(files, split) if k >= 0], split[split >= 0]
    several = [x for x, _ in parsed(files, name, lambda path: (_steps(path, path.relative_to(folder)), None))]
    lines = Sequences.from_list(several, name)
    notes = unused_lists([*others, *(p for p in sorted(folder.glob("*.txt")) if p.name not in LISTS)])
    source = f"the folder {name}, {len(files)} lines in the form of IAM-OnDB"
    return Content(lines, split, kind="pen", scale="authors", source=source, units=UNITS, notes=notes, how=how)


def _form(path):
    """The form of a line's file: a01-000u for a01-000u-03.xml."""
    return path.stem.rpartition("-")[0]


def _split_of_lists(folder, files):
    """(N,) 0 train, 1 valid, 2 test, -1 for files in none of the lists; None without lists."""
    ids = {name: _ids(folder / name) for name in LISTS if (folder / name).is_file()}
    if not ids:
        return None
    missing = [name for name in ("trainset.txt",) if name not in ids]
    missing += ["testset_v.txt"] * (not ids.keys() & {"testset_v.txt", "testset_t.txt"})
    if missing:
        raise DataError(f"{folder} has {', '.join(ids)} but no {' and no '.join(missing)}: add it, or remove all lists")
    forms = {_form(path) for path in files}
    split_of = {form: _in_lists(form, forms, ids) for form in forms}
    return np.array([split_of[_form(path)] for path in files])


def _ids(path):
    """The forms in a list, one in each line, such as a01-000u."""
    ids = read_bytes(path).decode("latin1").split()
    for one in ids:
        if not re.fullmatch(r"[a-z]\d\d-\d{3}[a-z]?", one):
            raise DataError(f"{path.name} holds {one!r:.40}, but forms such as a01-000u are needed, one in each line")
    return set(ids)


def _in_lists(form, forms, ids):
    """The split of a form, -1 if it is in no list. a01-000 in a list means a01-000u if there is no form a01-000."""
    bare = form.rstrip("abcdefghijklmnopqrstuvwxyz")
    for wanted in (form, *({bare} - forms)):
        splits = {LISTS[name] for name, known in ids.items() if wanted in known}
        if len(splits) > 1:
            raise DataError(f"the form {wanted} is in lists of more than one split: take it out of all but one")
        if splits:
            return splits.pop()
    return -1


def _steps(path, where):
    """(T, 3) int32 steps (dx, dy, pen-up) of the points of one file."""
    strokes = [[_point(point, where) for point in stroke.iter("Point")] for stroke in _tree(path, where).iter("Stroke")]
    strokes = [stroke for stroke in strokes if stroke]
    points = np.array([point for stroke in strokes for point in stroke], dtype=np.int32).reshape(-1, 2)
    if len(points) < 2:
        raise DataError(f"{where} holds {len(points)} points, but a line needs at least two: remove the file")
    lifted = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in strokes])
    return np.column_stack([np.diff(points, axis=0), lifted[1:]]).astype(np.int32)


def _point(point, where):
    at = point.get("x"), point.get("y")
    for value in at:
        if value is None or not re.fullmatch(r"-?\d{1,7}", value, re.ASCII) or abs(int(value)) > FARTHEST:
            raise DataError(f"{where} has a point at {at!r:.50}, but whole numbers of at most {FARTHEST:,} are needed")
    return int(at[0]), int(at[1])


def _tree(path, where):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # codecs unfit for text, such as unicode_escape, warn
            return fromstring(read_bytes(path, times=64), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(f"{where} declares a document type or an entity, which could do harm: remove it") from error
    except (ParseError, ValueError, LookupError, RecursionError, Warning) as error:
        raise DataError(f"{where} is not a valid .xml file and may be damaged or truncated: unpack it again") from error
