"""The RNN of Eq. 1 and 2 and the VAE of Eq. 3 and 4, with every likelihood, by the same routes as the VRNN.

Catches: a step too early or too late (a prediction of x_t from h_t), a log-likelihood that is not a probability, steps
of a VAE that depend on each other, a KL from another prior, lost gradients, padding that counts, samples of another
model.
"""

import copy
import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction

import checks
import numpy as np
import plain
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.arrays.strict import transfers
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import is_finite
from tinyvrnn.models import MODELS, rnn, sampling
from tinyvrnn.models.batch import bound_terms
from tinyvrnn.models.linear_gaussian import LinearGaussian

every = pytest.mark.parametrize("likelihood", LIKELIHOODS)
each = pytest.mark.parametrize("model", ["vrnn-i", "rnn", "vae"])


@pytest.mark.one_in(3)
@every
@each
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_loss_and_gradient_equal_the_plain_rewrite(model, likelihood, layers):
    checks.elbo_equals_plain_rewrite(likelihood, layers, beta=0.6, model=model)


@pytest.mark.one_in(3)
@every
@each
@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
def test_gradients_of_the_whole_bound_equal_numeric_ones(model, likelihood, backend):
    checks.elbo_gradients(likelihood, backend, model=model)


@every
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize(
    "sizes", [{}, {"layers": 1}, {"T": 1}, {"B": 1}, {"h_dim": 1}, {"T": 30, "B": 7, "h_dim": 11}], ids=str
)
@pytest.mark.one_in(7)
def test_the_rnn_equals_its_literal_steps(likelihood, backend, sizes):
    checks.rnn_equals_its_literal_steps(likelihood, backend, **sizes)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_the_probabilities_of_all_sequences_of_an_rnn_sum_to_1(likelihood):
    checks.rnn_probabilities_sum_to_1(likelihood)


def test_an_rnn_foretells_a_step_from_those_before_it_alone():
    model, x, *_ = checks.small("gaussian", model="rnn")
    changed = x.copy()
    changed[3] += 1
    (log_p, _), (log_p_2, _) = (rnn.sequence_forward(model.params, a, model.likelihood) for a in (x, changed))
    assert np.array_equal(log_p_2[:3], log_p[:3]) and np.all(log_p_2[3:] != log_p[3:])
    again, before = model.reconstruct(changed), model.reconstruct(x)
    assert np.array_equal(again[:4], before[:4]) and np.all(again[4] != before[4])


@every
def test_the_backward_pass_of_an_rnn_is_pure_and_repeatable(likelihood):
    model, x, *_ = checks.small(likelihood, model="rnn")
    dlog_p = checks.rng(1).standard_normal(x.shape[:2])
    log_p, cache = rnn.sequence_forward(model.params, x, model.likelihood)
    given = (model.theta, x, dlog_p, log_p, *checks.arrays_in(cache))
    before = [a.tobytes() for a in given]
    first, second = (
        dict(leaves(rnn.sequence_backward(model.params, cache, dlog_p, model.likelihood))) for _ in range(2)
    )
    assert before == [a.tobytes() for a in given]
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_what_an_rnn_calls_its_bound_is_its_log_likelihood():
    model, x, lengths, _ = checks.small(model="rnn")
    loss, _, parts = model.loss_and_grads(x, lengths)
    assert np.all(parts.kl == 0) and np.array_equal(parts.elbo, parts.log_likelihood)
    assert model.bound == "exact" and model.z_dim == 0
    assert loss == model.loss_and_grads(x, lengths, beta=0.1)[0], "there is no KL to weigh"


def test_the_steps_of_a_vae_are_unrelated():
    checks.steps_of_a_vae_are_unrelated()


def test_the_elbo_of_a_vae_lies_below_log_p_by_the_kl_to_the_posterior():
    checks.vae_elbo_lies_below_the_evidence()


def test_a_vae_takes_single_steps():
    model, x, _, eps = checks.small("gaussian", model="vae")
    loss, grads, parts = model.loss_and_grads(x[0], None, eps[0])
    whole = model.loss_and_grads(x[:1], None, eps[:1])
    assert loss == whole[0] and np.array_equal(grads, whole[1]) and np.array_equal(parts, whole[2])
    assert model.reconstruct(x[0]).shape == x[0].shape and model.elbo(x[0]).shape == (4,)
    with pytest.raises(tv.DataError, match="Expected x of shape"):
        model.elbo(x[0, 0])


# ---- invariances ---------------------------------------------------------------------------------


@every
@each
def test_padding_changes_nothing(model, likelihood):
    checks.padding_changes_nothing(likelihood, garbage=np.nan, model=model)


@every
@each
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_a_batch_is_the_mean_of_its_sequences(model, likelihood, backend):
    checks.batch_equals_mean_of_singles(likelihood, backend, model=model)


@each
@pytest.mark.parametrize("extreme", ["outputs", "weights", "all"])
@pytest.mark.parametrize("likelihood", ["gaussian", "gmm", "pen"])
def test_finite_at_extremes(model, likelihood, extreme):
    checks.finite_at_extremes(likelihood, extreme, model=model)


