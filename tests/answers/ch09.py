"""Right answers to the exercises of notebook 09, written in other ways than the notebook's."""

import math

import numpy as np


def kalman_by_precisions(m, P, x, a, q, r):
    predicted, variance = a * m, a * P * a + q
    P = 1 / (1 / variance + 1 / r)
    spread = np.sqrt(variance + r)
    log_p = -np.log(spread) - 0.5 * ((x - predicted) / spread) ** 2 - 0.5 * math.log(2 * math.pi)
    return P * (predicted / variance + x / r), P, log_p


def kalman_by_two_by_two(m, P, x, a, q, r):
    """Row by row, from the covariance of (z_t, x_t)."""
    means, variances, scores = np.empty_like(m), np.empty_like(m), np.empty_like(m)
    for b in range(len(m)):
        V = a**2 * P[b] + q
        cov = np.array([[V, V], [V, V + r]])
        innovation = x[b] - a * m[b]
        means[b] = a * m[b] + cov[0, 1] / cov[1, 1] * innovation
        variances[b] = np.linalg.det(cov) / cov[1, 1]
        scores[b] = -0.5 * innovation**2 / cov[1, 1] - 0.5 * math.log(2 * math.pi * cov[1, 1])
    return means, variances, scores


def prices_in_one_go(s, v):
    wide = s**2 + v
    exact = 0.5 * np.log(s**2 / wide) + (wide + v) / (2 * s**2) - 0.5
    return 1 * s, v / (2 * s * s), exact


def prices_by_the_minimum(s, v):
    """The average price at a sigma; its minimum by Newton's method in log sigma."""

    def price(sigma):
        return np.log(s / sigma) + (sigma * sigma + v) / (2 * s * s) - 0.5

    log_sigma = np.log(s) + 0.3
    for _ in range(8):
        ratio = np.exp(2 * log_sigma) / s**2
        log_sigma = log_sigma - (ratio - 1) / (2 * ratio)
    return np.exp(log_sigma), price(np.exp(log_sigma)), price(np.sqrt(s * s + v))


RIGHT = {
    "09.1": [kalman_by_precisions, kalman_by_two_by_two],
    "09.2": [["narrow", "filtering", "prior"], (" Narrow", "FILTERING", "prior ")],
    "09.3": [prices_in_one_go, prices_by_the_minimum],
}
