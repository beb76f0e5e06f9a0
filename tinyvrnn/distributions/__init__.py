"""The output distributions p(x_t | ...). A Likelihood holds the functions that the models need from one of them.

gaussian.py      the diagonal Gaussian, also of z: head, reparameterised draw, log-density, log-ratio, KL
bernoulli.py     independent Bernoulli variables
categorical.py   one-hot symbols
mixture.py       the mixture of Gaussians, "gmm"
pen.py           handwriting, (dx, dy, pen-up)

Imports errors.py, arrays/ and nn/ only. To add a likelihood: a module with a head, a log-density, a sampler and a mean,
an entry in LIKELIHOODS, entries in PAIRS (gradcheck/all_pairs.py) and a page in docs/derivations/.
"""

from functools import partial
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyvrnn.distributions import bernoulli, categorical, gaussian, mixture, pen
from tinyvrnn.errors import ConfigError, unknown_name

COMPONENTS = 20  # of a mixture, as in the paper


class Likelihood(NamedTuple):
    """One output distribution. `outputs` is what the head returns: (logits,), (mu_x, sigma_x), ..."""

    name: str
    head_shapes: object  # (F, X) -> shapes of the head's parameters
    head_forward: object  # (p, y) -> outputs, cache
    head_backward: object  # (p, cache, *doutputs) -> dy, grads
    log_density_forward: object  # (x, *outputs) -> log p in nats, cache
    log_density_backward: object  # (cache, dlog_p) -> (dx, *doutputs)
    noise: object  # (generator, shape of x, dtype) -> the noise that `sample` takes, an array (n, ...) on the host
    sample: object  # (noise, *outputs) -> x
    mean: object  # (*outputs) -> E[x]
    misfits: object  # (x (..., X) on the host) -> (..., X), True for values that are no data of this likelihood
    needs: str  # what it needs in place of those: the end of a message
    standardise: object  # how data are prepared for it: the argument of `load_data`
    components: int | None = None  # K of a mixture


def get_likelihood(name, components=COMPONENTS):
    """The Likelihood called `name`, a mixture with `components` components. Raises ConfigError for what is neither."""
    if name not in LIKELIHOODS:
        raise ConfigError(unknown_name("likelihood", name, LIKELIHOODS))
    likelihood = LIKELIHOODS[name]
    if likelihood.components is None:
        return likelihood
    if not isinstance(components, Integral) or components < 1:
        raise ConfigError(f"components must be a whole number of at least 1, got {components!r}.")
    shapes = partial(likelihood.head_shapes, components=int(components))
    return likelihood._replace(head_shapes=shapes, components=int(components))


def _gaussian_sample(noise, mu, sigma):
    return gaussian.reparameterise_forward(mu, sigma, noise)[0]


def _uniforms_and_normals(rng, shape, dtype, uniforms, normals):
    """(..., uniforms + normals), on the host."""
    u = rng.random((*shape[:-1], uniforms), dtype=np.dtype(dtype))
    return np.concatenate([u, rng.standard_normal((*shape[:-1], normals), dtype=np.dtype(dtype))], axis=-1)


def _outside_0_to_1(x):
    return (x < 0) | (x > 1)


def _not_one_hot(x):
    return ((x != 0) & (x != 1)) | (x.sum(axis=-1, keepdims=True) != 1)


def _pen_not_0_or_1(x):
    bad = np.zeros(x.shape, dtype=bool)
    bad[..., 2:] = (x[..., 2:] != 0) & (x[..., 2:] != 1)
    return bad


def _nothing(x):
    return np.zeros(x.shape, dtype=bool)


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
        _outside_0_to_1,
        "but a Bernoulli likelihood needs values in [0, 1]: use --likelihood gaussian",
        standardise=False,
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
        _nothing,
        "",
        standardise=True,
    ),
    "gmm": Likelihood(
        "gmm",
        mixture.head_shapes,
        mixture.gmm_head_forward,
        mixture.gmm_head_backward,
        mixture.gmm_log_density_forward,
        mixture.gmm_log_density_backward,
        lambda rng, shape, dtype: _uniforms_and_normals(rng, shape, dtype, 1, shape[-1]),
        mixture.gmm_sample,
        mixture.gmm_mean,
        _nothing,
        "",
        standardise=True,
        components=COMPONENTS,
    ),
    "categorical": Likelihood(
        "categorical",
        bernoulli.head_shapes,
        bernoulli.bernoulli_head_forward,
        bernoulli.bernoulli_head_backward,
        categorical.categorical_log_density_forward,
        categorical.categorical_log_density_backward,
        lambda rng, shape, dtype: rng.random((*shape[:-1], 1), dtype=np.dtype(dtype)),
        categorical.categorical_sample,
        categorical.categorical_mean,
        _not_one_hot,
        "but a categorical likelihood needs a single 1 among zeros in each step: give one-hot data",
        standardise=False,
    ),
    "pen": Likelihood(
        "pen",
        pen.head_shapes,
        pen.pen_head_forward,
        pen.pen_head_backward,
        pen.pen_log_density_forward,
        pen.pen_log_density_backward,
        lambda rng, shape, dtype: _uniforms_and_normals(rng, shape, dtype, 2, 2),
        pen.pen_sample,
        pen.pen_mean,
        _pen_not_0_or_1,
        "but a pen likelihood needs a pen-up of 0 or 1: standardise the rest, by standardise=(True, True, False)",
        standardise=(True, True, False),
        components=COMPONENTS,
    ),
}
