"""The two records that a call of a model takes, and their checks.

The public calls of a model make both, and `validate` checks and converts them: the functions behind it rely on them.
"""

import sys
import warnings
from typing import Any, NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import Array, as_array, backend_of, namespace, to_host
from tinyvrnn.errors import ConfigError, DataError, check_whole, is_finite, unknown_name
from tinyvrnn.nn.cells import state_width

BOUNDS = ("elbo", "iwae", "fivo")
RAW = "raw data need model.standardise(x)"
UNITS = "check their units and the order of their columns"
TWICE = "they look standardised twice: commands and model.standardise(x) need raw data"
FAR = 10  # of standardised data: a root mean square beyond it is no longer that of the training data, 1
X_MAX = 1e12  # beyond it sums of squares and products of gradients leave the range of float32


class Batch(NamedTuple):
    """B sequences of T steps, padded to the longest one, with the noise of one call.

    x (T, B, X): the data. lengths (B,): real steps of each sequence, on the host; None: all T. eps (T, B, Z), or
    (T, B, K, Z) for K particles: standard normal noise. uniforms (T, B): for resampling particles.
    input_mask (T, B, X): dropout mask on the networks' input; the bound scores x itself. observed (T, B, X): 0 at the
    missing entries, where `validate` makes x NaN and input_mask 0; None: none is missing. state (B, S H): before the
    first step; None: zeros. mask (T, B): 1 in the real steps and 0 in the padding, made by `validate`.
    """

    x: Any
    lengths: Any = None
    eps: Any = None
    uniforms: Any = None
    input_mask: Any = None
    observed: Any = None
    state: Any = None
    mask: Any = None

    @classmethod
    def of(cls, *fields):
        """A Batch of a user's arguments, each converted to an array. Raises DataError where that is impossible."""
        return cls(*(as_array(value, name) for name, value in zip(cls._fields, fields)))

    def without_constants(self, std):
        """The batch in which no column with std (X,) 0, constant in the training data, is observed."""
        shape, observed = shape_of(self.x), self.observed
        if std.all() or shape[-1:] != std.shape or observed is not None and shape_of(observed) != shape:
            return self  # there are none; a wrong shape is refused later
        observed = namespace(self.x).ones(shape, dtype=bool) if observed is None else observed
        return self._replace(observed=observed * backend_of(observed).asarray(std > 0))

    @property
    def x_in(self):
        """The networks' input, (T, B, X): x with dropout, and with 0 at the missing entries."""
        mask, x = self.input_mask, self.x
        return x if mask is None else namespace(x).where(mask != 0, mask * x, 0)  # 0 NaN is NaN

    def steps(self, s):
        """The batch of the steps in the slice s; lengths count from its start."""
        x, lengths, *others, state, mask = self
        *others, mask = (None if a is None else a[s] for a in (*others, mask))
        lengths = None if lengths is None else np.clip(lengths - s.start, 0, s.stop - s.start)
        return Batch(x[s], lengths, *others, state, mask)

    def sequences(self, index):
        """The batch of some sequences: a slice or host indices. It is cut to the longest of them."""
        T = len(self.x) if self.lengths is None else self.lengths[index].max()
        x, lengths, *others, state, mask = self
        x, *others, mask = (None if a is None else _columns(a[:T], index) for a in (x, *others, mask))
        return Batch(x, None if lengths is None else lengths[index], *others, rows(state, index), mask)

    def chunks(self, size):
        """Yield (chunk, before) for each `size` steps: the sequences that still run, and their rows in the last chunk.

        size None: the whole batch at once. Otherwise lengths are required, as a host array.
        """
        if size is None:
            yield self, slice(None)
            return
        for start in range(0, len(self.x), size):
            running = self.lengths > start
            before = np.flatnonzero(running[self.lengths > start - size])
            yield self.steps(slice(start, start + size)).sequences(np.flatnonzero(running)), before

    @property
    def particles(self):
        """K, the draws of z for each sequence."""
        return self.eps.shape[2] if self.eps.ndim == 4 else 1

    def widened(self):
        """The batch with a column for each particle, (T, B K, .); particle k of sequence b is column b K + k."""
        T, B, K, Z = self.eps.shape
        given = self.x, self.input_mask, self.observed, self.mask
        x, *masks, mask = (None if a is None else copies(a, K) for a in given)
        lengths = None if self.lengths is None else np.repeat(self.lengths, K)
        return Batch(x, lengths, self.eps.reshape(T, B * K, Z), self.uniforms, *masks, None, mask)


