"""The bounds that weight several draws of z, against exact answers, a plain rewrite, and numeric gradients.

Catches: weights that use the analytic KL, a mean of logs instead of a log of means, weights kept after resampling,
biased resampling, sequences that continue after their end, gradients that ignore the weights or follow the wrong
ancestors, noise that depends on the number of particles, memory that grows with K.
"""

import math
import statistics
import tracemalloc

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds
from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import backend_of, get_backend, to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.arrays.strict import transfers
from tinyvrnn.bounds import estimates
from tinyvrnn.data import pad
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models import filtering, particles, schedule, stepwise
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models.batch import BoundTerms, copies

BOTH = ("iwae", "fivo")
both = pytest.mark.parametrize("likelihood", LIKELIHOODS)


# ---- against exact answers -----------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["filtering", "filtering mean, smoothing variance", "prior"])
def test_bounds_are_in_order(posterior):
    checks.bounds_are_in_order(posterior, T=6 if posterior == "prior" else 20)


@pytest.mark.parametrize("K", [1, 2, 7])
def test_the_true_posterior_leaves_no_gap_and_no_variance(K):
    """For IWAE. A particle filter resamples by the steps so far, which cancels what q knows of the future."""
    model, x = lg.LinearGaussian(posterior="smoothing"), checks.rng().standard_normal((8, 3, 1))
    exact = model.log_prob(x, [8, 1, 5])
    checks.assert_close(bounds.iwae(model, x, np.array([8, 1, 5]), K), exact, 1e-12, "IWAE")
    long = 3 * lg.sine(60)
    assert float(bounds.fivo(model, long, None, 7)[0]) != pytest.approx(float(model.log_prob(long)[0]), rel=1e-6)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("bound", BOTH)
@pytest.mark.parametrize("posterior", ["prior", "filtering"])
@pytest.mark.parametrize("K", [2, 5])
def test_the_estimate_of_p_is_unbiased(bound, posterior, K):
    checks.estimate_is_unbiased(bound, posterior, K=K)


def test_resampling_happens_in_the_test_of_its_unbiasedness():
    model, x = lg.LinearGaussian(posterior="prior"), np.tile(lg.sine(4), (1, 500, 1))
    found = [getattr(bounds, bound)(model, x, None, 4, seed=1) for bound in BOTH]
    assert np.mean(found[0] != found[1]) > 0.3


@pytest.mark.parametrize("posterior", ["prior", "filtering"])
def test_fivo_is_closer_than_iwae_for_a_long_sequence(posterior, n=300, T=60, K=16):
    model, x = lg.LinearGaussian(posterior=posterior), np.tile(lg.sine(T), (1, n, 1))
    exact = float(model.log_prob(x[:, :1])[0])
    fivo, iwae = (getattr(bounds, bound)(model, x, None, K) for bound in ("fivo", "iwae"))
    gain = fivo - iwae
    assert gain.mean() > 4 * gain.std() / math.sqrt(n)
    assert fivo.mean() < exact + 4 * fivo.std() / math.sqrt(n)
    assert exact - fivo.mean() < 0.6 * (exact - iwae.mean())


def test_one_particle_of_iwae_and_of_fivo_is_the_same_draw():
    model, x, lengths, *_ = checks.small_with_particles()
    checks.assert_close(bounds.fivo(model, x, lengths, 1), bounds.iwae(model, x, lengths, 1), 1e-12, "one particle")


# ---- against a plain rewrite, and numeric gradients ----------------------------------------------


@pytest.mark.one_in(3)
@both
@pytest.mark.parametrize("bound", BOTH)
def test_loss_and_gradient_equal_the_plain_rewrite(bound, likelihood):
    checks.particle_bound_equals_plain_rewrite(bound, likelihood)


@pytest.mark.parametrize(
    "likelihood",
    ["gaussian", "gmm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bernoulli", "categorical", "pen"))],
)
@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
@pytest.mark.parametrize("bound", BOTH)
@pytest.mark.one_in(2)
def test_gradients_equal_numeric_ones(bound, likelihood, backend):
    checks.particle_bound_gradients(bound, likelihood, backend)


@both
@pytest.mark.one_in(3)
def test_gradient_of_fivo_with_its_ancestors_held_fixed_equals_the_numeric_one(likelihood, beta=0.7):
    """With fixed choices a central difference cannot cross a resampling threshold."""
    from tinyvrnn.gradcheck import compare, numerical_gradient

    model, x, lengths, eps, uniforms = checks.small_with_particles(likelihood, T=4, B=3, K=3)
    choices = checks.choices_of(model, x, lengths, eps, uniforms)
    assert sum(c.again.sum() for c in choices) > 1
    wide, eps, mask = checks.particles_of(model, x, lengths, eps)
    d = checks.rng(1).standard_normal(3)

    def forward(_=None):
        return filtering.filter_forward(
            model.params, wide, eps, mask, None, model.likelihood, beta=beta, choices=choices
        )

    grads = dict(leaves(filtering.filter_backward(model.params, forward()[1], d, model.likelihood, beta=beta)))
    for name, leaf in leaves(model.params):
        compare(name, grads[name], numerical_gradient(lambda _: float((d * forward()[0]).sum()), leaf), 1e-6)


