"""A pen's step x = (dx, dy, pen-up): a mixture of K correlated Gaussians for (dx, dy), a Bernoulli for pen-up.

The handwriting output of the VRNN paper, after Graves, 2013, arXiv:1308.0850, section 4. Let delta be the distances in
standard deviations. A bivariate Gaussian factors into delta_1 and, given that, w = (delta_2 - rho delta_1) / c, with
c = sqrt(1 - rho^2). The density and the draw use this form, in which no digits cancel for rho near 1.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.bernoulli import (
    bernoulli_log_density_backward,
    bernoulli_log_density_forward,
    bernoulli_sample,
)
from tinyvrnn.distributions.categorical import categorical_mean, pick
from tinyvrnn.distributions.gaussian import HALF_LOG_2PI, distances, sigma_of
from tinyvrnn.distributions.mixture import (
    MixCache,
    all_components,
    by_component,
    mix_backward,
    mix_forward,
    of_component,
)
from tinyvrnn.errors import ConfigError
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.nn.linear import LinearCache, linear_backward, linear_forward, output_layer

RHO_MAX = 0.999  # tanh rounds to 1 from 10 on, which would make 1 - rho^2 zero


class PenHeadCache(NamedTuple):
    inputs: tuple  # y (..., F), in a tuple as in LinearCache
    s: object  # pre-activation of sigma, (..., 2K)
    tanh: object  # rho / RHO_MAX, (..., K)


class PenCache(NamedTuple):
    delta: object  # (..., K, 2)
    w: object  # (delta_2 - rho delta_1) / c, (..., K)
    sigma: object  # (..., K, 2)
    rho: object  # (..., K)
    c: object  # sqrt(1 - rho^2), (..., K)
    mix: MixCache
    pen: tuple  # cache of the Bernoulli


def head_shapes(features, width, components):
    """{"W_out": (F, 6K + 1), "b_out": (6K + 1,)}, with columns in the blocks logits K, mu 2K, s 2K, rho K, pen 1.

    Raises ConfigError unless width, the number of values in a step, is 3.
    """
    if width != 3:
        what = f'The likelihood "pen" needs x_dim 3, (dx, dy, pen-up), got {width}'
        raise ConfigError(f'{what}: use "gmm" or "gaussian".')
    return {"W_out": (features, 6 * components + 1), "b_out": (6 * components + 1,)}


def pen_head_forward(p, y):
    """A linear layer, sigma = softplus(s) + 1e-4, rho = 0.999 tanh(.). y (..., F).

    Returns (logits (..., K), mu (..., K, 2), sigma (..., K, 2), rho (..., K), a (..., 1)), cache; a is the logit of
    pen-up.
    """
    o, _ = linear_forward(output_layer(p), y)
    K = o.shape[-1] // 6
    s, tanh = o[..., 3 * K : 5 * K], namespace(o).tanh(o[..., 5 * K : 6 * K])
    mu, sigma = by_component(o[..., K : 3 * K], K), by_component(sigma_of(s), K)
    return (o[..., :K], mu, sigma, RHO_MAX * tanh, o[..., 6 * K :]), PenHeadCache((y,), s, tanh)


def pen_head_backward(p, cache, dlogits, dmu, dsigma, drho, da):
    """dy (..., F) and grads of W_out, b_out, from the gradients of the five outputs."""
    ds = all_components(dsigma) * sigmoid(cache.s)
    do_rho = RHO_MAX * drho * (1 - cache.tanh * cache.tanh)
    do = namespace(dmu).concatenate([dlogits, all_components(dmu), ds, do_rho, da], axis=-1)
    dy, g = linear_backward(output_layer(p), LinearCache(cache.inputs), do)
    return dy, {"W_out": g["W"], "b_out": g["b"]}


def pen_log_density_forward(x, logits, mu, sigma, rho, a):
    """log sum_k pi_k N((dx, dy); mu_k, sigma_k, rho_k) + log Bernoulli(pen-up; a). Returns nats (...), cache.

    x (..., 3), logits, rho (..., K), mu, sigma (..., K, 2), a (..., 1); -1 < rho < 1, sigma >= 1e-4.
    log N = - 0.5 (delta_1^2 + w^2) - log sigma_1 - log sigma_2 - log c - log 2 pi
    """
    xp = namespace(x)
    delta, c = distances(x[..., None, :2], mu, sigma), xp.sqrt(1 - rho * rho)
    w = (delta[..., 1] - rho * delta[..., 0]) / c
    log_scale = xp.sum(xp.log(sigma), axis=-1) + xp.log(c) + 2 * HALF_LOG_2PI
    log_p, mix_cache = mix_forward(logits, -0.5 * (delta[..., 0] * delta[..., 0] + w * w) - log_scale)
    log_pen, pen_cache = bernoulli_log_density_forward(x[..., 2:], a)
    return log_p + log_pen, PenCache(delta, w, sigma, rho, c, mix_cache, pen_cache)


def pen_log_density_backward(cache, dlog_p):
    """dx (..., 3), dlogits (..., K), dmu, dsigma (..., K, 2), drho (..., K), da (..., 1) from dlog_p (...)."""
    delta, w, sigma, rho, c, mix_cache, pen_cache = cache
    xp = namespace(w)
    dlogits, dlog_n = mix_backward(mix_cache, dlog_p)
    minus_slopes = xp.stack([delta[..., 0] - rho * w / c, w / c], axis=-1)  # -dlog N / ddelta
    dmu = dlog_n[..., None] * minus_slopes / sigma
    dsigma = dlog_n[..., None] * (minus_slopes * delta - 1) / sigma
    drho = dlog_n * (w * delta[..., 0] / c + (1 - w * w) * rho / (c * c))
    dpen, da = bernoulli_log_density_backward(pen_cache, dlog_p)
    return xp.concatenate([-xp.sum(dmu, axis=-2), dpen], axis=-1), dlogits, dmu, dsigma, drho, da


def pen_sample(noise, logits, mu, sigma, rho, a):
    """x (..., 3): k from pi, dx = mu_1 + sigma_1 e_1, dy = mu_2 + sigma_2 (rho e_1 + c e_2), pen-up if u < sigmoid(a).

    noise (..., 4): a uniform for k, a uniform for the pen, e_1, e_2 ~ N(0, 1).
    """
    xp = namespace(mu)
    k = pick(noise[..., :1], categorical_mean(logits))
    rho = xp.sum(k * rho, axis=-1)
    e_1, e_2 = noise[..., 2], noise[..., 3]
    e = xp.stack([e_1, rho * e_1 + xp.sqrt(1 - rho * rho) * e_2], axis=-1)
    step = of_component(k, mu) + of_component(k, sigma) * e
    return xp.concatenate([step, bernoulli_sample(noise[..., 1:2], a)], axis=-1)


def pen_mean(logits, mu, sigma, rho, a):
    """E[x] = (sum_k pi_k mu_k, sigmoid(a)), (..., 3)."""
    return namespace(mu).concatenate([of_component(categorical_mean(logits), mu), sigmoid(a)], axis=-1)
