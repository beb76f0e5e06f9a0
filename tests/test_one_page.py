"""The page for a newcomer computes what the package computes, in plain NumPy, and stays a page.

Catches: any wrong term of the bound or of its gradient, a float64 that creeps in, a host array beside a device's, a
mean fed back in place of the draw, clipping after the step, a page that grows, imports or writes into its arrays.
"""

import ast
import inspect
import re
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn import one_page
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.models.equations import features_forward, generate_forward, prior_forward
from tinyvrnn.nn.activations import sigmoid
from tinyvrnn.training.optim import Adam, clip_by_global_norm

SOURCE = Path(one_page.__file__).read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)
FUNCTIONS = [node for node in TREE.body if isinstance(node, ast.FunctionDef)]
SIZES = [
    {},
    {"T": 1},
    {"B": 1},
    {"z_dim": 1},
    {"x_dim": 1, "h_dim": 1},
    {"features": 1},
    {"T": 30, "B": 7, "h_dim": 11},
]
SIZES += [{"T": 1, "B": 1, "z_dim": 1, "x_dim": 1, "h_dim": 1, "features": 1}]
both = pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])


# ---- the same numbers as the package -------------------------------------------------------------


@both
@pytest.mark.parametrize("dtype, tol", [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.one_in(5)
def test_loss_and_every_gradient_equal_the_package(likelihood, dtype, tol, layers, sizes, beta):
    model, x, _, eps = checks.small(likelihood, dtype=dtype, layers=layers, **sizes)
    loss, grads, parts = model.loss_and_grads(x, None, eps, beta=beta)
    loss_of_page, grads_of_page = one_page.loss_and_grads(model.params, x, eps, likelihood, beta)
    checks.assert_close(loss_of_page, loss, tol, "loss")
    checks.assert_same_tree(grads_of_page, views(grads, model.shapes), tol)
    assert {gradient.dtype for _, gradient in leaves(grads_of_page)} == {np.dtype(dtype)}
    log_p, kl, _ = one_page.forward(model.params, x, eps, likelihood)
    checks.assert_close(np.sum(log_p, axis=0), parts.log_likelihood, tol, "log p")
    checks.assert_close(np.sum(kl, axis=0), parts.kl, tol, "KL")
    assert log_p.dtype == kl.dtype == loss_of_page.dtype == dtype


@both
def test_arguments_are_left_as_they_are(likelihood):
    model, x, _, eps = checks.small(likelihood)
    before = [a.tobytes() for a in (model.theta, x, eps)]
    one_page.loss_and_grads(model.params, x, eps, likelihood)
    assert before == [a.tobytes() for a in (model.theta, x, eps)]


class Device(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of a made-up device: NumPy's functions work on it, and an array of the host next to it is an error."""

    def __init__(self, host):
        self.host = host

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    T = property(lambda self: Device(self.host.T))

    def __len__(self):
        return len(self.host)

    def __getitem__(self, index):
        return Device(self.host[index])

    def __array__(self, *args, **options):
        raise TypeError("a device's array went to the host")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return wrap(getattr(ufunc, method)(*map(unwrap, inputs), **options))

    def __array_function__(self, function, types, args, options):
        return wrap(function(*map(unwrap, args), **{name: unwrap(value) for name, value in options.items()}))


def unwrap(value):
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host next to a device's")
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrap, value))
    return value.host if isinstance(value, Device) else value


def wrap(value):
    return [Device(v) for v in value] if isinstance(value, (list, tuple)) else Device(np.asarray(value))


@both
def test_it_runs_on_a_device(likelihood):
    model, x, _, eps = checks.small(likelihood, dtype="float32")
    loss, grads = one_page.loss_and_grads(model.params, x, eps, likelihood)
    params = {group: {name: Device(a) for name, a in named.items()} for group, named in model.params.items()}
    with pytest.raises(TypeError, match="next to"):
        one_page.loss_and_grads(params, x, Device(eps), likelihood)
    loss_there, grads_there = one_page.loss_and_grads(params, Device(x), Device(eps), likelihood, beta=1.0)
    assert loss_there.host == loss and loss_there.dtype == "float32"
    for name, there in leaves(grads_there):
        assert np.array_equal(there.host, dict(leaves(grads))[name]), name


# ---- sampling and training -----------------------------------------------------------------------


def test_samples_are_those_of_the_package():
    model, *_ = checks.small(seed=3, scale=1.0)
    model.params["prior"]["b_out"][model.z_dim :] = 3  # sigma_0 near 3, so that its square is another distribution
    n, rng = 20_000, checks.rng(1)
    x = one_page.sample(model.params, n, 3, rng)
    assert x.shape == (3, n, model.x_dim) and x.dtype == model.dtype and set(np.unique(x)) == {0, 1}
    (mu_0, sigma_0), _ = prior_forward(model.params["prior"], np.zeros((n, model.h_dim)))
    phi_z, _ = features_forward(model.params["phi_z"], mu_0 + sigma_0 * rng.standard_normal(mu_0.shape))
    (logits,), _ = generate_forward(model.params["generate"], phi_z, np.zeros((n, model.h_dim)), model.likelihood)
    checks.assert_mean(x[0] - sigmoid(logits), 0, "first step")  # both are random: their difference has mean 0
    other = model.sample(n, 3, seed=5)
    checks.assert_mean(x[1:].swapaxes(0, 1) - other[1:].swapaxes(0, 1), 0, "later steps")
    for lag in (0, 1):  # entries of one step, which share z_t, and of a step and the next: draws are fed back
        a, b = (draws[:2, :, :, None] * draws[lag : lag + 2, :, None, :] for draws in (x, other))
        checks.assert_mean((a - b).swapaxes(0, 1), 0, f"products, {lag} steps apart")


def test_adam_with_clipping_is_the_package_s():
    model, *_ = checks.small()
    theta, rng = model.theta.copy(), checks.rng(2)
    optimiser, params = Adam(theta, lr=0.01), model.params
    state = (1, *(one_page.each(np.zeros_like, params) for _ in "mv"))
    for scale in (3.0, 1e-3, 0.5):  # a long gradient, a short one, a long one
        g = scale * rng.standard_normal(theta.shape)
        params, state = one_page.adam(params, views(g.copy(), model.shapes), state, lr=0.01, max_norm=0.7)
        clip_by_global_norm(g, 0.7)
        optimiser.step(theta, g)
        checks.assert_same_tree(params, views(theta, model.shapes), 1e-12)
    assert state[0] == 4


@both
def test_training_raises_the_elbo_of_the_validation_set(likelihood, capsys):
    data = tv.load_data("digits8")
    train_x, valid_x = (np.stack(list(part), axis=1).astype(np.float32) for part in (data.train[:500], data.valid))
    start = tv.VRNN(8, h_dim=24, z_dim=4, likelihood=likelihood).params
    params = one_page.train(start, train_x, valid_x, checks.rng(), 2, batch=50, likelihood=likelihood)
    eps = checks.rng(1).standard_normal((*valid_x.shape[:2], 4), dtype=np.float32)
    before, after = (one_page.loss_and_grads(p, valid_x, eps, likelihood)[0] for p in (start, params))
    assert after < before - 5
    printed = [float(value) for value in re.findall(r"ELBO (\S+) nats per sequence\n", capsys.readouterr().out)]
    assert len(printed) == 2 and printed[1] > printed[0] and abs(printed[1] + after) < 0.5
    assert all(a.dtype == "float32" for _, a in leaves(params))


# ---- it stays a page -----------------------------------------------------------------------------


def test_it_fits_on_three_sheets():
    assert len(SOURCE.splitlines()) < 180 and max(map(len, SOURCE.splitlines())) <= 120
    assert SOURCE.isascii()


def test_it_imports_nothing_but_numpy():
    top = [node for node in TREE.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {alias.name for node in top for alias in node.names} <= {"numpy", "math"}
    inside = [node for f in FUNCTIONS for node in ast.walk(f) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not inside and all(isinstance(node, ast.Import) for node in top)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_no_function_writes_into_an_array(function):
    for node in ast.walk(function):
        assert not (isinstance(node, ast.keyword) and node.arg == "out"), "out="
        assert not (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)), "a[...] = "
        assert not isinstance(node, ast.AugAssign), "+="


def test_equations_of_the_paper_are_named():
    for number in range(5, 12):
        assert re.search(rf"Eq\. {number}\b", SOURCE), number
    assert all(inspect.getdoc(getattr(one_page, f)) for f in "forward loss_and_grads sample adam train".split())
