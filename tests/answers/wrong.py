"""Wrong answers by kind, for all exercises: none of them may pass.

Written from the exercises' texts alone, without a look at the graders. Most are right on tame arguments and fail where
gates saturate, an axis has length 1, two axes are equally long, weights spread widely, or a value is exactly 0.
"""

import math

import numpy as np

from tinyvrnn.arrays.backend import backend_of, get_backend, to_host
from tinyvrnn.distributions import LIKELIHOODS, gaussian
from tinyvrnn.models import equations, particles
from tinyvrnn.nn import gru

BERNOULLI = LIKELIHOODS["bernoulli"]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def features(params, name, v):
    return equations.features_forward(params[name], v)[0]


def states_0(params, x):
    return np.zeros((x.shape[1], len(params["recur"]["U"])), x.dtype)


# ---- 01 ------------------------------------------------------------------------------------------


def pad_with(mask_of, sequences):
    T, B = max(map(len, sequences)), len(sequences)
    x = np.zeros((T, B, sequences[0].shape[1]), sequences[0].dtype)
    for b, s in enumerate(sequences):
        x[: len(s), b] = s
    return x, mask_of(x, np.array([[t < len(s) for s in sequences] for t in range(T)]).astype(x.dtype))


def pad_mask(sequences):
    return pad_with(lambda x, mask: mask, sequences)[1]


def pad_and_empty(sequences):
    result = pad_with(lambda x, mask: mask, sequences)
    sequences.clear()
    return result


def pad_longest_first(sequences):
    sequences.sort(key=len, reverse=True)
    return pad_with(lambda x, mask: mask, sequences)


def likelihood_until_one_ends(params, x, mask):
    h, total = states_0(params, x), 0
    for x_t, real in zip(x, mask):
        if not real.all():
            break
        (logits,), _ = equations.predict_forward(params["predict"], h, BERNOULLI)
        total = total + BERNOULLI.log_density_forward(x_t, logits)[0]
        h, _ = equations.remember_forward(params["recur"], features(params, "phi_x", x_t), h)
    return total


def likelihood(params, x, mask, start=0.0, clip=np.inf, width=None):
    h = np.full((x.shape[1], width or len(params["recur"]["U"])), start, x.dtype)
    total = 0
    for x_t, real in zip(x, mask):
        (logits,), _ = equations.predict_forward(params["predict"], h, BERNOULLI)
        logits = np.clip(logits, -clip, clip)
        total = total + real * BERNOULLI.log_density_forward(x_t, logits)[0]
        h, _ = equations.remember_forward(params["recur"], features(params, "phi_x", x_t), h)
    return total


def mixture(x, logits, mu, sigma, log_2pi=None, top=None, log_pi=None, floor=-np.inf):
    log_2pi = float(np.log(2 * np.pi)) if log_2pi is None else log_2pi
    delta = (x[:, None, :] - mu) / sigma
    log_n = (-0.5 * delta**2 - np.log(sigma) - 0.5 * log_2pi).sum(axis=-1)
    a = logits + log_n if log_pi is None else log_pi(logits) + log_n
    highest = a.max(axis=1) if top is None else top(a)
    e = np.exp(np.maximum(a - np.reshape(highest, (-1, 1)), floor))
    normaliser = np.logaddexp.reduce(logits, axis=1) if log_pi is None else 0
    return highest + np.log(e.sum(axis=1)) - normaliser


# ---- 02 ------------------------------------------------------------------------------------------


def fit(x, m, s, t, square=lambda x, m, s, t: (x - m) ** 2 + s**2, norm=np.log):
    return -0.5 * square(x, m, s, t) / t**2 - norm(t) - 0.5 * float(np.log(2 * np.pi))


def loss(noise=lambda v: np.exp(v / 2), fit=lambda x, a: x * a - np.logaddexp(0 * a, a), kl=lambda q: q, bias=1):
    """The loss with one part changed: kl changes -mean(...) of the KL's terms, fit the terms of log p."""

    def answer(x, mu, v, eps, W, b):
        own, log_p = 1 + v - mu**2 - np.exp(v), fit(x, (mu + noise(v) * eps) @ W + bias * b)
        return kl(-0.5 * np.mean(np.sum(own, axis=-1))) - np.mean(np.sum(log_p, axis=-1))

    return answer


# ---- 03, 04, 05 ----------------------------------------------------------------------------------


def log_joint(mu_0, sigma_0, logits, z, x, real):
    log_p = gaussian.gaussian_log_density_forward(z, mu_0, sigma_0)[0] + BERNOULLI.log_density_forward(x, logits)[0]
    return np.where(real, log_p, 0).sum(axis=0)


def log_x_by_p(low=0.0, small=0.0):
    def log_x(x, logits):
        p = np.clip(sigmoid(logits), low, 1 - low)
        return (x * np.log(p + small) + (1 - x) * np.log(1 - p + small)).sum(-1)

    return log_x


def joint_of(log_z, log_x=lambda x, logits: BERNOULLI.log_density_forward(x, logits)[0], outside=lambda log_z: 0):
    """The log-joint from log_z(z, mu_0, sigma_0) and log_x(x, logits), with outside(log_z) after the end."""

    def answer(mu_0, sigma_0, logits, z, x, lengths):
        of_z, of_x = log_z(z, mu_0, sigma_0), log_x(x, logits)
        return np.where(np.arange(len(x))[:, None] < lengths, of_z + of_x, outside(of_z)).sum(axis=0)

    return answer


def log_normal(z, mu, sigma):
    return gaussian.gaussian_log_density_forward(z, mu, sigma)[0]


def step(
    draw_x=lambda u, p: u < p,
    feed=lambda x, mean: x,
    latent=lambda mu, s, e: mu + s * e,
    code=lambda z, mu: z,
    prior=1,
    dec=1,
    rnn=1,
):
    """One step. code: what phi_z reads; prior, dec, rnn: factors of the state that each network reads."""

    def answer(params, h, eps, u):
        (mu_0, sigma_0), _ = equations.prior_forward(params["prior"], prior * h)
        z = latent(mu_0, sigma_0, eps)
        phi_z = features(params, "phi_z", code(z, mu_0))
        (logits,), _ = equations.generate_forward(params["generate"], phi_z, dec * h, BERNOULLI)
        mean = BERNOULLI.mean(logits)
        x = draw_x(u, mean).astype(h.dtype)
        phi_x = features(params, "phi_x", feed(x, mean))
        return z, x, equations.recur_forward(params["recur"], phi_x, phi_z, rnn * h)[0]

    return answer


def priors(params, x, z, lag=0, lag_z=0, with_x=1, with_z=1, rnn=1):
    h, found = states_0(params, x), []
    for t in range(len(x)):
        found.append(equations.prior_forward(params["prior"], h)[0])
        phi_x = features(params, "phi_x", x[max(t - lag, 0)])
        phi_z = features(params, "phi_z", z[max(t - lag_z, 0)])
        h, _ = equations.recur_forward(params["recur"], with_x * phi_x, with_z * phi_z, rnn * h)
    return tuple(np.stack(part) for part in zip(*found))


def peeking(params, x, z):
    longer = [np.concatenate([a, a[-1:]]) for a in (x, z)]
    return tuple(part[1:] for part in priors(params, *longer))


def with_diagonal(w, p, diagonal):
    result = (w[:, None] * p).T @ p - np.outer(w @ p, w @ p)
    np.fill_diagonal(result, diagonal)
    return result


def halves(o):
    return np.split(o, 2, axis=-1)


def encoder(softplus, floor=lambda s: s + 1e-4, axis=-1, relu=lambda a: np.maximum(a, 0), split=halves):
    def answer(p, phi_x, h):
        y = relu(np.concatenate([phi_x, h], axis=axis) @ p["W1"] + p["b1"])
        mu, s = split(y @ p["W_out"] + p["b_out"])
        return mu, floor(softplus(s))

    return answer


def stable_softplus(s):
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def draws(
    noise=lambda eps, t: eps[t],
    read=lambda z, mu: z[-1],
    keep=slice(None),
    draw=lambda mu, sigma, eps: mu + sigma * eps,
    state=lambda h: h[-1],
    turned=1,
):
    def answer(params, x, eps):
        z, h = [], [states_0(params, x)]
        for t, x_t in enumerate(x):
            phi_x = features(params, "phi_x", x_t)
            (mu, sigma), _ = equations.infer_forward(params["infer"], phi_x, h[-1])
            z.append(draw(mu, sigma, noise(eps, t)))
            phi_z = features(params, "phi_z", read(z, mu))
            h.append(equations.recur_forward(params["recur"], *(phi_x, phi_z)[::turned], state(h))[0])
        return np.stack(z), np.stack(h)[keep]

    return answer


def price_in(joint, q_1, q_2, log=np.log, weigh=True, small=0.0):
    p_1 = joint.sum(axis=1) / joint.sum()
    p_2 = joint / joint.sum(axis=1, keepdims=True)
    inner = np.sum(q_2 * log(q_2 / (p_2 + small)), axis=1)
    return np.sum(q_1 * log(q_1 / p_1)), np.sum(q_1 * inner) if weigh else np.mean(inner)


def kl(q, p):
    return np.sum(q * np.log(q / p), axis=-1)


def price_2(term):
    return lambda joint, q_1, q_2: (price_in(joint, q_1, q_2)[0], term(joint, q_1, q_2))


def geometric(posts, weights):
    return np.exp(weights @ np.log(posts))


def best_filter(mix, cost):
    def answer(posts, weights):
        u = mix(posts, weights)
        return u / u.sum(), cost(u, posts, weights)

    return answer


def log_weight(log_p_x, z, mu_0, sigma_0, mu_z, sigma_z, small=0.0, axis=0, q=-1, square=2, half=0.5, log=1.0):
    def log_density(mu, sigma):
        return -np.sum(half * ((z - mu) / (sigma + small)) ** square + log * np.log(sigma), axis=-1)

    return np.sum(log_p_x + log_density(mu_0, sigma_0) + q * log_density(mu_z, sigma_z), axis=axis)


def with_global_top(log_w):
    return log_w.max() + np.log(np.exp(log_w - log_w.max()).mean(axis=0))


def log_mean(a):
    return np.logaddexp.reduce(a, axis=0) - float(np.log(len(a)))


def units(terms, steps=lambda mask: mask.sum()):
    """elbo and per_step from masked terms, and the number by which their total is divided."""
    return lambda *a: (terms(*a).sum(0), terms(*a).sum() / steps(a[-1]))


def masked(p, kl, m):
    return (p - kl) * m


# ---- 06, 07 --------------------------------------------------------------------------------------


def mlp_backward(p, x, dy, alive_1=lambda a, d: a > 0, alive_2=lambda a, d: a > 0, late_2=False, late_1=False):
    a1 = x @ p["W1"] + p["b1"]
    y1 = np.maximum(a1, 0)
    a2 = y1 @ p["W2"] + p["b2"]
    da2 = dy * alive_2(a2, dy)
    dy1 = (dy if late_1 else da2) @ p["W2"].T
    da1 = dy1 * alive_1(a1, dy1)
    top = dy if late_2 else da2
    return da1 @ p["W1"].T, {"W1": x.T @ da1, "b1": da1.sum(0), "W2": y1.T @ top, "b2": top.sum(0)}


def mlp_that_keeps_notes(p, x, dy):
    result = mlp_backward(p, x, dy)
    p["y1"] = np.maximum(x @ p["W1"] + p["b1"], 0)
    return result


def kl_backward(mu_z, sigma_z, mu_0, sigma_0, dkl, small=0.0, widen=lambda v: v[..., None]):
    d = widen(dkl)
    dmu = d * (mu_z - mu_0) / (sigma_0**2 + small)
    dsigma = d * (sigma_z / (sigma_0**2 + small) - 1 / (sigma_z + small))
    return dmu, dsigma, -dmu, d * (1 / sigma_0 - (sigma_z**2 + (mu_z - mu_0) ** 2) / sigma_0**3)


def gates(a, g, h, squash=sigmoid, clip=np.inf, both=np.add, x_side=1, reset=True):
    H = h.shape[-1]
    s = np.clip(both(a, g), -clip, clip)
    r, u = squash(s[..., :H]), squash(s[..., H : 2 * H])
    n = np.tanh(x_side * a[..., 2 * H :] + (r if reset else 1) * g[..., 2 * H :])
    return (1 - u) * n + u * h


