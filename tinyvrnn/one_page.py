"""The Variational RNN (Chung et al., NeurIPS 2015, arXiv:1506.02216) on one page: plain NumPy, gradients by hand.

    x --> phi_x --> [ for each t:  infer (9) --> z = mu_z + sigma_z eps --> phi_z --> recur (7) ] --> phi_z and h
    log p(x_t | ...)  <-- generate (6) <-- phi_z, h      all T steps at once
    KL(q || p)        <-- prior (5)    <-- h             all T steps at once; h is h_{t-1}, the state before step t

Read from top to bottom. "Eq. 9" is Eq. 9 of the paper; `da` is the gradient of the loss with respect to `a`. Sizes:
T steps, B sequences (all of length T; the package also takes ragged ones), X numbers in x_t, Z in z_t, H in h_t, F in
a hidden layer; "..." is B in the loop over t, and T, B outside it. `params` are those of tinyvrnn.VRNN.
`python -m tinyvrnn.one_page` learns to draw 8 x 8 digits, row by row, within half a minute, and prints eight of them.
"""

import numpy as np


def each(f, *trees):  # f of the arrays that have the same name in two-level dicts such as params["prior"]["W1"]
    return {group: {name: f(*(tree[group][name] for tree in trees)) for name in trees[0][group]} for group in trees[0]}


def stack(steps):  # T arrays (B, .) become one array (T, B, .), and T lists of arrays become one list of such arrays
    return np.stack(steps) if hasattr(steps[0], "shape") else [stack(parts) for parts in zip(*steps)]


def sigmoid(a):
    return 0.5 * np.tanh(0.5 * a) + 0.5  # 1 / (1 + exp(-a)), but exp could overflow


def network(p, *inputs):  # relu layers W1, b1, ..., then linear W_out, b_out if there is one
    names, ys = list(p), [np.concatenate(inputs, axis=-1)]  # ["W1", "b1", "W2", "b2", ...], [(..., D)]
    for W, b in zip(names[::2], names[1::2]):
        a = ys[-1] @ p[W] + p[b]  # (..., F)
        ys.append(a if W == "W_out" else np.maximum(a, 0))
    return ys  # the inputs side by side, layer 1, ..., the output: the backward pass needs all of them


def network_backward(p, ys, dy):  # from dy of the output: the gradient of the inputs (..., D), and each layer's da
    das = []
    for W, y in zip(list(p)[-2::-2], ys[::-1]):  # from the last layer to the first
        da = dy if W == "W_out" else dy * (y > 0)
        das, dy = [da, *das], da @ p[W].T
    return dy, das


def weight_gradients(p, ys, das):  # ys, das: lists of arrays (T, B, .), in the order of p's W and b
    dWs = {W: np.tensordot(y, da, axes=([0, 1], [0, 1])) for W, y, da in zip(list(p)[::2], ys, das)}  # y^T da
    return dWs | {b: np.sum(da, axis=(0, 1)) for b, da in zip(list(p)[1::2], das)}


def gru(p, phi_x, phi_z, h):
    v = np.concatenate([phi_x, phi_z], axis=-1)  # (B, 2F)
    a_r, a_u, a_n = np.split(v @ p["W"] + p["b"], 3, axis=-1)  # (B, H) each
    g_r, g_u, g_n = np.split(h @ p["U"] + p["c"], 3, axis=-1)  # (B, H) each
    r, u = sigmoid(a_r + g_r), sigmoid(a_u + g_u)  # reset gate, update gate
    n = np.tanh(a_n + r * g_n)  # candidate
    return (1 - u) * n + u * h, (v, h, r, u, n, g_n)  # Eq. 7, and what the backward pass needs


def gru_backward(p, cache, dh_next):
    _, h, r, u, n, g_n = cache
    da_u, da_n = dh_next * (h - n) * u * (1 - u), dh_next * (1 - u) * (1 - n**2)
    da_r = da_n * g_n * r * (1 - r)
    da = np.concatenate([da_r, da_u, da_n], axis=-1)  # (B, 3H)
    dg = np.concatenate([da_r, da_u, da_n * r], axis=-1)  # (B, 3H); not da, because n reads r * g_n
    return *np.split(da @ p["W"].T, 2, axis=-1), dh_next * u + dg @ p["U"].T, da, dg  # dphi_x, dphi_z, dh, da, dg


def gaussian(o):  # a network's output o (..., 2Z) as mu, sigma, and the slope d sigma / d s, (..., Z) each
    mu, s = np.split(o, 2, axis=-1)
    return mu, np.logaddexp(0, s) + 1e-4, sigmoid(s)  # log(1 + exp(s)) > 0, and a floor that keeps 1 / sigma finite


