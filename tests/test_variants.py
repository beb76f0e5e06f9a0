"""The VRNN-I, the LSTM and the posteriors, by the same routes as the VRNN.

Catches: a prior that is not N(0, I), the LSTM's memory instead of its h, a state lost on the way, particles weighted or
samples drawn by another model, a schedule that differs; a backward recurrence that starts in the padding, or is a step
too early or too late.
"""

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds, gradcheck
from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves
from tinyvrnn.arrays.strict import transfers
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import MODELS, lookahead, rnn, sampling, schedule, stepwise
from tinyvrnn.nn import cells

VARIANTS = {
    "vrnn-i": {"model": "vrnn-i"},
    "lstm": {"cell": "lstm"},
    "vrnn-i, lstm": {"model": "vrnn-i", "cell": "lstm"},
    "smoothing": {"posterior": "smoothing"},
    "smoothing, lstm": {"posterior": "smoothing", "cell": "lstm"},
    "vrnn-i, smoothing": {"model": "vrnn-i", "posterior": "smoothing"},
}
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
both = pytest.mark.parametrize(  # quickly with both variants at once; the plain rewrite covers the others too
    "options",
    [
        pytest.param(options, id=name, marks=[] if name == "smoothing, lstm" else pytest.mark.slow)
        for name, options in VARIANTS.items()
    ],
)
each_bound = pytest.mark.parametrize("bound", ["iwae", "fivo"])


@every
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.one_in(7)
def test_the_batched_schedule_equals_the_literal_steps(options, likelihood, backend, ragged):
    checks.batched_equals_stepwise(likelihood, backend, ragged=ragged, **options)


@pytest.mark.one_in(7)
@every
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("layers", [1, 2])
def test_loss_and_gradient_equal_the_plain_rewrite(options, likelihood, layers):
    checks.elbo_equals_plain_rewrite(likelihood, layers, beta=0.6, **options)


@both
@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
def test_gradients_of_the_whole_bound_equal_numeric_ones(options, backend):
    checks.elbo_gradients("gaussian", backend, **options)


@every
@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("sizes", [{"T": 1}, {"B": 1}, {"h_dim": 1}, {"T": 30, "B": 7, "h_dim": 11}], ids=str)
def test_the_batched_schedule_equals_the_literal_steps_for_other_sizes(options, backend, sizes):
    checks.batched_equals_stepwise("gaussian", backend, **options, **sizes)


@every
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_a_batch_is_the_mean_of_its_sequences(options, backend):
    checks.batch_equals_mean_of_singles("gaussian", backend, **options)


@every
@pytest.mark.parametrize("garbage", [-7.0, 1e30, np.nan], ids=str)
def test_padding_changes_nothing(options, garbage):
    checks.padding_changes_nothing("gaussian", garbage, **options)


@pytest.mark.one_in(3)
@every
def test_samples_have_the_moments_of_draws_by_the_plain_rewrite(options):
    checks.sample_moments("gaussian", **options)


@every
def test_finite_at_extremes(options):
    checks.finite_at_extremes("gaussian", "all", **options)


@checks.on_device
@every
def test_a_device_gives_the_numbers_of_numpy(options):
    results = []
    for backend in checks.BACKENDS:
        m, *given = checks.small("gaussian", backend, dtype="float32", **options)
        loss, grads, parts = m.loss_and_grads(*given)
        found = (m.theta, loss, grads, *parts, m.reconstruct(*given), m.sample(n=3, steps=4, prime=given[0]))
        assert {a.dtype.name for a in found} == {"float32"}
        results.append(found)
    for actual, expected in zip(results[1], results[0], strict=True):
        checks.assert_as_on_numpy(actual, expected)


@every
def test_no_value_crosses_to_the_host_and_no_array_a_step_to_the_device(options):
    m, *given = checks.small("gaussian", "strict", T=40, **options)
    transfers.reset()
    m.loss_and_grads(*given)
    m.reconstruct(*given)
    assert transfers.to_device <= 6 and transfers.to_host == 0


@every
def test_a_model_comes_back_from_its_checkpoint(options, tmp_path):
    m, *given = checks.small("gaussian", **options)
    tv.save(m, tmp_path)
    again = tv.load(tmp_path)
    assert type(again) is type(m) and again.config == m.config and np.array_equal(again.theta, m.theta)
    assert np.array_equal(again.elbo(*given), m.elbo(*given))
    assert np.array_equal(again.sample(n=3, steps=4), m.sample(n=3, steps=4))


