"""Grades an answer on random arguments: value, shapes, both dtypes, purity and repeatability.

The arguments are drawn when the answer is graded, some of them anew each time, and the right result is computed only
after the answer has run: there is nothing to look up. What is wrong is compared with the mistakes that students make.
"""

import reprlib
import secrets
from functools import partial
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.course import sandbox, tampering
from tinyvrnn.course.array_trees import map_arrays, named, paired_arrays, to_float32
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.gradcheck import rel_error

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
        raise NotYet(sandbox.NOT_WRITTEN)
    if isinstance(exercise, Prediction):
        figures = _grade_prediction(exercise, answer)
    else:
        figures = _grade_task(exercise, answer, trusted)
    return Passed(number, exercise.title, figures)


# ---- functions -----------------------------------------------------------------------------------


def _grade_task(exercise, answer, trusted):
    if not callable(answer):
        raise NotYet(f"Expected a function, got {type(answer).__name__}: pass the function itself, without calling it.")
    if sandbox.untouched(answer):
        raise NotYet(sandbox.NOT_WRITTEN)
    forbidden = () if trusted else (exercise.reference, *exercise.forbidden, *_authors(exercise))
    worst = {}
    for seed in (*SEEDS, *(secrets.randbits(32) for _ in range(FRESH))):
        arguments = exercise.draw(generator(seed, exercise.title))
        for name, error in _grade_once(exercise, answer, arguments, forbidden, exercise.tol).items():
            worst[name] = max(worst.get(name, 0), error)
    halved = map_arrays(to_float32, exercise.draw(generator(SEEDS[0], exercise.title)))
    _grade_once(exercise, answer, halved, forbidden, TOL_FLOAT32)
    agreed = {}
    for name, error in worst.items():
        agreed.setdefault(_decade(error), []).append(name)
    figures = "; ".join(f"{', '.join(names)} to {decade}" for decade, names in agreed.items())
    return f"{len(SEEDS) + FRESH} random draws, float64 and float32: {figures}."


def _authors(exercise):
    """The functions behind the mistakes: without the mistake, some are the answer."""
    answers = [mistake.answer for mistake in exercise.mistakes]
    return [answer for answer in answers if str(getattr(answer, "__module__", "")).startswith("tinyvrnn.course.")]


def _grade_once(exercise, answer, arguments, forbidden, tol):
    """Relative errors by name. The answer runs twice, on copies of the arguments; the reference after it."""
    given = map_arrays(np.copy, arguments)
    first = _run(exercise, answer, given, forbidden)
    _require_unchanged(answer, arguments, given)
    second = _run(exercise, answer, given, forbidden)
    _require_originals()
    expected, right = _right(exercise, arguments)
    mine, again = (_arrays_like(right, result, expected, exercise.names) for result in (first, second))
    if any(not np.array_equal(mine[name], again[name], equal_nan=True) for name in mine):
        raise NotYet(
            "Called twice with the same arguments it returns two different results: does it draw numbers of its own, "
            "or remember an earlier call?"
        )
    if not all(_close(mine[name], right[name], tol) for name in right):
        elsewhere = partial(_on_another_draw, exercise, answer, forbidden)
        raise NotYet(_diagnose(exercise, arguments, mine, right, tol, elsewhere))
    _require_dtypes(mine, right)
    return {name: rel_error(*_finite(mine[name], right[name])) for name in right}


def _right(exercise, arguments):
    """The reference's result, and its arrays by name."""
    expected = exercise.reference(*map_arrays(np.copy, arguments))
    return expected, {name: np.asarray(leaf) for name, leaf in named(expected, exercise.names).items()}


def _on_another_draw(exercise, answer, forbidden):
    """The answer's and the right arrays by name, for a new draw in float64; nothing where the answer fails."""
    arguments = exercise.draw(generator(secrets.randbits(32), exercise.title))
    expected, right = _right(exercise, arguments)
    try:
        result = sandbox.run(answer, map_arrays(np.copy, arguments), forbidden)
        return _arrays_like(right, result, expected, exercise.names), right
    except NotYet:
        return {}, {}


def _run(exercise, answer, arguments, forbidden):
    try:
        return sandbox.run(answer, arguments, forbidden)
    except sandbox.Raised as raised:
        if not isinstance(raised.error, (ValueError, IndexError)):  # NumPy's, of shapes that do not fit
            raise
        raise NotYet(f"{raised}{_about_arguments(exercise, answer, arguments)}") from None


def _require_originals():
    name = tampering.replaced()
    if name:
        raise NotYet(
            f"{name} is no longer the function that it was: a line of this notebook has put another in its place. "
            f"Take that line out and restart the kernel."
        )


