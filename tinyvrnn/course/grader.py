"""Grades an answer on random arguments: value, shapes, both dtypes, purity and repeatability.

The arguments are drawn when the answer is graded, some of them anew each time, and the right result is computed only
after the answer has run: there is nothing to look up. What is wrong is compared with the mistakes that students make.
"""

import inspect
import secrets
from typing import NamedTuple

import numpy as np

from tinyvrnn.course import sandbox
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.gradcheck import rel_error
from tinyvrnn.noise import generator

SEEDS, FRESH = range(6), 2  # draws that are always the same, and draws anew
TOL_FLOAT32 = 2e-3  # float32 has 7 digits, and sums that cancel lose some


class Passed(NamedTuple):
    """A right answer. It shows itself in green, with its figures."""

    number: str
    title: str
    figures: str

    def __repr__(self):
        return f"✓ {self.number} {self.title}: right. {self.figures}"

    def _ipython_display_(self):
        """Shown, and not the cell's value, which nbgrader would read as a number of points."""
        from IPython.display import display  # there whenever this is called

        html = (
            f'<div style="border-left: 4px solid #009E73; padding: 4px 10px">'
            f'<b style="color: #009E73">✓ {self.number} {self.title}: right.</b> {self.figures}</div>'
        )
        display({"text/plain": repr(self), "text/html": html}, raw=True)


def grade(number, exercise, answer, trusted=False):
    """Passed, or raises NotYet with a message that teaches. trusted: the answer may call the reference (for tests)."""
    if answer is None or answer is Ellipsis:
        raise NotYet("No answer yet: put your own lines where the stub stands.")
    if isinstance(exercise, Prediction):
        figures = _grade_prediction(exercise, answer)
    else:
        figures = _grade_task(exercise, answer, trusted)
    return Passed(number, exercise.title, figures)


# ---- functions -----------------------------------------------------------------------------------


def _grade_task(exercise, answer, trusted):
    if not callable(answer):
        raise NotYet(f"Expected a function, got {type(answer).__name__}: pass the function itself, without calling it.")
    forbidden = () if trusted else (exercise.reference, *exercise.forbidden)
    worst = {}
    for seed in (*SEEDS, *(secrets.randbits(32) for _ in range(FRESH))):
        arguments = exercise.draw(generator(seed, exercise.title))
        for name, error in _grade_once(exercise, answer, arguments, forbidden, exercise.tol).items():
            worst[name] = max(worst.get(name, 0), error)
    halved = _map_arrays(_to_float32, exercise.draw(generator(SEEDS[0], exercise.title)))
    _grade_once(exercise, answer, halved, forbidden, TOL_FLOAT32)
    agreed = {}
    for name, error in worst.items():
        agreed.setdefault(_decade(error), []).append(name)
    figures = "; ".join(f"{', '.join(names)} to {decade}" for decade, names in agreed.items())
    return f"{len(SEEDS) + FRESH} random draws, float64 and float32: {figures}."


def _grade_once(exercise, answer, arguments, forbidden, tol):
    """Relative errors by name. The answer runs twice, on copies of the arguments; the reference after it."""
    given = _map_arrays(np.copy, arguments)
    first = sandbox.run(answer, given, forbidden)
    _require_unchanged(answer, arguments, given)
    kept = _map_arrays(np.copy, first)
    second = sandbox.run(answer, given, forbidden)
    expected = exercise.reference(*_map_arrays(np.copy, arguments))
    mine, right = _named(kept, exercise.names), _named(expected, exercise.names)
    _require_structure(kept, expected, exercise.names, mine, right)
    wrong = [name for name in right if not _close(mine[name], right[name], tol)]
    if wrong:
        raise NotYet(_diagnose(exercise, arguments, mine, right, wrong, tol))
    _require_dtypes(mine, right)
    again = _named(second, exercise.names)
    if any(not np.array_equal(mine[name], again.get(name), equal_nan=True) for name in mine):
        raise NotYet("Called twice with the same arguments it returns two different results: what does it remember?")
    return {name: rel_error(mine[name], right[name]) for name in right}


