"""A run folder: config.toml, metrics.jsonl, checkpoint.npz, resume.npz and the pictures of one training run.

checkpoint.npz holds the best weights so far. resume.npz holds the state of the run, from which it can be resumed,
including those weights and all records. The first save of a run replaces all files of the folder at one moment. Later
saves replace each file atomically, except metrics.jsonl, to which lines are appended. So the process can be killed at
any moment.
"""

import hashlib
import json
import math
import os
import platform
import secrets
import shutil
import tomllib
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import tomli_w

from tinyvrnn.arrays.ranks import world
from tinyvrnn.errors import CheckpointError, shown
from tinyvrnn.io.files import WRITING, given_path, is_within, located, lock, replace_together, settle, write_atomically
from tinyvrnn.runs import checkpoint, plots
from tinyvrnn.training.options import NEW, Options
from tinyvrnn.training.state import VECTORS, are_counts
from tinyvrnn.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOCK, CONFIG, METRICS, RESUME = ".lock", "config.toml", "metrics.jsonl", "resume.npz"
PICTURES = ("curves.png", "reconstructions.png", "samples.png")
FILES = tuple(sorted((checkpoint.FILE, CONFIG, METRICS, RESUME, *PICTURES)))
MAY_CHANGE = ("epochs", "minutes", "patience", "workers", "lr", "clip", "skip_nonfinite", "device_data")  # on resuming
WHOLE = "the last save is intact: fix the cause, then continue with --resume (resume=True)"
READ = ("window", "stride", "columns", "missing")  # how the data were read, which their values do not show
FLAGS = {"model.h_dim": "h_dim (--hidden)", "model.z_dim": "z_dim (--latent)"}  # others follow from these by default
WAIT = 0.5  # seconds for another process to leave the folder
TOKEN = secrets.token_hex(8)  # of this process, as other containers have processes of the same number and host
BIGGEST_RECORDS = 2**26  # bytes of a manifest with records; enough for some 100,000 epochs


