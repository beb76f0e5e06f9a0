"""The log-density of the observed entries of x, from the log-density of all of x.

A missing entry is NaN. It becomes 0, and its outputs become `neutral`: those with which a 0 adds nothing to log p, such
as a density that is 1 at 0. The rest is the log-density of the other entries, since entries are independent given the
outputs, or given the component of a mixture. A likelihood without neutral outputs scores whole steps.
Derivation: docs/derivations/missing.md.
"""

from functools import partial

from tinyvrnn.arrays.backend import backend_of, namespace
from tinyvrnn.distributions.categorical import categorical_mean


def observed_only(likelihood):
    """The Likelihood that scores the entries of x that are not NaN; a step without any has log p = 0."""
    forward, backward = partial(score, likelihood), partial(score_backward, likelihood)
    return likelihood._replace(log_density_forward=forward, log_density_backward=backward)


def score(likelihood, x, *outputs):
    """log p of the observed entries of x (..., X), NaN in the others. Returns nats (...), cache."""
    xp, observed = namespace(x), ~namespace(x).isnan(x)
    neutral = likelihood.neutral or [None] * len(outputs)
    of_components = observed[..., None, :]  # for outputs (..., K, X)
    masks = [v if v is None else observed if o.ndim == x.ndim else of_components for v, o in zip(neutral, outputs)]
    outputs = [o if m is None else xp.where(m, o, v) for m, o, v in zip(masks, outputs, neutral)]
    log_p, cache = likelihood.log_density_forward(xp.where(observed, x, 0), *outputs)
    scored = observed.any(axis=-1)
    return xp.where(scored, log_p, 0), (cache, scored, masks)


def score_backward(likelihood, cache, dlog_p):
    """None and the gradients of the outputs, from dlog_p (...): 0 at the missing entries."""
    cache, scored, masks = cache
    _, *doutputs = likelihood.log_density_backward(cache, dlog_p * scored)
    return None, *(d if m is None else d * m for m, d in zip(masks, doutputs))


def without_constants(likelihood, std):
    """The Likelihood whose draws and means are 0 in the columns of the standard deviation 0, which are never scored."""
    if std.all():
        return likelihood

    def zeroed(of, *given):
        x = of(*given)
        return x * backend_of(x).asarray(std > 0, dtype=x.dtype)

    return likelihood._replace(sample=partial(zeroed, likelihood.sample), mean=partial(zeroed, likelihood.mean))


def outputs_given(likelihood, x, outputs):
    """The outputs for the missing entries of x, given the others of the step: a mixture's logits become log r.

    The responsibilities r_k are weight_k + d log p / d logit_k.
    """
    if likelihood.components is None or likelihood.neutral is None:
        return outputs
    xp, (log_p, cache) = namespace(x), score(likelihood, x, *outputs)
    r = score_backward(likelihood, cache, xp.ones_like(log_p))[1] + categorical_mean(outputs[0])
    return xp.log(xp.maximum(r, 1e-30)), *outputs[1:]
