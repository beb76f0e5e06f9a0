"""A run folder: config.toml, metrics.jsonl, checkpoint.npz, resume.npz and the pictures of one training run.

checkpoint.npz holds the best weights so far. resume.npz holds the state of the run, from which it can be resumed,
including those weights and all records. Files are replaced atomically, except metrics.jsonl: lines are appended to it,
and a resumed run rewrites it. So the process can be killed at any moment.
"""

import hashlib
import json
import math
import os
import warnings
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tomli_w
from filelock import SoftFileLock, Timeout

from tinyvrnn.errors import CheckpointError
from tinyvrnn.io.files import write_atomically
from tinyvrnn.runs import checkpoint
from tinyvrnn.training.state import VECTORS, are_counts
from tinyvrnn.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOCK, CONFIG, METRICS, RESUME = ".lock", "config.toml", "metrics.jsonl", "resume.npz"
PICTURES = ("curves.png", "reconstructions.png", "samples.png")
FILES = tuple(sorted((checkpoint.FILE, CONFIG, METRICS, RESUME, *PICTURES)))
MAY_CHANGE = ("epochs", "minutes", "patience", "workers", "lr", "clip", "skip_nonfinite", "device_data")  # on resuming
WHOLE = "the last save is intact: fix the cause, then continue with --resume (resume=True)"
BIGGEST_RECORDS = 2**26  # bytes of a manifest with records; enough for some 100,000 epochs


