"""Distributions and activations by other routes than their own formulas: draws, integrals, textbooks, exact values.

Catches: sigma^2 in place of sigma, log-variances taken for deviations, a KL without its constant, a density that does
not integrate to 1, digits lost for nearly equal deviations, overflow at extremes.
"""

import math
from decimal import Decimal, getcontext

import checks
import numpy as np
import pytest

from tinyvrnn.backend import to_host
from tinyvrnn.distributions import LIKELIHOODS, bernoulli, categorical, gaussian, mixture, pen
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
    # what is left is the rounding of d itself, which enters twice: 2e-16 in a sum of terms of size d
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


@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_sigma_never_falls_below_its_floor(backend):
    (s,) = checks.device(backend, np.array([-1e30, -1e3, -20.0, 0.0, 1e3]))
    sigma = to_host(gaussian.sigma_of(s))
    assert sigma[0] == sigma[1] == gaussian.SIGMA_MIN == 1e-4
    checks.assert_close(sigma[3:], [math.log(2) + 1e-4, 1e3 + 1e-4], 1e-15, "sigma")


@pytest.mark.parametrize("K", [1, 2, 3, 5, 6, 7, 10, 13, 100, 1000])
def test_the_largest_uniform_still_picks_a_category(K):
    """Rounded, the weights may add up to less than the largest uniform below 1."""
    largest = np.nextafter(np.float32(1), np.float32(0)).reshape(1, 1)
    for seed in range(20):
        weights = categorical.categorical_mean(checks.rng(seed).standard_normal((1, K)).astype("float32"))
        assert categorical.pick(largest, weights).sum() == 1
