"""Right answers by kind, for all chapters: none of them may be refused.

Written from the exercises' texts alone. They use constants and masks that promote float32, containers of other types,
NumPy numbers in sets, other orders of summation, other formulas, and what a device array offers.
"""

import math
from collections import OrderedDict, namedtuple

import numpy as np

from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.models import equations
from tinyvrnn.nn import gru

BERNOULLI = LIKELIHOODS["bernoulli"]
LOG_2PI = np.log(2 * np.pi)  # a float64
Two = namedtuple("Two", "first second")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def tanh_sigmoid(a):
    return 0.5 + 0.5 * np.tanh(a / 2)


def pad_by_index(sequences):
    lengths = np.array([len(s) for s in sequences])
    x = np.zeros((lengths.max(), len(sequences), sequences[0].shape[-1]), sequences[0].dtype)
    mask = np.arange(lengths.max())[:, None] < lengths
    x.transpose(1, 0, 2)[mask.T] = np.concatenate(sequences)
    return [x, mask.astype(x.dtype)]


def likelihood_with_a_boolean_mask(params, x, mask):
    h, terms = np.zeros((x.shape[1], len(params["recur"]["U"]))), []  # a state of float64
    for x_t in x:
        (logits,), _ = equations.predict_forward(params["predict"], h, BERNOULLI)
        terms.append(BERNOULLI.log_density_forward(x_t, logits)[0])
        h = equations.remember_forward(params["recur"], equations.features_forward(params["phi_x"], x_t)[0], h)[0]
    return np.sum(terms * (mask > 0), axis=0)


def mixture_one_by_one(x, logits, mu, sigma):
    out = []
    for n in range(len(x)):
        a = logits[n] - np.logaddexp.reduce(logits[n])
        a = a + (-0.5 * ((x[n] - mu[n]) / sigma[n]) ** 2 - np.log(sigma[n]) - LOG_2PI / 2).sum(-1)
        out.append(np.logaddexp.reduce(a))
    return np.array(out)


def covariance_by_loops(weights, p):
    m = sum(w * row for w, row in zip(weights, p))
    second = sum(w * np.outer(row, row) for w, row in zip(weights, p))
    return np.where(np.eye(len(m)), np.diag(m), second) - m[:, None] * m


def log_joint_selected(mu_0, sigma_0, logits, z, x, lengths):
    total = []
    for b, n in enumerate(lengths):
        n = int(n)
        lx = -np.logaddexp(0, np.where(x[:n, b] > 0, -logits[:n, b], logits[:n, b])).sum()
        e = (z[:n, b] - mu_0[:n, b]) / sigma_0[:n, b]
        total.append(lx - (e**2 / 2 + np.log(sigma_0[:n, b]) + LOG_2PI / 2).sum())
    return total


def step_with_booleans(params, h, eps, u):
    (mu, sigma), _ = equations.prior_forward(params["prior"], h)
    z = mu + sigma * eps
    phi_z = equations.features_forward(params["phi_z"], z)[0]
    (logits,), _ = equations.generate_forward(params["generate"], phi_z, h, BERNOULLI)
    x = u < tanh_sigmoid(logits)
    phi_x = equations.features_forward(params["phi_x"], x * 1.0)[0]
    return z, x, equations.recur_forward(params["recur"], phi_x, phi_z, h)[0]


def encoder_in_two_products(p, phi_x, h):
    F = phi_x.shape[-1]
    y = phi_x @ p["W1"][:F] + h @ p["W1"][F:] + p["b1"]
    o = np.where(y > 0, y, 0) @ p["W_out"] + p["b_out"]
    Z = o.shape[-1] // 2
    return Two(o[..., :Z], np.logaddexp(0, o[..., Z:]) + np.float64(1e-4))


def draws_in_lists(params, x, eps):
    H = len(params["recur"]["U"])
    zs, hs = np.empty(eps.shape), np.zeros((len(x) + 1, x.shape[1], H))
    for t in range(len(x)):
        phi_x, _ = equations.features_forward(params["phi_x"], x[t])
        (mu, sigma), _ = equations.infer_forward(params["infer"], phi_x, hs[t])
        zs[t] = mu + sigma * eps[t]
        hs[t + 1], _ = equations.recur_forward(
            params["recur"], phi_x, equations.features_forward(params["phi_z"], zs[t])[0], hs[t]
        )
    return zs, hs