def kl_divergence(o_z, o_0):  # KL(q || p) of each step, (T, B), in nats, and its gradients do_z, do_0 (T, B, 2Z)
    (mu_z, sigma_z, slope_z), (mu_0, sigma_0, slope_0) = gaussian(o_z), gaussian(o_0)
    delta, d = (mu_z - mu_0) / sigma_0, np.log(sigma_z) - np.log(sigma_0)
    e = np.expm1(2 * d)  # (sigma_z / sigma_0)^2 - 1, accurate also where the two are almost equal
    do_z = np.concatenate([delta / sigma_0, e / sigma_z * slope_z], axis=-1)
    do_0 = np.concatenate([-delta / sigma_0, -(delta**2 + e) / sigma_0 * slope_0], axis=-1)
    return np.sum(0.5 * delta**2 + 0.5 * e - d, axis=-1), do_z, do_0


def log_density(x, o, likelihood):  # log p(x_t | z_<=t, x_<t), (T, B), in nats, and its gradient do
    if likelihood == "bernoulli":  # o (T, B, X) are logits: p(x = 1) = sigmoid(o)
        return np.sum(x * o - np.logaddexp(0, o), axis=-1), x - sigmoid(o)
    mu_x, sigma_x, slope_x = gaussian(o)  # (T, B, X) each
    delta = (x - mu_x) / sigma_x
    log_p = -np.sum(0.5 * delta**2 + np.log(sigma_x) + 0.5 * float(np.log(2 * np.pi)), axis=-1)
    return log_p, np.concatenate([delta / sigma_x, (delta**2 - 1) / sigma_x * slope_x], axis=-1)


def forward(params, x, eps, likelihood="bernoulli"):
    """Both terms of Eq. 11, log_p and kl (T, B), and what the backward pass needs. x (T, B, X), eps (T, B, Z)."""
    phi_x, steps = network(params["phi_x"], x), []  # phi_x[-1] is (T, B, F)
    h = np.zeros_like(x, shape=(x.shape[1], len(params["recur"]["U"])))  # h_0 = 0, (B, H)
    for t in range(len(x)):  # z_t needs h_{t-1}, and h_t needs z_t: only that has to be done step by step
        infer = network(params["infer"], phi_x[-1][t], h)
        mu_z, sigma_z, _ = gaussian(infer[-1])  # Eq. 9, (B, Z) each
        phi_z = network(params["phi_z"], mu_z + sigma_z * eps[t])  # [z_t, phi_z(z_t)]; z_1 ... z_T is a draw of Eq. 10
        h, recur = gru(params["recur"], phi_x[-1][t], phi_z[-1], h)  # Eq. 7
        steps.append((infer, phi_z, recur))
    infer, phi_z, (v, h, *_) = stack(steps)  # from here on h (T, B, H) is h_{t-1} for every t
    # The loop reads neither the prior nor the outputs, so they are outside it: one call each does all T steps.
    prior, generate = network(params["prior"], h), network(params["generate"], phi_z[-1], h)  # Eq. 5, Eq. 6
    log_p, do_x = log_density(x, generate[-1], likelihood)
    kl, do_z, do_0 = kl_divergence(infer[-1], prior[-1])
    ys = {"phi_x": phi_x, "phi_z": phi_z, "prior": prior, "infer": infer, "generate": generate, "recur": (v, h)}
    return log_p, kl, (steps, ys, do_x, do_z, do_0)


def loss_and_grads(params, x, eps, likelihood="bernoulli", beta=1.0):
    """Minus Eq. 11 with beta times its KL, the mean over B, in nats; and its gradient, arranged as params."""
    log_p, kl, (steps, ys, do_x, do_z, do_0) = forward(params, x, eps, likelihood)
    B, F = x.shape[1], ys["phi_x"][-1].shape[-1]
    # 1. Prior and generation, again for all T steps at once.
    dh_prior, prior_das = network_backward(params["prior"], ys["prior"], beta / B * do_0)
    dinputs, generate_das = network_backward(params["generate"], ys["generate"], -1 / B * do_x)
    dphi_z, dh_generate = np.split(dinputs, [F], axis=-1)  # (T, B, F), (T, B, H)
    # 2. The loop, from the last step to the first. A step reaches later ones only through h, so only dh is carried.
    dh, back = np.zeros_like(dh_prior[0]), []  # (B, H)
    for t, (infer, phi_z, recur) in reversed(list(enumerate(steps))):
        dphi_x_recur, dphi_z_recur, dh_recur, da, dg = gru_backward(params["recur"], recur, dh)  # Eq. 7
        dz, phi_z_das = network_backward(params["phi_z"], phi_z, dphi_z[t] + dphi_z_recur)
        do = np.concatenate([dz, dz * eps[t] * gaussian(infer[-1])[2]], axis=-1) + beta / B * do_z[t]
        dinputs, infer_das = network_backward(params["infer"], infer, do)  # Eq. 9
        dphi_x_infer, dh_infer = np.split(dinputs, [F], axis=-1)
        dh = dh_recur + dh_infer + dh_prior[t] + dh_generate[t]
        back.append((dphi_x_recur + dphi_x_infer, phi_z_das, infer_das, (da, dg)))
    # 3. The weights are the same in every step, so their gradients can wait: one product each over T*B rows.
    dphi_x, phi_z_das, infer_das, recur_das = stack(back[::-1])
    _, phi_x_das = network_backward(params["phi_x"], ys["phi_x"], dphi_x)
    das = dict(zip(ys, (phi_x_das, phi_z_das, prior_das, infer_das, generate_das, recur_das)))
    return np.sum(beta * kl - log_p) / B, {g: weight_gradients(params[g], ys[g], das[g]) for g in ys}  # Eq. 11


