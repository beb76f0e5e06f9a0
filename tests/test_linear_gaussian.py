"""The special case with an exact answer: the filter against one big Gaussian, the smoother against the posteriors, and
the VRNN's own code path against both.

Catches: a variance instead of a standard deviation, a prior of the wrong step, a KL or log-density with a wrong
constant (which no gradient check sees), an inexact expectation, padding that counts in a filter, and a bound above
log p(x).
"""

import math

import checks
import numpy as np
import pytest

from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models import linear_gaussian as lg
from tinyvrnn.models import stepwise

ROWS = {row.posterior: row for row in lg.table()}
PARAMETERS = [(0.9, 0.5, 0.5), (-0.7, 0.1, 2.0), (1.1, 3.0, 0.2), (0.0, 1.0, 1.0)]


def data(T=6, B=3, seed=0):
    return checks.rng(seed).standard_normal((T, B, 1))


def covariances(T, a, q, r):
    """Cov[z], Cov[z, x], Cov[x] of whole sequences, each (T, T): from z = L noise, with L_ts = a^(t - s)."""
    L = np.array([[a ** (t - s) if s <= t else 0.0 for s in range(T)] for t in range(T)])
    z = L @ np.diag([1.0, *[q] * (T - 1)]) @ L.T
    return z, z, z + r * np.eye(T)


@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_the_design(name):
    checks.table_of_gaps(name)


def test_the_table_has_each_posterior_and_none_above_exact():
    assert [row.posterior for row in lg.table()] == list(lg.POSTERIORS)
    assert all(row.gap > -1e-12 and row.exact == ROWS["smoothing"].exact for row in lg.table())


@pytest.mark.parametrize("a, q, r", PARAMETERS)
@pytest.mark.parametrize("T", [1, 2, 6])
def test_kalman_filter_equals_one_big_gaussian(a, q, r, T):
    x = data(T)
    _, _, cov = covariances(T, a, q, r)
    expected = [
        -0.5 * (v @ np.linalg.solve(cov, v) + np.linalg.slogdet(2 * np.pi * cov)[1]) for v in x[..., 0].T
    ]  # fmt: skip
    checks.assert_close(lg.LinearGaussian(a, q, r).log_prob(x), expected, 1e-12, "log p(x)")


@pytest.mark.parametrize("a, q, r", PARAMETERS)
def test_filter_and_smoother_have_the_moments_of_one_big_gaussian(a, q, r):
    x, chain = data(), lg.LinearGaussian(a, q, r).chain(data())
    filtered = lg.kalman_filter(chain, x)
    mean, variance = lg.rts_smoother(chain, filtered)
    z, zx, cov = covariances(6, a, q, r)
    gain = zx @ np.linalg.inv(cov)
    checks.assert_close(mean[..., 0], gain @ x[..., 0], 1e-12, "smoothed mean")
    checks.assert_close(variance[:, 0, 0], np.diag(z - gain @ zx.T), 1e-12, "smoothed variance")
    for t in range(6):
        gain = zx[t, : t + 1] @ np.linalg.inv(cov[: t + 1, : t + 1])
        checks.assert_close(filtered.mean[t, :, 0], gain @ x[: t + 1, :, 0], 1e-11, "filtered mean")
        checks.assert_close(filtered.variance[t, 0], [z[t, t] - gain @ zx[t, : t + 1]], 1e-11, "filtered variance")


@pytest.mark.parametrize("a, q, r", PARAMETERS)
def test_smoothing_posterior_walks_through_the_moments_of_the_rts_smoother(a, q, r):
    """p(z_t | z_{t-1}, x_t..x_T), applied step after step, has the marginals p(z_t | x_1..x_T)."""
    x = data()
    chain = lg.LinearGaussian(a, q, r).chain(x)
    head = lg.smoothing(chain, x)
    m = v = np.zeros_like(x[0])
    for t, (mean, variance) in enumerate(zip(*lg.rts_smoother(chain, lg.kalman_filter(chain, x)))):
        A, K, c, sigma = (head[name][t] for name in "A K c sigma".split())
        m, v = A * m + K * x[t] + c, A * A * v + sigma**2
        checks.assert_close(m, mean, 1e-12, "mean")
        checks.assert_close(v, variance, 1e-12, "variance")


@pytest.mark.parametrize("posterior", lg.POSTERIORS)
@pytest.mark.parametrize("a, q, r", PARAMETERS)
def test_expectation_over_the_points_equals_moments_that_are_propagated(posterior, a, q, r):
    checks.exact_elbo_by_moments(posterior, a, q, r)