def _close(a, b, tol):
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    return rel_error(np.nan_to_num(a), np.nan_to_num(b)) < tol


def _require_unchanged(answer, before, after):
    try:
        names = list(inspect.signature(answer).parameters)
    except (TypeError, ValueError):  # a built-in has no signature to read
        names = []
    names += [f"argument {i}" for i in range(len(names), len(before))]
    changed = [
        path
        for name, a, b in zip(names, before, after)
        for path, x, y in _paired_arrays(a, b, name)
        if not np.array_equal(x, y, equal_nan=True)
    ]
    if changed:
        raise NotYet(
            f"It changes {changed[0]}, which it was only given to read: work on a copy, or write a = a + b for a += b."
        )


def _require_structure(result, expected, names, mine, right):
    if result is None:
        raise NotYet("It returns nothing: does its last line say `return`?")
    if isinstance(expected, tuple) and not (isinstance(result, (tuple, list)) and len(result) == len(expected)):
        got = f"{len(result)} items" if isinstance(result, (tuple, list)) else f"a {type(result).__name__}"
        raise NotYet(f"Expected {len(expected)} results ({', '.join(names)}), got {got}.")
    if mine.keys() != right.keys():
        raise NotYet(f"Expected {', '.join(right)}; got {', '.join(mine) or type(result).__name__}.")
    for name, array in right.items():
        if mine[name].dtype.kind not in "fiub":
            raise NotYet(f"{name} should hold real numbers, got {mine[name].dtype}.")
        if mine[name].shape != array.shape:
            raise NotYet(_about_shape(name, mine[name].shape, array.shape))
        if not np.isfinite(mine[name]).all() and np.isfinite(array).all():
            raise NotYet(f"{name} holds NaN or infinity, from finite arguments: which division or logarithm meets 0?")


def _require_dtypes(mine, right):
    for name, array in right.items():
        if array.dtype.kind == "f" and mine[name].dtype != array.dtype:
            raise NotYet(
                f"{name} has the right values, but is {mine[name].dtype} where the arguments are {array.dtype}: "
                f"which constant, list or new array brings the other type in?"
            )


# ---- what went wrong -----------------------------------------------------------------------------


def _about_shape(name, got, expected):
    hint = ""
    if got == expected[::-1]:
        hint = " It looks transposed."
    elif len(got) < len(expected):
        hint = " An axis is summed over that should stay."
    elif len(got) > len(expected):
        hint = " An axis is left that should be summed over."
    return f"{name} has shape {got}, expected {expected}.{hint}"


def _diagnose(exercise, arguments, mine, right, wrong, tol):
    for mistake in exercise.mistakes:
        theirs = _named(mistake.answer(*_map_arrays(np.copy, arguments)), exercise.names)
        if theirs.keys() == mine.keys() and all(_close(mine[name], theirs[name], tol) for name in wrong):
            return mistake.message
    name = wrong[0]
    a, b = mine[name], right[name]
    fine = [other for other in right if other not in wrong]
    also = f" ({', '.join(fine)} {'is' if len(fine) == 1 else 'are'} right.)" if fine else ""
    return f"{name} {_pattern(a, b, tol)}{also}"


def _pattern(a, b, tol):
    """The relation of a wrong array to the right one, where it has a simple name."""
    if not a.any():
        return "is all zeros: a path by which it matters is missing."
    if _close(a, -b, tol):
        return "has the wrong sign."
    if a.ndim == 2 and a.shape[0] == a.shape[1] and _close(a, b.T, tol):
        return "is the transpose of what it should be."
    big = np.abs(b) > 1e-3 * np.abs(b).max()
    ratio = float(np.median(a[big] / b[big])) if big.any() else 0.0
    if ratio and _close(a, ratio * b, tol):
        return f"is {ratio:.4g} times what it should be: where does that factor come from?"
    where = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
    at = f" at {list(where)}" if where else ""
    share = np.mean(np.abs(a - b) > 1e-6 * np.abs(b).max())
    entries = "" if share == 1 or not where else f" {share:.0%} of its entries are wrong, the others right."
    return f"is wrong{at}: yours is {a[where]:.6g}, right would be {b[where]:.6g}.{entries}"


