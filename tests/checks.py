"""Checks shared by tests and planted mistakes: each passes on right code and raises AssertionError on wrong code.

A check looks its functions up in the package when it runs (module.name, not a name imported here), so it sees a planted
function. test_planted.py proves that each check can fail.
"""

import math
import os
from itertools import product

import autograd
import numpy as np
import plain
import pytest

import tinyvrnn as tv
from tinyvrnn import bounds, gradcheck
from tinyvrnn.arrays.backend import get_backend, namespace, to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.data import Data, Sequences, baselines
from tinyvrnn.data.mapped import Mapped
from tinyvrnn.distributions import bernoulli, categorical, gaussian, mixture, pen
from tinyvrnn.gradcheck import all_pairs
from tinyvrnn.models import MODELS, equations, linear_gaussian, particles, rnn, schedule, stepwise, vrnn
from tinyvrnn.models.batch import Batch, Objective, rows, validate
from tinyvrnn.nn import activations, gru, lstm
from tinyvrnn.nn.cells import h_of, state_width
from tinyvrnn.training import loop, optim, parallel

DEVICE = os.environ.get("TINYVRNN_TEST_DEVICE", "strict")  # or "cupy": a GPU, or the test double of the module
BACKENDS = ("numpy", DEVICE)  # conftest.py marks tests with the second one as `device`
on_device = pytest.mark.device
# numeric gradients of whole models: other tests show that strict gives NumPy's bits, and it takes four times as long
DEVICE_LATER = ("numpy", pytest.param(DEVICE, marks=pytest.mark.slow))
ROUNDING = {"float64": 1e-11, "float32": 1e-4}  # allowed between NumPy and a GPU, relative to the largest entry


def rng(seed=0):
    return np.random.default_rng(seed)


def device(backend, *arrays):
    """The arrays, on a backend."""
    return tuple(get_backend(backend).asarray(a) for a in arrays)


def small(likelihood="bernoulli", backend="numpy", seed=0, T=5, B=4, scale=0.4, model="vrnn", **options):
    """A model of a few hundred parameters, all random (biases too), and a ragged batch: model, x, lengths, eps."""
    kind, sizes = MODELS[model], {"x_dim": 4, "h_dim": 5, "z_dim": 2, "features": 3}
    options |= {"x_dim": 3} if likelihood == "pen" else {}
    options = {n: s for n, s in sizes.items() if n in kind.sizes} | {"dtype": "float64", "components": 3} | options
    model = kind(likelihood=likelihood, backend=backend, seed=seed, **options)
    draw = rng(seed)
    theta = scale * draw.standard_normal(model.theta.shape)
    for name, leaf in leaves(views(theta, model.shapes)):
        if name.split(".")[1] in ("b1", "b2", "b3"):
            leaf[...] = 0.5 + abs(leaf)  # dead rectifiers would hide mistakes
    model.theta[...] = model.backend.asarray(theta.astype(model.dtype))
    x = all_pairs.suited(draw.random((T, B, model.x_dim)).astype(model.dtype), likelihood)
    lengths = np.array([T, *draw.integers(1, T + 1, B - 1)])
    return model, x, lengths, draw.standard_normal((T, B, model.z_dim)).astype(model.dtype)


def host_params(model):
    return views(to_host(model.theta).copy(), model.shapes)


