"""Distributions and activations by independent routes: draws, integrals, textbook forms, exact values.

Catches: sigma^2 instead of sigma, log-variances taken for standard deviations, a KL without its constant, a density
that does not integrate to 1, digits lost for nearly equal standard deviations, overflow at extremes.
"""

import math
from decimal import Decimal, getcontext

import checks
import numpy as np
import pytest

from tinyvrnn.arrays.backend import to_host
from tinyvrnn.data import Sequences, check_suits
from tinyvrnn.distributions import (
    LIKELIHOODS,
    bernoulli,
    categorical,
    gaussian,
    get_likelihood,
    mixture,
    pen,
)
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.nn.activations import sigmoid, softplus

EXTREMES = (0.0, 1e-8, 0.5, 5.0, 20.0, 36.0, 50.0, 88.0, 100.0, 700.0, 1000.0, 1e6, 1e30)


def test_activations_equal_math():
    checks.activation_values()


def exact_softplus(a):
    """log(1 + exp(a)) by 400-digit decimals; past 1000 the difference from max(a, 0) is below any float."""
    getcontext().prec = 400
    return float((1 + Decimal(a).exp()).ln()) if abs(a) < 1000 else max(a, 0.0)


def exact_sigmoid(a):
    getcontext().prec = 60
    return float(1 / (1 + (-Decimal(a)).exp())) if abs(a) < 1000 else float(a > 0)


@pytest.mark.parametrize("dtype, tol", [("float64", 4e-16), ("float32", 2e-7)])
@pytest.mark.parametrize("a", [sign * a for a in EXTREMES for sign in (-1, 1)])
def test_softplus_is_exact_from_one_extreme_to_the_other(a, dtype, tol):
    a = float(np.array(a, dtype))
    with np.errstate(under="ignore"):
        y = softplus(np.array([a], dtype))
    smallest = float(np.finfo(dtype).smallest_subnormal)
    assert y.dtype == dtype and abs(float(y[0]) - exact_softplus(a)) <= tol * exact_softplus(a) + smallest


@pytest.mark.parametrize("dtype, tol", [("float64", 2e-16), ("float32", 1e-7)])
@pytest.mark.parametrize("a", [sign * a for a in EXTREMES for sign in (-1, 1)])
def test_sigmoid_is_exact_from_one_extreme_to_the_other(a, dtype, tol):
    a = float(np.array(a, dtype))
    y = sigmoid(np.array([a], dtype))
    assert y.dtype == dtype and abs(float(y[0]) - exact_sigmoid(a)) <= tol


@pytest.mark.parametrize("function", [sigmoid, softplus], ids=lambda f: f.__name__)
def test_activations_leave_their_argument(function):
    a = checks.rng().standard_normal(5)
    before = a.copy()
    function(a)
    assert np.array_equal(a, before)


def test_reparameterised_draws_have_mean_mu_and_deviation_sigma():
    checks.reparameterise_moments()


def test_bernoulli_draws_have_mean_sigmoid():
    checks.bernoulli_moments()


def test_mixture_draws_have_the_moments_and_the_distribution_of_the_mixture():
    checks.gmm_moments()


def test_categorical_draws_are_one_hot_with_mean_softmax():
    checks.categorical_moments()


def test_pen_draws_have_the_moments_and_the_correlation():
    checks.pen_moments()


def test_mixtures_equal_the_textbook():
    checks.mixtures_textbook()


def test_mixtures_integrate_to_1():
    checks.mixtures_integrate_to_1()


def test_a_mixture_of_one_component_is_a_gaussian():
    mu, sigma, x, _ = checks.two_gaussians(0)
    log_p, cache = mixture.gmm_log_density_forward(x, np.zeros((6, 1)), mu[:, None], sigma[:, None])
    expected, gaussian_cache = gaussian.gaussian_log_density_forward(x, mu, sigma)
    checks.assert_close(log_p, expected, 1e-14, "log p")
    dx, dlogits, dmu, dsigma = mixture.gmm_log_density_backward(cache, np.ones(6))
    found = (dx, dmu[:, 0], dsigma[:, 0])
    for actual, wanted in zip(found, gaussian.gaussian_log_density_backward(gaussian_cache, np.ones(6))):
        checks.assert_close(actual, wanted, 1e-14, "gradient")
    assert np.all(dlogits == 0)