def gru_back(
    p,
    x,
    h,
    dh_next,
    rows=lambda v: v.reshape(-1, v.shape[-1]),
    reset=True,
    carry=True,
    noted=False,
    tanh_slope=lambda n: 1 - n**2,
    to_r=lambda da_n, dn, r, g_n, a_n: da_n * g_n,
    to_h=lambda da, dg: dg,
    slope=lambda y: y * (1 - y),
):
    _, cache = gru.gru_forward(p, x, h)
    H = h.shape[-1]
    r, u, n, g_n = cache.ru[..., :H], cache.ru[..., H:], cache.n, cache.g_n
    dn = dh_next * (1 - u)
    da_n, a_n = dn * tanh_slope(n), (x @ p["W"] + p["b"])[..., 2 * H :]
    da_r, da_u = to_r(da_n, dn, r, g_n, a_n) * slope(r), dh_next * (h - n) * slope(u)
    da = np.concatenate([da_r, da_u, da_n], axis=-1)
    dg = np.concatenate([da_r, da_u, da_n * r if reset else da_n], axis=-1)
    x_rows, h_rows, da_rows, dg_rows = map(rows, (x, h, da, dg))
    grads = {"W": x_rows.T @ da_rows, "b": da_rows.sum(0), "U": h_rows.T @ dg_rows, "c": dg_rows.sum(0)}
    if noted:
        p["n"] = n
    return da @ p["W"].T, dh_next * u * carry + to_h(da, dg) @ p["U"].T, grads


def gates_from_the_result(p, x, h, dh_next):
    """u from h' = (1 - u) n + u h, which divides by h - n."""
    h_next, cache = gru.gru_forward(p, x, h)
    H = h.shape[-1]
    u = (h_next - cache.n) / (h - cache.n)
    n, g_n, r = cache.n, cache.g_n, cache.ru[..., :H]
    da_n = dh_next * (1 - u) * (1 - n**2)
    da_r, da_u = da_n * g_n * r * (1 - r), dh_next * (h - n) * u * (1 - u)
    da, dg = (np.concatenate([da_r, da_u, last], axis=-1) for last in (da_n, da_n * r))
    X, S, A, G = (v.reshape(-1, v.shape[-1]) for v in (x, h, da, dg))
    return da @ p["W"].T, dh_next * u + dg @ p["U"].T, {"W": X.T @ A, "b": A.sum(0), "U": S.T @ G, "c": G.sum(0)}


def through_time(
    p,
    x,
    h_0,
    dh,
    lengths,
    real=lambda t, lengths: t < lengths,
    first=0,
    last=0,
    read=lambda h, h_0: h,
    cell=lambda t: t,
    on=1,
):
    h, caches = h_0, []
    for x_t in x:
        h, cache = gru.gru_forward(p, x_t, read(h, h_0))
        caches.append(cache)
    dx, d, total = np.zeros_like(x), np.zeros_like(h_0), {k: np.zeros_like(v) for k, v in p.items()}
    for t in reversed(range(first, len(x))):
        at = cell(t) % len(x)
        (dx[at], d), grads = gru.gru_backward(p, caches[t], dh[at] * real(at, lengths)[:, None] + on * d)
        total = {k: total[k] + grads[k] for k in p}
    return dx, d + last * dh[0], total


def after_the_loop(x, h, r, da, states=slice(None, -1)):
    H = r.shape[-1]
    dg = np.concatenate([da[..., : 2 * H], da[..., 2 * H :] * r], axis=-1)
    X, S, A, G = (v.reshape(-1, v.shape[-1]) for v in (x, h[states], da, dg))
    return X.T @ A, A.sum(axis=0), S.T @ G, G.sum(axis=0)


def roads(params, cache, dlog_p, dkl, dh_t, others=1, dsigma=lambda dz, eps: dz * eps, kl=1, of_z=1):
    _, prior, infer, z, phi_z, generate, log_p, kl_cache, recur = cache
    (_, dphi_z, dh), _ = equations.recur_backward(params["recur"], recur, dh_t)
    dlogits = BERNOULLI.log_density_backward(log_p, dlog_p)[1]
    (more, dh_1), _ = equations.generate_backward(params["generate"], generate, dlogits, likelihood=BERNOULLI)
    dz, _ = equations.features_backward(params["phi_z"], phi_z, of_z * (dphi_z + more))
    dmu_z, dsigma_z, dmu_0, dsigma_0 = gaussian.gaussian_kl_backward(kl_cache, dkl)
    to_q = dz + kl * dmu_z, dsigma(dz, z[0]) + kl * dsigma_z
    (_, dh_2), _ = equations.infer_backward(params["infer"], infer, *to_q)
    return others * (dh + dh_1 + equations.prior_backward(params["prior"], prior, dmu_0, dsigma_0)[0]) + dh_2


# ---- 08, 09, 14 ----------------------------------------------------------------------------------


def clip_dict(grads, factor, norm=lambda grads: np.sqrt(sum((g * g).sum() for g in grads.values()))):
    return {name: g * factor(norm(grads)) for name, g in grads.items()}


def clip_and_note(grads, max_norm):
    result = clip_dict(grads, lambda norm: min(1.0, max_norm / norm))
    grads["norm"] = np.zeros(())
    return result


def adam(
    theta,
    g,
    m,
    v,
    k,
    lr,
    b1,
    b2,
    eps,
    root=lambda v, eps: np.sqrt(v) + eps,
    c1=lambda b1, k: 1 - b1**k,
    c2=lambda b2, k: 1 - b2**k,
    new=lambda m, g, b1: b1 * m + (1 - b1) * g,
    step=lambda old, new: new,
):
    (m, old), v = (new(m, g, b1), m), b2 * v + (1 - b2) * g * g
    return theta - lr * (step(old, m) / c1(b1, k)) / root(v / c2(b2, k), eps), m, v


def corrected_in_each_step(g, b1):
    m = np.zeros_like(g[0])
    for k, row in enumerate(g, 1):
        m = (b1 * m + (1 - b1) * row) / (1 - b1**k)
    return m


def mean_from_the_first(g, b1, power=0):
    m = g[0]
    for row in g[1:]:
        m = b1 * m + (1 - b1) * row
    return m / (1 - b1**power) if power else m


def weights_along_the_parameters(g, b1):
    weights = b1 ** np.arange(g.shape[1])[::-1]
    return (g * (weights / weights.sum())).sum(axis=0)


def adam_in_the_short_form(theta, g, m, v, k, lr, b1, b2, eps):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    rate = lr * math.sqrt(1 - b2**k) / (1 - b1**k)
    return theta - rate * m / (np.sqrt(v) + eps), m, v


def adam_of_old_moments(theta, g, m, v, k, lr, b1, b2, eps, old="mv"):
    new_m, new_v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    mean = (m if "m" in old else new_m) / (1 - b1**k)
    root = np.sqrt((v if "v" in old else new_v) / (1 - b2**k))
    return theta - lr * mean / (root + eps), new_m, new_v


def adam_with_other_moments(theta, g, m, v, k, lr, b1, b2, eps, of_m=None, of_v=None):
    old = v
    m = of_m(m, g, b1) if of_m else b1 * m + (1 - b1) * g
    v = of_v(old, g, m, b2) if of_v else b2 * v + (1 - b2) * g * g
    return theta - lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + eps), m, v


def v_turned(v, g, m, b2):
    return (1 - b2) * v + b2 * g * g


def adam_that_keeps_the_corrected(theta, g, m, v, k, lr, b1, b2, eps):
    theta, m, v = adam(theta, g, m, v, k, lr, b1, b2, eps)
    return theta, m / (1 - b1**k), v / (1 - b2**k)


def adam_in_place(theta, g, m, v, k, lr, b1, b2, eps):
    new = adam(theta, g, m, v, k, lr, b1, b2, eps)
    m *= b1
    m += (1 - b1) * g
    return new


def kalman(
    m,
    P,
    x,
    a,
    q,
    r,
    pi=np.pi,
    gain=lambda P, S: P / S,
    halves=(0.5, 0.5),
    error=lambda x, m, old: x - m,
    shrunk=lambda k, P: (1 - k) * P,
    from_old=False,
):
    (m, old), (P, before) = (a * m, m), (a**2 * P + q, P)
    S = P + r
    k = before / (before + r) if from_old else gain(P, S)
    return m + k * error(x, m, old), shrunk(k, P), -halves[0] * (x - m) ** 2 / S - halves[1] * np.log(2 * pi * S)


def update_before_the_prediction(m, P, x, a, q, r):
    S = P + r
    k = P / S
    log_p = -0.5 * ((x - m) ** 2 / S + np.log(2 * np.pi * S))
    return a * (m + k * (x - m)), a**2 * (1 - k) * P + q, log_p


def kalman_scored_after(m, P, x, a, q, r, mean_too):
    m, P = a * m, a**2 * P + q
    error, k = x - m, P / (P + r)
    m, P = m + k * error, (1 - k) * P
    error, S = x - m if mean_too else error, P + r
    return m, P, -0.5 * (error**2 / S + np.log(2 * np.pi * S))


def density_of_the_step(*arguments):
    m, P, log_p = kalman(*arguments)
    return m, P, np.exp(log_p)


def prices(s, v, sigma=lambda s, v: s, best=0.0, exact=0.0):
    ratio = v / s**2
    return sigma(s, v), ratio / 2 + best, ratio - 0.5 * np.log(1 + ratio) + exact


def ends_of(shares):
    return np.cumsum(shares, axis=1)


def resample(h, shares, uniforms, before=lambda ends, points: ends <= points, spread=None, ends=ends_of):
    B, K = h.shape
    points = (uniforms[:, None] + np.arange(K)) / K if spread is None else spread(uniforms, K)
    ancestors = before(ends(shares)[:, None, :], points[:, :, None]).sum(axis=2).clip(max=K - 1)
    return np.take_along_axis(h, ancestors, axis=1)


def by_the_first_end_beyond(h, shares, uniforms):
    K = h.shape[1]
    points = (uniforms[:, None] + np.arange(K)) / K
    return np.take_along_axis(h, (ends_of(shares)[:, None, :] > points[:, :, None]).argmax(axis=2), axis=1)


def by_searchsorted(h, shares, uniforms):
    K = h.shape[1]
    points = (uniforms[:, None] + np.arange(K)) / K
    rows = zip(h, ends_of(shares), points)
    return np.stack([row[np.searchsorted(ends, at, side="right")] for row, ends, at in rows])


def by_the_starts_before(h, shares, uniforms):
    K = h.shape[1]
    starts, points = ends_of(shares) - shares, (uniforms[:, None] + np.arange(K)) / K
    return np.take_along_axis(h, (starts[:, None, :] < points[:, :, None]).sum(axis=2) - 1, axis=1)


def resample_the_sorted(h, shares, uniforms):
    order = np.argsort(-shares, axis=1)
    return resample(np.take_along_axis(h, order, axis=1), np.take_along_axis(shares, order, axis=1), uniforms)


def ledger_by_row_numbers(again, log_w):
    gathered, total = np.zeros_like(log_w[0]), np.zeros_like(log_w[0, :, 0])
    for now, w in zip(again, log_w):
        total = total + np.where(now > 0, particles.log_mean_exp(gathered), 0)
        gathered[now.astype(int)] = 0
        gathered = gathered + w
    return total + particles.log_mean_exp(gathered)


def ledger(
    again,
    log_w,
    book=lambda now: now[:, None] > 0,
    reset=True,
    mean=particles.log_mean_exp,
    after=lambda v: 0,
    end=None,
):
    gathered, total = np.zeros_like(log_w[0]), np.zeros_like(log_w[0, :, 0])
    for now, w in zip(again, log_w):
        total = total + np.where(now > 0, mean(gathered), 0)
        gathered = np.where(book(now), after(gathered) if reset else gathered, gathered) + w
    return total + (end or mean)(gathered)


def naive_mean(log_w):
    return np.log(np.exp(log_w).mean(axis=-1))


# ---- 10, 11, 12 ----------------------------------------------------------------------------------


def glued(W, U, b, first, x, reset=lambda h, first: h * (1 - first[:, None]), bias=lambda b, first: b):
    h, hs = np.zeros((x.shape[1], len(b)), x.dtype), []
    for t in range(len(x)):
        h = np.tanh(x[t] @ W + reset(h, first[t]) @ U + bias(b, first[t]))
        hs.append(h)
    return np.stack(hs)


def log_mean_on(xp, a, log_k):
    top = xp.max(a, axis=0)
    return top + xp.log(xp.sum(xp.exp(a - top), axis=0)) + log_k(*a.shape)


def clip_if(g, top, norm):
    return g * (top / norm) if norm > top else g


def clip_there(xp, g, top, factor, norm=lambda xp, g: xp.sqrt(xp.sum(g * g))):
    return g * factor(xp, norm(xp, g), top)


def step_time(w, i, o, T, ell, r, work=1, launches=lambda i, o, T, ell: ell * (T * i + o), share=None):
    waiting = launches(i, o, T, ell)
    seconds = waiting + (T if work == "T" else work) * w / r
    return seconds, waiting / seconds if share is None else share(ell, i, o, T, seconds)


def euclidean(g):
    return np.sqrt((g * g).sum())


def momentum(theta, m, lr, top, grads, factor=lambda n, top: min(1.0, top / n), norm=euclidean, move=lambda m, g: m):
    g = grads * factor(norm(grads), top)
    m = 0.9 * m + g
    return theta - lr * move(m, g), m