def assert_close(actual, expected, tol, what=""):
    """Assert that arrays agree relative to the largest entry; NaN never passes."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shapes {actual.shape} and {expected.shape}"
    error = gradcheck.rel_error(actual, expected)
    assert error <= tol, f"{what}: relative error {error:.2e}, more than {tol:g}"


def assert_as_on_numpy(actual, expected, what=""):
    """The same bits on strict, which computes with NumPy; on CuPy up to rounding."""
    actual, expected = to_host(actual), to_host(expected)
    if DEVICE == "strict":
        assert actual.tobytes() == expected.tobytes(), what
    else:
        assert_close(actual, expected, ROUNDING[expected.dtype.name], what)


def assert_same_tree(actual, expected, tol):
    actual, expected = dict(leaves(actual)), dict(leaves(expected))
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_close(to_host(actual[name]), to_host(expected[name]), tol, name)


def assert_mean(samples, expected, what, z=4.0):
    """The mean over axis 0 lies within z standard errors of `expected`, in every entry."""
    error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    away = np.abs(samples.mean(axis=0) - expected) / error
    assert np.all(away < z), f"{what}: {np.max(away):.1f} standard errors away from {expected}"


# ---- gradients -----------------------------------------------------------------------------------


def pair_gradients(name, backend="numpy", seed=0, leading=(3,)):
    """The hand-written gradients of one pair equal the numeric ones to 1e-7."""
    rows = all_pairs.check(name, backend, seed, tol=1e-7, leading=leading)
    pair = all_pairs.PAIRS[name]
    # `check_pair` skips an input whose gradient is None, which no pair of this package may return
    assert len(rows) == len(pair.shapes) + len(pair.inputs)


def elbo_gradients(likelihood="bernoulli", backend="numpy", layers=2, seed=0, beta=0.7, **options):
    """Every leaf of the gradient of the whole ELBO equals the numeric one to 1e-6; ragged, beta != 1."""
    sizes = {"T": 3, "B": 3, "features": 2} | options
    model, x, lengths, eps = small(likelihood, backend, seed, layers=layers, **sizes)
    rows = gradcheck.check_model(model, x, lengths, eps, beta=beta, tol=1e-6)
    assert [row.leaf for row in rows] == [name for name, _ in leaves(model.params)]


def elbo_equals_plain_rewrite(likelihood="bernoulli", layers=2, beta=1.0, seed=0, model="vrnn", **options):
    """Loss (1e-10) and every leaf of the gradient (1e-8) equal those of plain.py, differentiated by autograd."""
    terms = {"vrnn": plain.terms, "vrnn-i": plain.terms, "rnn": plain.rnn_terms, "vae": plain.vae_terms}[model]
    model, x, lengths, eps = small(likelihood, seed=seed, layers=layers, model=model, **options)
    loss, grads, _ = model.loss_and_grads(x, lengths, eps, beta)
    value, gradient = autograd.value_and_grad(plain.loss)(host_params(model), x, lengths, eps, likelihood, beta, terms)
    assert abs(loss - value) < 1e-10 * max(1, abs(value)), f"loss {loss}, plain rewrite {value}"
    assert_same_tree(views(grads, model.shapes), gradient, 1e-8)


def batched_equals_stepwise(likelihood="bernoulli", backend="numpy", seed=0, ragged=False, **sizes):
    """log p, KL and all gradients equal those of the step-by-step schedule to 1e-12, for a random upstream gradient."""
    model, x, lengths, eps = small(likelihood, backend, seed, **sizes)
    mask = (np.arange(len(x))[:, None] < lengths).astype(float) if ragged else np.ones(x.shape[:2])
    upstream = rng(seed + 1).standard_normal((2, *x.shape[:2])) * mask
    x, eps, mask, dlog_p, dkl = device(backend, x, eps, mask, *upstream)
    results = []
    for module in (schedule, stepwise):
        log_p, kl, cache = module.sequence_forward(model.params, x, eps, model.likelihood, mask=mask)
        grads = module.sequence_backward(model.params, cache, dlog_p, dkl, model.likelihood)
        results.append((to_host(log_p * mask), to_host(kl * mask), grads))
    (log_p, kl, grads), (log_p_literal, kl_literal, grads_literal) = results
    assert_close(log_p, log_p_literal, 1e-12, "log p")
    assert_close(kl, kl_literal, 1e-12, "KL")
    assert_same_tree({group: grads[group] for group in grads_literal}, grads_literal, 1e-12)


def rnn_literal_backward(params, caches, dlog_p, likelihood):
    """The gradient of every parameter of an RNN from `rnn.literal_forward`, summed over the steps."""
    dstate = namespace(dlog_p).zeros((dlog_p.shape[1], state_width(params["recur"])), dtype=dlog_p.dtype)
    total = {group: {leaf: 0 for leaf in named} for group, named in params.items()}
    for (predict_cache, log_p_cache, phi_x_cache, recur_cache), dlog_p_t in zip(caches[::-1], dlog_p[::-1]):
        grads = {}
        (dphi_x, dstate), grads["recur"] = equations.remember_backward(params["recur"], recur_cache, dstate)
        _, grads["phi_x"] = equations.features_backward(params["phi_x"], phi_x_cache, dphi_x)
        _, *doutputs = likelihood.log_density_backward(log_p_cache, dlog_p_t)
        dh_predict, grads["predict"] = equations.predict_backward(
            params["predict"], predict_cache, *doutputs, likelihood=likelihood
        )
        dh = h_of(params["recur"], dstate)
        dh += dh_predict
        total = {group: {leaf: total[group][leaf] + g for leaf, g in named.items()} for group, named in grads.items()}
    return total


def rnn_equals_its_literal_steps(likelihood="bernoulli", backend="numpy", seed=0, **sizes):
    """As above for the RNN: log p and all gradients equal the step-by-step ones to 1e-12, with a random upstream."""
    model, x, *_ = small(likelihood, backend, seed, model="rnn", **sizes)
    x, dlog_p = device(backend, x, rng(seed + 1).standard_normal(x.shape[:2]))
    log_p, cache = rnn.sequence_forward(model.params, x, model.likelihood)
    log_p_literal, caches = rnn.literal_forward(model.params, x, model.likelihood)
    assert_close(to_host(log_p), to_host(log_p_literal), 1e-12, "log p")
    grads, literal = (
        backward(model.params, c, dlog_p, model.likelihood)
        for backward, c in ((rnn.sequence_backward, cache), (rnn_literal_backward, caches))
    )
    assert_same_tree({group: grads[group] for group in literal}, literal, 1e-12)


def rnn_probabilities_sum_to_1(likelihood="bernoulli", T=3):
    """exp(log p(x)) sums to 1 over all sequences of T steps: log p(x) is exact, not a bound."""
    model, *_ = small(likelihood, model="rnn", x_dim=2)
    outcomes = np.eye(2) if likelihood == "categorical" else np.array(list(product([0.0, 1.0], repeat=2)))
    x = np.array(list(product(outcomes, repeat=T))).swapaxes(0, 1)
    assert abs(np.exp(model.elbo(x)).sum() - 1) < 1e-12


def steps_of_a_vae_are_unrelated(likelihood="gaussian"):
    """The bound of a sequence is the sum of the bounds of its steps, each passed as x (B, X); q(z | x) needs x only."""
    model, x, _, eps = small(likelihood, model="vae")
    whole = model.parts(x, None, eps)
    steps = [model.parts(x_t, None, eps_t) for x_t, eps_t in zip(x, eps)]
    assert_close(np.array(whole), np.sum(steps, axis=0), 1e-12, "parts")


def vae_elbo_lies_below_the_evidence(n=4000):
    """For Z = 1, with log p(x) from a grid over z: log p(x) minus the mean ELBO is KL(q || p(z | x)) on that grid."""
    model, x, *_ = small("bernoulli", model="vae", z_dim=1, B=1, T=1)
    p, z = host_params(model), np.linspace(-12, 12, 20_001)
    v = plain.hidden(p["decode"], z[:, None])
    joint = [plain.log_density("bernoulli", x[0, 0], a) for a in plain.outputs(p["decode"], "bernoulli", v)[0]]
    joint = np.array(joint) + normal_log_density(z, 0.0, 1.0)
    evidence = np.log(np.exp(joint).sum() * (z[1] - z[0]))
    mu, sigma = plain.gaussian_head(p["encode"], plain.hidden(p["encode"], x[0, 0]))
    log_q = normal_log_density(z, mu, sigma)
    gap = (np.exp(log_q) * (log_q - joint + evidence)).sum() * (z[1] - z[0])
    elbo = model.elbo(np.tile(x, (1, n, 1)), eps=rng(7).standard_normal((1, n, 1)))
    assert gap > 0.01
    assert_mean(elbo[:, None], evidence - gap, "ELBO")


def sequence_backward_is_pure(likelihood="bernoulli"):
    """Called twice it returns the same bits, and changes no byte of params, cache or upstream gradients."""
    model, x, _, eps = small(likelihood)
    upstream = rng(1).standard_normal((2, *x.shape[:2]))
    log_p, kl, cache = schedule.sequence_forward(model.params, x, eps, model.likelihood)
    given = (model.theta, x, eps, upstream, log_p, kl, *arrays_in(cache))
    before = [a.tobytes() for a in given]
    first, second = (
        dict(leaves(schedule.sequence_backward(model.params, cache, *upstream, model.likelihood))) for _ in range(2)
    )
    assert before == [a.tobytes() for a in given], "sequence_backward changed what it was given"
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), f"the second call returned another gradient of {name}"


def arrays_in(value):
    """All arrays in nested tuples."""
    if isinstance(value, tuple):
        return [a for item in value for a in arrays_in(item)]
    return [value] if isinstance(value, np.ndarray) else []


# ---- forward, by another route -------------------------------------------------------------------


def activation_values():
    """relu, tanh, sigmoid and softplus of a few numbers, by `math`."""
    a = np.array([-3.0, -0.5, 0.0, 0.25, 2.0])
    expected = {
        "relu": [max(v, 0.0) for v in a],
        "tanh": [math.tanh(v) for v in a],
        "sigmoid": [1 / (1 + math.exp(-v)) for v in a],
        "softplus": [math.log(1 + math.exp(v)) for v in a],
    }
    for name, values in expected.items():
        y, _ = getattr(activations, f"{name}_forward")(a)
        assert_close(y, values, 1e-15, name)


def reparameterise_moments(n=40_000):
    """Draws have mean mu and standard deviation sigma, not sigma^2."""
    mu, sigma = np.array([-1.0, 0.5, 3.0]), np.array([0.1, 0.5, 3.0])
    z, _ = gaussian.reparameterise_forward(mu, sigma, rng().standard_normal((n, 3)))
    assert_mean(z, mu, "mean of z")
    assert_mean((z - mu) ** 2, sigma**2, "variance of z")


def mixture_of_two(n, X=2):
    """logits (n, 2), mu, sigma (n, 2, X) of a mixture with weights 0.3 and 0.7, the same in every row; the weights."""
    pi, mu = np.array([0.3, 0.7]), np.arange(2 * X).reshape(2, X) - 1.0
    sigma = np.array([0.5, 2.0])[:, None] * np.ones((2, X))
    return *(np.broadcast_to(a, (n, *a.shape)) for a in (np.log(pi) + 3, mu, sigma)), pi


def gmm_moments(n=40_000):
    """Draws have the mean, the variance and the cumulative distribution of the mixture."""
    logits, mu, sigma, pi = mixture_of_two(n)
    draw = rng()
    noise = np.concatenate([draw.random((n, 1)), draw.standard_normal((n, 2))], axis=1)
    x = mixture.gmm_sample(noise, logits, mu, sigma)
    mean = pi @ mu[0]
    assert_mean(x, mean, "mean of x")
    assert_mean((x - mean) ** 2, pi @ (sigma[0] ** 2 + (mu[0] - mean) ** 2), "variance of x")
    below = 0.5 + 0.5 * np.vectorize(math.erf)((0.3 - mu[0]) / (sigma[0] * math.sqrt(2)))
    assert_mean((x < 0.3).astype(float), pi @ below, "P(x < 0.3)")
    assert_mean(x[:, :1] * x[:, 1:], pi @ (mu[0, :, :1] * mu[0, :, 1:]), "E[x_1 x_2], one component for all entries")
    assert_close(mixture.gmm_mean(logits, mu, sigma)[0], mean, 1e-14, "mean")


def categorical_moments(n=40_000):
    """Draws are one-hot, with mean softmax(a)."""
    a = np.array([-2.0, 0.0, 0.7, 1.0])
    x = categorical.categorical_sample(rng().random((n, 1)), np.tile(a, (n, 1)))
    assert set(np.unique(x)) == {0.0, 1.0} and np.all(x.sum(axis=1) == 1)
    assert_mean(x, np.exp(a) / np.exp(a).sum(), "mean of x")
    assert_close(categorical.categorical_mean(a), np.exp(a) / np.exp(a).sum(), 1e-14, "mean")


def pen_moments(n=60_000):
    """Draws have the moments and correlation of one component, the mean of two, and the probability of pen-up."""
    logits, mu, sigma, pi = mixture_of_two(n)
    rho, a, draw = np.tile([0.8, -0.5], (n, 1)), np.full((n, 1), -0.4), rng()
    noise = np.concatenate([draw.random((n, 2)), draw.standard_normal((n, 2))], axis=1)
    x = pen.pen_sample(noise, logits, mu, sigma, rho, a)
    mean, lifted = pi @ mu[0], 1 / (1 + math.exp(0.4))
    assert set(np.unique(x[:, 2])) == {0.0, 1.0}
    assert_mean(x, [*mean, lifted], "mean of x")
    assert_close(pen.pen_mean(logits, mu, sigma, rho, a)[0], [*mean, lifted], 1e-14, "mean")
    assert_mean((x[:, :2] - mean) ** 2, pi @ (sigma[0] ** 2 + (mu[0] - mean) ** 2), "variances")
    products = mu[0, :, 0] * mu[0, :, 1] + rho[0] * sigma[0, :, 0] * sigma[0, :, 1]
    assert_mean(x[:, :1] * x[:, 1:2], pi @ products[:, None], "E[dx dy]")
    assert_mean(x[:, :1] * x[:, 2:], mean[:1] * lifted, "E[dx pen], which are independent here")


def bernoulli_moments(n=40_000):
    """Draws are 0 or 1, with mean sigmoid(a)."""
    a = np.array([-2.0, 0.0, 0.7, 3.0])
    x = bernoulli.bernoulli_sample(rng().random((n, 4)), np.tile(a, (n, 1)))
    assert set(np.unique(x)) == {0.0, 1.0}
    assert_mean(x, 1 / (1 + np.exp(-a)), "mean of x")


def two_gaussians(seed, B=6, Z=3):
    draw = rng(seed)
    return tuple(f(draw.standard_normal((B, Z))) for f in (lambda v: v, np.exp, lambda v: v, np.exp))


def normal_log_density(x, mu, sigma):
    return -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma * math.sqrt(2 * math.pi))


def kl_textbook():
    """KL equals log(s0/sz) + (sz^2 + (mz - m0)^2) / (2 s0^2) - 1/2, and is 0 for equal distributions."""
    mz, sz, m0, s0 = two_gaussians(0)
    expected = (np.log(s0 / sz) + (sz**2 + (mz - m0) ** 2) / (2 * s0**2) - 0.5).sum(axis=-1)
    assert_close(gaussian.gaussian_kl_forward(mz, sz, m0, s0)[0], expected, 1e-13, "KL")
    assert np.all(gaussian.gaussian_kl_forward(mz, sz, mz, sz)[0] == 0)


def kl_monte_carlo(n=40_000):
    """KL equals the mean of log q(z) - log p(z) over draws of q, within 4 standard errors."""
    mz, sz, m0, s0 = two_gaussians(1)
    s0 = s0 + 0.5  # a prior much narrower than q gives the estimate heavy tails
    z = mz + sz * rng(2).standard_normal((n, *mz.shape))
    ratio = (normal_log_density(z, mz, sz) - normal_log_density(z, m0, s0)).sum(axis=-1)
    assert_mean(ratio, gaussian.gaussian_kl_forward(mz, sz, m0, s0)[0], "KL")


def log_densities_textbook():
    """Both log-densities equal the formulas of a textbook, entry by entry, with `math`."""
    draw = rng(3)
    x, (mu, a), sigma = draw.random((5, 3)), draw.standard_normal((2, 5, 3)), draw.random((5, 3)) + 0.2
    normal = [
        sum(math.log(math.exp(-((v - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))) for v, m, s in zip(*row))
        for row in zip(x, mu, sigma)
    ]
    coin = [
        sum(v * math.log(1 / (1 + math.exp(-w))) + (1 - v) * math.log(1 / (1 + math.exp(w))) for v, w in zip(*row))
        for row in zip(x, a)
    ]
    assert_close(gaussian.gaussian_log_density_forward(x, mu, sigma)[0], normal, 1e-13, "log N")
    one_hot = np.eye(3)[[0, 2, 1, 1, 0]]
    picked = [math.log(math.exp(row @ w) / sum(math.exp(v) for v in w)) for row, w in zip(one_hot, a)]
    assert_close(categorical.categorical_log_density_forward(one_hot, a)[0], picked, 1e-13, "log categorical")
    assert_close(bernoulli.bernoulli_log_density_forward(x, a)[0], coin, 1e-13, "log Bernoulli")


def mixtures_textbook():
    """gmm and pen equal their formulas as printed (for pen Eq. 23 to 25 of Graves, 2013), one row at a time."""
    draw, K = rng(8), 4
    x, logits, mu = draw.standard_normal((5, 3)), draw.standard_normal((5, K)), draw.standard_normal((5, K, 3))
    sigma, rho, a = draw.random((5, K, 3)) + 0.2, np.tanh(draw.standard_normal((5, K))), draw.standard_normal((5, 1))
    expected = [plain.log_density("gmm", *row) for row in zip(x, logits, mu, sigma)]
    assert_close(mixture.gmm_log_density_forward(x, logits, mu, sigma)[0], expected, 1e-13, "log gmm")
    x[:, 2] = [0, 1, 1, 0, 1]
    expected = [plain.log_density("pen", *row) for row in zip(x, logits, mu[..., :2], sigma[..., :2], rho, a)]
    found, _ = pen.pen_log_density_forward(x, logits, mu[..., :2], sigma[..., :2], rho, a)
    assert_close(found, expected, 1e-12, "log pen")


def mixtures_integrate_to_1():
    """A grid over x for gmm, over (dx, dy) and both pens for pen; all one-hot x for the categorical."""
    grid, step = np.linspace(-20, 20, 20_001)[:, None], 40 / 20_000
    logits, mu, sigma, _ = mixture_of_two(len(grid), X=1)
    assert abs(np.exp(mixture.gmm_log_density_forward(grid, logits, mu, sigma)[0]).sum() * step - 1) < 1e-10
    axis, step = np.linspace(-16, 18, 341), 34 / 340
    x = np.array(list(product(axis, axis, [0.0, 1.0])))
    logits, mu, sigma, _ = mixture_of_two(len(x))
    rho, a = np.tile([0.7, -0.4], (len(x), 1)), np.full((len(x), 1), 0.6)
    log_p, _ = pen.pen_log_density_forward(x, logits, mu, sigma, rho, a)
    assert abs(np.exp(log_p).sum() * step**2 - 1) < 1e-9
    a = np.tile([1.0, -2.0, 0.3], (3, 1))
    assert abs(np.exp(categorical.categorical_log_density_forward(np.eye(3), a)[0]).sum() - 1) < 1e-14


def densities_integrate_to_1():
    """A grid over x for the Gaussian; x = 0 and x = 1 for the Bernoulli."""
    grid = np.linspace(-30, 30, 60_001)[:, None]
    for mu, sigma in ((0.0, 1.0), (2.0, 0.3), (-1.0, 3.0)):
        log_p, _ = gaussian.gaussian_log_density_forward(grid, np.full_like(grid, mu), np.full_like(grid, sigma))
        assert abs(np.exp(log_p).sum() * (grid[1, 0] - grid[0, 0]) - 1) < 1e-10
    for a in (-3.0, 0.0, 0.8):
        log_p, _ = bernoulli.bernoulli_log_density_forward(np.array([[0.0], [1.0]]), np.full((2, 1), a))
        assert abs(np.exp(log_p).sum() - 1) < 1e-14


def gru_literal(p, x, h):
    """h' of one row, one scalar at a time, from the equations of the reset-after GRU."""
    H, D = len(h), len(x)

    def side(v, W, b, column):
        return sum(v[i] * W[i, column] for i in range(len(v))) + b[column]

    h_next = np.empty(H)
    for j in range(H):
        assert p["W"].shape == (D, 3 * H)
        r = 1 / (1 + math.exp(-(side(x, p["W"], p["b"], j) + side(h, p["U"], p["c"], j))))
        u = 1 / (1 + math.exp(-(side(x, p["W"], p["b"], H + j) + side(h, p["U"], p["c"], H + j))))
        n = math.tanh(side(x, p["W"], p["b"], 2 * H + j) + r * side(h, p["U"], p["c"], 2 * H + j))
        h_next[j] = (1 - u) * n + u * h[j]
    return h_next


