"""One estimate of the IWAE or FIVO bound for each sequence of a batch. Derivations: docs/derivations/importance.md."""

from __future__ import annotations

from numpy.typing import ArrayLike

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import Array, as_array, namespace
from tinyvrnn.arrays.cpu import check_memory
from tinyvrnn.errors import ConfigError, DataError
from tinyvrnn.models.batch import check_bound, check_lengths, check_shape, shape_of
from tinyvrnn.models.linear_gaussian import LinearGaussian
from tinyvrnn.models.particles import log_mean_exp
from tinyvrnn.models.vrnn import VRNN

ROWS_AT_ONCE = 2**14  # steps times sequences times particles in one pass: four times a typical training batch


def iwae(
    model: VRNN | LinearGaussian,
    x: Array,
    lengths: ArrayLike | None = None,
    particles: int = 64,
    seed: int = 0,
    stream: str = "particles",
    observed: Array | None = None,
) -> Array:
    """One estimate of the importance-weighted bound of each sequence.

        log (1/K) sum_k w_k,      w_k = p(x, z_k) / q(z_k | x)

    With one particle its mean is the ELBO. Particles are computed a few at a time, so memory does not grow with K.

    Parameters
    ----------
    model : VRNN, VRNNI or LinearGaussian
        A model with latent variables along a sequence.
    x, lengths : array (T, B, X), integers (B,)
        As in `VRNN.loss_and_grads`.
    particles : int
        K, draws of z for each sequence.
    seed, stream : int, str
        Identify the noise.
    observed : array (T, B, X), optional
        As in `VRNN.loss_and_grads`.

    Returns
    -------
    array (B,)
        Nats per sequence.

    Raises
    ------
    ConfigError
        The model has no such bound, or particles or seed is invalid.
    DataError
        x or lengths do not fit the model.

    References
    ----------
    Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519, equation 8.
    """
    x, lengths, *gaps = _checked("iwae", model, x, lengths, particles, observed)
    check_memory(x.shape[1] * particles, model.dtype, f"{particles:,} weights of {x.shape[1]} sequences")
    at_once = max(1, ROWS_AT_ONCE // (x.shape[0] * x.shape[1]))
    parts = (range(k, min(k + at_once, particles)) for k in range(0, particles, at_once))
    log_w = [model.log_weights(x, lengths, particle_noise(model, x, part, seed, stream), *gaps) for part in parts]
    return log_mean_exp(namespace(log_w[0]).concatenate(log_w, axis=1))


def fivo(
    model: VRNN | LinearGaussian,
    x: Array,
    lengths: ArrayLike | None = None,
    particles: int = 64,
    seed: int = 0,
    stream: str = "particles",
    observed: Array | None = None,
) -> Array:
    """One estimate of the filtering variational objective of each sequence; its exp is unbiased for p(x).

    Systematic resampling takes place when the effective number of particles falls below K / 2, and not after the end
    of a sequence. Sequences are computed a few at a time, so memory grows with T times K only.

    Parameters
    ----------
    model, x, lengths, particles, seed, stream, observed : various
        As in `iwae`.

    Returns
    -------
    array (B,)
        Nats per sequence.

    Raises
    ------
    ConfigError
        The model has no such bound, or particles or seed is invalid.
    DataError
        x or lengths do not fit the model.

    References
    ----------
    Maddison et al., 2017, arXiv:1705.09279.
    """
    x, lengths, *gaps = _checked("fivo", model, x, lengths, particles, observed)
    size = max(x.shape[0] * x.shape[1] * max(1, model.z_dim), particles)  # resampling compares each with each
    check_memory(size * particles, model.dtype, f"{particles:,} particles of {x.shape[1]} sequences")
    (T, B, _), at_once = x.shape, max(1, ROWS_AT_ONCE // (x.shape[0] * particles))
    eps = particle_noise(model, x, range(particles), seed, stream)
    # in float64, since a number that float32 rounds to 1 would be refused
    uniforms = noise.uniform((T, B), "float64", seed, f"{stream} resampled", backend=model.backend)
    estimates = []
    for b in range(0, B, at_once):
        s = slice(b, b + at_once)
        part_lengths, others = None if lengths is None else lengths[s], (a[:, s] for a in (eps, uniforms, *gaps))
        estimates.append(model.particle_filter(x[:, s], part_lengths, *others))
    return namespace(estimates[0]).concatenate(estimates)


def particle_noise(model, x, numbers, seed, stream):
    """eps (T, B, K, Z) of the particles `numbers`; each has its own address, so its noise does not depend on K."""
    shape, backend = (*x.shape[:2], model.z_dim), model.backend
    return backend.xp.stack(
        [noise.standard_normal(shape, model.dtype, seed, stream, k, backend) for k in numbers], axis=2
    )


def _checked(bound, model, x, lengths, particles, observed):
    """x and lengths as arrays, and observed if it is given, of shapes that fit; `validate` checks the numbers."""
    check_bound(bound, particles, model)
    x = as_array(x, "x")
    if getattr(x, "ndim", None) != 3 or 0 in x.shape:
        raise DataError(f"Expected x of shape (T, B, X), got {shape_of(x)}: see tinyvrnn.data.pad.")
    lengths = None if lengths is None else check_lengths(lengths, x)
    if observed is None:
        return x, lengths
    if isinstance(model, LinearGaussian):
        raise ConfigError("observed is for a VRNN, and this model is a LinearGaussian: leave it out.")
    check_shape("observed", observed := as_array(observed, "observed"), x.shape, " as x")  # before it is sliced
    return x, lengths, observed
