"""Right answers to the exercises of notebook 05, written in other ways than the notebook's."""

import math

import numpy as np


def log_mean_by_logaddexp(log_w):
    return np.logaddexp.reduce(log_w, axis=0) - np.asarray(math.log(len(log_w)), log_w.dtype)


def log_mean_one_by_one(log_w):
    total = log_w[0].copy()
    for row in log_w[1:]:
        high, low = np.maximum(total, row), np.minimum(total, row)
        total = high + np.log1p(np.exp(low - high))
    return (total - math.log(log_w.shape[0])).astype(log_w.dtype)


def weight_without_2_pi(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    by_latent = 0.5 * ((z - mu_z) / sigma_z) ** 2 - 0.5 * ((z - mu_0) / sigma_0) ** 2 + np.log(sigma_z / sigma_0)
    return log_p_x.sum(axis=0) + by_latent.sum(axis=(0, 2))


def weight_step_by_step(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z):
    def log_normal(v, mu, sigma):
        return -np.sum((v - mu) ** 2 / (2 * sigma**2) + np.log(sigma * math.sqrt(2 * math.pi)), axis=-1)

    log_w = np.zeros_like(log_p_x[0])
    for t in range(len(log_p_x)):
        log_w = log_w + log_p_x[t] + log_normal(z[t], mu_0[t], sigma_0[t]) - log_normal(z[t], mu_z[t], sigma_z[t])
    return log_w


def gap_by_a_product(s):
    return 0.5 * s * s


def gap_by_an_integral(s):
    eps, weight = np.polynomial.hermite_e.hermegauss(90)
    weight = weight / weight.sum()
    return np.log(np.exp(s[:, None] * eps) @ weight).astype(s.dtype)


def masked_by_where(log_p, kl, mask):
    terms = np.where(mask > 0, log_p - kl, np.zeros_like(kl))
    return terms.sum(axis=0), terms.sum() / mask.sum()


def masked_by_slices(log_p, kl, mask):
    lengths = [int(n) for n in mask.sum(axis=0)]
    elbo = np.array([(log_p[:n, b] - kl[:n, b]).sum() for b, n in enumerate(lengths)], dtype=log_p.dtype)
    return elbo, elbo.sum() / sum(lengths)


def importance_by_logaddexp(log_p_x, log_p_z, log_q, kl):
    return log_mean_by_logaddexp(np.sum(log_p_x, 0) + np.sum(log_p_z, 0) - np.sum(log_q, 0))


def importance_by_the_smallest_mend(log_p_x, log_p_z, log_q, kl):
    """The function with the bug, one line of it changed."""
    log_w = (log_p_x + log_p_z - log_q).sum(axis=0)
    return np.logaddexp.reduce(log_w, axis=0) - float(np.log(len(log_w)))


def importance_in_two_steps(log_p_x, log_p_z, log_q, kl):
    log_w = np.sum(log_p_x, axis=0) + np.sum(log_p_z - log_q, axis=0)
    return np.max(log_w, axis=0) + np.log(np.mean(np.exp(log_w - np.max(log_w, axis=0)), axis=0))


RIGHT = {
    "05.1": [log_mean_by_logaddexp, log_mean_one_by_one],
    "05.2": [weight_without_2_pi, weight_step_by_step],
    "05.3": [gap_by_a_product, gap_by_an_integral],
    "05.4": [importance_by_logaddexp, importance_in_two_steps, importance_by_the_smallest_mend],
    "05.5": [masked_by_where, masked_by_slices],
    "05.6": [["w", "eq11", "ten"], {"TEN", "eq11", "w "}],
}