@both
def test_the_literal_steps_give_the_same_log_ratios_and_gradients(likelihood):
    model, x, _, eps = checks.small(likelihood)
    dlog_p, dratio = checks.rng(1).standard_normal((2, *x.shape[:2]))
    results = []
    for module in (schedule, stepwise):
        log_p, ratio, cache = module.sequence_forward(model.params, x, eps, model.likelihood, sampled=True)
        grads = module.sequence_backward(model.params, cache, dlog_p, dratio, model.likelihood, sampled=True)
        results.append((log_p, ratio, grads))
    checks.assert_close(results[0][1], results[1][1], 1e-12, "log ratio")
    checks.assert_same_tree({group: results[0][2][group] for group in results[1][2]}, results[1][2], 1e-12)


def test_log_ratio_equals_two_densities_and_its_mean_the_kl():
    checks.log_ratio_monte_carlo()


def test_one_particle_of_iwae_has_the_elbos_gradient_on_average(n=300):
    """E of the sampled loss's gradient is E of the ELBO's: entries by entry, within 5 standard errors of many draws."""
    model, x, lengths, _ = checks.small(T=3, B=2)
    eps = checks.rng(3).standard_normal((n, 3, 2, 1, 2))
    difference = np.stack(
        [
            model.loss_and_grads(x, lengths, e, bound="iwae")[1] - model.loss_and_grads(x, lengths, e[:, :, 0])[1]
            for e in eps
        ]
    )
    moved = np.abs(difference).max(axis=0) > 1e-12
    assert moved.mean() > 0.2
    checks.assert_mean(difference[:, moved], 0.0, "difference of gradients", z=5.0)


# ---- resampling ----------------------------------------------------------------------------------


def test_systematic_resampling_keeps_the_shares():
    checks.resampled_shares()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resampling_stays_in_range_at_the_ends(dtype):
    shares = np.array([[0.1] * 10, [0, 0, 1, *[0] * 7], [1, *[0] * 9], [*[0] * 9, 1]], dtype)
    for u in (0.0, 0.5, np.nextafter(np.array(1, dtype), 0)):
        ancestors = particles.systematic(shares, np.full(4, u, dtype))
        assert ancestors.min() >= 0 and ancestors.max() <= 9
        assert np.all(ancestors[1] == 2) and np.all(ancestors[2] == 0) and np.all(ancestors[3] == 9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_point_above_the_rounded_sum_of_the_shares_still_has_an_ancestor(dtype, K=7):
    shares = checks.rng().random((2000, K)).astype(dtype)
    shares /= shares.sum(axis=1, keepdims=True)
    assert np.any(shares.cumsum(axis=1)[:, -1] < 1) and np.any(shares.cumsum(axis=1)[:, -1] > 1)
    ancestors = particles.systematic(shares, np.full(2000, np.nextafter(1.0, 0)))
    assert ancestors.max() == K - 1 and ancestors.min() >= 0


def test_choices_that_are_given_are_taken_again():
    model, x, lengths, eps, uniforms = checks.small_with_particles()
    wide, eps, mask = checks.particles_of(model, x, lengths, eps)
    given = (model.params, wide, eps, mask)
    expected, cache = particles.filter_forward(*given, uniforms, model.likelihood)
    assert any(choice.again.any() for choice in cache.choices)
    assert np.array_equal(particles.filter_forward(*given, None, model.likelihood, choices=cache.choices)[0], expected)


@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"posterior": "smoothing"}, {"model": "vrnn-i"}], ids=str)
def test_the_batched_filter_is_the_literal_one(options, dtype, backend):
    model, x, lengths, eps, uniforms = checks.small_with_particles(dtype=dtype, backend=backend, T=9, **options)
    given = (model.params, *checks.particles_of(model, x, lengths, eps), model.backend.asarray(uniforms.astype(dtype)))
    expected, literal = particles.filter_forward(*given, model.likelihood)
    found, cache = filtering.filter_forward(*given, model.likelihood)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    checks.assert_close(to_host(found), to_host(expected), tolerance, "estimate")
    assert sum(int(choice.again.sum()) for choice in literal.choices) > 3
    for one, other in zip(cache.choices, literal.choices, strict=True):
        assert np.array_equal(to_host(one.again), to_host(other.again))
        assert np.array_equal(to_host(one.ancestors), to_host(other.ancestors))
    for one, other in zip(cache.shares, literal.shares, strict=True):
        checks.assert_close(to_host(one), to_host(other), tolerance, "shares")