@pytest.mark.one_in(3)
@every
def test_training_raises_the_bound(options):
    m, *_ = checks.small(dtype="float32", **options)
    records = tv.train(m, checks.toy_data(), progress=False, epochs=30, lr=0.05, batch=4, workers=2)
    elbos = [record["train"]["elbo"] for record in records]
    assert elbos[-1] > elbos[0] + 1


@pytest.mark.one_in(5)
@every
@each_bound
def test_bounds_of_particles_equal_the_plain_rewrite(options, bound):
    checks.particle_bound_equals_plain_rewrite(bound, **options)


@both
@each_bound
@pytest.mark.parametrize("backend", checks.DEVICE_LATER)
@pytest.mark.one_in(2)
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


# ---- the LSTM ------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_an_rnn_with_an_lstm_equals_its_literal_steps_and_the_plain_rewrite(likelihood, backend):
    checks.rnn_equals_its_literal_steps(likelihood, backend, cell="lstm")
    checks.elbo_equals_plain_rewrite(likelihood, model="rnn", cell="lstm")


def test_gradients_of_an_rnn_with_an_lstm_equal_numeric_ones():
    checks.elbo_gradients("gaussian", model="rnn", cell="lstm")


def test_samples_of_an_rnn_with_an_lstm_have_the_moments_of_the_plain_rewrite():
    checks.sample_moments("gaussian", model="rnn", cell="lstm")


@pytest.mark.parametrize("model", ["vrnn", "vrnn-i", "rnn"])
def test_fresh_weights_have_a_forget_bias_of_1_and_all_others_0(model):
    m = MODELS[model](**{name: 3 for name in MODELS[model].sizes}, cell="lstm")
    assert m.params["recur"]["b"].tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert not m.params["recur"]["c"].any() and not m.params["phi_x"]["b1"].any()


@pytest.mark.parametrize("model", ["vrnn", "vrnn-i", "rnn"])
def test_an_unknown_cell_is_refused(model):
    with pytest.raises(tv.ConfigError, match='did you mean "lstm"'):
        MODELS[model](**{name: 3 for name in MODELS[model].sizes}, cell="lstn")


def test_a_checkpoint_of_before_there_was_a_choice_is_that_of_a_gru(tmp_path, monkeypatch):
    m, *_ = checks.small()
    monkeypatch.setattr(type(m), "choices", ())
    tv.save(m, tmp_path)
    monkeypatch.undo()
    assert tv.load(tmp_path).config == m.config and m.config["cell"] == "gru"


# ---- the smoothing posterior ---------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_gradients_of_the_second_recurrence_equal_numeric_ones(cell, backend):
    draw = checks.rng()
    shapes = cells.get_cell(cell).shapes(4, 4)
    p = {name: checks.device(backend, draw.standard_normal(shape))[0] for name, shape in shapes.items()}
    phi_x, mask = draw.standard_normal((5, 3, 4)), np.arange(5)[:, None] < np.array([5, 1, 3])
    phi_x, mask = checks.device(backend, phi_x, mask.astype(float))

    def forward(p, phi_x):
        return lookahead.look_ahead_forward(p, phi_x, mask)

    assert len(gradcheck.check_pair(forward, lookahead.look_ahead_backward, p, phi_x, tol=1e-7)) == 5


def test_what_a_posterior_sees_of_a_sequence():
    """Filtering: x up to t. Smoothing: all of x, but nothing of the padding."""
    for posterior, sees_the_future in (("filtering", False), ("smoothing", True)):
        model, x, _, eps = checks.small("gaussian", posterior=posterior)
        mask = (np.arange(5)[:, None] < np.array([5, 5, 4, 4])).astype(float)
        changed = x.copy()
        changed[4] += 1
        loops = [
            schedule.sequence_forward(model.params, a, eps, model.likelihood, mask=mask)[2].loop for a in (x, changed)
        ]
        o, o_2 = (loop.o[:4] for loop in loops)
        assert np.all(np.any(o[:, :2] != o_2[:, :2], axis=-1)) == sees_the_future
        assert np.array_equal(o[:, 2:], o_2[:, 2:]), "the padding is seen"


def test_two_posteriors_of_one_model_estimate_the_same_evidence(n=40_000):
    """p(x) does not depend on the posterior: the means of exp(IWAE-4) and exp(FIVO-4) agree to four standard errors."""
    filtering, x, *_ = checks.small(T=3, scale=0.25)
    smoothing, *_ = checks.small(T=3, scale=0.25, posterior="smoothing", seed=1)
    for group in ("phi_x", "phi_z", "prior", "generate", "recur"):
        for leaf, array in smoothing.params[group].items():
            array[...] = filtering.params[group][leaf]
    x = np.tile(np.round(x[:, :1]), (1, n, 1))
    reference = np.exp(bounds.iwae(filtering, x, None, 4))
    for bound in (bounds.iwae, bounds.fivo):
        found = np.exp(bound(smoothing, x, None, 4, seed=5))
        error = np.sqrt((found.var() + reference.var()) / n)
        assert 0 < error < 0.05 * reference.mean() and abs(found.mean() - reference.mean()) < 4 * error


