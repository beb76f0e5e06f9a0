"""The ELBO of the VRNN, rewritten from the paper without tinyvrnn, as an independent reference for tests.

Everything is in textbook form, for one sequence and one step at a time; each sequence has its own array, so there are
no masks. The `autograd` package differentiates it. It is slow and numerically naive: for small numbers only.
"""

import autograd.numpy as anp


def softplus(a):
    return anp.log(1 + anp.exp(a))


def sigmoid(a):
    return 1 / (1 + anp.exp(-a))


def hidden(p, v):
    """relu layers W1, W2, ... on a vector v, or on the rows of a matrix."""
    layer = 1
    while f"W{layer}" in p:
        v = anp.maximum(0, anp.dot(v, p[f"W{layer}"]) + p[f"b{layer}"])
        layer += 1
    return v


def head(p, v):
    return anp.dot(v, p["W_out"]) + p["b_out"]


def gaussian_head(p, v):
    """(mu, sigma), sigma = softplus(s) + 1e-4; the first half of the columns is mu."""
    o = head(p, v)
    half = o.shape[-1] // 2
    return o[..., :half], softplus(o[..., half:]) + 1e-4


def kl(mu_z, sigma_z, mu_0, sigma_0):
    """log(s0/sz) + (sz^2 + (mz - m0)^2) / (2 s0^2) - 1/2, summed."""
    return anp.sum(anp.log(sigma_0 / sigma_z) + (sigma_z**2 + (mu_z - mu_0) ** 2) / (2 * sigma_0**2) - 0.5)


def gru(p, x, h):
    """Reset-after GRU, gate by gate; columns are the blocks r, u, n."""
    H = h.shape[-1]
    a = [anp.dot(x, p["W"][:, k * H : (k + 1) * H]) + p["b"][k * H : (k + 1) * H] for k in range(3)]
    g = [anp.dot(h, p["U"][:, k * H : (k + 1) * H]) + p["c"][k * H : (k + 1) * H] for k in range(3)]
    r, u = sigmoid(a[0] + g[0]), sigmoid(a[1] + g[1])
    n = anp.tanh(a[2] + r * g[2])
    return (1 - u) * n + u * h


def lstm(p, x, state):
    """LSTM as in torch.nn.LSTMCell, gate by gate; columns are the blocks i, f, n, o; state is h and the memory."""
    H = state.shape[-1] // 2
    h, m = state[..., :H], state[..., H:]
    a = [
        anp.dot(x, p["W"][:, k * H : (k + 1) * H])
        + p["b"][k * H : (k + 1) * H]
        + anp.dot(h, p["U"][:, k * H : (k + 1) * H])
        + p["c"][k * H : (k + 1) * H]
        for k in range(4)
    ]
    m = sigmoid(a[1]) * m + sigmoid(a[0]) * anp.tanh(a[2])
    return anp.concatenate([sigmoid(a[3]) * anp.tanh(m), m], axis=-1)


def no_state(p):
    """The initial state, zeros."""
    H, columns = p["U"].shape
    return anp.zeros(H if columns == 3 * H else 2 * H)


def recur(p, x, state):
    return gru(p, x, state) if p["U"].shape[1] == 3 * p["U"].shape[0] else lstm(p, x, state)


def seen(p, state):
    """The part of a state that other networks get: h."""
    return state[..., : p["U"].shape[0]]


def softmax(a):
    return anp.exp(a) / anp.sum(anp.exp(a), axis=-1, keepdims=True)


def gmm_head(p, v):
    """(logits, mu, sigma) of K components; all mu come before all sigma."""
    logits = anp.dot(v, p["W_pi"]) + p["b_pi"]
    mu, sigma = gaussian_head(p, v)
    K = logits.shape[-1]
    return logits, anp.reshape(mu, (*v.shape[:-1], K, -1)), anp.reshape(sigma, (*v.shape[:-1], K, -1))


