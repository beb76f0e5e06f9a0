"""The options of a training run, and the recipe that suits a set of data."""

import math
from collections.abc import Callable
from types import NoneType
from typing import Annotated, NamedTuple, get_args, get_type_hints

import numpy as np

from tinyvrnn.errors import ConfigError, check_whole, counted, is_finite, unknown_name
from tinyvrnn.models.batch import BOUNDS, Objective, check_bound, check_can_be_cut, check_objective, no_resampling

LONG, PIECE = 100, 50  # of sequences with more than LONG steps on average, each PIECE is an update
SMALL_SET = 1000  # training sequences; smaller sets need more epochs, and models overfit them
DEVICE_DATA = ("yes", "no", "auto")
LR_SCHEDULES = ("cosine", "constant", "step")
# a run that does not record them had their defaults
NEW = ("freeze", "lr_schedule", "lr_every", "lr_factor", "beta", "free_bits", "warmup_cycles")
IF_SET = ("chunk", "recompute", "skip_nonfinite", "device_data", *NEW)  # described only if not the default
NUMBERS = {  # option -> whether a finite number is valid, and what is
    "dropout": ((lambda value: 0 <= value < 1), "a number from 0 to below 1"),
    "lr_factor": ((lambda value: 0 < value <= 1), "a number above 0 and up to 1"),
    **dict.fromkeys(("weight_decay", "beta", "free_bits"), ((lambda value: value >= 0), "a number of at least 0")),
    **dict.fromkeys(("minutes", "lr", "clip"), ((lambda value: value > 0), "a positive number")),
}
PARTICLES = 4  # the command's default for bounds that take several


class Recipe(NamedTuple):
    """Options for some kind of data. when: the condition, as the command's help states it."""

    when: str
    suits: Callable
    options: dict


def _is_small(data):
    return len(data.train) < SMALL_SET


SMALL = f"below {SMALL_SET:,} sequences"
RECIPES = (
    Recipe("", lambda data: True, {"epochs": 30}),
    # the gradient norms of ink stay above 50 throughout a run, and all would be clipped
    Recipe("for ink", lambda data: data.kind == "pen", {"clip": 1000.0}),
    Recipe(SMALL, _is_small, {"epochs": 200, "batch": 16, "weight_decay": 0.3}),
    Recipe(
        f"for sequences of more than {LONG} steps on average",
        lambda data: data.train.steps > LONG * len(data.train),
        {"chunk": PIECE},
    ),
    # only for binary data: a real number that is sometimes 0 changes its meaning
    Recipe(f"{SMALL} if binary", lambda data: _is_small(data) and data.kind == "binary", {"dropout": 0.2}),
)


def recipe(data):
    """The default options of `tinyvrnn train` for a data set, chosen on `digits`, `bach` and `vowels`."""
    return {name: value for one in RECIPES if one.suits(data) for name, value in one.options.items()}


def chosen_for(data, options, given):
    """The options that the recipes chose, each with its condition: a text for a person, "" without any.

    given: the names of the options that were given.
    """
    text, chosen = [], options._asdict().items() - {(name, getattr(options, name)) for name in given}
    for one in RECIPES:
        kept = [f"{name} {value:g}" for name, value in one.options.items() if (name, value) in chosen]
        if one.when and one.suits(data) and kept:
            text.append(f"{', '.join(kept)} {one.when}")
    return "; ".join(text)


class About(NamedTuple):
    """The help of an option."""

    help: str
    metavar: str | None = None
    default: str | None = None  # as text, where it is not the value itself


