"""The batched schedule and the model around it: against the step-by-step one, and invariances.

Catches: a step too early or too late in either loop, a gradient lost between the loop and the batched part, padding
that counts, sequences that mix, a mean over the wrong axis, noise that is fresh where it must repeat (or the reverse),
a backward that writes to its cache, overflow at extremes, theta and its views getting out of sync.
"""

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, size, views
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import schedule, stepwise

both = pytest.mark.parametrize("likelihood", LIKELIHOODS)


@both
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_model_of_these_tests_has_no_leaf_without_a_gradient(likelihood, layers):
    """With dead rectifiers every comparison of gradients would be 0 = 0."""
    model, *given = checks.small(likelihood, layers=layers)
    _, grads, _ = model.loss_and_grads(*given, beta=0.7)
    for name, gradient in leaves(views(grads, model.shapes)):
        assert np.mean(gradient != 0) > 0.3 and np.abs(gradient).max() > 1e-4, name


# ---- stepwise ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"layers": 1}, {"layers": 3}, {"T": 1}, {"B": 1}, {"z_dim": 1}, {"x_dim": 1}, {"h_dim": 1}, {"features": 1}]
    + [{"T": 1, "B": 1, "z_dim": 1, "layers": 1}, {"T": 30, "B": 7, "h_dim": 11, "features": 9}],
    ids=str,
)
@pytest.mark.one_in(3)
def test_batched_schedule_equals_the_literal_steps(likelihood, backend, sizes):
    checks.batched_equals_stepwise(likelihood, backend, **sizes)


@both
@pytest.mark.parametrize("zero", ["dlog_p", "dkl"])
def test_each_term_of_the_bound_has_the_literal_gradient_alone(likelihood, zero):
    model, x, _, eps = checks.small(likelihood)
    upstream = {name: checks.rng(1).standard_normal(x.shape[:2]) * (name != zero) for name in ("dlog_p", "dkl")}
    grads = []
    for module in (schedule, stepwise):
        *_, cache = module.sequence_forward(model.params, x, eps, model.likelihood)
        grads.append(module.sequence_backward(model.params, cache, **upstream, likelihood=model.likelihood))
    checks.assert_same_tree({group: grads[0][group] for group in grads[1]}, grads[1], 1e-12)


@both
def test_sequence_backward_is_pure_and_repeatable(likelihood):
    checks.sequence_backward_is_pure(likelihood)


@both
def test_arguments_of_the_model_are_left_as_they_are(likelihood):
    model, *given = checks.small(likelihood)
    before = [a.tobytes() for a in (model.theta, *given)]
    model.loss_and_grads(*given)
    model.elbo(*given)
    model.reconstruct(*given)
    assert before == [a.tobytes() for a in (model.theta, *given)]


# ---- invariances ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("garbage", [0.0, 0.3, -7.0, 1e30, np.nan, np.inf], ids=str)
@pytest.mark.parametrize("extra", [1, 6])
@pytest.mark.one_in(7)
def test_padding_changes_nothing(likelihood, garbage, extra):
    checks.padding_changes_nothing(likelihood, garbage, extra)


@both
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_a_batch_is_the_mean_of_its_sequences(likelihood, backend):
    checks.batch_equals_mean_of_singles(likelihood, backend)


@both
def test_another_order_of_the_sequences_reorders_the_parts_and_leaves_the_gradient(likelihood):
    checks.permutation_permutes(likelihood)


@both
@pytest.mark.parametrize("T", [1, 2, 3, 4, 5])
def test_lengths_cut_a_sequence_as_slicing_does(likelihood, T):
    model, x, _, eps = checks.small(likelihood)
    cut = model.loss_and_grads(x, np.full(x.shape[1], T), eps)
    sliced = model.loss_and_grads(x[:T], None, eps[:T])
    for actual, expected, what in zip(cut, sliced, ("loss", "gradient", "parts")):
        checks.assert_close(actual, expected, 1e-12, what)


def test_no_lengths_means_all_steps():
    model, x, _, eps = checks.small()
    full = model.loss_and_grads(x, np.full(x.shape[1], len(x)), eps)
    assert np.array_equal(full[1], model.loss_and_grads(x, None, eps)[1])


@both
def test_later_steps_do_not_change_earlier_terms(likelihood):
    model, x, _, eps = checks.small(likelihood)
    changed = x.copy()
    changed[3] = 1 - changed[3]
    (log_p, kl, _), (log_p_2, kl_2, _) = (
        schedule.sequence_forward(model.params, a, eps, model.likelihood) for a in (x, changed)
    )
    checks.assert_close(log_p_2[:3], log_p[:3], 1e-14, "log p")
    checks.assert_close(kl_2[:3], kl[:3], 1e-14, "KL")
    assert np.any(log_p_2[3] != log_p[3]) and np.any(log_p_2[4] != log_p[4])


def test_batches_are_unrelated():
    checks.batches_are_unrelated()


