"""The training loop: batches, noise, gradient, clip, Adam; each epoch the validation ELBO; the best weights win."""

import math
import time
from numbers import Integral
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinyvrnn import noise
from tinyvrnn.backend import to_host
from tinyvrnn.bounds import check_bound, evaluate, evaluate_elbo
from tinyvrnn.data import Data, batches
from tinyvrnn.distributions import check_suits
from tinyvrnn.errors import ConfigError, DataError, DivergedError, unknown_name
from tinyvrnn.models.recompute import check as check_long
from tinyvrnn.params import matrices
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.parallel import Workers

BAR = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


SMALL_SET = 1000  # training sequences; smaller sets need more steps and are learnt by heart
RECIPE = {"epochs": 30}
RECIPE_OF_A_SMALL_SET = {"epochs": 200, "batch": 16, "weight_decay": 0.3}
CLIP_OF_INK = 1000.0  # its gradients are longer than 50 to the end of a run, and would all be cut
DROPOUT_OF_A_SMALL_SET = 0.2  # where x is binary: a real number that is now and then 0 is another number


def recipe(data):
    """Options that suit a set of this size, tried on `digits`, `bach` and `vowels`: where `train` starts."""
    found = RECIPE | ({"clip": CLIP_OF_INK} if data.kind == "pen" else {})
    if len(data.train) >= SMALL_SET:
        return found
    return found | RECIPE_OF_A_SMALL_SET | ({"dropout": DROPOUT_OF_A_SMALL_SET} if data.kind == "binary" else {})