# ---- predictions ---------------------------------------------------------------------------------


def _grade_prediction(exercise, answer):
    truth = exercise.truth()
    if _same(answer, truth, exercise.tol):
        return f"It is {_said(truth)}."
    for mistake in exercise.mistakes:
        if _same(answer, mistake.answer, exercise.tol):
            raise NotYet(mistake.message)
    raise NotYet(f"{_said(answer)} is not it. {_kind_of_answer(truth)} Run the next cell and compare.")


def _same(a, b, tol):
    if isinstance(b, str):
        return isinstance(a, str) and a.strip().lower() == b.lower()
    if isinstance(b, (set, frozenset)):
        return isinstance(a, (set, frozenset, list, tuple)) and {_lower(v) for v in a} == {_lower(v) for v in b}
    if isinstance(b, (list, tuple)):
        fits = isinstance(a, (list, tuple, np.ndarray)) and len(a) == len(b)
        return fits and all(_same(x, y, tol) for x, y in zip(a, b))
    try:
        return abs(float(a) - float(b)) <= tol * abs(float(b)) + 1e-12
    except (TypeError, ValueError):
        return False


def _lower(value):
    return value.strip().lower() if isinstance(value, str) else value


def _said(value):
    if isinstance(value, (set, frozenset)):
        return ", ".join(sorted(map(str, value)))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _kind_of_answer(truth):
    kinds = {
        str: "A word is expected.",
        set: "A set of words is expected.",
        tuple: "A sequence is expected: order counts.",
    }
    return kinds.get(type(truth), "A number is expected.")


# ---- nested arrays -------------------------------------------------------------------------------


def _map_arrays(function, value):
    """The same nesting of tuples, NamedTuples, lists and dicts, with `function` applied to each array."""
    if isinstance(value, (np.ndarray, np.generic)):
        return function(value)
    if isinstance(value, dict):
        return {key: _map_arrays(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_arrays(function, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_map_arrays(function, item) for item in value)
    return value


def _to_float32(array):
    return array.astype(np.float32) if array.dtype.kind == "f" else np.copy(array)


def _paired_arrays(a, b, path):
    """(path, array of a, array of b) for each array of two equal nestings, e.g. path p["W1"] or cache.h."""
    if isinstance(a, (np.ndarray, np.generic)):
        yield path, a, b
    elif isinstance(a, dict):
        for key in a:
            yield from _paired_arrays(a[key], b.get(key), f'{path}["{key}"]')
    elif isinstance(a, (tuple, list)):
        fields = [f".{field}" for field in a._fields] if hasattr(a, "_fields") else [f"[{i}]" for i in range(len(a))]
        for field, x, y in zip(fields, a, b):
            yield from _paired_arrays(x, y, path + field)


def _named(value, names, prefix=""):
    """{name: array} of a result: an array, a tuple or list of results, or a dict of arrays."""
    if isinstance(value, dict):
        return {f"{prefix}{key}": _array(f"{prefix}{key}", item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        found = {}
        for name, item in zip(names, value):
            found |= _named(item, names, "d") if isinstance(item, dict) else {name: _array(name, item)}
        return found
    return {names[0]: _array(names[0], value)}


def _array(name, value):
    try:
        return np.asarray(value)
    except ValueError:
        raise NotYet(f"{name} should be one array, got a {type(value).__name__} of unlike parts.") from None


def _decade(error):
    """A power of ten above the error, at least 1e-12: digits beyond that differ by machine."""
    return f"1e{int(np.ceil(np.log10(max(error, 1e-12))))}"