class Options(NamedTuple):
    """How to train: every field is a keyword of `train` and an option of `tinyvrnn train`."""

    epochs: Annotated[int | None, About("passes over the training split; with minutes, as many as fit")] = None
    minutes: Annotated[float | None, About("train for this long")] = None
    batch: Annotated[int, About("sequences in a batch")] = 64
    lr: Annotated[float, About("Adam's learning rate at the start")] = 2e-3
    warmup: Annotated[int, About("epochs over which the weight of the KL rises from 0 to beta")] = 0
    warmup_cycles: Annotated[int, About("rise M times, and stay at beta for as long after each rise", "M")] = 1
    beta: Annotated[float, About("weight of the KL; the ELBO that is reported has the weight 1")] = 1.0
    free_bits: Annotated[float, About("nats of KL that each step has for free, so that the latents are used")] = 0.0
    clip: Annotated[float, About("greatest norm of a gradient, in nats per sequence per unit of theta")] = 50.0
    dropout: Annotated[float, About("part of the networks' input set to 0; the bound scores x itself")] = 0.0
    weight_decay: Annotated[float, About("each step subtracts lr times this part of every weight, not of biases")] = 0.0
    patience: Annotated[int, About("stop early: epochs without a better validation bound")] = 20
    seed: Annotated[int, About("of weights, noise and the order of batches")] = 0
    workers: Annotated[int | str, About("slices of a batch computed at once; auto: by cores and sizes")] = "auto"
    bound: Annotated[str, About(f"objective, and criterion for the best weights: {' | '.join(BOUNDS)}")] = "elbo"
    particles: Annotated[int, About("draws of z in iwae and fivo; fivo is iwae up to 2", "K", f"{PARTICLES}")] = 1
    chunk: Annotated[int | None, About("truncated backpropagation: update each N steps, state carried on", "N")] = None
    recompute: Annotated[bool, About("exact gradients of long sequences in less memory, about a fifth slower")] = False
    skip_nonfinite: Annotated[
        int, About("skip up to N batches whose loss or gradient is not finite", "N", "0: stop at the first")
    ] = 0
    device_data: Annotated[str, About(f"train and valid data on the GPU: {' | '.join(DEVICE_DATA)}, by size")] = "auto"
    freeze: Annotated[str | None, About("groups of parameters not to train, such as prior,phi_z", "GROUP,...")] = None
    lr_schedule: Annotated[
        str,
        About("cosine: the learning rate falls to 0 as half a cosine; constant; step: falls each lr_every epochs"),
    ] = "cosine"
    lr_every: Annotated[int | None, About("with lr_schedule step: multiply lr by lr_factor each N epochs", "N")] = None
    lr_factor: Annotated[float, About("with lr_schedule step: what lr is multiplied by")] = 0.1

    @property
    def frozen(self):
        """The names of the frozen groups."""
        return [] if self.freeze is None else [name.strip() for name in self.freeze.split(",")]

    @property
    def score(self):
        """The key of a record's validation bound: "elbo", or for example "iwae-8"."""
        return self.bound if self.bound == "elbo" else f"{self.bound}-{self.particles}"

    def score_name(self, model):
        """The name of the score in text: ELBO, iwae-8, or log p(x)."""
        elbo = "ELBO" if model.bound == "elbo" else "log p(x)"
        return elbo if self.bound == "elbo" else self.score + no_resampling(self.bound, self.particles)

    def chunk_to_evaluate(self, sequences):
        """Steps of `sequences` to evaluate at once (None: all): evaluation saves memory where training does."""
        return math.isqrt(sequences.max_steps - 1) + 1 if self.recompute else self.chunk

    def describe(self):
        """One line for a person."""
        limit = counted(self.epochs, "epoch") if self.minutes is None else f"{self.minutes:g} min"
        return f"training: {limit}, " + ", ".join(
            f"{name} {value}"
            for name, value in self._asdict().items()
            if name not in ("epochs", "minutes") and (name not in IF_SET or value != self._field_defaults[name])
        )

    def check(self):
        """Raises ConfigError for an invalid value."""
        if self.epochs is None and self.minutes is None:
            raise ConfigError("Set how long to train: give epochs or minutes.")
        for name in ("epochs", "batch", "patience", "warmup", "chunk", "skip_nonfinite", "lr_every", "warmup_cycles"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least=0 if name in ("warmup", "skip_nonfinite") else 1)
        check_whole("seed", self.seed, 0, bits=64)
        check_bound(self.bound, self.particles)
        for name, known in (("device_data", DEVICE_DATA), ("lr_schedule", LR_SCHEDULES)):
            if getattr(self, name) not in known:
                raise ConfigError(unknown_name(name, getattr(self, name), known))
        if not isinstance(self.recompute, bool):
            raise ConfigError(f"recompute must be True or False, got {self.recompute!r}.")
        if not isinstance(self.freeze, str | None):
            raise ConfigError(f'freeze must be names of groups, "prior,phi_z", got {self.freeze!r}.')
        if isinstance(self.workers, str) and self.workers != "auto":
            raise ConfigError(f'workers must be "auto" or a whole number of at least 1, got {self.workers!r}.')
        if self.workers != "auto":
            check_whole("workers", self.workers)
        self._check_schedule()
        for name, (is_valid, needed) in NUMBERS.items():
            value = getattr(self, name)
            if not (is_finite(value) and is_valid(value) or value is None and name == "minutes"):
                raise ConfigError(f"{name} must be {needed}, got {value!r}.")

    def _check_schedule(self):
        if self.lr_schedule == "step" and self.lr_every is None:
            raise ConfigError("lr_schedule step needs lr_every, the epochs after which the learning rate falls.")
        if self.lr_schedule != "step" and (self.lr_every, self.lr_factor) != (None, Options().lr_factor):
            what = f"lr_every and lr_factor are for lr_schedule step, not {self.lr_schedule}"
            raise ConfigError(f"{what}: leave them out.")

    def check_for(self, model):
        """Raises ConfigError where `model` cannot be trained with these options."""
        for group in self.frozen:
            if group not in model.params:
                known = ", ".join(model.params)
                raise ConfigError(f'freeze names "{group}", but the groups of this {model.name} are {known}.')
        if set(self.frozen) == set(model.params):
            raise ConfigError(f"freeze names every group of this {model.name}, so nothing is trained: leave one out.")
        check_objective(model, self.objective())
        if self.chunk:
            check_can_be_cut(model, "chunk", self.bound)

    def objective(self, beta=1.0):
        """The Objective of a step whose KL has the weight beta."""
        return Objective(self.bound, self.particles, beta, self.recompute, self.free_bits)