@pytest.mark.parametrize("posterior", lg.POSTERIORS)
def test_expectation_over_the_points_equals_monte_carlo(posterior, n=40_000):
    model, x = lg.LinearGaussian(posterior=posterior), data(T=4, B=1)
    eps = checks.rng(3).standard_normal((4, n, 1))
    one_draw = model.parts(np.tile(x, (1, n, 1)), eps=eps)
    for name, exact in model.parts(x)._asdict().items():
        if np.std(one_draw[name]) > 1e-9:
            checks.assert_mean(one_draw[name][:, None], exact, name)
        else:  # the true posterior's ELBO is log p(x) for every draw of z; the prior's KL is 0
            checks.assert_close(one_draw[name][0], exact[0], 1e-9, name)


def test_the_points_have_the_first_two_moments_of_the_noise():
    points = lg.exact_noise(5)[..., 0]
    assert np.all(points.mean(axis=1) == 0)
    checks.assert_close(points @ points.T / points.shape[1], np.eye(5), 1e-14, "E[eps eps']")


def test_the_gap_is_what_the_posterior_leaves_out():
    """gap = sum_t E_q KL( q(z_t | z_{t-1}) || p(z_t | z_{t-1}, x_t..x_T) ), by propagated moments."""
    x = lg.sine()
    chain = lg.LinearGaussian().chain(x)
    truth = lg.smoothing(chain, x)
    for name, posterior in lg.POSTERIORS.items():
        head, m, v, gap = posterior(chain, x), np.zeros((1, 1)), np.zeros((1, 1)), 0.0
        for t in range(len(x)):
            A, K, c, s = (head[key][t] for key in "A K c sigma".split())
            dA, dK, dc, s_true = (head[k][t] - truth[k][t] if k != "sigma" else truth[k][t] for k in head)
            gap += np.log(s_true / s) + (s**2 + (dA * m + dK * x[t] + dc) ** 2 + dA**2 * v) / (2 * s_true**2) - 0.5
            m, v = A * m + K * x[t] + c, A * A * v + s**2
        assert abs(float(gap[0, 0]) - ROWS[name].gap) < 1e-11


def test_only_the_smoothing_posterior_reads_the_future():
    x = data()
    changed = x.copy()
    changed[4:] += 1
    for name, posterior in lg.POSTERIORS.items():
        heads = [posterior(lg.LinearGaussian().chain(v), v) for v in (x, changed)]
        same = all(np.array_equal(heads[0][key][:4], heads[1][key][:4]) for key in heads[0])
        assert same == (name != "smoothing")


@pytest.mark.parametrize("posterior", lg.POSTERIORS)
@pytest.mark.parametrize("garbage", [0.0, 1e3])
def test_padding_changes_nothing(posterior, garbage):
    model, x, lengths = lg.LinearGaussian(posterior=posterior), data(), np.array([6, 1, 4])
    x[np.arange(6)[:, None] >= lengths] = garbage
    singles = [x[:n, b : b + 1] for b, n in enumerate(lengths)]
    checks.assert_close(model.log_prob(x, lengths), [float(model.log_prob(s)[0]) for s in singles], 1e-12, "log p")
    checks.assert_close(model.elbo(x, lengths), [float(model.elbo(s)[0]) for s in singles], 1e-12, "elbo")


@checks.on_device
def test_it_runs_on_a_device():
    x, lengths = data(), np.array([6, 2, 5])
    model, there = lg.LinearGaussian(), get_backend(checks.DEVICE).asarray(x)
    checks.assert_close(to_host(model.log_prob(there, lengths)), model.log_prob(x, lengths), 1e-14, "log p")
    for own in (lengths, *checks.device(checks.DEVICE, lengths)):
        checks.assert_close(to_host(model.elbo(there, own)), model.elbo(x, lengths), 1e-14, "elbo")
    chain = model.chain(there)
    checks.assert_close(
        to_host(lg.rts_smoother(chain, lg.kalman_filter(chain, there))[0]),
        lg.rts_smoother(model.chain(x), lg.kalman_filter(model.chain(x), x))[0],
        1e-14,
        "smoothed mean",
    )


def test_the_network_equations_are_the_default_of_a_step():
    model, x, _, eps = checks.small()
    h = np.zeros((x.shape[1], model.h_dim))
    given = (model.params, x[0], h, eps[0], model.likelihood)
    for a, b in zip(stepwise.step_forward(*given)[0], stepwise.step_forward(*given, stepwise.NETWORKS)[0]):
        assert np.array_equal(a, b)
    assert None not in stepwise.NETWORKS and lg.LINEAR.prior_backward is None


@pytest.mark.parametrize(
    "options, words",
    [
        ({"q": 0}, "q must be a positive number"),
        ({"r": -1.0}, "r must be a positive number"),
        ({"a": math.inf}, "a must be a finite number"),
        ({"posterior": "smothing"}, 'did you mean "smoothing"'),
    ],
)
def test_what_makes_no_model_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        lg.LinearGaussian(**options)


def test_x_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"\(T, B, 1\)"):
        lg.LinearGaussian().log_prob(np.zeros((3, 2, 2)))


