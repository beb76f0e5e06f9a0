"""Grades an answer on random arguments and hard cases: values, shapes, both dtypes, purity and repeatability.

The same code always gets the same verdict: the arguments are the same for everyone, but for a few draws that depend on
the answer's code. The right result is computed after the answer has run, so it can't be looked up. A wrong result is
compared with common mistakes to find a hint.
"""

import reprlib
from decimal import Decimal
from functools import cache, partial
from numbers import Number
from typing import NamedTuple
from zlib import crc32

import numpy as np

from tinyvrnn.arrays.noise import generator
from tinyvrnn.course import sandbox, tampering
from tinyvrnn.course.array_trees import differences, leaves, map_arrays, named, plain, to_float32
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.gradcheck import rel_error

GREEN = "#00734F"
SEEDS, OTHERS, OWN = range(6), range(6, 10), 2  # seeds for everyone, those that confirm a hint, an answer's own draws
MORE = 4  # calls of a wrong answer, since a few random zeros and ones may be the same twice
TOL_FLOAT32 = 2e-3  # float32 has 7 digits, and cancelling sums lose some
SMALL = {"float32": (1e-3, 1e-6), "float64": (1e-12, 1e-12)}  # beside it: of the largest entry, and of 1
SAME = 5e-4  # a relative difference that is a rounded constant or an added epsilon rather than another formula


class Passed(NamedTuple):
    """A right answer, which displays as a green line.

    number, title: of the exercise. figures: its errors, in words.
    """

    number: str
    title: str
    figures: str

    def __repr__(self):
        return f"✓ {self.number} {self.title}: right. {self.figures}"

    def _ipython_display_(self):
        """Display it without making it the cell's value, which nbgrader would take for points."""
        from IPython.display import display  # always installed where this is called

        title = f'<b style="color: {GREEN}">✓ {self.number} {self.title}: right.</b>'
        html = sandbox.box(GREEN, f"{title} {self.figures}")
        display({"text/plain": repr(self), "text/html": html}, raw=True)


def grade(number, exercise, answer, trusted=False):
    """Passed for a right answer; else raises NotYet with a hint. trusted: the answer may call the reference (tests)."""
    if answer is None or answer is Ellipsis:
        raise NotYet(sandbox.NOT_WRITTEN)
    if isinstance(exercise, Prediction):
        figures = _grade_prediction(exercise, answer)
    else:
        with sandbox.brief_output():
            figures = _grade_task(exercise, answer, trusted)
    return Passed(number, exercise.title, figures)


# ---- functions -----------------------------------------------------------------------------------


def _grade_task(exercise, answer, trusted):
    if not callable(answer):
        raise NotYet(f"Expected a function, got {type(answer).__name__}: pass the function itself, without calling it.")
    if sandbox.untouched(answer):
        raise NotYet(sandbox.NOT_WRITTEN)
    forbidden = () if trusted else (exercise.reference, *exercise.forbidden, *_authors(exercise))
    draws, worst = _draws(exercise, answer), {}
    for what, arguments in draws:
        try:
            errors = _grade_once(exercise, answer, arguments, forbidden)
        except NotYet as error:
            if str(error) == sandbox.NOT_WRITTEN:
                raise
            raise NotYet(f"With {what}: {error}" if what else str(error), arguments) from None
        for name, error in errors.items():
            worst[name] = max(worst.get(name, 0), error)
    agreed = {}
    for name, error in worst.items():
        agreed.setdefault(_decade(error), []).append(name)
    figures = "; ".join(f"{', '.join(names)} to {decade}" for decade, names in agreed.items())
    return f"{len(draws)} cases, float64 and float32: {figures}."


def _draws(exercise, answer):
    """(what is hard about it or "", arguments) of each case: ordinary ones first, whose hints are the clearest."""
    own = [crc32(f"{k} {_code(answer)}".encode()) for k in range(OWN)]
    draws = [("", exercise.draw(generator(seed, exercise.title))) for seed in (*SEEDS, *own)]
    hard = list(exercise.hard(generator(0, exercise.title)).items()) if exercise.hard else []
    halved = [(what, map_arrays(to_float32, arguments)) for what, arguments in (draws[0], *hard)]
    return [*draws, *hard, *((f"{what} in float32" if what else "float32 numbers", a) for what, a in halved)]