def bits(p, n, std, scale=lambda n, std: n * np.log(std).sum(), steps=lambda n, std: n.sum()):
    raw = p - scale(n, std)
    return raw, -raw.sum() / steps(n, std) / float(np.log(2))


def ink(x, origin=0, ink=lambda x: 1 - x[:-1, 2], lines=lambda path, x: (path[:-1], path[1:])):
    path = np.cumsum(x[:, :2], axis=0) - origin * x[0, :2]
    return np.concatenate(lines(path, x), axis=1), ink(x)


def ink_anew_after_a_lift(x):
    path, at = [], np.zeros(2, x.dtype)
    for t, step in enumerate(x[:, :2]):
        at = step if t and x[t - 1, 2] else at + step
        path.append(at)
    return np.concatenate([path[:-1], path[1:]], axis=1), 1 - x[:-1, 2]


def two_columns(path, x):
    """x0, x1 and y0, y1."""
    return np.stack([path[:-1, 0], path[1:, 0]], axis=1), np.stack([path[:-1, 1], path[1:, 1]], axis=1)


def log_softmax(logits, axis=1):
    return logits - np.logaddexp.reduce(logits, axis=axis, keepdims=True)


def pen(
    *arguments,
    log_pen=None,
    log_pi=log_softmax,
    c2=lambda rho: 1 - rho**2,
    pi=np.pi,
    bell=None,
    log_s=np.log,
    small=0.0,
):
    x, logits, mu, sigma, rho, a = arguments
    d1, d2 = np.moveaxis((x[:, None, :2] - mu) / sigma, -1, 0)
    square = d1**2 + (d2 - rho * d1) ** 2 / c2(rho) if bell is None else bell(d1, d2, rho)
    log_n = -0.5 * (square + np.log(c2(rho))) - log_s(sigma).sum(axis=-1) - float(np.log(2 * pi))
    lifted, a = x[:, 2], a[:, 0]
    stable = -lifted * np.logaddexp(0, -a) - (1 - lifted) * np.logaddexp(0, a)
    log_p = np.logaddexp.reduce(log_pi(logits) + log_n, axis=1)
    return (np.log(np.exp(log_p) + small) if small else log_p) + (stable if log_pen is None else log_pen(lifted, a))


def coin(x, a, softplus=lambda a: np.logaddexp(0 * a, a), sign=-1):
    """sign: of softplus in log(1 - p)."""
    return x * (a - softplus(a)) + sign * (1 - x) * softplus(a)


def naive_coin(x, a, clip=lambda p: p, small=1e-12):
    p = clip(sigmoid(a))
    return x * np.log(p + small) + (1 - x) * np.log(1 - p + small)