def gru_equals_literal():
    """The GRU cell equals a loop over scalars, with both biases at random."""
    draw = rng(4)
    p = {name: draw.standard_normal(shape) for name, shape in gru.shapes(4, 3).items()}
    x, h = draw.standard_normal((5, 4)), draw.standard_normal((5, 3))
    expected = np.stack([gru_literal(p, *row) for row in zip(x, h)])
    assert_close(gru.gru_forward(p, x, h)[0], expected, 1e-14, "h'")


def lstm_literal(p, x, h, m):
    """[h', m'] of one row, one scalar at a time, from the six equations; columns are the blocks i, f, n, o."""
    H, h_next, m_next = len(h), np.empty(len(h)), np.empty(len(h))

    def gate(block, j):
        k = block * H + j
        from_x = sum(x[i] * p["W"][i, k] for i in range(len(x))) + p["b"][k]
        return from_x + sum(h[i] * p["U"][i, k] for i in range(H)) + p["c"][k]

    for j in range(H):
        i, f, o = (1 / (1 + math.exp(-gate(block, j))) for block in (0, 1, 3))
        m_next[j] = f * m[j] + i * math.tanh(gate(2, j))
        h_next[j] = o * math.tanh(m_next[j])
    return np.concatenate([h_next, m_next])


def lstm_equals_literal():
    """The LSTM cell equals a loop over scalars, with both biases at random."""
    draw = rng(4)
    p = {name: draw.standard_normal(shape) for name, shape in lstm.shapes(4, 3).items()}
    x, state = draw.standard_normal((5, 4)), draw.standard_normal((5, 6))
    expected = np.stack([lstm_literal(p, x_row, row[:3], row[3:]) for x_row, row in zip(x, state)])
    assert_close(lstm.lstm_forward(p, x, state)[0], expected, 1e-14, "[h', m']")