def test_the_same_number_added_to_all_logits_changes_nothing():
    draw = checks.rng()
    logits, log_n = draw.standard_normal((2, 5, 4))
    for shift in (-700.0, 1e4):
        checks.assert_close(mixture.mix_forward(logits + shift, log_n)[0], mixture.mix_forward(logits, log_n)[0], 1e-11)


@pytest.mark.parametrize("u, k", [(0.0, 1), (0.1, 1), (0.29, 1), (0.31, 2), (0.99999994, 2)])
def test_a_category_of_probability_0_is_never_picked(u, k):
    weights = np.array([0.0, 0.3, 0.7], "float32")
    assert categorical.pick(np.array([u], "float32"), weights).tolist() == [float(i == k) for i in range(3)]


@pytest.mark.parametrize("x", [0.0, -3.0, 1e15])
@pytest.mark.parametrize("mu", [0.0, 1e30, -3e38])
@pytest.mark.parametrize("sigma", [1e-4, 1.0, 1e30])
@pytest.mark.parametrize("logit", [0.0, -1e30, 3e38])
@pytest.mark.one_in(5)
def test_mixtures_are_finite_for_any_float32(x, mu, sigma, logit):
    x, mu, sigma = np.array([x, 1.0], "f4"), np.array([[mu, 0], [0, 1]], "f4"), np.array([[sigma] * 2, [1, 1]], "f4")
    logits, one = np.array([logit, 0], "f4"), np.ones((), "f4")
    found = []
    with np.errstate(over="ignore"):  # what counts is the result
        log_p, cache = mixture.gmm_log_density_forward(x, logits, mu, sigma)
        found += [log_p, *mixture.gmm_log_density_backward(cache, one)]
        rho, a = np.array([-0.999, 0.999], "f4"), np.array([logit], "f4")
        log_p, cache = pen.pen_log_density_forward(np.append(x, np.float32(1)), logits, mu, sigma, rho, a)
        found += [log_p, *pen.pen_log_density_backward(cache, one)]
        log_p, cache = categorical.categorical_log_density_forward(np.array([0, 1], "f4"), logits)
        found += [log_p, *categorical.categorical_log_density_backward(cache, one)]
    assert all(np.all(np.isfinite(a)) and np.asarray(a).dtype == "float32" for a in found)


def test_correlation_stays_inside_of_1_in_float32():
    p = {"W_out": np.zeros((1, 7), "f4"), "b_out": np.full(7, 1e6, "f4")}
    (_, _, _, rho, _), _ = pen.pen_head_forward(p, np.zeros((1, 1), "f4"))
    assert rho == np.float32(0.999) and 1 - rho * rho > 1e-3


def test_gaussian_sampling_of_the_likelihood_has_mean_mu_and_deviation_sigma():
    likelihood, n = LIKELIHOODS["gaussian"], 40_000
    mu, sigma = np.array([1.0, -2.0]), np.array([0.3, 2.0])
    x = likelihood.sample(likelihood.noise(checks.rng(), (n, 2), "float64"), mu, sigma)
    checks.assert_mean(x, likelihood.mean(mu, sigma), "mean of x")
    checks.assert_mean((x - mu) ** 2, sigma**2, "variance of x")


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_of_a_likelihood_has_the_dtype_asked_for(name, dtype):
    assert LIKELIHOODS[name].noise(checks.rng(), (2, 3), dtype).dtype == dtype


def test_bernoulli_mean_is_sigmoid():
    a = np.array([-1.5, 0.0, 2.0])
    checks.assert_close(LIKELIHOODS["bernoulli"].mean(a), [1 / (1 + math.exp(-v)) for v in a], 1e-15, "mean")


def test_kl_equals_the_textbook_and_is_0_for_equal_distributions():
    checks.kl_textbook()


def test_kl_equals_monte_carlo():
    checks.kl_monte_carlo()


