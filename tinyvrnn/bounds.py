"""Bounds of log p(x) over a whole set of sequences, with their units."""

from typing import NamedTuple

from tinyvrnn import noise
from tinyvrnn.backend import to_host
from tinyvrnn.data import batches


class Evaluation(NamedTuple):
    """A bound over a set: in nats per sequence (mean over sequences) and nats per real step (total over total)."""

    elbo_per_sequence: float
    elbo_per_step: float
    kl_per_sequence: float
    log_likelihood_per_sequence: float
    sequences: int
    steps: int


def evaluate_elbo(model, sequences, batch_size=128, seed=0):
    """The ELBO of Eq. 11 over `sequences`, one draw of z for each; the same seed and batch size give the same draws.

    Per step means all nats over all real steps: not over padded ones, and not a mean of the sequences' means.
    """
    elbo = kl = log_likelihood = 0.0
    for number, (x, lengths, _) in enumerate(batches(sequences, batch_size, dtype=model.dtype)):
        eps = noise.standard_normal((*x.shape[:2], model.z_dim), model.dtype, seed, "evaluate", number)
        parts = model.parts(x, lengths, eps)
        elbo, kl, log_likelihood = (
            total + float(to_host(part).sum(dtype="float64")) for total, part in zip((elbo, kl, log_likelihood), parts)
        )
    n, steps = len(sequences), sequences.steps
    return Evaluation(elbo / n, elbo / steps, kl / n, log_likelihood / n, n, int(steps))
