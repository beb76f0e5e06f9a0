"""Right answers to the exercises of notebook 07, written in other ways than the notebook's."""

import numpy as np

from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.models import equations
from tinyvrnn.nn import gru


def sigmoid(v):
    return 0.5 * np.tanh(0.5 * v) + 0.5


def gates_by_split(a, g, h):
    a_r, a_u, a_n = np.split(a, 3, axis=-1)
    g_r, g_u, g_n = np.split(g, 3, axis=-1)
    u = sigmoid(a_u + g_u)
    return (1 - u) * np.tanh(a_n + sigmoid(a_r + g_r) * g_n) + u * h


def gates_by_reshape(a, g, h):
    a, g = (np.moveaxis(v.reshape(*h.shape[:-1], 3, h.shape[-1]), -2, 0) for v in (a, g))
    r, u = 1 / (1 + np.exp(-(a[:2] + g[:2])))
    n = np.tanh(a[2] + r * g[2])
    return n + u * (h - n)


def gru_gate_by_gate(p, x, h, dh_next):
    H = h.shape[-1]
    W, b, U, c = ([v[..., k * H : (k + 1) * H] for k in range(3)] for v in (p["W"], p["b"], p["U"], p["c"]))
    r, u = (sigmoid(x @ W[k] + b[k] + h @ U[k] + c[k]) for k in (0, 1))
    g_n = h @ U[2] + c[2]
    n = np.tanh(x @ W[2] + b[2] + r * g_n)
    du, dn, dh = dh_next * (h - n), dh_next * (1 - u), dh_next * u
    dbar = dn * (1 - n**2)
    ds = [dbar * g_n * r * (1 - r), du * u * (1 - u)]
    x_side, h_side = [*ds, dbar], [*ds, dbar * r]
    dx = sum(d @ w.T for d, w in zip(x_side, W))
    dh = dh + sum(d @ w.T for d, w in zip(h_side, U))
    grads = {}
    for name, v, side in (("W", x, x_side), ("U", h, h_side)):
        grads[name] = np.concatenate([v.reshape(-1, v.shape[-1]).T @ d.reshape(-1, H) for d in side], axis=1)
    for name, side in (("b", x_side), ("c", h_side)):
        grads[name] = np.concatenate([d.reshape(-1, H).sum(0) for d in side])
    return dx, dh, grads


def gru_from_its_cache(p, x, h, dh_next):
    _, cache = gru.gru_forward(p, x, h)
    H = h.shape[-1]
    r, u, n, g_n = cache.ru[..., :H], cache.ru[..., H:], cache.n, cache.g_n
    da_n = dh_next * (1 - u) * (1 - n) * (1 + n)
    da_ru = np.concatenate([da_n * g_n, dh_next * (h - n)], axis=-1) * cache.ru * (1 - cache.ru)
    da, dg = (np.concatenate([da_ru, last], axis=-1) for last in (da_n, da_n * r))
    axes = tuple(range(x.ndim - 1))
    grads = {"c": dg.sum(axis=axes), "U": np.tensordot(h, dg, (axes, axes))}
    grads |= {"b": da.sum(axis=axes), "W": np.tensordot(x, da, (axes, axes))}
    return da @ p["W"].T, dg @ p["U"].T + dh_next * u, grads


def time_by_recursion(p, x, h_0, dh, lengths):
    def rest(t, h):
        """dx of steps t.., dh at the state before t, grads of steps t.."""
        if t == len(x):
            return [], np.zeros_like(h), {name: np.zeros_like(v) for name, v in p.items()}
        h_t, cache = gru.gru_forward(p, x[t], h)
        dxs, dh_t, grads = rest(t + 1, h_t)
        own = np.where((t < lengths)[:, None], dh[t], np.zeros_like(dh[t]))
        (dx, dh_before), here = gru.gru_backward(p, cache, own + dh_t)
        return [dx, *dxs], dh_before, {name: grads[name] + here[name] for name in p}

    dxs, dh_0, grads = rest(0, h_0)
    return np.stack(dxs), dh_0, grads


def time_one_sequence_at_a_time(p, x, h_0, dh, lengths):
    dx, dh_0, total = np.zeros_like(x), np.zeros_like(h_0), {name: np.zeros_like(v) for name, v in p.items()}
    for b, length in enumerate(lengths):
        h, caches = h_0[b : b + 1], []
        for t in range(length):
            h, cache = gru.gru_forward(p, x[t, b : b + 1], h)
            caches.append(cache)
        d = np.zeros_like(h)
        while caches:
            t = len(caches) - 1
            (dx[t, b : b + 1], d), grads = gru.gru_backward(p, caches.pop(), d + dh[t, b : b + 1])
            for name in p:
                total[name] += grads[name]
        dh_0[b] = d[0]
    return dx, dh_0, total


def after_by_einsum(x, h, r, da):
    H = r.shape[-1]
    dg = np.concatenate([da[..., : 2 * H], da[..., 2 * H :] * r], axis=-1)
    return np.einsum("tbi,tbj->ij", x, da), da.sum((0, 1)), np.einsum("tbi,tbj->ij", h[:-1], dg), dg.sum((0, 1))


def after_step_by_step(x, h, r, da):
    total = [0, 0, 0, 0]
    for t in range(len(x)):
        dg = np.hstack([da[t, :, : 2 * r.shape[-1]], da[t, :, 2 * r.shape[-1] :] * r[t]])
        shares = x[t].T @ da[t], da[t].sum(axis=0), h[t].T @ dg, dg.sum(axis=0)
        total = [a + b for a, b in zip(total, shares)]
    return total


def roads_by_hand(params, cache, dlog_p, dkl, dh_t):
    _, prior_cache, infer_cache, z_cache, phi_z_cache, generate_cache, log_p_cache, kl_cache, recur_cache = cache
    likelihood = LIKELIHOODS["bernoulli"]
    (_, dphi_z, dh), _ = equations.recur_backward(params["recur"], recur_cache, dh_t)
    (more, dh_1), _ = equations.generate_backward(
        params["generate"],
        generate_cache,
        likelihood.log_density_backward(log_p_cache, dlog_p)[1],
        likelihood=likelihood,
    )
    dz, _ = equations.features_backward(params["phi_z"], phi_z_cache, dphi_z + more)
    dmu_z, dsigma_z, dmu_0, dsigma_0 = gaussian.gaussian_kl_backward(kl_cache, dkl)
    eps, _ = z_cache
    (_, dh_2), _ = equations.infer_backward(params["infer"], infer_cache, dmu_z + dz, dsigma_z + dz * eps)
    dh_3, _ = equations.prior_backward(params["prior"], prior_cache, dmu_0, dsigma_0)
    return dh + dh_1 + dh_2 + dh_3


def roads_in_two_parts(params, cache, dlog_p, dkl, dh_t):
    """Linear in the three gradients: the bound's own share, and the future's."""
    zero = np.zeros_like(dkl)
    return roads_by_hand(params, cache, dlog_p, dkl, np.zeros_like(dh_t)) + roads_by_hand(
        params, cache, zero, zero, dh_t
    )


RIGHT = {
    "07.1": [gates_by_split, gates_by_reshape],
    "07.2": [gru_gate_by_gate, gru_from_its_cache],
    "07.3": [time_by_recursion, time_one_sequence_at_a_time],
    "07.4": [after_by_einsum, after_step_by_step],
    "07.5": [["infer", "draw", "phi_z", "recur"], {"Recur", " phi_z", "infer", "draw"}],
    "07.6": [roads_by_hand, roads_in_two_parts],
}
