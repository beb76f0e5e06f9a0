"""The output distributions p(x_t | ...). A Likelihood holds the functions that the models need from one of them.

gaussian.py      the diagonal Gaussian, also of z: head, reparameterised draw, log-density, log-ratio, KL
bernoulli.py     independent Bernoulli variables
categorical.py   one-hot symbols
mixture.py       the mixture of Gaussians, "gmm"
pen.py           handwriting, (dx, dy, pen-up)
observed.py      the log-density of the observed entries, for any of them

Imports errors.py, arrays/ and nn/ only. To add a likelihood: a module with a head, a log-density, a sampler and a mean,
an entry in LIKELIHOODS, entries in PAIRS (gradcheck/all_pairs.py) and a page in docs/derivations/.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import backend_of, namespace
from tinyvrnn.distributions import bernoulli, categorical, gaussian, mixture, pen
from tinyvrnn.errors import ConfigError, check_whole, how_to_register, is_number, unknown_name

COMPONENTS = 20  # of a mixture, as in the paper
BASELINES = ("real", "binary", "categorical", "pen")
HEAD = ("head_shapes", "head_forward", "head_backward")


class Likelihood(NamedTuple):
    """One output distribution p(x_t | ...), for `tinyvrnn.register_likelihood`.

    The first five fields are required. Every function works on the last axis alone. `outputs` is what the head returns:
    (mu_x, sigma_x) for "gaussian", (a,) for "bernoulli". docs/extend.md has a complete example.

    Parameters
    ----------
    name : str
        One word, as an option of the command takes it.
    log_density_forward, log_density_backward : function
        (x, *outputs) -> log p in nats (...), cache; (cache, dlog_p) -> (dx, *doutputs), where dx can be None.
    sample, mean : function
        (noise, *outputs) -> x (..., X); (*outputs) -> E[x] (..., X).
    head : str
        The built-in likelihood whose head it uses, unless the next three are given.
    head_shapes : function
        (F, X) -> shapes of the head's parameters.
    head_forward, head_backward : function
        (p, y) -> outputs, cache; (p, cache, *doutputs) -> dy, grads.
    noise : str or function
        What `sample` takes: "uniform" in [0, 1), "normal", or (generator, shape of x, dtype) -> noise.
    misfits : function
        (x (..., X) on the host) -> (..., X), True for values that it cannot score. None: none.
    needs : str
        The values that it needs instead: the end of a message.
    standardise : bool or tuple of bool
        How to prepare data for it: the argument of `load_data`.
    baselines : str, optional
        The kind of `tinyvrnn.data.baselines` to compare with: "real", "binary", "categorical" or "pen". None: none.
    binary : bool
        Whether to plot a sequence as an image of 0s and 1s, else as lines over time.
    x_dim : int, optional
        The only width of x that it takes. None: any.
    example : function
        Turns numbers in [0, 1] into valid data, for the gradient checks.
    components : int, optional
        K of a mixture.
    neutral : tuple, optional
        A number for each output with which an entry x_j = 0 adds 0 to log p, or None for an output that belongs to no
        entry. It is put in for missing entries. None: a step with a missing entry is not scored.
    tempered : function, optional
        (tau, *outputs) -> outputs at the temperature tau, see `at_temperature`. None: `sample` takes no temperature.
    """

    name: str
    log_density_forward: Callable
    log_density_backward: Callable
    sample: Callable
    mean: Callable
    head: str = "gaussian"
    head_shapes: Callable | None = None
    head_forward: Callable | None = None
    head_backward: Callable | None = None
    noise: str | Callable = "uniform"
    misfits: Callable | None = None
    needs: str = ""
    standardise: bool | tuple = True
    baselines: str | None = "real"
    binary: bool = False
    x_dim: int | None = None
    example: Callable = lambda x: x
    components: int | None = None
    neutral: tuple | None = None
    tempered: Callable | None = None

    def without_gaps(self, x, observed):
        """x with data that it can score at missing entries, and observed (..., X) bool, of whole steps or entries."""
        if self.neutral is None:
            observed = observed & observed.all(axis=-1, keepdims=True)
        step = self.example(np.arange(x.shape[-1]) / x.shape[-1])  # on the host, where a user's example works
        return namespace(x).where(observed, x, backend_of(x).asarray(step)), observed

    def is_registered(self):
        """Whether `get_likelihood` finds the same functions by this name."""
        own = {"head_shapes": None, "components": None}  # of a mixture
        known = LIKELIHOODS.get(self.name)
        return known is not None and known._replace(**own) == self._replace(**own)

    def __reduce__(self):
        """By name where possible, since the functions of some cannot be pickled."""
        return (get_likelihood, (self.name, self.components)) if self.is_registered() else (type(self), tuple(self))


def get_likelihood(name, components=COMPONENTS):
    """The Likelihood with this name, a mixture with `components` components. Raises ConfigError for invalid values."""
    if isinstance(name, Likelihood):
        raise ConfigError(f'likelihood must be a name: register the record first, then give "{name.name}".')
    if not isinstance(name, str) or name not in LIKELIHOODS:
        raise ConfigError(unknown_name("likelihood", name, LIKELIHOODS, f"; {how_to_register('likelihood')}"))
    likelihood = LIKELIHOODS[name]
    if likelihood.components is None:
        return likelihood
    check_whole("components", components)
    shapes = partial(likelihood.head_shapes, components=int(components))
    return likelihood._replace(head_shapes=shapes, components=int(components))


def at_temperature(likelihood, tau):
    """The Likelihood whose standard deviations are scaled by tau, and whose logits are divided by it.

        (mu, sigma, a, logits) -> (mu, tau sigma, a / tau, logits / tau)        a pen's correlations stay

    Raises ConfigError for another tau than 0.001 to 1000, or a likelihood without `tempered`.
    """
    if not is_number(tau) or not 1e-3 <= tau <= 1e3:
        raise ConfigError(f"temperature must be a number from 0.001 to 1000, got {tau!r}.")
    if tau == 1:
        return likelihood
    if likelihood.tempered is None:
        raise ConfigError(f"The likelihood {likelihood.name} has no temperature: add `tempered` to its record.")

    def head_forward(p, y):
        outputs, cache = likelihood.head_forward(p, y)
        return likelihood.tempered(float(tau), *outputs), cache  # a NumPy scalar promotes float32

    return likelihood._replace(head_forward=head_forward)


def completed(likelihood):
    """The Likelihood with functions in place of the names of its head and noise, and of missing misfits."""
    if likelihood.head_forward is None:
        if likelihood.head not in BUILT_IN:
            raise ConfigError(unknown_name("head", likelihood.head, BUILT_IN))
        head = LIKELIHOODS[likelihood.head]
        likelihood = likelihood._replace(**{name: getattr(head, name) for name in (*HEAD, "components")})
    if not callable(likelihood.noise) and likelihood.noise not in NOISE:
        raise ConfigError(unknown_name("noise", likelihood.noise, NOISE))
    if likelihood.baselines is not None and likelihood.baselines not in BASELINES:
        raise ConfigError(unknown_name("kind of baselines", likelihood.baselines, BASELINES))
    return likelihood._replace(
        noise=NOISE.get(likelihood.noise, likelihood.noise),
        misfits=likelihood.misfits or _nothing,
        needs=likelihood.needs or f"which the likelihood {likelihood.name} cannot score",
    )


def _uniform(rng, shape, dtype):
    return rng.random(shape, dtype=np.dtype(dtype))


def _normal(rng, shape, dtype):
    return rng.standard_normal(shape, dtype=np.dtype(dtype))


NOISE = {"uniform": _uniform, "normal": _normal}


def _uniforms_and_normals(rng, shape, dtype, uniforms, normals):
    """(..., uniforms + normals), on the host."""
    widths = (*shape[:-1], uniforms), (*shape[:-1], normals)
    return np.concatenate([_uniform(rng, widths[0], dtype), _normal(rng, widths[1], dtype)], axis=-1)


def _not_one_hot(x):
    return ((x != 0) & (x != 1)) | (x.sum(axis=-1, keepdims=True) != 1)


def _pen_not_0_or_1(x):
    bad = np.zeros(x.shape, dtype=bool)
    bad[..., 2:] = (x[..., 2:] != 0) & (x[..., 2:] != 1)
    return bad


def _nothing(x):
    return np.zeros(x.shape, dtype=bool)


def _built_in(name, module, **fields):
    """The Likelihood of the functions of a module that begin with its name, such as gmm_sample, and of other fields."""
    passes = [f"{part}_{way}" for part in ("log_density", "head") for way in ("forward", "backward")]
    functions = {field: f"{name}_{field}" for field in (*passes, "sample", "mean")} | {"head_shapes": "head_shapes"}
    found = {field: getattr(module, name) for field, name in functions.items() if field not in fields}
    return Likelihood(name, **found, **fields)


LIKELIHOODS = {
    "bernoulli": _built_in(
        "bernoulli",
        bernoulli,
        mean=bernoulli.sigmoid,
        noise=_uniform,
        misfits=lambda x: (x < 0) | (x > 1),
        needs="but a Bernoulli likelihood needs values in [0, 1]: use --likelihood gaussian",
        standardise=False,
        baselines="binary",
        binary=True,
        neutral=(-1e4,),  # softplus(-1e4) is 0
        tempered=lambda tau, a: (a / tau,),
    ),
    "gaussian": _built_in(
        "gaussian",
        gaussian,
        sample=lambda noise, mu, sigma: gaussian.reparameterise_forward(mu, sigma, noise)[0],
        mean=lambda mu, sigma: mu,
        noise=_normal,
        misfits=_nothing,
        neutral=(0.0, (2 * math.pi) ** -0.5),  # N(0; 0, sigma^2) = 1
        tempered=lambda tau, mu, sigma: (mu, tau * sigma),
    ),
    "gmm": _built_in(
        "gmm",
        mixture,
        noise=lambda rng, shape, dtype: _uniforms_and_normals(rng, shape, dtype, 1, shape[-1]),
        misfits=_nothing,
        components=COMPONENTS,
        neutral=(None, 0.0, (2 * math.pi) ** -0.5),
        tempered=lambda tau, logits, mu, sigma: (logits / tau, mu, tau * sigma),
    ),
    "categorical": _built_in(
        "categorical",
        categorical,
        head_shapes=bernoulli.head_shapes,
        head_forward=bernoulli.bernoulli_head_forward,
        head_backward=bernoulli.bernoulli_head_backward,
        noise=lambda rng, shape, dtype: _uniform(rng, (*shape[:-1], 1), dtype),
        misfits=_not_one_hot,
        needs="but a categorical likelihood needs a single 1 among zeros in each step: give one-hot data",
        standardise=False,
        baselines="categorical",
        binary=True,
        example=lambda x: (x == x.max(axis=-1, keepdims=True)).astype(x.dtype),
        tempered=lambda tau, logits: (logits / tau,),
    ),
    "pen": _built_in(
        "pen",
        pen,
        noise=lambda rng, shape, dtype: _uniforms_and_normals(rng, shape, dtype, 2, 2),
        misfits=_pen_not_0_or_1,
        needs="but a pen likelihood needs a pen-up of 0 or 1, not a mean: use standardise=(True, True, False)",
        standardise=(True, True, False),
        baselines="pen",
        x_dim=3,
        example=lambda x: np.concatenate([x[..., :2], np.round(x[..., 2:])], axis=-1),  # whole pen-ups
        components=COMPONENTS,
        tempered=lambda tau, logits, mu, sigma, rho, a: (logits / tau, mu, tau * sigma, rho, a / tau),
    ),
}
BUILT_IN = tuple(LIKELIHOODS)
