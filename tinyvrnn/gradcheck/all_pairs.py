"""Every forward/backward pair of the package, with small random inputs to check it on.

`tinyvrnn gradcheck` and the tests iterate over this table, so a pair added here is checked everywhere.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import backend_of, get_backend
from tinyvrnn.arrays.noise import generator
from tinyvrnn.arrays.params import like
from tinyvrnn.distributions import LIKELIHOODS, bernoulli, categorical, gaussian, get_likelihood, mixture, pen
from tinyvrnn.gradcheck import check_pair
from tinyvrnn.models import MODELS, equations
from tinyvrnn.nn import activations, gru, linear, lstm, mlp, recurrence
from tinyvrnn.nn.cells import cell_shapes

B, X, Z, F, H = 3, 4, 2, 5, 6  # sizes that all differ, so that a transposed matrix cannot fit
K = 7  # components of a mixture


class Pair(NamedTuple):
    """A forward/backward pair, and how to draw its arguments."""

    forward: object  # as in `check_pair`
    backward: object
    shapes: dict  # name -> shape of the parameters p
    inputs: tuple  # (kind, last axes) of each input, such as ("real", 4); a kind of KINDS or a function


def _pair(module, name, shapes, *inputs, **options):
    """The Pair `name` of a module, called with options. inputs: (kind, axes) or, for real numbers, the width alone."""
    both = (getattr(module, f"{name}_{way}") for way in ("forward", "backward"))
    functions = (partial(one, **options) if options else one for one in both)
    return Pair(*functions, shapes, tuple(one if isinstance(one, tuple) else ("real", one) for one in inputs))


def _generate(likelihood):
    return _pair(
        equations, "generate", mlp.shapes([F + H, F, F]) | _head_shapes(likelihood), F, H, likelihood=likelihood
    )


def _head_shapes(likelihood):
    return likelihood.head_shapes(F, _x_dim(likelihood), **{} if likelihood.components is None else {"components": 2})


def _x_dim(likelihood):
    return likelihood.x_dim or X


def likelihood_pairs(likelihood):
    """Name -> Pair for a Likelihood: its head, its log-density of random outputs of that head, and Eq. 6 with it."""
    name, head = likelihood.name, _head_shapes(likelihood)
    outputs, _ = likelihood.head_forward({leaf: np.zeros(shape) for leaf, shape in head.items()}, np.zeros(F))
    return {
        f"{name} head": Pair(likelihood.head_forward, likelihood.head_backward, head, (("real", F),)),
        f"{name} log-density": Pair(
            lambda *outputs: likelihood.log_density_forward(example_of(likelihood, outputs[0]), *outputs),
            lambda cache, dlog_p: tuple(likelihood.log_density_backward(cache, dlog_p))[1:],
            {},
            tuple((partial(_output, likelihood, k), output.shape) for k, output in enumerate(outputs)),
        ),
        f"generate, Eq. 6, {name}": _generate(likelihood),
    }


def _output(likelihood, k, rng, shape):
    """The k-th output (B, ...) of a likelihood's head with random parameters, for a random y."""
    p = {leaf: 0.5 * rng.standard_normal(of_leaf) for leaf, of_leaf in _head_shapes(likelihood).items()}
    return likelihood.head_forward(p, rng.standard_normal((shape[0], F)))[0][k]


def example_of(likelihood, output):
    """x (B, X) that suits a likelihood, on the backend and of the dtype of its output (B, ...)."""
    x = generator(0, "example").random((len(output), _x_dim(likelihood)))
    return backend_of(output).asarray(likelihood.example(x), dtype=output.dtype)


def cell_pairs(cell):
    """Name -> Pair for a registered Cell: a step, Eq. 7 with it, and three steps of the loop."""
    state = ("real", cell.states * H)
    shapes = {width: cell_shapes(cell.name, width, H) for width in (X, 2 * F)}
    return {
        f"{cell.name} cell": Pair(cell.forward, cell.backward, shapes[X], (("real", X), state)),
        f"recur, Eq. 7, {cell.name}": _pair(equations, "recur", shapes[2 * F], F, F, state),
        f"loop, {cell.name}": Pair(_loop_forward, _loop_backward, shapes[X], (("real", (2, X)),)),
    }


def _loop_forward(p, x):
    """h before each step (T, B, H) and the last state (B, S H), from x (T, B, X)."""
    loop = recurrence.loop_forward(p, x)
    return (loop.h[:-1], loop.state[-1]), loop


def _loop_backward(p, cache, dh, dstate):
    (dx, _), grads = recurrence.loop_backward(p, cache, dh, dstate)
    return dx, grads


KINDS = {
    "real": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: np.exp(0.5 * rng.standard_normal(shape)),
    "correlation": lambda rng, shape: np.tanh(rng.standard_normal(shape)),
    "unit": lambda rng, shape: rng.random(shape),
}
_moments = Z, ("positive", Z)  # of a Gaussian: mu, sigma