# ---- particles ----------------------------------------------------------------------------------


def small_with_particles(likelihood="bernoulli", backend="numpy", seed=4, K=4, **sizes):
    """As `small`, with noise for K particles and for resampling: model, x, lengths, eps (T, B, K, Z), uniforms (T, B).

    With this seed some sequence is resampled for every likelihood.
    """
    model, x, lengths, eps = small(likelihood, backend, seed, **sizes)
    T, B, Z = eps.shape
    draw = rng(seed + 10)
    return model, x, lengths, draw.standard_normal((T, B, K, Z)).astype(model.dtype), draw.random((T, B))


def particles_of(model, x, lengths, eps):
    """What both particle bounds take: x (T, B K, X), eps (T, B K, Z), mask (T, B)."""
    return vrnn._particles(validate(model, Batch(x, lengths, eps), Objective("iwae")))[0]


def choices_of(model, x, lengths, eps, uniforms):
    """The resampling of `particle_filter` with this noise: a Choice for each step."""
    wide, eps, mask = particles_of(model, x, lengths, eps)
    uniforms = model.backend.asarray(uniforms)
    _, cache = particles.filter_forward(model.params, wide, eps, mask, uniforms, model.likelihood)
    return cache.choices


def ancestors_of(choices):
    """For plain.py: ancestors[t][b] is None, or the parent of each particle of sequence b."""
    host = [(to_host(c.again), to_host(c.ancestors)) for c in choices]
    return [[who[b] if again[b] else None for b in range(len(again))] for again, who in host]