def _code(answer):
    """The bytecode of an answer, the same in each session."""
    code = getattr(answer, "__code__", None)
    return code.co_code.hex() if code else type(answer).__name__


def _authors(exercise):
    """The functions behind the mistakes; called with other arguments, some of them are the answer."""
    answers = [mistake.answer for mistake in exercise.mistakes]
    return [answer for answer in answers if str(getattr(answer, "__module__", "")).startswith("tinyvrnn.course.")]


def _grade_once(exercise, answer, arguments, forbidden):
    """Relative errors by name. The answer runs twice on copies of the arguments, and then the reference."""
    copies = map_arrays(np.copy, arguments)
    first = _run(exercise, answer, copies, forbidden)
    _require_unchanged(answer, arguments, copies)
    second = _run(exercise, answer, copies, forbidden)
    _require_originals()
    expected, right = _right(exercise, arguments)
    single = any(array.dtype == np.float32 for array in right.values())
    tol = TOL_FLOAT32 if single else exercise.tol
    mine, again = (_arrays_like(right, result, expected, exercise.names) for result in (first, second))
    _require_equal(mine, again)
    if not all(_close(mine[name], right[name], tol) for name in right):
        for _ in range(MORE):
            _require_equal(
                mine, _arrays_like(right, _run(exercise, answer, copies, forbidden), expected, exercise.names)
            )
        elsewhere = cache(partial(_on_other_draws, exercise, answer, forbidden))
        raise NotYet(_diagnose(exercise, arguments, mine, right, tol, elsewhere))
    if exercise.dtypes:
        _require_dtypes(mine, right)
    return {name: _error(mine[name], right[name]) for name in right}


def _require_equal(mine, again):
    if any(not np.array_equal(mine[name], again[name], equal_nan=True) for name in mine):
        raise NotYet(
            "Called twice with the same arguments it returns two different results: does it draw random numbers, "
            "remember an earlier call, or leave entries of np.empty unset?"
        )


def _error(a, b):
    """The relative error; 0 where all is 0, beside which a rounding error has no ratio."""
    return rel_error(a, b) if b.any() else 0.0


def _right(exercise, arguments):
    """The result of the reference, and its arrays by name."""
    with np.errstate(all="ignore"):
        expected = plain(exercise.reference(*map_arrays(np.copy, arguments)))
    return expected, {name: np.asarray(leaf) for name, leaf in named(expected, exercise.names).items()}


def _on_other_draws(exercise, answer, forbidden):
    """Arguments of other ordinary draws, the answer's arrays by name (none if it fails), and the right ones."""
    draws = []
    for seed in OTHERS:
        arguments = exercise.draw(generator(seed, exercise.title))
        expected, right = _right(exercise, arguments)
        try:
            result = sandbox.run(answer, map_arrays(np.copy, arguments), forbidden)
            draws.append((arguments, _arrays_like(right, result, expected, exercise.names), right))
        except NotYet:
            draws.append((arguments, {}, right))
    return draws


def _run(exercise, answer, arguments, forbidden):
    try:
        return sandbox.run(answer, arguments, forbidden)
    except sandbox.Raised as raised:
        if not isinstance(raised.error, (ValueError, IndexError)):  # what NumPy raises for shapes that do not fit
            raise
        raise NotYet(f"{raised}{_about_arguments(exercise, answer, arguments)}") from None


def _require_originals():
    name = tampering.replaced()
    if name:
        raise NotYet(
            f"{name} is no longer the original function: a line of this notebook replaces it. "
            f"Remove that line and restart the kernel."
        )


def _require_unchanged(answer, before, after):
    changed = [
        path
        for name, a, b in zip(sandbox.parameter_names(answer, len(before)), before, after)
        for path in differences(a, b, name)
    ]
    if changed:
        raise NotYet(
            f"It changes {changed[0]}, but must not modify its arguments: "
            f"work on a copy, or write a = a + b for a += b."
        )


def _arrays_like(right, result, expected, names):
    """{name: array} of a result. Raises NotYet unless it has the names and shapes of the right one."""
    result = _unstacked(result, expected)
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


def _unstacked(result, expected):
    """The parts of one array that holds all that a tuple should hold, else the result."""
    if isinstance(result, np.ndarray) and isinstance(expected, tuple) and result.shape[:1] == (len(expected),):
        return tuple(result) if all(np.shape(part) == result.shape[1:] for part in expected) else result
    return result