@checks.on_device
@every
@each
def test_a_device_gives_the_numbers_of_numpy(model, likelihood):
    results = []
    for backend in checks.BACKENDS:
        m, *given = checks.small(likelihood, backend, model=model, dtype="float32")
        loss, grads, parts = m.loss_and_grads(*given)
        found = (m.theta, loss, grads, *parts, m.reconstruct(*given), m.sample(n=3, steps=4))
        assert {a.dtype.name for a in found} == {"float32"}
        results.append(found)
    for actual, expected in zip(results[1], results[0], strict=True):
        checks.assert_as_on_numpy(actual, expected)


@every
@each
def test_no_value_crosses_to_the_host_and_no_array_a_step_to_the_device(model, likelihood):
    m, *given = checks.small(likelihood, "strict", T=40, model=model)
    transfers.reset()
    m.loss_and_grads(*given)
    m.reconstruct(*given)
    assert transfers.to_device <= 6 and transfers.to_host == 0


@pytest.mark.parametrize("model", MODELS)
@every
def test_sampling_fetches_nothing_from_the_device(model, likelihood):
    m, *_ = checks.small(likelihood, "strict", model=model)
    transfers.reset()
    m.sample(n=3, steps=5)
    assert transfers.to_host == 0 and transfers.to_device == 5  # noise of x


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@every
@each
def test_samples_have_the_moments_of_draws_by_the_plain_rewrite(model, likelihood):
    checks.sample_moments(likelihood, model=model)


@pytest.mark.one_in(4)
@every
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tau", [0.5, 1.6])
def test_a_temperature_scales_standard_deviations_and_divides_logits(model, likelihood, tau):
    checks.sample_moments(likelihood, n=10_000, tau=tau, model=model)


@pytest.mark.one_in(3)
@every
@pytest.mark.parametrize("model", MODELS)
def test_means_are_those_of_the_distributions_that_the_draws_come_from(model, likelihood):
    """What a draw adds to its mean has the mean 0, whatever was drawn before."""
    m, *_ = checks.small(likelihood, model=model)
    x, mean = (m.sample(20_000, 3, seed=2, temperature=1.5, mean=wanted) for wanted in (False, True))
    new = x - mean
    for what, a in (("x_t - E[x_t]", new), ("(x_t - E[x_t]) x_{t-1}", new[1:] * x[:-1])):
        away = np.abs(a.mean(axis=1)) / np.maximum(a.std(axis=1) / np.sqrt(a.shape[1]), 1e-12)
        assert away.max() < 4.5 and new.std() > 0.1, f"{what}: {away.max():.1f} standard errors away from 0"


@pytest.mark.parametrize("model", ["vrnn", "rnn"])
def test_means_are_returned_and_draws_are_fed_back(model):
    coins, prime = checks.coin_that_stays(model), np.array([[[1.0], [0.0]]])
    x, mean = coins.sample(50, 4, seed=1), coins.sample(50, 4, seed=1, mean=True)
    assert (mean[0] == 0.5).all() and np.abs(mean[1:] - x[:1]).max() < 1e-12 and 0 < x[0].mean() < 1
    checks.assert_close(coins.sample(None, 4, prime=prime, mean=True), np.tile(prime, (5, 1, 1)), 1e-12, "mean")


@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{"temperature": np.float64(0.5)}, {"mean": True}], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_draws_for_each_prime_stand_side_by_side(model, dtype, options, backend):
    m, x, *_ = checks.small("gmm", backend, dtype=dtype, model=model)
    found = m.sample(3, 2, prime=x, **options)
    assert tv.backend.backend_of(found) == m.backend and found.dtype == dtype
    found = to_host(found)
    assert found.shape == (len(x) + 2, 3 * x.shape[1], x.shape[2])
    assert np.array_equal(found[: len(x)], np.repeat(x, 3, axis=1)), "each prime three times"
    assert len(np.unique(found[len(x), :, 0])) == (1 if model == "rnn" and "mean" in options else 3) * x.shape[1]


@pytest.mark.parametrize("tau", [0, -1.0, 2000, np.nan, np.inf, "hot", None, True])
def test_a_temperature_that_is_no_positive_number_is_refused(tau):
    with pytest.raises(tv.ConfigError, match=r"temperature must be a number from 0.001 to 1000, got"):
        tv.RNN(3, 4).sample(2, 2, temperature=tau)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kl_of_an_rnn_is_zero_and_a_number_of_the_models_dtype(dtype):
    model, x, lengths, _ = checks.small("gaussian", model="rnn", dtype=dtype)
    parts = model.parts(x, lengths)
    assert parts.kl.shape == (x.shape[1],) and not parts.kl.any()
    assert {term.dtype for term in parts} == {np.dtype(dtype)}


def test_an_rnn_feeds_back_its_samples():
    checks.samples_are_fed_back(model="rnn")


def test_an_rnn_continues_its_prime():
    coins = np.tile([0.0, 1.0, 1.0, 0.0], (2, 1))[..., None]
    x = checks.coin_that_stays("rnn").sample(steps=4, seed=3, prime=coins)[..., 0]
    assert np.array_equal(x, np.tile(coins[0, :, 0], (6, 1)))


def test_the_log_likelihood_of_the_coin_that_stays_is_exactly_log_half():
    model, x = checks.coin_that_stays("rnn"), np.tile([0.0, 1.0], (6, 1))[..., None]
    checks.assert_close(model.elbo(x), [-np.log(2)] * 2, 1e-12, "log p")
    expected = x.copy()
    expected[0] = 0.5
    checks.assert_close(model.reconstruct(x), expected, 1e-12, "E[x_t | x_<t]")


