"""A student's own functions: kept as source when they pass, and found again by `mine` in another notebook."""

import ast
import inspect
import math
import symtable
import sys
import textwrap
from types import FunctionType, ModuleType, SimpleNamespace

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


def keep(number, answer):
    """Store the source of a passed function and of what it uses. Returns "", or why it is not stored.

    What is stored has passed the check itself, so it never replaces a source that runs by one that does not.
    """
    try:
        source = _source(answer)
        grade(number, EXERCISES[number], _function(source, _path(number)))
        _path(number).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(number), lambda file: file.write(source.encode()))
    except (OSError, ConfigError) as error:
        return f"its source can't be read, or {_home()} can't be written ({error})"
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
    except NotYet as error:
        why = error
    passed = _kept(number).exists() or progress.read().get(number, {}).get("passed")
    if otherwise is None or passed:
        sentence = f"Your {number} {EXERCISES[number].title}: {why}"
        if otherwise is None:
            raise NotYet(sentence)
        print(f"Not used. {sentence}")
    return otherwise


def _read(number):
    """The function of a kept source."""
    try:
        return _function(_kept(number).read_text(encoding="utf-8"), _kept(number))
    except FileNotFoundError:
        raise NotYet(f"it is missing. Pass its check, which says why if it can't keep it in {_home()}.") from None
    except Exception as error:
        raise NotYet(f"{shown(_kept(number))} does not run ({error}): pass its check again.") from None


def _function(source, path):
    """The function that a source defines last, with the names that the notebooks import."""
    space = _imported()
    exec(compile(source, str(path), "exec"), space)
    function = space[ast.parse(source).body[-1].name]
    for name in {*_names(function.__code__)} - {*space}:
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
    """The exercises whose kept answer is a function of that name."""
    return [path.stem for path in _path("").parent.glob("*.py") if f"def {name}(" in path.read_text(encoding="utf-8")]


def _kept(number):
    """The file of a kept answer, which may have passed under an earlier number."""
    old = (_path(before) for before, now in progress.RENUMBERED.items() if now == number)
    return _path(number) if _path(number).exists() else next(old, _path(number))


def _path(number):
    return progress.path().parent / "answers" / f"{number}.py"


def _home():
    return shown(_path("06.1").parent)


def _source(answer):
    """The source of a function and, before it, of what it uses: functions, constants and imports of its notebook.

    Raises NotYet for a lambda or another object.
    """
    if not isinstance(answer, FunctionType) or answer.__name__ == "<lambda>":
        raise NotYet("write the answer as a function with def.")
    found = {}
    _collect(answer.__name__, answer, found)
    return "\n\n".join(found.values())


def _collect(name, function, found):
    """Add what a function uses, and then its own source, to {name: source}."""
    found[name] = ""  # it is on its way, should it call itself through others
    source = _own(name, function)
    space, usual = function.__globals__ | inspect.getclosurevars(function).nonlocals, _imported()
    for used in sorted(_used(symtable.symtable(source, "answer", "exec")) & {*space} - {*found}):
        value = space[used]
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            _collect(used, value, found)
        elif usual.get(used) is not value:
            found[used] = _line(used, value, _names(function.__code__))
    del found[name]
    found[name] = source


def _used(table):
    """The names that a source takes from outside its functions, in their default values as well."""
    own = {s.get_name() for s in table.get_symbols() if s.is_global() or table.get_type() == "module"}
    return own.union(*map(_used, table.get_children()))


def _own(name, function):
    """The source of a function, and the other name that it has."""
    other = f"\n{name} = {function.__name__}\n" if function.__name__ not in (name, "<lambda>") else ""
    return textwrap.dedent(inspect.getsource(function)) + other


def _line(name, value, names):
    """The line that imports or assigns a value; "" for one that has no short one."""
    if isinstance(value, ModuleType):
        parts = [f"{value.__name__}.{n}" for n in names if f"{value.__name__}.{n}" in sys.modules]
        return "\n".join(f"import {part}" for part in [*parts, f"{value.__name__} as {name}"])
    if type(value) in (bool, int, float, str, tuple, list, dict, set) or isinstance(value, np.generic):
        return f"{name} = {value!r}"
    home = getattr(value, "__module__", None) or "numpy"  # ufuncs of older versions do not say theirs
    original = getattr(value, "__name__", "")
    found = original and getattr(sys.modules.get(home), original, None) is value
    return f"from {home} import {original} as {name}" if found else ""


def _names(code):
    inner = [name for constant in code.co_consts if inspect.iscode(constant) for name in _names(constant)]
    return [*code.co_names, *inner]