def pen_head(p, v):
    """(logits, mu, sigma, rho, logit of pen-up); columns K, 2K, 2K, K, 1."""
    o = head(p, v)
    K = (o.shape[-1] - 1) // 6
    mu = anp.reshape(o[..., K : 3 * K], (*v.shape[:-1], K, 2))
    sigma = anp.reshape(softplus(o[..., 3 * K : 5 * K]) + 1e-4, (*v.shape[:-1], K, 2))
    return o[..., :K], mu, sigma, 0.999 * anp.tanh(o[..., 5 * K : 6 * K]), o[..., 6 * K :]


def outputs(p, likelihood, v):
    """The parameters of p(x), from features v (F,) or (n, F)."""
    heads = {"gaussian": gaussian_head, "gmm": gmm_head, "pen": pen_head}
    return heads[likelihood](p, v) if likelihood in heads else (head(p, v),)


def normal(x, mu, sigma):
    return anp.exp(-((x - mu) ** 2) / (2 * sigma**2)) / anp.sqrt(2 * anp.pi * sigma**2)


def binormal(x, mu, sigma, rho):
    """Graves, 2013, Eq. 24 and 25."""
    d1, d2 = (x[0] - mu[..., 0]) / sigma[..., 0], (x[1] - mu[..., 1]) / sigma[..., 1]
    Z = d1**2 + d2**2 - 2 * rho * d1 * d2
    scale = 2 * anp.pi * sigma[..., 0] * sigma[..., 1] * anp.sqrt(1 - rho**2)
    return anp.exp(-Z / (2 * (1 - rho**2))) / scale


def coin(x, a):
    return anp.sum(x * anp.log(sigmoid(a)) + (1 - x) * anp.log(1 - sigmoid(a)))


def log_density(likelihood, x, *given):
    """log p(x) of one step x (X,), from the outputs of one step."""
    if likelihood == "bernoulli":
        return coin(x, *given)
    if likelihood == "gaussian":
        return anp.sum(anp.log(normal(x, *given)))
    if likelihood == "categorical":
        return anp.log(anp.sum(x * softmax(given[0])))
    if likelihood == "gmm":
        logits, mu, sigma = given
        return anp.log(anp.sum(softmax(logits) * anp.prod(normal(x, mu, sigma), axis=-1)))
    logits, mu, sigma, rho, a = given
    return anp.log(anp.sum(softmax(logits) * binormal(x, mu, sigma, rho))) + coin(x[2:], a)


def prior(params, h, eps):
    """Eq. 5, or N(0, I) without a prior network. eps: like z."""
    if not params["prior"]:
        return anp.zeros(eps.shape), anp.ones(eps.shape)
    return gaussian_head(params["prior"], hidden(params["prior"], h))


def views_of_x(params, x):
    """The input of q(z_t | ...) from x (T, X), for each step: phi_x(x_t), or the state of an RNN over x_T .. x_t."""
    phi_xs = [hidden(params["phi_x"], x_t) for x_t in x]
    if "backward" not in params:
        return phi_xs
    state, found = no_state(params["backward"]), []
    for phi_x in phi_xs[::-1]:
        state = recur(params["backward"], phi_x, state)
        found = [seen(params["backward"], state), *found]
    return found


def terms(params, x, eps, likelihood):
    """(log-likelihood, KL) of one sequence x (T, X) with the noise eps (T, Z)."""
    state, total, total_kl = no_state(params["recur"]), 0.0, 0.0
    looks = views_of_x(params, x)
    for t in range(len(x)):
        h = seen(params["recur"], state)
        phi_x = hidden(params["phi_x"], x[t])
        mu_0, sigma_0 = prior(params, h, eps[t])
        mu_z, sigma_z = gaussian_head(params["infer"], hidden(params["infer"], anp.concatenate([looks[t], h])))
        phi_z = hidden(params["phi_z"], mu_z + sigma_z * eps[t])
        generated = hidden(params["generate"], anp.concatenate([phi_z, h]))
        total = total + log_density(likelihood, x[t], *outputs(params["generate"], likelihood, generated))
        total_kl = total_kl + kl(mu_z, sigma_z, mu_0, sigma_0)
        state = recur(params["recur"], anp.concatenate([phi_x, phi_z]), state)
    return total, total_kl