def _require_structure(result, expected, names):
    if result is None:
        raise NotYet("On these arguments it returns nothing: does it end in `return`, in every branch?")
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
    """Raise NotYet unless dicts are where expected, with the right keys. items: (name, student's, right one)."""
    mine, right = ([isinstance(item[i], dict) for item in items] for i in (1, 2))
    if mine != right and sorted(mine) == sorted(right):
        raise NotYet(f"The results are in the wrong order: expected {', '.join(names)}.")
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
    """A value that a student's function returned, in a few words."""
    if isinstance(value, np.ndarray):
        return type(value.item()).__name__ if value.dtype == object and not value.ndim else f"an array of {value.dtype}"
    return "None" if value is None else type(value).__name__


def _array(name, value, right):
    """A leaf as an array. A Python int or float has no precision, so it takes the dtype of the right result."""
    dtype = right.dtype if type(value) in (int, float) and right.dtype.kind == "f" else None
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)
    except OverflowError:  # an int beyond all floats
        return np.asarray(np.inf)
    except ValueError:
        raise NotYet(
            f"{name} should be one array, got a {type(value).__name__} of parts of different shapes."
        ) from None


def _require_dtypes(mine, right):
    for name, array in right.items():
        if array.dtype.kind != "f" or mine[name].dtype == array.dtype:
            continue
        if array.dtype == np.float32 and mine[name].dtype == np.float64:
            raise NotYet(
                f"{name} has the right values, but float32 came out as float64: write float(...) around a NumPy scalar "
                f"such as np.log(2 * np.pi), and give integers and new arrays the dtype of the arguments."
            )
        raise NotYet(
            f"{name} has the right values, but is {mine[name].dtype} while the arguments are {array.dtype}: which "
            f"line changes the dtype?"
        )


def _close(a, b, tol):
    return a.shape == b.shape and not _apart(a, b, tol).any()


def _apart(a, b, tol):
    """Which entries differ: each has its own tolerance, which allows for cancellation beside the largest entries."""
    a, b = np.asarray(a, dtype=float), np.asarray(b)
    of_largest, least = SMALL["float32" if b.dtype == np.float32 else "float64"]
    finite = np.isfinite(b)
    top = np.abs(b[finite]).max() if finite.any() else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(a - b) <= tol * np.abs(b) + of_largest * tol * top + least
    return ~np.where(finite, near, (a == b) | np.isnan(a) & np.isnan(b))


# ---- diagnosis -----------------------------------------------------------------------------------


def _about_shape(name, mine, right):
    got, expected, hint = mine[name].shape, right[name].shape, ""
    shapes = [(mine[other].shape, right[other].shape) for other in right]
    turned = all(a in (b, b[::-1]) for a, b in shapes)
    if sorted(a for a, _ in shapes) == sorted(b for _, b in shapes) and not turned:
        hint = f" The shapes are right but in the wrong order: expected {', '.join(right)}."
    elif sorted(got) == sorted(expected):
        hint = " It looks transposed."
    elif len(got) > len(expected) and _longer_axes(got) == _longer_axes(expected):
        extra = len(got) - len(expected)
        hint = (
            f" It has {'an axis' if extra == 1 else f'{extra} axes'} of length 1 too many: keepdims, or an index None?"
        )
    elif expected and got == 2 * expected:
        hint = f" It has kept an axis that should be gone, or {expected} and {(*expected, 1)} were broadcast to {got}."
    elif len(got) != len(expected) and np.prod(got) == np.prod(expected):
        hint = f" It holds as many numbers as expected, in {'fewer' if len(got) < len(expected) else 'more'} axes."
    elif len(got) < len(expected):
        hint = " It has lost an axis that should stay."
    elif len(got) > len(expected):
        hint = " It has kept an axis that should be gone."
    return f"{name} has shape {got}, expected {expected}.{hint}"


def _longer_axes(shape):
    return [n for n in shape if n != 1]


def _about_arguments(exercise, answer, arguments):
    """A hint with the arguments' shapes, and a note if the number of leading axes varies."""
    names = sandbox.parameter_names(answer, len(arguments))
    shapes = [
        f"{path} {array.shape}"
        for name, value in zip(names, arguments)
        for path, array in leaves(value, name)
        if np.ndim(array)
    ]
    draws = [map_arrays(np.ndim, exercise.draw(generator(seed, exercise.title))) for seed in SEEDS]
    varies = any(draw != draws[0] for draw in draws)
    also = " Other draws have more or fewer axes in front, (B,) or (T, B): count axes from the end." if varies else ""
    return f" Here the shapes are {', '.join(shapes)}.{also}" if shapes else ""


