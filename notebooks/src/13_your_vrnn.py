# %% [markdown]
# # 13 · Your VRNN
#
# In notebooks 01 to 08 you wrote the parts of a VRNN. Here you put them together: your functions compute the loss and
# its gradient, train a model, and draw digits. The package supplies the initial weights and the data, and checks your
# results.
#
# *You need*: the exercises listed in the first table. *It takes* about 15 min.

# %%
# %matplotlib inline
import numpy as np

import tinyvrnn as tv
from tinyvrnn.arrays.params import views

tv.plots.use_style()

# %% [markdown]
# ## Your parts
#
# When a check passes, the course keeps the source of your function beside your progress, in `.tinyvrnn/answers`.
# `tv.course.mine("06.1")` reads it and checks it again. If a function is missing, or no longer passes because it was
# changed, the error names it: go back to that exercise, pass its check, and run the next cell again.
#
# | part | exercise | part | exercise |
# |---|---|---|---|
# | padding and mask | 01.1 | KL, backward | 06.4 |
# | KL | 02.4 | the draw of $z$, backward | 06.5 |
# | one step of sampling | 03.4 | GRU gates | 07.1 |
# | encoder | 04.1 | GRU, backward | 07.2 |
# | masks and units | 05.5 | clipping | 08.2 |
# | linear layer, backward | 06.1 | Adam | 08.5 |
# | softplus, backward | 06.2 | loss with warm-up | 08.6 |
# | MLP, backward | 06.3 | | |

# %%
my_pad, my_kl, my_step, my_infer = (tv.course.mine(number) for number in ("01.1", "02.4", "03.4", "04.1"))
my_units, my_linear_backward, my_softplus_backward = (tv.course.mine(number) for number in ("05.5", "06.1", "06.2"))
my_mlp_backward, my_kl_backward, my_draw_backward = (tv.course.mine(number) for number in ("06.3", "06.4", "06.5"))
my_gates, my_gru_backward = (tv.course.mine(number) for number in ("07.1", "07.2"))
my_clip, my_adam_step, my_loss_and_bound = (tv.course.mine(number) for number in ("08.2", "08.5", "08.6"))
print("15 parts, each checked again")

# %% [markdown]
# ## Forward
#
# The feature networks $\varphi^x$ and $\varphi^z$ are MLPs with two ReLU layers, as in 06.3. To keep the code short,
# the other networks have one hidden layer, as in 04.1. The prior is an encoder that reads no $x$: we call your encoder
# with a $\varphi^x$ of width 0.


# %%
def relu_layer(v, W, b):
    return np.maximum(v @ W + b, 0)


def features(p, v):
    return relu_layer(relu_layer(v, p["W1"], p["b1"]), p["W2"], p["b2"])


def decoder(p, phi_z, h):
    """The logits of x, Eq. 6."""
    return relu_layer(np.concatenate([phi_z, h], axis=-1), p["W1"], p["b1"]) @ p["W_out"] + p["b_out"]


def forward(p, x, eps):
    """The values of all steps: a dict of arrays (T, ..), and h (T + 1, B, H) with h[0] = 0."""
    h, steps = [np.zeros((x.shape[1], len(p["recur"]["U"])))], []
    phi_x = features(p["phi_x"], x)
    for t in range(len(x)):
        mu, sigma = my_infer(p["infer"], phi_x[t], h[t])  # Eq. 9
        z = mu + sigma * eps[t]
        v = np.concatenate([phi_x[t], features(p["phi_z"], z)], axis=-1)
        a, g = v @ p["recur"]["W"] + p["recur"]["b"], h[t] @ p["recur"]["U"] + p["recur"]["c"]
        h.append(my_gates(a, g, h[t]))  # Eq. 7
        steps.append((mu, sigma, z, v))
    mu, sigma, z, v = (np.stack(values) for values in zip(*steps))
    h = np.stack(h)
    mu_0, sigma_0 = my_infer(p["prior"], h[:-1, :, :0], h[:-1])  # Eq. 5
    phi_z = v[..., phi_x.shape[-1] :]
    values = {"h": h, "mu": mu, "sigma": sigma, "z": z, "v": v, "phi_x": phi_x, "phi_z": phi_z}
    return values | {"mu_0": mu_0, "sigma_0": sigma_0, "logits": decoder(p["generate"], phi_z, h[:-1])}


# %% [markdown]
# These values give $\log p(x_t \mid \cdot)$ and your KL for each step. Your mask and your warm-up turn the two into the
# loss. $\log p$ of a pixel is $x a - \log(1 + e^a)$.