def prices_by_loops(joint, q_1, q_2):
    total, first, second = joint.sum(), 0.0, 0.0
    for k, q in enumerate(q_1):
        first += q * math.log(q / (joint[k].sum() / total))
        second += q * sum(float(a) * math.log(a / (j / joint[k].sum())) for a, j in zip(q_2[k], joint[k]))
    return first, second


def best_filter_in_logs(posts, weights):
    a = (np.log(posts) * weights[:, None]).sum(axis=0)
    log_c = np.logaddexp.reduce(a)
    return np.exp(a - log_c), -log_c


def linear_row_by_row(W, x, dy):
    dW, db = np.zeros(W.shape), np.zeros(W.shape[1])
    for index in np.ndindex(x.shape[:-1]):
        dW += np.outer(x[index], dy[index])
        db += dy[index]
    return dy @ W.T, dW, db


def mlp_ordered(p, x, dy):
    y1 = np.clip(x @ p["W1"] + p["b1"], 0, None)
    a2 = y1 @ p["W2"] + p["b2"]
    d2 = np.where(a2 > 0, dy, 0)
    d1 = d2 @ p["W2"].T * (y1 > 0).astype(int)
    grads = OrderedDict(b2=d2.sum(0), W2=y1.T @ d2, b1=d1.sum(0), W1=x.T @ d1)
    return [d1 @ p["W1"].T, grads]


def gru_by_hand(p, x, h, dh_next):
    H = h.shape[-1]
    a, g = x @ p["W"] + p["b"], h @ p["U"] + p["c"]
    r, u = tanh_sigmoid(a[..., :H] + g[..., :H]), tanh_sigmoid(a[..., H : 2 * H] + g[..., H : 2 * H])
    n = np.tanh(a[..., 2 * H :] + r * g[..., 2 * H :])
    dn, du = dh_next * (1 - u), dh_next * (h - n)
    dan = dn * (1 - n * n)
    dar, dau = dan * g[..., 2 * H :] * r * (1 - r), du * u * (1 - u)
    da, dg = np.concatenate([dar, dau, dan], -1), np.concatenate([dar, dau, dan * r], -1)
    axes = tuple(range(x.ndim - 1))
    grads = {"c": dg.sum(axes), "b": da.sum(axes), "W": np.tensordot(x, da, (axes, axes))}
    return da @ p["W"].T, u * dh_next + dg @ p["U"].T, grads | {"U": np.tensordot(h, dg, (axes, axes))}


def time_with_integers(p, x, h_0, dh, lengths):
    hs, caches = [h_0], []
    for t in range(len(x)):
        h, cache = gru.gru_forward(p, x[t], hs[-1])
        hs.append(h)
        caches.append(cache)
    real = (np.arange(len(x))[:, None] < lengths).astype(int)
    dxs, d, total = [None] * len(x), 0 * h_0, dict.fromkeys(p, 0)
    for t in range(len(x) - 1, -1, -1):
        (dxs[t], d), grads = gru.gru_backward(p, caches[t], dh[t] * real[t][:, None] + d)
        for name in grads:
            total[name] = total[name] + grads[name]
    return np.array(dxs), d, total


def corrected_by_recursion(g, b1):
    m = np.zeros(g.shape[1])
    for row in g:
        m = b1 * m + (1 - b1) * row
    return m / (1 - b1 ** len(g))


def adam_as_a_list(theta, g, m, v, k, lr, b1, b2, eps):
    new_m, new_v = m + (1 - b1) * (g - m), v + (1 - b2) * (g**2 - v)
    hat_m, hat_v = new_m / (1 - np.float64(b1) ** k), new_v / (1 - np.float64(b2) ** k)
    return [theta - np.float64(lr) * hat_m / (hat_v**0.5 + eps), new_m, new_v]


def kalman_by_variance(m, P, x, a, q, r):
    before, prior = a * m, a * a * P + q
    P = prior * r / (prior + r)
    log_p = -(((x - before) ** 2) / (prior + r) + np.log(prior + r) + LOG_2PI) / 2
    return P * (before / prior + x / r), P, log_p


