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
from tinyvrnn.models.lookahead import of_sequence
from tinyvrnn.models.stepwise import NETWORKS, step_forward


class ImportanceCache(NamedTuple):
    sequence: schedule.SequenceCache
    log_w: object  # (B, K)
    mask: object  # (T, B)


class Choice(NamedTuple):
    """The resampling before a step."""

    again: object  # (B,) bool: the sequences that were resampled
    ancestors: object  # (B, K) int: the particle whose state each one continues


class FilterCache(NamedTuple):
    choices: list  # a Choice for each step
    shares: list  # normalised weights before each step and after the last, (B, K) each
    mask: object  # (T, B)
    sequence: schedule.SequenceCache | None = None  # of filtering.py


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


def resample(log_w, total, uniforms, real, choice=None):
    """Resample before a step: the Choice, the shares before it, and log-weights (B, K) and total (B,) after it.

    Where a sequence is resampled, the log-mean of its weights is added to its total, and they restart from 1.
    uniforms, real (B,) as in `choose`. choice: of an earlier call, to be repeated.
    """
    xp, shares = namespace(log_w), shares_of(log_w)
    choice = choose(shares, uniforms, real) if choice is None else choice
    total = total + xp.where(choice.again, log_mean_exp(log_w), 0)
    return choice, shares, xp.where(choice.again[:, None], 0, log_w), total


def rows_of(choice):
    """The row of the parent of each particle, (B K,)."""
    B, K = choice.ancestors.shape
    return (choice.ancestors + K * namespace(choice.ancestors).arange(B)[:, None]).reshape(-1)


def filter_forward(params, x, eps, mask, uniforms, likelihood, f=NETWORKS, choices=None, x_in=None):
    """log of the particle filter's estimate of p(x), (B,), nats, and a FilterCache.

    x (T, B K, X): `copies` of x; eps (T, B K, Z), mask (T, B) of real steps, uniforms (T, B). choices: those of
    an earlier call, to be repeated. x_in as in `schedule.sequence_forward`. Particles move as in
    `stepwise.sequence_forward`. The estimate itself, not its logarithm, is unbiased, also with a smoothing posterior,
    which proposes with knowledge of the future: the weights use the density of the proposal.
    Source: Maddison et al., 2017, arXiv:1705.09279, algorithm 1.
    """
    xp, (T, B) = namespace(x), mask.shape
    K, width = x.shape[1] // B, f.state_dim(params)
    state, log_w, total = (xp.zeros(shape, dtype=x.dtype) for shape in ((B * K, width), (B, K), B))
    x_in = x if x_in is None else x_in
    ahead = of_sequence(params, x_in, copies(mask, K))
    cache = FilterCache([], [], mask)
    for t in range(T):
        given = (uniforms[t], mask[t]) if choices is None else (None, mask[t], choices[t])
        choice, shares, log_w, total = resample(log_w, total, *given)
        cache.choices.append(choice)
        cache.shares.append(shares)
        b = None if ahead is None else ahead[t]
        step = x[t], state[rows_of(choice)], eps[t], likelihood, f, True, b, x_in[t]
        (log_p, ratio, state), _ = step_forward(f.at(params, t), *step)
        log_w = log_w + (log_p - ratio).reshape(B, K) * mask[t][:, None]
    cache.shares.append(shares_of(log_w))
    return total + log_mean_exp(log_w), cache
