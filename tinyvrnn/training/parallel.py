"""One batch, several workers: each computes the gradient of a slice of the sequences, and the gradients are added.

Sums are taken in the order of the slices, so a given number of slices gives the same bits each time, whichever workers
were available.
"""

from contextlib import suppress
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinyvrnn.arrays.backend import Array, to_host
from tinyvrnn.arrays.cpu import available_cores, blas_threads
from tinyvrnn.arrays.params import Group
from tinyvrnn.arrays.ranks import current
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.errors import ConfigError
from tinyvrnn.models import MODELS
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import BoundTerms, Gradient, Objective, validate
from tinyvrnn.training import worker
from tinyvrnn.training.options import Options

LARGE = 2_500_000  # parameters; docs/performance.md
LEAST_SLICE = 32  # rows: sequences times particles


class Split(NamedTuple):
    """How a batch is divided among the cores."""

    slices: int
    blas_threads: int = 1


def split_for(model, batch, workers, particles=1):
    """The Split for a model and a number of sequences. workers: a number of slices, or "auto": as many as cores.

    auto makes no slice of fewer than LEAST_SLICE rows, since products of fewer rows are slow, and one slice for a
    LARGE model: its products keep several threads busy, and each slice would read all weights again at each step.
    """
    cores = available_cores()
    if model.backend.name != "numpy":
        return Split(1)
    if workers != "auto":
        return Split(min(workers, batch))
    if model.theta.size >= LARGE:
        return Split(1, blas_threads=cores)
    return Split(max(1, min(cores, batch, batch * particles // LEAST_SLICE)))


def methods_of(kind):
    """The attributes of a class and its bases, by name, without the annotations that Python adds when help() asks."""
    return [{k: v for k, v in vars(base).items() if not k.startswith("__annot")} for base in kind.__mro__[:-1]]


# the unmodified classes and likelihoods of this package
_MODELS = {model: methods_of(model) for model in MODELS.values()}
_LIKELIHOODS = dict(LIKELIHOODS)


def can_be_made_again(model):
    """Whether a worker can rebuild a model: it runs on NumPy, and its class, likelihood and cell are unmodified."""
    if _MODELS.get(type(model)) != methods_of(type(model)) or model.backend.name != "numpy":
        return False
    if any(isinstance(group, Group) for group in model.params.values()):
        return False
    known, plain = _LIKELIHOODS.get(model.likelihood.name), {"head_shapes": None, "components": None}
    return known is not None and known._replace(**plain) == model.likelihood._replace(**plain)


class Workers:
    """Computes the gradient of slices of a batch at the same time: here, and in processes for the other cores.

    Use as a context manager; it starts one process fewer than slices or cores, whichever are fewer. A model on a GPU,
    or with a likelihood, cell or methods of your own, is computed here.

    Parameters
    ----------
    workers : int or "auto"
        Slices of a batch, as `train` takes them; auto goes by cores, sequences and the size of the model.

    Raises
    ------
    ConfigError
        workers is neither.
    """

    def __init__(self, workers: "int | str | Split" = "auto") -> None:
        self.workers, cores = getattr(workers, "slices", workers), available_cores()
        Options(epochs=1, workers=self.workers).check()
        self.split = workers if isinstance(workers, Split) else Split(cores if workers == "auto" else workers)
        self._others = [worker.hire() for _ in range(min(self.split.slices, cores) - 1)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        for other in self._others:
            other.rest()
        self._others = []

    @property
    def pids(self):
        """The process ids of the other workers."""
        return [other.pid for other in self._others if not other.ended]

    def wait(self, model):
        """Waits until all others are ready for `model`."""
        for other in self._others if can_be_made_again(model) else ():
            other.wait(model)

    def loss_and_grads(
        self,
        model: Model,
        x: Array,
        lengths: ArrayLike | None = None,
        eps: Array | None = None,
        beta: float = 1.0,
        bound: str = "elbo",
        particles: int = 1,
        uniforms: Array | None = None,
        recompute: bool = False,
        input_mask: Array | None = None,
        observed: Array | None = None,
        free_bits: float = 0.0,
    ) -> tuple[Array, Array, BoundTerms]:
        """What `model.loss_and_grads` returns, up to rounding, with the speed of `train`.

        Parameters
        ----------
        model : VRNN, VRNNI, RNN or VAE
            Its weights may change between two calls.
        x, lengths, eps, beta, bound, particles, uniforms, recompute, input_mask, observed, free_bits : various
            As in `model.loss_and_grads`.

        Returns
        -------
        loss, grads, terms : 0-d array, array (P,), BoundTerms
            As from `model.loss_and_grads`.

        Raises
        ------
        DataError
            An array does not fit the model.
        ConfigError
            beta, bound, particles, recompute or free_bits are not possible for it.
        """
        if not isinstance(model, Model):
            raise ConfigError(f"Expected a model and then x, got {type(model).__name__}.")
        batch = model._batch(x, lengths, eps, uniforms, input_mask, observed)
        objective = Objective(bound, particles, beta, recompute, free_bits)
        batch = batch if eps is not None else model._with_fresh_noise(batch, objective)
        batch = validate(model, batch, objective)  # before it is sliced
        self.split = split_for(model, batch.x.shape[1], self.workers, batch.particles)
        return self.gradient(model, batch._replace(mask=None), objective)[:3]  # each slice gets a mask of its own

    def gradient(self, model, batch, objective):
        """The Gradient of a Batch, as `model.gradient` computes it."""
        slices = cut(batch.x.shape[1], self.split.slices)
        parts = [batch] if len(slices) == 1 else [batch.sequences(s) for s in slices]
        quiet = np.errstate(over="ignore", invalid="ignore")  # callers check the loss
        with blas_threads(self.split.blas_threads), quiet:
            others = self._others if len(parts) > 1 and can_be_made_again(model) else ()
            asked = [other.ask(model, part, objective) and other for other, part in zip(others, parts[1:])]
            results = [model.gradient(parts[0], objective)]
            # computed here: the slice of a dead worker, and all slices beyond the cores
            for other, part in zip_longest(asked, parts[1:]):
                results.append((other and _answer_of(other)) or model.gradient(part, objective))
        return combine(results, [s.stop - s.start for s in slices])


def total(model, found, count):
    """The Gradient of the sequences of all ranks, from that of the `count` of this rank (None: it has none).

    Among several ranks each term is one number, its sum over the batch; the state is that of this rank's sequences.
    """
    ranks, P, xp = current(), model.theta.size, model.backend.xp
    if ranks.size == 1:
        return found
    flat = xp.zeros(P + 5, dtype=model.dtype)
    if found is not None:
        flat[:P] = found.grads
        flat[P:] = xp.stack([found.loss, *(term.mean() for term in found.terms), xp.ones_like(found.loss)])
        flat *= count
    if model.backend.name == "cupy" and ranks.takes_device:
        xp.cuda.get_current_stream().synchronize()  # MPI reads its memory at once
        ranks.sum(flat)
    else:
        flat = model.backend.asarray(ranks.sum(to_host(flat)))
    flat[: P + 1] /= flat[-1]
    return Gradient(flat[P], flat[:P], BoundTerms(*flat[P + 1 : -1].reshape(3, 1)), found and found.state)


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
