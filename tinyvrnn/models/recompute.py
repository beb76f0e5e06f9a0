"""The exact gradient of a long sequence in memory that grows as the square root of its length.

Backpropagation needs what the forward pass left behind, for all T steps. Keep the state only at about sqrt(T) places,
cut there, and run each piece forward once more when the backward pass comes to it: at most one piece of sqrt(T) steps
is then whole in memory. The first forward pass is the loop alone, as nothing but the states is kept of it. The noise is
an argument, so that the second pass repeats the first. The gradient is the plain one: what a piece needs of those after
it is one array, the gradient of the state at the cut.
Source: Chen et al., 2016, arXiv:1604.06174; Gruslys et al., 2016, arXiv:1606.03401.
"""

import math

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.errors import ConfigError


def cut(T):
    """slice objects of ceil(sqrt(T)) steps that cover range(T); the last may be shorter."""
    length = math.isqrt(T - 1) + 1
    return [slice(start, min(start + length, T)) for start in range(0, T, length)]


def terms_and_grads(model, x, eps, mask, dlog_p, dkl, state, read):
    """log_p, kl (T, B), the flat gradient for dlog_p, dkl (T, B), and the state after the last step.

    model: one with a state; x (T, B, X), eps (T, B, Z), mask (T, B); state (B, S H) before the first step, or None;
    read (T, B, X): what the networks read.
    """
    xp, pieces, states = namespace(x), cut(len(x)), [state]
    for piece in pieces[:-1]:
        states.append(model._state_after(read[piece], eps[piece], states[-1]))
    log_p, kl, grads = xp.empty_like(mask), xp.empty_like(mask), xp.zeros_like(model.theta)
    last = dstate = None
    for piece, before in zip(pieces[::-1], states[::-1]):
        log_p[piece], kl[piece], cache = model._forward_terms(x[piece], eps[piece], mask[piece], before, read[piece])
        last = cache.loop.state[-1].copy() if last is None else last
        dstate, named = model._backward_terms(cache, dlog_p[piece], dkl[piece], dstate)
        del cache  # before the next piece is made
        grads += model._flat(named)
    return log_p, kl, grads, last


def check(model, chunk=None, recompute=False, bound="elbo"):
    """Raises ConfigError where `model` can't be trained by chunks (of so many steps), or with recomputation."""
    for name, wanted in (("chunk", chunk), ("recompute", recompute)):
        if not wanted:
            continue
        if "cell" not in model.choices:
            raise ConfigError(f"{name} is for a model that has a state, and a {model.name} has none: leave it out.")
        if getattr(model, "posterior", None) == "smoothing":
            raise ConfigError(f"{name} cuts sequences, and a smoothing posterior reads each as a whole: leave one out.")
        if bound != "elbo":
            raise ConfigError(f"{name} is for the bound elbo, got {bound}: leave one out.")
