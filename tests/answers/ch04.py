"""Right answers to the exercises of notebook 04, written in other ways than the notebook's."""

import numpy as np


def infer_by_blocks(p, phi_x, h):
    F = phi_x.shape[-1]
    y = np.maximum(phi_x @ p["W1"][:F] + h @ p["W1"][F:] + p["b1"], 0)
    Z = len(p["b_out"]) // 2
    mu_z = y @ p["W_out"][:, :Z] + p["b_out"][:Z]
    s = y @ p["W_out"][:, Z:] + p["b_out"][Z:]
    return mu_z, np.logaddexp(s, np.zeros_like(s)) + 1e-4


def infer_by_rows(p, phi_x, h):
    mu_z, sigma_z = [], []
    for row_x, row_h in zip(phi_x.reshape(-1, phi_x.shape[-1]), h.reshape(-1, h.shape[-1])):
        a = p["W1"].T @ np.append(row_x, row_h) + p["b1"]
        o = p["W_out"].T @ np.where(a > 0, a, 0 * a) + p["b_out"]
        mu_z.append(o[: len(o) // 2])
        sigma_z.append(np.logaddexp(0, o[len(o) // 2 :]) + np.asarray(1e-4, dtype=o.dtype))
    return [np.reshape(v, (*h.shape[:-1], -1)) for v in (mu_z, sigma_z)]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def loop_by_hand(params, x, eps):
    """Everything written out: one hidden layer in each network, and the GRU."""
    phi_x = np.maximum(x @ params["phi_x"]["W1"] + params["phi_x"]["b1"], 0)
    p, g, H = params["infer"], params["recur"], params["recur"]["U"].shape[0]
    z, h = np.zeros_like(eps), np.zeros((len(x) + 1, x.shape[1], H), dtype=x.dtype)
    for t in range(len(x)):
        mu_z, sigma_z = infer_by_blocks(p, phi_x[t], h[t])
        z[t] = mu_z + sigma_z * eps[t]
        phi_z = np.maximum(z[t] @ params["phi_z"]["W1"] + params["phi_z"]["b1"], 0)
        a = np.concatenate([phi_x[t], phi_z], axis=-1) @ g["W"] + g["b"]
        b = h[t] @ g["U"] + g["c"]
        r, u = sigmoid(a[:, :H] + b[:, :H]), sigmoid(a[:, H : 2 * H] + b[:, H : 2 * H])
        n = np.tanh(a[:, 2 * H :] + r * b[:, 2 * H :])
        h[t + 1] = (1 - u) * n + u * h[t]
    return z, h


def loop_by_the_equations(params, x, eps):
    from tinyvrnn.models import equations as eq

    h = [np.zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)]
    z = []
    for x_t, eps_t in zip(x, eps):
        phi_x = eq.features_forward(params["phi_x"], x_t)[0]
        (mu_z, sigma_z), _ = eq.infer_forward(params["infer"], phi_x, h[-1])
        z.append(mu_z + sigma_z * eps_t)
        h.append(eq.recur_forward(params["recur"], phi_x, eq.features_forward(params["phi_z"], z[-1])[0], h[-1])[0])
    return np.array(z), np.array(h)


def price_by_loops(joint, q_1, q_2):
    p_x = sum(joint[a].sum() for a in range(len(q_1)))
    price_1 = price_2 = np.zeros_like(p_x)
    for a in range(len(q_1)):
        p_a = joint[a].sum()
        price_1 = price_1 + q_1[a] * (np.log(q_1[a]) - np.log(p_a) + np.log(p_x))
        for b in range(joint.shape[1]):
            price_2 = price_2 + q_1[a] * q_2[a, b] * np.log(q_2[a, b] * p_a / joint[a, b])
    return price_1, price_2


def price_as_a_difference(joint, q_1, q_2):
    """The second by what is left of the whole gap, log p(x) - ELBO."""
    post_1 = joint.sum(1) / joint.sum()
    price_1 = np.sum(q_1 * (np.log(q_1) - np.log(post_1)))
    q = q_1[:, None] * q_2
    gap = np.log(joint.sum()) - np.sum(q * (np.log(joint) - np.log(q)))
    return [price_1, gap - price_1]


def best_by_products(posts, weights):
    unnormalised = np.prod(posts ** weights[:, None], axis=0)
    q = unnormalised / unnormalised.sum()
    return q, np.sum(weights[:, None] * q * np.log(q / posts))


def best_by_softmax(posts, weights):
    a = np.sum(weights[:, np.newaxis] * np.log(posts), axis=0)
    top = a.max()
    q = np.exp(a - top)
    return q / q.sum(), -(top + np.log(q.sum()))


RIGHT = {
    "04.1": [infer_by_blocks, infer_by_rows],
    "04.2": [{3, 4, 5}, (5, 4, 3), {"3", "4", "5"}],
    "04.3": [loop_by_hand, loop_by_the_equations],
    "04.4": [{"half", "swapped"}, ["Swapped", "half "]],
    "04.5": [price_by_loops, price_as_a_difference],
    "04.6": [best_by_products, best_by_softmax],
}