@each
def test_more_steps_begin_with_the_same_steps(model):
    m, x, *_ = checks.small("gmm", model=model)
    assert np.array_equal(m.sample(n=5, steps=7, seed=2)[:3], m.sample(n=5, steps=3, seed=2))
    primed = m.sample(steps=3, prime=x)
    assert primed.shape == (len(x) + 3, *x.shape[1:]) and np.array_equal(primed[: len(x)], x)


# ---- the models as such --------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@every
def test_a_model_comes_back_from_its_checkpoint(model, likelihood, tmp_path):
    m, *given = checks.small(likelihood, model=model)
    tv.save(m, tmp_path)
    again = tv.load(tmp_path)
    assert type(again) is type(m) and again.config == m.config and np.array_equal(again.theta, m.theta)
    assert again.likelihood.components == (3 if likelihood in ("gmm", "pen") else None)
    assert np.array_equal(again.elbo(*given), m.elbo(*given))


@pytest.mark.parametrize("model", MODELS)
def test_a_models_name_and_sizes_are_in_its_text(model):
    m, *_ = checks.small("gmm", model=model)
    assert repr(m).startswith(f"{model.upper().replace('-', '')}(x_dim=4, ") and "components=3" in repr(m)


@each
def test_training_raises_the_bound(model):
    m, *_ = checks.small(dtype="float32", model=model)
    records = tv.train(m, checks.toy_data(), progress=False, epochs=30, lr=0.05, batch=4, workers=2)
    bounds = [record["train"]["elbo"] for record in records]
    assert bounds[-1] > bounds[0] + 1


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_are_under_the_names_of_the_leaves(likelihood):
    m, x, *_ = checks.small(likelihood, model="rnn")
    _, caches = rnn.literal_forward(m.params, x, m.likelihood)
    weight = np.full(x.shape[:2], 1 / x.shape[1])
    named = checks.rnn_literal_backward(m.params, caches, -weight, m.likelihood)
    checks.assert_same_tree(views(m.loss_and_grads(x)[1], m.shapes), named, 1e-12)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"likelihood": "gmn"}, 'did you mean "gmm"'),
        ({"likelihood": "gmm", "components": 0}, "components must be"),
        ({"likelihood": "pen"}, "needs x_dim 3"),
        ({"layers": 0}, "layers must be"),
        ({"likelihood": ["gmm"]}, "Unknown likelihood"),
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_options_that_make_no_model_are_refused(model, options, says):
    with pytest.raises(tv.ConfigError, match=says):
        checks.small(model=model, x_dim=4)[0].__class__(
            **{name: 4 for name in MODELS[model].sizes if name not in options}, **options
        )


@pytest.mark.parametrize(
    "likelihood, x, says",
    [
        ("categorical", [1, 1, 0], "holds 0 to 1, but a categorical likelihood needs a single 1"),
        ("categorical", [0, 0, 0], "a single 1 among zeros"),
        ("categorical", [0.5, 0.5, 0], "a single 1 among zeros"),
        ("pen", [1.0, 1.0, 0.5], "holds 0.5 to 0.5, but a pen likelihood needs a pen-up of 0 or 1"),
        ("bernoulli", [0, 2, 1], "holds 2 to 2, but a Bernoulli likelihood needs values in"),
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_x_that_does_not_suit_the_likelihood_is_refused(model, likelihood, x, says):
    m = MODELS[model](**{name: 3 for name in MODELS[model].sizes}, likelihood=likelihood, components=2)
    right = np.tile([0.0, 1.0, 0.0], (2, 2, 1))
    assert np.isfinite(m.elbo(right)).all()
    wrong = right.copy()
    wrong[1, 1] = x
    with pytest.raises(tv.DataError, match=says):
        m.elbo(wrong)
    assert np.isfinite(m.elbo(wrong, np.array([2, 1]))).all(), "padding may hold anything"


def test_training_says_where_data_do_not_suit_the_likelihood():
    m = tv.RNN(3, 4, likelihood="pen", components=2)
    x = 5 + checks.rng().standard_normal((4, 3, 3))
    with pytest.raises(tv.DataError, match="the train split of d: sequence 0, step 0, dimension 2"):
        tv.train(m, tv.Data.from_sequences("d", x, x, x), progress=False)


# ---- many samples at once ------------------------------------------------------------------------


@pytest.mark.parametrize("primed", [False, True])
@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "posterior": "smoothing"}])
def test_many_sequences_in_parts_are_those_drawn_at_once(options, primed, monkeypatch):
    """In float64 up to rounding, across the ends of chunks; the first sequence drawn for the last would show."""
    model = tv.VRNN(3, 4, 2, likelihood="gaussian", dtype="float64", **options)
    n, prime = 2 * sampling.ROWS + 1, np.zeros((2, 2 * sampling.ROWS + 1, 3))
    monkeypatch.setattr(sampling, "available_cores", lambda: 2)
    found = []
    for rows in (sampling.ROWS, n):
        monkeypatch.setattr(sampling, "ROWS", rows)
        given = {"prime": prime} if primed else {"n": n}
        found.append(model.sample(steps=2 * sampling.STRETCH + 3, seed=5, **given))
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)
    assert found[0].std() > 0.1