@pytest.mark.parametrize("posterior", ["filtering", "smoothing"])
@pytest.mark.parametrize("bound", BOTH)
def test_what_is_dropped_is_not_read_and_is_scored(bound, posterior):
    """With weights of phi_x for one column only, dropping the others changes nothing; dropping that one does."""
    model, x, lengths, eps, uniforms = checks.small_with_particles(posterior=posterior)
    model.params["phi_x"]["W1"][1:] = 0
    others, seen = np.ones_like(x), np.ones_like(x)
    others[..., 1:], seen[..., :1] = 0, 0
    losses = [
        float(model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms, input_mask=keep)[0])
        for keep in (None, others, 3 * others, seen)
    ]
    assert losses[0] == losses[1] and len(set(losses)) == 3
    model.params["phi_x"]["W1"][0] *= 3  # to read three times as much is to have weights three times as large
    tripled = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms, input_mask=others)[0]
    assert float(tripled) == pytest.approx(losses[2], rel=1e-12)


@pytest.mark.parametrize("bound", BOTH)
def test_the_terms_are_the_elbos_of_the_first_particle_without_dropout(bound):
    model, x, lengths, eps, uniforms = checks.small_with_particles()
    given = {"bound": bound, "uniforms": uniforms, "input_mask": 2.0 * (x > 0.5)}
    terms = model.loss_and_grads(x, lengths, eps, **given)[2]
    assert np.array_equal(terms, model.parts(x, lengths, eps[:, :, 0]))


@pytest.mark.parametrize("bound", BOTH)
def test_particles_hold_no_second_copy_of_x_and_no_cache_of_the_elbo(bound):
    """The peak of one particle of IWAE or FIVO is below twice that of the ELBO."""
    model, x, rng = tv.VRNN(64, 16, 4), np.zeros((60, 20, 64), "float32"), checks.rng()
    eps, uniforms = rng.standard_normal((60, 20, 1, 4)).astype("float32"), rng.random((60, 20))
    peaks = []
    for given in ({"eps": eps[:, :, 0]}, {"eps": eps, "bound": bound, "uniforms": uniforms}):
        model.loss_and_grads(x, **given)
        tracemalloc.start()
        model.loss_and_grads(x, **given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_a_sequence_is_resampled_below_half_its_particles_and_while_it_lasts():
    shares = np.array([[0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0, 0]])
    again, ancestors = particles.choose(shares, np.full(4, 0.5), np.array([1.0, 1.0, 0.0, 1.0]))
    assert again.tolist() == [False, True, False, False]  # an effective number of exactly K / 2 is enough
    assert ancestors.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_log_mean_exp_in_log_space():
    log_w = np.array([[-1e4, -1e4 + math.log(3.0)], [1e4, 1e4], [0.0, -1e4]])
    checks.assert_close(
        particles.log_mean_exp(log_w), [-1e4 + math.log(2), 1e4, -math.log(2)], 1e-15, "log mean exp"
    )  # fmt: skip
    checks.assert_close(particles.shares_of(log_w), [[0.25, 0.75], [0.5, 0.5], [1, 0]], 1e-11, "shares")


# ---- invariances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [0.0, 0.7, np.nan])
@pytest.mark.parametrize("bound", BOTH)
@pytest.mark.parametrize("linear", [False, True])
def test_a_sequence_that_ended_no_longer_changes(bound, garbage, linear):
    checks.ended_sequences_stay(bound, garbage, linear)


@pytest.mark.parametrize("bound", BOTH)
def test_how_much_is_computed_at_once_changes_nothing(bound, monkeypatch):
    model, x, lengths, *_ = checks.small_with_particles()
    whole = getattr(bounds, bound)(model, x, lengths, 7)
    for rows in (1, 45, 60):
        monkeypatch.setattr(estimates, "ROWS_AT_ONCE", rows)
        checks.assert_close(getattr(bounds, bound)(model, x, lengths, 7), whole, 1e-12, bound)


def test_memory_does_not_grow_with_the_particles(monkeypatch):
    model, x, lengths, *_ = checks.small_with_particles()
    widths, forward = [], schedule.sequence_forward
    monkeypatch.setattr(estimates, "ROWS_AT_ONCE", 60)
    monkeypatch.setattr(
        schedule, "sequence_forward", lambda p, x, *a, **k: widths.append(x.shape[1]) or forward(p, x, *a, **k)
    )
    bounds.iwae(model, x, lengths, 10)
    assert widths == [12, 12, 12, 4]  # 4 sequences of 5 steps: three particles at once


def test_more_particles_keep_the_noise_of_the_first():
    model, x, lengths, *_ = checks.small_with_particles()
    few, many = (estimates.particle_noise(model, x, range(k), 3, "particles") for k in (2, 5))
    assert np.array_equal(many[:, :, :2], few) and len({a.tobytes() for a in np.moveaxis(many, 2, 0)}) == 5


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_what_a_bound_draws_is_made_on_the_device(bound):
    model, x, *_ = checks.small_with_particles(backend="strict")
    (x,) = checks.device("strict", x)
    transfers.reset()
    if bound != "elbo":
        getattr(bounds, bound)(model, x, None, 4)
    model.loss_and_grads(x, bound=bound, particles=3)
    assert transfers.total == 0


@checks.on_device
@pytest.mark.parametrize("chunk", [None, 2])
def test_what_an_evaluation_draws_is_made_on_the_device(chunk, monkeypatch):
    model, x, lengths, _ = checks.small(backend=checks.DEVICE)
    method, drawn = "parts" if chunk is None else "chunk_parts", []
    right = getattr(model, method)
    monkeypatch.setattr(
        model, method, lambda x, lengths, eps, *state: drawn.append(eps) or right(x, lengths, eps, *state)
    )
    bounds.evaluate_elbo(model, tv.Sequences.from_list([x[:n, b] for b, n in enumerate(lengths)]), chunk=chunk)
    assert {backend_of(eps).name for eps in drawn} == {checks.DEVICE}


@pytest.mark.parametrize("bound", BOTH)
@checks.on_device
def test_a_device_gives_the_bounds_of_numpy(bound):
    (model, x, lengths, *_), (there, *_) = (checks.small_with_particles(backend=b) for b in checks.BACKENDS)
    found = getattr(bounds, bound)(there, x, lengths, 4)
    checks.assert_close(to_host(found), getattr(bounds, bound)(model, x, lengths, 4), 1e-12, bound)
    linear, x = lg.LinearGaussian(posterior="prior"), checks.rng().standard_normal((5, 4, 1))
    found = getattr(bounds, bound)(linear, get_backend(checks.DEVICE).asarray(x), lengths, 4)
    checks.assert_close(to_host(found), getattr(bounds, bound)(linear, x, lengths, 4), 1e-12, bound)
    eps = checks.rng(1).standard_normal((5, 4, 1))
    found = linear.elbo(get_backend(checks.DEVICE).asarray(x), lengths, eps)
    checks.assert_close(to_host(found), linear.elbo(x, lengths, eps), 1e-12, "elbo")


@both
@pytest.mark.parametrize("bound", BOTH)
def test_float32_stays_float32_and_near_float64(bound, likelihood):
    model, x, lengths, eps, uniforms = checks.small_with_particles(likelihood)
    narrow = tv.VRNN(**(model.config | {"dtype": "float32"}))
    narrow.theta[...] = model.theta
    given = [a.astype("float32") for a in (x, eps, uniforms)]
    loss, grads, parts = narrow.loss_and_grads(given[0], lengths, given[1], bound=bound, uniforms=given[2])
    assert {np.asarray(a).dtype for a in (loss, grads, *parts)} == {np.dtype("float32")}
    wide = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms)
    checks.assert_close(loss, wide[0], 1e-5, "loss")
    checks.assert_close(grads, wide[1], 1e-4, "gradient")