# %%
def loss_of(p, x, mask, eps, step=0, warm_steps=0):
    """The loss, the bound, and all values."""
    values = forward(p, x, eps)
    logits = values["logits"]
    log_p = (x * logits - np.logaddexp(0, logits)).sum(axis=-1)
    kl = my_kl(values["mu"], values["sigma"], values["mu_0"], values["sigma_0"])
    loss, bound = my_loss_and_bound((log_p * mask).sum(axis=0), (kl * mask).sum(axis=0), step, warm_steps)
    elbo, per_step = my_units(log_p, kl, mask)
    assert np.isclose(np.mean(elbo), bound)  # 05.5 and 08.6 agree
    return loss, bound, values


# %% [markdown]
# ## Backward
#
# The backward pass of a network with one hidden layer calls your linear layer twice, with the ReLU between the calls. A
# Gaussian head adds your softplus. The rest is the order of the calls, from the last step to the first, and four paths
# that meet in $dh_{t-1}$: recurrence, encoder, prior, decoder.


# %%
def network_backward(p, v, do):
    """dv and the gradients of a network with one hidden layer, from do, the gradient of its output."""
    y = relu_layer(v, p["W1"], p["b1"])
    dy, dW_out, db_out = my_linear_backward(p["W_out"], y, do)
    dv, dW1, db1 = my_linear_backward(p["W1"], v, dy * (y > 0))
    return dv, {"W1": dW1, "b1": db1, "W_out": dW_out, "b_out": db_out}


def head_backward(p, v, dmu, dsigma):
    """The same for a network whose output is mu and sigma = softplus(s) + 1e-4."""
    s = (relu_layer(v, p["W1"], p["b1"]) @ p["W_out"] + p["b_out"])[..., dmu.shape[-1] :]
    return network_backward(p, v, np.concatenate([dmu, my_softplus_backward(s, dsigma)], axis=-1))


def features_backward(p, v, dy):
    """dv and the gradients of an MLP; yours of 06.3 takes rows, (N, D)."""
    dv, grads = my_mlp_backward(p, v.reshape(-1, v.shape[-1]), dy.reshape(-1, dy.shape[-1]))
    return dv.reshape(v.shape), grads


def gradient(p, x, mask, eps, values, beta=1.0):
    """The gradients of the loss, {group: {name: array}}."""
    h, B, F = values["h"], x.shape[1], values["phi_x"].shape[-1]
    dlog_p, dkl = -mask[..., None] / B, beta * mask / B

    # all steps at once: decoder, KL, prior
    dlogits = dlog_p * x - my_softplus_backward(values["logits"], dlog_p + 0 * x)
    dv, generate = network_backward(p["generate"], np.concatenate([values["phi_z"], h[:-1]], axis=-1), dlogits)
    dphi_z, dh = dv[..., :F], dv[..., F:]
    gaussians = (values[name] for name in ("mu", "sigma", "mu_0", "sigma_0"))
    dmu, dsigma, dmu_0, dsigma_0 = my_kl_backward(*gaussians, dkl)
    dh_prior, prior = head_backward(p["prior"], h[:-1], dmu_0, dsigma_0)
    dh = dh + dh_prior

    # step by step, from the last to the first: recurrence, draw, encoder
    total, dphi_x, arriving = {}, np.zeros_like(values["phi_x"]), np.zeros_like(h[0])
    for t in reversed(range(len(x))):
        dv, dh_recur, recur = my_gru_backward(p["recur"], values["v"][t], h[t], arriving)
        dz, phi_z = features_backward(p["phi_z"], values["z"][t], dphi_z[t] + dv[..., F:])
        dmu_z, dsigma_z = my_draw_backward(values["mu"][t], values["sigma"][t], eps[t], dz)
        read = np.concatenate([values["phi_x"][t], h[t]], axis=-1)
        dread, infer = head_backward(p["infer"], read, dmu[t] + dmu_z, dsigma[t] + dsigma_z)
        dphi_x[t], arriving = dv[..., :F] + dread[..., :F], dh[t] + dh_recur + dread[..., F:]
        for group, grads in (("recur", recur), ("phi_z", phi_z), ("infer", infer)):
            total[group] = {name: g + total.get(group, {}).get(name, 0) for name, g in grads.items()}
    _, phi_x = features_backward(p["phi_x"], x, dphi_x)
    return total | {"phi_x": phi_x, "prior": prior, "generate": generate}


# %% [markdown]
# ## Is it right?
#
# With the same weights and the same noise, on a ragged batch, your loss and every entry of your gradient must equal the
# package's. The package's model here has one hidden layer in each network, so its feature networks lack your second
# layer. We add one by hand, with the identity as its weights and 0 as its biases. Its ReLU leaves values that are
# already positive unchanged, so both models are the same function.

# %%
rng = np.random.default_rng(0)
small = tv.load_data("digits8")


def with_second_layer(params):
    """The package's parameters, with an identity as second layer of both feature networks."""
    mine = {group: dict(leaves) for group, leaves in params.items()}
    for group in ("phi_x", "phi_z"):
        width = len(mine[group]["b1"])
        mine[group] |= {"W2": np.eye(width), "b2": np.zeros(width)}
    return mine