@checks.on_device
def test_samples_are_the_same_on_any_number_of_cores_and_on_each_backend(monkeypatch):
    """At sizes for which other chunks would round differently."""
    found = []
    for cores, backend in ((1, "numpy"), (2, "numpy"), (4, "numpy"), (2, checks.DEVICE)):
        monkeypatch.setattr(sampling, "available_cores", lambda cores=cores: cores)
        model = tv.VRNN(28, 40, 16, likelihood="gaussian", backend=backend)
        found.append(to_host(model.sample(2 * sampling.ROWS - 300, 12)))
    assert all((x == found[0]).all() for x in found[1:3])
    checks.assert_as_on_numpy(found[3], found[0])


def test_parts_are_drawn_by_as_many_threads_as_there_are_cores_and_one_by_none(monkeypatch):
    pools, pool = [], sampling.ThreadPoolExecutor
    monkeypatch.setattr(sampling, "ThreadPoolExecutor", lambda count, **o: pools.append(count) or pool(count, **o))
    step, threads, sizes = sampling.sample_step, set(), []

    def spy(params, likelihood, state, eps, v):
        threads.add(threading.current_thread())
        sizes.append({len(state), len(eps), len(v)})
        return step(params, likelihood, state, eps, v)

    monkeypatch.setattr(tv.VRNN, "_sample_step", staticmethod(spy))
    monkeypatch.setattr(sampling, "available_cores", lambda: 3)
    tv.VRNN(3, 4, 2).sample(sampling.ROWS, 2)
    assert pools == [] and threads == {threading.main_thread()}
    threads.clear()
    for parts in (2, 5):
        tv.VRNN(3, 4, 2).sample(parts * sampling.ROWS, 2)
    assert pools == [2, 3] and threading.main_thread() not in threads
    assert sizes == [{sampling.ROWS}] * 2 * (1 + 2 + 5)


def test_a_device_draws_all_sequences_at_once(monkeypatch):
    model, step, sizes = tv.VRNN(3, 4, 2, backend="strict"), sampling.sample_step, []
    spy = staticmethod(lambda *a: sizes.append(len(a[2])) or step(*a))
    monkeypatch.setattr(tv.VRNN, "_sample_step", spy)
    monkeypatch.setattr(tv.backend, "free_pools", lambda _: None)  # strict has none
    vars(model)["backend"] = model.backend._replace(name="cupy")
    monkeypatch.setattr(
        noise, "kernel_of", lambda draw, xp: lambda *words_and_out: words_and_out[-1].fill(0) or words_and_out[-1]
    )
    model.sample(2 * sampling.ROWS, 3)
    assert sizes == [2 * sampling.ROWS] * 3


def test_what_numpy_shall_do_about_overflow_holds_in_the_threads_too(monkeypatch):
    monkeypatch.setattr(sampling, "available_cores", lambda: 2)
    model = tv.VRNN(3, 4, 2, likelihood="gaussian")
    model.theta = np.full_like(model.theta, 1e30)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        model.sample(2 * sampling.ROWS, 5)


# ---- where noise comes from, and what its dtype is -----------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_a_sample_takes_its_noise_from_its_address_in_the_dtype_of_the_model(model, dtype, monkeypatch):
    model, x, *_ = checks.small("gaussian", model=model, dtype=dtype, seed=3)
    asked, normal, of_x = [], noise.standard_normal, model.likelihood.noise

    def spy(shape, dtype, seed, stream, step, backend):
        asked.append((shape, np.dtype(dtype).name, seed, stream, step))
        return normal(shape, dtype, seed, stream, step, backend)

    def spy_of_x(generator, shape, dtype):
        state = generator.bit_generator.state["state"]
        asked.append((shape, np.dtype(dtype).name, int(state["key"][0]), int(state["counter"][3])))
        same = noise.generator(7, "sample x", int(state["counter"][3])).bit_generator.state["state"]
        assert np.array_equal(same["key"], state["key"]) and np.array_equal(same["counter"], state["counter"])
        return of_x(generator, shape, dtype)

    monkeypatch.setattr(noise, "standard_normal", spy)
    model.likelihood = model.likelihood._replace(noise=spy_of_x)
    for prime, expected in ((None, []), (x[:, :2], [((5, 2, 3, model.z_dim), dtype, 3, "prime", 7)])):
        asked.clear()
        sample, n = model.sample(n=3, steps=2, seed=7, prime=prime), 3 if prime is None else 6
        assert sample.dtype == dtype and sample.shape == ((0 if prime is None else 5) + 2, n, model.x_dim)
        for t in range(2):
            expected = [*expected, ((n, model.z_dim), dtype, 7, "sample z", t), ((n, model.x_dim), dtype, 7, t)]
        assert asked == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_noise_that_is_not_given_is_that_of_its_address(model, dtype):
    """The ELBO's noise is the same in each call, the loss's depends on the call number; both on the model's seed."""
    model, x, lengths, _ = checks.small("gaussian", model=model, dtype=dtype, seed=3)

    def drawn(*address):
        return noise.standard_normal((5, 4, model.z_dim), dtype, 3, *address)

    for _ in range(2):
        assert np.array_equal(model.elbo(x, lengths), model.elbo(x, lengths, drawn("elbo", 0)))
        assert np.array_equal(model.reconstruct(x), model.reconstruct(x, None, drawn("elbo", 0)))
    again = type(model)(**model.config)
    again.theta = model.theta
    for number in range(3):
        loss, grads, parts = model.loss_and_grads(x, lengths)
        expected = again.loss_and_grads(x, lengths, drawn("loss_and_grads", number))
        assert loss == expected[0] and np.array_equal(grads, expected[1]) and np.array_equal(parts, expected[2])
        assert loss.dtype == grads.dtype == dtype