def log_ratio_monte_carlo(n=40_000):
    """The mean over eps of log q(z) - log p(z) is the KL, and each value is that of two normal densities."""
    mz, sz, m0, s0 = two_gaussians(1)
    s0 = s0 + 0.5
    eps = rng(2).standard_normal((n, *mz.shape))
    ratio, _ = gaussian.gaussian_log_ratio_forward(mz, sz, m0, s0, eps)
    z = mz + sz * eps
    expected = (normal_log_density(z, mz, sz) - normal_log_density(z, m0, s0)).sum(axis=-1)
    assert np.allclose(ratio, expected, rtol=1e-11, atol=1e-11), "log q(z) - log p(z)"
    kl = np.log(s0 / sz) + (sz**2 + (mz - m0) ** 2) / (2 * s0**2) - 0.5
    assert_mean(ratio, kl.sum(axis=-1), "log q(z) - log p(z)")


def particle_bound_equals_plain_rewrite(bound="iwae", likelihood="bernoulli", **options):
    """Loss (1e-10) and gradient (1e-8) equal those of plain.py, differentiated by autograd with the ancestors given."""
    model, x, lengths, eps, uniforms = small_with_particles(likelihood, **options)
    loss, grads, _ = model.loss_and_grads(x, lengths, eps, bound=bound, uniforms=uniforms)
    ancestors = ancestors_of(choices_of(model, x, lengths, eps, uniforms)) if bound == "fivo" else None
    assert bound != "fivo" or sum(a is not None for row in ancestors for a in row) > 2  # some particles were resampled
    given = (host_params(model), x, lengths, eps, likelihood, ancestors)
    value, gradient = autograd.value_and_grad(plain.bound_loss)(*given)
    assert abs(loss - value) < 1e-10 * max(1, abs(value)), f"loss {loss}, plain rewrite {value}"
    assert_same_tree(views(grads, model.shapes), gradient, 1e-8)


def particle_bound_gradients(bound="iwae", likelihood="bernoulli", backend="numpy", beta=0.7, **options):
    """Every leaf of the gradient of a bound of several particles equals the numeric one to 1e-6; ragged, beta != 1."""
    sizes = {"T": 4, "B": 2, "K": 3, "h_dim": 3, "features": 2, "layers": 1} | options
    model, x, lengths, eps, uniforms = small_with_particles(likelihood, backend, **sizes)
    gradcheck.check_model(model, x, lengths, eps, beta, tol=1e-6, bound=bound, uniforms=uniforms)


def ended_sequences_stay(bound="fivo", garbage=0.7, linear=False, **options):
    """The bound of a sequence in a ragged batch equals that of the batch cut at its end, with any padding."""
    model, x, lengths, *_ = small_with_particles(**options)
    if linear:
        model, x = linear_gaussian.LinearGaussian(posterior="prior"), x[..., :1]
        garbage = np.nan_to_num(garbage)
    x = np.where(np.arange(len(x))[:, None, None] < lengths[:, None], x, garbage)
    found = getattr(bounds, bound)(model, x, lengths, 4)
    for n in sorted(set(lengths.tolist())):
        cut = getattr(bounds, bound)(model, x[:n], np.minimum(lengths, n), 4)
        assert_close(found[lengths == n], cut[lengths == n], 1e-12, bound)


def resampled_shares(n=20_000, K=5):
    """Systematic resampling copies particle k floor or ceil of K share_k times, and K share_k times on average."""
    log_w = rng(4).standard_normal(K) * 1.5
    shares = np.tile(np.exp(log_w) / np.exp(log_w).sum(), (n, 1))
    ancestors = particles.systematic(shares, rng(5).random(n))
    counts = (ancestors[:, :, None] == np.arange(K)).sum(axis=1)
    assert np.all(np.abs(counts - K * shares) < 1)
    away = np.abs(counts.mean(axis=0) - K * shares[0]) / (0.5 / math.sqrt(n))  # between floor and ceil: at most 1/2
    assert np.all(away < 4), f"places: {away.max():.1f} standard errors away from K times the share"


def estimate_is_unbiased(bound="fivo", posterior="prior", T=4, K=4, n=100_000):
    """The mean of exp(bound - log p(x)) over draws is 1, within 4 standard errors; short sequences."""
    model = linear_gaussian.LinearGaussian(posterior=posterior)
    x = np.tile(linear_gaussian.sine(T), (1, n, 1))
    exact = float(model.log_prob(x[:, :1])[0])
    assert_mean(np.exp(getattr(bounds, bound)(model, x, None, K, seed=1) - exact)[:, None], 1.0, f"{bound}-{K}")


def bounds_are_in_order(posterior="filtering", T=20, n=3000):
    """ELBO <= IWAE-2 <= IWAE-8 <= IWAE-32 <= log p(x), to 4 standard errors, and each increase is significant."""
    model, x = linear_gaussian.LinearGaussian(posterior=posterior), np.tile(linear_gaussian.sine(T), (1, n, 1))
    exact, elbo = (float(v[0]) for v in (model.log_prob(x[:, :1]), model.elbo(x[:, :1])))
    found = {K: bounds.iwae(model, x, None, K, seed=2) for K in (1, 2, 8, 32)}
    assert_mean(found[1][:, None], elbo, "IWAE-1, whose mean is the ELBO")
    for few, many in ((1, 2), (2, 8), (8, 32)):
        rise = found[many] - found[few]
        assert rise.mean() > 4 * rise.std() / math.sqrt(n), f"IWAE-{many} is not above IWAE-{few}"
    assert found[32].mean() < exact + 4 * found[32].std() / math.sqrt(n), "IWAE-32 is above log p(x)"


# ---- the exact case ------------------------------------------------------------------------------

# posterior: ELBO, sum of KL, gap to log p(x) of x_t = sin(t / 2); computed independently before the code was written
TABLE = {
    "smoothing": (-22.457023, 5.895823, 0.0),
    "filtering": (-23.596896, 4.571337, 1.139873),
    "filtering mean, smoothing variance": (-23.331092, 5.494420, 0.874069),
    "prior": (-65.348743, 0.0, 42.891720),
}


def table_of_gaps(name="filtering"):
    """ELBO, KL, gap and exact log p(x) of one row of the table, to 1e-6."""
    (row,) = [row for row in linear_gaussian.table() if row.posterior == name]
    found, expected = (row.elbo, row.kl, row.gap, row.exact), (*TABLE[name], -22.457023)
    assert np.allclose(found, expected, rtol=0, atol=1e-6), f"{name}: {found}, expected {expected}"


