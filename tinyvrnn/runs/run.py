"""A run folder: config.toml, metrics.jsonl, checkpoint.npz and resume.npz of one training run, and its pictures.

checkpoint.npz holds the best weights so far, to be used; resume.npz where the run stands, to go on from, with those
weights and all records in it. Each is whole at any moment; metrics.jsonl alone is appended to, and written whole when a
run goes on. So a process may be killed at any moment.
"""

import hashlib
import json
import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tomli_w
from filelock import SoftFileLock, Timeout

from tinyvrnn.data.mapped import Mapped
from tinyvrnn.errors import CheckpointError
from tinyvrnn.io.files import write_atomically
from tinyvrnn.runs import checkpoint
from tinyvrnn.training.state import VECTORS, are_counts
from tinyvrnn.version import __version__

LOCK, CONFIG, METRICS, RESUME = ".lock", "config.toml", "metrics.jsonl", "resume.npz"
PICTURES = ("curves.png", "reconstructions.png", "samples.png")
FILES = tuple(sorted((checkpoint.FILE, CONFIG, METRICS, RESUME, *PICTURES)))
MAY_CHANGE = ("epochs", "minutes", "patience", "workers", "lr", "clip", "skip_nonfinite")  # when a run goes on
WHOLE = "what was saved before is whole: mend that, and go on with --resume (resume=True)"
BIGGEST_RECORDS = 2**26  # bytes that are read of them, some 100,000 epochs
LOOKED_AT = 100  # sequences of a split on the disk whose values tell it from another


