"""The VRNN: a flat vector of parameters, the bound of Eq. 11 and its gradient, and sampling.

    ELBO = E_q [ sum_t  log p(x_t | z_<=t, x_<t) - KL( q(z_t | x_<=t, z_<t) || p(z_t | x_<t, z_<t) ) ]  <=  log p(x)

with q factorised as in Eq. 10. The expectation is estimated with one draw of z, given by the noise eps.
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from tinyvrnn import noise
from tinyvrnn.backend import get_backend, one_blas_thread, to_host
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.distributions.gaussian import head_shapes as gaussian_head_shapes
from tinyvrnn.errors import ConfigError, DataError, unknown_name
from tinyvrnn.models import schedule
from tinyvrnn.models.equations import generate_forward
from tinyvrnn.models.particles import (
    check_bound,
    copies,
    filter_backward,
    filter_forward,
    importance_backward,
    importance_forward,
)
from tinyvrnn.models.sampling import ancestral_sample, state_after
from tinyvrnn.nn.gru import shapes as gru_shapes
from tinyvrnn.nn.mlp import shapes as mlp_shapes
from tinyvrnn.params import initialise, views


class Parts(NamedTuple):
    """The terms of the bound for each sequence of a batch, in nats per sequence, (B,) each. Also parts["elbo"]."""

    elbo: object
    kl: object
    log_likelihood: object

    def __getitem__(self, key):
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class VRNN:
    """A VRNN with a GRU, for x (T, B, X) time-major.

    x_dim X, h_dim H (state), z_dim Z (latent), features F (width of every hidden layer; default H),
    layers (hidden ones in phi_x, encoder and decoder; phi_z and prior have one), likelihood "bernoulli" or "gaussian",
    backend "numpy", "cupy" or "strict", dtype "float32" or "float64", seed of the initial weights and of all noise.
    Raises ConfigError for options that make no model, BackendError where the backend is not there.
    """

    def __init__(
        self,
        x_dim,
        h_dim,
        z_dim,
        features=None,
        layers=2,
        likelihood="bernoulli",
        backend="numpy",
        dtype="float32",
        seed=0,
    ):
        self.x_dim, self.h_dim, self.z_dim, self.layers = x_dim, h_dim, z_dim, layers
        self.features = h_dim if features is None else features
        self.seed, self.dtype = seed, np.dtype(dtype).name if dtype in _DTYPES else _refuse_dtype(dtype)
        self._check_sizes()
        if likelihood not in LIKELIHOODS:
            raise ConfigError(unknown_name("likelihood", likelihood, LIKELIHOODS))
        self.likelihood = LIKELIHOODS[likelihood]
        self.backend = get_backend(backend)
        self.shapes = self._shapes()
        self._theta = initialise(self.shapes, seed, backend, dtype)
        self.params = views(self._theta, self.shapes)
        self.mean, self.std = np.zeros(x_dim), np.ones(x_dim)  # of the data it was trained on, when standardised
        self.units = "nats"
        self._draws = 0

    @property
    def theta(self):
        """All parameters, one flat vector (P,); `params` are named views of it. Assigning copies into it."""
        return self._theta

    @theta.setter
    def theta(self, value):
        if getattr(value, "shape", None) != self._theta.shape:
            raise ConfigError(f"theta has shape {self._theta.shape}, got {_shape(value)}.")
        self._theta[...] = self.backend.asarray(value, dtype=self.dtype)

    @property
    def config(self):
        """The arguments that make this model again (backend apart), as plain values."""
        sizes = {name: int(getattr(self, name)) for name in _SIZES}
        return sizes | {"likelihood": self.likelihood.name, "dtype": self.dtype, "seed": int(self.seed)}

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"VRNN({options}, backend={self.backend.name!r}): {self.theta.size:,} parameters"

    def loss_and_grads(self, x, lengths=None, eps=None, beta=1.0, bound="elbo", particles=1, uniforms=None):
        """Minus the ELBO and its gradient, by the hand-written backward pass.

        x (T, B, X); lengths (B,) real steps of each sequence (None: all T); eps (T, B, Z) standard normal noise
        (None: drawn, anew in each call, from the model's seed); beta: weight of the KL, for warm-up.
        Returns loss = mean over B of -(log-likelihood - beta KL), in nats per sequence; grads, flat like `theta`;
        Parts of the bound itself (beta = 1). Raises DataError for x or lengths that do not fit the model.

        bound: "elbo", or minus another in its place: "iwae" or "fivo" of `tinyvrnn.bounds`, with as many particles as
        said, or as eps (T, B, particles, Z) holds; fivo takes uniforms (T, B) for resampling with its eps. Parts are
        then those of the ELBO with the first particle's noise.
        """
        beta = _finite(beta)  # a NumPy scalar would turn float32 arrays into float64
        check_bound(bound, particles)
        if eps is None:
            eps, uniforms = self._draw_noise(x, bound, particles)
        if bound != "elbo":
            return self._loss_of_particles(x, lengths, eps, beta, bound, uniforms)
        with one_blas_thread():
            x, eps, mask = self._prepare(x, lengths, eps)
            log_p, kl, cache = schedule.sequence_forward(self.params, x, eps, self.likelihood)
            parts = _parts(log_p, kl, mask)
            loss = self.backend.xp.mean(beta * parts.kl - parts.log_likelihood)
            weight = mask / x.shape[1]
            named = schedule.sequence_backward(self.params, cache, -weight, beta * weight, self.likelihood)
            del cache  # before another vector of theta's size is made
            return loss, self._flat(named), parts

    def elbo(self, x, lengths=None, eps=None):
        """One-draw estimate of the ELBO of each sequence, (B,), in nats per sequence. Arguments as in `loss_and_grads`.

        With eps=None the noise is the same in every call, so that two calls compare.
        """
        return self.parts(x, lengths, eps).elbo

    def parts(self, x, lengths=None, eps=None):
        """As `elbo`, with its two terms: Parts(elbo, kl, log_likelihood), (B,) each."""
        log_p, kl, mask, _ = self._forward(x, lengths, eps)
        return _parts(log_p, kl, mask)

    def log_weights(self, x, lengths=None, eps=None):
        """log p(x, z_k) - log q(z_k | x), (B, K), in nats, for the noise eps (T, B, K, Z) of K particles."""
        with one_blas_thread():
            x, eps, mask = self._prepare_particles(x, lengths, eps)
            return importance_forward(self.params, x, eps, mask, self.likelihood)[1].log_w

    def particle_filter(self, x, lengths=None, eps=None, uniforms=None):
        """log of a particle filter's estimate of p(x), (B,), in nats. eps (T, B, K, Z), uniforms (T, B) in [0, 1)."""
        with one_blas_thread():
            x, eps, mask = self._prepare_particles(x, lengths, eps)
            return filter_forward(self.params, x, eps, mask, self._uniforms(uniforms, mask), self.likelihood)[0]

    def reconstruct(self, x, lengths=None, eps=None):
        """E[x_t | z_<=t, x_<t], (T, B, X), with z drawn from the posterior: what the latents keep of x."""
        *_, cache = self._forward(x, lengths, eps)
        with one_blas_thread():
            outputs, _ = generate_forward(self.params["generate"], cache.loop.phi_z, cache.loop.h[:-1], self.likelihood)
        return self.likelihood.mean(*outputs)

    def sample(self, n=16, steps=28, seed=0, prime=None):
        """n sequences (steps, n, X) drawn from the model (Eq. 8).

        With prime (T0, n, X), the sequences are continued: the result is (T0 + steps, n, X) and begins with them.
        """
        xp = self.backend.xp
        for name, value in (("n", n), ("steps", steps)):
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if prime is not None:
            prime, eps, _ = self._prepare(prime, None, self._draw_eps(prime, "prime", seed))
            n = prime.shape[1]
        with one_blas_thread():
            h = xp.zeros((n, self.h_dim), dtype=self.dtype)
            if prime is not None:
                h = state_after(self.params, prime, eps, h)
            x = ancestral_sample(self.params, h, steps, seed, self.likelihood, self.backend, self.x_dim, self.dtype)
        return x if prime is None else xp.concatenate([prime, x], axis=0)

    def _forward(self, x, lengths, eps):
        eps = self._draw_eps(x, "elbo", 0) if eps is None else eps
        with one_blas_thread():
            x, eps, mask = self._prepare(x, lengths, eps)
            log_p, kl, cache = schedule.sequence_forward(self.params, x, eps, self.likelihood)
        return log_p, kl, mask, cache

    def _loss_of_particles(self, x, lengths, eps, beta, bound, uniforms):
        """As `loss_and_grads`, for minus a bound that weighs the K particles of eps (T, B, K, Z)."""
        with one_blas_thread():
            wide, eps_of_all, mask = self._prepare_particles(x, lengths, eps)
            parts = self.parts(x, lengths, eps[:, :, 0])
            if bound == "iwae":
                bounds, cache = importance_forward(self.params, wide, eps_of_all, mask, self.likelihood, beta)
                backward = importance_backward
            else:
                uniforms, backward = self._uniforms(uniforms, mask), filter_backward
                bounds, cache = filter_forward(
                    self.params, wide, eps_of_all, mask, uniforms, self.likelihood, beta=beta
                )
            weight = -self.backend.xp.ones_like(bounds) / len(bounds)
            named = backward(self.params, cache, weight, self.likelihood, beta=beta)
            return -self.backend.xp.mean(bounds), self._flat(named), parts

    def _prepare_particles(self, x, lengths, eps):
        """x and eps with a column for each particle, (T, B K, .), and the mask of real steps (T, B)."""
        if getattr(eps, "ndim", None) != 4:
            raise DataError(f"Expected eps of shape (T, B, particles, {self.z_dim}), got {_shape(eps)}.")
        T, B, K, _ = eps.shape
        lengths = _check_x(x, self.x_dim, lengths, self.likelihood.name)
        wide_lengths = None if lengths is None else np.repeat(lengths, K)
        x = copies(self.backend.asarray(x, dtype=self.dtype), K)
        x, eps, mask = self._prepare(x, wide_lengths, eps.reshape(T, B * K, -1))
        return x, eps, mask.reshape(T, B, K)[:, :, 0]

    def _uniforms(self, uniforms, mask):
        if getattr(uniforms, "shape", None) != mask.shape:
            raise DataError(f"Expected uniforms of shape {mask.shape} for resampling, got {_shape(uniforms)}.")
        return self.backend.asarray(uniforms, dtype=self.dtype)

    def _draw_eps(self, x, stream, step, particles=None):
        if getattr(x, "ndim", None) != 3:
            raise DataError(f"Expected x of shape (T, B, {self.x_dim}), got {_shape(x)}: see tinyvrnn.data.pad.")
        shape = (*x.shape[:2], *([] if particles is None else [particles]), self.z_dim)
        return noise.standard_normal(shape, self.dtype, self.seed, stream, step)

    def _draw_noise(self, x, bound, particles):
        """The next block of noise for `loss_and_grads`: eps, and the uniforms that resampling takes (or None)."""
        step = self._draws
        self._draws += 1
        if bound == "elbo":
            return self._draw_eps(x, "loss_and_grads", step), None
        eps = self._draw_eps(x, "loss_and_grads", step, particles)
        return eps, noise.generator(self.seed, "resample", step).random(x.shape[:2])

    def _prepare(self, x, lengths, eps):
        """x, eps and the mask of real steps (T, B) on the backend. What stands in the padding is replaced by zeros."""
        lengths = _check_x(x, self.x_dim, lengths, self.likelihood.name)
        T, B, _ = x.shape
        if getattr(eps, "shape", None) != (T, B, self.z_dim):
            raise DataError(f"Expected eps of shape {(T, B, self.z_dim)} for x {x.shape}, got {_shape(eps)}.")
        backend, xp = self.backend, self.backend.xp
        x, eps = backend.asarray(x, dtype=self.dtype), backend.asarray(eps, dtype=self.dtype)
        if lengths is None or (lengths == T).all():
            return x, eps, xp.ones((T, B), dtype=self.dtype)
        mask = xp.arange(T)[:, None] < backend.asarray(lengths)
        x, eps = xp.where(mask[..., None], x, 0), xp.where(mask[..., None], eps, 0)
        return x, eps, mask.astype(self.dtype)

    def _flat(self, named):
        grads = self.backend.xp.empty(self.theta.shape, dtype=self.theta.dtype)
        for (group, own), target in zip(self.shapes.items(), views(grads, self.shapes).values()):
            for leaf in own:
                target[leaf][...] = named[group][leaf]
        return grads

    def _check_sizes(self):
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}.")

    def _shapes(self):
        X, H, Z, F, L = (getattr(self, name) for name in _SIZES)
        hidden = [F] * L
        return {
            "phi_x": mlp_shapes([X, *hidden]),
            "phi_z": mlp_shapes([Z, F]),
            "prior": mlp_shapes([H, F]) | gaussian_head_shapes(F, Z),
            "infer": mlp_shapes([F + H, *hidden]) | gaussian_head_shapes(F, Z),
            "generate": mlp_shapes([F + H, *hidden]) | self.likelihood.head_shapes(F, X),
            "recur": gru_shapes(2 * F, H),
        }