def test_a_number_drawn_to_resample_with_may_round_to_1():
    seed, shape = 777, (20, 500)
    assert noise.uniform(shape, "float32", seed, "particles resampled").max() == 1
    found = bounds.fivo(tv.VRNN(1, 1, 1), np.zeros((*shape, 1)), particles=2, seed=seed)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("bound", BOTH)
@pytest.mark.parametrize("count", [3, 6])
def test_lengths_of_other_sequences_are_refused_before_x_is_cut(bound, count, monkeypatch):
    model, x, *_ = checks.small_with_particles()
    for at_once in (1, 4):
        monkeypatch.setattr(estimates, "ROWS_AT_ONCE", at_once * 5 * 2)
        with pytest.raises(DataError, match=r"Expected lengths of shape \(4,\), whole numbers from 1 to 5"):
            getattr(bounds, bound)(model, x, np.full(count, 5), particles=2)


def test_uniforms_without_eps_are_taken():
    model, x, lengths, _, uniforms = checks.small_with_particles()
    again = tv.VRNN(**model.config)
    again.theta = model.theta
    eps = noise.standard_normal((*x.shape[:2], 3, 2), "float64", model.seed, "loss_and_grads", 0)
    right = again.loss_and_grads(x, lengths, eps, bound="fivo", uniforms=uniforms)
    found = model.loss_and_grads(x, lengths, bound="fivo", particles=3, uniforms=uniforms)
    assert found[0] == right[0] and np.array_equal(found[1], right[1])
    with pytest.raises(DataError, match="uniforms holds 5"):
        model.loss_and_grads(x, lengths, bound="fivo", particles=3, uniforms=np.full(uniforms.shape, 5.0))


def test_drawn_noise_is_fresh_in_each_call_of_loss_and_grads():
    model, x, lengths, *_ = checks.small_with_particles()
    losses = {float(model.loss_and_grads(x, lengths, bound=b, particles=3)[0]) for b in BOTH for _ in range(2)}
    assert len(losses) == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bound", BOTH)
