"""Several draws of z for each sequence, called particles: importance weights, resampling, and the particle filter.

A particle k of a sequence b has the log-weight log w = sum_t log p(x_t | ...) + log p(z_t | ...) - log q(z_t | ...), so
that E_q w = p(x). Arrays of particles are (B, K); where a function knows only rows, particle k of sequence b is row
b K + k. Derivations: docs/derivations/importance.md.
"""

import math
from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.models import schedule
from tinyvrnn.models.batch import copies
from tinyvrnn.models.lookahead import of_sequence_backward, of_sequence_forward
from tinyvrnn.models.stepwise import NETWORKS, add, step_backward, step_forward
from tinyvrnn.nn.cells import state_width


class ImportanceCache(NamedTuple):
    sequence: schedule.SequenceCache
    log_w: object  # (B, K)
    mask: object  # (T, B)


class Choice(NamedTuple):
    """The resampling before a step."""

    again: object  # (B,) bool: the sequences that were resampled
    ancestors: object  # (B, K) int: the particle whose state each one continues


class FilterCache(NamedTuple):
    steps: list  # caches of `stepwise.step_forward`
    choices: list  # a Choice for each step
    shares: list  # normalised weights before each step and after the last, (B, K) each
    mask: object  # (T, B)
    ahead: tuple | None  # cache of a smoothing posterior's second recurrence


def log_mean_exp(log_w):
    """log (1/K) sum_k w_k from log-weights (B, K), in nats, (B,); w itself would underflow."""
    xp = namespace(log_w)
    top = log_w.max(axis=1)
    return top + xp.log(xp.exp(log_w - top[:, None]).sum(axis=1)) - math.log(log_w.shape[1])


def shares_of(log_w):
    """w_k / sum_j w_j, (B, K): the gradient of `log_mean_exp` by its log-weights."""
    w = namespace(log_w).exp(log_w - log_w.max(axis=1)[:, None])
    return w / w.sum(axis=1)[:, None]


