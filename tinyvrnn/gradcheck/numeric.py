"""Numeric checks of hand-written gradients.

A gradient check proves that a backward pass matches its forward pass, not that the forward pass is right: replace sigma
by sigma^2 in both and it still passes. docs/testing.md lists the independent checks of the forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array, backend_of, namespace, to_host
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.errors import GradientError
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
        Of the whole leaf, see `rel_error`.
    """

    leaf: str
    index: tuple[int, ...]  # type: ignore[assignment]  # hides tuple.index
    analytic: float
    numeric: float
    rel_error: float


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


def numerical_gradient(f: Callable[[Array], Any], x: Array, h: float = 1e-5) -> Array:
    """df/dx_i = (f(x + h e_i) - f(x - h e_i)) / 2h for every entry of x; the error is O(h^2) + O(1e-16 |f| / h).

    Parameters
    ----------
    f : callable
        x -> a scalar.
    x : array of float64
        On any backend; its entries are changed in place and restored.
    h : float
        Half the distance of the two points.

    Returns
    -------
    array shaped like x
        The gradient.

    Raises
    ------
    GradientError
        x has another dtype: float32 has too few digits for a difference.
    """
    _require_float64(x)
    gradient = namespace(x).zeros_like(x)
    for index in np.ndindex(x.shape):
        centre = float(x[index])
        x[index] = centre + h
        above = float(f(x))
        x[index] = centre - h
        below = float(f(x))
        x[index] = centre
        gradient[index] = (above - below) / (2 * h)
    return gradient


def check_pair(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    p: Mapping[str, Array] | None,
    *inputs: Array,
    seed: int = 0,
    tol: float = 1e-7,
    h: float = 1e-5,
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

    Returns
    -------
    list of Row
        One for each leaf of p and each input.

    Raises
    ------
    GradientError
        A gradient is wrong (the message names leaf, index and both values), missing or of a wrong shape, or `backward`
        changes its arguments or returns something else on a second call.
    """
    run_forward = (lambda: forward(p, *inputs)) if p else (lambda: forward(*inputs))
    run_backward = (lambda c, g: backward(p, c, *g)) if p else (lambda c, g: (backward(c, *g), {}))
    outputs, cache = run_forward()
    upstream = _random_like(_as_tuple(outputs), seed)
    arguments = {f"input {i}": x for i, x in enumerate(inputs)} | dict(p or {})
    watched = arguments | {f"doutput {i}": g for i, g in enumerate(upstream)}
    before = {name: to_host(array).copy() for name, array in watched.items()}

    gradients = _named_gradients(*run_backward(cache, upstream), arguments)
    again = _named_gradients(*run_backward(cache, upstream), arguments)
    _require_pure(before, watched, gradients, again)

    def objective(_):
        return sum(float((g * y).sum()) for g, y in zip(upstream, _as_tuple(run_forward()[0])))

    return [
        compare(name, gradients[name], numerical_gradient(objective, array, h), tol)
        for name, array in arguments.items()
    ]


def check_model(
    model: Model,
    x: Array,
    lengths: ArrayLike | None = None,
    eps: Array | None = None,
    beta: float = 1.0,
    tol: float = 1e-6,
    h: float = 1e-5,
    **options: Any,
) -> list[Row]:
    """Check the gradient of a model's loss for every entry of every leaf.

    Parameters
    ----------
    model : Model
        With dtype "float64".
    x, lengths : array (T, B, X), integers (B,)
        As in `VRNN.loss_and_grads`.
    eps : array (T, B, Z)
        Required, since otherwise each call would draw its own.
    beta : float
        Weight of the KL.
    tol : float
        Largest relative error allowed, see `rel_error`.
    h : float
        As in `numerical_gradient`.
    **options : various
        Other arguments of `VRNN.loss_and_grads`, such as bound.

    Returns
    -------
    list of Row
        One for each leaf.

    Raises
    ------
    GradientError
        A gradient is wrong; the message names leaf, index and both values. Also for a model of another dtype.
    DataError, ConfigError
        As `VRNN.loss_and_grads`.
    """
    _, grads, _ = model.loss_and_grads(x, lengths, eps, beta, **options)
    analytic = dict(leaves(views(grads, model.shapes)))
    rows = []
    for name, leaf in leaves(model.params):
        numeric = numerical_gradient(lambda _: model.loss_and_grads(x, lengths, eps, beta, **options)[0], leaf, h)
        rows.append(compare(name, analytic[name], numeric, tol))
    return rows


def compare(leaf, analytic, numeric, tol):
    """The Row of the worst entry. Raises GradientError if the shapes differ or the relative error is not below tol."""
    analytic, numeric = to_host(analytic), to_host(numeric)
    if analytic.shape != numeric.shape:
        raise GradientError(f"{leaf}: the gradient has shape {analytic.shape}, its array {numeric.shape}.")
    worst = np.unravel_index(np.argmax(np.nan_to_num(np.abs(analytic - numeric), nan=np.inf)), analytic.shape)
    index = tuple(int(i) for i in worst)
    row = Row(leaf, index, float(analytic[worst]), float(numeric[worst]), rel_error(analytic, numeric))
    if not row.rel_error < tol:
        raise GradientError(
            f"{leaf}{list(index)}: analytic {row.analytic:.10g}, numeric {row.numeric:.10g}, "
            f"relative error {row.rel_error:.2e} of the leaf, more than {tol:g}."
        )
    return row


def _require_float64(x):
    dtype = getattr(x, "dtype", type(x).__name__)
    if dtype != np.float64:
        raise GradientError(f"A numeric check needs float64 arrays, got {dtype}: float32 has too few digits.")


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


def _require_pure(before, watched, gradients, again):
    for name, array in watched.items():
        if not np.array_equal(to_host(array), before[name]):
            raise GradientError(f"backward changed its argument {name}: it must not write to its arguments.")
    for name, gradient in gradients.items():
        if not np.array_equal(to_host(gradient), to_host(again[name]), equal_nan=True):
            raise GradientError(f"backward called twice returned two different gradients of {name}.")