def rnn_terms(params, x, eps, likelihood):
    """(log p(x), 0) of one sequence x (T, X) by Eq. 1 and 2."""
    state, total = no_state(params["recur"]), 0.0
    for x_t in x:
        h = seen(params["recur"], state)
        predicted = outputs(params["predict"], likelihood, hidden(params["predict"], h))
        total = total + log_density(likelihood, x_t, *predicted)
        state = recur(params["recur"], hidden(params["phi_x"], x_t), state)
    return total, 0.0


def decoded(params, likelihood, z):
    return outputs(params["decode"], likelihood, hidden(params["decode"], z))


def vae_terms(params, x, eps, likelihood):
    """(log-likelihood, KL) of Eq. 3, summed over the steps of x (T, X), with the noise eps (T, Z)."""
    total, total_kl = 0.0, 0.0
    for x_t, eps_t in zip(x, eps):
        mu_z, sigma_z = gaussian_head(params["encode"], hidden(params["encode"], x_t))
        total = total + log_density(likelihood, x_t, *decoded(params, likelihood, mu_z + sigma_z * eps_t))
        total_kl = total_kl + kl(mu_z, sigma_z, 0.0, anp.ones(len(mu_z)))
    return total, total_kl


def weigh(params, x, look, state, eps, likelihood):
    """One step of one particle: log p(x_t, z_t | past) - log q(z_t | past, x_t) at the drawn z_t; the state."""
    h = seen(params["recur"], state)
    phi_x = hidden(params["phi_x"], x)
    mu_0, sigma_0 = prior(params, h, eps)
    mu_z, sigma_z = gaussian_head(params["infer"], hidden(params["infer"], anp.concatenate([look, h])))
    z = mu_z + sigma_z * eps
    phi_z = hidden(params["phi_z"], z)
    generated = hidden(params["generate"], anp.concatenate([phi_z, h]))
    log_p = log_density(likelihood, x, *outputs(params["generate"], likelihood, generated))
    log_w = log_p + anp.sum(anp.log(normal(z, mu_0, sigma_0)) - anp.log(normal(z, mu_z, sigma_z)))
    return log_w, recur(params["recur"], anp.concatenate([phi_x, phi_z]), state)


def filtered(params, x, eps, likelihood, ancestors=None):
    """log of the estimate of p(x) from particles eps (T, K, Z); ancestors[t]: None, or the parent of each particle."""
    T, K, _ = eps.shape
    hs, ws, estimate = [no_state(params["recur"])] * K, [1.0] * K, 1.0
    looks = views_of_x(params, x)
    for t in range(T):
        if ancestors is not None and ancestors[t] is not None:
            estimate, hs, ws = estimate * sum(ws) / K, [hs[a] for a in ancestors[t]], [1.0] * K
        steps = [weigh(params, x[t], looks[t], hs[k], eps[t, k], likelihood) for k in range(K)]
        hs, ws = [h for _, h in steps], [w * anp.exp(log_w) for w, (log_w, _) in zip(ws, steps)]
    return anp.log(estimate * sum(ws) / K)


def bound_loss(params, x, lengths, eps, likelihood, ancestors=None):
    """Minus the mean of `filtered` over sequences; without ancestors, the loss of the importance-weighted bound."""
    total = 0.0
    for b, n in enumerate(lengths):
        own = None if ancestors is None else [a[b] for a in ancestors[:n]]
        total = total - filtered(params, x[:n, b], eps[:n, b], likelihood, own)
    return total / len(lengths)


def loss(params, x, lengths, eps, likelihood, beta=1.0, terms=terms):
    """-(log-likelihood - beta KL), mean over the sequences of the batch x (T, B, X), each cut to its length."""
    total = 0.0
    for b, length in enumerate(lengths):
        log_p, kl_b = terms(params, x[:length, b], eps[:length, b], likelihood)
        total = total - (log_p - beta * kl_b)
    return total / len(lengths)