def _require_unchanged(answer, before, after):
    changed = [
        path
        for name, a, b in zip(sandbox.parameter_names(answer, len(before)), before, after)
        for path, x, y in paired_arrays(a, b, name)
        if not np.array_equal(x, y, equal_nan=True)
    ]
    if changed:
        raise NotYet(
            f"It changes {changed[0]}, which it was only given to read: work on a copy, or write a = a + b for a += b."
        )


def _arrays_like(right, result, expected, names):
    """{name: array} of a result that has the names and shapes of the right one; raises NotYet for any other."""
    _require_structure(result, expected, names)
    whole = isinstance(result, list) and not isinstance(expected, tuple)  # one array, as a list of its rows
    leaves = {names[0]: result} if whole else named(result, names)
    if any(leaf is Ellipsis for leaf in leaves.values()):
        raise NotYet(sandbox.NOT_WRITTEN)
    mine = {name: _array(name, leaf, right[name]) for name, leaf in leaves.items()}
    for name, array in right.items():
        if mine[name].dtype.kind not in "fiub":
            raise NotYet(f"{name} should hold real numbers, got {_what(leaves[name])}.")
        if mine[name].shape != array.shape:
            raise NotYet(_about_shape(name, mine, right))
    return mine


def _require_structure(result, expected, names):
    if result is None:
        raise NotYet("It returns nothing: does its last line say `return`?")
    if result is Ellipsis:
        raise NotYet(sandbox.NOT_WRITTEN)
    several = isinstance(result, (tuple, list))
    if isinstance(expected, tuple) and not (several and len(result) == len(expected)):
        got = f"{len(result)} items" if several else f"one {_what(result).removeprefix('an ')}"
        raise NotYet(f"Expected {len(expected)} results ({', '.join(names)}), got {got}.")
    if isinstance(expected, dict) and not isinstance(result, dict):
        raise NotYet(f"Expected a dict of {', '.join(expected)}, got {_what(result)}.")
    if not isinstance(expected, (tuple, dict)) and isinstance(result, (tuple, dict)):
        raise NotYet(f"Expected {names[0]} alone, got a {type(result).__name__} of {len(result)}.")
    items = zip(names, result, expected) if isinstance(expected, tuple) else [("It", result, expected)]
    _require_keys(names, list(items))


def _require_keys(names, items):
    """Dicts where dicts are expected, with the right keys. items: (name, the student's, the right one)."""
    mine, right = ([isinstance(item[i], dict) for item in items] for i in (1, 2))
    if mine != right and sorted(mine) == sorted(right):
        raise NotYet(f"The results stand in another order: expected {', '.join(names)}.")
    for name, item, expected in items:
        if item is Ellipsis:
            raise NotYet(sandbox.NOT_WRITTEN)
        if isinstance(item, dict) != isinstance(expected, dict):
            kind = f"a dict with the keys {', '.join(expected)}" if isinstance(expected, dict) else "an array"
            raise NotYet(f"{name} should be {kind}, got {'a ' * isinstance(item, dict)}{_what(item)}.")
        if isinstance(expected, dict) and item.keys() != expected.keys():
            yours = ", ".join(item) or "none"
            raise NotYet(f"{name} should have the keys {', '.join(expected)}; yours are {yours}.")


def _what(value):
    """A few words for what a student's function returned."""
    if isinstance(value, np.ndarray):
        return type(value.item()).__name__ if value.dtype == object and not value.ndim else f"an array of {value.dtype}"
    return "None" if value is None else type(value).__name__


def _array(name, value, right):
    """The array of a leaf. Python's own numbers have no precision of their own: they take that of the right one."""
    dtype = right.dtype if type(value) in (int, float) and right.dtype.kind == "f" else None
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)
    except ValueError:
        raise NotYet(f"{name} should be one array, got a {type(value).__name__} of unlike parts.") from None


def _require_dtypes(mine, right):
    for name, array in right.items():
        if array.dtype.kind != "f" or mine[name].dtype == array.dtype:
            continue
        if array.dtype == np.float32 and mine[name].dtype == np.float64:
            raise NotYet(
                f"{name} has the right values, but float32 came out as float64: write float(...) around a number of "
                f"NumPy's own, such as np.log(2 * np.pi), and give whole numbers and new arrays the arguments' dtype."
            )
        raise NotYet(
            f"{name} has the right values, but is {mine[name].dtype} where the arguments are {array.dtype}: which "
            f"line makes it so?"
        )


def _close(a, b, tol):
    if a.shape != b.shape or not np.array_equal(_special(a), _special(b), equal_nan=True):
        return False
    return rel_error(*_finite(a, b)) < tol


def _special(a):
    """NaN and infinities as they are, 0 for every number."""
    return np.where(np.isfinite(a), 0.0, a)


