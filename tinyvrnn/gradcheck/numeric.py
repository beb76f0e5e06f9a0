"""Numeric checks of hand-written gradients.

A gradient check proves that a backward pass matches its forward pass, not that the forward pass is right: replace sigma
by sigma^2 in both and it still passes. docs/testing.md lists the independent checks of the forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array, backend_of, namespace, to_host
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.errors import GradientError
from tinyvrnn.gradcheck.arguments import number, require_apart, require_checkable, require_function, watching
from tinyvrnn.models.base import Model


class Row(NamedTuple):
    """The entry of one leaf at which the analytic and the numeric gradient differ most.

    Attributes
    ----------
    leaf : str
        Name of the parameter or input.
    index : tuple of int
        Of the entry.
    analytic, numeric : float
        Its two gradients.
    rel_error : float
        Of the whole leaf, see `rel_error`, without the entries of the note.
    note : str
        Which entries a difference could not decide: at a kink (of a rectifier) or within the rounding of the function.
    """

    leaf: str
    index: tuple[int, ...]  # type: ignore[assignment]  # hides tuple.index
    analytic: float
    numeric: float
    rel_error: float
    note: str = ""


def rel_error(a: ArrayLike, b: ArrayLike) -> float:
    """max |a - b| / max(|a|, |b|), with both maxima over all entries; 0 if both arrays are 0.

    The denominator is that of the array, not of the entry: the error of a central difference scales with the function,
    so a correct entry near 0 has no accurate digits and would fail.

    Parameters
    ----------
    a, b : arrays of the same shape
        On the host.

    Returns
    -------
    float
        0 for equal arrays.

    Raises
    ------
    GradientError
        The shapes differ, which broadcasting would hide.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise GradientError(f"Expected two arrays of one shape, got {a.shape} and {b.shape}.")
    difference, size = np.abs(a - b).max(initial=0), max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return float(difference / size) if difference > 0 else float(difference)


def numerical_gradient(f: Callable[[Array], Any], x: Array, h: float = 1e-5, name: str = "x") -> Array:
    """df/dx_i = (f(x + h_i e_i) - f(x - h_i e_i)) / 2 h_i for every entry of x, with h_i = h max(1, |x_i|).

    The error is O(h^2) + O(1e-16 |f| / h).

    Parameters
    ----------
    f : callable
        x -> a scalar, the same in each call.
    x : array of float64
        On any backend; its entries are changed in place and restored, also where f raises.
    h : float
        Half the distance of the two points, relative to entries larger than 1.
    name : str
        Of x, for messages.

    Returns
    -------
    array shaped like x
        The gradient.

    Raises
    ------
    GradientError
        x is not a writable array of float64 with entries of their own, or f returns anything but one finite number,
        gives two answers, or writes into x.
    """
    require_checkable(name, x)
    require_function(f, x, name)
    gradient = namespace(x).zeros_like(x)
    for index in np.ndindex(x.shape):
        gradient[index] = slope(f, x, index, h, h)
    return gradient


def slope(f, x, index, up, down):
    """The slope of f between x + up e_i and x - down e_i, with both distances relative to an entry larger than 1."""
    centre = float(x[index])
    above, below = centre + up * max(1.0, abs(centre)), centre - down * max(1.0, abs(centre))
    try:
        x[index] = above
        f_above = number(f, x)
        x[index] = below
        f_below = number(f, x)
    finally:
        x[index] = centre
    return (f_above - f_below) / (above - below)  # the distance as it was rounded


