"""A student's own functions: kept as source when they pass, and found again by `mine` in another notebook."""

import ast
import inspect
import math
import re
import symtable
import sys
import textwrap
from types import FunctionType, ModuleType, NoneType, SimpleNamespace

import numpy as np

from tinyvrnn.course import progress
from tinyvrnn.course.exercise import Prediction
from tinyvrnn.course.exercises import EXERCISES, exercise_number
from tinyvrnn.course.grader import grade
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.errors import ConfigError, shown
from tinyvrnn.io.files import write_atomically
from tinyvrnn.models import equations, particles
from tinyvrnn.nn import activations, gru, linear, mlp

LITERALS = {bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, range, slice, NoneType}


def keep(number, answer):
    """Store the source of a passed function and of what it uses. Returns "", or why it is not stored.

    What is stored has passed the check itself, so it never replaces a source that runs by one that does not.
    """
    if not isinstance(answer, FunctionType) or answer.__name__ == "<lambda>":
        return "write the answer as a function with def"
    found = {}
    try:
        _collect(answer.__name__, answer, found)
        source = "\n\n".join(found.values())
        grade(number, EXERCISES[number], _function(source, "answer"))  # the file may hold another one
        _path(number).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(number), lambda file: file.write(source.encode()))
    except (OSError, ConfigError) as error:  # a source that can't be read, a folder that can't be written
        return str(error)
    except Exception as error:  # of the student's own lines, outside the function that passed
        return f"its source alone does not work: {error}"
    return ""


def mine(number, otherwise=None):
    """Your own answer to an exercise, from any notebook: the function that passed, checked again.

    Parameters
    ----------
    number : str
        Of the exercise, such as "06.1".
    otherwise : object, optional
        Returned where you have no answer, or one that is no longer right.

    Raises
    ------
    NotYet
        It is missing or does not pass, and there is no `otherwise`.
    """
    number = exercise_number(number)
    if isinstance(EXERCISES.get(number), Prediction):  # where grading runs it, no exercise is known
        raise ConfigError(f"{number} is a prediction, of which nothing is kept: give the number of a function.")
    try:
        function = _read(number)
        grade(number, EXERCISES[number], function)
        return function
    except ConfigError:  # there is no folder for answers
        if otherwise is None:
            raise
        return otherwise
    except NotYet as error:
        why = error
    passed = _kept(number).exists() or progress.read().get(number, {}).get("passed")
    if otherwise is None or passed:
        sentence = f"Your {number} {getattr(EXERCISES.get(number), 'title', 'answer')}: {why}"
        if otherwise is None:
            raise NotYet(sentence)
        print(f"Not used. {sentence}")
    return otherwise


def _read(number):
    """The function of a kept source."""
    path = _kept(number)
    try:
        return _function(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise NotYet(f"it is missing. Pass its check: that keeps it in {shown(path.parent)} or says why not.") from None
    except Exception as error:
        raise NotYet(f"{shown(path)} does not run ({error}): pass its check again.") from None


def _function(source, path):
    """The function that a source defines last, with the names that the notebooks import."""
    space = _imported()
    exec(compile(source, str(path), "exec"), space)
    function = space[ast.parse(source).body[-1].name]
    for name in _used(source) - {*space}:
        for other in _defining(name):  # such as 06.1 in 07.2
            space[name] = _read(other)
    return function


def _imported():
    return {
        "np": np,
        "math": math,
        "inf": math.inf,  # as Python writes it
        "nan": math.nan,
        "tv": sys.modules["tinyvrnn"],
        "bernoulli": LIKELIHOODS["bernoulli"],
        "model": SimpleNamespace(likelihood=LIKELIHOODS["bernoulli"]),  # what 07.6 needs of its notebook's model
        "equations": equations,
        "particles": particles,
        "gaussian": gaussian,
        "gru": gru,
        "linear": linear,
        "mlp": mlp,
        "activations": activations,
    }


def _defining(name):
    """The exercises whose kept answer, the function that its file defines last, has that name."""
    kept = {path.stem: path.read_text(encoding="utf-8") for path in _path("").parent.glob("*.py")}
    return [number for number, source in kept.items() if f"\n{source}".rpartition("\ndef ")[2].startswith(f"{name}(")]


def _kept(number):
    """The file of a kept answer, which may have passed under an earlier number."""
    old = (_path(before) for before, now in progress.RENUMBERED.items() if now == number)
    return _path(number) if _path(number).exists() else next(old, _path(number))


def _path(number):
    return progress.path().parent / "answers" / f"{number}.py"


def _collect(name, function, found):
    """Add the functions, constants and imports that a function uses, and then its own source, to {name: source}."""
    found[name] = ""  # it is on its way, should it call itself through others
    source, inner, usual = _own(name, function), inspect.unwrap(function), _imported()
    space = inner.__globals__ | inspect.getclosurevars(inner).nonlocals
    for used in sorted(_used(source) & {*space} - {*found}):
        value = space[used]
        own = isinstance(inspect.unwrap(value), FunctionType)
        if own and value.__module__ in (function.__module__, None):  # None: from `mine`
            _collect(used, value, found)
        elif usual.get(used, usual) is not value:
            found[used] = _line(used, value, source)
    del found[name]
    found[name] = source


def _used(source):
    """The names that a source takes from outside its functions, in their default values as well."""

    def used(table):
        own = {s.get_name() for s in table.get_symbols() if s.is_global() or table.get_type() == "module"}
        return own.union(*map(used, table.get_children()))

    return used(symtable.symtable(source, "answer", "exec"))


def _own(name, function):
    """The source of a function, and the other name that it has."""
    other = f"\n{name} = {function.__name__}\n" if function.__name__ not in (name, "<lambda>") else ""
    return textwrap.dedent(inspect.getsource(function)) + other


def _line(name, value, source):
    """The line that imports or assigns a value; "" for one that has no short one. source: where it is used."""
    if isinstance(value, ModuleType):
        parts = [f"{value.__name__}.{word}" for word in sorted({*re.findall(r"\w+", source)})]
        loaded = [part for part in parts if part in sys.modules]
        return "\n".join(f"import {part}" for part in [*loaded, f"{value.__name__} as {name}"])
    if type(value) in LITERALS or isinstance(value, np.generic):
        return f"{name} = {value!r}"
    home = getattr(value, "__module__", None) or "numpy"  # ufuncs of older versions do not say theirs
    original = getattr(value, "__name__", "")
    found = original and home != "__main__" and getattr(sys.modules.get(home), original, None) is value
    return f"from {home} import {original} as {name}" if found else ""