def _finite(a, b):
    """Both with 0 where one of them has no number."""
    both = np.isfinite(a) & np.isfinite(b)
    return np.where(both, a, 0.0), np.where(both, b, 0.0)


# ---- what went wrong -----------------------------------------------------------------------------


def _about_shape(name, mine, right):
    got, expected, hint = mine[name].shape, right[name].shape, ""
    shapes = [(mine[other].shape, right[other].shape) for other in right]
    turned = all(a in (b, b[::-1]) for a, b in shapes)
    if sorted(a for a, _ in shapes) == sorted(b for _, b in shapes) and not turned:
        hint = f" The shapes are right in another order: expected {', '.join(right)}."
    elif got == expected[::-1]:
        hint = " It looks transposed."
    elif len(got) < len(expected):
        hint = " An axis is summed over that should stay."
    elif len(got) > len(expected):
        hint = " An axis is left that should be summed over."
    return f"{name} has shape {got}, expected {expected}.{hint}"


def _about_arguments(exercise, answer, arguments):
    """The arguments' shapes; and that leading axes vary, where they do."""
    names = sandbox.parameter_names(answer, len(arguments))
    shapes = [
        f"{path} {array.shape}"
        for name, value in zip(names, arguments)
        for path, array, _ in paired_arrays(value, value, name)
        if array.ndim
    ]
    draws = [map_arrays(np.ndim, exercise.draw(generator(seed, exercise.title))) for seed in SEEDS]
    varies = any(draw != draws[0] for draw in draws)
    also = " Other draws have more or fewer axes in front, (B,) or (T, B): count axes from the end." if varies else ""
    return f" Here the shapes are {', '.join(shapes)}.{also}" if shapes else ""


def _diagnose(exercise, arguments, mine, right, tol, elsewhere):
    """What to tell: the hint of the mistake that gives these results, all of them, or else what is to be seen."""
    for mistake in exercise.mistakes:
        with np.errstate(all="ignore"):
            theirs = named(mistake.answer(*map_arrays(np.copy, arguments)), exercise.names)
        if all(name in theirs and _close(mine[name], np.asarray(theirs[name]), tol) for name in mine):
            return mistake.message
    return _describe(mine, right, tol, elsewhere)


def _describe(mine, right, tol, elsewhere):
    wrong = [name for name in right if not _close(mine[name], right[name], tol)]
    for name in wrong:
        if (np.isfinite(right[name]) & ~np.isfinite(mine[name])).any():
            where = "which exp overflows, or which division or logarithm meets 0?"
            return f"{name} holds NaN or infinity where a number should be: {where}"
    if _shuffled(mine, right, tol):
        return f"The results stand in another order: expected {', '.join(right)}."
    name = min(wrong, key=lambda name: _share(mine[name], right[name], tol))
    fine = [other for other in right if other not in wrong]
    also = f" ({', '.join(fine)} {'is' if len(fine) == 1 else 'are'} right.)" if fine else ""
    return f"{name} {_pattern(name, mine, right, tol, elsewhere)}{also}"


def _shuffled(mine, right, tol):
    """Whether each of the results is one of the right ones, and each of those is there."""

    def within(some, others):
        return all(any(_close(a, b, tol) for b in others.values()) for a in some.values())

    return within(mine, right) and within(right, mine)


def _share(a, b, tol):
    """Which share of the entries is wrong."""
    return np.mean(np.abs(a - b) > max(tol, 1e-6) * np.abs(b).max())


def _pattern(name, mine, right, tol, elsewhere):
    """The relation of a wrong array to the right one, where it has a simple name."""
    a, b = mine[name], right[name]
    if not a.any():
        path = ": a path by which it matters is missing" if name.startswith(("d", "g_")) else ""
        return f"is {'all zeros' if a.ndim else '0'}{path}."
    if _close(a, -b, tol):
        return "has the wrong sign."
    if a.ndim == 2 and a.shape[0] == a.shape[1] and _close(a, b.T, tol):
        return "is the transpose of what it should be."
    factor = _factor(name, mine, right, tol, elsewhere)
    if factor:
        return f"is {factor:.4g} times what it should be: where does that factor come from?"
    where = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(a - b)), a.shape))
    at, share = f" at {list(where)}" if where else "", _share(a, b, tol)
    entries = "" if share == 1 or not where else f" {share:.0%} of its entries are wrong, the others right."
    return f"is wrong{at}: yours is {a[where]:.6g}, right would be {b[where]:.6g}.{entries}"


