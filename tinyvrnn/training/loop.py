"""The training loop: batches, noise, gradient, clip, Adam; each epoch the validation ELBO; the best weights win."""

import math
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvrnn.arrays import noise
from tinyvrnn.arrays.backend import device_memory, free_memory, to_host, warn_of_slow_float64
from tinyvrnn.arrays.params import matrices, set_to_zero
from tinyvrnn.arrays.ranks import ALONE, LONG, current, own, shared_out, world
from tinyvrnn.bounds import evaluate, evaluate_elbo
from tinyvrnn.data import Data, Resident, check_suits
from tinyvrnn.data.sequences import has_gaps, in_random_order, observed_in
from tinyvrnn.errors import ConfigError, DataError, DivergedError
from tinyvrnn.io.streams import bar
from tinyvrnn.models.base import Model
from tinyvrnn.models.batch import Batch, BoundTerms, check_x, rows
from tinyvrnn.training.diagnosis import diagnose
from tinyvrnn.training.interrupt import Interrupt, Interrupted
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.options import make_options
from tinyvrnn.training.parallel import Workers, split_for, total
from tinyvrnn.training.state import State

if TYPE_CHECKING:
    from tinyvrnn.runs.run import Run

BAR = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
SAVE_EVERY = 60.0  # seconds: the most that a killed run loses