# ---- the bound -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0, 3.0])
def test_loss_is_minus_the_weighted_bound_in_nats_per_sequence(likelihood, backend, beta):
    model, *given = checks.small(likelihood, backend)
    loss, _, parts = model.loss_and_grads(*given, beta=beta)
    log_likelihood, kl, elbo = (to_host(parts[name]) for name in ("log_likelihood", "kl", "elbo"))
    checks.assert_close(float(loss), -(log_likelihood - beta * kl).mean(), 1e-14, "loss")
    checks.assert_close(elbo, log_likelihood - kl, 1e-14, "elbo")
    assert elbo.shape == kl.shape == log_likelihood.shape == (4,)


@both
def test_gradient_is_linear_in_the_weight_of_the_kl(likelihood):
    model, *given = checks.small(likelihood)
    g0, g1, g3 = (model.loss_and_grads(*given, beta=beta)[1] for beta in (0.0, 1.0, 3.0))
    checks.assert_close(g3, g0 + 3 * (g1 - g0), 1e-12, "gradient")


@both
def test_parts_and_elbo_are_those_of_loss_and_grads(likelihood):
    model, *given = checks.small(likelihood)
    _, _, parts = model.loss_and_grads(*given, beta=0.5)
    assert np.array_equal(model.parts(*given), parts)
    assert np.array_equal(model.elbo(*given), parts.elbo)


@both
def test_one_step_down_the_gradient_lowers_the_loss(likelihood):
    model, *given = checks.small(likelihood)
    loss, grads, _ = model.loss_and_grads(*given)
    model.theta -= 1e-4 * grads
    lower, expected = model.loss_and_grads(*given)[0], loss - 1e-4 * float(grads @ grads)
    assert abs(lower - expected) < 0.05 * (loss - expected)


def test_reconstruction_is_the_mean_of_generation_given_posterior_draws():
    coins = np.tile([0.0, 1.0], (5, 1))[..., None]
    expected = coins.copy()
    expected[0] = 0.5
    checks.assert_close(checks.coin_that_stays().reconstruct(coins), expected, 1e-12, "E[x]")


# ---- noise ---------------------------------------------------------------------------------------


def test_noise_is_fresh_in_each_call_of_loss_and_grads_and_the_same_for_the_same_seed():
    first, second = ([checks.small(seed=s)[0] for s in (0, 0)][i] for i in (0, 1))
    x = checks.small()[1]
    losses = [float(first.loss_and_grads(x)[0]) for _ in range(4)]
    assert len(set(losses)) == 4
    assert [float(second.loss_and_grads(x)[0]) for _ in range(4)] == losses


def test_noise_differs_for_another_seed():
    model, x, *_ = checks.small()
    other = tv.VRNN(**(model.config | {"seed": 1}))
    other.theta[...] = model.theta
    assert other.loss_and_grads(x)[0] != model.loss_and_grads(x)[0]
    assert np.all(other.elbo(x) != model.elbo(x))


def test_noise_is_the_same_in_each_call_of_elbo():
    model, x, *_ = checks.small()
    first = model.elbo(x)
    model.loss_and_grads(x)
    assert np.array_equal(model.elbo(x), first)


def test_noise_that_is_drawn_is_standard_normal():
    """Observed with a posterior of mean 0 and standard deviation about 1, so that z is nearly eps."""
    model = tv.VRNN(x_dim=1, h_dim=1, z_dim=2, dtype="float64")
    model.theta[...] = 0
    model.params["infer"]["b_out"][2:] = np.log(np.expm1(1 - 1e-4))
    eps = model._draw_eps(np.zeros((20, 500, 1)), "loss_and_grads", 0).reshape(-1, 2)
    checks.assert_mean(eps, 0.0, "eps")
    checks.assert_mean(eps**2, 1.0, "eps^2")
    assert abs(np.corrcoef(eps.T)[0, 1]) < 4 / np.sqrt(len(eps))


# ---- numbers, dtypes -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "likelihood, extreme",
    [(likelihood, extreme) for likelihood in ("bernoulli", "categorical") for extreme in ("outputs", "weights")]
    + [(name, extreme) for name in ("gaussian", "gmm", "pen") for extreme in ("outputs", "weights", "x", "all")],
)
def test_finite_at_extremes(likelihood, extreme, dtype):
    checks.finite_at_extremes(likelihood, extreme, dtype)


@both
def test_float32_stays_within_1e_5_of_float64(likelihood):
    """The bound: 3e-6 for the loss and 1e-5 of the largest gradient; float32 resolves 6e-8."""
    wide, x, lengths, eps = checks.small(likelihood)
    narrow = tv.VRNN(**(wide.config | {"dtype": "float32"}))
    narrow.theta[...] = wide.theta
    loss, grads, _ = wide.loss_and_grads(x, lengths, eps)
    loss_32, grads_32, _ = narrow.loss_and_grads(x.astype("float32"), lengths, eps.astype("float32"))
    checks.assert_close(loss_32, loss, 3e-6, "loss")
    checks.assert_close(grads_32, grads, 1e-5, "gradient")