def _diagnose(exercise, arguments, mine, right, tol, elsewhere):
    """The hint of the mistake that gives exactly these results, else a description of the difference."""
    for mistake in exercise.mistakes:
        if _explains(mistake, exercise, arguments, mine, tol) and all(
            not others or _explains(mistake, exercise, there, others, exercise.tol, _or_nan)
            for there, others, _ in elsewhere()  # on one draw, several mistakes can give the same numbers
        ):
            return mistake.message
    with np.errstate(all="ignore"):
        return _describe(mine, right, tol, elsewhere)


def _or_nan(v):
    """Overflow is NaN or infinity, depending on how a formula is written."""
    return np.where(np.isfinite(v), v, np.nan)


def _explains(mistake, exercise, arguments, mine, tol, seen=np.asarray):
    try:
        with np.errstate(all="ignore"):
            theirs = named(plain(mistake.answer(*map_arrays(np.copy, arguments))), exercise.names)
    except Exception:  # a mistake need not work on each hard case
        return False
    return all(name in theirs and _close(seen(mine[name]), seen(theirs[name]), tol) for name in mine)


def _describe(mine, right, tol, elsewhere):
    wrong = [name for name in right if not _close(mine[name], right[name], tol)]
    for name in wrong:
        if (np.isfinite(right[name]) & ~np.isfinite(mine[name])).any():
            nan = np.isnan(mine[name][np.isfinite(right[name])]).any()
            return f"{name} holds NaN or infinity where a number should be: {_NAN if nan else _INFINITE}"
    if _shuffled(mine, right, tol):
        return f"The results are in the wrong order: expected {', '.join(right)}."
    name = min(wrong, key=lambda name: np.mean(_apart(mine[name], right[name], tol)))
    fine = [other for other in right if other not in wrong]
    also = f" ({', '.join(fine)} {'is' if len(fine) == 1 else 'are'} right.)" if fine else ""
    return f"{name} {_pattern(name, mine, right, tol, elsewhere)}{also}"


_INFINITE = "which exp overflows, or which division or logarithm meets 0?"
_NAN = (
    "which exp overflows, which division or logarithm meets 0, which root or logarithm gets a negative number, or "
    "which entry is NaN from the start?"
)


def _shuffled(mine, right, tol):
    """Whether the results are the right ones in another order."""

    def within(some, others):
        return all(any(_close(a, b, tol) for b in others.values()) for a in some.values())

    return within(mine, right) and within(right, mine)


PATTERNS = {
    "has the wrong sign.": lambda b: -b,
    "is in bits: use the natural logarithm.": lambda b: b / np.log(2),
    "is the square of what it should be.": lambda b: b * b,
    "is the square root of what it should be.": lambda b: np.sqrt(abs(b)),
    "has lost the signs of its entries.": abs,
    "is 1 divided by what it should be.": lambda b: 1 / b,
    "is the transpose of what it should be.": lambda b: b.T,
    "is in the reverse order.": lambda b: b[::-1],
    "is shifted by one: its first entry should come last.": lambda b: np.roll(b, 1, axis=0),
    "is shifted by one: its last entry should come first.": lambda b: np.roll(b, -1, axis=0),
    "holds its own mean in each entry: nothing should be averaged.": lambda b: np.full_like(b, b.mean()),
    "has lost all that is below 0.": lambda b: np.maximum(b, 0),
}