def train(
    model: Model,
    data: Data,
    progress: bool = True,
    on_epoch: Callable[[dict[str, Any], bool], object] | None = None,
    run: "Run | None" = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train `model` on data.train, with Adam, and leave it with the weights of the best validation bound.

    Under mpiexec all processes share each batch, and rank 0 alone writes, shows the bar and calls on_epoch.

    Parameters
    ----------
    model : VRNN, VRNNI, RNN or VAE
        Changed in place: theta, and the mean, std, units and medium of the data.
    data : Data
        From `load_data` or `Data.from_sequences`.
    progress : bool
        Show a bar.
    on_epoch : callable, optional
        (record, is_best) -> anything, called after each epoch, with the model as it is then.
    run : Run, optional
        The folder that keeps weights and records, and from which a stopped run can be resumed.
    **options : various
        The fields of `Options`; without epochs and minutes, 20 epochs.

    Returns
    -------
    list of dict
        A record for each epoch: "epoch", "step", "seconds", "beta", "lr", "grad_norm", and "train" and "valid" with
        "elbo", "kl" and "log_likelihood" in nats per sequence.

    Raises
    ------
    ConfigError
        An option is unknown, invalid or impossible for the model.
    DataError
        The data do not fit the model.
    DivergedError
        A loss or gradient is not finite.
    BackendError
        The device has too little memory, or a rank of mpiexec fails.
    CheckpointError
        The run's folder cannot be used.
    KeyboardInterrupt
        After Ctrl-C, SIGTERM or SIGHUP, between two batches.
    """
    options = make_options(options)
    _check_given(model, run, on_epoch)
    _check_fit(model, data)
    options.check_for(model)
    if model.dtype == "float64":
        warn_of_slow_float64(model.backend)
    model.mean, model.std, model.units, model.medium = data.mean, data.std, data.units, data.medium
    ranks, particles = world(), 1 if options.bound == "elbo" else options.particles
    workers = 1 if ranks.size > 1 and options.workers == "auto" else options.workers
    split = split_for(model, math.ceil(min(options.batch, len(data.train)) / ranks.size), workers, particles)
    quiet = np.errstate(over="ignore", invalid="ignore")  # the loop checks the loss and reports what is wrong
    with device_memory(model.backend), run or nullcontext(), Workers(split) as workers, Interrupt() as interrupt, quiet:
        with shared_out(ranks):
            # without a name, so that its arrays are out of use when the memory is given back
            return _Training(model, data, options, run, workers, interrupt).run_epochs(progress, on_epoch)


class _Clock:
    """Progress of a run by steps and seconds, and the learning rate and KL weight that follow from it."""

    def __init__(self, options, data, state):
        self.options, self.state = options, state
        self.steps_per_epoch = math.ceil(len(data.train) / options.batch)
        self.total = options.epochs and options.epochs * self.steps_per_epoch
        self.start, self.agreed = time.perf_counter() - state.seconds, None

    @property
    def seconds(self):
        """Of training so far; among ranks, those of rank 0 when they last agreed: learning rates depend on them."""
        return time.perf_counter() - self.start if self.agreed is None else self.agreed

    def progress(self):
        """The fraction of the run that is done, by steps, by minutes or in the final fall, whichever is largest."""
        options, state, in_fall = self.options, self.state, 0.0
        by_step = state.step / self.total if self.total else 0.0
        by_time = self.seconds / (60 * options.minutes) if options.minutes else 0.0
        if state.fall_step:
            left = 1 - (state.step - state.fall_step) / (options.patience * self.steps_per_epoch)
            in_fall = 1 - (1 - state.fall_from) * left
        return min(1.0, max(by_step, by_time, in_fall))

    def over(self):
        cosine = self.options.lr_schedule == "cosine"
        return self.progress() >= 1.0 or not cosine and self.state.stale >= self.options.patience

    def fall_if_stale(self):
        """When patience runs out, begin the final fall: the rest of the cosine, in `patience` epochs."""
        state = self.state
        if state.stale >= self.options.patience and not state.fall_step:
            state.fall_step, state.fall_from = state.step, self.progress()

    def lr(self):
        options = self.options
        if options.lr_schedule == "cosine":
            return options.lr * 0.5 * (1 + math.cos(math.pi * self.progress()))
        return options.lr * options.lr_factor ** (self.state.epoch // options.lr_every if options.lr_every else 0)

    def beta(self):
        """The weight of the KL: in each cycle it rises linearly over the warm-up's epochs, then stays as long."""
        options, step = self.options, self.state.step
        rise = options.warmup * self.steps_per_epoch
        if not rise:
            return options.beta
        cycle = min(step // (2 * rise), options.warmup_cycles - 1)
        return options.beta * min(1.0, (step - 2 * rise * cycle + 1) / rise)


class _Training:
    """The state of a training run, and its three loops: epochs, batches, and the gradients of a batch."""

    def __init__(self, model, data, options, run, workers, interrupt):
        self.model, self.options, self.run, self.workers, self.interrupt = model, options, run, workers, interrupt
        decay = options.weight_decay * matrices(model.theta, model.shapes) if options.weight_decay else None
        if decay is not None:
            set_to_zero(decay, model.shapes, options.frozen)
        self.state = State(model, Adam(model.theta, decay=decay))
        if run:
            run.start(model, data, options, self.state)
        self.ranks, self.asked = current(), False
        if self.ranks.size > 1:
            self.ranks.check_same("The model, data or options", repr((model, data, options)).encode())
            self.state.restore(*self.ranks.of_first(self.state.saved()))
        if keeps_on_device(model, data, options.device_data):
            data = replace(data, train=on_device(model, data.train), valid=on_device(model, data.valid))
        self.data, self.clock, self.saved_at = data, _Clock(options, data, self.state), time.perf_counter()
        self._agree()

    def run_epochs(self, progress, on_epoch):
        """Run epochs until steps, minutes or patience run out, then set the best weights. Returns the records."""
        options, state = self.options, self.state
        progress = progress and self.ranks.rank == 0
        with bar(total=100, bar_format=BAR, disable=not progress, dynamic_ncols=True) as self.bar:
            while not self.clock.over():
                record = self._epoch()
                state.records.append(record)
                is_best = state.score(record["valid"][options.score])
                self.clock.fall_if_stale()
                about = f"valid {options.score_name(self.model)} {record['valid'][options.score]:.2f}"
                self.bar.set_postfix_str(f"{about}, best {state.best:.2f} nats/sequence")
                self._keep()
                if on_epoch and self.ranks.rank == 0:
                    with shared_out(ALONE):  # whatever it evaluates
                        on_epoch(record, is_best)
                self._agree(LONG)
                if not self.clock.over():
                    self._stop_if_asked()
        if state.best > -math.inf:
            self.model.theta[...] = state.vectors["best_theta"]
        return state.records

    def _epoch(self):
        """One pass over the training split, or the rest of it after a resume. Returns its record."""
        options, state = self.options, self.state
        order = in_random_order(self.data.train.lengths, options.batch, options.seed, state.epoch)
        for index in order[state.batch :]:
            lr, beta, norm = self._batch(index)
            self._agree()
            self.bar.update(100 * self.clock.progress() - self.bar.n)
            if self.clock.over():
                break
            if state.batch < self.clock.steps_per_epoch:
                if time.perf_counter() - self.saved_at > SAVE_EVERY or self.asked:
                    self._keep()
                self._stop_if_asked()
        record = self._record(lr, beta, norm)
        state.begin_epoch()
        return record

    def _batch(self, index):
        """One batch: a step of the optimiser, or with `chunk` several. Returns lr, beta and the gradient's norm."""
        options, state, model = self.options, self.state, self.model
        lr, beta, totals, rnn_state = self.clock.lr(), self.clock.beta(), self.state.totals, None
        objective = options.objective(beta)
        for chunk, before in self._chunks(index):  # one, or with `chunk` several, whose state is carried on
            found, count = None, 0
            if chunk is not None:
                count, chunk = chunk.x.shape[1], chunk._replace(state=rows(rnn_state, before))
                found = self.workers.gradient(model, chunk, objective)
            loss, grads, terms, rnn_state = total(model, found, count)
            set_to_zero(grads, model.shapes, options.frozen)
            norm = clip_by_global_norm(grads, options.clip)
            if not math.isfinite(float(loss + norm)):
                self._leave_out(index, objective)
                break
            state.optimiser.step(model.theta, grads, lr)
            totals = totals + model.backend.xp.stack([term.sum(dtype="float64") for term in terms])
        else:
            state.totals, state.seen = totals, state.seen + len(index)
        state.batch += 1
        state.step += 1
        return lr, beta, norm

    def _drawn(self, index):
        """The Batch of the sequences `index`, with the noise of this step."""
        x, lengths = self.data.train.padded(index, self.model.dtype)
        batch = Batch(x, lengths, observed=observed_in(x)).without_constants(self.model.std)
        return with_noise(self.model, batch, self.options, self.state.step)

    def _chunks(self, index):
        """This rank's part of the chunks of a batch, see `Batch.chunks`; (None, None) where it has none of a chunk."""
        size, steps = self.options.chunk, int(self.data.train.lengths[index].max())
        with own(index) as index:
            chunks = self._drawn(index).chunks(size) if len(index) else ()
        return islice(chain(chunks, repeat((None, None))), math.ceil(steps / (size or steps)))

    def _agree(self, wait=0.0):
        """Among ranks, take over the seconds of rank 0 and a signal to any of them: what follows depends on both."""
        self.asked = self.interrupt.noted
        if self.ranks.size > 1:
            clock, is_first = self.clock, self.ranks.rank == 0
            told = np.array([is_first * (time.perf_counter() - clock.start), float(self.asked)])
            clock.agreed, asked = self.ranks.sum(told, wait).tolist()
            self.asked = self.asked or asked > 0 and signal.SIGTERM

    def _leave_out(self, index, objective):
        """Count a skipped batch, or raise DivergedError, which names the cause, if no more may be skipped."""
        options, state = self.options, self.state
        state.skipped += 1
        weights_are_well = bool(self.model.backend.xp.isfinite(self.model.theta).all())
        if state.skipped <= options.skip_nonfinite and weights_are_well:
            return
        found = diagnose(self.model, self._drawn(index), objective, index)
        what = f"Training met a number that is not finite at step {state.step} (epoch {state.epoch + 1}): {found}"
        how = f"try a smaller learning rate than {options.lr:g} or a smaller clip than {options.clip:g}"
        skip = f"skip such batches with --skip-nonfinite {state.skipped} (skip_nonfinite) or more"
        raise DivergedError(f"{what}; {how}, or {skip}{self._saved()}.")

    def _check_epoch(self, bound):
        """Raises DivergedError for an epoch without a finite bound, before its weights are saved."""
        if self.state.seen and math.isfinite(bound):
            return
        what = f"The validation bound became {bound} after" if self.state.seen else "Every batch was skipped in"
        how = f"try a smaller learning rate than {self.options.lr:g}"
        raise DivergedError(f"{what} epoch {self.state.epoch}: {how}{self._saved()}.")

    def _saved(self):
        if not (self.run and self.run.has_kept):
            return ""
        return f"; the last save in {self.run.folder} is intact, and --resume (resume=True) continues from it"

    def _record(self, lr, beta, norm):
        """The record of an epoch, plain values: one line of metrics.jsonl."""
        options, state, model, data = self.options, self.state, self.model, self.data
        state.epoch += 1
        self.interrupt.awaited = "the validation"
        valid, score = evaluate_elbo(model, data.valid, chunk=options.chunk_to_evaluate(data.valid)), {}
        if options.bound != "elbo":
            score[options.score] = evaluate(model, data.valid, options.bound, options.particles).per_sequence
        self.interrupt.awaited = "this batch"
        self._check_epoch(score.get(options.score, valid.elbo_per_sequence))
        if self.ranks.size > 1:
            self.ranks.check_same("The weights", to_host(model.theta))
        self._agree()
        terms, norm = BoundTerms._fields, float(norm)
        return {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(self.clock.seconds, 3),
            "beta": beta,
            "lr": lr,
            "grad_norm": norm if math.isfinite(norm) else None,
            "train": dict(zip(terms, (to_host(state.totals) / state.seen).tolist())),
            "valid": {name: getattr(valid, f"{name}_per_sequence") for name in terms} | score,
        }

    def _keep(self):
        """Save the run's state, unless its weights are not finite: the next batch then names the cause."""
        self.state.seconds, self.saved_at = self.clock.seconds, time.perf_counter()
        if self.run and self.model.backend.xp.isfinite(self.model.theta).all():
            self.run.keep(self.state)

    def _stop_if_asked(self):
        if self.asked:
            raise Interrupted(f"after step {self.state.step}{self._saved()}", self.asked)


def with_noise(model, batch, options, step):
    """The Batch with the noise of a step, generated on the model's backend, so that none of it is transferred."""
    (T, B, _), shape, uniforms, input_mask = batch.x.shape, (*batch.x.shape[:2], model.z_dim), None, None
    if options.bound != "elbo":
        shape = (T, B, options.particles, model.z_dim)
        uniforms = noise.uniform((T, B), "float64", options.seed, "resample", step, model.backend)
    if options.dropout:
        drawn = noise.uniform(batch.x.shape, "float64", options.seed, "dropout", step, model.backend)
        input_mask = (drawn >= options.dropout).astype(model.dtype) / (1 - options.dropout)
    eps = noise.standard_normal(shape, model.dtype, options.seed, "train", step, model.backend)
    return batch._replace(eps=eps, uniforms=uniforms, input_mask=input_mask)


def keeps_on_device(model, data, wanted):
    """Whether the train and valid splits stay on a device; wanted: "yes", "no" or "auto", if a quarter holds them."""
    if model.backend.name == "numpy" or wanted == "no" or has_gaps(data.train) or has_gaps(data.valid):
        return False
    size = (data.train.steps + data.valid.steps) * model.x_dim * model.theta.dtype.itemsize
    return wanted == "yes" or size <= free_memory(model.backend) / 4


def on_device(model, sequences):
    """The Sequences with their values on the model's device, checked as `validate` checks those of a batch."""
    values = model.backend.xp.empty((sequences.steps, model.x_dim), dtype=model.dtype)
    for first, part in sequences.parts():
        check_x(part.values[:, None], model.x_dim, None, model.likelihood)
        start = int(sequences.offsets[first])
        values[start : start + part.steps] = model.to_array(part.values)
    return Resident.unchecked(values, sequences.lengths)


def _check_given(model, run, on_epoch):
    if not isinstance(model, Model):
        raise ConfigError(f"model must be a VRNN, VRNNI, RNN or VAE, got {type(model).__name__}: make one.")
    if run is not None and not hasattr(run, "folder"):  # which tv.Run itself, the class, does not have
        raise ConfigError(f"run must be a tv.Run, got {type(run).__name__}: give run=tv.Run(folder).")
    if on_epoch is not None and not callable(on_epoch):
        raise ConfigError(f"on_epoch must be a function of (record, is_best), got {type(on_epoch).__name__}.")


def _check_fit(model, data):
    if not isinstance(data, Data):
        raise DataError(f"Expected data from load_data or Data.from_sequences, got {type(data).__name__}.")
    if data.train.x_dim != model.x_dim:
        raise DataError(f"{data.name} has {data.train.x_dim} values a step, the model takes {model.x_dim}.")
    check_suits(data, model.likelihood)