class Run:
    """The folder of a run, for one process at a time: use it as a context manager, or hand it to `train`.

    overwrite: the run that is there gives way to this one, as soon as this one has something to keep. resume: the run
    that is there goes on, with the same model, data and options (but MAY_CHANGE); where nothing is there, it begins.
    Entering raises CheckpointError where the folder holds a run and neither is given, where another process is using
    it, or where it can't be written.
    """

    def __init__(self, folder, overwrite=False, resume=False):
        self.folder, self.overwrite, self.resume = Path(folder).absolute(), overwrite, resume
        self._lock = SoftFileLock(self.folder / LOCK, thread_local=False)
        self._started = self.has_kept = False

    def __enter__(self):
        first = not self._lock.is_locked  # the command enters once more than `train`, to draw pictures afterwards
        if first:
            self._was_there = self.folder.exists()
            if self._was_there and not self.folder.is_dir():
                raise CheckpointError(f"{self.folder} is a file, but a folder is needed: choose another (--out).")
        with self._says("Cannot write a run into"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        if first:
            try:
                self._look_around()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception):
        self._lock.release()
        if not self._lock.is_locked and not self._was_there:
            with suppress(OSError):
                self.folder.rmdir()  # where nothing was written into it

    @property
    def can_go_on(self):
        """Whether there is what a stopped run goes on from."""
        return (self.folder / RESUME).is_file()

    def start(self, model, data, options, state):
        """Takes down what is trained on what; with `resume`, brings `state` back to where the run stands.

        Raises CheckpointError where the run that is there is damaged, or of another model, data or options, and where
        this Run has seen a training already.
        """
        if self._started:
            raise CheckpointError(f"{self.folder} holds the training that this Run was made for: make another Run.")
        self._started, self.model, self.data, self.config = True, model, data, config(model, data, options)
        if self.resume and self.can_go_on:
            self._restore(state)
            self.keep(state)

    def keep(self, state):
        """Saves where the run stands, the best weights, if they are new, and the records of epochs since the last time.

        Raises CheckpointError where that can't be written; what was saved before is then still whole.
        """
        with self._says("Cannot go on writing into", f"; {WHOLE}"):
            self._hold_lock()
            if self.has_kept and not (self.folder / CONFIG).exists():
                warnings.warn(f"{self.folder} was removed while it was in use: it is written anew", stacklevel=2)
                self.has_kept = False
            if not self.has_kept:
                self._begin()
            arrays, counts = state.saved()
            moments = {"mean": np.asarray(self.data.mean), "std": np.asarray(self.data.std)}
            checkpoint.write(self.folder / RESUME, {"config": self.config, "counts": counts}, arrays | moments)
            self._keep_best(state)
            self._keep_records(state.records)

    def picture(self, name, figure):
        """Writes a matplotlib Figure as folder/name. Raises CheckpointError where that can't be written."""
        with self._says(f"Cannot write {name} into", "; the weights and records are whole"):
            write_atomically(self.folder / name, lambda file: figure.savefig(file, format="png"))

    def _begin(self):
        """Writes config.toml and removes an older run's pictures; its other files are replaced whole, one by one."""
        text = tomli_w.dumps(_without_none(self.config)).encode()
        write_atomically(self.folder / CONFIG, lambda file: file.write(text))
        for name in PICTURES:
            (self.folder / name).unlink(missing_ok=True)
        self.has_kept, self._best_step, self._recorded = True, None, None

    def _keep_best(self, state):
        if state.best_step == 0:  # an older run's are not this one's
            (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        elif state.best_step != self._best_step:
            best, longest = state.vectors["best_theta"], self.data.train.max_steps
            checkpoint.save(self.model, self.folder, state.best_step, self.data.origin, longest, theta=best)
        self._best_step = state.best_step

    def _keep_records(self, records):
        """Appends lines to metrics.jsonl; the first time it is written whole, as a killed run may have left more."""
        path = self.folder / METRICS
        lines = "".join(json.dumps(record) + "\n" for record in records[self._recorded :]).encode()
        if self._recorded is None:
            write_atomically(path, lambda file: file.write(lines))
        else:
            with open(path, "ab") as file:
                file.write(lines)
        self._recorded = len(records)

    def _restore(self, state):
        """Brings `state` back to where the run stands, if that is a run of the same kind."""
        path, kinds = self.folder / RESUME, {name: vector.shape for name, vector in state.vectors.items()}
        manifest, arrays = checkpoint.read_file(
            path,
            ("config", "counts"),
            (*VECTORS, "mean", "std"),
            lambda manifest, arrays: isinstance(manifest["config"], dict) and are_counts(manifest["counts"]),
            biggest=BIGGEST_RECORDS,
        )
        old, new = _flat(manifest["config"]), _flat(json.loads(json.dumps(self.config)))
        same_moments = all(np.array_equal(arrays[name], getattr(self.data, name)) for name in ("mean", "std"))
        if any(old.get(f"data.{name}") != new[f"data.{name}"] for name in ("sequences", "sha256")) or not same_moments:
            raise CheckpointError(
                f"{self.folder} holds a run on {old.get('data.source')!s:.200}, and {new['data.source']} is other "
                "data or has changed since: give what it began with, or choose another folder (--out)."
            )
        self._check_same(old, new)
        if any(arrays[name].shape != shape for name, shape in kinds.items()):
            raise CheckpointError(f"{path} is damaged: its weights are not those of its model; restore a copy.")
        state.restore(arrays, manifest["counts"])

    def _check_same(self, old, new):
        """Raises CheckpointError for the first difference of two configurations that is not in MAY_CHANGE."""
        free = ("tinyvrnn", "data.source", "model.backend", *(f"training.{name}" for name in MAY_CHANGE))
        for name in sorted((old.keys() | new.keys()) - set(free)):
            if old.get(name) != new.get(name):
                raise CheckpointError(
                    f"{self.folder} holds a run with {name.partition('.')[2]} = {old.get(name)!s:.80}, which can't go "
                    f"on with {new.get(name)!s:.80}: give what it began with, or choose another folder (--out)."
                )

    def _take_lock(self):
        try:
            self._lock.acquire(timeout=3)  # within which a lock is known to be stale that a killed process left
        except Timeout:
            pid, *more = [*self._marker(), "", ""][:2]
            own = pid == str(os.getpid())
            who = "another Run of this process" if own else f"the process {pid} on {more[0]}" if pid else "nobody known"
            raise CheckpointError(
                f"{self.folder} is in use by {who}: wait for its end, choose another folder (--out), or delete "
                f"{self.folder / LOCK} if that process is no more."
            ) from None

    def _marker(self):
        """The lines of the lock's file: process id, host, start of the process."""
        with suppress(OSError):
            return (self.folder / LOCK).read_text(errors="replace").splitlines()
        return []

    def _hold_lock(self):
        """Takes the lock again where it went with the folder. Raises CheckpointError where another process has it."""
        if not self._lock.is_lock_held_by_us:
            self._lock.release(force=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()

    def _look_around(self):
        """Refuses a folder that holds another run, and clears what a killed process was writing."""
        taken = [name for name in FILES if (self.folder / name).exists()]
        if taken and not self.overwrite and not self.resume:
            raise CheckpointError(
                f"{self.folder} already holds a run ({', '.join(taken)}): choose another folder (--out), or give "
                "--resume to go on with it, or --overwrite (in Python resume=True, overwrite=True)."
            )
        if self.resume and checkpoint.FILE in taken and not self.can_go_on:
            raise CheckpointError(
                f"{self.folder} holds a run that can't go on, as it has no {RESUME}: choose another folder (--out), or "
                "give --overwrite (overwrite=True) to begin anew."
            )
        for part in (*self.folder.glob(".*.part"), *self.folder.glob(f"{LOCK}.*")):
            part.unlink(missing_ok=True)

    @contextmanager
    def _says(self, failure, advice=""):
        try:
            yield
        except OSError as error:
            raise CheckpointError(f"{failure} {self.folder}: {error.strerror or error}{advice}.") from error
        except CheckpointError as error:
            raise CheckpointError(f"{str(error).removesuffix('.')}{advice}.") from error


def config(model, data, options):
    """What decides a run, plain values: config.toml."""
    return {
        "tinyvrnn": __version__,
        "data": {
            "source": data.origin or data.name,
            "units": data.units,
            "scale": data.scale,
            "sequences": [len(data.split(name)) for name in ("train", "valid", "test")],
            "sha256": _fingerprint(data),
        },
        "model": {"name": model.name, "backend": model.backend.name} | model.config,
        "training": options._asdict(),
    }


def _fingerprint(data):
    """sha256 of the lengths and values of all splits; of a set that stays on the disk, of some sequences each."""
    digest = hashlib.sha256()
    for sequences in (data.train, data.valid, data.test):
        looked_at = np.linspace(0, len(sequences) - 1, min(LOOKED_AT, len(sequences))).astype(int)
        values = [sequences[i] for i in looked_at] if isinstance(sequences, Mapped) else [sequences.values]
        for array in (sequences.lengths, *values):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _flat(config, prefix=""):
    """{"model.h_dim": 100, ...} of a nested dict."""
    flat = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _without_none(config):
    if not isinstance(config, dict):
        return config
    return {key: _without_none(value) for key, value in config.items() if value is not None}