def test_drawn_noise_of_particles_is_at_the_address_of_the_call(bound, dtype):
    model, x, lengths, *_ = checks.small_with_particles(dtype=dtype)
    again = tv.VRNN(**model.config)
    again.theta = model.theta
    for number in range(2):
        eps = noise.standard_normal((*x.shape[:2], 3, 2), dtype, model.seed, "loss_and_grads", number)
        uniforms = noise.generator(model.seed, "resample", number).random(x.shape[:2])
        expected = again.loss_and_grads(x, lengths, eps, 0.7, bound, uniforms=uniforms)
        loss, grads, parts = model.loss_and_grads(x, lengths, beta=0.7, bound=bound, particles=3)
        assert loss == expected[0] and np.array_equal(grads, expected[1]) and np.array_equal(parts, expected[2])
        assert np.array_equal(parts, again.parts(x, lengths, eps[:, :, 0]))
    one = model.loss_and_grads(x, lengths, bound=bound)
    eps = noise.standard_normal((*x.shape[:2], 1, 2), dtype, model.seed, "loss_and_grads", 2)
    uniforms = noise.generator(model.seed, "resample", 2).random(x.shape[:2])
    assert one[0] == again.loss_and_grads(x, lengths, eps, 1.0, bound, uniforms=uniforms)[0], "one particle, beta 1"


@pytest.mark.parametrize("posterior", ["filtering", "smoothing"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bound", BOTH)
def test_the_pairs_behind_a_bound_keep_the_dtype_and_weigh_the_ratio_by_1(bound, dtype, posterior):
    model, x, lengths, eps, uniforms = checks.small_with_particles(dtype=dtype, posterior=posterior)
    wide, wide_eps, mask = checks.particles_of(model, x, lengths, eps)
    given = (model.params, wide, wide_eps, mask)
    for beta, told in ((1.0, {}), (0.3, {"beta": 0.3})):
        if bound == "iwae":
            found, cache = particles.importance_forward(*given, model.likelihood, **told)
            backward = particles.importance_backward
        else:
            found, cache = filtering.filter_forward(*given, uniforms.astype(dtype), model.likelihood, **told)
            backward = filtering.filter_backward
        grads = backward(model.params, cache, np.full(4, -0.25, dtype), model.likelihood, **told)
        assert {leaf.dtype for _, leaf in leaves(grads)} == {found.dtype} == {np.dtype(dtype)}
        loss, expected, _ = model.loss_and_grads(x, lengths, eps, beta, bound, uniforms=uniforms)
        checks.assert_close(-found.mean(), loss, 1e-6 if dtype == "float32" else 1e-14, "loss")
        checks.assert_same_tree(grads, views(expected, model.shapes), 1e-5 if dtype == "float32" else 1e-13)
    with pytest.raises(
        DataError, match=r"Expected eps of shape \(5, 4, 1, 2\), axis 2 being the particles, got \(5, 4, 2\)"
    ):
        model.loss_and_grads(x, lengths, eps[:, :, 0], bound=bound, uniforms=uniforms)


def test_copies_stand_side_by_side_in_the_dtype_of_what_is_copied():
    for dtype in ("float32", "float64", "int64"):
        a = np.arange(12).reshape(2, 3, 2).astype(dtype)
        wide = copies(a, 4)
        assert wide.dtype == dtype and wide.tolist() == np.repeat(a, 4, axis=1).tolist()


@pytest.mark.parametrize("bound", BOTH)
def test_no_lengths_are_whole_lengths_and_recomputation_is_refused_for_particles(bound):
    model, x, _, eps, uniforms = checks.small_with_particles()
    whole, none = (
        model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms) for lengths in (np.full(4, 5), None)
    )
    assert whole[0] == none[0] and np.array_equal(whole[1], none[1])
    with pytest.raises(ConfigError, match=f"recompute is for the bound elbo, got {bound}"):
        model.loss_and_grads(x, None, eps, bound=bound, uniforms=uniforms, recompute=True)


@pytest.mark.parametrize("bound", BOTH)
def test_one_step_down_the_gradient_lowers_the_loss(bound):
    model, x, lengths, eps, uniforms = checks.small_with_particles()
    loss, grads, _ = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms)
    model.theta -= 1e-4 * grads
    lower = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms)[0]
    assert abs(lower - (loss - 1e-4 * float(grads @ grads))) < 0.05e-4 * float(grads @ grads)


# ---- over a set ----------------------------------------------------------------------------------


def chains(n=40, lengths=(3, 8)):
    """Sequences drawn from the linear-Gaussian model."""
    draw, found = checks.rng(7), []
    for i in range(n):
        z, x = draw.standard_normal(), []
        for _ in range(lengths[i % len(lengths)]):
            x.append([z + math.sqrt(0.5) * draw.standard_normal()])
            z = 0.9 * z + math.sqrt(0.5) * draw.standard_normal()
        found.append(np.array(x))
    return tv.Sequences.from_list(found)


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_evaluation_says_what_it_is_and_is_a_bound(bound):
    sequences = chains()
    exact = np.mean([float(lg.LinearGaussian().log_prob(s[:, None])[0]) for s in sequences])
    found = bounds.evaluate(lg.LinearGaussian(posterior="filtering"), sequences, bound, 3, batch_size=7)
    assert (found.bound, found.particles, found.sequences, found.steps) == (f"{bound}-3", 3, 40, 220)
    assert exact - 1 < found.per_sequence < exact + 4 * found.standard_error_draws
    assert 0 < found.standard_error_draws < found.standard_error


