"""Numeric checks of hand-written gradients.

A gradient check proves that a backward pass matches its forward pass, not that the forward pass is right: replace sigma
by sigma^2 in both and it still passes. docs/testing.md lists the independent checks of the forward passes.

`numerical_gradient` is the whole idea. Where it differs from the analytic gradient, the fault can be that of its step:
too long, too short, or across a kink. So such an entry gets a `second_look` before it is called wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array, backend_of, namespace, to_host
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.errors import GradientError, is_number
from tinyvrnn.gradcheck.arguments import (
    number,
    put_back,
    require_callable,
    require_checkable,
    require_movable,
    watching,
)
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
        How many entries do not count: at a kink (of a rectifier), or undecided, since the error of the difference is
        as large as what it differs by; that a gradient is 0 everywhere; "" if neither.
    """

    leaf: str
    index: tuple[int, ...]  # type: ignore[assignment]  # hides tuple.index
    analytic: float
    numeric: float
    rel_error: float
    note: str = ""


KINK, BESIDE = "at a kink", ", so checked beside it too"  # in a note


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
        The gradient; NaN where f is not finite beside x.

    Raises
    ------
    GradientError
        x is not a writable array of float64 with entries of their own, or f returns anything but one finite number,
        gives two answers, or writes into x.
    """
    require_checkable(f, x, name, h)
    gradient = namespace(x).zeros_like(x)
    with watching("The function", {name: x}), np.errstate(all="ignore"):  # a step can leave the domain of f
        for index in np.ndindex(x.shape):
            gradient[index] = slope(f, x, index, h, h)
    return gradient


def slope(f, x, index, up, down):
    """The slope of f between x + up e_i and x - down e_i, with both distances relative to an entry larger than 1."""
    centre = float(x[index])
    above, below = centre + up * max(1.0, abs(centre)), centre - down * max(1.0, abs(centre))
    x[index] = above
    f_above = number(f, x)
    x[index] = below
    f_below = number(f, x)
    x[index] = centre
    return (f_above - f_below) / (above - below)  # the distance as it was rounded


def second_look(f, x, index, h):
    """df/dx_i from the best of several steps around h; how far it can be off; whether x_i is at a kink.

    A longer step rounds less, a shorter one truncates less: the best agrees most closely with the next shorter one.
    """
    size, rounding = min(abs(float(x[index])), 1.0), 16 * np.finfo(float).eps * abs(number(f, x))
    scales = (1.0, size) if 1e-100 < size < 1e-2 else (1.0,)  # near 0, log(x) needs steps relative to x
    with put_back({"x": x}), np.errstate(all="ignore"):  # long steps can leave the domain of f
        steps = [[scale * h * 10.0**k for k in range(4, -7, -1)] for scale in scales]
        looks = [[_look(f, x, index, step, rounding) for step in series] for series in steps]
    return min(map(_best, looks), key=lambda result: result[1])


def _best(looks):
    """As `second_look`, from looks with shorter and shorter steps."""
    doubts = [2 * abs(long.slope - short.slope) + long.error for long, short in pairwise(looks)]
    best = _smallest([np.inf if short.slope == 0 else doubt for short, doubt in zip(looks[1:], doubts)])
    size, doubt = abs(looks[best].slope), doubts[best]
    # With shorter steps, rounding can make f constant.
    still = next((look for look in looks if look.slope == 0), None)
    if still and not doubt < size / 100:
        if size > 1e8 * still.error:  # no rounding is that large: x_i is on a flat piece
            best = _smallest(doubts)
            doubt = doubts[best]
        else:
            doubt = max(doubt, size)
    return looks[best].slope, doubt, _is_kink(looks, best)


def _smallest(doubts):
    return int(np.argmin(np.nan_to_num(doubts, nan=np.inf)))


class _Look(NamedTuple):
    """slope: with one step. error: of it, by rounding. gap: from the slope on the left to the one on the right."""

    slope: float
    error: float
    gap: float


def _look(f, x, index, step, rounding):
    right, left = slope(f, x, index, step, 0.0), slope(f, x, index, 0.0, step)
    return _Look(slope(f, x, index, step, step), rounding / (step * max(1.0, abs(float(x[index])))), right - left)


def _is_kink(looks, best):
    """Whether the slopes to both sides differ by more than curvature and rounding, and by the same at three steps.

    The gap is c + f'' h at a kink of size c. Two steps give c; a smooth f leaves h^3 of it, and rounding 1/h.
    """
    jumps = [((10 * short.gap - long.gap) / 9, 4 * short.error) for long, short in pairwise(looks)]
    clear = [jump if abs(jump) > rounding else 0.0 for jump, rounding in jumps]
    near_best = list(pairwise(clear))[max(best - 2, 0) : best + 1]
    return any(a * b > 0 and abs(a - b) < abs(a + b) / 20 for a, b in near_best)


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
    tol, h : float
        Largest relative error allowed, see `rel_error`; as in `numerical_gradient`.
    each : bool
        Compare each entry by its own size, instead of the size of its leaf's largest entry.

    Returns
    -------
    list of Row
        One for each leaf of p and each input.

    Raises
    ------
    GradientError
        A gradient is wrong (the message names leaf, index and both values), missing or of a wrong shape, or a
        difference cannot decide any of its entries; `forward` or `backward` changes its arguments or returns something
        else on a second call; or an argument cannot be checked, as in `numerical_gradient`, or shares memory with
        another.
    """
    require_callable(forward=forward, backward=backward)
    if not isinstance(p, Mapping | None):
        what = f"p must be a dict of arrays or None, got {type(p).__name__}"
        raise GradientError(f"{what}: give None and then the inputs.")
    arguments = {f"input {i}": x for i, x in enumerate(inputs)} | dict(p or {})
    require_movable(arguments)

    def run():
        return _outputs_and_cache(forward(p, *inputs) if p else forward(*inputs))

    def gradients():
        with watching("forward", arguments):
            outputs, cache = run()
        rng = generator(seed, "upstream")
        upstream = tuple(backend_of(a).asarray(np.asarray(rng.standard_normal(a.shape))) for a in outputs)
        with watching("backward", arguments | {f"doutput {i}": g for i, g in enumerate(upstream)}):
            results = [backward(p, cache, *upstream) if p else (backward(cache, *upstream), {}) for _ in range(2)]
        first, again = (_named_gradients(result, arguments) for result in results)
        for name in first:
            if not np.array_equal(to_host(first[name]), to_host(again[name]), equal_nan=True):
                raise GradientError(f"backward called twice returned two different gradients of {name}.")
        return lambda _: sum((float((g * y).sum()) for g, y in zip(upstream, run()[0])), start=0.0), first

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
    once more with these biases moved by up to 0.1, and weights by up to 1%, which are put back.

    Parameters
    ----------
    model : Model
        With dtype "float64".
    x, lengths, eps, beta : array (T, B, X), integers (B,), array (T, B, Z), float
        As in `VRNN.loss_and_grads`; a model with latents needs eps, since each call would draw its own.
    tol, h, each : float, float, bool
        As in `check_pair`.
    **options : various
        Other arguments of `VRNN.loss_and_grads`, such as bound.

    Returns
    -------
    list of Row
        One for each leaf.

    Raises
    ------
    GradientError
        A gradient is wrong (the message names leaf, index and both values), or a difference cannot decide any of its
        entries. Also for a model of another dtype, and for a loss that differs from call to call.
    DataError, ConfigError
        As `VRNN.loss_and_grads`.
    """
    if isinstance(model, type) or not hasattr(model, "loss_and_grads"):
        raise GradientError(f"Expected a model, got {type(model).__name__}: a pair of functions goes to check_pair.")
    if getattr(model, "dtype", "float64") != "float64":
        raise GradientError(f"A numeric check needs a float64 model, got {model.dtype}: copy its theta into one.")
    if eps is None and getattr(model, "z_dim", 0):
        raise GradientError("eps is None, so each call would draw other noise: give eps (T, B, Z), drawn once.")

    def loss(_):
        return model.loss_and_grads(x, lengths, eps, beta, **options)[0]

    def gradients():
        _, grads, _ = model.loss_and_grads(x, lengths, eps, beta, **options)
        return loss, dict(leaves(views(grads, model.shapes)))

    return _check_arrays(dict(leaves(model.params)), gradients, Demands(tol, h, each))


class Demands(NamedTuple):
    """`tol`, `h` and `each` of `check_pair`."""

    tol: float
    h: float
    each: bool = False


def _check_arrays(arrays, gradients, demands):
    """Rows of named arrays; gradients() -> a function of them, as `numerical_gradient` takes it, and name -> gradient.

    Where an entry is at a kink, which a difference cannot decide, or no entry of an array was decided, all are checked
    once more on two sides of that point.
    """
    if not (is_number(demands.tol) and demands.tol > 0):
        raise GradientError(f"The tolerance tol must be above 0, got {demands.tol!r}: 1e-6 suits most functions.")
    rows = _check_here(arrays, *gradients(), demands)
    if any(_is_open(row) for row in rows):
        for side in (1, -1):  # a rectifier that is off on one is on on the other
            with _moved(arrays, side):
                beside = _check_here(arrays, *gradients(), demands)
            rows = [_decided(*pair) if _is_open(pair[0]) else pair[0] for pair in zip(rows, beside)]
    for row in rows:
        if np.isnan(row.rel_error):
            raise GradientError(f"{row.leaf}: cannot decide any entry ({row.note}): check at another point or scale.")
    return rows


def _is_open(row):
    return KINK in row.note or bool(np.isnan(row.rel_error))


def _decided(row, beside):
    """The row of a leaf that was also checked beside its point; that second row, if the first decided nothing."""
    note = row.note.removesuffix(BESIDE) + BESIDE
    return (beside if np.isnan(row.rel_error) else row)._replace(note=note)


@contextmanager
def _moved(arrays, side):
    """Context: named arrays are moved at random, by up to 1% or, from 0, by up to 0.1, to side 1 or -1, and back."""
    rng = generator(0, "move")
    with put_back(arrays) as before:
        for name, x in arrays.items():
            most = side * np.where(before[name] == 0, 0.1, 0.01 * before[name])
            x += backend_of(x).asarray(most * rng.uniform(-1, 1, x.shape))
        yield


def _check_here(arrays, f, gradients, demands):
    rows = []
    for name, x in arrays.items():
        look = partial(second_look, f, x, h=demands.h)
        numeric = numerical_gradient(f, x, demands.h, name)
        rows.append(compare(name, gradients[name], numeric, demands.tol, demands.each, look))
    return rows


def compare(leaf, analytic, numeric, tol, each=False, look=None):
    """The Row of the worst entry. Raises GradientError if shapes or dtypes differ, or the relative error reaches tol.

    look(index): a `second_look` at an entry that differs. Entries that it cannot decide do not count.
    """
    analytic, numeric = to_host(analytic), to_host(numeric).copy()
    if analytic.shape != numeric.shape:
        raise GradientError(f"{leaf}: the gradient has shape {analytic.shape}, its array {numeric.shape}.")
    if analytic.dtype != np.float64:
        raise GradientError(f"{leaf}: the gradient has dtype {analytic.dtype}, its array float64.")
    counts, looks, notes = np.ones(analytic.shape, bool), {}, Counter()
    while not (row := _worst(leaf, analytic, numeric, counts, each)).rel_error < tol and counts.any():
        if look and row.index not in looks:
            numeric[row.index], *looks[row.index] = look(row.index)
        else:
            notes[_doubt(row, *looks.get(row.index, (0.0, False)), tol, each)] += 1
            counts[row.index] = False
    error = row.rel_error if counts.any() else np.nan
    if analytic.size and not (analytic.any() or numeric.any()):
        return row._replace(note="0 everywhere")
    return row._replace(rel_error=error, note=", ".join(f"{n} {what}" for what, n in notes.items()))


def _worst(leaf, analytic, numeric, counts, each):
    """The Row of the entry that differs most, among those that count."""
    with np.errstate(invalid="ignore"):
        error, size = abs(analytic - numeric), np.fmax(abs(analytic), abs(numeric))
        size = size if each else np.max(size, where=counts & ~np.isnan(size), initial=0.0)
        relative = np.divide(error, size, out=np.zeros_like(numeric), where=counts & (error != 0))
    relative = np.nan_to_num(relative, nan=np.inf)
    index = tuple(map(int, np.unravel_index(np.argmax(relative), relative.shape)))
    return Row(leaf, index, float(analytic[index]), float(numeric[index]), float(relative[index]))


def _doubt(row, error, kink, tol, each):
    """Why a difference cannot decide an entry. Raises GradientError if it can, since the entry then is wrong."""
    if np.isfinite(row.analytic) and kink:
        return KINK
    if np.isfinite(row.analytic) and not abs(row.analytic - row.numeric) > error:
        return "undecided"
    values = f"{row.leaf}{list(row.index)}: analytic {row.analytic:.10g}, numeric {row.numeric:.10g}"
    of = "entry" if each else "leaf"
    raise GradientError(f"{values}, relative error {row.rel_error:.2e} of the {of}, more than {tol:g}.")


def _as_tuple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _outputs_and_cache(result):
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise GradientError(f"forward must return (outputs, cache), got {type(result).__name__}.")
    outputs = tuple(np.float64(y) if type(y) is float else y for y in _as_tuple(result[0]))
    for k, y in enumerate(outputs):
        kind = getattr(y, "dtype", type(y).__name__)
        if kind != np.float64:
            raise GradientError(f"forward returned {kind} as output {k}, expected float64, as its arguments are.")
    return outputs, result[1]


def _named_gradients(result, arguments):
    """{"input 0": dx_0, ..., "W": dW, ...}."""
    if not isinstance(result, (tuple, list)) or len(result) != 2 or not isinstance(result[1], Mapping):
        raise GradientError(f"backward must return (dinputs, grads) with a dict grads, got {type(result).__name__}.")
    found = {f"input {i}": d for i, d in enumerate(_as_tuple(result[0]))} | dict(result[1])
    gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
    if gradients.keys() != arguments.keys():
        raise GradientError(f"backward returned gradients of {sorted(gradients)}, expected {sorted(arguments)}.")
    for name, gradient in gradients.items():
        if not hasattr(gradient, "dtype"):
            raise GradientError(f"{name}: the gradient is of type {type(gradient).__name__}, expected an array.")
    return gradients