class Run:
    """The folder of a run, for one process at a time: use it as a context manager, or pass it to `train`.

    docs/runs.md describes its files.

    Parameters
    ----------
    folder : str or path
        Made if needed.
    overwrite : bool
        Replace the run in the folder as soon as this one first saves.
    resume : bool
        Continue the run in the folder, with the same model, data and options (except MAY_CHANGE), or start one if there
        is none.

    Attributes
    ----------
    folder : Path
        Absolute.
    can_go_on : bool
        Whether the folder holds a run that can be resumed.

    Raises
    ------
    CheckpointError
        On entering: the folder holds a run and neither option is given, another process uses it, or it cannot be
        written.
    """

    def __init__(self, folder: str | PathLike[str], overwrite: bool = False, resume: bool = False) -> None:
        self.folder, self.overwrite, self.resume = Path(folder).absolute(), overwrite, resume
        self._lock = SoftFileLock(self.folder / LOCK, thread_local=False)
        self._started = self.has_kept = False

    def __enter__(self) -> "Run":
        first = not self._lock.is_locked  # the command line enters it around `train`, to draw pictures afterwards
        if first:
            self._was_there = self.folder.exists()
            if self._was_there and not self.folder.is_dir():
                raise CheckpointError(f"{self.folder} is a file, but a folder is needed: choose another (--out).")
        with self._explained("Cannot write a run into"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        if first:
            try:
                self._look_around()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
        if not self._lock.is_locked and not self._was_there:
            with suppress(OSError):
                self.folder.rmdir()  # fails unless it is empty

    @property
    def can_go_on(self) -> bool:
        """Whether the folder holds a run that can be resumed."""
        return (self.folder / RESUME).is_file()

    def start(self, model, data, options, state):
        """Record the configuration; with `resume`, restore `state` from the folder.

        Raises CheckpointError if the run in the folder is damaged or has another model, data or options, and if this
        Run has been used for a training before.
        """
        if self._started:
            raise CheckpointError(f"This Run of {self.folder} has been used for a training already: make another Run.")
        self._started, self.model, self.data, self.config = True, model, data, config(model, data, options)
        if self.resume and self.can_go_on:
            self._restore(state)
            self.keep(state)

    def keep(self, state):
        """Save the state of the run, new best weights, and new records.

        Raises CheckpointError if writing fails; the previous save then stays intact.
        """
        with self._explained("Cannot continue writing into", f"; {WHOLE}"):
            self._hold_lock()
            if self.has_kept and not (self.folder / CONFIG).exists():
                warnings.warn(f"{self.folder} was removed while it was in use: it is created again", stacklevel=2)
                self.has_kept = False
            if not self.has_kept:
                self._begin()
            arrays, counts = state.saved()
            moments = {"mean": np.asarray(self.data.mean), "std": np.asarray(self.data.std)}
            checkpoint.write(self.folder / RESUME, {"config": self.config, "counts": counts}, arrays | moments)
            self._keep_best(state)
            self._keep_records(state.records)

    def picture(self, name: str, figure: "Figure") -> None:
        """Write a figure as folder/name.

        Parameters
        ----------
        name : str
            Such as "curves.png".
        figure : matplotlib.figure.Figure
            From `tinyvrnn.runs.plots`, for example.

        Raises
        ------
        CheckpointError
            Writing fails.
        """
        with self._explained(f"Cannot write {name} into", "; the weights and records are intact"):
            write_atomically(self.folder / name, lambda file: figure.savefig(file, format="png"))

    def _begin(self):
        """Write config.toml and remove the pictures of an older run; its other files are replaced later."""
        text = tomli_w.dumps(_without_none(self.config)).encode()
        write_atomically(self.folder / CONFIG, lambda file: file.write(text))
        for name in PICTURES:
            (self.folder / name).unlink(missing_ok=True)
        self.has_kept, self._best_step, self._recorded = True, None, None

    def _keep_best(self, state):
        if state.best_step == 0:  # remove the checkpoint of an older run
            (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        elif state.best_step != self._best_step:
            best, longest = state.vectors["best_theta"], self.data.train.max_steps
            checkpoint.save(self.model, self.folder, state.best_step, self.data.origin, longest, theta=best)
        self._best_step = state.best_step

    def _keep_records(self, records):
        """Append lines to metrics.jsonl. The first call rewrites it, as a killed run may have written more lines."""
        path = self.folder / METRICS
        lines = "".join(json.dumps(record) + "\n" for record in records[self._recorded :]).encode()
        if self._recorded is None:
            write_atomically(path, lambda file: file.write(lines))
        else:
            with open(path, "ab") as file:
                file.write(lines)
        self._recorded = len(records)

    def _restore(self, state):
        """Restore `state` from resume.npz, if the run has the same model, data and options."""
        path, kinds = self.folder / RESUME, {name: vector.shape for name, vector in state.vectors.items()}
        names = (*VECTORS, "mean", "std")
        manifest, arrays = checkpoint.read_file(path, ("config", "counts"), names, _is_plain, BIGGEST_RECORDS)
        old, new = _flat(manifest["config"]), _flat(json.loads(json.dumps(self.config)))
        same_moments = all(np.array_equal(arrays[name], getattr(self.data, name)) for name in ("mean", "std"))
        if any(old.get(f"data.{name}") != new[f"data.{name}"] for name in ("sequences", "sha256")) or not same_moments:
            raise CheckpointError(
                f"{self.folder} holds a run on {old.get('data.source')!s:.200}, but {new['data.source']} is different "
                "data or has changed since: give the original data, or choose another folder (--out)."
            )
        self._check_same(old, new)
        if any(arrays[name].shape != shape for name, shape in kinds.items()) or not self._reaches(manifest["counts"]):
            raise CheckpointError(
                f"{path} is damaged: its weights or counts are not those of this model and data; restore a copy."
            )
        state.restore(arrays, manifest["counts"])

    def _reaches(self, counts):
        """Whether a run on this data can have reached these counts."""
        batches = math.ceil(len(self.data.train) / self.config["training"]["batch"])
        in_epoch = counts["seen"] <= len(self.data.train) and counts["batch"] < batches
        return in_epoch and counts["step"] <= counts["epoch"] * batches + counts["batch"]

    def _check_same(self, old, new):
        """Raise CheckpointError for the first difference between two configurations that is not in MAY_CHANGE."""
        free = ("tinyvrnn", "data.source", "model.backend", *(f"training.{name}" for name in MAY_CHANGE))
        for name in sorted((old.keys() | new.keys()) - set(free)):
            if old.get(name) != new.get(name):
                raise CheckpointError(
                    f"{self.folder} holds a run with {name.partition('.')[2]} = {old.get(name)!s:.80}, which can't be "
                    f"resumed with {new.get(name)!s:.80}: give the original value, or choose another folder (--out)."
                )

    def _take_lock(self):
        try:
            self._lock.acquire(timeout=3)  # enough to detect the stale lock of a killed process
        except Timeout:
            pid, *more = [*self._marker(), "", ""][:2]
            is_ours = pid == str(os.getpid())
            other = f"the process {pid} on {more[0]}" if pid else "an unknown process"
            who = "another Run of this process" if is_ours else other
            raise CheckpointError(
                f"{self.folder} is in use by {who}: wait until it ends, choose another folder (--out), or delete "
                f"{self.folder / LOCK} if that process no longer exists."
            ) from None

    def _marker(self):
        """The lines of the lock file: process id, host, start of the process."""
        with suppress(OSError):
            return (self.folder / LOCK).read_text(errors="replace").splitlines()
        return []

    def _hold_lock(self):
        """Take the lock again if the folder was removed. Raises CheckpointError if another process has it."""
        if not self._lock.is_lock_held_by_us:
            self._lock.release(force=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()

    def _look_around(self):
        """Refuse a folder that holds another run, and remove the temporary files of a killed process."""
        taken = [name for name in FILES if (self.folder / name).exists()]
        if taken and not self.overwrite and not self.resume:
            raise CheckpointError(
                f"{self.folder} already holds a run ({', '.join(taken)}): choose another folder (--out), or give "
                "--resume to continue it, or --overwrite to replace it (in Python resume=True, overwrite=True)."
            )
        if self.resume and checkpoint.FILE in taken and not self.can_go_on:
            raise CheckpointError(
                f"{self.folder} holds a run that can't be resumed, as it has no {RESUME}: choose another folder "
                "(--out), or give --overwrite (overwrite=True) to start again."
            )
        for part in (*self.folder.glob(".*.part"), *self.folder.glob(f"{LOCK}.*")):
            part.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, failure, advice=""):
        try:
            yield
        except OSError as error:
            raise CheckpointError(f"{failure} {self.folder}: {error.strerror or error}{advice}.") from error
        except CheckpointError as error:
            raise CheckpointError(f"{str(error).removesuffix('.')}{advice}.") from error


def _is_plain(manifest, arrays):
    """Whether types and values are those that `keep` writes."""
    return (
        isinstance(manifest["config"], dict)
        and are_counts(manifest["counts"])
        and checkpoint.are_finite(*arrays.values())
        and bool((arrays["v"] >= 0).all())
    )


def config(model, data, options):
    """The contents of config.toml, plain values: everything that determines a run."""
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
    """sha256 of the lengths and values of all splits."""
    digest = hashlib.sha256()
    for sequences in (data.train, data.valid, data.test):
        for array in (sequences.lengths, *(part.values for _, part in sequences.parts())):
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _flat(config, prefix=""):
    """A nested dict flattened: {"model.h_dim": 100, ...}."""
    flat = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _without_none(config):
    if not isinstance(config, dict):
        return config
    return {key: _without_none(value) for key, value in config.items() if value is not None}