@every
def test_the_state_after_a_prime_is_that_of_the_posterior(options):
    m, x, lengths, eps = checks.small("gaussian", **options)
    mask = (np.arange(len(x))[:, None] < lengths).astype(float)
    for given, ends in ((None, len(x)), (mask, lengths)):
        loop = schedule.sequence_forward(m.params, x, eps, m.likelihood, mask=given)[2].loop
        found = sampling.state_after(m.params, x, eps, np.zeros_like(loop.state[0]), given)
        checks.assert_close(found, loop.state[ends, np.arange(x.shape[1])], 1e-13, "state")


@pytest.mark.parametrize("model", ["vrnn", "vrnn-i"])
def test_an_unknown_posterior_is_refused(model):
    with pytest.raises(tv.ConfigError, match='did you mean "smoothing"'):
        MODELS[model](3, 3, 3, posterior="smoothin")


ROUTES = {**VARIANTS, "vrnn": {}, "rnn": {"model": "rnn"}, "rnn, lstm": {"model": "rnn", "cell": "lstm"}}


@pytest.mark.parametrize("options", ROUTES.values(), ids=ROUTES)
def test_float32_stays_float32_on_both_routes(options):
    model, x, _, eps = checks.small("gaussian", dtype="float32", **options)
    if options.get("model") == "rnn":
        routes = ((rnn.sequence_forward, rnn.sequence_backward), (rnn.literal_forward, checks.rnn_literal_backward))
        given, upstream = (x,), 1
    else:
        routes = tuple((module.sequence_forward, module.sequence_backward) for module in (schedule, stepwise))
        given, upstream = (x, eps), 2
    for forward, backward in routes:
        *terms, cache = forward(model.params, *given, model.likelihood)
        grads = backward(model.params, cache, *terms[:upstream], model.likelihood)
        assert {a.dtype for a in (*terms, *(leaf for _, leaf in leaves(grads)))} == {np.dtype("float32")}


@every
def test_no_mask_is_a_mask_of_ones_on_both_routes(options):
    model, x, _, eps = checks.small("gaussian", **options)
    for module in (schedule, stepwise):
        found = []
        for mask in (None, np.ones(x.shape[:2])):
            log_p, kl, cache = module.sequence_forward(model.params, x, eps, model.likelihood, mask=mask)
            found.append((log_p, kl, module.sequence_backward(model.params, cache, log_p, kl, model.likelihood)))
        assert np.array_equal(found[0][:2], found[1][:2])
        checks.assert_same_tree(found[0][2], found[1][2], 1e-14)


@checks.on_device
def test_a_model_is_on_the_backend_that_it_is_told():
    for name in MODELS:
        for backend in checks.BACKENDS:
            model, *_ = checks.small(model=name, backend=backend)
            assert model.backend.name == backend and f"backend='{backend}'" in repr(model)
            assert model.backend.asarray(np.zeros(1)).__class__ is model.theta.__class__


@every
def test_a_step_has_the_kl_and_not_its_draw_unless_told(options):
    model, x, _, eps = checks.small("gaussian", **options)
    state = np.zeros((4, cells.state_width(model.params["recur"])))
    ahead = stepwise.ahead_forward(model.params, x, None)[0][0] if "backward" in model.params else None
    given = (model.params, x[0], state, eps[0], model.likelihood)
    (log_p, kl, after), cache = stepwise.step_forward(*given, ahead=ahead)
    told, _ = stepwise.step_forward(*given, sampled=False, ahead=ahead)
    assert np.array_equal(kl, told[1]) and np.all(kl >= 0)
    upstream = (cache, log_p, kl, after, model.likelihood)
    (_, grads), (_, expected) = (stepwise.step_backward(model.params, *upstream, **o) for o in ({}, {"sampled": False}))
    checks.assert_same_tree(grads, expected, 1e-15)


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_steps_are_turned_round_within_their_length_and_padding_stays(backend):
    phi_x, mask = checks.device(backend, np.zeros((4, 3, 1)), np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1.0]]))
    order = to_host(lookahead.reversed_order(phi_x, mask))
    assert order.T.tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]
    assert to_host(lookahead.reversed_order(phi_x, None)).T.tolist() == [[3, 2, 1, 0]] * 3
