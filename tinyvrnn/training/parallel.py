"""One batch, several workers: each takes a slice of the sequences, and their flat gradients are added.

All that crosses between workers is a count of sequences and a flat gradient, so the same seam serves threads, processes
and machines. Sums are taken in the order of the slices: a given number of workers gives the same bits each time.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from tinyvrnn.backend import one_blas_thread
from tinyvrnn.models.base import Parts


class Workers:
    """A pool of threads that computes `model.loss_and_grads` on slices of the batch. Use as a context manager."""

    def __init__(self, count="auto"):
        self.count = available_cores() if count == "auto" else count
        self._pool = ThreadPoolExecutor(self.count - 1) if self.count > 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._pool:
            self._pool.shutdown()

    def loss_and_grads(self, model, x, lengths, eps, beta=1.0, uniforms=None, **options):
        """As `model.loss_and_grads`, for host arrays."""
        return combine(*self._of_slices(model.loss_and_grads, x, lengths, eps, beta, uniforms, **options))

    def chunk_loss_and_grads(self, model, x, lengths, eps, beta=1.0, state=None, **options):
        """As `model.chunk_loss_and_grads`, for host arrays."""
        results, counts = self._of_slices(model.chunk_loss_and_grads, x, lengths, eps, beta, state=state, **options)
        states = [result[3] for result in results]
        state = states[0] if len(states) == 1 else np.concatenate(states)
        return *combine([result[:3] for result in results], counts), state

    def _of_slices(self, function, x, lengths, eps, beta, uniforms=None, keep=None, state=None, **options):
        slices = cut(x.shape[1], self.count)

        def of_slice(s):
            T = lengths[s].max()  # a slice need not be padded to the longest sequence of the whole batch
            own_x, own_eps = (np.ascontiguousarray(a[:T, s]) for a in (x, eps))
            own = options if uniforms is None else options | {"uniforms": uniforms[:T, s]}
            own = own if keep is None else own | {"keep": keep[:T, s]}
            own = own if state is None else own | {"state": state[s]}
            with np.errstate(over="ignore", invalid="ignore"):  # the loop looks at the loss, and says what is wrong
                return function(own_x, lengths[s], own_eps, beta, **own)

        counts = [s.stop - s.start for s in slices]
        if len(slices) == 1:
            return [of_slice(slices[0])], counts

        with one_blas_thread(), eager_threads():
            others = [self._pool.submit(of_slice, s) for s in slices[1:]]
            results = [of_slice(slices[0]), *(other.result() for other in others)]
        return results, counts


@contextmanager
def eager_threads():
    """Context: threads ask for the interpreter's lock after 0.1 milliseconds and not 5, an eighth of a step.

    The slices hand the lock to and fro hundreds of times a step, as each NumPy call sets it free. The setting is the
    process's; what it was before comes back.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def available_cores():
    """Cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
