"""The diagonal Gaussian N(mu, diag(sigma^2)): head, reparameterised draw, log-density, KL.

sigma is a standard deviation, not a variance.
"""

import math
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.kernels import fused
from tinyvrnn.nn.activations import sigmoid, softplus
from tinyvrnn.nn.linear import LinearCache, linear_backward, linear_forward, output_layer

SIGMA_MIN = 1e-4
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
DELTA_MAX = 1e15  # limit of a distance or width in standard deviations: float32 can hold its square
LOG_DELTA_MAX = math.log(DELTA_MAX)


class HeadCache(NamedTuple):
    inputs: tuple  # y (..., F), in a tuple as in LinearCache
    s: object  # pre-activation of sigma, (..., Z)


class KLCache(NamedTuple):
    delta: object  # (mu_z - mu_0) / sigma_0, (..., Z)
    ratio_minus_1: object  # (sigma_z / sigma_0)^2 - 1, (..., Z)
    sigma_z: object
    sigma_0: object


class LogRatioCache(NamedTuple):
    eps: object
    delta: object  # (z - mu_0) / sigma_0, (..., Z)
    sigma_z: object
    sigma_0: object


def head_shapes(features, width):
    """{"W_out": (F, 2Z), "b_out": (2Z,)}: the columns are the blocks mu, s."""
    return {"W_out": (features, 2 * width), "b_out": (2 * width,)}


def gaussian_head_forward(p, y):
    """mu = y W_mu + b_mu, sigma = softplus(y W_s + b_s) + 1e-4. y (..., F). Returns (mu, sigma) (..., Z) each, cache.

    p: W_out (F, 2Z) and b_out (2Z,), with columns in the blocks mu, s. The floor 1e-4 keeps densities finite.
    """
    o, _ = linear_forward(output_layer(p), y)
    mu, s = split(o)
    return (mu, sigma_of(s)), HeadCache((y,), s)


def gaussian_head_backward(p, cache, dmu, dsigma):
    """dy (..., F) and grads of W_out, b_out, from dmu, dsigma (..., Z)."""
    do = namespace(dmu).concatenate([dmu, dsigma * sigmoid(cache.s)], axis=-1)
    dy, g = linear_backward(output_layer(p), LinearCache(cache.inputs), do)
    return dy, {"W_out": g["W"], "b_out": g["b"]}


def split(o):
    """The two halves of the last axis: mu and s, as views."""
    width = o.shape[-1] // 2
    return o[..., :width], o[..., width:]


def sigma_of(s):
    """sigma = softplus(s) + 1e-4."""
    sigma = softplus(s)
    sigma += SIGMA_MIN
    return sigma


def reparameterise_forward(mu, sigma, eps):
    """z = mu + sigma * eps, eps ~ N(0, I): a draw of N(mu, sigma^2). All (..., Z). Returns z, cache.

    Source: Kingma and Welling, 2014, arXiv:1312.6114, section 2.4.
    """
    return mu + sigma * eps, (eps, sigma)


def reparameterise_backward(cache, dz):
    """dmu = dz, dsigma = dz * eps, deps = dz * sigma."""
    eps, sigma = cache
    return dz, dz * eps, dz * sigma


@fused("b[mu s] eps", "o[mu s] z", "o_mu += b_mu; o_s += b_s; z = o_mu + (softplus(o_s) + T(1e-4)) * eps;")
def draw(b, eps, o, z):
    """The draw in a loop over time: o += b, which gives [mu, s] (..., 2Z), and z = mu + sigma_of(s) * eps (..., Z)."""
    o += b
    mu, s = split(o)
    sigma_eps = sigma_of(s)
    sigma_eps *= eps
    np.add(mu, sigma_eps, out=z)


@fused("dz dmu ds_dz ds", "do[mu s]", "do_mu = dz + dmu; do_s = dz * ds_dz + ds;")
def draw_backward(dz, dmu, ds_dz, ds, do):
    """The draw in a reverse loop: do (..., 2Z) from dz (..., Z) and the other gradients dmu, ds. Overwrites dz.

    ds_dz: the factor of dz in ds.
    """
    do_mu, do_s = split(do)
    np.add(dz, dmu, out=do_mu)
    dz *= ds_dz
    np.add(dz, ds, out=do_s)


def distances(x, mu, sigma):
    """delta = (x - mu) / sigma, clipped to [-DELTA_MAX, DELTA_MAX]; the arrays broadcast to (..., X)."""
    delta = x - mu
    delta /= sigma
    return namespace(x).clip(delta, -DELTA_MAX, DELTA_MAX, out=delta)


def gaussian_log_density_forward(x, mu, sigma):
    """log N(x; mu, sigma^2), summed over the last axis. All (..., X). Returns log p in nats (...), cache.

    log p = - sum_j [ 0.5 ((x_j - mu_j) / sigma_j)^2 + log sigma_j + 0.5 log 2 pi ]
    """
    xp = namespace(x)
    delta = distances(x, mu, sigma)
    log_p = -xp.sum(0.5 * delta * delta + xp.log(sigma), axis=-1) - x.shape[-1] * HALF_LOG_2PI
    return log_p, (delta, sigma)


