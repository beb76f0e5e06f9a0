"""The peer in JAX: the same VRNN as pure functions over tinyvrnn's parameter tree, {"prior": {"W1": ...}, ...}.

`loss_in_loop` has everything inside lax.scan, `loss_batched` only the sequential part. Bernoulli likelihood. A training
step (value_and_grad, clipping by the global norm, Adam) is one jitted function whose state is updated in place.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

jax.config.update("jax_default_matmul_precision", "highest")  # on a GPU the default is TF32
SIGMA_MIN = 1e-4
B1, B2, EPS = 0.9, 0.999, 1e-8


def use(device):
    """Run everything on "cuda" or "cpu". Raises RuntimeError if JAX can't."""
    jax.config.update("jax_default_device", jax.devices("gpu" if device == "cuda" else device)[0])
    float(jnp.ones(2) @ jnp.ones(2))


def mlp(p, v):
    return mlp_tail(p, v @ p["W1"] + p["b1"])


def mlp_tail(p, a):
    """The rest of an MLP after its first pre-activation a."""
    y, i = jax.nn.relu(a), 2
    while f"W{i}" in p:
        y = jax.nn.relu(y @ p[f"W{i}"] + p[f"b{i}"])
        i += 1
    return y


def head(p, y):
    return y @ p["W_out"] + p["b_out"]


def gaussian(o):
    mu, s = jnp.split(o, 2, -1)
    return mu, jax.nn.softplus(s) + SIGMA_MIN


def gru_gates(a, g, h):
    """The state after a step, from a = x W + b and g = h U + c, (B, 3H)."""
    H = h.shape[-1]
    r, u = jnp.split(jax.nn.sigmoid(a[..., : 2 * H] + g[..., : 2 * H]), 2, -1)
    n = jnp.tanh(a[..., 2 * H :] + r * g[..., 2 * H :])
    return (1 - u) * n + u * h


def kl_divergence(mu_z, sigma_z, mu_0, sigma_0):
    kl = jnp.log(sigma_0 / sigma_z) + (sigma_z**2 + (mu_z - mu_0) ** 2) / (2 * sigma_0**2) - 0.5
    return kl.sum(-1)


def log_p(x, logits):
    return (x * logits - jax.nn.softplus(logits)).sum(-1)


def loss_in_loop(p, x, eps):
    """Minus the ELBO, mean over the batch. x (T, B, X), eps (T, B, Z)."""

    def step(carry, inputs):
        (h, elbo), (x_t, eps_t) = carry, inputs
        phi_x = mlp(p["phi_x"], x_t)
        mu_0, sigma_0 = gaussian(head(p["prior"], mlp(p["prior"], h)))
        mu_z, sigma_z = gaussian(head(p["infer"], mlp(p["infer"], jnp.concatenate([phi_x, h], -1))))
        phi_z = mlp(p["phi_z"], mu_z + sigma_z * eps_t)
        logits = head(p["generate"], mlp(p["generate"], jnp.concatenate([phi_z, h], -1)))
        elbo += log_p(x_t, logits) - kl_divergence(mu_z, sigma_z, mu_0, sigma_0)
        a = jnp.concatenate([phi_x, phi_z], -1) @ p["recur"]["W"] + p["recur"]["b"]
        return (gru_gates(a, h @ p["recur"]["U"] + p["recur"]["c"], h), elbo), None

    B, H = x.shape[1], p["recur"]["U"].shape[0]
    (_, elbo), _ = lax.scan(step, (jnp.zeros((B, H)), jnp.zeros(B)), (x, eps))
    return -elbo.mean()


def loss_batched(p, x, eps):
    """As `loss_in_loop`, with only inference, reparameterisation, phi_z and the GRU inside lax.scan."""
    phi_x = mlp(p["phi_x"], x)
    F, infer, recur = phi_x.shape[-1], p["infer"], p["recur"]
    x_infer, x_recur = phi_x @ infer["W1"][:F] + infer["b1"], phi_x @ recur["W"][:F] + recur["b"]

    def step(h, inputs):
        x_infer_t, x_recur_t, eps_t = inputs
        mu_z, sigma_z = gaussian(head(infer, mlp_tail(infer, x_infer_t + h @ infer["W1"][F:])))
        phi_z = mlp(p["phi_z"], mu_z + sigma_z * eps_t)
        h_next = gru_gates(x_recur_t + phi_z @ recur["W"][F:], h @ recur["U"] + recur["c"], h)
        return h_next, (h, mu_z, sigma_z, phi_z)

    h_0 = jnp.zeros((x.shape[1], recur["U"].shape[0]))
    _, (h, mu_z, sigma_z, phi_z) = lax.scan(step, h_0, (x_infer, x_recur, eps))
    mu_0, sigma_0 = gaussian(head(p["prior"], mlp(p["prior"], h)))
    logits = head(p["generate"], mlp(p["generate"], jnp.concatenate([phi_z, h], -1)))
    return -(log_p(x, logits) - kl_divergence(mu_z, sigma_z, mu_0, sigma_0)).sum(0).mean()


def training_step(loss, lr, max_norm):
    """A jitted (state, x, eps) -> (loss, state) that donates state = (params, m, v, count)."""

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, eps):
        params, m, v, count = state
        value, grads = jax.value_and_grad(loss)(params, x, eps)
        norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1.0, max_norm / (norm + 1e-12))
        grads, count = jax.tree.map(lambda g: g * scale, grads), count + 1
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, grads)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, grads)
        rate, bias = lr / (1 - B1**count), 1 - B2**count
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v / bias) + EPS), params, m, v)
        return value, (params, m, v, count)

    return step


def copied(params):
    """The parameters of a tinyvrnn model, copied into JAX's memory."""
    return jax.tree.map(partial(jnp.array, copy=True), params)


def new_state(params):
    """The state of a training step; the step donates the given parameters."""
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    return params, m, v, jnp.zeros((), jnp.float32)