def described(name):
    """The types (without None) and the About of a field of Options."""
    kind, about = get_args(Options.__annotations__[name])
    return [one for one in get_args(kind) or (kind,) if one is not NoneType], about


def _parameters():
    """The section Parameters of Options in numpydoc's form, from the same texts as the help of the command."""
    lines = ["", "", "Parameters", "----------"]
    for name in Options._fields:
        kinds, about = described(name)
        lines += [
            f"{name} : {' or '.join(kind.__name__ for kind in kinds)}",
            f"    {about.help[0].upper()}{about.help[1:]}.",
        ]
    return "\n    ".join(lines) + "\n    "


Options.__doc__ += _parameters()
Options.__new__.__annotations__ = get_type_hints(Options)  # help() shows the types alone


def default_text(name):
    """The default of a field as text: its value, and those of the recipes; "" where there is none."""
    found = [one for one in RECIPES if name in one.options]
    values = [f"{one.options[name]:g} {one.when}".rstrip() for one in found]
    value, about = Options._field_defaults[name], described(name)[1]
    if value is not None:
        values.insert(0, about.default or (value if isinstance(value, str) else f"{value:g}"))
    return "; ".join(values)


def make_options(given):
    """Options of keywords, checked; with neither epochs nor minutes, 20 epochs. Raises ConfigError."""
    if unknown := set(given) - set(Options._fields):
        raise ConfigError(unknown_name("training option", sorted(unknown)[0], Options._fields))
    if "epochs" not in given and "minutes" not in given:
        given = given | {"epochs": 20}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    if isinstance(given.get("freeze"), list | tuple | set):
        plain["freeze"] = ",".join(map(str, given["freeze"])) if given["freeze"] else None
    options = Options(**plain)
    options.check()
    return options if options.freeze is None else options._replace(freeze=",".join(sorted(set(options.frozen))))