def _pattern(name, mine, right, tol, elsewhere):
    """The relation of a wrong array to the right one, in words."""
    a, b = mine[name], right[name]
    if not a.any():
        path = ": a path of the gradient is missing" if name.startswith(("d", "g_")) else ""
        return f"is {'all zeros' if a.ndim else '0'}{path}."
    for words, change in PATTERNS.items():
        if _everywhere(change, name, mine, right, tol, elsewhere):
            return words
    if a.dtype == np.float32 != b.dtype and _close(a, b.astype(np.float32), TOL_FLOAT32):
        return "is float32 while the arguments are float64: which line changes the dtype?"
    apart = _apart(a, b, tol)
    gap = np.abs(a - b)
    if np.all(gap[apart] <= SAME * np.abs(b[apart])):
        return f"is off by {np.max(gap[apart] / np.abs(b[apart])):.0e} of its value: {_ROUNDED}"
    if not b[apart].any() and gap.max() < 1e-6:
        return f"is {np.max(gap[apart]):.0e} where it should be 0: {_ROUNDED}"
    limit = _limit(name, mine, right, tol, elsewhere)
    if limit:
        return limit
    factor = _factor(name, mine, right, tol, elsewhere)
    if factor:
        return f"is {factor:.4g} times what it should be: where does that factor come from?"
    offset = a - b
    if len(np.unique(b)) > 2 and np.ptp(offset) < 1e-6 * np.abs(offset).max():
        return f"is off by {float(offset.flat[0]):.4g} in each entry: which constant is missing, or too much?"
    where = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(apart, gap, -1)), a.shape))
    at = f" at {list(where)}" if where else ""
    entries = "" if apart.all() or not where else f" {_share(apart)} of its entries are wrong, the others right."
    few = ".6g" if f"{a[where]:.6g}" != f"{b[where]:.6g}" else ".12g"
    return f"is wrong{at}: yours is {a[where]:{few}}, right would be {b[where]:{few}}.{entries}"


_ROUNDED = "is a constant rounded, a small number added, a value clipped, or an array of float32 used?"


def _share(apart):
    return f"{np.mean(apart):.0%}" if np.mean(apart) >= 0.005 else f"{apart.sum()} of {apart.size}"


def _everywhere(change, name, mine, right, tol, elsewhere):
    """Whether a wrong array is a change of the right one, here and on another draw if it has few entries."""

    def here(a, b):
        changed = change(b) if b.ndim else change(b[None])[0]
        return a.shape == np.shape(changed) and not _close(a, b, tol) and _close(a, changed, tol)

    if not here(mine[name], right[name]):
        return False
    _, others, rights = elsewhere()[0]
    return not others or here(others[name], rights[name])


LIMITS = {
    "never rises above {:.4g}, but should": np.minimum,
    "never falls below {:.4g}, but should": np.maximum,
    "never leaves ±{:.4g}, but should": lambda b, c: np.clip(b, -abs(c), abs(c)),
}


def _limit(name, mine, right, tol, elsewhere):
    """In words, the one value that a wrong array has wherever the right one goes further; None if there is none."""
    a, b = (np.asarray(arrays[name], float) for arrays in (mine, right))
    apart = _apart(a, b, tol)
    c = float(a[apart].flat[0])
    for words, change in LIMITS.items():
        if not c or not np.isfinite(c) or apart.all() or not _close(a, change(b, c), SAME):
            continue
        _, others, rights = elsewhere()[0]
        beyond = b[apart]
        if others:
            there = rights[name]
            if not _close(others[name], change(there, c), SAME):
                continue
            beyond = np.concatenate([beyond, there[_apart(others[name], there, tol)]])
        if np.ptp(beyond) > SAME * np.abs(beyond).max():  # different ones: it is no constant in another's place
            return f"{words.format(abs(c) if '±' in words else c)}: is a value clipped, or a small number added?"
    return None


def _factor(name, mine, right, tol, elsewhere):
    """The factor by which a wrong array is a multiple of the right one, or 0.

    One or two numbers are always multiples, or nearly so; then another draw must have the same factor.
    """
    a, b = mine[name], right[name]
    top = np.argmax(np.abs(b))
    ratio = float(a.flat[top] / b.flat[top])
    if not ratio or not _close(a, ratio * b, tol):
        return 0.0
    if len(np.unique(b)) > 2:
        return ratio
    _, others, rights = elsewhere()[0]
    return ratio if name in others and _close(others[name], ratio * rights[name], tol) else 0.0


# ---- predictions ---------------------------------------------------------------------------------


def _grade_prediction(exercise, given):
    _require_originals()
    answer, truth = _pure(given), exercise.truth()
    if _same(answer, truth, exercise.tol):
        return f"It is {_in_words(truth)}."
    for mistake in exercise.mistakes:
        if _same(answer, mistake.answer, exercise.tol):
            raise NotYet(mistake.message)
    known = {word for value in (truth, *(m.answer for m in exercise.mistakes)) for word in _words(value)}
    odd = sorted(_words(answer) - known)
    spelled = f" Is {_in_words(odd[0])} spelled as in the question?" if odd and known else ""
    compare = " Run the next cell and compare." if exercise.next_cell else ""
    raise NotYet(_wrong_kind(answer, truth, given) or f"{_off(answer, truth)}{spelled}{compare}")