class Run:
    """The folder of a run, for one process at a time: use it as a context manager, or pass it to `train`.

    docs/runs.md describes its files. Under mpiexec rank 0 alone uses it.

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
    recorded : dict
        The training options of the run that will be resumed.

    Raises
    ------
    CheckpointError
        On entering: the folder holds a run and neither option is given, another process uses it, or it cannot be
        written.
    """

    def __init__(self, folder: str | PathLike[str], overwrite: bool = False, resume: bool = False) -> None:
        self.folder, self.overwrite, self.resume = given_path(folder, CheckpointError).absolute(), overwrite, resume
        self._depth, self._started, self.has_kept = 0, False, False
        if world().rank:
            vars(self).update(dict.fromkeys(("_open", "_close", "start", "keep", "picture"), lambda *given: None))

    def __enter__(self) -> "Run":
        if self._depth == 0:  # the command line enters it around `train`, to draw pictures afterwards
            self._open()
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._close()

    @property
    def can_go_on(self) -> bool:
        """Whether the folder holds a run that can be resumed."""
        return (self.folder / RESUME).is_file()

    @property
    def recorded(self):
        """The training options of the run that will be resumed, {} without one."""
        found = {}
        if world().rank == 0 and self.resume and self.can_go_on:
            found = self._read(VECTORS)[0]["config"].get("training", {})
        return world().of_first(found) if world().size > 1 else found

    def _read(self, names):
        """Manifest and arrays of resume.npz, the names given."""
        return checkpoint.read_file(self.folder / RESUME, ("config", "counts"), names, _is_plain, BIGGEST_RECORDS)

    def start(self, model, data, options, state):
        """Record the configuration; with `resume`, restore `state` from the folder.

        Raises CheckpointError if the run in the folder is damaged or has another model, data or options, if the medium
        of the data cannot be saved, and if this Run has been used for a training before.
        """
        if self._started:
            raise CheckpointError(f"This Run of {self.folder} has been used for a training already: make another Run.")
        if os.path.isabs(data.origin or "") and any(is_within(self.folder / name, data.origin) for name in FILES):
            raise CheckpointError(f"{self.folder} would write into the data, {data.origin}: choose another (--out).")
        checkpoint.check_medium(data.medium, data.x_dim)
        self._started, self.model, self.data, self.config = True, model, data, config(model, data, options)
        if self.resume and self.can_go_on:
            self._restore(state)
            self.keep(state)

    def keep(self, state):
        """Save the state of the run, new best weights, and new records.

        Raises CheckpointError if writing fails; the previous save then stays intact.
        """
        advice = WHOLE if self.has_kept else "what it held before is intact"
        with self._explained("Cannot continue writing into", f"; {advice}"):
            self._hold_lock()
            if self.has_kept and not (self.folder / CONFIG).exists():
                warnings.warn(f"{self.folder} was removed while it was in use: it is created again", stacklevel=2)
                self.has_kept = False
            if self.has_kept:
                self._write(state, self.folder)
                return
            replace_together(self.folder, FILES, partial(self._begin, state))
        self.has_kept = True
        with self._explained("Cannot continue writing into", f"; {WHOLE}"):
            settle(self.folder)

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
            write_atomically(self.folder / name, lambda file: plots.write(figure, file))

    def _begin(self, state, folder):
        """Write all files of the run into a new folder."""
        text = tomli_w.dumps(_without_none(self.config)).encode()
        write_atomically(folder / CONFIG, lambda file: file.write(text))
        self._best_step = self._recorded = 0
        self._write(state, folder)

    def _write(self, state, folder):
        """Write resume.npz, the checkpoint if there are new best weights, and the new lines of metrics.jsonl."""
        arrays, counts = state.saved()
        moments = {"mean": np.asarray(self.data.mean), "std": np.asarray(self.data.std)}
        checkpoint.write(folder / RESUME, {"config": self.config, "counts": counts}, arrays | moments)
        if state.best_step != self._best_step:
            best, train = state.vectors["best_theta"], self.data.train
            about = state.best_step, self.data.origin, train.max_steps
            checkpoint.save(self.model, folder, *about, theta=best, lengths=train.lengths)
            self._best_step = state.best_step
        with open(folder / METRICS, "ab") as file:
            file.write("".join(json.dumps(record) + "\n" for record in state.records[self._recorded :]).encode())
        self._recorded = len(state.records)

    def _restore(self, state):
        """Restore `state` from resume.npz, if the run has the same model, data and options."""
        path, kinds = self.folder / RESUME, {name: vector.shape for name, vector in state.vectors.items()}
        manifest, arrays = self._read((*VECTORS, "mean", "std"))
        old, new = _flat(manifest["config"]), _flat(json.loads(json.dumps(self.config)))
        old = {f"training.{name}": Options._field_defaults[name] for name in NEW} | old
        same_moments = all(np.array_equal(arrays[name], getattr(self.data, name)) for name in ("mean", "std"))
        if any(old.get(f"data.{name}") != new[f"data.{name}"] for name in ("sequences", "sha256")) or not same_moments:
            raise CheckpointError(
                f"{self.folder} holds a run on {old.get('data.source')!s:.200}, but {new['data.source']} is different "
                "data, has changed since, or is read in another way (as by --window or --columns): "
                "give the original data and options, or choose another folder (--out)."
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
        free += tuple(f"data.{name}" for name in READ)  # the first runs did not record them, and sha256 covers them
        for name in sorted((old.keys() | new.keys()) - set(free), key=lambda name: (name not in FLAGS, name)):
            if old.get(name) != new.get(name):
                what = FLAGS.get(name, name.partition(".")[2])
                raise CheckpointError(
                    f"{self.folder} holds a run with {what} = {old.get(name)!s:.80}, which can't be "
                    f"resumed with {new.get(name)!s:.80}: give the original value, or choose another folder (--out)."
                )

    def _open(self):
        """Create and lock the folder. Raises CheckpointError if it can't be used."""
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} is a file, but a folder is needed: choose another (--out).")
        with self._explained("Cannot write a run into"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._take_lock()
                self._look_around()
            except BaseException:
                self._close()
                raise

    def _close(self):
        if self._holds_lock():  # a process that waits for the lock notices that its file is gone
            with suppress(OSError):
                (self.folder / LOCK).unlink()
        self._lock.release(force=True)
        with suppress(OSError):
            for path in self._made:
                path.rmdir()  # fails unless it is empty

    def _take_lock(self):
        """Lock a file in the folder; the system unlocks it when this process ends. A forked child does not hold it."""
        self._lock = lock(self.folder / LOCK, thread_local=False, on_acquired=self._sign)
        try:
            self._lock.acquire(timeout=WAIT)
        except TimeoutError:
            raise CheckpointError(
                f"{self.folder} is in use by {self._holder()}: wait until it ends, or choose another folder (--out)."
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"Cannot write a run into {self.folder} because of its {LOCK}: {error.strerror or error}; choose "
                "another folder (--out)."
            ) from error

    def _sign(self, file):
        """Write into the lock file who holds it, for `_holder` in another process."""
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n{platform.node()}\n{TOKEN}\n".encode())
        os.fsync(file)
        self._locked = os.fstat(file)

    def _holder(self):
        """Who holds the lock, in words, as far as its file says so."""
        with suppress(OSError, ValueError):
            pid, host, token = (self.folder / LOCK).read_text().splitlines()
            if (pid, host) != (str(os.getpid()), platform.node()):
                return f"the process {int(pid)} on {host:.80}"
            if token == TOKEN:
                return "another Run of this process"
        return "another process"

    def _holds_lock(self):
        with suppress(OSError):
            return self._lock.is_locked and os.path.samestat(os.stat(self.folder / LOCK), self._locked)
        return False

    def _hold_lock(self):
        """Take the lock again if its file was removed. Raises CheckpointError if another process has it."""
        if not self._holds_lock():
            self._lock.release(force=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()

    def _look_around(self):
        """Refuse a folder that holds another run; finish or remove what a killed process was writing."""
        settle(self.folder)
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
        shutil.rmtree(self.folder / WRITING, ignore_errors=True)
        for part in self.folder.glob(".*.part"):
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
        and isinstance(manifest["config"].get("training", {}), dict)
        and are_counts(manifest["counts"])
        and checkpoint.are_finite(*arrays.values())
        and bool((arrays["v"] >= 0).all())
    )


def config(model, data, options):
    """The contents of config.toml, plain values: everything that determines a run."""
    return {
        "tinyvrnn": __version__,
        "data": {
            "source": shown(data.origin or data.name),
            "units": data.units,
            "scale": data.scale,
            "sequences": [len(data.split(name)) for name in ("train", "valid", "test")],
            "sha256": fingerprint(data),
        }
        | {name: data.medium[name] for name in READ if name in data.medium},
        "model": {"name": model.name, "backend": model.backend.name} | model.config,
        "training": options._asdict(),
    }


def fingerprint(data):
    """sha256 of the lengths and values of all splits."""
    digest = hashlib.sha256()
    for sequences in (data.train, data.valid, data.test):
        digest.update(np.ascontiguousarray(sequences.lengths))
        for _, part in sequences.parts():
            digest.update(np.ascontiguousarray(part.values))
    return digest.hexdigest()


def recorded_fingerprint(folder):
    """The `fingerprint` of the data of a run, from its config.toml; None without one."""
    with suppress(Exception), open(located(given_path(folder), CONFIG), "rb") as file:
        return tomllib.load(file)["data"]["sha256"]
    return None


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