class Objective(NamedTuple):
    """What is maximised: bound "elbo", "iwae" or "fivo", the latter two with K particles; beta weighs the KL.

    recompute: the same gradient in memory that grows as the square root of T (recompute.py). free_bits: nats; the bound
    "elbo" then charges each step max(free_bits, KL_t). Source: Kingma et al., 2016, arXiv:1606.04934, appendix C.
    """

    bound: str = "elbo"
    particles: int = 1
    beta: float = 1.0
    recompute: bool = False
    free_bits: float = 0.0

    def dkl(self, kl, weight):
        """The loss's derivative by kl (T, B); weight (T, B): of each step. A step within its free bits has none."""
        return float(self.beta) * weight * (kl > float(self.free_bits) if self.free_bits else 1)

    def free(self, kl, weight):
        """The nats that the free bits add to the KL, per sequence."""
        return (namespace(kl).maximum(float(self.free_bits) - kl, 0) * weight).sum()


class BoundTerms(NamedTuple):
    """The terms of the bound for each sequence of a batch, in nats per sequence: elbo = log_likelihood - kl.

    terms["elbo"] is terms.elbo.

    Attributes
    ----------
    elbo : array (B,)
        One-draw estimate of the bound (Eq. 11); for an RNN log p(x) itself.
    kl : array (B,)
        KL of posterior and prior, summed over the steps; 0 without latent variables.
    log_likelihood : array (B,)
        log p(x_t | z_<=t, x_<t), summed over the steps.
    """

    elbo: Array
    kl: Array
    log_likelihood: Array

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class Inference(NamedTuple):
    """What a model makes of each step of a batch; everything is 0 in the padding.

    Attributes
    ----------
    mu_z, sigma_z : array (T, B, Z)
        Mean and standard deviation of the posterior of z_t (Eq. 9).
    mu_0, sigma_0 : array (T, B, Z)
        Those of the prior (Eq. 5).
    z : array (T, B, Z)
        The draw of the posterior.
    h : array (T, B, H)
        h_t, the state after step t (Eq. 7); a VAE has none, H = 0.
    log_p, kl, elbo : array (T, B)
        The terms of Eq. 11 and log_p - kl, nats per step.
    """

    mu_z: Array
    sigma_z: Array
    mu_0: Array
    sigma_0: Array
    z: Array
    h: Array
    log_p: Array
    kl: Array
    elbo: Array


class Gradient(NamedTuple):
    """loss: minus the objective, nats per sequence; grads: flat like theta; terms of the ELBO; state after the end."""

    loss: object
    grads: object
    terms: BoundTerms
    state: object = None


def bound_terms(log_p, kl, mask):
    """BoundTerms of log_p, kl (T, B): sums over the real steps, in float64, as float32 loses digits over many steps."""
    log_likelihood, kl = ((term * mask).sum(axis=0, dtype="float64").astype(mask.dtype) for term in (log_p, kl))
    return BoundTerms(log_likelihood - kl, kl, log_likelihood)


def inference(latents, log_p, kl, mask):
    """Inference of mu_z, sigma_z, mu_0, sigma_0, z and h (T, B, .), and log_p, kl (T, B)."""
    return Inference(*(a * mask[..., None] for a in latents), *(term * mask for term in (log_p, kl, log_p - kl)))


def rows(state, index):
    """The rows of a state (B, S H) at a slice or host indices; None stays None."""
    return None if state is None else state[_index_for(state, index)]


def _columns(a, index):
    return namespace(a).ascontiguousarray(a[:, _index_for(a, index)])


def _index_for(a, index):
    return index if isinstance(index, slice) else backend_of(a).asarray(index)


def copies(a, particles):
    """Each column of a (T, B, ...) K times, side by side: (T, B K, ...)."""
    T, B, *rest = a.shape
    wide = namespace(a).empty((T, B, particles, *rest), dtype=a.dtype)
    wide[...] = a[:, :, None]
    return wide.reshape(T, B * particles, *rest)


# ---- checks --------------------------------------------------------------------------------------


def validate(model, batch, objective):
    """The Batch on the model's backend and in its dtype, with its mask; zeros stand in the padding.

    Raises ConfigError for an objective that the model does not have, DataError for arrays that do not fit it.
    """
    if batch.observed is not None:
        return _validate_with_gaps(model, batch, objective)
    check_objective(model, objective)
    lengths = check_x(batch.x, model.x_dim, batch.lengths, model.likelihood)
    _check_arrays(model, batch._replace(lengths=lengths), objective)
    given = batch.x, batch.eps, batch.uniforms if objective.bound == "fivo" else None, batch.input_mask, batch.state
    x, eps, uniforms, input_mask, state = (None if a is None else model.to_array(a) for a in given)
    xp, (T, B, _) = model.backend.xp, x.shape
    if lengths is None or (lengths == T).all():
        mask = xp.ones((T, B), dtype=model.dtype)
    else:
        real = xp.arange(T)[:, None] < model.backend.asarray(lengths)
        x, eps, uniforms, input_mask = (
            None if a is None else xp.where(real.reshape(T, B, *[1] * (a.ndim - 2)), a, 0)
            for a in (x, eps, uniforms, input_mask)
        )
        mask = real.astype(model.dtype)
    # Arrays on a device are not looked at, as that would synchronise it.
    for name, a in {"eps": eps, "uniforms": uniforms, "input_mask": input_mask, "state": state}.items():
        if isinstance(a, np.ndarray) and a.size and not np.isfinite((a.min(), a.max())).all():
            raise DataError(f"{name} holds NaN or infinite values: give finite numbers.")
    return Batch(x, lengths, eps, uniforms, input_mask, None, state, mask)


