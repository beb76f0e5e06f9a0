"""A run folder: config.toml, metrics.jsonl, checkpoint.npz and resume.npz of one training run, and its pictures.

checkpoint.npz holds the best weights so far, to be used; resume.npz where the run stands, to go on from, with those
weights in it. Each file is whole at any moment, so a process may be killed between any two writes.
"""

import hashlib
import json
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tomli_w
from filelock import SoftFileLock, Timeout

from tinyvrnn.errors import CheckpointError
from tinyvrnn.files import write_atomically
from tinyvrnn.training import checkpoint
from tinyvrnn.training.state import VECTORS, are_counts
from tinyvrnn.version import __version__

LOCK, CONFIG, METRICS, RESUME = ".lock", "config.toml", "metrics.jsonl", "resume.npz"
PICTURES = ("curves.png", "reconstructions.png", "samples.png")
FILES = tuple(sorted((checkpoint.FILE, CONFIG, METRICS, RESUME, *PICTURES)))
MAY_CHANGE = ("epochs", "minutes", "patience", "workers", "lr", "clip", "skip_nonfinite")  # when a run goes on
WHOLE = "what was saved before is whole: mend that, and go on with --resume"
BIGGEST_RECORDS = 2**26  # bytes that are read of them, some 100,000 epochs
LOOKED_AT = 100  # sequences whose values tell one training split from another


class Run:
    """The folder of a run, for one process at a time: use it as a context manager, or hand it to `train`.

    overwrite: the run that is there gives way to this one, as soon as this one has something to keep. resume: the run
    that is there goes on, with the same model, data and options (but MAY_CHANGE); where nothing is there, it begins.
    Entering raises CheckpointError where the folder holds a run and neither is given, where another process is using
    it, or where it can't be written.
    """

    def __init__(self, folder, overwrite=False, resume=False):
        self.folder, self.overwrite, self.resume = Path(folder), overwrite, resume
        self._lock, self._begun = SoftFileLock(self.folder / LOCK), False

    def __enter__(self):
        first = not self._lock.is_locked  # the command enters once more than `train`, to draw pictures afterwards
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
        if not self._lock.is_locked:
            with suppress(OSError):
                self.folder.rmdir()  # where nothing was written into it

    @property
    def can_go_on(self):
        """Whether there is what a stopped run goes on from."""
        return (self.folder / RESUME).is_file()

    def start(self, model, data, options, state):
        """Takes down what is trained on what; with `resume`, brings `state` back to where the run stands.

        Raises CheckpointError where the run that is there is damaged, or of another model, data or options.
        """
        self.model, self.data, self.config = model, data, config(model, data, options)
        if self.resume and self.can_go_on:
            self._restore(state)
            self.keep(state)

    def keep(self, state):
        """Saves where the run stands, the best weights, if they are new, and the records of epochs since the last time.

        Raises CheckpointError where that can't be written; what was saved before is then still whole.
        """
        with self._says("Cannot go on writing into", f"; {WHOLE}"):
            if self._begun and not (self.folder / CONFIG).exists():
                warnings.warn(f"{self.folder} was removed while it was in use: it is written anew", stacklevel=2)
                self._begun = False
            if not self._begun:
                self._begin()
            arrays, counts = state.saved()
            moments = {"mean": np.asarray(self.data.mean), "std": np.asarray(self.data.std)}
            checkpoint.write(self.folder / RESUME, {"config": self.config, "counts": counts}, arrays | moments)
            self._keep_best(state)
            self._keep_records(state.records)

    def picture(self, name, figure):
        """Writes a matplotlib Figure as folder/name."""
        write_atomically(self.folder / name, lambda file: figure.savefig(file, format="png"))

    def _begin(self):
        """Writes config.toml and removes an older run's pictures; its other files are replaced whole, one by one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = tomli_w.dumps(_without_none(self.config)).encode()
        write_atomically(self.folder / CONFIG, lambda file: file.write(text))
        for name in PICTURES:
            (self.folder / name).unlink(missing_ok=True)
        self._begun, self._best_step, self._recorded = True, None, None

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
        lines = "".join(json.dumps(record) + "\n" for record in records[self._recorded :])
        if self._recorded is None:
            write_atomically(path, lambda file: file.write(lines.encode()))
        else:
            with open(path, "a", encoding="utf-8") as file:
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
        self._check_same(_flat(manifest["config"]), _flat(json.loads(json.dumps(self.config))))
        if not all(np.array_equal(arrays[name], getattr(self.data, name)) for name in ("mean", "std")):
            raise CheckpointError(f"{self.folder} holds a run on other data of that name: choose another --out.")
        if any(arrays[name].shape != shape for name, shape in kinds.items()):
            raise CheckpointError(f"{path} is damaged: its weights are not those of its model; restore a copy.")
        state.restore(arrays, manifest["counts"])

    def _check_same(self, old, new):
        """Raises CheckpointError for the first difference of two configurations that is not in MAY_CHANGE."""
        free = ("tinyvrnn", "data.source", "model.backend", *(f"training.{name}" for name in MAY_CHANGE))
        for name in sorted((old.keys() | new.keys()) - set(free)):
            if old.get(name) != new.get(name):
                raise CheckpointError(
                    f"{self.folder} holds a run with {name} = {old.get(name)!s:.80}, which can't go on with "
                    f"{new.get(name)!s:.80}: give what it began with, or choose another --out."
                )

    def _take_lock(self):
        try:
            self._lock.acquire(timeout=3)  # within which a lock is known to be stale that a killed process left
        except Timeout:
            raise CheckpointError(
                f"{self.folder} is in use by the process {self._lock.pid}: wait for its end, or choose another --out."
            ) from None

    def _look_around(self):
        """Refuses a folder that holds another run, and clears what a killed process was writing."""
        taken = [name for name in FILES if (self.folder / name).exists()]
        if taken and not self.overwrite and not self.resume:
            raise CheckpointError(
                f"{self.folder} already holds a run ({', '.join(taken)}): choose another --out, or give --resume to go "
                "on with it, or --overwrite."
            )
        if self.resume and checkpoint.FILE in taken and not self.can_go_on:
            raise CheckpointError(
                f"{self.folder} holds a run that can't go on, as it has no {RESUME}: choose another --out, or give "
                "--overwrite to begin anew."
            )
        for part in self.folder.glob(".*.part"):
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
            "source": data.origin,
            "units": data.units,
            "scale": data.scale,
            "sequences": [len(data.split(name)) for name in ("train", "valid", "test")],
            "sha256": _fingerprint(data.train),
        },
        "model": {"name": model.name, "backend": model.backend.name} | model.config,
        "training": options._asdict(),
    }


def _fingerprint(sequences):
    """sha256 of the lengths and of the values of some sequences."""
    digest = hashlib.sha256(np.ascontiguousarray(sequences.lengths).tobytes())
    for i in np.linspace(0, len(sequences) - 1, min(LOOKED_AT, len(sequences))).astype(int):
        digest.update(np.ascontiguousarray(sequences[i]).tobytes())
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