@both
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.5, 1, np.float64(0.5)], ids=repr)
@pytest.mark.one_in(7)
def test_everything_has_the_dtype_of_the_model(likelihood, backend, dtype, beta):
    model, *given = checks.small(likelihood, backend, dtype=dtype)
    loss, grads, parts = model.loss_and_grads(*given, beta=beta)
    assert {a.dtype.name for a in (model.theta, grads, *parts)} == {dtype}
    assert loss.shape == () and loss.dtype == dtype
    assert grads.shape == model.theta.shape


@checks.on_device
@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_device_gives_the_numbers_of_numpy(likelihood, dtype):
    results = []
    for backend in checks.BACKENDS:
        model, *given = checks.small(likelihood, backend, dtype=dtype)
        loss, grads, parts = model.loss_and_grads(*given)
        results.append((model.theta, loss, grads, *parts, model.reconstruct(*given)))
    for actual, expected in zip(results[1], results[0], strict=True):
        checks.assert_as_on_numpy(actual, expected)


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_params_are_views_of_theta(backend):
    model, *_ = checks.small(backend=backend)
    assert size(model.shapes) == model.theta.size
    for _, leaf in leaves(model.params):
        leaf[...] = 7.0
    assert np.all(to_host(model.theta) == 7)
    model.theta[...] = 3.0
    assert all(np.all(to_host(leaf) == 3) for _, leaf in leaves(model.params))


def test_views_cover_the_vector_once_in_order():
    shapes = {"a": {"W": (2, 3), "b": (3,)}, "c": {"W": (1, 1)}}
    named = dict(leaves(views(np.arange(10.0), shapes)))
    assert list(named) == ["a.W", "a.b", "c.W"]
    assert [a.shape for a in named.values()] == [(2, 3), (3,), (1, 1)]
    assert np.concatenate([a.ravel() for a in named.values()]).tolist() == list(range(10))


@both
def test_gradients_are_arranged_as_theta(likelihood):
    """The part of the flat gradient under a leaf's name equals the leaf of that name in the step-by-step schedule."""
    model, x, _, eps = checks.small(likelihood)
    *_, caches = stepwise.sequence_forward(model.params, x, eps, model.likelihood)
    weight = np.full(x.shape[:2], 1 / x.shape[1])
    named = stepwise.sequence_backward(model.params, caches, -weight, weight, model.likelihood)
    checks.assert_same_tree(views(model.loss_and_grads(x, None, eps)[1], model.shapes), named, 1e-12)


@checks.on_device
def test_weights_start_alike_on_every_backend_and_dtype():
    wide = tv.VRNN(x_dim=3, h_dim=4, z_dim=2, dtype="float64", seed=5)
    for options in ({"dtype": "float32"}, {"dtype": "float32", "backend": checks.DEVICE}, {"backend": checks.DEVICE}):
        other = tv.VRNN(**(wide.config | options))
        assert np.array_equal(to_host(other.theta), wide.theta.astype(other.dtype))


def test_weights_start_with_the_deviation_of_glorot_and_biases_of_0():
    model = tv.VRNN(x_dim=60, h_dim=80, z_dim=10, dtype="float64")
    for name, leaf in leaves(model.params):
        if leaf.ndim == 1:
            assert np.all(leaf == 0), name
        else:
            checks.assert_mean(leaf.reshape(-1, 1) ** 2, 2 / sum(leaf.shape), name)


def test_nan_in_the_noise_of_the_padding_changes_nothing():
    model, x, lengths, eps = all_pairs.small_model()
    loss, grads, _ = model.loss_and_grads(x, lengths, eps)
    eps[np.arange(len(eps))[:, None] >= lengths] = np.nan
    again, grads_again, _ = model.loss_and_grads(x, lengths, eps)
    assert loss == again and (grads == grads_again).all()


def test_x_too_large_to_square_is_refused():
    model = tv.VRNN(2, 4, 2, likelihood="gaussian")
    assert np.isfinite(model.elbo(np.full((2, 1, 2), 1e12))).all()
    with pytest.raises(tv.DataError, match="standardise"):
        model.elbo(np.full((2, 1, 2), 1e13))


def test_assigning_theta_copies_into_the_parameters():
    model = tv.VRNN(2, 4, 2)
    new = np.arange(model.theta.size, dtype="float32")
    model.theta = new
    assert (model.theta == new).all() and model.params["phi_x"]["W1"][0, 1] == 1 and model.theta is not new
    with pytest.raises(tv.ConfigError, match="theta has shape"):
        model.theta = np.zeros(3)


@pytest.mark.parametrize("beta", [np.nan, np.inf, "1"])
def test_a_beta_that_is_no_finite_number_is_refused(beta):
    with pytest.raises(tv.ConfigError, match="beta must be"):
        tv.VRNN(2, 4, 2).loss_and_grads(np.zeros((2, 1, 2)), beta=beta)


def test_complex_x_is_refused():
    with pytest.raises(tv.DataError, match="real numbers"):
        tv.VRNN(2, 4, 2).elbo(np.zeros((2, 1, 2), dtype=complex))
