"""The filtering objective in the batched schedule: `particles.filter_forward` with its gradient (FIVO).

A step is resampled by the weights of the steps before it, so the loop of schedule.py also computes each step's weight.
Given the ancestors, everything else is the batched schedule: generation and prior for all T steps at once, and each
weight gradient as one product over T*B*K rows. Derivation: docs/derivations/importance.md.
"""

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.models import schedule
from tinyvrnn.models.batch import copies
from tinyvrnn.models.particles import FilterCache, log_mean_exp, resample, rows_of, shares_of


def filter_forward(params, x, eps, mask, uniforms, likelihood, beta=1.0, choices=None, x_in=None):
    """log of the particle filter's estimate of p(x), (B,), nats, and the cache. As `particles.filter_forward`."""
    T, B = mask.shape
    log_w, total = (namespace(x).zeros(shape, dtype=x.dtype) for shape in ((B, x.shape[1] // B), B))
    cache = FilterCache([], [], mask)

    def weigh(log_p, ratio, t):
        return log_w + (log_p - beta * ratio).reshape(log_w.shape) * mask[t][:, None]

    def resample_before(t, loop):
        nonlocal log_w, total
        if t > 0:
            log_p, ratio, _ = schedule.terms_forward(params, x, loop, likelihood, True, t - 1)
            log_w = weigh(log_p, ratio, t - 1)
        given = (uniforms[t], mask[t]) if choices is None else (None, mask[t], choices[t])
        choice, shares, log_w, total = resample(log_w, total, *given)
        cache.choices.append(choice)
        cache.shares.append(shares)
        loop.state[t] = loop.state[t][rows_of(choice)]

    log_p, ratio, sequence = schedule.sequence_forward(
        params, x, eps, likelihood, sampled=True, mask=copies(mask, log_w.shape[1]), x_in=x_in, before=resample_before
    )
    log_w = weigh(log_p[-1], ratio[-1], T - 1)
    cache.shares.append(shares_of(log_w))
    return total + log_mean_exp(log_w), cache._replace(sequence=sequence)


def filter_backward(params, cache, dtotal, likelihood, beta=1.0):
    """The gradient of every parameter, from dtotal (B,), with the resampling choices as constants.

    It omits the gradient of the probabilities of the ancestors, as the paper does (section 4).
    """
    xp, (T, B), K = namespace(dtotal), cache.mask.shape, cache.shares[0].shape[1]
    dlog_p = xp.empty((T, B, K), dtype=dtotal.dtype)
    dlog_w = dtotal[:, None] * cache.shares[-1]
    for t in reversed(range(T)):
        dlog_p[t] = dlog_w * cache.mask[t][:, None]
        dlog_w = xp.where(cache.choices[t].again[:, None], dtotal[:, None] * cache.shares[t], dlog_w)

    def to_ancestors(t, dstate):
        is_parent = xp.arange(K)[None, :, None] == cache.choices[t].ancestors[:, None, :]  # (B, parents, children)
        return xp.matmul(is_parent.astype(dstate.dtype), dstate.reshape(B, K, -1)).reshape(dstate.shape)

    dlog_p = dlog_p.reshape(T, B * K)
    given = params, cache.sequence, dlog_p, -beta * dlog_p, likelihood
    return schedule.sequence_backward_with_state(*given, sampled=True, before=to_ancestors)[1]