def _validate_with_gaps(model, batch, objective):
    """As `validate`, which checks valid data in place of the missing entries; afterwards they are NaN."""
    x, observed, xp = batch.x, batch.observed, model.backend.xp
    check_shape("observed", observed, shape_of(x), " as x")
    if isinstance(observed, np.ndarray) and not ((observed == 0) | (observed == 1)).all():
        raise DataError("observed holds other values than 0, missing, and 1, observed: give these or booleans.")
    observed = backend_of(x).asarray(to_host(observed) if isinstance(x, np.ndarray) else observed) != 0
    filled, observed = model.likelihood.without_gaps(x, observed)
    batch = validate(model, batch._replace(x=filled, observed=None), objective)
    observed = model.to_array(observed)
    read = observed if batch.input_mask is None else observed * batch.input_mask
    return batch._replace(x=xp.where(observed != 0, batch.x, np.nan), input_mask=read, observed=observed)


def validate_on_scale(model, batch, objective):
    """As `validate`, for a trained model; warns if x does not look standardised as the training data were."""
    batch = validate(model, batch, objective)
    if model.mean.any() or (model.std != 1).any():
        if found := _other_scale(model, batch):
            what = "These data are far from the standardised training data (mean 0, standard deviation 1) of the model"
            warnings.warn(f"{what}: {found}", stacklevel=_level_of_caller())
    return batch


def _other_scale(model, batch):
    """What to do about x that is beyond FAR, or raw, or standardised twice; None if it looks right.

    Raw, and twice: in most columns, x on that scale varies as the training data do, and its moments explain it a nat a
    number better. A single column can move far without that.
    """
    scored = model.std > 0
    mean, std, mask, x = model.mean[scored], model.std[scored], *(to_host(a) for a in (batch.mask[..., None], batch.x))
    x = x[..., scored].astype("float64")
    mask = mask * ~np.isnan(x)
    x, steps = np.where(mask, x, 0), np.maximum(1, mask.sum(axis=(0, 1)))
    first, given = x.sum(axis=(0, 1)) / steps, (x * x).sum(axis=(0, 1)) / steps  # moments of each column
    for scale, shift, advice in ((1 / std, -mean / std, RAW), (std, mean, TWICE)):
        after, spread = scale**2 * given + 2 * scale * shift * first + shift**2, scale**2 * (given - first**2)
        gain = (given - after) / 2 + np.log(scale)  # of the log-density of a normal distribution
        if 1 / 4 < np.median(spread) < 4 and np.median(gain) > 1:
            return advice
    if given.mean() <= FAR**2:
        return None
    standardised = (given - 2 * mean * first + mean**2) / std**2
    return RAW if standardised.mean() < given.mean() else UNITS


def _level_of_caller():
    """The stacklevel, for the function that calls this, of the first caller outside the package."""
    level = 1
    while sys._getframe(level).f_globals.get("__name__", "").startswith("tinyvrnn.") and sys._getframe(level).f_back:
        level += 1
    return level


def check_objective(model, objective):
    """Raises ConfigError where `model` cannot be trained on the objective."""
    check_bound(objective.bound, objective.particles, model)
    if not is_finite(objective.beta):
        raise ConfigError(f"beta must be a finite number, got {objective.beta!r}.")
    if objective.recompute:
        check_can_be_cut(model, "recompute", objective.bound)
    if objective.free_bits != 0:
        _check_free_bits(model, objective.bound, objective.free_bits)


def _check_free_bits(model, bound, free_bits):
    if not is_finite(free_bits) or free_bits < 0:
        raise ConfigError(f"free_bits must be a number of at least 0, got {free_bits!r}.")
    if bound != "elbo":
        raise ConfigError(f"free_bits changes the KL, and {bound} has none: leave it out, or give the bound elbo.")
    if not model.z_dim:
        what = f"free_bits is for latent variables, and a model of kind {model.name} has none"
        raise ConfigError(f"{what}: leave it out.")