def _factor(name, mine, right, tol, elsewhere):
    """By what a wrong array is a multiple of the right one, or 0. One or two numbers always are multiples or nearly so:
    then the factor has to be that of another draw too."""
    ratio, entries = _ratio(mine[name], right[name])
    if not ratio or not _close(mine[name], ratio * right[name], tol):
        return 0.0
    if entries > 2:
        return ratio
    others, rights = elsewhere()
    return ratio if name in others and _close(others[name], ratio * rights[name], tol) else 0.0


def _ratio(a, b):
    """The median ratio of the entries that are not small, and how many these are."""
    big = np.abs(b) > 1e-3 * np.abs(b).max()
    return (float(np.median(a[big] / b[big])) if big.any() else 0.0), big.sum()


# ---- predictions ---------------------------------------------------------------------------------


def _grade_prediction(exercise, answer):
    _require_originals()
    answer, truth = _pure(answer), exercise.truth()
    if _same(answer, truth, exercise.tol):
        return f"It is {_said(truth)}."
    for mistake in exercise.mistakes:
        if _same(answer, mistake.answer, exercise.tol):
            raise NotYet(mistake.message)
    known = {word for value in (truth, *(m.answer for m in exercise.mistakes)) for word in _words(value)}
    odd = sorted(_words(answer) - known)
    spelled = f" Is {_said(odd[0])} spelled as in the question?" if odd and known else ""
    raise NotYet(_wrong_kind(answer, truth) or f"{_off(answer, truth)}{spelled} Run the next cell and compare.")


def _pure(value):
    """A prediction in Python's own sets, lists and numbers."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [_pure(item) for item in value] if isinstance(value, (list, tuple)) else value


def _same(a, b, tol):
    if isinstance(b, str):
        return isinstance(a, str) and _lower(a) == b.lower()
    if isinstance(b, (set, frozenset)):
        return isinstance(a, (set, frozenset, list)) and _lowered(a) == _lowered(b)
    if isinstance(b, (list, tuple)):
        return isinstance(a, list) and len(a) == len(b) and all(_same(x, y, tol) for x, y in zip(a, b))
    number = _number(a)
    return number is not None and abs(number - float(b)) <= tol * abs(float(b)) + 1e-12


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _lower(value):
    return value.strip().lower() if isinstance(value, str) else value


def _lowered(values):
    """A set of words or numbers; what cannot be in a set stands there as text, and is like nothing."""
    return {_lower(value) if isinstance(value, (str, int, float)) else repr(value) for value in values}


def _words(value):
    if isinstance(value, str):
        return {_lower(value)}
    several = isinstance(value, (set, frozenset, list, tuple))
    return {_lower(word) for word in value if isinstance(word, str)} if several else set()


def _said(value):
    if isinstance(value, (set, frozenset)):
        return ", ".join(sorted(map(str, value))) or "nothing"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value)) or "nothing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wrong_kind(answer, truth):
    """What kind of answer is expected, where it is another than that given; else nothing."""
    many, given = (set, frozenset, list), f"got {reprlib.repr(answer)}"
    if isinstance(truth, (set, frozenset)) and not isinstance(answer, many):
        kind, like = ("words", '{"...", "..."}') if _words(truth) else ("numbers", "{..., ...}")
        return f"A set of {kind} is expected, in braces, even of a single one: {like}; {given}."
    if isinstance(truth, (list, tuple)) and not (isinstance(answer, list) and len(answer) == len(truth)):
        return f"{len(truth)} answers are expected, in their order, in parentheses: (..., ...); {given}."
    if isinstance(truth, str) and not isinstance(answer, str):
        return f'One word is expected, in quotes: "..."; {given}.'
    if isinstance(truth, (int, float)) and _number(answer) is None:
        return f"A number is expected, with a point for decimals: 0.5; {given}."
    return None


def _off(answer, truth):
    """In which way a prediction of the right kind is not it."""
    if isinstance(truth, (set, frozenset)):
        mine, right = _lowered(answer), _lowered(truth)
        missing, foreign = right - mine, mine - right
        if missing and foreign:
            return f"{_said(answer)}: something is missing, and something does not belong."
        return f"{_said(answer)}: " + (
            "right so far, but something is missing." if missing else "something is too much."
        )
    if isinstance(truth, (list, tuple)):
        right = sum(_same(a, b, 0.0) for a, b in zip(answer, truth))
        return f"{_said(answer)}: {right} of {len(truth)} are right."
    if isinstance(truth, str) or _number(answer) != _number(answer):
        return f"{_said(answer)} is not it."
    return f"{_said(answer)} is too {'large' if _number(answer) > truth else 'small'}."


def _decade(error):
    """A power of ten above the error, at least 1e-12: digits beyond that differ by machine."""
    return f"1e{int(np.ceil(np.log10(max(error, 1e-12))))}"