def test_evaluation_with_the_true_posterior_is_exact_with_its_units():
    sequences = chains()
    exact = [float(lg.LinearGaussian().log_prob(s[:, None])[0]) for s in sequences]
    found = bounds.evaluate(lg.LinearGaussian(posterior="smoothing"), sequences, "iwae", 3, batch_size=7)
    assert found.per_sequence == pytest.approx(np.mean(exact), rel=1e-12)
    assert found.per_step == pytest.approx(np.sum(exact) / 220, rel=1e-12)
    assert found.standard_error == pytest.approx(np.std(exact, ddof=1) / math.sqrt(40), rel=1e-9)
    assert found.standard_error_draws < 1e-12


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_the_standard_error_of_the_draws_is_how_evaluations_differ(bound):
    model, sequences = lg.LinearGaussian(posterior="filtering"), chains()
    found = [bounds.evaluate(model, sequences, bound, 2, seed=s) for s in range(60)]
    spread = np.std([f.per_sequence for f in found], ddof=1)
    claimed = math.sqrt(np.mean([f.standard_error_draws**2 for f in found]))
    assert 0.6 < spread / claimed < 1.5  # 60 evaluations give their spread to about 10 %


def test_evaluation_of_a_vrnn_rises_from_bound_to_bound():
    model, *_ = checks.small_with_particles()
    sequences = tv.Sequences.from_list([(checks.rng(i).random((6, 4)) < 0.5).astype(float) for i in range(30)])
    elbo, iwae = (bounds.evaluate(model, sequences, b, k) for b, k in (("elbo", 1), ("iwae", 32)))
    assert iwae.per_sequence > elbo.per_sequence + 4 * math.hypot(elbo.standard_error_draws, iwae.standard_error_draws)
    assert bounds.evaluate(model, sequences, "iwae", 32) == iwae, "the same seed gives the same number"


def test_standard_error_of_the_elbo_is_that_of_its_sequences():
    model, x, lengths, _ = checks.small()
    sequences = tv.Sequences.from_list([x[:n, b] for b, n in enumerate(lengths)])
    found = bounds.evaluate_elbo(model, sequences)
    x, lengths = pad(tv.Sequences.from_list(sorted(sequences, key=len)), dtype="float64")
    eps = noise.standard_normal((*x.shape[:2], 2), "float64", 0, "evaluate", 0)
    each = model.elbo(x, lengths, eps)
    assert found.standard_error == pytest.approx(np.std(each, ddof=1) / 2, rel=1e-9)
    assert math.isnan(bounds.evaluate_elbo(model, sequences[:1]).standard_error)


# ---- what is refused -----------------------------------------------------------------------------


def test_mistakes_get_one_sentence():
    model, x, lengths, eps, uniforms = checks.small_with_particles()
    sequences = tv.Sequences.from_list([x[:, 0]])
    for call, error, words in [
        (lambda: bounds.evaluate(model, sequences, "iwea"), ConfigError, 'did you mean "iwae"'),
        (lambda: bounds.evaluate(model, sequences, particles=0), ConfigError, "particles must be"),
        (lambda: bounds.evaluate(model, sequences, repeats=1), ConfigError, "repeats must be"),
        (lambda: bounds.iwae(model, x, lengths, 2.0), ConfigError, "particles must be"),
        (lambda: bounds.iwae(model, x, ["a"] * 4, 2), DataError, "^lengths has values of type"),
        (lambda: bounds.fivo(model, x[0], lengths, 2), DataError, r"\(T, B, X\)"),
        (lambda: model.loss_and_grads(x, lengths, bound="fibo", particles=2), ConfigError, 'did you mean "fivo"'),
        (lambda: model.loss_and_grads(x, lengths, eps, bound="ivae"), ConfigError, 'did you mean "iwae"'),
        (lambda: model.loss_and_grads(x, lengths, eps[:, :, 0], bound="iwae"), DataError, "particles"),
        (lambda: model.loss_and_grads(x, lengths, eps, bound="iwae", particles=9), DataError, r"eps of shape .*, 9, "),
        (lambda: model.loss_and_grads(x, lengths, eps, bound="fivo"), DataError, "uniforms of shape"),
        *(
            (
                lambda u=u: model.loss_and_grads(x, lengths, eps, bound="fivo", uniforms=np.full(x.shape[:2], u)),
                DataError,
                r"uniforms holds (-0.1|1.5) among the real steps: give numbers from \[0, 1\)",
            )
            for u in (-0.1, 1.5)
        ),
    ]:
        with pytest.raises(error, match=words):
            call()


# ---- the bookkeeping of an evaluation, with a model that only records ----------------------------


class Recorder:
    """A stub model: log-weights are sums of the noise, so the bounds are easy to compute by hand."""

    name, bounds, dtype, z_dim, backend = "recorder", bounds.BOUNDS, "float64", 2, get_backend("numpy")

    def __init__(self):
        self.seen = []

    def log_weights(self, x, lengths, eps):
        self.seen.append(eps)
        return x.sum(axis=(0, 2))[:, None] + 0.5 * eps.sum(axis=(0, 3))

    def elbo(self, x, lengths, eps):
        return self.log_weights(x, lengths, eps[:, :, None])[:, 0]

    def particle_filter(self, x, lengths, eps, uniforms):
        assert uniforms.shape == x.shape[:2] and uniforms.dtype == eps.dtype == "float64"
        return self.log_weights(x, lengths, eps).mean(axis=1) + uniforms.sum(axis=0)

    def parts(self, x, lengths, eps):
        elbo = self.elbo(x, lengths, eps)
        return BoundTerms(elbo, 0 * elbo + 2, elbo + 2)


