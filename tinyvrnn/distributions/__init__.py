"""What p(x_t | ...) can be. A Likelihood is the set of functions that the models need of one distribution."""

from typing import NamedTuple

import numpy as np

from tinyvrnn.distributions import bernoulli, gaussian


class Likelihood(NamedTuple):
    """One output distribution. `outputs` is what the head returns: (logits,) or (mu_x, sigma_x)."""

    name: str
    head_shapes: object  # (F, X) -> shapes of the head's parameters
    head_forward: object  # (p, y) -> outputs, cache
    head_backward: object  # (p, cache, *doutputs) -> dy, grads
    log_density_forward: object  # (x, *outputs) -> log p in nats, cache
    log_density_backward: object  # (cache, dlog_p) -> (dx, *doutputs)
    noise: object  # (generator, shape, dtype) -> the noise that `sample` takes, on the host
    sample: object  # (noise, *outputs) -> x
    mean: object  # (*outputs) -> E[x]


def _gaussian_sample(noise, mu, sigma):
    return gaussian.reparameterise_forward(mu, sigma, noise)[0]


LIKELIHOODS = {
    "bernoulli": Likelihood(
        "bernoulli",
        bernoulli.head_shapes,
        bernoulli.bernoulli_head_forward,
        bernoulli.bernoulli_head_backward,
        bernoulli.bernoulli_log_density_forward,
        bernoulli.bernoulli_log_density_backward,
        lambda rng, shape, dtype: rng.random(shape, dtype=np.dtype(dtype)),
        bernoulli.bernoulli_sample,
        bernoulli.sigmoid,
    ),
    "gaussian": Likelihood(
        "gaussian",
        gaussian.head_shapes,
        gaussian.gaussian_head_forward,
        gaussian.gaussian_head_backward,
        gaussian.gaussian_log_density_forward,
        gaussian.gaussian_log_density_backward,
        lambda rng, shape, dtype: rng.standard_normal(shape, dtype=np.dtype(dtype)),
        _gaussian_sample,
        lambda mu, sigma: mu,
    ),
}
