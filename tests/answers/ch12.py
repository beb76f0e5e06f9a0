"""Right answers to the exercises of notebook 12, written in other ways than the notebook's."""

import math

import numpy as np


def units_by_a_product(log_p, lengths, std):
    """One log of the volume of a step's box, then base 2."""
    raw = log_p - np.log(np.prod(std)) * lengths
    return raw, -(raw @ np.ones_like(raw)) / (lengths.sum() * math.log(2))


def units_number_by_number(log_p, lengths, std):
    raw = log_p.copy()
    for b in range(len(raw)):
        for sigma in std:
            raw[b] -= lengths[b] * np.log(sigma)
    return [raw, (np.log2(np.exp(np.ones_like(raw[0]))) * -raw.sum() / lengths.sum())]


def ink_step_by_step(x):
    lines, ink, at = [], [], x[0, :2].copy()
    for before, step in zip(x[:-1], x[1:]):
        to = at + step[:2]
        lines.append(np.concatenate([at, to]))
        ink.append(1 - before[2])
        at = to
    return np.array(lines), np.array(ink)


def ink_stroke_by_stroke(x):
    """All lines with ink but those that end a stroke; float dtype of x kept."""
    path, ink = np.add.accumulate(x[:, :2]), np.ones_like(x[1:, 0])
    ends = np.flatnonzero(x[:, 2])
    ink[ends[ends < len(ink)]] = 0
    return [np.hstack([path[:-1], path[1:]]), ink]


def pen_as_graves_prints_it(x, logits, mu, sigma, rho, a):
    d1, d2 = np.moveaxis((x[:, None, :2] - mu) / sigma, -1, 0)
    z = d1**2 + d2**2 - 2 * rho * d1 * d2
    log_n = (
        -z / (2 * (1 - rho**2)) - np.log(sigma[..., 0] * sigma[..., 1] * np.sqrt(1 - rho**2)) - math.log(2 * math.pi)
    )
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    top = log_n.max(axis=1)
    mixed = top + np.log((weights * np.exp(log_n - top[:, None])).sum(axis=1))
    signed = (2 * x[:, 2] - 1) * a[:, 0]
    return mixed - np.logaddexp(np.zeros_like(signed), -signed)


def pen_by_covariances(x, logits, mu, sigma, rho, a):
    """Each step and component by itself, from the inverse and the determinant of a covariance written out."""
    found = np.empty_like(x[:, 0])
    for n in range(len(x)):
        terms, total = [], None
        for k in range(logits.shape[1]):
            (s1, s2), r = sigma[n, k], rho[n, k]
            precision = np.array([[s2 * s2, -r * s1 * s2], [-r * s1 * s2, s1 * s1]]) / (s1 * s1 * s2 * s2 * (1 - r * r))
            d = x[n, :2] - mu[n, k]
            terms.append(-0.5 * d @ precision @ d + 0.5 * np.log(np.linalg.det(precision)) - math.log(2 * math.pi))
            total = logits[n, k] if total is None else np.logaddexp(total, logits[n, k])
        log_p = None
        for k, term in enumerate(terms):
            v = term + logits[n, k] - total
            log_p = v if log_p is None else np.logaddexp(log_p, v)
        found[n] = log_p + x[n, 2] * a[n, 0] - np.logaddexp(0 * a[n, 0], a[n, 0])
    return found


RIGHT = {
    "12.1": [units_by_a_product, units_number_by_number],
    "12.2": [ink_step_by_step, ink_stroke_by_stroke],
    "12.3": [pen_as_graves_prints_it, pen_by_covariances],
    "12.4": [3.47, 5 * np.log(2)],
}
