"""What all models share: a flat vector of parameters, checked data, sums of a bound's terms, and the gradient's shape.

A model says what its parameters are (`_shapes`), how the terms of its bound come about (`_forward_terms`, from a state)
and what their gradient is (`_backward_terms`, and that of the state); how it reconstructs (`_outputs`) and how it
samples (`_draw`).
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import get_backend, to_host
from tinyvrnn.arrays.cpu import one_blas_thread
from tinyvrnn.arrays.params import initialise, size, views
from tinyvrnn.distributions import COMPONENTS, get_likelihood
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models import recompute as recomputation
from tinyvrnn.nn.cells import cell_of, state_width


class Parts(NamedTuple):
    """The terms of the bound for each sequence of a batch, in nats per sequence, (B,) each. Also parts["elbo"]."""

    elbo: object
    kl: object
    log_likelihood: object

    def __getitem__(self, key):
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class Model:
    """The base of VRNN, VRNN-I, RNN and VAE; not a model by itself. x is (T, B, X), time-major."""

    name = None  # its key in MODELS
    bound = "elbo"  # or "exact", where `elbo` is log p(x) itself
    bounds = ("elbo",)  # what it can be trained on and evaluated with
    sizes = ()  # names of the arguments that are sizes, each an attribute
    choices = ()  # names of the arguments that are one of a few words, each an attribute too
    z_dim = 0  # a model without latent variables takes no noise: eps is (T, B, 0), and the KL is 0

    def __init__(self, likelihood, backend, dtype, seed, components):
        self.seed, self.dtype = seed, _name_of(dtype)
        self._check_sizes()
        self.likelihood = get_likelihood(likelihood, components)
        self.backend = get_backend(backend)
        self.shapes = self._shapes()
        self._theta = initialise(self.shapes, seed, self.backend.name, dtype)
        self.params = views(self._theta, self.shapes)
        for group in self.params.values():
            if "U" in group:
                cell_of(group).initialise(group)
        self.mean, self.std = np.zeros(self.x_dim), np.ones(self.x_dim)  # of standardised training data
        self.units, self.medium = "nats", {}  # of that data too
        self._draws = 0

    @property
    def theta(self):
        """All parameters, one flat vector (P,); `params` are named views of it. Assigning copies into it."""
        return self._theta

    @theta.setter
    def theta(self, value):
        if getattr(value, "shape", None) != self._theta.shape:
            raise ConfigError(f"theta has shape {self._theta.shape}, got {shape_of(value)}.")
        self._theta[...] = self.backend.asarray(value, dtype=self.dtype)

    @property
    def config(self):
        """The arguments that make this model again (backend apart), as plain values."""
        config = {name: int(getattr(self, name)) for name in self.sizes}
        config |= {name: getattr(self, name) for name in self.choices} | {"likelihood": self.likelihood.name}
        if self.likelihood.components is not None:
            config["components"] = self.likelihood.components
        return config | {"dtype": self.dtype, "seed": int(self.seed)}

    @classmethod
    def parameters(cls, config, most):
        """How many parameters the model of a `config` would have, with none allocated; no size may be above `most`.

        Raises ConfigError, KeyError or TypeError for a config that makes no model.
        """
        plan = cls.__new__(cls)
        plan.__dict__.update({name: config[name] for name in cls.sizes}, cell="gru", posterior="filtering")
        plan.__dict__.update({name: config[name] for name in cls.choices if name in config})
        plan._check_sizes()
        plan.likelihood = get_likelihood(config["likelihood"], config.get("components", COMPONENTS))
        if max(getattr(plan, name) for name in cls.sizes) > most:
            raise ConfigError(f"A model of {most} parameters can't be as wide as {config}.")
        return size(plan._shapes())

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        kind = type(self).__name__
        return f"{kind}({options}, backend={self.backend.name!r}): {self.theta.size:,} parameters"

    @property
    def bound_name(self):
        """What a person calls the figure that is trained on."""
        return "ELBO" if self.bound == "elbo" else "log p(x)"

    def loss_and_grads(self, x, lengths=None, eps=None, beta=1.0, recompute=False, keep=None):
        """Minus the ELBO and its gradient, by the hand-written backward pass.

        x (T, B, X); lengths (B,) real steps of each sequence (None: all T); eps (T, B, Z) standard normal noise
        (None: drawn, anew in each call, from the model's seed); beta: weight of the KL, for warm-up.
        keep (T, B, X): factors of what the networks read of x, for dropout; the bound scores x itself (None: all 1).
        recompute: the same in memory that grows as sqrt(T), for about a fifth more time: see recompute.py.
        Returns loss = mean over B of -(log-likelihood - beta KL), in nats per sequence; grads, flat like `theta`;
        Parts of the bound itself (beta = 1). Raises DataError for x or lengths that do not fit the model.
        """
        return self._loss_and_grads(x, lengths, eps, beta, recompute, keep)[:3]

    def chunk_loss_and_grads(self, x, lengths=None, eps=None, beta=1.0, state=None, recompute=False, keep=None):
        """As `loss_and_grads`, for a chunk of longer sequences: it starts from `state`, and returns the next one too.

        state (B, S H): what the call for the chunk before, of the SAME sequences, returned; None: their first chunk. No
        gradient goes back through it. Returns loss, grads, parts, state. Raises ConfigError for a model without state,
        DataError also for a state of other sequences.
        """
        recomputation.check(self, chunk=True)
        return self._loss_and_grads(x, lengths, eps, beta, recompute, keep, state)

    def _loss_and_grads(self, x, lengths, eps, beta, recompute, keep, state=None):
        beta = finite(beta)  # a NumPy scalar would turn float32 arrays into float64
        recomputation.check(self, recompute=recompute)
        if eps is None:
            eps = self._draw_eps(x, "loss_and_grads", self._draws)
            self._draws += 1
        with one_blas_thread():
            x, eps, mask = self._prepare(x, lengths, eps)
            self._check_state(state, x.shape[1])
            read, weight = self._read(x, keep), mask / x.shape[1]
            terms_and_grads = recomputation.terms_and_grads if recompute else Model._terms_and_grads
            log_p, kl, grads, state = terms_and_grads(self, x, eps, mask, -weight, beta * weight, state, read)
            parts = _parts(log_p, kl, mask)
            return self.backend.xp.mean(beta * parts.kl - parts.log_likelihood), grads, parts, state

    def _terms_and_grads(self, x, eps, mask, dlog_p, dkl, state, read):
        log_p, kl, cache = self._forward_terms(x, eps, mask, state, read)
        state = cache.loop.state[-1].copy() if "cell" in self.choices else None
        _, named = self._backward_terms(cache, dlog_p, dkl)
        del cache  # before another vector of theta's size is made
        return log_p, kl, self._flat(named), state

    def _read(self, x, keep):
        """What the networks read of x (T, B, X) on the backend."""
        if keep is None:
            return x
        if getattr(keep, "shape", None) != x.shape:
            raise DataError(f"Expected keep of shape {x.shape} as x, got {shape_of(keep)}.")
        return x * self._array(keep)

    def _array(self, a):
        """On the backend, of the model's dtype, and in C's order: sums round otherwise where numbers lie otherwise."""
        return self.backend.xp.ascontiguousarray(self.backend.asarray(a, dtype=self.dtype))

    def elbo(self, x, lengths=None, eps=None):
        """One-draw estimate of the ELBO of each sequence, (B,), in nats per sequence. Arguments as in `loss_and_grads`.

        With eps=None the noise is the same in every call, so that two calls compare.
        """
        return self.parts(x, lengths, eps).elbo

    def parts(self, x, lengths=None, eps=None):
        """As `elbo`, with its two terms: Parts(elbo, kl, log_likelihood), (B,) each."""
        log_p, kl, mask, _ = self._forward(x, lengths, eps)
        return _parts(log_p, kl, mask)

    def chunk_parts(self, x, lengths=None, eps=None, state=None):
        """As `parts`, for a chunk of longer sequences: it starts from `state`, and returns Parts and the next state.

        state (B, S H): as in `chunk_loss_and_grads`; a model without one is given None and returns None.
        Raises ConfigError for a smoothing posterior, which reads each sequence as a whole.
        """
        recomputation.check(self, chunk="cell" in self.choices)
        eps = self._draw_eps(x, "elbo", 0) if eps is None else eps
        with one_blas_thread():
            x, eps, mask = self._prepare(x, lengths, eps)
            self._check_state(state, x.shape[1])
            log_p, kl, cache = self._forward_terms(x, eps, mask, state)
        return _parts(log_p, kl, mask), cache.loop.state[-1].copy() if "cell" in self.choices else None

    def reconstruct(self, x, lengths=None, eps=None):
        """E[x_t | z_<=t, x_<t], (T, B, X), with z drawn from the posterior: what the latents keep of x."""
        *_, cache = self._forward(x, lengths, eps)
        with one_blas_thread():
            return self.likelihood.mean(*self._outputs(cache))

    def sample(self, n=16, steps=28, seed=0, prime=None):
        """n sequences (steps, n, X) drawn from the model.

        With prime (T0, n, X), the sequences are continued: the result is (T0 + steps, n, X) and begins with them.
        """
        for name, value in (("n", n), ("steps", steps)):
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")
        noise.check_seed(seed)
        eps = None
        if prime is not None:
            prime, eps, _ = self._prepare(prime, None, self._draw_eps(prime, "prime", seed))
            n = prime.shape[1]
        with one_blas_thread():
            x = self._draw(n, steps, seed, prime, eps)
        return x if prime is None else self.backend.xp.concatenate([prime, x])

    def _forward(self, x, lengths, eps):
        eps = self._draw_eps(x, "elbo", 0) if eps is None else eps
        with one_blas_thread():
            x, eps, mask = self._prepare(x, lengths, eps)
            log_p, kl, cache = self._forward_terms(x, eps, mask)
        return log_p, kl, mask, cache

    def _draw_eps(self, x, stream, step, *particles):
        if getattr(x, "ndim", None) != 3:
            raise DataError(f"Expected x of shape (T, B, {self.x_dim}), got {shape_of(x)}: see tinyvrnn.data.pad.")
        shape = (*x.shape[:2], *particles, self.z_dim)
        return noise.standard_normal(shape, self.dtype, self.seed, stream, step, self.backend)

    def _prepare(self, x, lengths, eps):
        """x, eps and the mask of real steps (T, B) on the backend. What stands in the padding is replaced by zeros."""
        lengths = check_x(x, self.x_dim, lengths, self.likelihood)
        T, B, _ = x.shape
        if getattr(eps, "shape", None) != (T, B, self.z_dim):
            raise DataError(f"Expected eps of shape {(T, B, self.z_dim)} for x {x.shape}, got {shape_of(eps)}.")
        x, eps, xp = self._array(x), self._array(eps), self.backend.xp
        if lengths is None or (lengths == T).all():
            return x, eps, xp.ones((T, B), dtype=self.dtype)
        mask = xp.arange(T)[:, None] < self.backend.asarray(lengths)
        x, eps = xp.where(mask[..., None], x, 0), xp.where(mask[..., None], eps, 0)
        return x, eps, mask.astype(self.dtype)

    def _check_state(self, state, sequences):
        if state is not None and shape_of(state) != (sequences, state_width(self.params["recur"])):
            raise DataError(f"Expected the state of {sequences} sequences, got one of shape {shape_of(state)}.")

    def _flat(self, named):
        grads = self.backend.xp.empty(self.theta.shape, dtype=self.theta.dtype)
        for (group, own), target in zip(self.shapes.items(), views(grads, self.shapes).values()):
            for leaf in own:
                target[leaf][...] = named[group][leaf]
        return grads

    def _check_sizes(self):
        for name in self.sizes:
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")


_X_MAX = 1e12  # beyond it sums of squares and products of gradients would leave the range of a float32
_DTYPES = ("float32", "float64", np.float32, np.float64, np.dtype("float32"), np.dtype("float64"))


def _name_of(dtype):
    if dtype is not None and dtype in _DTYPES:  # NumPy holds None for float64
        return np.dtype(dtype).name
    raise ConfigError(f'dtype must be "float32" or "float64", got {dtype!r}.')


def _parts(log_p, kl, mask):
    """Sums of the real steps: (T, B) -> (B,). In float64, as a float32 loses digits over a million steps."""
    log_likelihood, kl = ((term * mask).sum(axis=0, dtype="float64").astype(mask.dtype) for term in (log_p, kl))
    return Parts(log_likelihood - kl, kl, log_likelihood)


def finite(beta):
    if not isinstance(beta, Real) or not np.isfinite(beta):
        raise ConfigError(f"beta must be a finite number, got {beta!r}.")
    return float(beta)


def shape_of(value):
    return getattr(value, "shape", type(value).__name__)


def check_x(x, x_dim, lengths, likelihood):
    """Raises DataError for what the model can't read. Returns lengths as a host array, or None."""
    if getattr(x, "ndim", None) != 3 or x.shape[-1] != x_dim or 0 in x.shape:
        raise DataError(
            f"Expected x of shape (T, B, {x_dim}) with T, B >= 1, got {shape_of(x)}: see tinyvrnn.data.pad."
        )
    if isinstance(x, np.ma.MaskedArray):
        raise DataError("x is a masked array, whose mask would be ignored: give lengths in its place, and x.filled(0).")
    T, B, _ = x.shape
    if lengths is not None:
        lengths = np.asarray(lengths) if isinstance(lengths, (list, tuple)) else to_host(lengths)
        if lengths.shape != (B,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > T:
            raise DataError(f"Expected lengths of shape ({B},), whole numbers from 1 to {T}, got {lengths!r:.80}.")
    if isinstance(x, np.ndarray):  # a device array was checked when its data were read; a look would stop the device
        _check_values(x if lengths is None else x[np.arange(T)[:, None] < lengths], likelihood)
    return lengths


def _check_values(x, likelihood):
    if x.dtype.kind not in "fiub":
        raise DataError(f"x must hold real numbers, got {x.dtype}: convert it with .astype('float32').")
    low, high = float(x.min()), float(x.max())
    if not np.isfinite(low + high):
        raise DataError("x holds NaN or infinite values in its real steps: remove or replace them.")
    bad = likelihood.misfits(x)
    if bad.any():
        found = x[bad]
        raise DataError(f"x holds {found.min():g} to {found.max():g}, {likelihood.needs}.")
    if max(-low, high) > _X_MAX:
        raise DataError(
            f"x reaches from {low:g} to {high:g}, but at most {_X_MAX:g} can be reckoned with: standardise it."
        )