@pytest.mark.parametrize("r", [0.5, 2.0])
@pytest.mark.parametrize("posterior", lg.POSTERIORS)
def test_weights_and_filter_of_a_ragged_batch_are_those_of_each_sequence(posterior, r):
    model, x, lengths = lg.LinearGaussian(r=r, posterior=posterior), data(), [6, 1, 4]
    eps, uniforms = checks.rng(1).standard_normal((6, 3, 5, 1)), checks.rng(2).random((6, 3))
    weights, filtered = model.log_weights(x, lengths, eps), model.particle_filter(x, lengths, eps, uniforms)
    assert weights.shape == (3, 5) and filtered.shape == (3,)
    for b, n in enumerate(lengths):
        alone = x[:n, b : b + 1], None, eps[:n, b : b + 1]
        checks.assert_close(weights[b : b + 1], model.log_weights(*alone), 1e-12, "log-weights")
        expected = model.particle_filter(*alone, uniforms[:n, b : b + 1])
        checks.assert_close(filtered[b : b + 1], expected, 1e-12, "particle filter")
    one = model.particle_filter(x, lengths, eps[:, :, :1], uniforms)  # a single particle is its own ancestor
    checks.assert_close(one, weights[:, 0], 1e-12, "filter of one particle")


@pytest.mark.parametrize("r", [0.5, 2.0])
@pytest.mark.parametrize("posterior", lg.POSTERIORS)
def test_terms_of_a_ragged_batch_are_those_of_each_sequence(posterior, r):
    model, x, lengths = lg.LinearGaussian(r=r, posterior=posterior), data(), [6, 1, 4]
    eps = checks.rng(1).standard_normal((6, 3, 1))
    for given in (None, eps):
        found = model.parts(x, lengths, given)
        for b, n in enumerate(lengths):
            alone = model.parts(x[:n, b : b + 1], None, None if given is None else eps[:n, b : b + 1])
            checks.assert_close([part[b] for part in found], [part[0] for part in alone], 1e-12, "parts")
    checks.assert_close(model.elbo(x, lengths, eps), model.parts(x, lengths, eps).elbo, 1e-15, "ELBO")


def test_the_table_of_other_data_and_another_chain():
    x = data(T=4, B=1)
    for row in lg.table(x, a=-0.7, q=0.1, r=2.0):
        model = lg.LinearGaussian(-0.7, 0.1, 2.0, row.posterior)
        assert row.exact == pytest.approx(float(model.log_prob(x)[0]), rel=1e-14)
        assert row.elbo == pytest.approx(float(model.elbo(x)[0]), rel=1e-14)
        assert row.gap == pytest.approx(row.exact - row.elbo, abs=1e-14)
        assert row.kl == pytest.approx(float(model.parts(x).kl[0]), rel=1e-14)
    assert lg.sine(3)[:, 0, 0].tolist() == [math.sin(0.5), math.sin(1.0), math.sin(1.5)] and lg.sine().shape == (
        20,
        1,
        1,
    )


def test_what_the_filter_leaves_is_of_the_data_in_shape_and_dtype():
    for dtype in ("float32", "float64"):
        x = data().astype(dtype)
        log_p, *moments = lg.kalman_filter(lg.LinearGaussian().chain(x, [6, 1, 4]), x)
        assert log_p.shape == (3,) and {a.shape for a in moments} == {x.shape}
        assert {str(a.dtype) for a in (log_p, *moments)} == {dtype}


@pytest.mark.parametrize(
    "x, got", [([[1.0]], "list"), (np.zeros((2, 3)), r"\(2, 3\)"), (np.zeros((2, 3, 2)), "2, 3, 2")]
)
def test_data_of_another_shape_are_refused_by_name(x, got):
    with pytest.raises(DataError, match=rf"Expected x of shape \(T, B, 1\).* got .*{got}"):
        lg.LinearGaussian().log_prob(x)


def test_the_first_step_of_a_chain_is_drawn_from_n_0_1_whatever_a_and_q_are():
    chain = lg.LinearGaussian(a=0.7, q=0.2, r=4.0).chain(data(), [6, 1, 4])
    assert np.all(chain.a[0] == 0) and np.all(chain.a[1:] == 0.7)
    assert np.all(chain.q[0] == 1) and np.all(chain.q[1:] == 0.2)
    assert chain.info[:, :, 0].T.tolist() == [[0.25] * 6, [0.25] + [0] * 5, [0.25] * 4 + [0] * 2]


def test_missing_noise_of_particles_is_named():
    x, model = lg.sine(3), lg.LinearGaussian()
    with pytest.raises(DataError, match="Expected eps of shape .3, 1, 1, 1., axis 2 being the particles, got None"):
        model.log_weights(x)
    with pytest.raises(DataError, match="Expected uniforms of shape .3, 1. for resampling, got None"):
        model.particle_filter(x, eps=np.zeros((3, 1, 4, 1)))