def five():
    return tv.Sequences.from_list([0.1 * checks.rng(n).standard_normal((n, 3)) for n in (2, 4, 1, 3, 2)])


def by_hand(bound, x, eps, uniforms):
    """One sequence's bound in Python floats, from its noise (T, K, Z)."""
    weights = [0.5 * sum(eps[t][k][i] for t in range(len(eps)) for i in range(2)) for k in range(len(eps[0]))]
    weights = [x + w for w in weights]
    if bound == "iwae":
        return math.log(sum(math.exp(w) for w in weights) / len(weights))
    return sum(weights) / len(weights) + (sum(uniforms) if bound == "fivo" else 0)


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_an_evaluation_is_the_mean_of_its_repeats_with_the_noise_at_its_address(bound):
    """seed, bound, batch, repeat and particle address the noise; the same arguments always give the same draws."""
    found = bounds.evaluate(Recorder(), five(), bound, particles=3, batch_size=2, seed=5, repeats=4)
    each = []  # of the sequences in order of length: batches of 2, 2 and 1
    by_length = sorted(five(), key=len)
    for number, batch in enumerate((by_length[:2], by_length[2:4], by_length[4:])):
        T, B = max(map(len, batch)), len(batch)
        streams = [f"{bound} batch {number} repeat {i}" for i in range(4)]
        for b, x in enumerate(batch):
            repeats = []
            for stream in streams:
                eps = [noise.standard_normal((T, B, 2), "float64", 5, stream, k)[:, b].tolist() for k in range(3)]
                u = noise.generator(5, f"{stream} resampled").random((T, B))[:, b].tolist()
                repeats.append(by_hand(bound, float(x.sum()), list(zip(*eps)), u))
            each.append(repeats)
    means = [statistics.fmean(repeats) for repeats in each]
    assert (found.bound, found.particles, found.sequences, found.steps) == (f"{bound}-3", 3, 5, 12)
    assert found.per_sequence == pytest.approx(statistics.fmean(means), rel=1e-12)
    assert found.per_step == pytest.approx(sum(means) / 12, rel=1e-12)
    assert found.standard_error == pytest.approx(statistics.stdev(means) / math.sqrt(5), rel=1e-12)
    draws = math.sqrt(sum(statistics.variance(repeats) for repeats in each) / 4) / 5
    assert found.standard_error_draws == pytest.approx(draws, rel=1e-12)


def test_an_evaluation_of_the_elbo_adds_up_its_batches_with_the_noise_at_its_address():
    found = bounds.evaluate_elbo(Recorder(), five(), batch_size=2, seed=5)
    each, by_length = [], sorted(five(), key=len)
    for number, batch in enumerate((by_length[:2], by_length[2:4], by_length[4:])):
        eps = noise.standard_normal((max(map(len, batch)), len(batch), 2), "float64", 5, "evaluate", number)
        each += [float(x.sum() + 0.5 * eps[:, b].sum()) for b, x in enumerate(batch)]
    assert found.elbo_per_sequence == pytest.approx(statistics.fmean(each), rel=1e-12)
    assert found.elbo_per_step == pytest.approx(sum(each) / 12, rel=1e-12)
    assert found.kl_per_sequence == pytest.approx(2) and found.steps == 12 and found.sequences == 5
    assert found.log_likelihood_per_sequence == pytest.approx(statistics.fmean(each) + 2, rel=1e-12)
    assert found.standard_error == pytest.approx(statistics.stdev(each) / math.sqrt(5), rel=1e-12)


def test_one_sequence_has_no_standard_error_and_equal_ones_have_0():
    one = five()[:1]
    assert math.isnan(bounds.evaluate(Recorder(), one).standard_error)
    assert math.isnan(bounds.evaluate_elbo(Recorder(), one).standard_error)
    assert bounds.evaluate(Recorder(), five()[:2]).standard_error > 0
    still = Recorder()
    still.parts = lambda x, lengths, eps: BoundTerms(*np.full((3, x.shape[1]), 0.1))
    assert bounds.evaluate_elbo(still, five()).standard_error < 1e-8


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_64_particles_of_seed_0_are_drawn_where_nothing_is_said(bound):
    """And 128 sequences at once, in two repeats."""
    x = checks.rng().standard_normal((3, 2, 2))
    model, sequences = Recorder(), tv.Sequences.from_list([np.ones((2, 1))] * 130)
    assert np.array_equal(
        getattr(bounds, bound)(model, x), getattr(bounds, bound)(Recorder(), x, None, 64, 0, "particles")
    )
    assert sum(eps.shape[2] for eps in model.seen) == 64
    assert bounds.evaluate(Recorder(), sequences) == bounds.evaluate(Recorder(), sequences, "iwae", 64, 128, 0, 2)
    assert bounds.evaluate_elbo(Recorder(), sequences) == bounds.evaluate_elbo(Recorder(), sequences, 128, 0)
    assert bounds.evaluate(Recorder(), sequences) != bounds.evaluate(Recorder(), sequences, batch_size=129)


