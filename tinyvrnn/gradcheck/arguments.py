"""What a numeric check demands of its arrays and functions; each refusal is one sentence with the way out."""

from contextlib import contextmanager

import numpy as np

from tinyvrnn.arrays.backend import backend_of, to_host
from tinyvrnn.arrays.noise import generator
from tinyvrnn.errors import GradientError, is_number


def number(f, x):
    """f(x) as a float. Raises GradientError for anything but one float64 number."""
    value = f(x)
    shape, kind = getattr(value, "shape", ()), str(getattr(value, "dtype", type(value).__name__))
    if int(np.prod(shape)) != 1:
        raise GradientError(f"The function must return one number, got an array of shape {shape}: return a sum.")
    if kind not in ("float", "float64"):
        raise GradientError(f"The function must return one number of float64, got {kind}: return a float64 sum.")
    return float(value.reshape(()) if shape else value)


def require_callable(**functions):
    for name, function in functions.items():
        if not callable(function):
            what = f"{name} must be a function, got {type(function).__name__}"
            raise GradientError(f"{what}: give it without calling it.")


def require_movable(arrays):
    """Raise GradientError for named arrays whose entries cannot be moved one by one, by small steps."""
    for name, x in arrays.items():
        if problem := _problem(x):
            raise GradientError(f"A numeric check needs float64 arrays, and {name} {problem}.")
    for name, x in arrays.items():
        marks = generator(0, "marks").standard_normal(x.shape)  # all different
        with put_back(arrays) as before:
            x[...] = backend_of(x).asarray(marks)
            changed = [other for other, y in arrays.items() if not np.array_equal(to_host(y), before[other])]
            repeats = not np.array_equal(to_host(x), marks)
        if repeats:
            raise GradientError(f"Entries of {name} share memory, but each must be moved alone: give a copy.")
        if changed != [name]:
            shared = " and ".join(other for other in arrays if other in changed)
            raise GradientError(f"{shared} share memory, but must be moved alone: give copies.")


def _problem(x):
    """Why x cannot be moved, as the end of a sentence, or None."""
    dtype, kind = getattr(x, "dtype", None), type(x).__name__
    if isinstance(x, dict):
        return "is a dict: check its arrays one at a time, or as p, a dict of arrays without further dicts"
    if not isinstance(dtype, np.dtype) or isinstance(x, np.generic):
        return f"is of type {kind}: convert it with np.array(..., dtype='float64')"
    if dtype.kind == "c":
        return f"is {dtype}: check its real and its imaginary part as two inputs"
    if dtype.kind == "f" and dtype != np.float64:
        best = np.finfo(dtype).eps ** (2 / 3)  # where the rounding and the truncation of a difference are equal
        return f"is {dtype}, whose differences agree to about {best:.0e} at best: convert it with .astype('float64')"
    if dtype != np.float64:
        return f"is {dtype}, which has no small steps: convert it with .astype('float64')"
    if x.size == 0:
        return f"is empty, of shape {x.shape}, so there is nothing to check: give it entries"
    if not np.isfinite(to_host(x)).all():
        return "holds NaN or infinity: give finite numbers"
    try:
        x[...] = x
    except ValueError:  # NumPy's, for memory that is read-only
        return "is read-only, as a broadcast array is: give a copy"
    return None


def require_checkable(f, x, name, h):
    """Raise GradientError if x cannot be moved by h, or f writes into x, or is not finite there, or has two values."""
    require_callable(f=f)
    if not (is_number(h) and 1e-9 <= h <= 1):
        raise GradientError(f"The step h must be between 1e-9 and 1, got {h!r}: 1e-5 suits most functions.")
    require_movable({name: x})
    with watching("The function", {name: x}):
        first, second = number(f, x), number(f, x)
    if not np.isfinite(first):
        raise GradientError(f"The function is {first} where its gradient is checked: choose another {name}.")
    if first != second:
        what = f"Two calls of the function with the same {name} returned {first:.10g} and {second:.10g}"
        raise GradientError(f"{what}: draw its noise once, before the check.")


@contextmanager
def put_back(arrays):
    """Context: named arrays hold the same numbers at its end, however it ends. Yields these numbers, on the host."""
    before = {name: to_host(array).copy() for name, array in arrays.items()}
    try:
        yield before
    finally:
        for name, array in arrays.items():
            array[...] = backend_of(array).asarray(before[name])


@contextmanager
def watching(who, arguments):
    """Context: raises GradientError if one of the named arrays has changed at its end, and puts them back."""
    with put_back(arguments) as before:
        yield
        changed = [name for name, array in arguments.items() if not np.array_equal(to_host(array), before[name])]
    if changed:
        raise GradientError(f"{who} changed its argument {changed[0]}: it must not write to its arguments.")
