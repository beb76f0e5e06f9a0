"""Ancestral sampling, Eq. 8: p(x_<=T, z_<=T) = prod_t p(x_t | z_<=t, x_<t) p(z_t | x_<t, z_<t), drawn factor by factor.

The sample x_t itself is fed back, not the mean of its distribution. The loop is that of all models, `sample_step` the
VRNN's step.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.cpu import available_cores
from tinyvrnn.distributions import at_temperature
from tinyvrnn.distributions.gaussian import reparameterise_forward
from tinyvrnn.distributions.observed import without_constants
from tinyvrnn.models.batch import copies
from tinyvrnn.models.equations import features_forward, generate_forward, infer_forward, prior_forward, recur_forward
from tinyvrnn.models.lookahead import of_sequence
from tinyvrnn.nn.cells import h_of

# sequences that a thread draws at once: the same on every machine, since products of other sizes can round differently
ROWS = 500
STRETCH = 10  # steps between two synchronisations of the threads, and so the most that Ctrl-C waits for


def sample_step(params, likelihood, state, eps, v):
    """A factor of Eq. 8: x_t (n, X), the outputs that it is drawn from, and the next state (n, S H).

    eps (n, Z): standard normal noise of z_t. v: the likelihood's noise.
    """
    h = h_of(params["recur"], state)
    (mu_0, sigma_0), _ = prior_forward(params["prior"], h)
    z, _ = reparameterise_forward(mu_0, sigma_0, eps)
    phi_z, _ = features_forward(params["phi_z"], z)
    outputs, _ = generate_forward(params["generate"], phi_z, h, likelihood)
    x = likelihood.sample(v, *outputs)
    phi_x, _ = features_forward(params["phi_x"], x)
    return x, outputs, recur_forward(params["recur"], phi_x, phi_z, state)[0]


def ancestral_sample(model, state, steps, seed, temperature=1.0, mean=False):
    """x (steps, n, X), drawn from Eq. 8, starting from a state (n, S H). (seed, stream, step) determines the noise.

    temperature: scales the standard deviations of z and x, see `at_temperature`. mean: return E[x_t | z_<=t, x_<t] in
    place of each x_t. On the host, threads share many sequences: most of a step runs without the interpreter lock.
    """
    likelihood = at_temperature(without_constants(model.likelihood, model.std), temperature)
    backend, n = model.backend, len(state)

    def noise_of(t):
        eps = noise.standard_normal((n, model.z_dim), model.dtype, seed, "sample z", t, backend)
        v = likelihood.noise(noise.generator(seed, "sample x", t), (n, model.x_dim), model.dtype)
        return float(temperature) * eps, backend.asarray(v)

    rows = n if backend.name == "cupy" else ROWS
    parts = [slice(start, start + rows) for start in range(0, n, rows)]
    x, states = backend.xp.empty((steps, n, model.x_dim), dtype=model.dtype), [state[part] for part in parts]
    step = partial(model._sample_step, model.params, likelihood)
    with in_threads(len(parts)) as each:
        for start in range(0, steps, STRETCH):
            drawn = [noise_of(t) for t in range(start, min(start + STRETCH, steps))]
            stretch = partial(sample_stretch, step, likelihood.mean if mean else None, drawn, x[start:])
            states = list(each(stretch, parts, states))
    return x


def sample_stretch(step, mean, drawn, x, part, state):
    """Draw x[:, part] for the steps of `drawn`, [(eps, v) of all sequences]. Returns the state after the last step.

    mean: a function of a step's outputs whose value replaces the draw in x, or None.
    """
    for x_t, (eps, v) in zip(x, drawn):
        x_t[part], outputs, state = step(state, eps[part], v[part])
        if mean:
            x_t[part] = mean(*outputs)
    return state


@contextmanager
def in_threads(count):
    """Context: yields `map`, or a map that runs in up to `count` threads with this thread's np.errstate."""
    if (count := min(count, available_cores())) == 1:
        yield map
    else:
        with ThreadPoolExecutor(count, initializer=partial(np.seterr, **np.geterr())) as pool:
            yield pool.map


def state_after(params, x, eps, state, mask=None):
    """The state (B K, S H) after a prefix x (T, B, X), for K draws of its z from the posterior (Eq. 9).

    eps (T, B K, Z), the draws of a sequence side by side; state (B K, S H): before the prefix. mask (T, B): 1 in the
    real steps (None: all are real); in the padding the state stays as it is. A smoothing posterior conditions on the
    whole prefix, and on nothing after it.
    """
    ahead = of_sequence(params, x, mask)

    def widened(a):
        return copies(a[None], eps.shape[1] // x.shape[1])[0]

    for t, (x_t, eps_t) in enumerate(zip(x, eps)):
        phi_x, _ = features_forward(params["phi_x"], x_t)
        infer_in = widened(phi_x if ahead is None else ahead[t])
        (mu_z, sigma_z), _ = infer_forward(params["infer"], infer_in, h_of(params["recur"], state))
        z, _ = reparameterise_forward(mu_z, sigma_z, eps_t)
        phi_z, _ = features_forward(params["phi_z"], z)
        moved, _ = recur_forward(params["recur"], widened(phi_x), phi_z, state)
        state = moved if mask is None else namespace(x).where(widened(mask[t])[:, None] > 0, moved, state)
    return state
