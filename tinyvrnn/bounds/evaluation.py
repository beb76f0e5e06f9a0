"""A bound over a whole set, in nats per sequence and per step, with standard errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays import noise, ranks
from tinyvrnn.arrays.backend import device_memory, numbers_of, to_host
from tinyvrnn.arrays.cpu import check_memory
from tinyvrnn.bounds.estimates import fivo, iwae, particle_noise
from tinyvrnn.data import Sequences, in_order_of_length
from tinyvrnn.data.sequences import as_sequences, observed_in
from tinyvrnn.errors import DataError, check_whole
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import Inference, check_bound
from tinyvrnn.models.linear_gaussian import LinearGaussian


class Evaluation(NamedTuple):
    """The ELBO over a set, in nats.

    Attributes
    ----------
    elbo_per_sequence : float
        Mean over sequences.
    elbo_per_step : float
        Total divided by the number of real steps.
    kl_per_sequence, log_likelihood_per_sequence : float
        Means over sequences.
    sequences, steps : int
        Number of sequences, and of real steps.
    standard_error : float
        Of elbo_per_sequence, over sequences and draws; NaN for a single sequence.
    """

    elbo_per_sequence: float
    elbo_per_step: float
    kl_per_sequence: float
    log_likelihood_per_sequence: float
    sequences: int
    steps: int
    standard_error: float


class BoundEvaluation(NamedTuple):
    """A bound over a set, in nats.

    Attributes
    ----------
    bound : str
        Name and number of particles: "elbo-1", "iwae-64", "fivo-16".
    per_sequence : float
        Mean over sequences.
    per_step : float
        Total divided by the number of real steps.
    standard_error : float
        Of per_sequence over sequences, for another set from the same source; NaN for a single sequence.
    standard_error_draws : float
        Of per_sequence over the draws of z, for the same set with another seed.
    particles, sequences, steps : int
        K, the number of sequences, and of real steps.
    """

    bound: str
    per_sequence: float
    per_step: float
    standard_error: float
    standard_error_draws: float
    particles: int
    sequences: int
    steps: int


def evaluate_elbo(
    model: Model | LinearGaussian, sequences: Sequences, batch_size: int = 128, seed: int = 0, chunk: int | None = None
) -> Evaluation:
    """The ELBO of Eq. 11 over `sequences`, with one draw of z for each.

    The value per step is the total over all real steps, without padding; it is not the mean of the sequences' means.

    Parameters
    ----------
    model : VRNN, VRNNI, RNN, VAE or LinearGaussian
        For an RNN the result is log p(x).
    sequences : Sequences
        On the scale of the training data.
    batch_size, seed : int
        Together they determine the draws.
    chunk : int, optional
        Compute so many steps of a batch at once, carrying the state from one chunk to the next. The result is the same,
        but memory grows with `chunk` instead of the longest sequence. None: all steps at once.

    Returns
    -------
    Evaluation
        Nats per sequence and per step.

    Raises
    ------
    ConfigError
        An option is invalid, or a chunk is given for a smoothing posterior.
    DataError
        The sequences do not fit the model.
    """
    sequences = as_sequences(sequences)
    if chunk is not None:
        check_whole("chunk", chunk)
    sums = np.zeros(4)
    with device_memory(model.backend):
        for number, batch in enumerate(in_order_of_length(sequences, batch_size)):
            with ranks.own(batch) as index:
                if len(index):
                    given = model, sequences, index, (seed, "evaluate", number)
                    parts = _chunks(*given, chunk) if chunk else [to_host(a) for a in model.parts(*_drawn(*given))]
                    sums += [*(p.sum(dtype="float64") for p in parts), (parts[0].astype("float64") ** 2).sum()]
    elbo, kl, log_likelihood, squares = ranks.current().sum(sums).tolist()
    n, steps = len(sequences), sequences.steps
    error = math.sqrt(max(squares / n - (elbo / n) ** 2, 0) / (n - 1)) if n > 1 else math.nan
    return Evaluation(elbo / n, elbo / steps, kl / n, log_likelihood / n, n, int(steps), error)


def infer_all(model, sequences, batch_size=128, seed=0):
    """The Inference of all sequences, with the draws of `evaluate_elbo`: (N, T, .) each, on the host, in their order.

    Memory grows with the result and with a batch.
    """
    sequences = as_sequences(sequences)
    size, whole = (len(sequences), sequences.max_steps), None
    with device_memory(model.backend):
        for number, index in enumerate(in_order_of_length(sequences, batch_size)):
            found = model.infer(*_drawn(model, sequences, index, (seed, "evaluate", number)))
            if whole is None:
                numbers = sum(math.prod(a.shape[2:]) for a in found)
                check_memory(math.prod(size) * numbers, model.dtype, f"{size[0]:,} sequences of {size[1]:,} steps")
                whole = Inference(*(np.zeros((*size, *a.shape[2:]), model.dtype) for a in found))
            for array, a in zip(whole, found):
                array[index, : len(a)] = to_host(a).swapaxes(0, 1)
    return whole


def _drawn(model, sequences, index, address):
    """x (T, B, X), lengths (B,) and eps (T, B, Z) of the sequences `index`, and where x has gaps, observed."""
    x, lengths = sequences.padded(index, model.dtype)
    eps = noise.standard_normal((*x.shape[:2], model.z_dim), model.dtype, *address, model.backend)
    return x, lengths, eps, *_gaps(model, x)


def _gaps(model, x):
    """(observed,) for x with NaN at missing entries, else (): a LinearGaussian has no such argument."""
    if (observed := observed_in(x)) is None:
        return ()
    if not isinstance(model, Model):
        raise DataError(f"A {type(model).__name__} takes complete sequences, got missing values (NaN): fill them.")
    return (observed,)


def _chunks(model, sequences, index, address, chunk):
    """ELBO, KL and log-likelihood of the sequences `index`, (3, B) on the host, chunk by chunk.

    Sequences that have ended are dropped, and the states of the others carried.
    """
    lengths, totals, state, before = sequences.lengths[index], np.zeros((3, len(index))), None, None
    for start in range(0, int(lengths.max()), chunk):
        going, steps = lengths > start, min(chunk, int(lengths.max()) - start)
        shape = (steps, len(index), model.z_dim)
        eps = noise.standard_normal(shape, model.dtype, *address, model.backend, first=start * math.prod(shape[1:]))
        if state is not None:
            state = state[numbers_of(going[before], model.backend)]
        x, left = sequences.padded(index[going], model.dtype, start, start + chunk)
        parts, state = model.chunk_parts(x, left, eps[:, numbers_of(going, model.backend)], state, *_gaps(model, x))
        totals[:, going] += np.stack([to_host(part) for part in parts])
        before = going
    return totals


def evaluate(
    model: Model | LinearGaussian,
    sequences: Sequences,
    bound: str = "iwae",
    particles: int = 64,
    batch_size: int = 128,
    seed: int = 0,
    repeats: int = 2,
) -> BoundEvaluation:
    """A bound over `sequences`; the same arguments give the same draws.

    Parameters
    ----------
    model : VRNN, VRNNI or LinearGaussian; for "elbo" any model
        The model to evaluate.
    sequences : Sequences
        On the scale of the training data.
    bound : "elbo", "iwae" or "fivo"
        See `iwae` and `fivo`.
    particles : int
        K, draws of z for each sequence.
    batch_size, seed : int
        Together they determine the draws.
    repeats : int
        Independent estimates for each sequence, at least 2: the result is their mean, and their spread gives
        `standard_error_draws`.

    Returns
    -------
    BoundEvaluation
        Nats per sequence and per step.

    Raises
    ------
    ConfigError
        The model has no such bound, or an option is invalid.
    DataError
        The sequences do not fit the model.
    """
    check_bound(bound, particles)
    estimate = {"elbo": _elbo, "iwae": iwae, "fivo": fivo}[bound]
    check_whole("repeats", repeats, least=2)
    sequences = as_sequences(sequences)
    found = np.zeros((repeats, len(sequences)))
    with device_memory(model.backend):
        for number, batch in enumerate(in_order_of_length(sequences, batch_size)):
            streams = [f"{bound} batch {number} repeat {i}" for i in range(repeats)]
            with ranks.own(batch) as index:
                if len(index):
                    x, lengths = sequences.padded(index, model.dtype)
                    given = model, x, lengths, particles, seed
                    found[:, index] = [to_host(estimate(*given, stream, *_gaps(model, x))) for stream in streams]
    found = ranks.current().sum(found)
    means, n, steps = found.mean(axis=0), len(sequences), int(sequences.steps)
    over_sequences = float(means.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    over_draws = math.sqrt(float(found.var(axis=0, ddof=1).sum()) / repeats) / n
    total = float(means.sum())
    return BoundEvaluation(
        f"{bound}-{particles}", total / n, total / steps, over_sequences, over_draws, particles, n, steps
    )


def _elbo(model, x, lengths, particles, seed, stream, *gaps):
    """The mean over K draws of the ELBO with its KL in closed form, (B,)."""
    eps = (particle_noise(model, x, [k], seed, stream)[:, :, 0] for k in range(particles))
    return sum(model.elbo(x, lengths, e, *gaps) for e in eps) / particles