def exact_elbo_by_moments(posterior="filtering", a=0.9, q=0.5, r=0.5, T=6):
    """The exact ELBO's two terms equal those from means and variances of z_t under q, propagated step by step."""
    x, model = rng().standard_normal((T, 2, 1)), linear_gaussian.LinearGaussian(a, q, r, posterior)
    head, m, v = model.bind(x)["infer"], np.zeros((2, 1)), np.zeros((2, 1))
    log_likelihood = kl = 0.0
    for t in range(T):
        A, K, c, s = (head[name][t] for name in ("A", "K", "c", "sigma"))
        a_t, q_t = (a, q) if t else (0.0, 1.0)
        shift = (A - a_t) * m + K * x[t] + c
        kl += 0.5 * np.log(q_t / s**2) + (s**2 + shift**2 + (A - a_t) ** 2 * v) / (2 * q_t) - 0.5
        m, v = A * m + K * x[t] + c, A * A * v + s**2
        log_likelihood += -0.5 * math.log(2 * math.pi * r) - ((x[t] - m) ** 2 + v) / (2 * r)
    parts = model.parts(x)
    assert_close(parts.log_likelihood, log_likelihood[:, 0], 1e-12, "log-likelihood")
    assert np.allclose(parts.kl, kl[:, 0], rtol=1e-12, atol=1e-12), f"KL {parts.kl}, by moments {kl[:, 0]}"


# ---- invariances ---------------------------------------------------------------------------------


def padding_changes_nothing(likelihood="bernoulli", garbage=1e30, extra=3, **options):
    """More padding, with any content, changes neither loss nor parts nor gradient."""
    model, x, lengths, eps = small(likelihood, **options)
    loss, grads, parts = model.loss_and_grads(x, lengths, eps)
    wide_x, wide_eps = (np.concatenate([a, np.zeros((extra, *a.shape[1:]))]) for a in (x, eps))
    wide_eps[-extra:] = 0.5
    wide_x[np.arange(len(wide_x))[:, None] >= lengths] = garbage
    padded_loss, padded_grads, padded_parts = model.loss_and_grads(wide_x, lengths, wide_eps)
    assert_close(padded_loss, loss, 1e-12, "loss")
    assert_close(padded_parts, parts, 1e-12, "parts")
    assert_close(padded_grads, grads, 1e-12, "gradient")


def batch_equals_mean_of_singles(likelihood="bernoulli", backend="numpy", beta=0.6, **options):
    """The loss and the gradient of a batch are the means of those of its sequences, each cut to its length."""
    model, x, lengths, eps = small(likelihood, backend, **options)
    loss, grads, parts = model.loss_and_grads(x, lengths, eps, beta)
    singles = [
        model.loss_and_grads(x[:n, b : b + 1], None, eps[:n, b : b + 1], beta) for b, n in enumerate(lengths.tolist())
    ]
    assert_close(float(loss), np.mean([float(s[0]) for s in singles]), 1e-12, "loss")
    assert_close(to_host(grads), np.mean([to_host(s[1]) for s in singles], axis=0), 1e-12, "gradient")
    for name in ("elbo", "kl", "log_likelihood"):
        assert_close(to_host(parts[name]), np.concatenate([to_host(s[2][name]) for s in singles]), 1e-12, name)


def permutation_permutes(likelihood="bernoulli"):
    """Another order of the sequences reorders the parts and leaves loss and gradient unchanged."""
    model, x, lengths, eps = small(likelihood)
    loss, grads, parts = model.loss_and_grads(x, lengths, eps)
    order = np.array([2, 0, 3, 1])
    other_loss, other_grads, other_parts = model.loss_and_grads(x[:, order], lengths[order], eps[:, order])
    assert_close(other_loss, loss, 1e-12, "loss")
    assert_close(other_grads, grads, 1e-12, "gradient")
    assert_close(other_parts, np.stack(parts)[:, order], 1e-12, "parts")


def batches_are_unrelated():
    """Another batch in between changes nothing: no state is carried from one batch to the next."""
    model, x, lengths, eps = small()
    first = model.loss_and_grads(x, lengths, eps)
    model.loss_and_grads(1 - x, lengths, -eps)
    again = model.loss_and_grads(x, lengths, eps)
    assert first[0] == again[0] and np.array_equal(first[1], again[1]), "the loss depends on the batch before"


def finite_at_extremes(likelihood="bernoulli", extreme="outputs", dtype="float32", **options):
    """Loss, parts and all gradients are finite for head outputs of 1e3, head weights times 1e3, x of 1e4, or all."""
    model, x, lengths, eps = small(likelihood, dtype=dtype, **options)
    heads = [group for group, named in model.shapes.items() if "b_out" in named]
    x = np.round(x) if likelihood == "bernoulli" else x
    if extreme in ("outputs", "all"):
        for group in heads:
            for name in {"b_out", "b_pi"} & set(model.params[group]):
                bias = model.params[group][name]
                bias[...] = 1e3 * np.where(np.arange(bias.size) % 3, -1, 1)
    if extreme in ("weights", "all"):
        for group in heads:
            for name in {"W_out", "W_pi"} & set(model.params[group]):
                model.params[group][name][...] *= 1e3
    if extreme in ("x", "all"):
        moved = slice(0, 2 if likelihood == "pen" else None)  # a pen-up stays 0 or 1
        x[..., moved] = 1e4 * np.sign(x[..., moved] - 0.5) + x[..., moved]
    with np.errstate(all="ignore"):  # what counts is the result
        loss, grads, parts = model.loss_and_grads(x.astype(dtype), lengths, eps)
    assert np.isfinite(loss), f"loss {loss}"
    assert np.all(np.isfinite(parts)), f"parts {parts}"
    wrong = [name for name, g in leaves(views(grads, model.shapes)) if not np.all(np.isfinite(g))]
    assert not wrong, f"gradients that are not finite: {wrong}"


# ---- long sequences ------------------------------------------------------------------------------


def recomputation_equals_plain(backend="numpy", likelihood="gaussian", T=17, **options):
    """Loss, gradient and parts with recomputation equal the plain ones to 1e-12; ragged, beta != 1."""
    model, *given = small(likelihood, backend, T=T, **options)
    plainly, again = model.loss_and_grads(*given, beta=0.7), model.loss_and_grads(*given, beta=0.7, recompute=True)
    assert_close(to_host(again[0]), to_host(plainly[0]), 1e-12, "loss")
    assert_close(to_host(again[1]), to_host(plainly[1]), 1e-12, "gradient")
    for found, expected in zip(again[2], plainly[2]):
        assert_close(to_host(found), to_host(expected), 1e-12, "parts")


def gradients_of_chunks(model, batch, size, workers):
    """Yields the Gradient of each chunk, whose state the next one starts from."""
    state = None
    for chunk, before in batch.chunks(size):
        found = workers.gradient(model, chunk._replace(state=rows(state, before)), Objective())
        state = found.state
        yield found