model = tv.VRNN(x_dim=8, h_dim=12, z_dim=3, features=10, layers=1, seed=0, dtype="float64")
theta = rng.standard_normal(model.theta.shape) * 0.3
model.theta[...] = model.backend.asarray(theta)
sequences = [np.asarray(s[: 8 - b % 3], dtype=float) for b, s in enumerate(small.train[:6])]
x, mask = my_pad(sequences)
eps = rng.standard_normal((*x.shape[:2], 3))
right, right_grads, parts = model.loss_and_grads(x, mask.sum(axis=0).astype(int), eps)

params = with_second_layer(views(theta, model.shapes))
loss, bound, values = loss_of(params, x, mask, eps)
grads = gradient(params, x, mask, eps, values)
right_grads = views(tv.to_host(right_grads), model.shapes)

print(f"loss: yours {loss:.12f}, the package's {float(right):.12f}")
worst = {}
for group, leaves in right_grads.items():
    for name, g in leaves.items():
        worst[f"{group}.{name}"] = abs(grads[group][name] - g).max() / abs(g).max()
print(f"gradient: {len(worst)} arrays, all equal to the package's to 1e-12")
assert abs(loss - float(right)) < 1e-12 * abs(loss) and max(worst.values()) < 1e-12

# %% [markdown]
# If this cell passes, everything that follows is your work. (If it does not, print `worst`, which shows the arrays that
# differ. All parts passed their checks, so look at the order of the calls above.)
#
# ## Training
#
# The loop is short: your padding, your loss, your gradient, your clipping, and a step of your Adam for each array. It
# takes about ten seconds.


# %%
def by_array(tree):
    """{"group.name": array} of a dict of dicts."""
    return {f"{group}.{name}": array for group, leaves in tree.items() for name, array in leaves.items()}


def as_tree(flat):
    tree = {}
    for name, array in flat.items():
        group, _, leaf = name.partition(".")
        tree.setdefault(group, {})[leaf] = array
    return tree


def train(weights, data, epochs, batch=32, lr=5e-3, warm_steps=90):
    """The trained weights, and the mean bound of each epoch."""
    m, v = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    step, curve = 0, []
    for _ in range(epochs):
        bounds = []
        for rows in np.array_split(rng.permutation(len(data)), len(data) // batch):
            x, mask = my_pad([np.asarray(data[i], dtype=float) for i in rows])
            eps, params = rng.standard_normal((*x.shape[:2], 8)), as_tree(weights)
            _, bound, values = loss_of(params, x, mask, eps, step, warm_steps)
            beta = min(1.0, (step + 1) / warm_steps)
            step += 1
            g = my_clip(by_array(gradient(params, x, mask, eps, values, beta)), 50.0)
            for name, w in weights.items():
                flat = (a.ravel() for a in (w, g[name], m[name], v[name]))
                new = my_adam_step(*flat, step, lr, 0.9, 0.999, 1e-8)
                weights[name], m[name], v[name] = (a.reshape(w.shape) for a in new)
            bounds.append(bound)
        curve.append(np.mean(bounds))
    return weights, curve


start = tv.VRNN(x_dim=8, h_dim=32, z_dim=8, features=32, layers=1, seed=0, dtype="float64")
start = with_second_layer(views(tv.to_host(start.theta).copy(), start.shapes))  # it learns too
with tv.backend.blas_threads(1):  # products this small are slower on several cores
    weights, curve = train(by_array(start), small.train, epochs=12)
print(f"bound on the training digits, nats per digit: first epoch {curve[0]:.0f}, last {curve[-1]:.0f}")
assert curve[-1] > curve[0] + 8

# %% [markdown]
# For comparison: a fair coin for each of the 64 pixels scores $-64 \log 2 \approx -44$.
#
# ## Your digits
#
# Your step of 03.4 draws the rows one by one, starting from a state of zeros. It calls the package's networks, which
# infer their number of layers from the names in `params`.

# %%
params, n = as_tree(weights), 40
h, rows = np.zeros((n, 32)), []
for _ in range(8):
    _, x_t, h = my_step(params, h, rng.standard_normal((n, 8)), rng.random((n, 8)))
    rows.append(x_t)
drawn = np.stack(rows)
assert drawn.shape == (8, n, 8) and set(np.unique(drawn)) == {0.0, 1.0}

# %% tags=["volatile"]
tv.plots.samples(drawn, binary=True, columns=10, title="40 digits from your VRNN")

# %% [markdown]
# ## What you now have
#
# - A VRNN whose forward pass, gradient and training loop are yours, equal to the package's to twelve digits.
# - A way to check the next model you write: same weights, same noise, compare every array.
#
# Where to go from here: change one part (another likelihood, an LSTM, a prior without $h$), derive its backward pass,
# and hold it to a numeric gradient with `tv.gradcheck.check_pair`. [docs/extend.md](../docs/extend.md) shows how the
# package does it.
