"""One batch, several workers: each computes the gradient of a slice of the sequences, and the gradients are added.

Sums are taken in the order of the slices, so a given number of slices gives the same bits each time, whichever workers
were available.
"""

from contextlib import suppress
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.cpu import available_cores, blas_threads
from tinyvrnn.models.batch import BoundTerms, Gradient
from tinyvrnn.training import worker

LARGE = 2_500_000  # parameters; docs/performance.md
LEAST_SLICE = 32  # sequences


class Split(NamedTuple):
    """How a batch is divided among the cores."""

    slices: int
    blas_threads: int = 1


def split_for(model, batch, workers):
    """The Split for a model and a number of sequences. workers: a number of slices, or "auto": as many as cores.

    auto makes no slice of fewer than LEAST_SLICE sequences, since products of fewer rows are slow, and one slice for a
    LARGE model: its products keep several threads busy, and each slice would read all weights again at each step.
    """
    cores = available_cores()
    if model.backend.name != "numpy":
        return Split(1)
    if workers != "auto":
        return Split(min(workers, batch))
    if model.theta.size >= LARGE:
        return Split(1, blas_threads=cores)
    return Split(max(1, min(cores, batch // LEAST_SLICE)))


class Workers:
    """Computes the gradient of slices of a batch at the same time: here, and in processes for the other cores.

    Use as a context manager. split: a Split, or a number of slices.
    """

    def __init__(self, split):
        self.split = split if isinstance(split, Split) else Split(split)
        self._others = [worker.hire() for _ in range(min(self.split.slices, available_cores()) - 1)]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for other in self._others:
            worker.dismiss(other)
        self._others = []

    @property
    def pids(self):
        """The process ids of the other workers."""
        return [other.pid for other in self._others if not other.ended]

    def wait(self, model):
        """Waits until all others are ready for `model`."""
        for other in self._others:
            other.wait(model)

    def gradient(self, model, batch, objective):
        """The Gradient of a Batch, as `model.gradient` computes it."""
        slices = cut(batch.x.shape[1], self.split.slices)
        parts = [batch] if len(slices) == 1 else [batch.sequences(s) for s in slices]
        with (
            blas_threads(self.split.blas_threads),
            np.errstate(over="ignore", invalid="ignore"),
        ):  # callers check the loss
            asked = [other.ask(model, part, objective) and other for other, part in zip(self._others, parts[1:])]
            results = [model.gradient(parts[0], objective)]
            # computed here: the slice of a dead worker, and all slices beyond the cores
            for other, part in zip_longest(asked, parts[1:]):
                results.append((other and _answer_of(other)) or model.gradient(part, objective))
        return combine(results, [s.stop - s.start for s in slices])


def _answer_of(other):
    """The Gradient of a worker, or None if it has ended."""
    with suppress(EOFError):
        return other.answer()


def cut(count, parts):
    """Slices that cut range(count) into at most `parts` consecutive pieces of nearly equal length."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round()
    return [slice(int(a), int(b)) for a, b in zip(bounds, bounds[1:])]


def combine(results, counts):
    """The mean loss and gradient, and the joined terms and states, of slices with `counts` sequences each.

    Overwrites the gradients of the slices.
    """
    if len(results) == 1:
        return results[0]
    shares = [count / sum(counts) for count in counts]
    losses, gradients, terms, states = zip(*results)
    for grads, share in zip(gradients, shares):
        grads *= share
    total = gradients[0]
    for grads in gradients[1:]:
        total += grads
    loss = sum(loss * share for loss, share in zip(losses, shares))
    state = None if states[0] is None else np.concatenate(states)
    return Gradient(loss, total, BoundTerms(*(np.concatenate(values) for values in zip(*terms))), state)
