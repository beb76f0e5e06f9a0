"""The log-density of the observed entries of x, from the log-density of all of x.

A missing entry is NaN. It becomes 0, and its outputs become `neutral`: those with which a 0 adds nothing to log p, such
as a density that is 1 at 0. The rest is the log-density of the other entries, since entries are independent given the
outputs, or given the component of a mixture. A likelihood without neutral outputs scores whole steps.
Derivation: docs/derivations/missing.md.
"""

from functools import partial

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.categorical import categorical_mean


def observed_only(likelihood):
    """The Likelihood that scores the entries of x that are not NaN; a step without any has log p = 0."""
    return likelihood._replace(
        log_density_forward=partial(score, likelihood),
        log_density_backward=partial(score_backward, likelihood),
    )


def score(likelihood, x, *outputs):
    """log p of the observed entries of x (..., X), NaN in the others. Returns nats (...), cache."""
    xp, observed = namespace(x), ~namespace(x).isnan(x)
    neutral = likelihood.neutral or [None] * len(outputs)
    masks = [None if v is None else _like(observed, output) for v, output in zip(neutral, outputs)]
    outputs = [o if m is None else xp.where(m, o, v) for m, o, v in zip(masks, outputs, neutral)]
    log_p, cache = likelihood.log_density_forward(xp.where(observed, x, 0), *outputs)
    scored = observed.any(axis=-1)
    return xp.where(scored, log_p, 0), (cache, scored, masks)


def score_backward(likelihood, cache, dlog_p):
    """None and the gradients of the outputs, from dlog_p (...): 0 at the missing entries."""
    cache, scored, masks = cache
    _, *doutputs = likelihood.log_density_backward(cache, dlog_p * scored)
    return None, *(d if m is None else d * m for m, d in zip(masks, doutputs))


def outputs_given(likelihood, x, outputs):
    """The outputs for the missing entries of x: a mixture's logits become the log of its responsibilities.

    By the observed entries of the same step; with d log p / d logits = responsibility - weight.
    """
    if likelihood.neutral is None or likelihood.neutral[0] is not None:
        return outputs
    log_p, cache = score(likelihood, x, *outputs)
    dlogits = score_backward(likelihood, cache, namespace(x).ones_like(log_p))[1]
    r = dlogits + categorical_mean(outputs[0])
    return namespace(x).log(namespace(x).maximum(r, 1e-30)), *outputs[1:]


def _like(observed, output):
    """observed (..., X) with an axis for the components, if the output (..., K, X) has one."""
    return observed if output.ndim == observed.ndim else observed[..., None, :]