def _pure(value):
    """A prediction as frozensets, tuples and Python's numbers; a Fraction or Decimal is a float, as from `packed`."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (set, frozenset)):
        return frozenset(map(_pure, value))
    if isinstance(value, (list, tuple, range)):
        return tuple(map(_pure, value))
    return _number(value) if isinstance(value, (Number, Decimal)) and not isinstance(value, (int, complex)) else value


def _same(a, b, tol):
    if isinstance(b, str):
        return isinstance(a, str) and _lower(a) == b.lower()
    if isinstance(b, (set, frozenset)):
        return isinstance(a, (frozenset, tuple)) and _lowered(a) == _lowered(b)
    if isinstance(b, (list, tuple)):
        return isinstance(a, tuple) and len(a) == len(b) and all(_same(x, y, tol) for x, y in zip(a, b))
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
    """A set of lower-case words and numbers, also in quotes; anything else becomes its repr, which matches nothing."""
    return {_number_or_word(value) if isinstance(value, (str, int, float)) else repr(value) for value in values}


def _number_or_word(value):
    number = _number(value)
    return _lower(value) if number is None else number


def _words(value):
    if isinstance(value, str):
        return {_lower(value)}
    several = isinstance(value, (set, frozenset, list, tuple))
    return {_lower(word) for word in value if isinstance(word, str)} if several else set()


def _in_words(value):
    if isinstance(value, (set, frozenset)):
        return ", ".join(sorted(map(str, value))) or "nothing"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_words, value)) or "nothing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wrong_kind(answer, truth, given):
    """A sentence on the kind of answer expected, if the given one is of another kind; else None."""
    got = f"got {reprlib.repr(given)}"
    if isinstance(truth, (set, frozenset)) and not isinstance(answer, (frozenset, tuple)):
        kind, like = ("words", '{"...", "..."}') if _words(truth) else ("numbers", "{..., ...}")
        return f"A set of {kind} is expected, in braces, even for a single one: {like}; {got}."
    if isinstance(truth, (set, frozenset)) and not _words(truth) and any(_number(w) is None for w in _words(answer)):
        return f"Numbers are expected, without words or quotes: {{..., ...}}; {got}."
    if isinstance(truth, (list, tuple)) and not (isinstance(answer, tuple) and len(answer) == len(truth)):
        return f"{len(truth)} answers are expected, in order, in parentheses: (..., ...); {got}."
    if isinstance(truth, str) and not isinstance(answer, str):
        return f'One word is expected, in quotes: "..."; {got}.'
    if isinstance(truth, (int, float)) and _number(answer) is None:
        bare = " and without quotes" if isinstance(answer, str) else ""
        return f"A number is expected, with a decimal point{bare}: 0.5; {got}."
    return None


def _off(answer, truth):
    """A sentence on how a prediction of the right kind differs from the truth."""
    if isinstance(truth, (set, frozenset)):
        mine, right = _lowered(answer), _lowered(truth)
        missing, foreign = right - mine, mine - right
        if not mine:
            return "The answer is not empty: something belongs in it."
        if missing and foreign:
            return f"{_in_words(answer)}: something is missing, and something does not belong."
        return f"{_in_words(answer)}: " + (
            "right so far, but something is missing." if missing else "something does not belong."
        )
    if isinstance(truth, (list, tuple)):
        right = sum(_same(a, b, 0.0) for a, b in zip(answer, truth))
        return f"{_in_words(answer)}: {right} of {len(truth)} are right."
    if isinstance(truth, str) or _number(answer) != _number(answer):
        return f"{_in_words(answer)} is not right."
    if truth / 2 <= _number(answer) <= 2 * truth:  # a direction here would let a student find it by bisection
        return f"{_in_words(answer)} is not right, but less than a factor of 2 away."
    if _number(answer) < 0 < truth:
        return f"{_in_words(answer)} is too small: should it be negative?"
    return f"{_in_words(answer)} is too {'large' if _number(answer) > truth else 'small'}."


def _decade(error):
    """The power of ten above the error, at least 1e-12, since smaller errors differ between machines."""
    return f"1e{int(np.ceil(np.log10(max(error, 1e-12))))}"