def test_kl_is_never_negative():
    for seed in range(20):
        assert np.all(gaussian.gaussian_kl_forward(*checks.two_gaussians(seed))[0] >= 0)


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-7])
def test_kl_keeps_its_digits_where_the_deviations_are_nearly_equal(gap):
    """expm1(2d)/2 - d is about d^2: exp(2d) - 1 would leave no digit of it at d = 1e-7. Exact: 50-digit decimals."""
    getcontext().prec = 50
    sigma_z, mean = 1.0 + gap, np.zeros((1, 1))
    exact = float(Decimal(sigma_z) ** 2 / 2 - Decimal("0.5") - Decimal(sigma_z).ln())
    kl, _ = gaussian.gaussian_kl_forward(mean, np.full((1, 1), sigma_z), mean, np.ones((1, 1)))
    # the remaining error is the rounding of d, which enters twice: 2e-16 in a sum of terms of size d
    assert abs(kl[0] - exact) < 4e-16 * gap + 1e-12 * exact
    naive = 0.5 * (np.exp(2 * np.log(sigma_z)) - 1) - np.log(sigma_z)
    assert gap > 1e-4 or abs(naive - exact) > 10 * abs(kl[0] - exact)


def test_log_densities_equal_the_textbook():
    checks.log_densities_textbook()


def test_densities_integrate_to_1():
    checks.densities_integrate_to_1()


