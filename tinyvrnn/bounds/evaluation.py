"""A bound over a whole set, in nats per sequence and per step, with its standard errors."""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import numbers_of, to_host
from tinyvrnn.bounds.estimates import draw, fivo, iwae
from tinyvrnn.data import batches, in_order_of_length
from tinyvrnn.errors import ConfigError
from tinyvrnn.models.batch import check_bound


class Evaluation(NamedTuple):
    """A bound over a set: in nats per sequence (mean over sequences) and nats per real step (total over total)."""

    elbo_per_sequence: float
    elbo_per_step: float
    kl_per_sequence: float
    log_likelihood_per_sequence: float
    sequences: int
    steps: int
    standard_error: float  # of elbo_per_sequence, over the sequences and their draws; NaN for a single sequence


class BoundEvaluation(NamedTuple):
    """A bound over a set, in nats, with two standard errors of `per_sequence`."""

    bound: str  # "elbo-1", "iwae-64", "fivo-16"
    per_sequence: float  # mean over sequences
    per_step: float  # total over all real steps
    standard_error: float  # over the sequences: if another set of the same kind were taken; NaN for a single one
    standard_error_draws: float  # over the draws of z: if the same set were evaluated with another seed
    particles: int
    sequences: int
    steps: int


def evaluate_elbo(model, sequences, batch_size=128, seed=0, chunk=None):
    """The ELBO of Eq. 11 over `sequences`, one draw of z for each; the same seed and batch size give the same draws.

    Per step means all nats over all real steps: not over padded ones, and not a mean of the sequences' means.
    chunk: so many steps of a batch are read and computed at once, the state is carried on from one chunk to the next,
    and the result is the same; memory then grows with `chunk` and not with the longest sequence. None: all at once.
    Raises ConfigError for a chunk that is no whole number of at least 1, or for a smoothing posterior.
    """
    if chunk is not None and (not isinstance(chunk, Integral) or chunk < 1):
        raise ConfigError(f"chunk must be a whole number of at least 1, got {chunk!r}.")
    elbo = kl = log_likelihood = squares = 0.0
    for number, index in enumerate(in_order_of_length(sequences, batch_size)):
        address = seed, "evaluate", number
        if chunk is None:
            parts = _whole(model, sequences, index, address)
        else:
            parts = _chunks(model, sequences, index, address, chunk)
        elbo, kl, log_likelihood = (
            total + float(part.sum(dtype="float64")) for total, part in zip((elbo, kl, log_likelihood), parts)
        )
        squares += float((parts[0].astype("float64") ** 2).sum())
    n, steps = len(sequences), sequences.steps
    error = math.sqrt(max(squares / n - (elbo / n) ** 2, 0) / (n - 1)) if n > 1 else math.nan
    return Evaluation(elbo / n, elbo / steps, kl / n, log_likelihood / n, n, int(steps), error)


def _whole(model, sequences, index, address):
    """ELBO, KL and log-likelihood of sequences `index`, (B,) each on the host."""
    x, lengths = sequences.padded(index, model.dtype)
    eps = noise.standard_normal((*x.shape[:2], model.z_dim), model.dtype, *address, model.backend)
    return [to_host(part) for part in model.parts(x, lengths, eps)]


def _chunks(model, sequences, index, address, chunk):
    """As `_whole`, (3, B): sequences that have ended drop out, the states of the others are carried on."""
    lengths, totals, state, before = sequences.lengths[index], np.zeros((3, len(index))), None, None
    for start in range(0, int(lengths.max()), chunk):
        going, steps = lengths > start, min(chunk, int(lengths.max()) - start)
        shape = (steps, len(index), model.z_dim)
        eps = noise.standard_normal(shape, model.dtype, *address, model.backend, first=start * math.prod(shape[1:]))
        if state is not None:
            state = state[numbers_of(going[before], model.backend)]
        x, left = sequences.padded(index[going], model.dtype, start, start + chunk)
        parts, state = model.chunk_parts(x, left, eps[:, numbers_of(going, model.backend)], state)
        totals[:, going] += np.stack([to_host(part) for part in parts])
        before = going
    return totals


def evaluate(model, sequences, bound="iwae", particles=64, batch_size=128, seed=0, repeats=2):
    """A bound over `sequences`; the same arguments give the same draws. Returns BoundEvaluation.

    bound: "elbo", "iwae" or "fivo". repeats: how often each sequence is estimated, with fresh draws; the result is the
    mean, and what the repeats differ by is `standard_error_draws`.
    Raises ConfigError for an unknown bound, and for particles or repeats (at least 2) that are no such number.
    """
    check_bound(bound, particles)
    estimate = {"elbo": _elbo, "iwae": iwae, "fivo": fivo}[bound]
    if not isinstance(repeats, Integral) or repeats < 2:
        raise ConfigError(f"repeats must be a whole number of at least 2, got {repeats!r}.")
    found = []
    for number, (x, lengths, _) in enumerate(batches(sequences, batch_size, dtype=model.dtype)):
        streams = [f"{bound} batch {number} repeat {i}" for i in range(repeats)]
        each = [to_host(estimate(model, x, lengths, particles, seed, stream)) for stream in streams]
        found.append(np.stack(each).astype("float64"))
    found = np.concatenate(found, axis=1)  # (repeats, N)
    means, n, steps = found.mean(axis=0), len(sequences), int(sequences.steps)
    over_sequences = float(means.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    over_draws = math.sqrt(float(found.var(axis=0, ddof=1).sum()) / repeats) / n
    total = float(means.sum())
    return BoundEvaluation(
        f"{bound}-{particles}", total / n, total / steps, over_sequences, over_draws, particles, n, steps
    )


def _elbo(model, x, lengths, particles, seed, stream):
    """The mean over K draws of the ELBO with its KL in closed form, (B,)."""
    eps = (draw(model, x, [k], seed, stream)[:, :, 0] for k in range(particles))
    return sum(model.elbo(x, lengths, e) for e in eps) / particles