def gaussian_log_density_backward(cache, dlog_p):
    """dx, dmu, dsigma (..., X) from dlog_p (...)."""
    delta, sigma = cache
    dmu = dlog_p[..., None] * delta / sigma
    dsigma = dlog_p[..., None] * (delta * delta - 1) / sigma
    return -dmu, dmu, dsigma


def gaussian_log_ratio_forward(mu_z, sigma_z, mu_0, sigma_0, eps):
    """log q(z) - log p(z) in nats (...) at the draw z = mu_z + sigma_z * eps; cache. All (..., Z).

    With q = N(mu_z, sigma_z^2) and p = N(mu_0, sigma_0^2),
    log q(z) - log p(z) = sum_j [ 0.5 ((z - mu_0) / sigma_0)^2 - 0.5 eps^2 + log sigma_0 - log sigma_z ].
    Its mean over eps is KL(q || p). Source: Burda et al., 2016, arXiv:1509.00519, section 3.
    """
    xp = namespace(mu_z)
    delta = distances(mu_z + sigma_z * eps, mu_0, sigma_0)
    ratio = xp.sum(0.5 * delta * delta - 0.5 * eps * eps + xp.log(sigma_0) - xp.log(sigma_z), axis=-1)
    return ratio, LogRatioCache(eps, delta, sigma_z, sigma_0)


def gaussian_log_ratio_backward(cache, dratio):
    """dmu_z, dsigma_z, dmu_0, dsigma_0, deps (..., Z) from dratio (...); z depends on mu_z, sigma_z and eps."""
    eps, delta, sigma_z, sigma_0 = cache
    dratio = dratio[..., None]
    dz = dratio * delta / sigma_0
    dsigma_z = dz * eps - dratio / sigma_z
    dsigma_0 = dratio * (1 - delta * delta) / sigma_0
    return dz, dsigma_z, -dz, dsigma_0, dz * sigma_z - dratio * eps


def gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0):
    """KL( N(mu_z, sigma_z^2) || N(mu_0, sigma_0^2) ) in nats (...), summed over the last axis; cache. All (..., Z).

    KL = sum_j [ 0.5 ((mu_z - mu_0) / sigma_0)^2 + 0.5 expm1(2 d) - d ],  d = log sigma_z - log sigma_0.
    expm1 keeps the digits that (sigma_z / sigma_0)^2 - 1 loses when the two standard deviations are close.
    """
    kl, delta, ratio_minus_1 = kl_of_each(mu_z, sigma_z, mu_0, sigma_0)
    return namespace(mu_z).sum(kl, axis=-1), KLCache(delta, ratio_minus_1, sigma_z, sigma_0)


@fused(
    "mu_z sigma_z mu_0 sigma_0",
    "kl delta ratio_minus_1",
    f"""
    T most = T({DELTA_MAX}), far = (mu_z - mu_0) / sigma_0, d = log(sigma_z) - log(sigma_0);
    d = d > T({LOG_DELTA_MAX}) ? T({LOG_DELTA_MAX}) : d;
    delta = far > most ? most : far < -most ? -most : far;
    ratio_minus_1 = expm1(2 * d);
    kl = delta * delta / 2 + ratio_minus_1 / 2 - d;
    """,
)
def kl_of_each(mu_z, sigma_z, mu_0, sigma_0):
    """The KL of each dimension, delta = (mu_z - mu_0) / sigma_0, and (sigma_z / sigma_0)^2 - 1; (..., Z) each."""
    d = np.minimum(np.log(sigma_z) - np.log(sigma_0), LOG_DELTA_MAX)
    delta = distances(mu_z, mu_0, sigma_0)
    ratio_minus_1 = np.expm1(2 * d)
    return 0.5 * delta * delta + 0.5 * ratio_minus_1 - d, delta, ratio_minus_1


def gaussian_kl_backward(cache, dkl):
    """dmu_z, dsigma_z, dmu_0, dsigma_0 (..., Z) from dkl (...)."""
    return kl_of_each_backward(dkl[..., None], *cache)


@fused(
    "dkl delta ratio_minus_1 sigma_z sigma_0",
    "dmu_z dsigma_z dmu_0 dsigma_0",
    """
    dmu_z = dkl * delta / sigma_0;
    dsigma_z = dkl * ratio_minus_1 / sigma_z;
    dmu_0 = -dmu_z;
    dsigma_0 = -dkl * (delta * delta + ratio_minus_1) / sigma_0;
    """,
)
def kl_of_each_backward(dkl, delta, ratio_minus_1, sigma_z, sigma_0):
    """dmu_z, dsigma_z, dmu_0, dsigma_0 (..., Z), from dkl (..., 1)."""
    dmu_z = dkl * delta / sigma_0
    dsigma_z = dkl * ratio_minus_1 / sigma_z
    dsigma_0 = -dkl * (delta * delta + ratio_minus_1) / sigma_0
    return dmu_z, dsigma_z, -dmu_z, dsigma_0
