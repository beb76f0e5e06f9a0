"""One batch, several workers: each takes a slice of the sequences, and their flat gradients are added.

All that crosses between workers is a count of sequences and a flat gradient, so the same seam serves threads, processes
and machines. Sums are taken in the order of the slices: a given number of workers gives the same bits each time,
whichever of them were there.
"""

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.arrays.cpu import available_cores, blas_threads
from tinyvrnn.models.base import Parts
from tinyvrnn.training import worker

LARGE = 2_500_000  # parameters; docs/performance.md
LEAST_SLICE = 32  # sequences


class Split(NamedTuple):
    """How a batch is shared out over the cores."""

    slices: int
    blas_threads: int = 1


def split_for(model, batch, workers):
    """The Split for a model and a number of sequences. workers: a number of slices, or "auto": as many as cores.

    auto makes no slice of fewer than LEAST_SLICE sequences, as products of fewer rows are slow, and one slice for a
    LARGE model: its products occupy several threads, and its weights would be read anew for each slice, at each step.
    """
    cores = available_cores()
    if model.backend.name != "numpy":
        return Split(1)
    if workers != "auto":
        return Split(workers)
    if model.theta.size >= LARGE:
        return Split(1, blas_threads=cores)
    return Split(max(1, min(cores, batch // LEAST_SLICE)))


class Workers:
    """Computes `model.loss_and_grads` on slices of the batch at once: one here, each other in a process of its own.

    Use as a context manager. split: a Split, or a number of slices.
    """

    def __init__(self, split):
        self.split = split if isinstance(split, Split) else Split(split)
        self._others = [worker.hire() for _ in range(self.split.slices - 1)]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for other in self._others:
            worker.dismiss(other)
        self._others = []

    @property
    def pids(self):
        """The numbers that the system has for the other processes."""
        return [other.pid for other in self._others if not other.ended]

    def wait(self, model):
        """Waits until all others are ready for `model`."""
        for other in self._others:
            other.wait(model)

    def loss_and_grads(self, model, x, lengths, eps, beta=1.0, uniforms=None, **options):
        """As `model.loss_and_grads`, for host arrays."""
        return combine(*self._of_slices(model, "loss_and_grads", x, lengths, eps, beta, uniforms, **options))

    def chunk_loss_and_grads(self, model, x, lengths, eps, beta=1.0, state=None, **options):
        """As `model.chunk_loss_and_grads`, for host arrays."""
        results, counts = self._of_slices(model, "chunk_loss_and_grads", x, lengths, eps, beta, state=state, **options)
        states = [result[3] for result in results]
        state = states[0] if len(states) == 1 else np.concatenate(states)
        return *combine([result[:3] for result in results], counts), state

    def _of_slices(self, model, method, x, lengths, eps, beta, uniforms=None, keep=None, state=None, **options):
        slices = cut(x.shape[1], self.split.slices)
        calls = [_call_for(s, x, lengths, eps, beta, uniforms, keep, state, options) for s in slices]
        with blas_threads(self.split.blas_threads):
            asked = [other.ask(model, method, *call) for other, call in zip(self._others, calls[1:])]
            results = [_here(model, method, *calls[0])]
            for other, is_asked, call in zip(self._others, asked, calls[1:]):
                results.append((is_asked and _answer_of(other)) or _here(model, method, *call))
        return results, [s.stop - s.start for s in slices]


def _call_for(s, x, lengths, eps, beta, uniforms, keep, state, options):
    """The arguments and options of the call for a slice of the batch."""
    T = lengths[s].max()  # a slice need not be padded to the longest sequence of the whole batch
    own_x, own_eps = (namespace(a).ascontiguousarray(a[:T, s]) for a in (x, eps))
    own = options if uniforms is None else options | {"uniforms": uniforms[:T, s]}
    own = own if keep is None else own | {"keep": keep[:T, s]}
    own = own if state is None else own | {"state": state[s]}
    return (own_x, lengths[s], own_eps, beta), own


def _here(model, method, arguments, options):
    with np.errstate(over="ignore", invalid="ignore"):  # the loop looks at the loss, and says what is wrong
        return getattr(model, method)(*arguments, **options)


def _answer_of(other):
    """What a worker found, or None where it has ended."""
    with suppress(EOFError):
        return other.answer()


def cut(count, parts):
    """slice objects that cut range(count) into at most `parts` consecutive stretches of nearly equal length."""
    bounds = np.linspace(0, count, min(parts, count) + 1).round()
    return [slice(int(a), int(b)) for a, b in zip(bounds, bounds[1:])]


def combine(results, counts):
    """The mean loss, gradient and the joined Parts of slices with `counts` sequences each. Reuses the gradients."""
    if len(results) == 1:
        return results[0]
    shares = [count / sum(counts) for count in counts]
    losses, gradients, parts = zip(*results)
    for grads, share in zip(gradients, shares):
        grads *= share
    total = gradients[0]
    for grads in gradients[1:]:
        total += grads
    loss = sum(loss * share for loss, share in zip(losses, shares))
    return loss, total, Parts(*(np.concatenate(terms) for terms in zip(*parts)))