PAIRS = {
    "linear": _pair(linear, "linear", {"W": (X, F), "b": (F,)}, X),
    "linear of two inputs": _pair(linear, "linear", {"W": (X + Z, F), "b": (F,)}, X, Z),
    **{name: _pair(activations, name, {}, F) for name in ("relu", "tanh", "sigmoid", "softplus")},
    "mlp": _pair(mlp, "mlp", mlp.shapes([X, F, F]), X),
    "gru": _pair(gru, "gru", gru.shapes(X, H), X, H),
    "lstm": _pair(lstm, "lstm", lstm.shapes(X, H), X, 2 * H),
    "gaussian head": _pair(gaussian, "gaussian_head", gaussian.head_shapes(F, Z), F),
    "bernoulli head": _pair(bernoulli, "bernoulli_head", bernoulli.head_shapes(F, X), F),
    "reparameterise": _pair(gaussian, "reparameterise", {}, *_moments, Z),
    "gaussian log-density": _pair(gaussian, "gaussian_log_density", {}, Z, *_moments),
    "bernoulli log-density": _pair(bernoulli, "bernoulli_log_density", {}, ("unit", X), X),
    "categorical log-density": _pair(categorical, "categorical_log_density", {}, ("unit", X), X),
    "mixture": _pair(mixture, "mix", {}, K, K),
    "gmm head": _pair(mixture, "gmm_head", mixture.head_shapes(F, X, components=2), F),
    "gmm log-density": _pair(mixture, "gmm_log_density", {}, X, K, ("real", (K, X)), ("positive", (K, X))),
    "pen head": _pair(pen, "pen_head", pen.head_shapes(F, 3, components=2), F),
    "pen log-density": _pair(
        pen, "pen_log_density", {}, 3, K, ("real", (K, 2)), ("positive", (K, 2)), ("correlation", K), 1
    ),
    "gaussian KL": _pair(gaussian, "gaussian_kl", {}, *_moments, *_moments),
    "gaussian log-ratio": _pair(gaussian, "gaussian_log_ratio", {}, *_moments, *_moments, Z),
    "features, phi": _pair(equations, "features", mlp.shapes([X, F, F]), X),
    "prior, Eq. 5": _pair(equations, "prior", mlp.shapes([H, F]) | gaussian.head_shapes(F, Z), H),
    **{f"generate, Eq. 6, {name}": _generate(likelihood) for name, likelihood in LIKELIHOODS.items()},
    "remember, Eq. 1": _pair(equations, "remember", gru.shapes(F, H), F, H),
    "predict, Eq. 2": _pair(
        equations, "predict", mlp.shapes([H, F, F]) | gaussian.head_shapes(F, X), H, likelihood=LIKELIHOODS["gaussian"]
    ),
    "encode, Eq. 3": _pair(equations, "encode", mlp.shapes([X, F, F]) | gaussian.head_shapes(F, Z), X),
    "decode, Eq. 3": _pair(
        equations, "decode", mlp.shapes([Z, F, F]) | bernoulli.head_shapes(F, X), Z, likelihood=LIKELIHOODS["bernoulli"]
    ),
    "recur, Eq. 7": _pair(equations, "recur", gru.shapes(2 * F, H), F, F, H),
    "recur, Eq. 7, lstm": _pair(equations, "recur", lstm.shapes(2 * F, H), F, F, 2 * H),
    "infer, Eq. 9": _pair(equations, "infer", mlp.shapes([F + H, F, F]) | gaussian.head_shapes(F, Z), F, H),
}


def random_inputs(pair, backend="numpy", seed=0, leading=(B,)):
    """Random p and inputs for a pair, float64 on the backend. Biases are random too, since zeros could hide errors."""
    rng, asarray = generator(seed, "pairs"), get_backend(backend).asarray
    p = {name: asarray(rng.standard_normal(shape) * 0.5) for name, shape in pair.shapes.items()}
    drawn = (KINDS.get(kind, kind)(rng, (*leading, *np.atleast_1d(axes))) for kind, axes in pair.inputs)
    return like(pair.shapes, p), tuple(map(asarray, drawn))


def check(name, backend="numpy", seed=0, tol=1e-7, leading=(B,)):
    """Numeric check of the pair called `name`; see `gradcheck.check_pair`. Returns its rows."""
    pair = PAIRS[name]
    p, inputs = random_inputs(pair, backend, seed, leading)
    return check_pair(pair.forward, pair.backward, p, *inputs, seed=seed, tol=tol)


def suited(x, likelihood):
    """Numbers x (..., X) in [0, 1] as valid data of the likelihood with this name: one-hot for "categorical"."""
    return LIKELIHOODS[likelihood].example(x)


def small_model(likelihood="bernoulli", backend="numpy", seed=0, model="vrnn", **options):
    """A float64 VRNN, RNN or VAE small enough to check every entry, with a ragged batch: model, x, lengths, eps.

    Its biases are random: with h_0 = 0 and zero biases the prior's rectifiers are at their kink at the first step,
    where a central difference differs from the derivative.
    """
    kind, sizes = MODELS[model], {"x_dim": _x_dim(get_likelihood(likelihood)), "h_dim": H, "z_dim": Z, "features": F}
    options = {name: size for name, size in sizes.items() if name in kind.sizes} | {"components": 2} | options
    model = kind(likelihood=likelihood, backend=backend, dtype="float64", seed=seed, **options)
    rng, asarray, T = generator(seed, "small model"), model.backend.asarray, 4
    model.theta += asarray(0.1 * rng.standard_normal(model.theta.shape))
    x, lengths = suited(rng.random((T, B, model.x_dim)), likelihood), np.array([T, 1, T - 1])
    return model, x, lengths, rng.standard_normal((T, B, model.z_dim))