class Options(NamedTuple):
    """How to train. Every field is an option of `tinyvrnn train` and a keyword of `train`."""

    epochs: int | None = None  # passes over the training split; None with minutes: as many as fit
    minutes: float | None = None  # wall-clock limit
    batch: int = 64  # sequences in a batch
    lr: float = 2e-3  # Adam's rate at the start; it falls to 0 along half a cosine
    warmup: int = 0  # epochs over which the weight of the KL rises from 0 to 1
    clip: float = 50.0  # greatest norm of a gradient, in nats per sequence per unit of theta
    dropout: float = 0.0  # share of each step's numbers that the networks do not see, and the bound still scores
    weight_decay: float = 0.0  # each step takes lr * weight_decay of every weight away, not of biases
    patience: int = 20  # epochs without a better validation ELBO before training stops
    seed: int = 0  # of the order of batches and of the noise
    workers: int | str = "auto"  # slices of a batch computed at the same time
    bound: str = "elbo"  # what is raised, and what the best weights are the best of: elbo, iwae or fivo
    particles: int = 1  # draws of z in iwae and fivo
    chunk: int | None = None  # steps between two optimiser's steps; the state is carried on, its gradient is not
    recompute: bool = False  # the exact gradient in memory that grows as the root of the length

    @property
    def score(self):
        """The key of a record's validation bound: "elbo", or for example "iwae-8"."""
        return self.bound if self.bound == "elbo" else f"{self.bound}-{self.particles}"

    def score_name(self, model):
        """What a person calls it: ELBO, iwae-8, or log p(x)."""
        return model.bound_name if self.bound == "elbo" else self.score

    def describe(self):
        """One line for a person."""
        limit = f"{self.epochs} epochs" if self.minutes is None else f"{self.minutes:g} min"
        return f"training: {limit}, " + ", ".join(
            f"{name} {value}"
            for name, value in self._asdict().items()
            if name not in ("epochs", "minutes") and (value or name not in ("chunk", "recompute"))
        )

    def check(self):
        """Raises ConfigError for a value that makes no run."""
        if self.epochs is None and self.minutes is None:
            raise ConfigError("Say how long to train: give epochs or minutes.")
        for name in ("epochs", "batch", "patience", "warmup", "chunk"):
            value, least = getattr(self, name), 0 if name == "warmup" else 1
            if value is not None and (not isinstance(value, Integral) or value < least):
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}.")
        check_bound(self.bound, self.particles)
        if self.workers != "auto" and (not isinstance(self.workers, Integral) or self.workers < 1):
            raise ConfigError(f'workers must be "auto" or a whole number of at least 1, got {self.workers!r}.')
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be a number from 0 to below 1, got {self.dropout!r}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay must be a number of at least 0, got {self.weight_decay!r}.")
        for name in ("minutes", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ConfigError(f"{name} must be a positive number, got {value!r}.")


def train(model, data, progress=True, on_epoch=None, **options):
    """Trains `model` on data.train and leaves it with the weights of the best validation ELBO.

    options: see `Options`; a bare call trains for 20 epochs. progress: show a bar. on_epoch(record, is_best) is called
    after each epoch, with the model as it is then. Returns the records, one dict an epoch, in nats per sequence.
    Raises DataError where data do not fit the model, DivergedError at a loss that is not finite.
    """
    options = _options(options)
    _check_fit(model, data)
    check_bound(options.bound, options.particles, model)
    check_long(model, options.chunk, options.recompute, options.bound)
    model.mean, model.std, model.units, model.medium = data.mean, data.std, data.units, data.medium
    records, best_theta, best, stale = [], None, -math.inf, 0
    with Workers(options.workers if model.backend.name == "numpy" else 1) as workers, _Clock(options, data) as clock:
        decay = options.weight_decay * matrices(model.theta, model.shapes) if options.weight_decay else None
        optimiser = Adam(model.theta, decay=decay)
        with tqdm(total=100, bar_format=BAR, disable=not progress, dynamic_ncols=True) as bar:
            while not clock.over() and stale < options.patience:
                record = _epoch(model, data, options, optimiser, clock, workers, bar)
                records.append(record)
                stale += 1
                score = record["valid"][options.score]
                if score > best:
                    best_theta, best, stale = model.theta.copy(), score, 0
                bar.set_postfix_str(f"valid {options.score_name(model)} {score:.2f}, best {best:.2f} nats/sequence")
                if on_epoch:
                    on_epoch(record, stale == 0)
    if best_theta is not None:
        model.theta[...] = best_theta
    return records


class _Clock:
    """Counts steps and epochs against the limits, and turns them into the rate and the KL weight of a step."""

    def __init__(self, options, data):
        self.options, self.step, self.epoch = options, 0, 0
        self.steps_per_epoch = math.ceil(len(data.train) / options.batch)
        self.total = options.epochs and options.epochs * self.steps_per_epoch

    def __enter__(self):
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exception):
        pass

    @property
    def seconds(self):
        return time.perf_counter() - self.start

    def progress(self):
        """The share of the run that is over, by steps or by minutes, whichever is further."""
        by_step = self.step / self.total if self.total else 0.0
        by_time = self.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return min(1.0, max(by_step, by_time))

    def over(self):
        return self.progress() >= 1.0

    def lr(self):
        return self.options.lr * 0.5 * (1 + math.cos(math.pi * self.progress()))

    def beta(self):
        """The weight of the KL: rises linearly over the warm-up's epochs, then 1."""
        warm_steps = self.options.warmup * self.steps_per_epoch
        return min(1.0, (self.step + 1) / warm_steps) if warm_steps else 1.0