_X_MAX = 1e15  # ((x - mu) / sigma_min)^2 is then still a float32
_SIZES = ("x_dim", "h_dim", "z_dim", "features", "layers")
_DTYPES = ("float32", "float64", np.float32, np.float64, np.dtype("float32"), np.dtype("float64"))


def _refuse_dtype(dtype):
    raise ConfigError(f'dtype must be "float32" or "float64", got {dtype!r}.')


def _parts(log_p, kl, mask):
    """Sums of the real steps: (T, B) -> (B,)."""
    log_likelihood, kl = (log_p * mask).sum(axis=0), (kl * mask).sum(axis=0)
    return Parts(log_likelihood - kl, kl, log_likelihood)


def _finite(beta):
    if not isinstance(beta, Real) or not np.isfinite(beta):
        raise ConfigError(f"beta must be a finite number, got {beta!r}.")
    return float(beta)


def _shape(value):
    return getattr(value, "shape", type(value).__name__)


def _check_x(x, x_dim, lengths, likelihood):
    """Raises DataError for what the model can't read. Returns lengths as a host array, or None."""
    if getattr(x, "ndim", None) != 3 or x.shape[-1] != x_dim or 0 in x.shape:
        raise DataError(f"Expected x of shape (T, B, {x_dim}) with T, B >= 1, got {_shape(x)}: see tinyvrnn.data.pad.")
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
    if likelihood == "bernoulli" and (low < 0 or high > 1):
        raise DataError(f'The Bernoulli likelihood needs x in [0, 1], got {low:g} to {high:g}: use "gaussian".')
    if max(-low, high) > _X_MAX:
        raise DataError(f"x reaches from {low:g} to {high:g}, but at most {_X_MAX:g} can be squared: standardise it.")
