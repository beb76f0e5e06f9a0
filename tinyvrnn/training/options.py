"""The options of a training run, and the recipe that suits a set of data."""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyvrnn.errors import ConfigError, unknown_name
from tinyvrnn.models.batch import Objective, check_bound, check_can_be_cut, check_objective

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
    """How to train: every field is a keyword of `train` and an option of `tinyvrnn train`.

    Parameters
    ----------
    epochs : int, optional
        Passes over the training split. None with minutes: as many as fit.
    minutes : float, optional
        Wall-clock limit.
    batch : int
        Sequences in a batch.
    lr : float
        Adam's learning rate at the start; it falls to 0 along half a cosine.
    warmup : int
        Epochs over which the weight of the KL rises from 0 to 1.
    clip : float
        Greatest norm of a gradient, in nats per sequence per unit of theta.
    dropout : float
        Share of each step's numbers that the networks do not see; the bound still scores them.
    weight_decay : float
        Each step subtracts lr * weight_decay times every weight, but not from biases.
    patience : int
        Epochs without a better validation bound before training stops.
    seed : int
        Of the order of batches and of the noise.
    workers : int or "auto"
        Slices of a batch computed at the same time.
    bound : "elbo", "iwae" or "fivo"
        The objective, by which the best weights are chosen too.
    particles : int
        Draws of z in iwae and fivo.
    chunk : int, optional
        Steps of a sequence between two steps of the optimiser; the state is carried over, its gradient is not.
    recompute : bool
        Compute the same gradient in memory that grows as the square root of the length.
    skip_nonfinite : int
        Batches of the run that can be skipped because their loss or gradient is not finite.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int = 64
    lr: float = 2e-3
    warmup: int = 0
    clip: float = 50.0
    dropout: float = 0.0
    weight_decay: float = 0.0
    patience: int = 20
    seed: int = 0
    workers: int | str = "auto"
    bound: str = "elbo"
    particles: int = 1
    chunk: int | None = None
    recompute: bool = False
    skip_nonfinite: int = 0

    @property
    def score(self):
        """The key of a record's validation bound: "elbo", or for example "iwae-8"."""
        return self.bound if self.bound == "elbo" else f"{self.bound}-{self.particles}"

    def score_name(self, model):
        """What a person calls it: ELBO, iwae-8, or log p(x)."""
        return model.bound_name if self.bound == "elbo" else self.score

    def chunk_to_evaluate(self, sequences):
        """Steps of `sequences` to evaluate at once (None: all): where training is sparing of memory, so is this."""
        return math.isqrt(sequences.max_steps - 1) + 1 if self.recompute else self.chunk

    def describe(self):
        """One line for a person."""
        limit = f"{self.epochs} epochs" if self.minutes is None else f"{self.minutes:g} min"
        return f"training: {limit}, " + ", ".join(
            f"{name} {value}"
            for name, value in self._asdict().items()
            if name not in ("epochs", "minutes") and (value or name not in ("chunk", "recompute", "skip_nonfinite"))
        )

    def check(self):
        """Raises ConfigError for a value that makes no run."""
        if self.epochs is None and self.minutes is None:
            raise ConfigError("Say how long to train: give epochs or minutes.")
        for name in ("epochs", "batch", "patience", "warmup", "chunk", "skip_nonfinite"):
            value, least = getattr(self, name), 0 if name in ("warmup", "skip_nonfinite") else 1
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

    def check_for(self, model):
        """Raises ConfigError where `model` cannot be trained with these options."""
        check_objective(model, self.objective())
        if self.chunk:
            check_can_be_cut(model, "chunk", self.bound)

    def objective(self, beta=1.0):
        """The Objective of a step whose KL has the weight beta."""
        return Objective(self.bound, self.particles, beta, self.recompute)


def make_options(given):
    """Options of keywords, checked; with neither epochs nor minutes, 20 epochs. Raises ConfigError."""
    unknown = set(given) - set(Options._fields)
    if unknown:
        raise ConfigError(unknown_name("training option", sorted(unknown)[0], Options._fields))
    if "epochs" not in given and "minutes" not in given:
        given = given | {"epochs": 20}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    options = Options(**plain)
    options.check()
    return options
