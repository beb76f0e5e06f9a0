"""What a numeric check demands of its arrays and functions; each refusal is one sentence with the way out."""

import math
from contextlib import contextmanager
from itertools import combinations

import numpy as np

from tinyvrnn.arrays.backend import backend_of, to_host
from tinyvrnn.errors import GradientError


def number(f, x):
    """f(x) as a float. Raises GradientError if it is not one finite number."""
    value = f(x)
    try:
        result = float(value.reshape(()) if hasattr(value, "reshape") else value)
    except (TypeError, ValueError):
        what = f"shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
        raise GradientError(f"The function must return one real number, got {what}: return a sum or a mean.") from None
    if not math.isfinite(result):
        raise GradientError(f"The function is {result} where its gradient is checked, or a step h beside it: move x.")
    return result


def require_checkable(name, x):
    """Raise GradientError, one sentence, for an array whose entries cannot be moved one by one."""
    dtype = getattr(x, "dtype", type(x).__name__)
    if dtype != np.float64:
        kind = getattr(dtype, "kind", "")
        advice = {
            "f": "it has too few digits for a difference, so convert it with .astype(float)",
            "c": "check its real and its imaginary part as two inputs",
        }
        what = advice.get(kind, f"convert it with np.asarray({name.replace(' ', '_')}, dtype=float)")
        raise GradientError(f"A numeric check needs float64 arrays, got {dtype}: {name} cannot be checked; {what}.")
    if x.size == 0:
        raise GradientError(f"{name} is empty, of shape {x.shape}, so there is nothing to check: give it entries.")
    repeats = any(stride == 0 and n > 1 for stride, n in zip(getattr(x, "strides", ()), x.shape))
    if repeats or not getattr(getattr(x, "flags", None), "writeable", True):
        why = "holds the same entry several times" if repeats else "is read-only"
        raise GradientError(f"{name} {why}, but each entry must be moved alone: give a copy.")


def require_apart(arguments):
    for (first, x), (second, y) in combinations(arguments.items(), 2):
        on_host = isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
        if x is y or on_host and np.shares_memory(x, y):
            raise GradientError(f"{first} and {second} share memory, but must be moved alone: give copies.")


def require_function(f, x, name):
    """Raise GradientError if f writes into x, or has two values there."""
    with watching("The function", {name: x}):
        first, second = number(f, x), number(f, x)
    if first != second:
        raise GradientError(
            f"Two calls of the function with the same {name} returned {first:.10g} and {second:.10g}: draw its "
            "noise once, before the check."
        )


@contextmanager
def watching(who, arguments):
    """Context: raises GradientError, and restores the argument, if one of the named arrays has changed at its end."""
    before = {name: to_host(array).copy() for name, array in arguments.items()}
    yield
    for name, array in arguments.items():
        if not np.array_equal(to_host(array), before[name], equal_nan=True):
            array[...] = backend_of(array).asarray(before[name])
            raise GradientError(f"{who} changed its argument {name}: it must not write to its arguments.")
