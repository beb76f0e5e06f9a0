"""The cells and ancestral sampling (Eq. 8) by independent routes: loops over scalars, a model set by hand, NumPy draws.

Catches: another form of GRU (reset before the product, gates swapped, a missing bias), means fed back instead of
samples, a prior or a generation other than in the equations, noise that depends on the number of steps.
"""

import math

import checks
import numpy as np
import plain
import pytest

from tinyvrnn.arrays.backend import to_host
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import equations
from tinyvrnn.nn import gru, lstm


def test_gru_equals_a_loop_over_scalars():
    checks.gru_equals_literal()


def test_lstm_equals_a_loop_over_scalars():
    checks.lstm_equals_literal()


def test_lstm_keeps_its_memory_where_the_forget_gate_is_open_and_the_input_gate_shut():
    draw = checks.rng()
    p = {name: draw.standard_normal(shape) for name, shape in lstm.shapes(4, 3).items()}
    p["b"][:6] = [-1e3] * 3 + [1e3] * 3
    x, state, dstate = draw.standard_normal((5, 4)), draw.standard_normal((5, 6)), draw.standard_normal((5, 6))
    after, cache = lstm.lstm_forward(p, x, state)
    assert np.array_equal(after[:, 3:], state[:, 3:])
    dstate[:, :3] = 0  # the gradient of the memory passes unchanged
    (_, dbefore), _ = lstm.lstm_backward(p, cache, dstate)
    assert np.array_equal(dbefore[:, 3:], dstate[:, 3:])


def test_a_fresh_lstm_has_a_forget_bias_of_1_and_leaves_all_else():
    p = {name: checks.rng().standard_normal(shape) for name, shape in lstm.shapes(4, 3).items()}
    before = {name: leaf.copy() for name, leaf in p.items()}
    lstm.initialise(p)
    assert p["b"].tolist() == [*before["b"][:3], 1, 1, 1, *before["b"][6:]]
    assert all(np.array_equal(p[name], before[name]) for name in "WUc")


def test_gru_of_several_inputs_is_the_gru_of_their_concatenation():
    draw = checks.rng()
    p = {name: draw.standard_normal(shape) for name, shape in gru.shapes(5, 3).items()}
    x, h = draw.standard_normal((4, 5)), draw.standard_normal((4, 3))
    whole, _ = gru.gru_forward(p, x, h)
    checks.assert_close(gru.gru_forward(p, x[:, :2], x[:, 2:], h)[0], whole, 1e-14, "h'")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_each_equation_equals_the_plain_rewrite(likelihood):
    model, x, _, _ = checks.small(likelihood)
    p, draw = checks.host_params(model), checks.rng(1)
    phi_x, phi_z, h = draw.standard_normal((6, 3)), draw.standard_normal((6, 3)), draw.standard_normal((6, 5))
    prior, _ = equations.prior_forward(p["prior"], h)
    infer, _ = equations.infer_forward(p["infer"], phi_x, h)
    outputs, _ = equations.generate_forward(p["generate"], phi_z, h, model.likelihood)
    h_next, _ = equations.recur_forward(p["recur"], phi_x, phi_z, h)
    features, _ = equations.features_forward(p["phi_x"], x[0])
    for i in range(6):
        expected = plain.gaussian_head(p["prior"], plain.hidden(p["prior"], h[i]))
        checks.assert_close([a[i] for a in prior], expected, 1e-13, "Eq. 5")
        v = plain.hidden(p["infer"], np.concatenate([phi_x[i], h[i]]))
        checks.assert_close([a[i] for a in infer], plain.gaussian_head(p["infer"], v), 1e-13, "Eq. 9")
        v = plain.hidden(p["generate"], np.concatenate([phi_z[i], h[i]]))
        for actual, expected in zip(outputs, plain.outputs(p["generate"], likelihood, v), strict=True):
            checks.assert_close(actual[i], expected, 1e-13, "Eq. 6")
        expected = plain.gru(p["recur"], np.concatenate([phi_x[i], phi_z[i]]), h[i])
        checks.assert_close(h_next[i], expected, 1e-13, "Eq. 7")
    checks.assert_close(features[0], plain.hidden(p["phi_x"], x[0, 0]), 1e-13, "phi_x")


def test_samples_are_fed_back_not_means():
    checks.samples_are_fed_back()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_first_step_has_the_moments_of_prior_and_generation(likelihood):
    checks.sample_moments(likelihood, steps=1)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_have_the_moments_of_draws_by_the_plain_rewrite(likelihood):
    checks.sample_moments(likelihood)


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_sample_has_the_shape_and_dtype_asked_for(likelihood, backend):
    model, *_ = checks.small(likelihood, backend, dtype="float32")
    x = model.sample(n=3, steps=2)
    assert x.shape == (2, 3, model.x_dim) and x.dtype == "float32"


@checks.on_device
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_same_seed_same_sample_on_every_backend(likelihood):
    backends = ("numpy", *checks.BACKENDS)
    draws = [to_host(checks.small(likelihood, b)[0].sample(n=5, steps=4, seed=7)) for b in backends]
    assert np.array_equal(draws[0], draws[1])
    checks.assert_as_on_numpy(draws[2], draws[0])
    assert not np.array_equal(draws[0], checks.small(likelihood)[0].sample(n=5, steps=4, seed=8))


def test_more_steps_begin_with_the_same_steps():
    model, *_ = checks.small("gaussian")
    assert np.array_equal(model.sample(n=5, steps=7, seed=2)[:3], model.sample(n=5, steps=3, seed=2))


def test_steps_and_sequences_draw_noise_of_their_own():
    model, *_ = checks.small("gaussian")
    x = model.sample(n=50, steps=20).reshape(-1)
    assert len(np.unique(x)) == len(x)


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_a_sample_begins_with_its_prime(backend):
    model, x, _, _ = checks.small("gaussian", backend)
    primed = to_host(model.sample(steps=3, seed=1, prime=x))
    assert primed.shape == (len(x) + 3, *x.shape[1:])
    assert np.array_equal(primed[: len(x)], x)


def test_a_sample_continues_its_prime():
    coins = np.tile([0.0, 1.0, 1.0, 0.0], (2, 1))[..., None]
    x = checks.coin_that_stays().sample(steps=4, seed=3, prime=coins)[..., 0]
    assert np.array_equal(x, np.tile(coins[0, :, 0], (6, 1)))


def test_the_elbo_of_the_coin_that_stays_is_exactly_log_half():
    x = np.tile([0.0, 1.0], (6, 1))[..., None]
    parts = checks.coin_that_stays().parts(x)
    checks.assert_close(parts.elbo, [-math.log(2)] * 2, 1e-12, "ELBO")
    assert np.all(parts.kl == 0)