def check_pair(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    p: Mapping[str, Array] | None,
    *inputs: Array,
    seed: int = 0,
    tol: float = 1e-7,
    h: float = 1e-5,
    each: bool = False,
) -> list[Row]:
    """Check every gradient that `backward` returns, with random upstream gradients of all outputs.

    Parameters
    ----------
    forward : callable
        (p, *inputs) -> outputs, cache. Without parameters: (*inputs) -> outputs, cache.
    backward : callable
        (p, cache, *doutputs) -> dinputs, grads. Without parameters: (cache, *doutputs) -> dinputs.
    p : dict of float64 arrays, or None
        The parameters; None or empty: the pair has none.
    *inputs : arrays of float64
        Where to check.
    seed : int
        Of the upstream gradients.
    tol : float
        Largest relative error allowed, see `rel_error`.
    h : float
        As in `numerical_gradient`.
    each : bool
        Compare each entry by its own size, instead of the size of its leaf's largest entry.

    Returns
    -------
    list of Row
        One for each leaf of p and each input.

    Raises
    ------
    GradientError
        A gradient is wrong (the message names leaf, index and both values), missing or of a wrong shape; `forward` or
        `backward` changes its arguments or returns something else on a second call; or an argument cannot be checked,
        as in `numerical_gradient`, or shares memory with another.
    """
    arguments = {f"input {i}": x for i, x in enumerate(inputs)} | dict(p or {})
    require_apart(arguments)
    run = (lambda: forward(p, *inputs)) if p else (lambda: forward(*inputs))

    def gradients():
        with watching("forward", arguments):
            outputs, cache = run()
        upstream = _random_like(_as_tuple(outputs), seed)
        with watching("backward", arguments | {f"doutput {i}": g for i, g in enumerate(upstream)}):
            first, again = (backward(p, cache, *upstream) if p else (backward(cache, *upstream), {}) for _ in range(2))
            first, again = _named_gradients(*first, arguments), _named_gradients(*again, arguments)
        _require_same(first, again)
        return lambda _: sum(float((g * y).sum()) for g, y in zip(upstream, _as_tuple(run()[0]))), first

    return _check_arrays(arguments, gradients, Demands(tol, h, each))


def check_model(
    model: Model,
    x: Array,
    lengths: ArrayLike | None = None,
    eps: Array | None = None,
    beta: float = 1.0,
    tol: float = 1e-6,
    h: float = 1e-5,
    each: bool = False,
    **options: Any,
) -> list[Row]:
    """Check the gradient of a model's loss for every entry of every leaf.

    Zero biases put rectifiers on their kinks, where a difference cannot decide. If any entry is at one, all are checked
    again with weights moved by about 0.01 to either side, which are restored.

    Parameters
    ----------
    model : Model
        With dtype "float64".
    x, lengths : array (T, B, X), integers (B,)
        As in `VRNN.loss_and_grads`.
    eps : array (T, B, Z)
        Required for a model with latents, since otherwise each call would draw its own.
    beta : float
        Weight of the KL.
    tol : float
        Largest relative error allowed, see `rel_error`.
    h : float
        As in `numerical_gradient`.
    each : bool
        Compare each entry by its own size, instead of the size of its leaf's largest entry.
    **options : various
        Other arguments of `VRNN.loss_and_grads`, such as bound.

    Returns
    -------
    list of Row
        One for each leaf.

    Raises
    ------
    GradientError
        A gradient is wrong; the message names leaf, index and both values. Also for a model of another dtype, and for
        a loss that differs from call to call.
    DataError, ConfigError
        As `VRNN.loss_and_grads`.
    """
    if eps is None and getattr(model, "z_dim", 0):
        raise GradientError("eps is None, so each call would draw other noise: give eps (T, B, Z), drawn once.")

    def loss(_):
        return model.loss_and_grads(x, lengths, eps, beta, **options)[0]

    def gradients():
        _, grads, _ = model.loss_and_grads(x, lengths, eps, beta, **options)
        return loss, dict(leaves(views(grads, model.shapes)))

    return _check_arrays(dict(leaves(model.params)), gradients, Demands(tol, h, each))


class Demands(NamedTuple):
    """How exact a gradient must be: `tol` and `each` as in `check_pair`; h: the step of the differences."""

    tol: float
    h: float
    each: bool = False


def _check_arrays(arrays, gradients, demands):
    """Rows of named arrays; gradients() -> a function of them, as `numerical_gradient` takes it, and name -> gradient.

    Where an entry is at a kink, which a difference cannot decide, all are checked on both sides of it.
    """
    rows = _check_here(arrays, *gradients(), demands)
    if any("kink" in row.note for row in rows):
        for side in (-1, 1):
            try:
                with _moved(arrays.values(), 0.01 * side):
                    _check_here(arrays, *gradients(), demands, moved=True)
            except GradientError:  # another kink may be there, but a mistake is everywhere
                with _moved(arrays.values(), 0.02 * side):
                    _check_here(arrays, *gradients(), demands, moved=True)
    return rows


@contextmanager
def _moved(arrays, distance):
    """Context: the arrays are moved at random by about `distance`, and restored."""
    rng, kept = generator(0, "move"), [(array, array.copy()) for array in arrays]
    try:
        for array, _ in kept:
            array += distance * backend_of(array).asarray(np.asarray(rng.standard_normal(array.shape)))
        yield
    finally:
        for array, before in kept:
            array[...] = before


