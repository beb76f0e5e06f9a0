"""Ancestral sampling, Eq. 8: p(x_<=T, z_<=T) = prod_t p(x_t | z_<=t, x_<t) p(z_t | x_<t, z_<t), drawn factor by factor.

What is fed back is the sample x_t itself, never the mean of its distribution: means are not sequences of the model.
"""

from tinyvrnn import noise
from tinyvrnn.distributions.gaussian import reparameterise_forward
from tinyvrnn.models.equations import features_forward, generate_forward, infer_forward, prior_forward, recur_forward
from tinyvrnn.models.lookahead import of_sequence_forward
from tinyvrnn.nn.cells import h_of


def ancestral_sample(params, state, steps, seed, likelihood, backend, x_dim, dtype):
    """x (steps, n, X), drawn from Eq. 8 from a state (n, S H) on. Noise is addressed by (seed, stream, step)."""
    z_dim, n, xs = params["phi_z"]["W1"].shape[0], state.shape[0], []
    for t in range(steps):
        h = h_of(params["recur"], state)
        (mu_0, sigma_0), _ = prior_forward(params["prior"], h)
        eps = backend.asarray(noise.standard_normal((n, z_dim), dtype, seed, "sample z", t))
        z, _ = reparameterise_forward(mu_0, sigma_0, eps)
        phi_z, _ = features_forward(params["phi_z"], z)
        outputs, _ = generate_forward(params["generate"], phi_z, h, likelihood)
        v = likelihood.noise(noise.generator(seed, "sample x", t), (n, x_dim), dtype)
        xs.append(likelihood.sample(backend.asarray(v), *outputs))
        phi_x, _ = features_forward(params["phi_x"], xs[-1])
        state, _ = recur_forward(params["recur"], phi_x, phi_z, state)
    return backend.xp.stack(xs)


def state_after(params, x, eps, state):
    """The state after a prefix x (T, B, X), z drawn from the posterior (Eq. 9). eps (T, B, Z); state: before it.

    A smoothing posterior sees the whole prefix, and nothing after it.
    """
    ahead, _ = of_sequence_forward(params, x)
    for t, (x_t, eps_t) in enumerate(zip(x, eps)):
        phi_x, _ = features_forward(params["phi_x"], x_t)
        seen = phi_x if ahead is None else ahead[t]
        (mu_z, sigma_z), _ = infer_forward(params["infer"], seen, h_of(params["recur"], state))
        z, _ = reparameterise_forward(mu_z, sigma_z, eps_t)
        phi_z, _ = features_forward(params["phi_z"], z)
        state, _ = recur_forward(params["recur"], phi_x, phi_z, state)
    return state