def ledger_in_float64(again, log_w):
    running, total = np.zeros(log_w.shape[1:]), np.zeros(log_w.shape[1])
    for now, w in zip(again.astype(bool), log_w):
        total[now] += np.logaddexp.reduce(running[now], axis=1) - np.log(log_w.shape[2])
        running[now] = 0
        running = running + w
    return total + np.logaddexp.reduce(running, axis=1) - np.log(log_w.shape[2])


def log_mean_exp_row_by_row(xp, a):
    top = a[0]
    for row in a:
        top = xp.maximum(top, row)
    return top + xp.log(sum(xp.exp(row - top) for row in a)) - math.log(len(a))


def log_mean_exp_of_cupys(xp, a):
    total = a[0]
    for k in range(1, len(a)):
        total = xp.logaddexp(total, a[k])
    return total - math.log(len(a))


def clip_of_cupys(xp, g, max_norm):
    return g * xp.minimum(1.0, max_norm / xp.linalg.norm(g))


def pen_by_the_matrix(x, logits, mu, sigma, rho, a):
    d = x[:, None, :2] - mu
    s1, s2, c = sigma[..., 0], sigma[..., 1], 1 - rho**2
    q = (d[..., 0] / s1) ** 2 + (d[..., 1] / s2) ** 2 - 2 * rho * d[..., 0] * d[..., 1] / (s1 * s2)
    log_n = -q / (2 * c) - LOG_2PI - np.log(s1) - np.log(s2) - 0.5 * np.log(c)
    top = logits.max(1, keepdims=True)
    log_pi = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return np.logaddexp.reduce(log_pi + log_n, axis=1) - np.logaddexp(0, np.where(x[:, 2] > 0, -a[:, 0], a[:, 0]))


def gru_gates(a, g, h, squash):
    H = h.shape[-1]
    r, u = squash((a + g)[..., :H]), squash((a + g)[..., H : 2 * H])
    n = np.tanh(a[..., 2 * H :] + r * g[..., 2 * H :])
    return n + u * (h - n)


def glued_where(W, U, b, first, x):
    h, hs = np.zeros((x.shape[1], len(b))), []
    for now, x_t in zip(first, x):
        h = np.tanh(x_t @ W + np.where(now[:, None], 0, h) @ U + b)
        hs.append(h)
    return hs