def _check_here(arrays, f, gradients, demands, moved=False):
    rows = []
    for name, x in arrays.items():
        numeric = numerical_gradient(f, x, demands.h, name)
        scale = 10 * np.finfo(float).eps * abs(number(f, x)) / demands.h
        rounding = scale / np.maximum(1, np.abs(to_host(x)))
        is_kink = partial(_is_kink, f, x, demands.h, moved)
        rows.append(compare(name, gradients[name], numeric, demands.tol, demands.each, rounding, is_kink))
    return rows


def compare(leaf, analytic, numeric, tol, each=False, rounding=0.0, is_kink=lambda *_: False):
    """The Row of the worst entry. Raises GradientError if shapes or dtypes differ, or the relative error reaches tol.

    rounding: the error of `numeric` by rounding, a scalar or an array like it. is_kink: whether a kink of the function
    explains the difference at an entry.
    """
    analytic, numeric = to_host(analytic), to_host(numeric)
    if analytic.shape != numeric.shape:
        raise GradientError(f"{leaf}: the gradient has shape {analytic.shape}, its array {numeric.shape}.")
    if analytic.dtype != np.float64:
        raise GradientError(f"{leaf}: the gradient has dtype {analytic.dtype}, its array float64.")
    error = np.nan_to_num(np.abs(analytic - numeric), nan=np.inf)
    size = np.nan_to_num(np.maximum(np.abs(analytic), np.abs(numeric)), nan=np.inf)
    size = size if each else np.full_like(size, size.max())
    relative = np.divide(error, size, out=error.copy(), where=np.isfinite(error) & (size > 0))
    differ, rounded = ~(relative < tol) & (error > 0), error <= rounding

    def row(index, note=""):
        return Row(leaf, index, float(analytic[index]), float(numeric[index]), float(relative[index]), note)

    kinks, allowed = np.zeros_like(differ), tol * size + 10 * rounding
    for index in sorted(zip(*map(np.ndarray.tolist, np.nonzero(differ & ~rounded))), key=lambda i: -relative[i]):
        if not is_kink(index, analytic[index], numeric[index], allowed[index]):
            raise GradientError(_difference(row(index), tol, "entry" if each else "leaf"))
        kinks[index] = True
    relative[kinks | (differ & rounded)] = 0
    notes = {"at a kink": int(kinks.sum()), "within rounding": int((differ & rounded).sum())}
    worst = np.unravel_index(np.argmax(relative), relative.shape)
    return row(tuple(map(int, worst)), ", ".join(f"{n} {what}" for what, n in notes.items() if n))


def _difference(row, tol, of):
    return (
        f"{row.leaf}{list(row.index)}: analytic {row.analytic:.10g}, numeric {row.numeric:.10g}, "
        f"relative error {row.rel_error:.2e} of the {of}, more than {tol:g}."
    )


def _is_kink(f, x, h, moved, index, analytic, numeric, allowed):
    """Whether a kink of f within h of an entry explains the difference.

    moved: the analytic slope must also be that of a side, or between the sides. With several rectifiers at their kinks
    it need not be, as their derivative there is 0 by convention. allowed: the largest difference without a kink.
    """
    near, difference = h / 10, abs(numeric - analytic)
    off = abs(slope(f, x, index, near, near) - analytic)
    if off < (allowed if moved else difference / 4):
        return True  # it is not at the entry, but near
    right, left = slope(f, x, index, near, 0), slope(f, x, index, 0, near)
    step = right - left - (slope(f, x, index, h, 0) - slope(f, x, index, 0, h)) / 10  # 0 where f is smooth
    low, high = min(left, right) - abs(step) / 100, max(left, right) + abs(step) / 100
    return abs(step) > difference / 10 and (not moved or difference < 2 * abs(step) and low <= analytic <= high)


def _as_tuple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _random_like(arrays, seed):
    rng = generator(seed, "upstream")
    return tuple(backend_of(a).asarray(np.asarray(rng.standard_normal(a.shape))) for a in arrays)


def _named_gradients(dinputs, grads, arguments):
    """{"input 0": dx_0, ..., "W": dW, ...}."""
    gradients = {f"input {i}": d for i, d in enumerate(_as_tuple(dinputs))} | dict(grads)
    gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    if gradients.keys() != arguments.keys():
        raise GradientError(f"backward returned gradients of {sorted(gradients)}, expected {sorted(arguments)}.")
    return gradients


def _require_same(gradients, again):
    for name, gradient in gradients.items():
        if not np.array_equal(to_host(gradient), to_host(again[name]), equal_nan=True):
            raise GradientError(f"backward called twice returned two different gradients of {name}.")
