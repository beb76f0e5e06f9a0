"""Right answers to the exercises of notebook 03, written in other ways than the notebook's."""

import math
from itertools import product

import numpy as np

from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import equations


def covariance_by_enumeration(weights, p):
    """Every x there is, with its probability: a route that knows no law of total covariance."""
    every = np.array(list(product((0, 1), repeat=p.shape[1])), dtype=p.dtype)
    given_z = np.where(every[:, None, :] == 1, p, 1 - p).prod(axis=-1)  # (2^X, K)
    probability = given_z @ weights
    away = every - probability @ every
    return (away * probability[:, None]).T @ away


def covariance_entry_by_entry(weights, p):
    X = p.shape[1]
    found = np.empty((X, X), p.dtype)
    for i in range(X):
        for j in range(X):
            both = p[:, i] if i == j else p[:, i] * p[:, j]
            found[i, j] = np.sum(weights * both) - np.sum(weights * p[:, i]) * np.sum(weights * p[:, j])
    return found


def log_joint_by_signs(mu_0, sigma_0, logits, z, x, lengths):
    density = np.exp(-0.5 * ((z - mu_0) / sigma_0) ** 2) / (sigma_0 * math.sqrt(2 * math.pi))
    log_x = -np.logaddexp(0, (1 - 2 * x) * logits)
    return np.stack([np.log(density[:n, b]).sum() + log_x[:n, b].sum() for b, n in enumerate(lengths)])


def log_joint_step_by_step(mu_0, sigma_0, logits, z, x, lengths):
    total = np.zeros(x.shape[1], x.dtype)
    for t in range(len(x)):
        delta = (z[t] - mu_0[t]) / sigma_0[t]
        log_p_z = -(delta**2 / 2 + np.log(sigma_0[t]) + math.log(2 * math.pi) / 2).sum(-1)
        log_p_x = (x[t] * logits[t] - np.logaddexp(logits[t], np.zeros_like(logits[t]))).sum(-1)
        total += np.where(t < lengths, log_p_z + log_p_x, np.zeros_like(total))
    return total


def mlp(p, v):
    return np.maximum(v @ p["W1"] + p["b1"], 0)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru(p, x, h):
    H = h.shape[-1]
    a, g = x @ p["W"] + p["b"], h @ p["U"] + p["c"]
    r, u = sigmoid(a[..., :H] + g[..., :H]), sigmoid(a[..., H : 2 * H] + g[..., H : 2 * H])
    return (1 - u) * np.tanh(a[..., 2 * H :] + r * g[..., 2 * H :]) + u * h


def gaussian_head(p, v):
    o = mlp(p, v) @ p["W_out"] + p["b_out"]
    Z = o.shape[-1] // 2
    return o[..., :Z], np.log1p(np.exp(o[..., Z:])) + 1e-4


def step_without_the_package(params, h, eps, u):
    mu_0, sigma_0 = gaussian_head(params["prior"], h)
    z = sigma_0 * eps + mu_0
    phi_z = mlp(params["phi_z"], z)
    p = params["generate"]
    logits = mlp(p, np.concatenate([phi_z, h], axis=1)) @ p["W_out"] + p["b_out"]
    x = np.where(u < sigmoid(logits), np.ones_like(logits), np.zeros_like(logits))
    return z, x, gru(params["recur"], np.concatenate([mlp(params["phi_x"], x), phi_z], axis=1), h)


def step_by_the_likelihood(params, h, eps, u):
    likelihood = LIKELIHOODS["bernoulli"]
    (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], h)
    z = np.multiply(eps, sigma_0) + mu_0
    phi_z = equations.features_forward(params["phi_z"], z)[0]
    outputs = equations.generate_forward(params["generate"], phi_z, h, likelihood)[0]
    x = likelihood.sample(u, *outputs)
    return [z, x, equations.recur_forward(params["recur"], mlp(params["phi_x"], x), phi_z, h)[0]]


def priors_without_the_package(params, x, z):
    T, B, H = len(x), x.shape[1], len(params["recur"]["U"])
    h = np.zeros((T + 1, B, H), x.dtype)
    for t in range(T):
        v = np.concatenate([mlp(params["phi_x"], x[t]), mlp(params["phi_z"], z[t])], axis=1)
        h[t + 1] = gru(params["recur"], v, h[t])
    return gaussian_head(params["prior"], h[:-1])


def priors_into_arrays(params, x, z):
    mu_0, sigma_0 = np.empty_like(z), np.empty_like(z)
    h = np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype)
    phi_x, phi_z = (equations.features_forward(params[f"phi_{v}"], a)[0] for v, a in (("x", x), ("z", z)))
    for t in range(len(x)):
        (mu_0[t], sigma_0[t]), _ = equations.prior_forward(params["prior"], h)
        h, _ = equations.recur_forward(params["recur"], phi_x[t], phi_z[t], h)
    return mu_0, sigma_0


RIGHT = {
    "03.1": [["state 2", "prior 3", "generation 3"], ("generation 3", "State 2 ", "prior 3")],
    "03.2": [covariance_by_enumeration, covariance_entry_by_entry],
    "03.3": [log_joint_by_signs, log_joint_step_by_step],
    "03.4": [step_without_the_package, step_by_the_likelihood],
    "03.5": [priors_without_the_package, priors_into_arrays],
    "03.6": [1 / 32, 0.03125, 0.031, 0.0312, 0.0313],
}