def sample(params, n, steps, rng):
    """Eq. 8: n binary sequences, (steps, n, X). The draw x_t itself is fed back, not its mean."""
    h, xs = np.zeros_like(params["recur"]["U"], shape=(n, len(params["recur"]["U"]))), []  # (n, H)
    for _ in range(steps):
        mu_0, sigma_0, _ = gaussian(network(params["prior"], h)[-1])  # Eq. 5, (n, Z) each
        phi_z = network(params["phi_z"], mu_0 + sigma_0 * rng.standard_normal(mu_0.shape, dtype=h.dtype))[-1]
        logits = network(params["generate"], phi_z, h)[-1]  # Eq. 6, (n, X)
        xs.append((rng.random(logits.shape) < sigmoid(logits)).astype(h.dtype))
        h, _ = gru(params["recur"], network(params["phi_x"], xs[-1])[-1], phi_z, h)  # Eq. 7
    return np.stack(xs)


def adam(params, grads, state, lr, max_norm=1.0, b1=0.9, b2=0.999):
    """A step of Adam (Kingma and Ba, 2015) with the clipped gradient. state: (k, m, v), k = 1, 2, ... Returns both."""
    norm = sum(float(np.sum(g**2)) for group in grads.values() for g in group.values()) ** 0.5
    grads = each(lambda g: g * min(1, max_norm / (norm + 1e-12)), grads)  # before Adam's moments see it
    k, m, v = state
    m = each(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
    v = each(lambda v, g: b2 * v + (1 - b2) * g**2, v, grads)
    params = each(lambda p, m, v: p - lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + 1e-8), params, m, v)
    return params, (k + 1, m, v)


def train(params, train_x, valid_x, rng, epochs, batch=64, lr=2e-3, likelihood="bernoulli"):
    """Prints the ELBO of valid_x (T, N, X) after each epoch over train_x (T, N, X). Returns the trained params."""
    N, Z = train_x.shape[1], len(params["phi_z"]["W1"])
    state = 1, each(np.zeros_like, params), each(np.zeros_like, params)
    eps_valid = rng.standard_normal((*valid_x.shape[:2], Z), dtype=valid_x.dtype)  # the same in every epoch
    for epoch in range(1, epochs + 1):
        for rows in np.array_split(rng.permutation(N), N // batch + 1):  # at most `batch` sequences in each part
            x = train_x[:, rows]  # (T, B, X)
            _, grads = loss_and_grads(params, x, rng.standard_normal((*x.shape[:2], Z), dtype=x.dtype), likelihood)
            params, state = adam(params, grads, state, lr)
        log_p, kl, _ = forward(params, valid_x, eps_valid, likelihood)
        print(f"epoch {epoch:2}: validation ELBO {np.mean(np.sum(log_p - kl, axis=0)):.2f} nats per sequence")  # Eq. 11
    return params


if __name__ == "__main__":
    from tinyvrnn import VRNN, load_data

    data, rng = load_data("digits8"), np.random.default_rng(0)
    train_x, valid_x = (np.stack(list(part), axis=1).astype(np.float32) for part in (data.train, data.valid))
    params = train(VRNN(8, h_dim=128, z_dim=4).params, train_x, valid_x, rng, epochs=25)
    for four in np.split(sample(params, 8, 8, rng), 2, axis=1):  # (8, 4, 8): rows of pixels of four digits
        print(*("    ".join("".join(" #"[int(x)] * 2 for x in digit) for digit in row) for row in four), "", sep="\n")