def chunks_follow_their_sequences(chunk=2, workers=1, **options):
    """With a learning rate of 0, the chunks of a ragged batch add up to the parts of each whole sequence.

    The loss of a chunk is the mean over the sequences that have not ended; a second batch starts from a state of zeros.
    """
    model, x, lengths, eps = small("gaussian", T=9, B=5, **options)
    lengths = np.array([9, 2, 5, 1, 6])
    expected = model.parts(x, lengths, eps)
    with parallel.Workers(workers) as pool:
        for _ in range(2):
            found = np.zeros((3, 5))
            for number, (loss, _, parts, _) in enumerate(
                gradients_of_chunks(model, Batch(x, lengths, eps), chunk, pool)
            ):
                found[:, lengths > number * chunk] += np.stack([to_host(part) for part in parts])
                assert_close(float(loss), -to_host(parts.elbo).mean(), 1e-12, "loss of a chunk")
            assert_close(found, np.stack([to_host(part) for part in expected]), 1e-12, "parts")


def evaluation_in_chunks_is_that_of_the_whole(chunk=2, backend="numpy", **options):
    """Ragged sequences, some ending with a chunk, in several batches; in memory and memory-mapped."""
    model, *_ = small("gaussian", backend, **options)
    lengths = np.array([11, 1, 5, 10, 2, 11, 4])
    values = rng().random((lengths.sum(), model.x_dim))
    expected = bounds.evaluate_elbo(model, Sequences(values, lengths), batch_size=4, seed=2)
    mapped = Mapped([values], np.zeros(7, int), np.cumsum(lengths) - lengths, lengths)
    for sequences in (Sequences(values, lengths), mapped, mapped.standardised(0.0, 1.0)):
        found = bounds.evaluate_elbo(model, sequences, batch_size=4, seed=2, chunk=chunk)
        tolerance = 1e-6 if sequences.dtype == "float32" else 1e-12
        assert found == pytest.approx(expected, rel=tolerance)


def padding_that_overflows_changes_nothing():
    """In the padding, where x is 0, q is 10^23 times as wide as the prior: infinity times 0 would be NaN."""
    model, x, lengths, eps = small("gaussian", dtype="float32", layers=1)
    model.theta[...], x[...] = 0, 1
    model.params["phi_x"]["b1"][...], model.params["phi_x"]["W1"][...] = 1e3, -1e3  # 0 where x is 1
    model.params["infer"]["W1"][0, 0], model.params["infer"]["W_out"][0, 2:] = 1, 1e16
    model.params["prior"]["b_out"][2:] = -20
    with np.errstate(all="ignore"):
        loss, grads, _ = model.loss_and_grads(x, lengths, eps)
    assert lengths.min() < len(x) and np.isfinite(loss) and np.all(np.isfinite(grads))


def a_gradient_too_long_to_square_keeps_its_direction():
    """Elements of 1e25: their squares overflow float32, but their norm does not."""
    grads = np.float32([3e25, -4e25, 0])
    norm = optim.clip_by_global_norm(grads, 10.0)
    assert np.isfinite(norm) and abs(norm / 5e25 - 1) < 1e-6, f"norm {norm}"
    assert_close(grads, [6, -8, 0], 1e-6, "clipped gradient")


# ---- sampling ------------------------------------------------------------------------------------


def coin_that_stays(model="vrnn"):
    """A Bernoulli VRNN (or RNN), set by hand, whose x_1 is a fair coin and whose x_t repeats x_{t-1}.

    With u = 0 the state is h_t = tanh(20 x_t - 10), about +1 or -1, and the logit is 50 h_{t-1}: 0 at first. If a mean
    of 0.5 is fed back instead of a sample, h = 0 and the next coin is fair again. z has no effect, and posterior and
    prior are equal, so the ELBO of a sequence of equal values is log 1/2 for any length.
    """
    if model == "rnn":
        model = tv.RNN(x_dim=1, h_dim=1, features=2, layers=1, dtype="float64")
    else:
        model = tv.VRNN(x_dim=1, h_dim=1, z_dim=1, features=2, layers=1, dtype="float64")
    model.theta[...] = 0
    p = model.params
    decoder = p["generate" if model.name == "vrnn" else "predict"]
    p["phi_x"]["W1"][...] = [[1, 0]]
    p["recur"]["W"][0, 2], p["recur"]["b"][...] = 20, [0, -60, -10]
    decoder["W1"][-1], decoder["W_out"][...] = [1, -1], [[50], [-50]]
    return model


def samples_are_fed_back(n=2000, model="vrnn"):
    """Samples are 0 or 1; the first is fair, all others equal the first."""
    x = coin_that_stays(model).sample(n=n, steps=6, seed=1)[..., 0]
    assert set(np.unique(x)) == {0.0, 1.0}
    assert_mean(x[0], 0.5, "first coin")
    assert np.array_equal(x, np.broadcast_to(x[0], x.shape)), "the coin did not stay"


def draw_x(likelihood, draw, *outputs):
    """x (n, X) from the outputs of plain.py, with NumPy's samplers, row by row if they have no batches."""
    if likelihood == "bernoulli":
        return (draw.random(outputs[0].shape) < plain.sigmoid(outputs[0])).astype(float)
    if likelihood == "gaussian":
        return draw.normal(*outputs)
    if likelihood == "categorical":
        return draw.multinomial(1, plain.softmax(outputs[0])).astype(float)
    rows, k = np.arange(len(outputs[0])), draw.multinomial(1, plain.softmax(outputs[0])).argmax(axis=-1)
    mu, sigma = outputs[1][rows, k], outputs[2][rows, k]
    if likelihood == "gmm":
        return draw.normal(mu, sigma)
    rho, pen = outputs[3][rows, k], draw.random((len(rows), 1)) < plain.sigmoid(outputs[4])
    across = sigma[:, 0] * sigma[:, 1] * rho
    root = np.linalg.cholesky(np.array([[sigma[:, 0] ** 2, across], [across, sigma[:, 1] ** 2]]).transpose(2, 0, 1))
    return np.concatenate([mu + np.einsum("nij,nj->ni", root, draw.standard_normal(mu.shape)), pen], axis=1)


def tempered(likelihood, tau, *outputs):
    """outputs of plain.py: standard deviations times tau, logits divided by it, everything else as it is."""
    roles = {"gaussian": "ms", "bernoulli": "a", "categorical": "a", "gmm": "ams", "pen": "amsra"}[likelihood]
    factors = {"m": 1, "r": 1, "s": tau, "a": 1 / tau}
    return [factors[role] * output for role, output in zip(roles, outputs, strict=True)]