def _epoch(model, data, options, optimiser, clock, workers, bar):
    """One pass over the training split. Returns its record."""
    xp = model.backend.xp
    totals, seen, norm = xp.zeros(3), 0, 0.0
    for x, lengths, _ in batches(data.train, options.batch, seed=options.seed, epoch=clock.epoch, dtype=model.dtype):
        eps, given = _noise(model, x, options, clock.step)
        lr, beta = clock.lr(), clock.beta()
        for loss, grads, parts in _gradients(model, x, lengths, eps, beta, options, workers, given):
            loss = float(loss)
            if not math.isfinite(loss):
                raise DivergedError(
                    f"The loss became {loss} at step {clock.step} (epoch {clock.epoch + 1}): "
                    f"try a smaller rate than {options.lr:g} or a smaller clip than {options.clip:g}."
                )
            norm = clip_by_global_norm(grads, options.clip)
            optimiser.step(model.theta, grads, lr)
            totals = totals + xp.stack([term.sum(dtype="float64") for term in parts])
        seen += len(lengths)
        clock.step += 1
        bar.update(100 * clock.progress() - bar.n)
        if clock.over():
            break
    clock.epoch += 1
    elbo, kl, log_likelihood = (to_host(totals) / seen).tolist()
    valid, score = evaluate_elbo(model, data.valid), {}
    if options.bound != "elbo":
        score[options.score] = evaluate(model, data.valid, options.bound, options.particles).per_sequence
    return {
        "epoch": clock.epoch,
        "step": clock.step,
        "seconds": round(clock.seconds, 3),
        "beta": beta,
        "lr": lr,
        "grad_norm": float(norm),
        "train": {"elbo": elbo, "kl": kl, "log_likelihood": log_likelihood},
        "valid": {
            "elbo": valid.elbo_per_sequence,
            "kl": valid.kl_per_sequence,
            "log_likelihood": valid.log_likelihood_per_sequence,
            **score,
        },
    }


def _gradients(model, x, lengths, eps, beta, options, workers, given):
    """Yields loss, grads, parts of a batch: once, or with `chunk` once for each stretch of so many steps.

    Each gradient is taken with the weights as they are when it is asked for: the caller steps in between. A sequence
    that has ended drops out; the state of each other one is carried on, from a chunk to the next of the same sequence.
    """
    given = given | {"recompute": True} if options.recompute else given
    keep = given.pop("keep", None)
    if options.chunk is None:
        yield workers.loss_and_grads(model, x, lengths, eps, beta, keep=keep, **given)
        return
    state = None
    for start in range(0, len(x), options.chunk):
        going = lengths > start
        chunk = slice(start, start + options.chunk)
        left = np.minimum(lengths[going] - start, options.chunk)
        if state is not None:
            state = state[model.backend.asarray(np.flatnonzero(going[lengths > start - options.chunk]))]
        own = [None if a is None else a[chunk][:, going] for a in (x, eps, keep)]
        *results, state = workers.chunk_loss_and_grads(
            model, own[0], left, own[1], beta, state=state, keep=own[2], **given
        )
        yield results


def _noise(model, x, options, step):
    """eps of a step, (T, B, Z) or with particles (T, B, K, Z), and the other arguments of `workers.loss_and_grads`."""
    (T, B, _), Z, given = x.shape, model.z_dim, {}
    if options.bound != "elbo":
        given = {"bound": options.bound, "uniforms": noise.generator(options.seed, "resample", step).random((T, B))}
    shape = (T, B, options.particles, Z) if given else (T, B, Z)
    if options.dropout:
        drawn = noise.generator(options.seed, "dropout", step).random(x.shape)
        given["keep"] = (drawn >= options.dropout).astype(model.dtype) / (1 - options.dropout)
    return noise.standard_normal(shape, model.dtype, options.seed, "train", step), given


def _options(given):
    unknown = set(given) - set(Options._fields)
    if unknown:
        raise ConfigError(unknown_name("training option", sorted(unknown)[0], Options._fields))
    if "epochs" not in given and "minutes" not in given:
        given = given | {"epochs": 20}
    options = Options(**given)
    options.check()
    return options


def _check_fit(model, data):
    if not isinstance(data, Data):
        raise DataError(f"Expected data from load_data or Data.from_sequences, got {type(data).__name__}.")
    if data.train.x_dim != model.x_dim:
        raise DataError(f"{data.name} has {data.train.x_dim} values a step, the model takes {model.x_dim}.")
    check_suits(data, model.likelihood)
