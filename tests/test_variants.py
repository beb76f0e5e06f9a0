"""The VRNN-I, by the routes that hold the VRNN.

Catches: a prior that is not N(0, I), particles weighed or samples drawn with another one, a schedule that differs.
"""

import checks
import numpy as np
import pytest

from tinyvrnn.distributions import LIKELIHOODS

VARIANTS = {"vrnn-i": {"model": "vrnn-i"}}
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
each_bound = pytest.mark.parametrize("bound", ["iwae", "fivo"])
BACKENDS = ("numpy", "strict")


@every
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_batched_schedule_equals_the_literal_steps(options, likelihood, backend):
    checks.batched_equals_stepwise(likelihood, backend, **options)


@every
@each_bound
def test_bounds_of_particles_equal_the_plain_rewrite(options, bound):
    checks.particle_bound_equals_plain_rewrite(bound, **options)


@every
@each_bound
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_bounds_of_particles_equal_numeric_ones(options, bound, backend):
    checks.particle_bound_gradients(bound, "gaussian", backend, **options)


@every
@each_bound
def test_ended_sequences_stay(options, bound):
    checks.ended_sequences_stay(bound, **options)


def test_the_kl_of_a_vrnn_i_is_that_to_a_standard_normal():
    model, x, _, eps = checks.small("gaussian", model="vrnn-i")
    model.params["infer"]["W_out"][...] = 0
    mu, s = np.array([0.5, -2.0]), np.array([0.1, 1.5])
    model.params["infer"]["b_out"][...] = [*mu, *s]
    sigma = np.log1p(np.exp(s)) + 1e-4
    expected = len(x) * (0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)).sum()
    checks.assert_close(model.parts(x, None, eps).kl, np.full(x.shape[1], expected), 1e-12, "KL")