def draw_plainly(model, n, steps, draw, tau=1.0):
    """x (steps, n, X) by Eq. 8 at the temperature tau, with the functions of plain.py and NumPy's noise."""
    p, name, xs = host_params(model), model.likelihood.name, []
    if model.name == "vae":
        z = tau * draw.standard_normal((steps, n, model.z_dim))
        return np.stack([draw_x(name, draw, *tempered(name, tau, *plain.decoded(p, name, z_t))) for z_t in z])
    state = np.zeros((n, 1)) + plain.no_state(p["recur"])
    for _ in range(steps):
        h = plain.seen(p["recur"], state)
        if model.name == "rnn":
            v = plain.hidden(p["predict"], h)
            xs.append(draw_x(name, draw, *tempered(name, tau, *plain.outputs(p["predict"], name, v))))
            state = plain.recur(p["recur"], plain.hidden(p["phi_x"], xs[-1]), state)
            continue
        noise = tau * draw.standard_normal((n, model.z_dim))
        mu_0, sigma_0 = plain.prior(p, h, noise)
        phi_z = plain.hidden(p["phi_z"], mu_0 + sigma_0 * noise)
        v = plain.hidden(p["generate"], np.concatenate([phi_z, h], axis=1))
        x = draw_x(name, draw, *tempered(name, tau, *plain.outputs(p["generate"], name, v)))
        xs.append(x)
        state = plain.recur(p["recur"], np.concatenate([plain.hidden(p["phi_x"], x), phi_z], axis=1), state)
    return np.stack(xs)


def sample_moments(likelihood="bernoulli", n=40_000, steps=3, tau=1.0, **options):
    """Means, squares and products of consecutive steps of samples equal those of draws by plain.py."""
    model, *_ = small(likelihood, scale=0.8, **options)
    ours = model.sample(n=n, steps=steps, seed=3, temperature=tau)
    theirs = draw_plainly(model, n, steps, rng(5), tau)
    for name, moment in (
        ("x_t", lambda x: x),
        ("x_t^2", lambda x: x * x),
        ("x_t x_{t-1}", lambda x: x[1:] * x[:-1]),
    ):
        a, b = moment(ours), moment(theirs)
        error = np.sqrt((a.var(axis=1) + b.var(axis=1)) / n)  # 0 if a value occurs in neither of the two
        away = np.abs(a.mean(axis=1) - b.mean(axis=1)) / np.maximum(error, 1e-12)
        assert np.all(away < 4), f"mean of {name}: {away.max():.1f} standard errors away"


# ---- training ------------------------------------------------------------------------------------


def toy_data(lengths=(3, 1, 5, 2, 4, 5, 2, 1), x_dim=4, seed=0):
    draw = rng(seed)
    sequences = [draw.integers(0, 2, (n, x_dim)).astype("float32") for n in lengths]
    return tv.Data.from_sequences("toy", sequences, sequences[:4], sequences[4:])


def clipped_before_the_step(clip=0.01):
    """No gradient passed to Adam has a norm above `clip`, and some did before clipping."""
    norms, step = [], optim.Adam.step

    def watched(self, theta, grads, *args, **kwargs):
        norms.append(float(np.linalg.norm(grads)))
        return step(self, theta, grads, *args, **kwargs)

    model, *_ = small(dtype="float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim.Adam, "step", watched)
        records = loop.train(model, toy_data(), progress=False, epochs=2, batch=4, clip=clip, workers=1)
    assert max(record["grad_norm"] for record in records) > 2 * clip  # clipping took effect
    assert norms and max(norms) < 1.001 * clip, f"Adam stepped with a gradient of norm {max(norms):.3g}"


def training_keeps_the_best_weights():
    """The validation data are the opposite of the training data, so its ELBO soon falls; the best weights are kept."""
    model, *_ = small(dtype="float32")
    ones, zeros = np.ones((6, 3, 4), "float32"), np.zeros((6, 3, 4), "float32")
    data, elbos = tv.Data.from_sequences("opposites", ones, zeros, zeros), []
    loop.train(
        model,
        data,
        progress=False,
        epochs=4,
        lr=0.1,
        workers=1,
        on_epoch=lambda record, _: elbos.append(record["valid"]["elbo"]),
    )
    assert elbos[-1] < max(elbos) - 0.1  # the last weights are not the best
    kept = bounds.evaluate_elbo(model, data.valid).elbo_per_sequence
    assert kept == max(elbos), f"kept weights of validation ELBO {kept:.3f}, the best was {max(elbos):.3f}"


def units_are_exact(lengths=(1, 2, 5, 8)):
    """Four sequences of equal coins: -log 2 nats each, -4 log 2 over 16 steps, which is no mean of means."""
    sequences = tv.Sequences.from_list([np.full((n, 1), i % 2) for i, n in enumerate(lengths)])
    found = bounds.evaluate_elbo(coin_that_stays(), sequences, batch_size=3)
    assert (found.sequences, found.steps) == (len(lengths), sum(lengths))
    assert_close(found.elbo_per_sequence, -math.log(2), 1e-12, "nats per sequence")
    assert_close(found.elbo_per_step, -math.log(2) * len(lengths) / sum(lengths), 1e-12, "nats per step")
    assert_close(found.log_likelihood_per_sequence, -math.log(2), 1e-12, "log-likelihood")
    assert abs(found.kl_per_sequence) < 1e-15


def adam_textbook():
    """Three steps of Adam equal the algorithm box of Kingma and Ba, a scalar at a time."""
    theta, draw = np.array([1.0, -2.0]), rng(6)
    grads = draw.standard_normal((3, 2))
    expected = []
    for j in range(2):
        m = v = 0.0
        value = theta[j]
        for k, g in enumerate(grads[:, j], start=1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            value -= 0.01 * (m / (1 - 0.9**k)) / (math.sqrt(v / (1 - 0.999**k)) + 1e-8)
        expected.append(value)
    optimiser = optim.Adam(theta, lr=0.01)
    for g in grads:
        optimiser.step(theta, g.copy())
    assert_close(theta, expected, 1e-12, "theta")


def scale_moves_the_nats_that_it_states(scale="authors"):
    """log p of scaled ink minus log p of raw ink is the number that the units state, for each step."""
    draw = rng()
    ink = [np.column_stack([draw.normal((3, 1), (9, 4), (t, 2)), draw.integers(0, 2, t)]) for t in (5, 9, 2)]
    raw = Data.from_sequences("ink", ink, ink, ink, standardise=False, kind="pen")
    scaled = raw.standardised(True, scale=scale)
    moved = np.subtract(*([*baselines(data).values()] for data in (scaled, raw)))
    stated = float(scaled.units.partition(" = ")[2].split()[0])
    np.testing.assert_allclose(moved, stated * 16 / 3, rtol=1e-3)


def short_texts_have_probability_1():
    """The probabilities of all texts of two symbols sum to 1 under the baselines of symbols."""
    eye = np.eye(3)
    text = Data.from_sequences("text", *[[eye[rng().integers(0, 3, 9)]]] * 3)
    pairs = [Sequences(eye[[a, b]], [2]) for a in range(3) for b in range(3)]
    each = [[*baselines(text, pair, kind="categorical").values()] for pair in pairs]
    np.testing.assert_allclose(np.exp(each).sum(axis=0), 1, rtol=1e-12)
