"""The mixture of K diagonal Gaussians, sum_k pi_k N(mu_k, diag(sigma_k^2)), pi = softmax(logits): VRNN-GMM's output.

`mix_*` turns the components' log-densities into that of any mixture; pen.py uses it too.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.categorical import categorical_mean, pick
from tinyvrnn.distributions.gaussian import HALF_LOG_2PI, distances, gaussian_head_backward, gaussian_head_forward
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.nn.activations import log_softmax
from tinyvrnn.nn.linear import LinearCache, linear_backward, linear_forward


class MixCache(NamedTuple):
    pi: object  # weights, (..., K)
    r: object  # responsibilities P(k | x), (..., K)


class GmmCache(NamedTuple):
    delta: object  # (x - mu_k) / sigma_k, (..., K, X)
    sigma: object  # (..., K, X)
    mix: MixCache


def head_shapes(features, width, components):
    """{"W_out": (F, 2KX), "b_out": (2KX,), "W_pi": (F, K), "b_pi": (K,)}; W_out has the blocks mu KX, s KX."""
    weights = {"W_pi": (features, components), "b_pi": (components,)}
    return gaussian_head_shapes(features, components * width) | weights


def gmm_head_forward(p, y):
    """logits = y W_pi + b_pi, and one Gaussian head for all components. y (..., F).

    Returns (logits (..., K), mu (..., K, X), sigma (..., K, X)), cache.
    """
    logits, _ = linear_forward({"W": p["W_pi"], "b": p["b_pi"]}, y)
    (mu, sigma), cache = gaussian_head_forward(p, y)
    K = logits.shape[-1]
    return (logits, by_component(mu, K), by_component(sigma, K)), cache


def gmm_head_backward(p, cache, dlogits, dmu, dsigma):
    """dy (..., F) and grads of W_out, b_out, W_pi, b_pi, from dlogits (..., K), dmu, dsigma (..., K, X)."""
    dy, grads = gaussian_head_backward(p, cache, all_components(dmu), all_components(dsigma))
    dy_pi, g = linear_backward({"W": p["W_pi"], "b": p["b_pi"]}, LinearCache(cache.inputs), dlogits)
    dy += dy_pi
    return dy, grads | {"W_pi": g["W"], "b_pi": g["b"]}


def by_component(a, components):
    """Reshape a (..., K D) to (..., K, D)."""
    return a.reshape(*a.shape[:-1], components, a.shape[-1] // components)


def all_components(a):
    """Reshape a (..., K, D) to (..., K D)."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def mix_forward(logits, log_n):
    """log sum_k pi_k exp(log_n_k), pi = softmax(logits). Both (..., K). Returns log p in nats (...), cache.

    Factoring out the largest term makes its exponential 1, so the sum neither overflows nor vanishes.
    """
    xp = namespace(logits)
    log_pi = log_softmax(logits)
    joint = log_pi + log_n
    largest = xp.max(joint, axis=-1, keepdims=True)
    r = xp.exp(joint - largest)
    total = xp.sum(r, axis=-1, keepdims=True)
    r /= total
    return (largest + xp.log(total))[..., 0], MixCache(xp.exp(log_pi), r)


def mix_backward(cache, dlog_p):
    """dlogits = dlog_p (r - pi), dlog_n = dlog_p r, (..., K) each, r the responsibilities. dlog_p (...)."""
    return dlog_p[..., None] * (cache.r - cache.pi), dlog_p[..., None] * cache.r


def gmm_log_density_forward(x, logits, mu, sigma):
    """log sum_k pi_k N(x; mu_k, sigma_k^2), pi = softmax(logits). Returns log p in nats (...), cache.

    x (..., X), logits (..., K), mu, sigma (..., K, X), sigma >= 1e-4. Finite for any finite float32.
    Source: Bishop, 1994, Mixture Density Networks.
    """
    xp = namespace(x)
    delta = distances(x[..., None, :], mu, sigma)
    log_n = -xp.sum(0.5 * delta * delta + xp.log(sigma), axis=-1) - x.shape[-1] * HALF_LOG_2PI
    log_p, mix_cache = mix_forward(logits, log_n)
    return log_p, GmmCache(delta, sigma, mix_cache)


def gmm_log_density_backward(cache, dlog_p):
    """dx (..., X), dlogits (..., K), dmu, dsigma (..., K, X) from dlog_p (...)."""
    delta, sigma, mix_cache = cache
    dlogits, dlog_n = mix_backward(mix_cache, dlog_p)
    dmu = dlog_n[..., None] * delta / sigma
    dsigma = dlog_n[..., None] * (delta * delta - 1) / sigma
    return -namespace(dmu).sum(dmu, axis=-2), dlogits, dmu, dsigma


def of_component(one_hot, a):
    """The row a_k (..., D) of a (..., K, D) that one_hot (..., K) selects."""
    return namespace(a).sum(one_hot[..., None] * a, axis=-2)


def gmm_sample(noise, logits, mu, sigma):
    """x = mu_k + sigma_k * eps, (..., X), with k drawn from pi. noise (..., 1 + X): a uniform, then eps ~ N(0, I)."""
    k = pick(noise[..., :1], categorical_mean(logits))
    return of_component(k, mu) + of_component(k, sigma) * noise[..., 1:]


def gmm_mean(logits, mu, sigma):
    """E[x] = sum_k pi_k mu_k, (..., X)."""
    return of_component(categorical_mean(logits), mu)