def importance_forward(params, x, eps, mask, likelihood, beta=1.0, x_in=None):
    """log (1/K) sum_k w_k of each sequence, (B,), nats, in the batched schedule, and the cache.

    x (T, B K, X): `copies` of x; eps (T, B K, Z); mask (T, B) of real steps; beta: weight of log q - log p; x_in as in
    `schedule.sequence_forward`.
    Source: Burda et al., 2016, arXiv:1509.00519, equation 8.
    """
    T, B = mask.shape
    wide = copies(mask, x.shape[1] // B)
    log_p, ratio, cache = schedule.sequence_forward(params, x, eps, likelihood, sampled=True, mask=wide, x_in=x_in)
    log_w = ((log_p - beta * ratio).reshape(T, B, -1) * mask[:, :, None]).sum(axis=0)
    return log_mean_exp(log_w), ImportanceCache(cache, log_w, mask)


def importance_backward(params, cache, dbound, likelihood, beta=1.0):
    """The gradient of every parameter, from dbound (B,): that of each particle, times its normalised weight."""
    dlog_w = dbound[:, None] * shares_of(cache.log_w)
    dlog_p = (cache.mask[:, :, None] * dlog_w[None]).reshape(len(cache.mask), -1)
    return schedule.sequence_backward(params, cache.sequence, dlog_p, -beta * dlog_p, likelihood, sampled=True)


def systematic(shares, uniforms):
    """Ancestors (B, K) by systematic resampling: the K points (u + i) / K fall into intervals as long as the shares.

    Particle k gets floor or ceil of K share_k places, K share_k on average. shares (B, K), uniforms (B,) in [0, 1).
    Uses a (B, K, K) table. Source: Kitagawa, 1996.
    """
    xp, K = namespace(shares), shares.shape[1]
    points = xp.minimum((uniforms[:, None] + xp.arange(K)) / K, 1 - 1e-15)
    ends = xp.cumsum(shares, axis=1)
    ends = ends / ends[:, -1:]  # the last is 1, above every point, so that no particle of share 0 is chosen
    return (ends[:, None, :] <= points[:, :, None]).sum(axis=2)


def choose(shares, uniforms, real):
    """The Choice before a step: a sequence is resampled where its effective number 1 / sum share^2 is below K / 2.

    real (B,): 0 where the sequence has ended, which is then never resampled.
    """
    xp, (B, K) = namespace(shares), shares.shape
    again = (1 / (shares * shares).sum(axis=1) < K / 2) & (real > 0)
    stay = xp.zeros((B, 1), dtype="int64") + xp.arange(K)
    return Choice(again, xp.where(again[:, None], systematic(shares, uniforms), stay))


def filter_forward(params, x, eps, mask, uniforms, likelihood, f=NETWORKS, beta=1.0, choices=None, x_in=None):
    """log of the particle filter's estimate of p(x), (B,), nats, and the cache. The estimate itself is unbiased.

    x (T, B K, X): `copies` of x; eps (T, B K, Z), mask (T, B) of real steps, uniforms (T, B). choices: those of
    an earlier call, to be repeated. Particles move as in `stepwise.sequence_forward`. Where a sequence is resampled,
    the log-mean of its weights is added to the result and its weights restart from 1. A smoothing posterior proposes
    with knowledge of the future; the weights use the density of the proposal, so the estimate stays unbiased.
    Source: Maddison et al., 2017, arXiv:1705.09279, algorithm 1.
    """
    xp, (T, B) = namespace(x), mask.shape
    K, width = x.shape[1] // B, f.state_dim(params)
    state, log_w, total = (xp.zeros(shape, dtype=x.dtype) for shape in ((B * K, width), (B, K), B))
    ahead, ahead_cache = of_sequence_forward(params, x if x_in is None else x_in, copies(mask, K))
    cache = FilterCache([], [], [], mask, ahead_cache)
    for t in range(T):
        shares = shares_of(log_w)
        choice = choose(shares, uniforms[t], mask[t]) if choices is None else choices[t]
        total = total + xp.where(choice.again, log_mean_exp(log_w), 0)
        log_w = xp.where(choice.again[:, None], 0, log_w)
        state = state[(choice.ancestors + K * xp.arange(B)[:, None]).reshape(-1)]
        b = None if ahead is None else ahead[t]
        x_in_t = None if x_in is None else x_in[t]
        (log_p, ratio, state), step = step_forward(f.at(params, t), x[t], state, eps[t], likelihood, f, True, b, x_in_t)
        log_w = log_w + (log_p - beta * ratio).reshape(B, K) * mask[t][:, None]
        for values, value in zip(cache, (step, choice, shares)):
            values.append(value)
    cache.shares.append(shares_of(log_w))
    return total + log_mean_exp(log_w), cache


def filter_backward(params, cache, dtotal, likelihood, beta=1.0):
    """The gradient of every parameter, from dtotal (B,), with the resampling choices as constants.

    It omits the gradient of the probabilities of the ancestors, as the paper does (section 4).
    """
    xp, (B, K) = namespace(dtotal), cache.shares[0].shape
    dstate = xp.zeros((B * K, state_width(params["recur"])), dtype=dtotal.dtype)
    dlog_w, total, daheads = dtotal[:, None] * cache.shares[-1], None, []
    for t in reversed(range(len(cache.steps))):
        dlog_p = (dlog_w * cache.mask[t][:, None]).reshape(-1)
        dstate, grads = step_backward(params, cache.steps[t], dlog_p, -beta * dlog_p, dstate, likelihood, sampled=True)
        if cache.ahead is not None:
            dstate, dahead = dstate
            daheads.append(dahead)
        total = grads if total is None else add(total, grads)
        again, ancestors = cache.choices[t]
        is_parent = xp.arange(K)[None, :, None] == ancestors[:, None, :]  # (B, parents, children)
        dstate = xp.matmul(is_parent.astype(dstate.dtype), dstate.reshape(B, K, -1)).reshape(B * K, -1)
        dlog_w = xp.where(again[:, None], dtotal[:, None] * cache.shares[t], dlog_w)
    if cache.ahead is None:
        return total
    grads = of_sequence_backward(params, cache.ahead, xp.stack(daheads[::-1]))
    total["phi_x"] = {leaf: total["phi_x"][leaf] + g for leaf, g in grads["phi_x"].items()}
    return total | {"backward": grads["backward"]}