@pytest.mark.parametrize("model", MODELS)
def test_what_is_no_array_of_three_axes_is_refused_by_name(model):
    model, *_ = checks.small("gaussian", model=model)
    for wrong, says in (([0.5] * 9, r"got \(9,\)"), (np.zeros(4), r"got \(4,\)"), (None, "got NoneType")):
        with pytest.raises(tv.DataError, match=rf"Expected x of shape \(T, B, 4\).*{says}"):
            model.elbo(wrong)
        with pytest.raises(tv.DataError, match=says):
            model.loss_and_grads(wrong)


def test_a_vae_reconstructs_the_mean_of_what_is_decoded_from_each_step():
    model, x, lengths, eps = checks.small("gaussian", model="vae")
    p = checks.host_params(model)
    real = x * (np.arange(5)[:, None] < lengths)[..., None]
    eps_of_real = eps * (np.arange(5)[:, None] < lengths)[..., None]
    mean = np.empty_like(x)
    for t, b in np.ndindex(5, 4):
        mu_z, sigma_z = plain.gaussian_head(p["encode"], plain.hidden(p["encode"], real[t, b]))
        mean[t, b] = plain.decoded(p, "gaussian", mu_z + sigma_z * eps_of_real[t, b])[0]
    checks.assert_close(model.reconstruct(x, lengths, eps), mean, 1e-13, "E[x | z]")
    checks.assert_close(model.reconstruct(x[0], None, eps[0]), mean[0], 1e-13, "E[x | z] of one step")
    checks.assert_close(model.reconstruct(x[:1], None, eps[:1]), mean[:1], 1e-13, "of a sequence of one step")


# ---- what is said of the arguments ---------------------------------------------------------------


def test_parts_are_had_by_name_by_number_and_by_slice():
    parts = checks.small()[0].parts(checks.small()[1])
    assert parts["elbo"] is parts[0] is parts.elbo and parts["kl"] is parts[1] and parts["log_likelihood"] is parts[-1]
    assert parts[1:] == (parts.kl, parts.log_likelihood)
    with pytest.raises(AttributeError):
        parts["elbos"]


@pytest.mark.parametrize("model", MODELS)
def test_a_sample_is_28_steps_of_16_sequences_with_seed_0_unless_told(model):
    model, *_ = checks.small("gaussian", model=model)
    assert model.sample().shape == (28, 16, 4)
    assert np.array_equal(model.sample(), model.sample(16, 28, 0)) and model.sample(1, 1).shape == (1, 1, 4)
    for name, also in (("n", []), ("steps", [None])):  # n=None is the default
        for wrong in (0, -3, 1.5, 2.0, "4", *also):
            with pytest.raises(tv.ConfigError, match=f"^{name} must be a whole number of at least 1, got {wrong!r}"):
                model.sample(**{name: wrong})


