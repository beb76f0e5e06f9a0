"""Right answers to the exercises of notebook 01, written in other ways than the notebook's."""

import math

import numpy as np

from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.models import equations


def pad_each(sequences):
    T = max(map(len, sequences))
    padded = [np.pad(s, ((0, T - len(s)), (0, 0))) for s in sequences]
    masks = [np.pad(np.ones_like(s[:, 0]), (0, T - len(s))) for s in sequences]
    return np.stack(padded, axis=1), np.stack(masks, axis=1)


def pad_step_by_step(sequences):
    T = max(len(s) for s in sequences)
    nothing = np.zeros_like(sequences[0][0])
    x = [[s[t] if t < len(s) else nothing for s in sequences] for t in range(T)]
    mask = [[float(t < len(s)) for s in sequences] for t in range(T)]
    return np.array(x), np.array(mask, dtype=nothing.dtype)


def nats_by_selection(log_p, mask):
    real = log_p[mask == 1]
    return real.sum() / log_p.shape[1], real.mean()


def nats_sequence_by_sequence(log_p, mask):
    sums = [log_p[mask[:, b] > 0, b].sum() for b in range(log_p.shape[1])]
    return np.mean(sums, dtype=log_p.dtype), np.sum(sums, dtype=log_p.dtype) / mask.sum()


def likelihood_states_first(params, x, mask):
    likelihood, h = LIKELIHOODS["bernoulli"], np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype)
    phi_x, states = equations.features_forward(params["phi_x"], x)[0], []
    for phi in phi_x:
        states.append(h)
        h, _ = equations.remember_forward(params["recur"], phi, h)
    outputs, _ = equations.predict_forward(params["predict"], np.stack(states), likelihood)
    return np.where(mask > 0, likelihood.log_density_forward(x, *outputs)[0], 0).sum(axis=0)


def mlp(p, v):
    return np.maximum(v @ p["W1"] + p["b1"], 0)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru(p, x, h):
    H = h.shape[-1]
    a, g = x @ p["W"] + p["b"], h @ p["U"] + p["c"]
    r, u = sigmoid(a[..., :H] + g[..., :H]), sigmoid(a[..., H : 2 * H] + g[..., H : 2 * H])
    return (1 - u) * np.tanh(a[..., 2 * H :] + r * g[..., 2 * H :]) + u * h


def likelihood_one_by_one(params, x, mask):
    """A sequence at a time, cut to its length, with nothing of the package."""
    found, p = [], params["predict"]
    for b in range(x.shape[1]):
        h, total = np.zeros(len(params["recur"]["U"]), x.dtype), np.zeros((), x.dtype)
        for x_t in x[: int(mask[:, b].sum()), b]:
            logits = mlp(p, h) @ p["W_out"] + p["b_out"]
            total = total - np.logaddexp(0, np.where(x_t == 1, -logits, logits)).sum()
            h = gru(params["recur"], mlp(params["phi_x"], x_t), h)
        found.append(total)
    return np.array(found)


def best_gaussian_by_parts(pi, mu, sigma):
    """Var = E[Var given k] + Var[E given k]."""
    m = np.einsum("nk,nk->n", pi, mu)
    within, between = (pi * sigma * sigma).sum(1), (pi * mu * mu).sum(1) - m * m
    return m, (within + between) ** 0.5


def best_gaussian_row_by_row(pi, mu, sigma):
    m, s = np.empty_like(pi[:, 0]), np.empty_like(pi[:, 0])
    for n in range(len(pi)):
        m[n] = pi[n] @ mu[n]
        s[n] = math.sqrt(sum(pi[n, k] * (sigma[n, k] ** 2 + (mu[n, k] - m[n]) ** 2) for k in range(pi.shape[1])))
    return m, s


def gmm_by_logaddexp(x, logits, mu, sigma):
    log_p, log_total = None, None
    for k in range(logits.shape[1]):
        log_n, _ = gaussian.gaussian_log_density_forward(x, mu[:, k], sigma[:, k])
        a, b = logits[:, k] + log_n, logits[:, k]
        log_p, log_total = (a, b) if k == 0 else (np.logaddexp(log_p, a), np.logaddexp(log_total, b))
    return log_p - log_total


def gmm_by_softmax(x, logits, mu, sigma):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    log_n = -(((np.expand_dims(x, 1) - mu) / sigma) ** 2 + 2 * np.log(sigma) + math.log(2 * math.pi)).sum(-1) / 2
    top = log_n.max(axis=1)
    return top + np.log((weights * np.exp(log_n - top[:, None])).sum(axis=1))


RIGHT = {
    "01.1": [pad_each, pad_step_by_step],
    "01.2": [nats_by_selection, nats_sequence_by_sequence],
    "01.3": [likelihood_states_first, likelihood_one_by_one],
    "01.4": [best_gaussian_by_parts, best_gaussian_row_by_row],
    "01.5": [2.3, np.log(10)],
    "01.6": [gmm_by_logaddexp, gmm_by_softmax],
}