RIGHT = {
    "00.1": {
        "a sum": lambda x: (0 * x + np.log(0.5)).sum(axis=(0, 2)),
        "a list": lambda x: [x[:, 0].size * -math.log(2)] * x.shape[1],
    },
    "01.1": {"by an index": pad_by_index},
    "01.2": {"a boolean mask": lambda p, m: ((p * (m > 0)).sum() / p.shape[1], np.average(p, weights=m))},
    "01.3": {"a boolean mask": likelihood_with_a_boolean_mask},
    "01.4": {
        "by standard deviations": lambda pi, mu, sigma: (
            np.einsum("nk,nk->n", pi, mu),
            np.sqrt(np.einsum("nk,nk->n", pi, sigma**2 + (mu - (pi * mu).sum(1, keepdims=True)) ** 2)),
        )
    },
    "01.5": {"two digits": 2.3, "of NumPy": np.float32(2.3026)},
    "01.6": {"one by one": mixture_one_by_one},
    "02.1": {"a constant of NumPy's": lambda x, m, s, t: -((x - m) ** 2 + s**2) / (2 * t**2) - np.log(t) - LOG_2PI / 2},
    "02.2": {"0.71": 0.71},
    "02.3": {"from z": lambda mu, s, e, f: [f * e / s, f / s * (e * e) - f / s]},
    "02.4": {
        "by ratios": lambda m, s, n, t: (
            ((s / t) ** 2 + ((m - n) / t) ** 2 - 1).sum(-1) / np.float64(2) - np.log(s / t).sum(-1)
        )
    },
    "02.5": {
        "by rows": lambda x, mu, v, eps, W, b: np.mean(
            [
                np.sum(np.logaddexp(0, (mu[i] + np.exp(v[i] / 2) * eps[i]) @ W + b))
                - x[i] @ ((mu[i] + np.exp(v[i] / 2) * eps[i]) @ W + b)
                + 0.5 * np.sum(np.exp(v[i]) + mu[i] ** 2 - 1 - v[i])
                for i in range(len(x))
            ]
        )
    },
    "03.1": {"a frozen set": frozenset({"state 2", "prior 3", "generation 3"})},
    "03.2": {"by loops": covariance_by_loops},
    "03.3": {"a list": log_joint_selected},
    "03.4": {"booleans": step_with_booleans},
    "04.1": {"two products": encoder_in_two_products},
    "04.2": {"of NumPy": set(np.arange(3, 6)), "an array": np.array([3, 4, 5]), "a range": range(3, 6)},
    "04.3": {"in float64": draws_in_lists},
    "04.5": {"by loops": prices_by_loops},
    "04.6": {"in logarithms": best_filter_in_logs},
    "05.1": {"logaddexp": lambda a: np.logaddexp.reduce(a, axis=0) - np.log(len(a))},
    "05.2": {
        "with 2 pi": lambda x, z, m, s, n, t: (
            x + (gaussian.gaussian_log_density_forward(z, m, s)[0] - gaussian.gaussian_log_density_forward(z, n, t)[0])
        ).sum(axis=0)
    },
    "05.3": {"in float64": lambda s: np.float64(0.5) * s * s, "there and back": lambda s: np.log(np.exp(s**2 / 2))},
    "05.4": {"logaddexp": lambda x, z, q, kl: np.logaddexp.reduce((x + z - q).sum(0), axis=0) - np.log(x.shape[1])},
    "05.5": {"booleans": lambda p, kl, m: (np.where(m > 0, p - kl, 0).sum(0), (p - kl)[m > 0].mean())},
    "06.1": {"row by row": linear_row_by_row},
    "06.2": {
        "from softplus": lambda a, dy: dy * (1 - np.exp(-np.log1p(np.exp(a)))),
        "by signs": lambda a, dy: dy * np.where(a > 0, 1, np.exp(-abs(a))) / (1 + np.exp(-abs(a))),
    },
    "06.3": {"ordered": mlp_ordered},
    "06.4": {
        "by ratios": lambda m, s, n, t, d: (
            d[..., None] * (m - n) / t / t,
            d[..., None] * ((s / t) ** 2 - 1) / s,
            d[..., None] * (n - m) / t / t,
            d[..., None] / t * (1 - (s / t) ** 2 - ((m - n) / t) ** 2),
        )
    },
    "06.5": {"a list": lambda mu, s, e, dz: [dz + 0 * mu, e * dz]},
    "07.1": {
        "naive sigmoid": lambda a, g, h: gru_gates(a, g, h, sigmoid),
        "tanh": lambda *a: gru_gates(*a, tanh_sigmoid),
    },
    "07.2": {"by hand": gru_by_hand},
    "07.3": {"an integer mask": time_with_integers},
    "08.1": {"booleans": lambda e, m: (np.where(m > 0, e, 0).sum(0).mean(), e[m > 0].mean())},
    "08.2": {
        "an OrderedDict": lambda g, top: OrderedDict(
            (k, v / max(1.0, math.sqrt(sum(float((w * w).sum()) for w in g.values())) / top)) for k, v in g.items()
        )
    },
    "08.4": {"by recursion": corrected_by_recursion},
    "08.5": {"a list": adam_as_a_list},
    "08.6": {
        "by max": lambda ell, kl, s, S: (
            np.mean(kl * min((s + 1) / max(S, 1), 1)) - ell.mean(),
            float(np.mean(ell - kl)),
        )
    },
    "09.1": {"by precisions": kalman_by_variance},
    "10.1": {"row by row": log_mean_exp_row_by_row, "logaddexp": log_mean_exp_of_cupys},
    "10.2": {"of NumPy": set(np.array(["B", "C", "E", "G"]))},
    "10.4": {"norm": clip_of_cupys},
    "11.2": {"where": lambda x, a: np.where(x > 0, -np.logaddexp(0.0, -a), -np.logaddexp(0.0, a))},
    "11.3": {
        "a condition": lambda W, U, b, first, x: glued_where(W, U, b, first, x),
    },
    "12.1": {
        "log2": lambda p, n, std: (p - np.log(std).sum() * n, -(p - np.log(std).sum() * n).sum() / n.sum() / np.log(2))
    },
    "12.3": {"the matrix": pen_by_the_matrix},
    "12.4": {"2 digits": 3.47},
    "14.2": {"in float64": ledger_in_float64},
}