@pytest.mark.parametrize("options", [{"model": name} for name in MODELS] + [{"posterior": "smoothing"}], ids=str)
def test_a_reconstruction_looks_at_no_padding_and_at_the_noise_given(options):
    model, x, lengths, eps = checks.small("gaussian", **options)
    padding = (np.arange(5)[:, None] >= lengths)[..., None]
    found = model.reconstruct(x, lengths, eps)
    spoiled = model.reconstruct(np.where(padding, 77.0, x), lengths, np.where(padding, -5.0, eps))
    assert np.array_equal(found, spoiled)
    assert np.array_equal(found, model.reconstruct(x, lengths, eps + 1)) == (model.z_dim == 0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("options", [{"model": name} for name in MODELS] + [{"posterior": "smoothing"}], ids=str)
def test_the_number_of_parameters_is_known_before_a_model_is_made(options, likelihood):
    model, *_ = checks.small(likelihood, **options)
    kind, config = type(model), model.config
    assert kind.parameters(config, most=10**6) == model.theta.size
    widest = max(config[name] for name in kind.sizes)
    assert kind.parameters(config, most=widest) == model.theta.size
    with pytest.raises(tv.ConfigError, match="can't be as wide"):
        kind.parameters(config, most=widest - 1)
    older = {name: value for name, value in config.items() if name not in ("cell", "posterior", "components")}
    options = {} if "posterior" not in options else {"posterior": "filtering"}
    as_of_old = kind(**(older | options))
    assert kind.parameters(older, most=10**6) == as_of_old.theta.size


def test_what_a_model_is_unless_told():
    common = {"likelihood": "bernoulli", "dtype": "float32", "seed": 0}
    state = {"cell": "gru"} | common
    latent = {"x_dim": 3, "h_dim": 5, "z_dim": 2, "features": 5, "layers": 2, "posterior": "filtering"} | state
    assert MODELS["vrnn"](3, 5, 2).config == latent == MODELS["vrnn-i"](3, 5, 2).config
    assert MODELS["rnn"](3, 5).config == {"x_dim": 3, "h_dim": 5, "features": 5, "layers": 2} | state
    assert MODELS["vae"](3, 2).config == {"x_dim": 3, "z_dim": 2, "features": 100, "layers": 2} | common
    for model in (MODELS["vrnn"](3, 5, 2), MODELS["rnn"](3, 5), MODELS["vae"](3, 2)):
        assert model.theta.dtype == "float32" and model.units == "nats" and model.medium == {}
        assert model.mean.tolist() == [0, 0, 0] and model.std.tolist() == [1, 1, 1]
    for model in (MODELS["vrnn"](3, 5, 2, likelihood="gmm"), MODELS["rnn"](3, 5, likelihood="gmm")):
        assert model.config["components"] == 20
    assert MODELS["vae"](3, 2, likelihood="gmm").config["components"] == 20


@pytest.mark.parametrize("model", MODELS)
def test_the_weight_of_the_kl_is_1_unless_told_and_a_finite_number(model):
    model, *given = checks.small(model=model)
    assert np.array_equal(model.loss_and_grads(*given)[1], model.loss_and_grads(*given, beta=1.0)[1])
    for wrong in (np.nan, np.inf, 10**400, "1", None, 1j):
        with pytest.raises(tv.ConfigError, match="beta must be a finite number, got "):
            model.loss_and_grads(*given, beta=wrong)
    small = type(model)(**(model.config | {"dtype": "float32"}))
    half = small.loss_and_grads(*given, beta=0.5)
    for beta in (np.float64(0.5), Fraction(1, 2)):
        loss, grads, _ = small.loss_and_grads(*given, beta=beta)
        assert loss == half[0] and np.array_equal(grads, half[1]) and loss.dtype == grads.dtype == "float32"


@pytest.mark.parametrize("recompute", [False, True])
def test_any_real_number_gives_the_same_free_bits_in_the_dtype_of_the_model(recompute):
    model, *given = checks.small(dtype="float32")
    options = {"free_bits": 0.5, "recompute": recompute}
    right = model.loss_and_grads(*given, **options)
    for free_bits in (np.float64(0.5), Fraction(1, 2)):
        loss, grads, _ = model.loss_and_grads(*given, **options | {"free_bits": free_bits})
        assert loss == right[0] and np.array_equal(grads, right[1]) and loss.dtype == grads.dtype == "float32"
    with pytest.raises(tv.ConfigError, match="free_bits must be a number of at least 0, got 1000"):
        model.loss_and_grads(*given, free_bits=10**400)


def test_the_largest_float_is_finite_and_what_no_float_can_hold_is_not():
    most = sys.float_info.max
    assert is_finite(most) and is_finite(-most) and is_finite(Fraction(1, 3))
    assert not any(map(is_finite, (10**400, -(10**400), np.inf, -np.inf, np.nan, True, "1", None)))
    for a in (10**400, np.nan):
        with pytest.raises(tv.ConfigError, match="a must be a finite number"):
            LinearGaussian(a=a)


@pytest.mark.parametrize("model", MODELS)
def test_float64_given_to_a_float32_model_is_computed_in_float32(model):
    model, x, lengths, eps = checks.small("gaussian", model=model, dtype="float32")
    for n in (None, lengths):
        wide = model.loss_and_grads(x.astype("float64"), n, eps.astype("float64"), input_mask=np.ones(x.shape))
        narrow = model.loss_and_grads(x, n, eps)
        assert wide[0] == narrow[0] and np.array_equal(wide[1], narrow[1]) and np.array_equal(wide[2], narrow[2])
        assert {np.asarray(a).dtype for a in (wide[0], wide[1], *wide[2])} == {np.dtype("float32")}


@pytest.mark.parametrize("model", MODELS)
def test_shapes_that_do_not_fit_are_refused_by_name(model):
    model, x, lengths, eps = checks.small("gaussian", model=model)
    for shape in ((5, 4, 3), (5, 4, 5), (0, 4, 4), (5, 0, 4), (5, 4, 4, 1)):
        with pytest.raises(tv.DataError, match=r"Expected x of shape \(T, B, 4\)"):
            model.loss_and_grads(np.zeros(shape), None, np.zeros((*shape[:2], model.z_dim)))
    for wrong, says in ((eps[:4], r"got \(4, 4, "), (eps[:4].tolist(), r"got \(4, 4, ")):
        with pytest.raises(tv.DataError, match=rf"Expected eps of shape \(5, 4, {model.z_dim}\) .* {says}"):
            model.loss_and_grads(x, lengths, wrong)
    for wrong, says in ((x[:4], r"got \(4, 4, 4\)"), (x[:4].tolist(), r"got \(4, 4, 4\)")):
        with pytest.raises(tv.DataError, match=rf"Expected input_mask of shape \(5, 4, 4\) as x, {says}"):
            model.loss_and_grads(x, lengths, eps, input_mask=wrong)


@pytest.mark.parametrize("model, name", [*((model, "input_mask") for model in MODELS), ("vrnn", "eps"), ("vae", "eps")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_beside_the_data_must_be_finite(model, name, value):
    model, x, lengths, eps = checks.small("gaussian", model=model)
    arrays = {"eps": eps, "input_mask": np.ones(x.shape)}
    arrays[name][-1, int(np.argmin(lengths))] = value  # the padding does not count
    assert np.isfinite(model.loss_and_grads(x, lengths, **arrays)[0])
    arrays[name][0, 0] = value
    with pytest.raises(tv.DataError, match=f"{name} holds NaN or infinite values"):
        model.loss_and_grads(x, lengths, **arrays)


def test_parts_of_float32_are_summed_with_all_digits():
    log_p = np.array([[2.0**24], [1], [1], [9]], "float32")
    mask = np.array([[1], [1], [1], [0]], "float32")
    parts = bound_terms(log_p, 0 * log_p + 3, mask)
    assert [part.tolist() for part in parts] == [[2**24 - 7], [9], [2**24 + 2]]
    assert {part.dtype for part in parts} == {np.dtype("float32")}


@checks.on_device
@pytest.mark.parametrize("model", MODELS)
def test_lengths_are_whole_numbers_from_1_to_t_in_any_container(model):
    model, x, lengths, eps = checks.small("gaussian", model=model)
    expected = model.loss_and_grads(x, lengths, eps)
    for same in (lengths.tolist(), tuple(lengths), lengths.astype("uint8"), *checks.device(checks.DEVICE, lengths)):
        found = model.loss_and_grads(x, same, eps)
        assert found[0] == expected[0] and np.array_equal(found[1], expected[1])
    for wrong in (
        [5, 1, 2],
        [5, 1, 2, 3, 3],
        [5, 0, 2, 3],
        [5, -1, 2, 3],
        [5, 6, 2, 3],
        [5.0, 1.0, 2.0, 3.0],
        [[5, 1, 2, 3]],
    ):
        for given in (wrong, np.array(wrong)):
            with pytest.raises(tv.DataError, match=r"lengths of shape \(4,\), whole numbers from 1 to 5"):
                model.loss_and_grads(x, given, eps)


@pytest.mark.parametrize("model", MODELS)
def test_values_that_can_not_be_reckoned_with_are_refused_on_either_side(model):
    model, x, *_ = checks.small("gaussian", model=model)
    for value, says in ((2e12, "x reaches from"), (-2e12, "x reaches from -2e"), (np.inf, "NaN"), (-np.inf, "NaN")):
        wrong = x.copy()
        wrong[1, 2, 3] = value
        with pytest.raises(tv.DataError, match=says):
            model.elbo(wrong)
    for wrong in (x.astype(complex), x.astype("U8"), x.astype(object)):
        with pytest.raises(tv.DataError, match="x has values of type .* real numbers are needed"):
            model.elbo(wrong)
    for same in (x.astype("float16"), np.round(x).astype(int), np.round(x).astype("uint8"), x > 0.5):
        assert np.isfinite(model.elbo(same)).all()


@pytest.mark.parametrize("model", MODELS)
def test_other_dtypes_are_refused_by_name(model):
    model, *_ = checks.small("gaussian", model=model)
    for wrong in ("float16", "int32", "float128", int, None):
        with pytest.raises(tv.ConfigError, match=rf'dtype must be "float32" or "float64", got {wrong!r}'):
            type(model)(**(model.config | {"dtype": wrong}))


@pytest.mark.parametrize("options", [{"model": name} for name in MODELS] + [{"posterior": "smoothing"}], ids=str)
def test_parts_of_a_ragged_batch_are_those_of_each_sequence(options):
    model, x, lengths, eps = checks.small("gaussian", **options)
    found = model.parts(x, lengths, eps)
    for b, n in enumerate(lengths):
        alone = model.parts(x[:n, b : b + 1], None, eps[:n, b : b + 1])
        checks.assert_close([part[b] for part in found], [part[0] for part in alone], 1e-12, "parts")


def test_a_call_that_is_refused_uses_no_noise():
    losses = []
    for refused in ({}, {"beta": np.nan}, {"bound": "elob"}):
        model, x, *_ = checks.small()
        if refused:
            with pytest.raises(tv.ConfigError):
                model.loss_and_grads(x, **refused)
            with pytest.raises(tv.DataError):
                model.loss_and_grads(x[0])
        losses.append(float(model.loss_and_grads(x)[0]))
    assert len(set(losses)) == 1


def test_a_vae_takes_a_dropout_mask_of_single_steps():
    model, x, _, eps = checks.small(model="vae")
    mask = 2.0 * (checks.rng().random(x.shape) < 0.5)
    one = model.loss_and_grads(x[0], None, eps[0], input_mask=mask[0])
    assert one[0] == model.loss_and_grads(x[:1], None, eps[:1], input_mask=mask[:1])[0]


# ---- what a user can replace, and copies ---------------------------------------------------------


def a_model(backend="numpy", **options):
    model = tv.VRNN(2, 3, 2, likelihood="gmm", components=2, layers=1, backend=backend, **options)
    model.mean, model.std, model.units, model.medium = [1.0, 2.0], [2.0, 3.0], "nats", {"name": "ink"}
    return model


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize(
    "assign",
    [
        lambda model, b: model.params["prior"].__setitem__("b1", b),
        lambda model, b: model.params["prior"].update(b1=b),
        lambda model, b: model.params.update(prior=dict(model.params["prior"]) | {"b1": b}),
        lambda model, b: model.params.__ior__({"prior": dict(model.params["prior"]) | {"b1": b}}),
        lambda model, b: model.params.__setitem__("prior", dict(model.params["prior"]) | {"b1": b}),
        lambda model, b: model.params["prior"]["b1"].__setitem__(slice(None), b),
    ],
)
def test_an_assigned_leaf_stays_a_part_of_theta(assign, backend):
    model = a_model(backend)
    b = model.backend.asarray(np.arange(3, dtype="float32"))
    before = to_host(model.theta).copy()
    assign(model, b)
    after = to_host(model.theta)
    assert (to_host(model.params["prior"]["b1"]) == [0, 1, 2]).all() and (before != after).sum() == 2
    model.theta[...] = 0
    assert not to_host(model.params["prior"]["b1"]).any(), "and a view of it"


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda m: m.params["prior"].__setitem__("b1", np.ones(4)),
            r'params\["prior"\]\["b1"\] has shape \(3,\), got \(4,\)',
        ),
        (lambda m: m.params["prior"].__setitem__("b1", 1.0), r"has shape \(3,\), got \(\)"),
        (lambda m: m.params["prior"].__setitem__("b1", np.ones(3) * 1j), "has values of type complex128"),
        (lambda m: m.params["prior"].__setitem__("b1", [np.nan] * 3), "must hold finite numbers"),
        (lambda m: m.params["prior"].__setitem__("b1", [1e300] * 3), "must hold finite numbers of float32"),
        (lambda m: m.params["prior"].__setitem__("b9", np.ones(3)), r'params\["prior"\] has no "b9": it has W1, b1'),
        (lambda m: m.params.__setitem__("prior", np.ones(3)), r'params\["prior"\] can only be replaced by a dict of'),
        (lambda m: m.params.__setitem__("prior", {"W1": 0}), r'params\["prior"\] can only be replaced by a dict of'),
        (lambda m: m.params["prior"].pop("b1"), "are views of theta, and none can be removed or added"),
        (lambda m: m.params["prior"].__delitem__("b1"), "are views of theta"),
        (lambda m: m.params.clear(), "are views of theta"),
        (lambda m: m.params.popitem(), "are views of theta"),
        (lambda m: m.params.setdefault("other", {}), "are views of theta"),
        (lambda m: setattr(m, "params", {}), "params of a vrnn cannot be replaced"),
        (lambda m: setattr(m, "h_dim", 5), "h_dim of a vrnn cannot be replaced"),
        (lambda m: setattr(m, "dtype", "float64"), "dtype of a vrnn cannot be replaced"),
        (lambda m: setattr(m, "backend", None), "backend of a vrnn cannot be replaced"),
        (lambda m: setattr(m, "theta", m.theta[:-1]), "theta has shape"),
        (lambda m: setattr(m, "theta", m.theta * np.float32(np.nan)), "theta must hold finite numbers"),
        (lambda m: setattr(m, "mean", [1.0]), r"mean of a vrnn has shape \(2,\), got \(1,\)"),
        (lambda m: setattr(m, "std", [1.0, -0.5]), "std of a vrnn must hold no negative numbers"),
        (lambda m: setattr(m, "units", 3), "units of a vrnn must be a str, got int"),
        (lambda m: setattr(m, "medium", "ink"), "medium of a vrnn must be a dict, got str"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change, says):
    model = a_model()
    before = model.theta.copy()
    with pytest.raises(tv.TinyvrnnError, match=says):
        change(model)
    assert (model.theta == before).all() and model.params["prior"]["b1"].base is not None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.one_in(7)
def test_a_copy_is_the_same_model_and_shares_nothing(copied, backend, kind, likelihood):
    sizes = {"x_dim": 3, "h_dim": 3, "z_dim": 2, "features": 2, "layers": 1}
    sizes = {name: size for name, size in sizes.items() if name in MODELS[kind].sizes}
    model = MODELS[kind](**sizes, likelihood=likelihood, components=2, backend=backend, seed=4)
    model.mean, model.medium = [1.0, 2.0, 3.0], {"name": "ink"}
    again = copied(model)
    assert type(again) is type(model) and again.config == model.config and repr(again) == repr(model)
    assert again.backend is model.backend and (again.mean == model.mean).all() and again.medium == model.medium
    x = np.tile(np.float32([0, 0, 1]), (2, 2, 1))
    eps = np.ones((2, 2, model.z_dim), "float32") if model.z_dim else None
    first, second = (m.loss_and_grads(x, None, eps) for m in (model, again))
    assert float(first[0]) == float(second[0]) and (to_host(first[1]) == to_host(second[1])).all()
    again.theta[...] = 0
    again.mean[...], again.medium["name"] = 0, "sound"
    assert to_host(model.theta).any() and model.mean.all() and model.medium == {"name": "ink"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda params: pickle.loads(pickle.dumps(params))])
def test_a_copy_of_the_parameters_is_a_plain_dict_of_its_own(copied):
    model = a_model()
    params, before = copied(model.params), model.theta.copy()
    params["prior"]["more"] = params["prior"].pop("b1")
    params["prior"]["W1"] += 1
    assert type(params) is dict and (model.theta == before).all() and "b1" in model.params["prior"]


def test_a_model_goes_to_another_process():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        again = pool.submit(copy.copy, a_model()).result()
    assert (again.theta == a_model().theta).all()


def test_threads_without_eps_draw_different_noise():
    model = tv.VRNN(2, 3, 2, likelihood="gaussian", layers=1)
    x = np.ones((3, 2, 2), "float32")
    with ThreadPoolExecutor(4) as pool:
        losses = [float(result[0]) for result in pool.map(lambda _: model.loss_and_grads(x), range(40))]
    again = tv.VRNN(2, 3, 2, likelihood="gaussian", layers=1)
    assert len(set(losses)) == 40 and sorted(losses) == sorted(float(again.loss_and_grads(x)[0]) for _ in range(40))