WRONG = {
    "00.1": {
        "bits": lambda x: -np.ones(x.shape[1]) * x.shape[0] * x.shape[2],
        "0.693": lambda x: np.full(x.shape[1], -0.693 * x.shape[0] * x.shape[2]),
        "the log of a product": lambda x: np.log(np.prod(0 * x + 0.5, axis=(0, 2))),
        "T B for T X": lambda x: np.full(x.shape[1], np.log(0.5) * x.shape[0] * x.shape[1]),
        "T only": lambda x: np.full(x.shape[1], np.log(0.5) * len(x)),
        "T plus X": lambda x: np.full(x.shape[1], np.log(0.5) * (x.shape[0] + x.shape[2])),
        "one pixel": lambda x: np.full(x.shape[1], np.log(0.5)),
        "of all pixels at once": lambda x: np.full(x.shape[1], np.log(0.5) * x.size),
    },
    "01.1": {
        "a zero row is padding": lambda s: pad_with(lambda x, mask: (x != 0).any(-1).astype(x.dtype), s),
        "empties the list": pad_and_empty,
        "ones as padding": lambda s: (pad_with(lambda x, mask: mask, s)[0] + 1 - pad_mask(s)[..., None], pad_mask(s)),
        "minus one as padding": lambda s: (
            pad_with(lambda x, mask: mask, s)[0] - (1 - pad_mask(s)[..., None]),
            pad_mask(s),
        ),
        "a sorted copy": lambda s: pad_with(lambda x, mask: mask, sorted(s, key=len, reverse=True)),
        "an inverted mask": lambda s: pad_with(lambda x, mask: 1 - mask, s),
        "sorts the list": pad_longest_first,
        "reshaped for transposed": lambda s: tuple(
            np.ascontiguousarray(a.swapaxes(0, 1)).reshape(a.shape) for a in pad_with(lambda x, mask: mask, s)
        ),
        "round again": lambda s: (
            np.stack([np.resize(v, (max(map(len, s)), v.shape[1])) for v in s], axis=1),
            pad_mask(s),
        ),
        "a mask without B = 1": lambda s: pad_with(lambda x, mask: mask.squeeze(), s),
        "a mask of float64": lambda s: pad_with(lambda x, mask: mask.astype(float), s),
    },
    "01.2": {
        "counts what is not zero": lambda p, m: ((p * m).sum(0).mean(), (p * m).sum() / np.count_nonzero(p * m)),
        "mean of the sequences' means": lambda p, m: ((p * m).sum(0).mean(), ((p * m).sum(0) / m.sum(0)).mean()),
        "the longest for all": lambda p, m: ((p * m).sum(0).mean(), (p * m).sum(0).mean() / len(m)),
        "means over T and B": lambda p, m: ((p * m).sum(0).mean(), (p * m).mean()),
        "a median": lambda p, m: (np.median((p * m).sum(0)), (p * m).sum() / m.sum()),
        "no mask at all": lambda p, m: (p.sum(0).mean(), p.sum() / m.sum()),
        "no mask in a sequence": lambda p, m: (p.sum(0).mean(), (p * m).sum() / m.sum()),
        "no mask in the steps' sum": lambda p, m: ((p * m).sum(0).mean(), p.sum() / m.sum()),
    },
    "01.3": {
        "stops where one sequence ends": likelihood_until_one_ends,
        "a state of ones": lambda *a: likelihood(*a, start=1.0),
        "clips the logits at 10": lambda *a: likelihood(*a, clip=10),
        "clips the logits at 30": lambda *a: likelihood(*a, clip=30),
        "p and not log p": lambda *a: np.exp(likelihood(*a)),
        "a mean over pixels": lambda p, x, mask: likelihood(p, x, mask) / x.shape[2],
        "per real step": lambda p, x, mask: likelihood(p, x, mask) / mask.sum(0),
        "no mask": lambda p, x, mask: likelihood(p, x, np.ones_like(mask)),
        "x cleared": lambda p, x, mask: likelihood(p, x * mask[..., None], np.ones_like(mask)),
        "lengths by argmin": lambda p, x, mask: likelihood(p, x, np.arange(len(x))[:, None] < mask.argmin(0)),
        "probabilities clipped at 1e-7": lambda *a: likelihood(*a, clip=float(np.log(1e7 - 1))),
        "a mask one step late": lambda p, x, mask: likelihood(p, x, np.append(0 * mask[:1], mask[:-1], axis=0)),
    },
    "01.4": {
        "a variance": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            (pi * (mu**2 + sigma**2)).sum(1) - (pi * mu).sum(1) ** 2,
        ),
        "1e-3 in the root": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt((pi * sigma**2).sum(1) + (pi * (mu - (pi * mu).sum(1)[:, None]) ** 2).sum(1) + 1e-3),
        ),
        "two roots added": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt((pi * sigma**2).sum(1)) + np.sqrt((pi * (mu - (pi * mu).sum(1)[:, None]) ** 2).sum(1)),
        ),
        "distances without weights": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt((pi * sigma**2).sum(1) + ((mu - (pi * mu).sum(1)[:, None]) ** 2).sum(1)),
        ),
        "the heaviest": lambda pi, mu, sigma: tuple(
            np.take_along_axis(v, pi.argmax(1)[:, None], 1)[:, 0] for v in (mu, sigma)
        ),
        "the spread without weights": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt((pi * sigma**2).sum(1) + mu.var(1)),
        ),
        "mean and root added": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            (pi * sigma).sum(1) + np.sqrt((pi * (mu - (pi * mu).sum(1)[:, None]) ** 2).sum(1)),
        ),
        "squared weights of the widths": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt(((pi * sigma) ** 2).sum(1)),
        ),
        "squared weights": lambda pi, mu, sigma: (
            (pi * mu).sum(1),
            np.sqrt((pi**2 * (sigma**2 + (mu - (pi * mu).sum(1)[:, None]) ** 2)).sum(1)),
        ),
        "a scalar for N = 1": lambda pi, mu, sigma: (
            (pi * mu).sum(1).squeeze(),
            np.sqrt((pi * (mu**2 + sigma**2)).sum(1) - (pi * mu).sum(1) ** 2).squeeze(),
        ),
        "the axis of N": lambda pi, mu, sigma: (
            (pi * mu).sum(0),
            np.sqrt((pi * (mu**2 + sigma**2)).sum(0) - (pi * mu).sum(0) ** 2),
        ),
    },
    "01.5": {
        "in digits": 1.0,
        "a difference": 9,
        "its logarithm": math.log(9),
        "its negative": -math.log(10),
        "the factor": 10,
        "3 per cent": 1.03 * math.log(10),
    },
    "01.6": {
        "3.1416": lambda *a: mixture(*a, log_2pi=math.log(2 * 3.1416)),
        "one top for all": lambda *a: mixture(*a, top=lambda a: np.full(len(a), a.max())),
        "the top of the logits": lambda x, logits, mu, sigma: mixture(
            x, logits, mu, sigma, top=lambda a: logits.max(axis=1)
        ),
        "a naive softmax": lambda *a: mixture(
            *a, log_pi=lambda ell: np.log(np.exp(ell) / np.exp(ell).sum(axis=1, keepdims=True))
        ),
        "e to -5 at least": lambda *a: mixture(*a, floor=-5),
        "e to -10 at least": lambda *a: mixture(*a, floor=-10),
        "one constant for all": lambda x, *a: mixture(x, *a, log_2pi=math.log(2 * math.pi) / x.shape[1]),
        "the logits over N": lambda *a: mixture(*a, log_pi=lambda ell: ell - np.logaddexp.reduce(ell, axis=0)),
        "1e-8 in the log": lambda *a: np.log(np.exp(mixture(*a)) + 1e-8),
        "over K once more": lambda x, ell, *a: mixture(x, ell, *a) - math.log(ell.shape[1]),
        "no normaliser": lambda *a: mixture(*a, log_pi=lambda ell: ell),
        "a scalar for N = 1": lambda *a: mixture(*a).squeeze(),
    },
    "02.1": {
        "3.1416": lambda x, m, s, t: -0.5 * ((x - m) ** 2 + s**2) / t**2 - np.log(t) - 0.5 * math.log(2 * 3.1416),
        "1e-6 below": lambda x, m, s, t: (
            -0.5 * ((x - m) ** 2 + s**2) / (t**2 + 1e-6) - np.log(t) - 0.5 * float(np.log(2 * np.pi))
        ),
        "a standard deviation outside": lambda x, m, s, t: (
            -0.5 * ((x - m) / t) ** 2 - 0.5 * s**2 - np.log(t) - 0.5 * float(np.log(2 * np.pi))
        ),
        "the cross term forgotten": lambda *a: fit(*a, lambda x, m, s, t: x**2 + m**2 + s**2),
        "one deviation from the mean": lambda *a: fit(*a, lambda x, m, s, t: (x - m - s) ** 2),
        "the log added": lambda *a: fit(*a, norm=lambda t: -np.log(t)),
        "log of 2 pi sigma": lambda *a: fit(*a, norm=lambda t: 0.5 * np.log(t)),
        "added before the square": lambda *a: fit(*a, lambda x, m, s, t: (abs(x - m) + s) ** 2),
        "the spread of x too": lambda *a: fit(*a, lambda x, m, s, t: (x - m) ** 2 + s**2 + t**2),
    },
    "02.2": {"a variance": 0.5, "the prior's": 1, "the sum's": 2**0.5},
    "02.3": {
        "less the mean": lambda mu, s, e, f: ((f - f.mean()) * e / s, (f - f.mean()) * (e**2 - 1) / s),
        "from z": lambda mu, s, e, f: (f * (mu + s * e) / s**2, f * (e**2 - 1) / s),
        "1e-6 below": lambda mu, s, e, f: (f * e / (s + 1e-6), f * (e**2 - 1) / (s + 1e-6)),
        "no sigma below": lambda mu, s, e, f: (f * e, f * (e**2 - 1)),
        "eps for z": lambda mu, s, e, f: (f * (e - mu) / s**2, f * ((e - mu) ** 2 / s**3 - 1 / s)),
        "eps not squared": lambda mu, s, e, f: (f * e / s, f * (e - 1) / s),
        "plus 1": lambda mu, s, e, f: (f * e / s, f * (e**2 + 1) / s),
        "through z as well": lambda mu, s, e, f: (0 * f, -f / s),
        "the variance forgotten": lambda mu, s, e, f: (f * e * s, f * (e**2 - 1) / s),
        "a square below": lambda mu, s, e, f: (f * e / s, f * (e**2 - 1 / s)),
    },
    "02.4": {
        "axis 1": lambda m, s, n, t: np.sum(
            np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=min(1, m.ndim - 1)
        ),
        "1e-8 in the log": lambda m, s, n, t: np.sum(
            np.log((t + 1e-6) / (s + 1e-6)) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=-1
        ),
        "without axes of 1": lambda m, s, n, t: np.sum(
            np.log(t) - np.log(s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=-1
        ).squeeze(),
        "log of squares": lambda m, s, n, t: np.sum(
            0.5 * np.log(t**2 / s**2 + 1e-9) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=-1
        ),
        "means outside the fraction": lambda m, s, n, t: np.sum(
            np.log(t / s) + s**2 + (m - n) ** 2 / (2 * t**2) - 0.5, axis=-1
        ),
        "means not squared": lambda m, s, n, t: np.sum(np.log(t / s) + (s**2 + m - n) / (2 * t**2) - 0.5, axis=-1),
        "both directions": lambda m, s, n, t: np.sum(
            (s**2 / t**2 + t**2 / s**2 + (m - n) ** 2 * (1 / s**2 + 1 / t**2) - 2) / 4, axis=-1
        ),
        "the sum of both directions": lambda m, s, n, t: np.sum(
            (s**2 / t**2 + t**2 / s**2 + (m - n) ** 2 * (1 / s**2 + 1 / t**2) - 2) / 2, axis=-1
        ),
        "log10": lambda m, s, n, t: np.sum(np.log10(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=-1),
        "log-variances": lambda m, s, n, t: 0.5 * np.sum(t - s + (np.exp(s) + (m - n) ** 2) / np.exp(t) - 1, axis=-1),
        "a distance not squared": lambda m, s, n, t: np.sum(
            np.log(t / s) + (s**2 + abs(m - n)) / (2 * t**2) - 0.5, axis=-1
        ),
        "squares subtracted": lambda m, s, n, t: np.sum(
            np.log(t / s) + (s**2 + m**2 - n**2) / (2 * t**2) - 0.5, axis=-1
        ),
        "the variances upside down": lambda m, s, n, t: np.sum(
            np.log(t / s) + t**2 / (2 * s**2) + (m - n) ** 2 / (2 * t**2) - 0.5, axis=-1
        ),
        "minus 1": lambda m, s, n, t: np.sum(np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 1, axis=-1),
        "only the variances halved": lambda m, s, n, t: np.sum(
            np.log(t / s) + s**2 / (2 * t**2) + (m - n) ** 2 / t**2 - 0.5, axis=-1
        ),
    },
    "02.5": {
        "half of it": lambda x, mu, v, eps, W, b: np.mean(
            -0.5 * np.sum(1 + v - mu**2 - np.exp(v), axis=-1)
            - np.mean(
                x * ((mu + np.exp(v / 2) * eps) @ W + b) - np.logaddexp(0, (mu + np.exp(v / 2) * eps) @ W + b), -1
            )
        ),
        "a naive softplus": lambda x, mu, v, eps, W, b: np.mean(
            -0.5 * np.sum(1 + v - mu**2 - np.exp(v), axis=-1)
            - np.sum(
                x * ((mu + np.exp(v / 2) * eps) @ W + b) - np.log(1 + np.exp((mu + np.exp(v / 2) * eps) @ W + b)), -1
            )
        ),
        "a sum over the batch": lambda x, mu, v, eps, W, b: np.sum(
            -0.5 * np.sum(1 + v - mu**2 - np.exp(v), axis=-1)
            - np.sum(x * ((mu + np.exp(v / 2) * eps) @ W + b) - np.logaddexp(0, (mu + np.exp(v / 2) * eps) @ W + b), -1)
        ),
        "half outside exp": loss(lambda v: 0.5 * np.exp(v)),
        "a precision": loss(lambda v: np.exp(-v / 2)),
        "log_var itself": loss(lambda v: v),
        "no noise": loss(lambda v: 0 * v),
        "the ones only": loss(fit=lambda x, a: -x * np.logaddexp(0 * a, -a)),
        "no KL": loss(kl=lambda q: 0 * q),
        "no bias": loss(bias=0),
        "KL without a half": loss(kl=lambda q: 2 * q),
        "a standard deviation in the KL": lambda x, mu, v, *a: (
            loss()(x, mu, v, *a) + np.mean(np.sum(np.exp(v / 2) - np.exp(v), axis=-1)) / 2
        ),
    },
    "03.1": {
        "the future only": {"prior 3", "generation 3"},
        "all but the priors": {"state 2", "generation 2", "generation 3"},
    },
    "03.2": {
        "numpy's": lambda w, p: np.atleast_2d(np.cov(p.T, aweights=w, bias=True)),
        "1 / K": lambda w, p: (p.T @ p) / len(p) - np.outer(w @ p, w @ p) + np.diag(w @ p - (p * p).mean(axis=0)),
        "p (1 - p) of the means only": lambda w, p: np.diag((w @ p) * (1 - w @ p)),
        "E[x] on the diagonal": lambda w, p: with_diagonal(w, p, w @ p),
        "given z on the diagonal": lambda w, p: with_diagonal(w, p, w @ (p * (1 - p))),
        "deviations on the diagonal": lambda w, p: with_diagonal(w, p, np.sqrt((w @ p) * (1 - w @ p))),
        "numpy's without weights": lambda w, p: np.atleast_2d(np.cov(p.T, bias=True)),
        "numpy's of a sample": lambda w, p: (
            np.atleast_2d(np.cov(p.T, aweights=w)) * (1 - np.eye(p.shape[1])) + np.diag((w @ p) * (1 - w @ p))
        ),
        "noise everywhere": lambda w, p: with_diagonal(w, p, w @ p**2 - (w @ p) ** 2) + (w @ (p - p**2))[:, None],
        "squared weights": lambda w, p: (
            with_diagonal(w, p, (w @ p) * (1 - w @ p)) + (((w**2 - w)[:, None] * p).T @ p) * (1 - np.eye(p.shape[1]))
        ),
        "means without weights anywhere": lambda w, p: (
            with_diagonal(w, p, p.mean(axis=0) - p.mean(axis=0) ** 2)
            + (np.outer(w @ p, w @ p) - np.outer(p.mean(axis=0), p.mean(axis=0))) * (1 - np.eye(p.shape[1]))
        ),
        "means without weights": lambda w, p: (
            with_diagonal(w, p, (w @ p) - p.mean(axis=0) ** 2)
            + (np.outer(w @ p, w @ p) - np.outer(p.mean(axis=0), p.mean(axis=0))) * (1 - np.eye(p.shape[1]))
        ),
    },
    "03.3": {
        "one step too many": lambda mu, s, ell, z, x, n: log_joint(mu, s, ell, z, x, np.arange(len(x))[:, None] <= n),
        "probabilities clipped at 1e-7": joint_of(log_normal, log_x_by_p(1e-7)),
        "1e-12 in the logs": joint_of(log_normal, log_x_by_p(small=1e-12)),
        "the shortest for all": lambda mu, s, ell, z, x, n: log_joint(
            mu, s, ell, z, x, np.arange(len(x))[:, None] < n.min()
        ),
        "steps where x is not zero": lambda mu, s, ell, z, x, n: log_joint(mu, s, ell, z, x, x.any(axis=-1)),
        "z never ends": joint_of(log_normal, outside=lambda log_z: log_z),
        "a product of logarithms": lambda mu, s, ell, z, x, n: np.where(
            np.arange(len(x))[:, None] < n, log_normal(z, mu, s) * BERNOULLI.log_density_forward(x, ell)[0], 0
        ).sum(axis=0),
        "a standard normal prior": joint_of(lambda z, mu, s: log_normal(z, 0 * mu, 1 + 0 * s)),
        "a variance": joint_of(lambda z, mu, s: log_normal(z, mu, s**2)),
        "x and logits swapped": joint_of(log_normal, lambda x, logits: BERNOULLI.log_density_forward(logits, x)[0]),
        "padded in front": lambda mu, s, ell, z, x, n: log_joint(mu, s, ell, z, x, np.arange(len(x))[::-1, None] < n),
        "the last step": lambda mu, s, ell, z, x, n: log_joint(mu, s, ell, z, x, np.arange(len(x))[:, None] == n - 1),
        "the first step left out": lambda mu, s, ell, z, x, n: log_joint(
            mu, s, ell, z, x, (np.arange(len(x))[:, None] < n) & (np.arange(len(x))[:, None] > 0)
        ),
        "zeros after the end": lambda mu, s, ell, z, x, n: log_joint(
            mu, s, ell, *(np.where((np.arange(len(x))[:, None] < n)[..., None], a, 0) for a in (z, x)), True
        ),
        "zero logits after the end": lambda mu, s, ell, z, x, n: log_joint(
            mu, s, *(np.where((np.arange(len(x))[:, None] < n)[..., None], a, 0) for a in (ell, z, x)), True
        ),
    },
    "03.4": {
        "a tie is 1": step(lambda u, p: u <= p),
        "the likelier one": step(lambda u, p: p > 0.5),
        "the mean fed on": step(lambda u, p: u < p, lambda x, mean: mean),
        "upside down": step(lambda u, p: u > 1 - p),
        "u below the logit": step(lambda u, p: u < np.log(p / (1 - p))),
        "fair coins": step(lambda u, p: u < 0.5),
        "one u a row": step(lambda u, p: u[:, :1] < p),
        "the mean returned": step(lambda u, p: p),
        "a root of sigma": step(latent=lambda mu, s, e: mu + np.sqrt(s) * e),
        "phi_z of the mean": step(code=lambda z, mu: mu),
        "a prior without h": step(prior=0),
        "a decoder without h": step(dec=0),
        "a recurrence without h": step(rnn=0),
    },
    "03.5": {
        "x one step late": lambda *a: priors(*a, lag=1),
        "z one step late": lambda *a: priors(*a, lag_z=1),
        "without x": lambda *a: priors(*a, with_x=0),
        "without z": lambda *a: priors(*a, with_z=0),
        "without h": lambda *a: priors(*a, rnn=0),
        "rolled": lambda *a: tuple(np.roll(part, 1, axis=0) for part in peeking(*a)),
        "variances": lambda *a: (priors(*a)[0], priors(*a)[1] ** 2),
        "the first update left out": lambda p, x, z: tuple(
            np.concatenate([part[:1], part]) for part in priors(p, x[1:], z[1:])
        ),
        "N(0, 1) at first": lambda *a: tuple(
            np.concatenate([np.full_like(part[:1], k), part[1:]]) for k, part in enumerate(priors(*a))
        ),
    },
    "03.6": {"six fair coins": 2**-6, "in per cent": 3.125, "one side": 2**-4, "rounded": 0.03},
    "04.1": {
        "a softplus that overflows": encoder(lambda s: np.log1p(np.exp(s))),
        "a softplus with a limit of 5": encoder(lambda s: np.where(s > 5, s, np.log1p(np.exp(np.minimum(s, 5))))),
        "at least 1e-4": encoder(stable_softplus, lambda s: np.maximum(s, 1e-4)),
        "axis 1": lambda p, phi_x, h: encoder(stable_softplus, axis=min(1, h.ndim - 1))(p, phi_x, h),
        "a leaky ReLU": encoder(stable_softplus, relu=lambda a: np.where(a > 0, a, 0.01 * a)),
        "a tanh layer": encoder(stable_softplus, relu=np.tanh),
        "a root": encoder(lambda s: np.sqrt(stable_softplus(s))),
        "every other column": encoder(stable_softplus, split=lambda o: (o[..., ::2], o[..., 1::2])),
        "a log-variance": encoder(lambda s: np.exp(s / 2), floor=lambda s: s),
        "softplus of mu": encoder(
            stable_softplus, split=lambda o: (stable_softplus(halves(o)[0]) + 1e-4, halves(o)[1])
        ),
        "without b1": lambda p, *a: encoder(stable_softplus)(p | {"b1": 0 * p["b1"]}, *a),
    },
    "04.2": {"itself": {3}, "after it": {4, 5}, "from 0": {2, 3, 4}, "with t =": {"t=3", "t=4", "t=5"}, "step 4": {4}},
    "04.3": {
        "the last noise": draws(lambda eps, t: eps[-1]),
        "the mean is read": draws(read=lambda z, mu: mu),
        "without h_0": draws(keep=slice(1, None)),
        "eps from the end": draws(lambda eps, t: eps[-t]),
        "one noise for all": draws(lambda eps, t: eps[t, 0]),
        "eps counted from 1": draws(lambda eps, t: eps[t - 1]),
        "no noise": draws(draw=lambda mu, sigma, eps: mu),
        "noise of standard deviation 1": draws(draw=lambda mu, sigma, eps: mu + eps),
        "the first z": draws(read=lambda z, mu: z[0]),
        "the z before": draws(read=lambda z, mu: z[-2] if len(z) > 1 else 0 * mu),
        "h_0 in the recurrence": draws(state=lambda h: h[0]),
        "phi_z first": draws(turned=-1),
    },
    "04.4": {
        "half": {"half"},
        "with the future": {"half", "swapped", "future"},
        "all": {"prior", "random", "future", "half", "swapped"},
    },
    "04.5": {
        "in bits": lambda *a: price_in(*a, log=np.log2),
        "the mean over z_1": lambda *a: price_in(*a, weigh=False),
        "1e-6 below": lambda *a: price_in(*a, small=1e-6),
        "the joint": price_2(lambda joint, q_1, q_2: q_1 @ kl(q_2, joint)),
        "normalised over z_1": price_2(lambda joint, q_1, q_2: q_1 @ kl(q_2, joint / joint.sum(0))),
        "KL(p || q)": price_2(lambda joint, q_1, q_2: q_1 @ kl(joint / joint.sum(1, keepdims=True), q_2)),
        "the whole gap": price_2(
            lambda joint, q_1, q_2: kl((q_1[:, None] * q_2).ravel(), (joint / joint.sum()).ravel())
        ),
        "no probabilities": lambda joint, q_1, q_2: (
            np.log(q_1 * joint.sum() / joint.sum(1)).sum(),
            q_1 @ np.log(q_2 * joint.sum(1, keepdims=True) / joint).sum(1),
        ),
    },
    "04.6": {
        "an arithmetic mean": best_filter(lambda p, w: w @ p, lambda u, p, w: -np.log(np.exp(w @ np.log(p)).sum())),
        "a harmonic mean": best_filter(
            lambda p, w: 1 / (w @ (1 / p)), lambda u, p, w: w @ np.sum(u / u.sum() * np.log(u / u.sum() / p), axis=1)
        ),
        "equal weights": best_filter(lambda p, w: np.exp(np.log(p).mean(0)), lambda u, p, w: -np.log(u.sum())),
        "a product": best_filter(lambda p, w: np.prod(p, axis=0) ** (1 / len(p)), lambda u, p, w: -np.log(u.sum())),
        "unweighted KLs": best_filter(geometric, lambda u, p, w: kl(u / u.sum(), p).sum()),
        "the mean of the KLs": best_filter(geometric, lambda u, p, w: kl(u / u.sum(), p).mean()),
        "the normaliser": best_filter(geometric, lambda u, p, w: u.sum()),
        "with the 1 of the derivative": best_filter(geometric, lambda u, p, w: 1 - np.log(u.sum())),
        "the entropy": best_filter(geometric, lambda u, p, w: np.log(u.sum()) - (u * np.log(u)).sum() / u.sum()),
        "KL(p || q)": best_filter(lambda p, w: w @ p, lambda u, p, w: w @ kl(p, u)),
        "1e-4 in the log": best_filter(lambda p, w: np.exp(w @ np.log(p + 1e-4)), lambda u, p, w: -np.log(u.sum())),
        "a scalar for one z_1": best_filter(lambda p, w: geometric(p, w).squeeze(), lambda u, p, w: -np.log(u.sum())),
    },
    "05.1": {
        "one top for all": with_global_top,
        "a floor": lambda a: np.log(np.mean(np.exp(np.maximum(a, -700)), axis=0)),
        "the maximum": lambda a: a.max(axis=0) - float(np.log(len(a))) + 0 * a[0],
        "the mean as top": lambda a: a.mean(0) + np.log(np.exp(a - a.mean(0)).mean(0)),
        "the top subtracted": lambda a: log_mean(a) - 2 * a.max(0),
        "log K added": lambda a: np.logaddexp.reduce(a, axis=0) + float(np.log(len(a))),
        "over K - 1": lambda a: np.logaddexp.reduce(a, axis=0) - float(np.log(max(len(a) - 1, 1))),
        "divided outside": lambda a: np.logaddexp.reduce(a, axis=0) / len(a),
        "over K B": lambda a: np.logaddexp.reduce(a, axis=0) - float(np.log(a.size)),
        "naive with 1e-12": lambda a: np.log(np.exp(a).mean(0) + 1e-12),
        "1e-9 in the log": lambda a: a.max(0) + np.log(np.exp(a - a.max(0)).mean(0) + 1e-6),
    },
    "05.2": {
        "1e-6 below": lambda *a: log_weight(*a, small=1e-6),
        "the axis of B": lambda *a: log_weight(*a, axis=1),
        "q added": lambda *a: log_weight(*a, q=1),
        "no q": lambda *a: log_weight(*a, q=0),
        "not squared": lambda *a: log_weight(*a, square=1),
        "half of it missing": lambda *a: log_weight(*a, half=1.0, log=2.0),
        "a VAE's prior": lambda log_p_x, z, mu_0, sigma_0, *q: log_weight(log_p_x, z, 0 * z, 0 * z + 1, *q),
        "log p(x) for each latent": lambda log_p_x, z, *a: log_weight(log_p_x * z.shape[-1], z, *a),
        "not in logarithms": lambda *a: np.exp(log_weight(*a)),
        "without the first step": lambda log_p_x, *a: log_weight(log_p_x, *a) - log_p_x[0] * (len(log_p_x) > 1),
    },
    "05.3": {
        "its half": lambda s: s**2 / 4,
        "s": lambda s: s / 2,
        "the deviation": lambda s: s + 0.0,
        "the normaliser left": lambda s: s**2 / 2 + np.log(s) + 0.5 * float(np.log(2 * np.pi)),
        "the variance of w": lambda s: np.exp(s**2) - 1,
        "the log of the variance of w": lambda s: np.log(np.exp(s**2) - 1),
        "a scalar for one number": lambda s: (s**2 / 2).squeeze(),
    },
    "05.4": {
        "naive": lambda x, z, q, kl: np.log(np.exp((x + z - q).sum(0)).mean(0)),
        "one top for all": lambda x, z, q, kl: with_global_top((x + z - q).sum(0)),
        "a sum": lambda x, z, q, kl: np.logaddexp.reduce((x + z - q).sum(0), axis=0),
        "the KL added": lambda x, z, q, kl: log_mean((x + kl).sum(0)),
        "each step by its KL": lambda x, z, q, kl: sum(map(log_mean, x - kl)),
        "the mean over the steps": lambda x, z, q, kl: log_mean((x + z - q).mean(0)),
        "no prior": lambda x, z, q, kl: log_mean((x - q).sum(0)),
        "shares of the weights": lambda x, z, q, kl: (lambda v: (v * np.exp(v - log_mean(v))).mean(0))(
            (x + z - q).sum(0)
        ),
        "one mean over steps and draws": lambda x, z, q, kl: log_mean((x + z - q).reshape(-1, x.shape[2])),
        "over B": lambda x, z, q, kl: np.logaddexp.reduce((x + z - q).sum(0), axis=0) - float(np.log(x.shape[2])),
        "a scalar for B = 1": lambda x, z, q, kl: log_mean((x + z - q).sum(0)).squeeze(),
    },
    "05.5": {
        "over T B": lambda p, kl, m: (((p - kl) * m).sum(0), ((p - kl) * m).mean()),
        "where the bound is not 0": lambda p, kl, m: (
            ((p - kl) * m).sum(0),
            ((p - kl) * m).sum() / np.count_nonzero((p - kl) * m),
        ),
        "an unmasked log_p": units(lambda p, kl, m: p - kl * m),
        "unmasked sums": units(lambda p, kl, m: p - kl),
        "no KL": units(lambda p, kl, m: p * m),
        "the total": units(masked, lambda m: 1),
        "over T": units(masked, len),
        "over B times the longest": units(masked, lambda m: m.sum(0).max() * m.shape[1]),
        "the last real step left out": lambda p, kl, m: units(masked)(p, kl, np.append(m[1:], 0 * m[:1], axis=0)),
        "an unmasked KL": lambda p, kl, m: ((p * m - kl).sum(0), (p * m - kl).sum() / m.sum()),
    },
    "05.6": {"all": {"w", "eq11", "ten", "elbo"}, "single ones": {"w", "eq11"}, "all but ten": {"w", "eq11", "elbo"}},
    "06.1": {
        "einsum over one axis": lambda W, x, dy: (
            dy @ W.T,
            np.einsum("...d,...e->de", x, dy),
            dy.sum(axis=0).reshape(-1)[-dy.shape[-1] :],
        ),
        "a mean": lambda W, x, dy: (
            dy @ W.T,
            x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1]) / len(x),
            dy.reshape(-1, dy.shape[-1]).sum(0) / len(x),
        ),
        "a mean over all rows": lambda W, x, dy: (
            dy @ W.T,
            np.tensordot(x, dy, (range(x.ndim - 1),) * 2) / x[..., 0].size,
            dy.reshape(-1, dy.shape[-1]).mean(0),
        ),
        "reshaped for transposed": lambda W, x, dy: (
            dy @ W.T,
            x.reshape(x.shape[-1], -1) @ dy.reshape(-1, dy.shape[-1]),
            dy.reshape(-1, dy.shape[-1]).sum(0),
        ),
        "the last row": lambda W, x, dy: (
            dy @ W.T,
            x.reshape(-1, x.shape[-1])[-1:].T @ dy.reshape(-1, dy.shape[-1])[-1:],
            dy.reshape(-1, dy.shape[-1]).sum(0),
        ),
        "all axes turned": lambda W, x, dy: (
            dy @ W.T,
            x.T.reshape(x.shape[-1], -1) @ dy.reshape(-1, dy.shape[-1]),
            dy.reshape(-1, dy.shape[-1]).sum(0),
        ),
        "dx times x": lambda W, x, dy: (
            x * (dy @ W.T),
            np.tensordot(x, dy, (range(x.ndim - 1),) * 2),
            dy.reshape(-1, dy.shape[-1]).sum(0),
        ),
        "the sum of all": lambda W, x, dy: (
            dy @ W.T,
            np.tensordot(x, dy, (range(x.ndim - 1),) * 2),
            0 * W[0] + dy.sum(),
        ),
        "W for its transpose where square": lambda W, x, dy: (
            dy @ (W if W.shape[0] == W.shape[1] else W.T),
            x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1]),
            dy.reshape(-1, dy.shape[-1]).sum(0),
        ),
    },
    "06.2": {
        "e^a over 1 + e^a": lambda a, dy: dy * np.exp(a) / (1 + np.exp(a)),
        "clipped at 10": lambda a, dy: dy * sigmoid(np.clip(a, -10, 10)),
        "stretched": lambda a, dy: dy * np.tanh(a / 2),
        "of 2a": lambda a, dy: dy * (0.5 + 0.5 * np.tanh(a)),
        "of y": lambda a, dy: dy * sigmoid(np.logaddexp(0, a)),
        "of |a|": lambda a, dy: dy / (1 + np.exp(-abs(a))),
        "0 far away": lambda a, dy: np.where(abs(a) > 15, 0, dy * sigmoid(a)),
        "a scalar for one number": lambda a, dy: (dy * (0.5 + 0.5 * np.tanh(a / 2))).squeeze(),
    },
    "06.3": {
        "adds a key": mlp_that_keeps_notes,
        "alive at 0": lambda *a: mlp_backward(*a, alive_1=lambda a, d: a >= 0),
        "alive at 0 on top": lambda *a: mlp_backward(*a, alive_2=lambda a, d: a >= 0),
        "half alive at 0": lambda *a: mlp_backward(*a, *[lambda a, d: np.heaviside(a, 0.5).astype(a.dtype)] * 2),
        "leaky": lambda *a: mlp_backward(*a, *[lambda a, d: np.where(a > 0, 1, 0.01)] * 2),
        "no mask on top": lambda *a: mlp_backward(*a, alive_2=lambda a, d: 1),
        "the sign of dy": lambda *a: mlp_backward(*a, alive_2=lambda a, d: d > 0),
        "both signs of dy": lambda *a: mlp_backward(*a, lambda a, d: d > 0, lambda a, d: d > 0),
        "times y": lambda *a: mlp_backward(*a, lambda a, d: a * (a > 0), lambda a, d: a * (a > 0)),
        "dW2 from dy": lambda *a: mlp_backward(*a, late_2=True),
        "dy_1 from dy": lambda *a: mlp_backward(*a, late_1=True),
        "no biases": lambda p, x, dy: mlp_backward(p | {"b1": 0 * p["b1"], "b2": 0 * p["b2"]}, x, dy),
        "means": lambda p, x, dy: (mlp_backward(p, x, dy)[0], mlp_backward(p, x, dy / len(x))[1]),
    },
    "06.4": {
        "1e-8 below": lambda *a: kl_backward(*a, small=1e-7),
        "dkl along the wrong axis": lambda *a: kl_backward(
            *a, widen=lambda d: d if d.shape == a[0].shape[1:] else d[..., None]
        ),
        "dkl over Z": lambda *a: kl_backward(*a, widen=lambda d: d[..., None] / a[0].shape[-1]),
        "to N(0, 1)": lambda m, s, n, t, d: (*kl_backward(m, s, 0 * n, 1 + 0 * t, d)[:3], 0 * t),
        "dkl averaged": lambda *a: kl_backward(*a, widen=lambda d: d.mean()),
        "of log sigma": lambda *a: tuple(d * s for d, s in zip(kl_backward(*a), (1, a[1], 1, a[3]))),
        "over sigma_0": lambda *a: tuple(d * s for d, s in zip(kl_backward(*a), (a[3], 1, a[3], 1))),
        "over sigma_z^2": lambda *a: tuple(
            d * s for d, s in zip(kl_backward(*a), ((a[3] / a[1]) ** 2, 1, (a[3] / a[1]) ** 2, 1))
        ),
        "KL(p || q)": lambda m, s, n, t, d: (kl_backward(n, t, m, s, d) * 2)[2:6],
        "the 1/2 left": lambda m, s, n, t, d: (lambda dm, ds, dn, dt: (dm, ds - d[..., None] * s / (2 * t**2), dn, dt))(
            *kl_backward(m, s, n, t, d)
        ),
        "no dkl for the standard deviations": lambda *a: tuple(
            kl_backward(*a[:4], k * np.ones_like(a[4]) + (1 - k) * a[4])[i] for i, k in enumerate((0, 1, 0, 1))
        ),
    },
    "06.5": {
        "half": lambda mu, s, e, dz: (dz, dz * e / 2),
        "sign of eps": lambda mu, s, e, dz: (dz, dz * abs(e)),
        "with sigma": lambda mu, s, e, dz: (dz, dz * s * e),
        "of the log-variance": lambda mu, s, e, dz: (dz, dz * e * s / 2),
        "over sigma": lambda mu, s, e, dz: (dz, dz * e / s),
        "z for eps": lambda mu, s, e, dz: (dz, dz * (mu + s * e)),
        "no dz": lambda mu, s, e, dz: (dz, e + 0 * dz),
        "the score": lambda mu, s, e, dz: (dz * e / s, dz * (e * e - 1) / s),
    },
    "06.6": {"three": {"gradient", "mean", "deviation"}, "mean": {"deviation", "mean"}, "gradient": {"gradient"}},
    "07.1": {
        "e^a over 1 + e^a": lambda *a: gates(*a, squash=lambda s: np.exp(s) / (1 + np.exp(s))),
        "clipped at 8": lambda *a: gates(*a, clip=8),
        "gates of the x side": lambda *a: gates(*a, both=lambda a, g: a),
        "sign of the exponent": lambda *a: gates(*a, squash=lambda s: sigmoid(-s)),
        "gates through tanh": lambda *a: gates(*a, squash=np.tanh),
        "r times h": lambda a, g, h: gates(
            a + np.concatenate([0 * h, 0 * h, sigmoid((a + g)[..., : h.shape[-1]]) * h], axis=-1), g, h, reset=False
        ),
        "candidate of the h side": lambda *a: gates(*a, x_side=0),
        "hard": lambda *a: gates(*a, squash=lambda s: np.clip(0.25 * s + 0.5, 0, 1)),
        "tanh from exp": lambda a, g, h: (
            lambda H, s: (lambda r, u, c: (1 - u) * (np.exp(2 * c) - 1) / (np.exp(2 * c) + 1) + u * h)(
                s[..., :H], s[..., H:], a[..., 2 * H :] + s[..., :H] * g[..., 2 * H :]
            )
        )(h.shape[-1], sigmoid((a + g)[..., : 2 * h.shape[-1]])),
    },
    "07.2": {
        "u divided out": gates_from_the_result,
        "adds a key": lambda *a: gru_back(*a, noted=True),
        "U without r": lambda *a: gru_back(*a, reset=False),
        "slope of tanh at n": lambda *a: gru_back(*a, tanh_slope=lambda n: 1 - np.tanh(n) ** 2),
        "r from dn": lambda *a: gru_back(*a, to_r=lambda da_n, dn, r, g_n, a_n: dn * g_n),
        "r from dg_n": lambda *a: gru_back(*a, to_r=lambda da_n, dn, r, g_n, a_n: da_n * r * g_n),
        "a_n for g_n": lambda *a: gru_back(*a, to_r=lambda da_n, dn, r, g_n, a_n: da_n * a_n),
        "dh from da": lambda *a: gru_back(*a, to_h=lambda da, dg: da),
        "slope of sigmoid at r": lambda *a: gru_back(*a, slope=lambda y: sigmoid(y) * (1 - sigmoid(y))),
        "no carry": lambda *a: gru_back(*a, carry=False),
        "all of dh times r": lambda p, x, h, dh: (
            lambda dx, dh, grads: (dx, dh * gru.gru_forward(p, x, h)[1].ru[..., : h.shape[-1]], grads)
        )(*gru_back(p, x, h, dh)),
        "rows of the first axis": lambda *a: gru_back(*a, rows=lambda v: v.sum(axis=tuple(range(v.ndim - 2)))),
    },
    "07.3": {
        "one step too many": lambda *a: through_time(*a, real=lambda t, n: t <= n),
        "all as long as the first": lambda *a: through_time(*a, real=lambda t, n: 0 * n + t < n[0]),
        "unmasked": lambda *a: through_time(*a, real=lambda t, n: n > 0),
        "the first step left out": lambda *a: through_time(*a, first=1),
        "caches turned, dh not": lambda *a: through_time(*a, cell=lambda t: -1 - t),
        "each step from h_0": lambda *a: through_time(*a, read=lambda h, h_0: h_0),
        "from a state of 0": lambda *a: through_time(*a, read=lambda h, h_0: 0 * h if h is h_0 else h),
        "dh_0 with dh[0]": lambda *a: through_time(*a, last=1),
        "nothing handed on": lambda *a: through_time(*a, on=0),
        "beyond the ends": lambda *a: through_time(*a, real=lambda t, n: t >= n),
        "all as long as the shortest": lambda *a: through_time(*a, real=lambda t, n: 0 * n + t < n.min()),
        "the loss of the state before": lambda p, x, h_0, dh, n: through_time(p, x, h_0, np.roll(dh, 1, axis=0), n),
        "the loss and end of the state before": lambda p, x, h_0, dh, n: through_time(
            p, x, h_0, np.roll(dh, 1, axis=0), n, real=lambda t, n: t <= n
        ),
    },
    "07.4": {
        "states after": lambda *a: after_the_loop(*a, states=slice(1, None)),
        "means over the batch": lambda x, h, r, da: tuple(v / len(x[0]) for v in after_the_loop(x, h, r, da)),
        "means over the steps": lambda x, h, r, da: tuple(v / len(x) for v in after_the_loop(x, h, r, da)),
        "1 - r": lambda x, h, r, da: after_the_loop(x, h, 1 - r, da),
        "r times h": lambda x, h, r, da: (
            *after_the_loop(x, h, r, da)[:2],
            np.concatenate(
                [np.tensordot(v, d, ([0, 1],) * 2) for v, d in zip((h[:-1], h[:-1], r * h[:-1]), np.split(da, 3, -1))],
                1,
            ),
            da.sum((0, 1)),
        ),
        "x by sequences": lambda x, h, r, da: (
            x.swapaxes(0, 1).reshape(-1, x.shape[2]).T @ da.reshape(-1, da.shape[2]),
            *after_the_loop(x, h, r, da)[1:],
        ),
        "no reset": lambda x, h, r, da: after_the_loop(x, h, np.ones_like(r), da),
        "without axes of 1": lambda *a: tuple(map(np.squeeze, after_the_loop(*a))),
        "r everywhere": lambda x, h, r, da: after_the_loop(
            x, h, r, np.concatenate([da[..., : -r.shape[-1]], da[..., -r.shape[-1] :] * r], -1)
        ),
    },
    "07.5": {
        "too many": {"infer", "draw", "phi_z", "recur", "prior"},
        "too few": {"infer", "recur"},
        "reads h": {"prior", "infer", "generate", "recur"},
        "all but the terms": {"prior", "infer", "draw", "phi_z", "generate", "recur"},
        "a draw of noise": {"infer", "phi_z", "recur"},
    },
    "07.6": {
        "nothing": lambda params, cache, dlog_p, dkl, dh_t: np.zeros_like(dh_t),
        "handed on": lambda *a: a[-1],
        "the new path alone": lambda *a: roads(*a, others=0),
        "sigma without eps": lambda *a: roads(*a, dsigma=lambda dz, eps: dz),
        "the KL subtracted": lambda *a: roads(*a, kl=-1),
        "the KL alone": lambda *a: roads(*a, of_z=0),
        "without B = 1": lambda *a: roads(*a).squeeze(),
    },
    "08.1": {
        "no mask": lambda e, m: (e.sum() / e.shape[1], e.mean()),
        "per step over T": lambda e, m: ((e * m).sum() / e.shape[1], (e * m).sum() / len(e)),
        "over the mean length": lambda e, m: ((e * m).sum() / e.shape[1], (e * m).sum() / m.sum(0).mean()),
        "per sequence a mean of means": lambda e, m: (((e * m).sum(0) / m.sum(0)).mean(), (e * m).sum() / m.sum()),
        "steps of all": lambda e, m: ((e * m).sum() / e.shape[1], (e * m).mean()),
        "counts what is not zero": lambda e, m: ((e * m).sum() / e.shape[1], (e * m).sum() / np.count_nonzero(e * m)),
        "sequences by their last step": lambda e, m: ((e * m).sum() / max(m[-1].sum(), 1), (e * m).sum() / m.sum()),
    },
    "08.2": {
        "always": lambda g, top: clip_dict(g, lambda norm: top / norm),
        "adds a key": clip_and_note,
        "each by itself": lambda g, top: {k: v * min(1.0, top / np.sqrt((v * v).sum())) for k, v in g.items()},
        "1e-6 below": lambda g, top: clip_dict(g, lambda norm: min(1.0, top / (norm + 1e-6))),
        "max for min": lambda g, top: clip_dict(g, lambda norm: max(1.0, top / norm)),
        "root of the mean square": lambda g, top: clip_dict(
            g,
            lambda norm: min(1.0, top / norm),
            lambda g: np.sqrt(np.mean(np.concatenate([v.ravel() ** 2 for v in g.values()]))),
        ),
        "norm of W": lambda g, top: clip_dict(g, lambda n: min(1.0, top / n), lambda g: np.sqrt((g["W"] ** 2).sum())),
        "entries": lambda g, top: {k: np.clip(v, -top, top) for k, v in g.items()},
        "sum of norms": lambda g, top: clip_dict(
            g, lambda norm: min(1.0, top / norm), lambda g: sum(np.sqrt((v * v).sum()) for v in g.values())
        ),
    },
    "08.3": {"clipped": 0.2, "of g": 50.0, "one entry": 3.0, "the other entry": 4.0, "the square": 25.0},
    "08.4": {
        "newest first": lambda g, b1: ((1 - b1) * b1 ** np.arange(len(g)) / (1 - b1 ** len(g))) @ g,
        "not corrected": lambda g, b1: ((1 - b1) * b1 ** np.arange(len(g))[::-1]) @ g,
        "times the correction": lambda g, b1: ((1 - b1) * b1 ** np.arange(len(g))[::-1] * (1 - b1 ** len(g))) @ g,
        "corrected with K + 1": lambda g, b1: ((1 - b1) * b1 ** np.arange(len(g))[::-1] / (1 - b1 ** (len(g) + 1))) @ g,
        "corrected by 1 - b1": lambda g, b1: (b1 ** np.arange(len(g))[::-1]) @ g,
        "corrected with K - 1": lambda g, b1: (
            ((1 - b1) * b1 ** np.arange(len(g))[::-1] / (1 - b1 ** max(len(g) - 1, 1))) @ g
        ),
        "corrected in each step": corrected_in_each_step,
        "from the first gradient": mean_from_the_first,
        "from the first, corrected": lambda g, b1: mean_from_the_first(g, b1, len(g)),
        "weights along the parameters": weights_along_the_parameters,
        "one axis less": lambda g, b1: np.squeeze(((1 - b1) * b1 ** np.arange(len(g))[::-1] / (1 - b1 ** len(g))) @ g),
        "by logarithms": lambda g, b1: (
            ((lambda w: w / w.sum())(np.exp(np.arange(len(g))[::-1] * np.log(b1 + 1e-6)))) @ g
        ),
    },
    "08.5": {
        "eps inside": lambda *a: adam(*a, root=lambda v, eps: np.sqrt(v + eps)),
        "eps squared inside": lambda *a: adam(*a, root=lambda v, eps: np.sqrt(v + eps**2)),
        "corrected ones kept": adam_that_keeps_the_corrected,
        "the old m": lambda *a: adam(*a, step=lambda old, new: old),
        "no 1 - b1": lambda *a: adam(*a, new=lambda m, g, b1: b1 * m + g),
        "weights of m turned": lambda *a: adam(*a, new=lambda m, g, b1: (1 - b1) * m + b1 * g),
        "v corrected only": lambda *a: adam(*a, c1=lambda b1, k: 1),
        "one step behind": lambda *a: adam(*a, c1=lambda b1, k: 1 - b1 ** (k - 1), c2=lambda b2, k: 1 - b2 ** (k - 1)),
        "both corrected by b1": lambda *a: adam(*a, c2=lambda b2, k: 1 - a[6] ** k),
        "in place": adam_in_place,
        "k - 1": lambda *a: adam(*a, c2=lambda b2, k: 1 - b2 ** max(k - 1, 1)),
        "no eps": lambda *a: adam(*a, root=lambda v, eps: np.sqrt(v)),
        "the larger of the root and eps": lambda *a: adam(*a, root=lambda v, eps: np.maximum(np.sqrt(v), eps)),
        "eps where v is 0": lambda *a: adam(*a, root=lambda v, eps: np.where(v > 0, np.sqrt(v), eps)),
        "the short form": adam_in_the_short_form,
        "both old": adam_of_old_moments,
        "the old v": lambda *a: adam_of_old_moments(*a, old="v"),
        "weights of v turned": lambda *a: adam_with_other_moments(*a, of_v=v_turned),
        "all weights turned": lambda *a: adam_with_other_moments(
            *a, of_m=lambda m, g, b1: (1 - b1) * m + b1 * g, of_v=v_turned
        ),
        "without lr": lambda theta, g, m, v, k, lr, *rest: adam(theta, g, m, v, k, 1, *rest),
        "v of g - m": lambda *a: adam_with_other_moments(*a, of_v=lambda v, g, m, b2: b2 * v + (1 - b2) * (g - m) ** 2),
        "v never falls": lambda *a: adam_with_other_moments(
            *a, of_v=lambda v, g, m, b2: np.maximum(v, b2 * v + (1 - b2) * g * g)
        ),
        "one axis less": lambda *a: [np.squeeze(v) for v in adam(*a)],
    },
    "08.6": {
        "divides by S": lambda ell, kl, s, S: ((min(1, (s + 1) / S) * kl - ell).mean(), (ell - kl).mean()),
        "S = 0 is beta 0": lambda ell, kl, s, S: (
            (min(1, (s + 1) / S if S else 0) * kl - ell).mean(),
            (ell - kl).mean(),
        ),
        "max for min": lambda ell, kl, s, S: (
            ((max(1, (s + 1) / S) if S else 1) * kl - ell).mean(),
            (ell - kl).mean(),
        ),
        "as it was": lambda ell, kl, s, S: (lambda loss: (loss, -loss))((((s + 1) / S if S else 1) * kl - ell).mean()),
        "no warm-up": lambda ell, kl, s, S: ((kl - ell).mean(), (ell - kl).mean()),
        "beta times the loss": lambda ell, kl, s, S: (
            (min(1, (s + 1) / S) if S else 1) * (kl - ell).mean(),
            (ell - kl).mean(),
        ),
        "bound of the wrong sign": lambda ell, kl, s, S: (
            ((min(1, (s + 1) / S) if S else 1) * kl - ell).mean(),
            (kl - ell).mean(),
        ),
        "the likelihood alone": lambda ell, kl, s, S: (
            ((min(1, (s + 1) / S) if S else 1) * kl - ell).mean(),
            ell.mean(),
        ),
        "a whole division": lambda ell, kl, s, S: (
            ((min(1, (s + 1) // S) if S else 1) * kl - ell).mean(),
            (ell - kl).mean(),
        ),
        "in cycles": lambda ell, kl, s, S: (
            (((s % S + 1) / S if S else 1) * kl - ell).mean(),
            (ell - kl).mean(),
        ),
        "from 0": lambda ell, kl, s, S: ((min(1, s / S if S else 1) * kl - ell).mean(), (ell - kl).mean()),
        "at least one step": lambda ell, kl, s, S: ((min(1, (s + 1) / max(S, 2)) * kl - ell).mean(), (ell - kl).mean()),
    },
    "09.1": {
        "3.1416": lambda *a: kalman(*a, pi=3.1416),
        "no 2 pi": lambda *a: kalman(*a, pi=0.5),
        "the square without a half": lambda *a: kalman(*a, halves=(1, 0.5)),
        "the logarithm without a half": lambda *a: kalman(*a, halves=(0.5, 1)),
        "no logarithm": lambda *a: kalman(*a, halves=(0.5, 0)),
        "the score as a loss": lambda *a: kalman(*a, halves=(-0.5, -0.5)),
        "innovation from the old mean": lambda *a: kalman(*a, error=lambda x, m, old: x - old),
        "gain from the old P": lambda *a: kalman(*a, from_old=True),
        "k P'": lambda *a: kalman(*a, shrunk=lambda k, P: k * P),
        "shrunk twice": lambda *a: kalman(*a, shrunk=lambda k, P: (1 - k) ** 2 * P),
        "gain of standard deviations": lambda *a: kalman(*a, gain=lambda P, S: np.sqrt(P / S)),
        "1e-6 below": lambda *a: kalman(*a, gain=lambda P, S: P / (S + 1e-6)),
        "no noise in the gain": lambda *a: kalman(*a, gain=lambda P, S: P / (P + 1e-3)),
        "the update first": update_before_the_prediction,
        "scored after the update": lambda *a: kalman_scored_after(*a, mean_too=True),
        "scored with the new variance": lambda *a: kalman_scored_after(*a, mean_too=False),
        "the density": density_of_the_step,
        "a growing variance": lambda *a: kalman(*a, shrunk=lambda k, P: (1 + k) * P),
    },
    "09.2": {
        "filter first": ("filtering", "narrow", "prior"),
        "backwards": ("prior", "filtering", "narrow"),
        "the filter last": ("narrow", "prior", "filtering"),
    },
    "09.3": {
        "deviations added": lambda s, v: prices(s, v, lambda s, v: s + np.sqrt(v)),
        "precisions added": lambda s, v: prices(s, v, lambda s, v: s * np.sqrt(v / (s**2 + v))),
        "half left over": lambda s, v: prices(s, v, best=0.5, exact=0.5),
        "the exact one's half": lambda s, v: prices(s, v, exact=0.5),
        "the filter's": lambda s, v: (np.sqrt(s**2 + v), v / s**2 / 2, v / s**2 - 0.5 * np.log(1 + v / s**2)),
        "of the KL turned round": lambda s, v: (
            np.sqrt(s**2 + v),
            0.5 * np.log(1 + v / s**2),
            v / s**2 - 0.5 * np.log(1 + v / s**2),
        ),
        "the filter's for the best": lambda s, v: (
            np.sqrt(s**2 + v),
            v / s**2 - 0.5 * np.log(1 + v / s**2),
            v / s**2 / 2,
        ),
        "one axis less": lambda s, v: tuple(np.squeeze(a) for a in prices(s, v)),
        "the price of the mean": lambda s, v: (s, v / s**2, v / s**2 - 0.5 * np.log(1 + v / s**2)),
        "1e-6 below": lambda s, v: (s, v / (s**2 + 1e-6) / 2, v / s**2 - 0.5 * np.log(1 + v / s**2)),
    },
    "10.1": {
        "naive": lambda xp, a: xp.log(xp.mean(xp.exp(a), axis=0)),
        "a mean over B": lambda xp, a: log_mean_on(xp, a, lambda K, B: -np.log(B)),
        "log K added": lambda xp, a: log_mean_on(xp, a, lambda K, B: np.log(K)),
        "one top for all": lambda xp, a: xp.max(a) + xp.log(xp.mean(xp.exp(a - xp.max(a)), axis=0)),
        "on the host": lambda xp, a: np.log(np.exp(a).mean(axis=0)),
        "brought to the host": lambda xp, a: log_mean_on(np, to_host(a), lambda K, B: -np.log(K)),
        "from its backend": lambda xp, a: log_mean_on(np, backend_of(a).to_host(a), lambda K, B: -np.log(K)),
        "as float64, then home": lambda xp, a: log_mean_on(
            np, to_host(get_backend("strict").asarray(a, "float64")), lambda K, B: -np.log(K)
        ),
        "a sum": lambda xp, a: xp.max(a, axis=0) + xp.log(xp.sum(xp.exp(a - xp.max(a, axis=0)), axis=0)),
        "the mean of a list": lambda xp, a: (
            xp.max(a, axis=0) + xp.log(xp.mean([xp.exp(row - xp.max(a, axis=0)) for row in a], axis=0))
        ),
    },
    "10.2": {
        "no where": {"B", "C", "E"},
        "float too": {"B", "C", "E", "F", "G"},
        "numbers and float": {"A", "B", "C", "E", "F", "G"},
        "maximum too": {"B", "C", "E", "G", "H"},
        "transfers": {"E", "F"},
        "mixed only": {"B", "G"},
        "functions of numpy": {"C", "E"},
    },
    "10.3": {
        "without norms": 21,
        "one a step": 11,
        "30": 30,
        "copied once": 13,
        "the last line": 1,
        "the loss alone": 10,
        "one step and the loss": 4,
        "none": 0,
    },
    "10.4": {
        "always": lambda xp, g, top: g * (top / xp.sqrt(xp.sum(g * g))),
        "1e-6 below": lambda xp, g, top: g * xp.minimum(top / (xp.sqrt(xp.sum(g * g)) + 1e-6), 1.0),
        "max for min": lambda *a: clip_there(*a, lambda xp, norm, top: xp.maximum(top / norm, 1.0)),
        "entry by entry": lambda xp, g, top: xp.minimum(g, g * (top / xp.sqrt(xp.sum(g * g)))),
        "the shorter norm": lambda *a: clip_there(*a, lambda xp, norm, top: xp.minimum(norm, top)),
        "root of the mean square": lambda *a: clip_there(
            *a, lambda xp, norm, top: xp.minimum(top / norm, 1.0), lambda xp, g: xp.sqrt(xp.mean(g * g))
        ),
        "an if": lambda xp, g, top: g * (top / xp.sqrt(xp.sum(g * g))) if xp.sqrt(xp.sum(g * g)) > top else g,
        "an if at home": lambda xp, g, top: clip_if(g, top, float(to_host(xp.sqrt(xp.sum(g * g))))),
        "a plus sign": lambda xp, g, top: clip_if(g, top, float(+xp.sqrt(xp.sum(g * g)))),
        "the largest entry": lambda xp, g, top: g * xp.minimum(top / xp.max(xp.abs(g)), 1.0),
        "min of a list": lambda *a: clip_there(*a, lambda xp, norm, top: xp.min([top / norm, 1.0])),
        "amin of a tuple": lambda *a: clip_there(*a, lambda xp, norm, top: xp.amin((top / norm, 1.0))),
        "an array of both": lambda *a: clip_there(*a, lambda xp, norm, top: xp.array([top / norm, 1.0]).min()),
        "stacked with a number": lambda *a: clip_there(*a, lambda xp, norm, top: xp.min(xp.stack([top / norm, 1.0]))),
        "the sum of a list": lambda xp, g, top: g * xp.minimum(top / xp.sqrt(xp.sum([v * v for v in g])), 1.0),
        "at most 1": lambda xp, g, top: g / xp.maximum(xp.sqrt(xp.sum(g * g)), 1.0) * min(top, 1.0),
    },
    "10.5": {
        "T times once": lambda w, i, o, T, ell, r: (
            ell * T * (i + o) + w / r,
            ell * T * (i + o) / (ell * T * (i + o) + w / r),
        ),
        "the longer one": lambda w, i, o, T, ell, r: (
            np.maximum(ell * (T * i + o), w / r),
            ell * (T * i + o) / np.maximum(ell * (T * i + o), w / r),
        ),
        "work in each step": lambda *a: step_time(*a, work="T"),
        "per cent": lambda *a: step_time(*a, share=lambda ell, i, o, T, s: 100 * ell * (T * i + o) / s),
        "share of the loop": lambda *a: step_time(*a, share=lambda ell, i, o, T, s: ell * T * i / s),
        "launches not in seconds": lambda *a: step_time(*a, launches=lambda i, o, T, ell: T * i + o),
        "waiting alone": lambda *a: step_time(*a, work=0),
        "a ratio": lambda w, i, o, T, ell, r: (ell * (T * i + o) + w / r, ell * (T * i + o) / (w / r)),
    },
    "11.1": {"all above": ("above", "above", "above"), "the last": ("above", "below", "above")},
    "11.2": {
        "1e-12 in the logs": naive_coin,
        "a naive softplus": lambda x, a: x * a - np.log1p(np.exp(a)),
        "a corner": lambda x, a: x * a - np.maximum(a, 0),
        "clipped at 30": lambda x, a: x * np.clip(a, -30, 30) - np.logaddexp(0, np.clip(a, -30, 30)),
        "relu far away": lambda x, a: x * a - np.where(a > 15, a, np.log1p(np.exp(np.minimum(a, 15)))),
        "softplus of minus a": lambda x, a: x * a - np.logaddexp(0, -a),
        "plus where x is 0": lambda x, a: coin(x, a, sign=1),
        "e^-a without abs": lambda x, a: coin(x, a, lambda a: np.maximum(a, 0) + np.log1p(np.exp(-a))),
        "e^a for e^-a": lambda x, a: coin(x, a, lambda a: np.maximum(a, 0) + np.log1p(np.exp(abs(a)))),
        "softplus added": lambda x, a: x * a + np.logaddexp(0, a),
        "no x": lambda x, a: a - np.logaddexp(0, a),
        "p clipped at 1e-12": lambda x, a: naive_coin(x, a, lambda p: np.clip(p, 1e-12, 1 - 1e-12), 0.0),
        "only the sign of eps mended": lambda x, a: naive_coin(x, a, lambda p: p, 1e-10),
    },
    "11.3": {
        "all at once": lambda *a: glued(*a, reset=lambda h, first: h * (not first.any())),
        "where all begin": lambda *a: glued(*a, reset=lambda h, first: h * (not first.all())),
        "to tanh(b)": lambda W, U, b, first, x: glued(
            W, U, b, first, x, reset=lambda h, first: np.where(first[:, None], np.tanh(b), h)
        ),
        "after the step": lambda W, U, b, first, x: glued(W, U, b, first, x) * (1 - first[..., None]),
        "x as well": lambda W, U, b, first, x: glued(W, U, b, first, x * (1 - first[..., None])),
        "the wrong way round": lambda *a: glued(*a, reset=lambda h, first: h * first[:, None]),
        "one step late": lambda W, U, b, first, x: glued(
            W, U, b, np.roll(first, 1, 0) & (np.arange(len(x)) > 0)[:, None], x
        ),
        "only the first track": lambda W, U, b, first, x: glued(W, U, b, first[:, :1] | (0 * first > 0), x),
        "one step early": lambda W, U, b, first, x: glued(
            W, U, b, np.concatenate([first[1:], np.zeros_like(first[:1])]), x
        ),
        "one axis less": lambda *a: np.squeeze(glued(*a)),
        "no bias at first": lambda *a: glued(*a, bias=lambda b, first: b * (1 - first[:, None])),
    },
    "11.4": {"both": {"gradient", "long gradient"}, "none": set()},
    "11.5": {
        "always": lambda *a: momentum(*a, factor=lambda norm, top: top / norm),
        "1e-6 below": lambda *a: momentum(*a, factor=lambda norm, top: min(1.0, top / (norm + 1e-6))),
        "the momentum clipped": lambda theta, m, lr, top, g: (
            lambda n: (theta - lr * n * min(1.0, top / np.sqrt((n * n).sum())), n)
        )(0.9 * m + g),
        "averaged": lambda theta, m, lr, top, g: momentum(theta, m, lr, top, g * 0.1),
        "max for min": lambda *a: momentum(*a, factor=lambda n, top: max(1.0, top / n)),
        "scaled to 1": lambda *a: momentum(*a, factor=lambda n, top: min(1.0, 1 / n)),
        "the factor upside down": lambda *a: momentum(*a, factor=lambda n, top: min(1.0, n / top)),
        "sum of magnitudes": lambda *a: momentum(*a, norm=lambda g: abs(g).sum()),
        "root of the mean": lambda *a: momentum(*a, norm=lambda g: np.sqrt((g * g).mean())),
        "the largest entry": lambda *a: momentum(*a, norm=lambda g: abs(g).max()),
        "steps by the gradient": lambda *a: momentum(*a, move=lambda m, g: g),
        "Nesterov's step": lambda *a: momentum(*a, move=lambda m, g: 0.9 * m + g),
        "theta first": lambda theta, m, lr, top, g: (
            theta - lr * (0.9 * m + g),
            momentum(theta, m, lr, top, g)[1],
        ),
        "clipped after m": lambda theta, m, lr, top, g: (
            theta - lr * g * min(1.0, top / euclidean(g)),
            0.9 * m + g,
        ),
        "the step clipped": lambda theta, m, lr, top, g: (
            lambda step: (theta - step * min(1.0, top / euclidean(step)), 0.9 * m + g)
        )(lr * (0.9 * m + g)),
        "one axis less": lambda *a: tuple(np.squeeze(v) for v in momentum(*a)),
    },
    "11.6": {"one": {"exact case"}, "padding": {"exact case", "batch = singles", "padding"}},
    "12.1": {
        "added": lambda p, n, std: (
            p + n * np.log(std).sum(),
            -(p + n * np.log(std).sum()).sum() / n.sum() / float(np.log(2)),
        ),
        "mean of means": lambda p, n, std: (
            p - n * np.log(std).sum(),
            -np.mean((p - n * np.log(std).sum()) / n) / float(np.log(2)),
        ),
        "0.693": lambda p, n, std: (p - n * np.log(std).sum(), -(p - n * np.log(std).sum()).sum() / n.sum() / 0.6931),
        "one std": lambda p, n, std: (
            p - n * np.log(std[0]) * len(std),
            -(p - n * np.log(std[0]) * len(std)).sum() / n.sum() / float(np.log(2)),
        ),
        "log2 of std": lambda *a: bits(*a, scale=lambda n, std: n * np.log2(std).sum()),
        "a power": lambda *a: bits(*a, scale=lambda n, std: np.log(np.prod(std) ** n)),
        "powers": lambda *a: bits(*a, scale=lambda n, std: -np.log((std ** -n[:, None]).prod(axis=1))),
        "bits of the whole set": lambda *a: bits(*a, steps=lambda n, std: 1.0),
        "padded steps counted": lambda *a: bits(*a, steps=lambda n, std: n.max() * len(n)),
        "bits per number": lambda *a: bits(*a, steps=lambda n, std: n.sum() * len(std)),
    },
    "12.2": {
        "from the origin": lambda x: ink(x, origin=1),
        "the lifts": lambda x: ink(x, ink=lambda x: x[:-1, 2]),
        "after the line": lambda x: ink(x, ink=lambda x: 1 - x[1:, 2]),
        "all drawn": lambda x: ink(x, ink=lambda x: np.ones_like(x[1:, 2])),
        "steps for ends": lambda x: ink(x, lines=lambda path, x: (path[:-1], x[1:, :2])),
        "x0, x1, y0, y1": lambda x: ink(x, lines=two_columns),
        "from end to start": lambda x: ink(x, lines=lambda path, x: (path[1:], path[:-1])),
        "anew after a lift": ink_anew_after_a_lift,
        "lifts added up": lambda x: ink(x, ink=lambda x: 1 - np.cumsum(x[:-1, 2])),
        "a step behind": lambda x: ink(x, lines=lambda path, x: (path[:-1] - x[:-1, :2], path[:-1])),
    },
    "12.3": {
        "a naive coin": lambda *a: pen(
            *a, log_pen=lambda ell, a: ell * np.log(sigmoid(a)) + (1 - ell) * np.log(1 - sigmoid(a))
        ),
        "a naive softmax": lambda *a: pen(
            *a, log_pi=lambda ell: np.log(np.exp(ell) / np.exp(ell).sum(1, keepdims=True))
        ),
        "3.1416": lambda *a: pen(*a, pi=3.1416),
        "1e-6 in 1 - rho^2": lambda *a: pen(*a, c2=lambda rho: 1 - rho**2 + 1e-6),
        "divided by c^2": lambda *a: pen(*a, bell=lambda d1, d2, rho: d1**2 + ((d2 - rho * d1) / (1 - rho**2)) ** 2),
        "half of the cross term": lambda *a: pen(
            *a, bell=lambda d1, d2, rho: (d1**2 + d2**2 - rho * d1 * d2) / (1 - rho**2)
        ),
        "no half in the exponent": lambda *a: pen(
            *a, bell=lambda d1, d2, rho: 2 * (d1**2 + (d2 - rho * d1) ** 2 / (1 - rho**2))
        ),
        "no log sigma": lambda *a: pen(*a, log_s=lambda s: 0 * s),
        "plus log sigma": lambda *a: pen(*a, log_s=lambda s: -np.log(s)),
        "sigma of dx alone": lambda *a: pen(*a, log_s=lambda s: np.log(s[..., :1])),
        "equal weights": lambda *a: pen(*a, log_pi=lambda ell: 0 * ell - np.log(ell.shape[1])),
        "softmax over the steps": lambda *a: pen(*a, log_pi=lambda ell: log_softmax(ell, axis=0)),
        "pi without a logarithm": lambda *a: pen(*a, log_pi=lambda ell: np.exp(log_softmax(ell))),
        "1e-8 in the coin": lambda *a: pen(
            *a, log_pen=lambda ell, a: ell * np.log(sigmoid(a) + 1e-8) + (1 - ell) * np.log(1 - sigmoid(a) + 1e-8)
        ),
        "c without its root": lambda *a: pen(*a, c2=lambda rho: (1 - rho**2) ** 2),
        "1e-10 in the log": lambda *a: pen(*a, small=1e-10),
        "1e-20 in the log": lambda *a: pen(*a, small=1e-20),
        "c = 1 - rho": lambda *a: pen(*a, c2=lambda rho: (1 - rho) ** 2),
        "K coins": lambda *a: a[1].shape[1] * pen(*a) - (a[1].shape[1] - 1) * pen(*a, log_pen=lambda lifted, a: 0 * a),
        "one axis less": lambda *a: np.squeeze(pen(*a)),
    },
    "12.4": {"one coin": math.log(2), "six": 6 * math.log(2), "bits": 5.0},
    "14.1": {
        "a tie to the left": lambda *a: resample(*a, before=lambda ends, points: ends < points),
        "equal points": lambda *a: resample(*a, spread=lambda u, K: np.tile((0.5 + np.arange(K)) / K, (len(u), 1))),
        "the first row's uniform": lambda h, s, u: resample(h, s, np.full_like(u, u[0])),
        "nearest": lambda *a: resample(*a, before=lambda ends, points: ends < points - 1e-3),
        "indices for states": lambda h, s, u: resample(0 * h + np.arange(h.shape[1]), s, u),
        "points from 1 to K": lambda *a: resample(*a, spread=lambda u, K: (u[:, None] + np.arange(1, K + 1)) / K),
        "K - 1 in the points": lambda *a: resample(*a, spread=lambda u, K: (u[:, None] + np.arange(K)) / max(K - 1, 1)),
        "points around the stick": lambda *a: resample(*a, spread=lambda u, K: (u[:, None] + np.arange(K) / K) % 1),
        "counts the ends beyond": lambda *a: resample(*a, before=lambda ends, points: ends > points),
        "intervals by their starts": lambda *a: resample(*a, ends=lambda s: np.cumsum(s, axis=1) - s),
        "states of the first row": lambda h, s, u: resample(0 * h + h[:1], s, u),
        "ancestors of the first row": lambda h, s, u: resample(h, s[:1] + 0 * s, u[:1] + 0 * u),
        "the first end beyond": by_the_first_end_beyond,
        "no limit": by_searchsorted,
        "by the starts before": by_the_starts_before,
        "sorted first": resample_the_sorted,
        "backwards": lambda *a: resample(*a)[:, ::-1],
        "K + 1 in the points": lambda *a: resample(
            *a, spread=lambda u, K: (u[:, None] + np.arange(1, K + 1)) / (K + 1)
        ),
        "the rest of the stick": lambda *a: resample(
            *a, spread=lambda u, K: np.stack([np.linspace(v / K, 1, K, endpoint=False) for v in u])
        ),
        "times K shares": lambda h, s, u: h * s * h.shape[1],
    },
    "14.2": {
        "all or none": lambda *a: ledger(*a, book=lambda now: np.full((len(now), 1), now.any())),
        "never emptied": lambda *a: ledger(*a, reset=False),
        "naive": lambda *a: ledger(*a, mean=naive_mean),
        "weights reset to 1, logs too": lambda *a: ledger(*a, after=lambda v: 1),
        "keeps the mean weight": lambda *a: ledger(*a, after=lambda v: particles.log_mean_exp(v)[:, None]),
        "keeps the shares": lambda *a: ledger(*a, after=lambda v: v - particles.log_mean_exp(v)[:, None]),
        "the estimate itself": lambda *a: np.exp(ledger(*a)),
        "the end is missing": lambda *a: ledger(*a, end=lambda v: 0),
        "a mean of logs at the end": lambda *a: ledger(*a, end=lambda v: v.mean(axis=1)),
        "the wrong way round": lambda again, w: ledger(1 - again, w),
        "one step late": lambda again, w: ledger(np.roll(again, 1, axis=0), w),
        "the largest for the mean": lambda *a: ledger(*a, mean=lambda v: v.max(axis=1)),
        "row numbers": ledger_by_row_numbers,
        "one axis less": lambda *a: np.squeeze(ledger(*a)),
    },
    "14.3": {"and the filter": {"w", "iwae", "fivo"}, "w": {"w"}},
}
