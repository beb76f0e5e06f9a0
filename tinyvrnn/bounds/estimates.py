"""One estimate of the IWAE or FIVO bound for each sequence of a batch. Derivations: docs/derivations/importance.md."""

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import namespace
from tinyvrnn.errors import DataError
from tinyvrnn.models.batch import check_bound
from tinyvrnn.models.particles import log_mean_exp

ROWS_AT_ONCE = 2**14  # steps times sequences times particles in one pass: four times a usual training batch


def iwae(model, x, lengths=None, particles=64, seed=0, stream="particles"):
    """One estimate of the importance-weighted bound of each sequence: log (1/K) sum_k w_k, (B,), nats per sequence.

    x (T, B, X), lengths (B,) as in `model.elbo`; seed and stream address the noise. With one particle the mean is the
    ELBO. Particles are computed a few at a time, so memory does not grow with K.
    Source: Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519, equation 8.
    """
    check_bound("iwae", particles, model)
    _require_three_axes(x)
    at_once = max(1, ROWS_AT_ONCE // (x.shape[0] * x.shape[1]))
    log_w = [
        model.log_weights(x, lengths, draw(model, x, range(k, min(k + at_once, particles)), seed, stream))
        for k in range(0, particles, at_once)
    ]
    return log_mean_exp(namespace(log_w[0]).concatenate(log_w, axis=1))


def fivo(model, x, lengths=None, particles=64, seed=0, stream="particles"):
    """One estimate of the filtering variational objective of each sequence, (B,), nats per sequence.

    Arguments as in `iwae`; exp of the result is an unbiased estimate of p(x). Particles are resampled, systematically,
    where their effective number falls below K / 2. A sequence that has ended is not changed any more. Sequences are
    computed a few at a time, so memory grows with T times K only.
    Source: Maddison et al., 2017, arXiv:1705.09279.
    """
    check_bound("fivo", particles, model)
    _require_three_axes(x)
    (T, B, _), at_once = x.shape, max(1, ROWS_AT_ONCE // (x.shape[0] * particles))
    eps = draw(model, x, range(particles), seed, stream)
    uniforms = noise.uniform((T, B), model.dtype, seed, f"{stream} resampled", backend=model.backend)
    found = []
    for b in range(0, B, at_once):
        s = slice(b, b + at_once)
        own = None if lengths is None else lengths[s]
        found.append(model.particle_filter(x[:, s], own, eps[:, s], uniforms[:, s]))
    return namespace(found[0]).concatenate(found)


def draw(model, x, numbers, seed, stream):
    """eps (T, B, K, Z), each particle's at its own address, so that no draw depends on how many there are."""
    shape, backend = (*x.shape[:2], model.z_dim), model.backend
    return backend.xp.stack(
        [noise.standard_normal(shape, model.dtype, seed, stream, k, backend) for k in numbers], axis=2
    )


def _require_three_axes(x):
    if getattr(x, "ndim", None) != 3:
        shape = getattr(x, "shape", type(x).__name__)
        raise DataError(f"Expected x of shape (T, B, X), got {shape}: see tinyvrnn.data.pad.")