def check_bound(bound, particles=1, model=None):
    """Raises ConfigError for an unknown bound, one that the model does not have, and fewer than 1 particle."""
    if bound not in BOUNDS:
        raise ConfigError(unknown_name("bound", bound, BOUNDS))
    if model is not None and bound not in model.bounds:
        raise ConfigError(f"{bound} weighs draws of a VRNN, and this model is of kind {model.name}: leave bound out.")
    check_whole("particles", particles)


def no_resampling(bound, particles):
    """A remark, or nothing: up to two particles are never worth fewer than half of them, so FIVO never resamples."""
    return f" (equal to iwae-{particles})" if bound == "fivo" and particles <= 2 else ""


def check_can_be_cut(model, option, bound="elbo"):
    """Raises ConfigError where `model` cannot be computed in pieces of the steps, as `option` asks."""
    if not model.has_state:
        raise ConfigError(f"{option} is for a model that has a state, and a {model.name} has none: leave it out.")
    if getattr(model, "posterior", None) == "smoothing":
        raise ConfigError(f"{option} cuts sequences, and a smoothing posterior reads each as a whole: leave one out.")
    if bound != "elbo":
        raise ConfigError(f"{option} is for the bound elbo, got {bound}: leave one out.")


def check_x(x, x_dim, lengths, likelihood):
    """Raises DataError for data that the model cannot read. Returns lengths as a host array, or None."""
    if getattr(x, "ndim", None) != 3 or x.shape[-1] != x_dim or 0 in x.shape:
        what = f"Expected x of shape (T, B, {x_dim}) with T, B >= 1, got {shape_of(x)}"
        raise DataError(f"{what}: see tinyvrnn.data.pad.")
    lengths = None if lengths is None else check_lengths(lengths, x)
    # Device arrays were checked when they were read; checking them here would synchronise the device.
    if isinstance(x, np.ndarray):
        _check_values(x if lengths is None else x[np.arange(len(x))[:, None] < lengths], likelihood)
    return lengths


def check_lengths(lengths, x):
    """`lengths` as a host array. Raises DataError unless they fit the sequences x (T, B, X)."""
    (T, B, _), lengths = x.shape, to_host(as_array(lengths, "lengths"))
    if T != B and lengths.shape == (T,) and lengths.max() <= B:
        raise DataError(f"x {x.shape} looks batch-first, as lengths are {T} up to {B}: use np.swapaxes(x, 0, 1).")
    if lengths.shape != (B,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > T:
        raise DataError(f"Expected lengths of shape ({B},), whole numbers from 1 to {T}, got {lengths!r:.80}.")
    return lengths


def shape_of(value):
    """The shape of an array, or the name of another type: the end of a message."""
    return getattr(value, "shape", type(value).__name__)


def check_shape(name, a, shape, what_for):
    """Raises DataError for anything but an array of this shape. what_for: follows the shape in the message."""
    if getattr(a, "shape", None) != shape:
        raise DataError(f"Expected {name} of shape {shape}{what_for}, got {shape_of(a)}.")


def _check_arrays(model, batch, objective):
    T, B, _ = batch.x.shape
    if objective.bound == "elbo":
        check_shape("eps", batch.eps, (T, B, model.z_dim), f" for x {batch.x.shape}")
    else:
        K = objective.particles
        if K == 1 and getattr(batch.eps, "ndim", None) == 4:
            K = batch.particles  # the argument was not given
        check_shape("eps", batch.eps, (T, B, K, model.z_dim), ", axis 2 being the particles")
    if objective.bound == "fivo":
        _check_uniforms(batch)
    if batch.input_mask is not None:
        check_shape("input_mask", batch.input_mask, batch.x.shape, " as x")
    if batch.state is not None and shape_of(batch.state) != (B, state_width(model.params["recur"])):
        raise DataError(f"Expected the state of {B} sequences, got one of shape {shape_of(batch.state)}.")


def _check_uniforms(batch):
    u, (T, B, _) = batch.uniforms, batch.x.shape
    check_shape("uniforms", u, (T, B), " for resampling")
    outside = isinstance(u, np.ndarray) and ((u < 0) | (u >= 1)) & (
        np.arange(T)[:, None] < (T if batch.lengths is None else batch.lengths)
    )
    if np.any(outside):
        raise DataError(f"uniforms holds {u[outside][0]:g} among the real steps: give numbers from [0, 1).")


def _check_values(x, likelihood):
    low, high = float(x.min()), float(x.max())
    if not np.isfinite(low + high):
        raise DataError("x holds NaN or infinite values in its real steps: replace them, or mark them by observed.")
    if (bad := likelihood.misfits(x)).any():
        raise DataError(f"x holds {x[bad].min():g} to {x[bad].max():g}, {likelihood.needs}.")
    if max(-low, high) > X_MAX:
        what = f"x reaches from {low:g} to {high:g}, beyond {X_MAX:g}, where float32 overflows"
        raise DataError(f"{what}: standardise it.")