@pytest.mark.parametrize("bound", ["iwae", "fivo"])
def test_a_pass_holds_as_many_rows_as_stated_and_one_at_least(bound, monkeypatch):
    monkeypatch.setattr(estimates, "ROWS_AT_ONCE", 24)
    for (T, B, K), sizes in {  # the particles (iwae) or sequences (fivo) of each pass
        (3, 4, 5): {"iwae": [2, 2, 1], "fivo": [1, 1, 1, 1]},
        (3, 4, 2): {"iwae": [2], "fivo": [4]},
        (2, 5, 4): {"iwae": [2, 2], "fivo": [3, 2]},
        (30, 2, 2): {"iwae": [1, 1], "fivo": [1, 1]},
    }.items():
        model = Recorder()
        getattr(bounds, bound)(model, np.zeros((T, B, 1)), np.full(B, T), K)
        assert [eps.shape[2 if bound == "iwae" else 1] for eps in model.seen] == sizes[bound]


def test_each_pass_of_fivo_has_the_lengths_of_its_own_sequences(monkeypatch):
    monkeypatch.setattr(estimates, "ROWS_AT_ONCE", 12)
    model, seen, lengths = Recorder(), [], np.array([3, 1, 2, 3, 2])
    model.particle_filter = lambda x, own, eps, u: seen.append((x[0, :, 0].tolist(), own.tolist())) or x[0, :, 0]
    x = np.tile(np.arange(5.0), (3, 1))[..., None]
    assert bounds.fivo(model, x, lengths, 2).tolist() == [0, 1, 2, 3, 4]
    assert seen == [([0, 1], [3, 1]), ([2, 3], [2, 3]), ([4], [2])]


@pytest.mark.parametrize("bound", bounds.BOUNDS)
def test_a_float32_model_is_given_float32(bound):
    model, given = Recorder(), []

    def take(x, lengths, eps, *uniforms):
        given.extend([x.dtype, eps.dtype])
        assert all(u.dtype == "float64" for u in uniforms)  # float32 could round them to 1
        return np.zeros((x.shape[1], eps.shape[2]) if bound == "iwae" else x.shape[1], "float32")

    model.dtype = "float32"
    model.log_weights = model.elbo = model.particle_filter = take
    model.parts = lambda *a: BoundTerms(*(take(*a) for _ in range(3)))
    bounds.evaluate(model, five(), bound, 3)
    model.chunk_parts = lambda x, lengths, eps, state: (model.parts(x, lengths, eps), None)
    if bound == "elbo":
        bounds.evaluate_elbo(model, five())
        bounds.evaluate_elbo(model, five(), chunk=1)
    assert len(given) >= 4 and set(given) == {np.dtype("float32")}


def test_totals_are_float64s_whatever_the_models_numbers_are():
    """float32 cannot represent 2^24 + 1 or 4097^2."""
    model, two = Recorder(), tv.Sequences.from_list([np.ones((1, 1))] * 2)
    model.parts = lambda x, lengths, eps: BoundTerms(*np.array([[4097, 4099], [2**24, 1], [2**24, 3]], "float32"))
    found = bounds.evaluate_elbo(model, two)
    assert found.elbo_per_sequence == 4098 and found.standard_error == 1
    assert found.kl_per_sequence == (2**24 + 1) / 2 and found.log_likelihood_per_sequence == (2**24 + 3) / 2
    answers = iter([2**24, 2**24 + 2])
    model.log_weights = lambda x, lengths, eps: np.full((2, 1), next(answers), "float32")
    assert bounds.evaluate(model, two, "iwae", 1).per_sequence == 2**24 + 1


def test_two_sequences_have_a_standard_error():
    two = five()[:2]
    assert bounds.evaluate_elbo(Recorder(), two).standard_error > 0
    assert bounds.evaluate(Recorder(), two).standard_error > 0


@pytest.mark.parametrize("bound", BOTH)
def test_x_without_three_axes_and_a_bound_that_is_not_the_models_are_refused(bound):
    for x, shape in ((np.zeros((3, 2)), r"\(3, 2\)"), ([1.0, 2.0], r"\(2,\)")):
        with pytest.raises(DataError, match=shape):
            getattr(bounds, bound)(Recorder(), x)
    other = Recorder()
    other.bounds = ("elbo",)
    with pytest.raises(ConfigError, match="recorder"):
        getattr(bounds, bound)(other, np.zeros((2, 1, 1)))


def test_lengths_that_are_no_array_are_named():
    model, x, *_ = checks.small("gaussian")
    with pytest.raises(tv.DataError, match="^lengths "):
        bounds.iwae(model, x, [[1], [1, 2]], 2)