@pytest.mark.parametrize("a", [-1e3, 1e3, -1e6, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bernoulli_log_density_of_a_sure_outcome_is_0_and_of_the_other_minus_the_logit(a, dtype):
    x, logits = np.array([[float(a > 0)], [float(a < 0)]], dtype), np.full((2, 1), a, dtype)
    log_p, cache = bernoulli.bernoulli_log_density_forward(x, logits)
    assert log_p.tolist() == [0.0, -abs(a)]
    assert np.all(np.isfinite(bernoulli.bernoulli_log_density_backward(cache, np.ones(2, dtype))))


@pytest.mark.parametrize("backend", checks.BACKENDS)
def test_sigma_never_falls_below_its_floor(backend):
    (s,) = checks.device(backend, np.array([-1e30, -1e3, -20.0, 0.0, 1e3]))
    sigma = to_host(gaussian.sigma_of(s))
    assert sigma[0] == sigma[1] == gaussian.SIGMA_MIN == 1e-4
    checks.assert_close(sigma[3:], [math.log(2) + 1e-4, 1e3 + 1e-4], 1e-15, "sigma")


# ---- draws with the noise given: by hand, one row at a time --------------------------------------


def softmax_by_hand(a):
    weights = [math.exp(v) for v in a]
    return [w / sum(weights) for w in weights]


def pick_by_hand(u, logits):
    """The first k whose cumulative probability lies above u."""
    below = 0.0
    for k, weight in enumerate(softmax_by_hand(logits)):
        below += weight
        if u < below:
            return k
    return len(logits) - 1


def logistic(a):
    return 1 / (1 + math.exp(-a))


def draw_by_hand(name, noise, outputs):
    """x of one row, computed as the docstrings say, with Python floats."""
    if name == "bernoulli":
        return [float(u < logistic(a)) for u, a in zip(noise, outputs[0])]
    if name == "gaussian":
        return [m + s * e for m, s, e in zip(*outputs, noise)]
    if name == "categorical":
        return [float(j == pick_by_hand(noise[0], outputs[0])) for j in range(len(outputs[0]))]
    k = pick_by_hand(noise[0], outputs[0])
    mu, sigma = outputs[1][k], outputs[2][k]
    if name == "gmm":
        return [m + s * e for m, s, e in zip(mu, sigma, noise[1:])]
    rho, (e_1, e_2) = outputs[3][k], noise[2:]
    e_2 = rho * e_1 + math.sqrt(1 - rho**2) * e_2
    return [mu[0] + sigma[0] * e_1, mu[1] + sigma[1] * e_2, float(noise[1] < logistic(outputs[4][0]))]


def mean_by_hand(name, outputs):
    if name == "bernoulli":
        return [logistic(a) for a in outputs[0]]
    if name == "gaussian":
        return list(outputs[0])
    weights = softmax_by_hand(outputs[0])
    if name == "categorical":
        return weights
    mean = [sum(w * m[j] for w, m in zip(weights, outputs[1])) for j in range(len(outputs[1][0]))]
    return mean if name == "gmm" else [*mean, logistic(outputs[4][0])]


def head_outputs(likelihood, leading, seed=0):
    """The outputs of a head with random weights and distinct sizes: F 4, K 3, X 3; all values differ."""
    shapes = get_likelihood(likelihood, components=3).head_shapes(4, 3)
    draw = checks.rng(seed)
    p = {leaf: draw.standard_normal(shape) for leaf, shape in shapes.items()}
    return LIKELIHOODS[likelihood].head_forward(p, draw.standard_normal((*leading, 4)))[0]


@pytest.mark.parametrize("backend", checks.BACKENDS)
@pytest.mark.parametrize("leading", [(), (50,), (7, 9)], ids=str)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_draw_is_the_one_by_hand_in_every_row(name, leading, backend):
    likelihood, outputs = LIKELIHOODS[name], head_outputs(name, leading)
    noise = likelihood.noise(checks.rng(1), (*leading, 3), "float64")
    assert noise.shape[:-1] == leading
    on_device = checks.device(backend, *outputs)
    x, mean = (
        to_host(likelihood.sample(*checks.device(backend, noise), *on_device)),
        to_host(likelihood.mean(*on_device)),
    )
    assert x.shape == mean.shape == (*leading, 3) and x.dtype == mean.dtype == "float64"
    for row in np.ndindex(leading):
        one = [output[row].tolist() for output in outputs]
        checks.assert_close(x[row], draw_by_hand(name, noise[row].tolist(), one), 1e-13, "draw")
        checks.assert_close(mean[row], mean_by_hand(name, one), 1e-13, "mean")


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_uniforms_and_normals_of_a_likelihood_are_what_they_are_called(name):
    noise = LIKELIHOODS[name].noise(checks.rng(), (40_000, 3), "float64")
    uniforms = {"bernoulli": 3, "gaussian": 0, "categorical": 1, "gmm": 1, "pen": 2}[name]
    assert noise.shape[1] == {"categorical": 1, "pen": 4, "gmm": 4}.get(name, 3)
    u, e = noise[:, :uniforms], noise[:, uniforms:]
    assert np.all((u >= 0) & (u < 1))
    checks.assert_mean(u, 0.5, "mean of the uniforms")
    checks.assert_mean((u - 0.5) ** 2, 1 / 12, "variance of the uniforms")
    checks.assert_mean(e, 0.0, "mean of the normals")
    checks.assert_mean(e**2, 1.0, "variance of the normals")


def test_a_coin_of_probability_one_half_falls_on_0_for_a_uniform_of_one_half():
    assert bernoulli.bernoulli_sample(np.array([0.5]), np.zeros(1)).tolist() == [0.0]  # [0, 0.5) is half of [0, 1)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("name", ["two Gaussians", *LIKELIHOODS])
def test_densities_of_many_rows_are_those_of_each_row(name, leading):
    draw = checks.rng(2)
    if name == "two Gaussians":
        mu_z, mu_0, eps = draw.standard_normal((3, *leading, 3))
        sigma_z, sigma_0 = 0.3 + draw.random((2, *leading, 3))
        functions = {
            gaussian.gaussian_kl_forward: (mu_z, sigma_z, mu_0, sigma_0),
            gaussian.gaussian_log_ratio_forward: (mu_z, sigma_z, mu_0, sigma_0, eps),
        }
    else:
        x = all_pairs.suited(draw.random((*leading, 3)), name)
        functions = {LIKELIHOODS[name].log_density_forward: (x, *head_outputs(name, leading))}
    for function, arguments in functions.items():
        found = function(*arguments)[0]
        assert found.shape == leading
        for row in np.ndindex(leading):
            checks.assert_close(found[row], function(*(a[row] for a in arguments))[0], 1e-13, function.__name__)


# ---- what is no data of a likelihood -------------------------------------------------------------

MISFITS = {
    "bernoulli": [[[0.0, 1.0, 0.5], [-1e-6, 1.001, 2.0]], [[1.5, 0.2, -7.0], [1.0, 0.0, 0.0]]],
    "gaussian": [[[0.0, 1e30, -5.0], [-1e-6, 1.001, 2.0]], [[1.5, 0.2, -7.0], [1.0, 0.0, 0.0]]],
    "categorical": [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.5, 0.5, 0.0], [1.0, 1.0, 0.0]]],
    "pen": [[[3.0, -0.5, 1.0], [0.0, 1.0, 0.0]], [[0.5, 0.5, 0.5], [0.1, 1.0, 2.0]]],
}
WRONG = {
    "bernoulli": [[[0, 0, 0], [1, 1, 1]], [[1, 0, 1], [0, 0, 0]]],
    "gaussian": [[[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]],
    "categorical": [[[0, 0, 0], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]],
    "pen": [[[0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1]]],
}


@pytest.mark.parametrize("name", [*MISFITS, "gmm"])
def test_values_that_are_no_data_are_marked_each(name):
    values, wrong = (table.get(name, table["gaussian"]) for table in (MISFITS, WRONG))
    found = LIKELIHOODS[name].misfits(np.array(values))
    assert found.dtype == bool and found.tolist() == np.array(wrong, dtype=bool).tolist()


def test_two_halves_in_a_step_are_no_category_though_they_sum_to_1():
    found = LIKELIHOODS["categorical"].misfits(np.array([[0.5, 0.5, 0.0], [2.0, -1.0, 0.0]]))
    assert found.tolist() == [[True, True, False], [True, True, False]]


@pytest.mark.parametrize("name", [name for name in MISFITS if name != "gaussian"])
def test_data_that_do_not_suit_are_refused_with_what_is_needed_in_place_of_them(name):
    bad = Sequences(np.array(MISFITS[name][1]), np.array([2]))
    with pytest.raises(DataError) as refused:
        check_suits(bad, LIKELIHOODS[name])
    assert str(refused.value).endswith(LIKELIHOODS[name].needs)
    check_suits(bad, LIKELIHOODS["gaussian"])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_mixture_has_as_many_components_as_told_and_others_do_not_care(name):
    blocks = {"gmm": lambda K: {"W_out": (4, 6 * K), "W_pi": (4, K)}, "pen": lambda K: {"W_out": (4, 6 * K + 1)}}
    for K in (1, 2, np.int64(7), 20):
        likelihood = get_likelihood(name, K) if K != 20 else get_likelihood(name)
        expected = blocks[name](int(K)) if name in blocks else {"W_out": (4, 6 if name == "gaussian" else 3)}
        shapes = likelihood.head_shapes(4, 3)
        assert {leaf: shape for leaf, shape in shapes.items() if leaf.startswith("W")} == expected
        assert {leaf: shape for leaf, shape in shapes.items() if leaf.startswith("b")} == {
            leaf.replace("W", "b"): shape[1:] for leaf, shape in expected.items()
        }
        assert (
            likelihood.components == (int(K) if name in blocks else None)
            and type(likelihood.components) is not np.int64
        )
        assert likelihood._replace(head_shapes=None, components=None) == LIKELIHOODS[name]._replace(
            head_shapes=None, components=None
        )
    for wrong in (0, -1, 1.5, 2.0, "3", None):
        if name in blocks:
            with pytest.raises(ConfigError, match="components must be a whole number of at least 1"):
                get_likelihood(name, wrong)
        else:
            assert get_likelihood(name, wrong) is LIKELIHOODS[name]


@pytest.mark.parametrize("K", [1, 2, 3, 5, 6, 7, 10, 13, 100, 1000])
def test_the_largest_uniform_still_picks_a_category(K):
    """Because of rounding the weights may sum to less than the largest uniform below 1."""
    largest = np.nextafter(np.float32(1), np.float32(0)).reshape(1, 1)
    for seed in range(20):
        weights = categorical.categorical_mean(checks.rng(seed).standard_normal((1, K)).astype("float32"))
        assert categorical.pick(largest, weights).sum() == 1
