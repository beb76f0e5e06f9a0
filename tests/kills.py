"""Kills a process at every step of writing a run's files, and reports whether the files can be read afterwards.

    python tests/kills.py FOLDER [EVERY]

For each way of writing in WAYS, a first run of the writer counts its steps: opening, each write, flush, fsync, rename,
and each making or removing of a file or folder, each with a moment before and after it, and one in the middle of each
write. Then, for each moment, a fork of this process writes and is killed there with SIGKILL; at every fifth, another
meets a full disk.
EVERY: try only every EVERY-th moment. Prints JSON: for each moment its name and the runs found: by `evaluate`, by
`--resume`, and in config.toml and metrics.jsonl. A run is "A1" (the run A after one epoch), "A2", "B1", "B0" or null.
"""

import errno
import json
import os
import shutil
import signal
import sys
import tomllib
import traceback
from functools import cache
from pathlib import Path

import numpy as np

import tinyvrnn as tv
from runs import record_of
from tinyvrnn.io import files
from tinyvrnn.runs import checkpoint
from tinyvrnn.runs import run as run_room
from tinyvrnn.runs.run import Run
from tinyvrnn.training.optim import Adam
from tinyvrnn.training.options import Options
from tinyvrnn.training.state import State

SEEDS = {"A": 1, "B": 2}
PICTURES = {"A": "curves.png", "B": "samples.png"}
DATA = tv.Data.from_sequences("small", *(np.random.default_rng(n).random((n, 3, 2)).round() for n in (6, 2, 3)))


class Moments:
    """Counts the moments of a writer; at number `fatal` (None: never) its process is killed, or its disk is full."""

    def __init__(self, fatal=None, full=False):
        self.fatal, self.full, self.names = fatal, full, []

    def pass_by(self, name):
        self.names.append(name)
        if len(self.names) - 1 == self.fatal:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name, function):
        def watched(*arguments, **options):
            self.pass_by(f"before {name}")
            result = function(*arguments, **options)
            self.pass_by(f"after {name}")
            return result

        return watched


class WatchedFile:
    """A binary file whose writes and flushes are moments."""

    def __init__(self, file, moments):
        self._file, self._moments = file, moments
        self.flush = moments.around("flush", file.flush)

    def write(self, data):
        data = bytes(data)
        self._moments.pass_by("before write")
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._moments.pass_by("within write")
        self._file.write(data[half:])
        self._moments.pass_by("after write")
        return len(data)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def watch(moments):
    """Insert the moments into all that writes a run's files, for the rest of the process."""

    def watched_open(*arguments):
        return WatchedFile(moments.around("open", open)(*arguments), moments)

    files.open = run_room.open = watched_open
    for name in ("fsync", "replace", "mkdir", "rmdir", "unlink"):
        setattr(os, name, moments.around(name, getattr(os, name)))


def setting(name):
    """The model of a run, its data, and its state before the first epoch."""
    model = tv.VRNN(2, 3, 2, layers=1, seed=SEEDS[name])
    model.mean, model.std = DATA.mean, DATA.std
    return model, DATA, State(model, Adam(model.theta))


def advance(state):
    """One more epoch, which is the best, so every file changes."""
    state.vectors["theta"] += 1
    state.vectors["m"] += 1
    state.step += 3
    state.epoch += 1
    state.records.append(record_of(state.epoch))
    state.score(float(state.epoch))


def write(folder, name, epochs, moments=None, picture=False, **how):
    """Enter a run, save it after each of its epochs (0: before the first), and draw. moments: from its start."""
    model, data, state = setting(name)
    if moments:
        watch(moments)
    with Run(folder, **how) as run:
        run.start(model, data, Options(epochs=9, batch=2), state)
        for epoch in epochs:
            while state.epoch < epoch:
                advance(state)
            run.keep(state)
        if picture:
            run.picture(PICTURES[name], Drawing())


class Drawing:
    """What `Run.picture` takes."""

    def savefig(self, file, **options):
        file.write(b"a picture")


WAYS = {  # name -> what the folder holds, and what is watched: arguments of `write`
    "fresh": ({}, {"name": "A", "epochs": (1,)}),
    "resume": ({"name": "A", "epochs": (1,), "picture": True}, {"name": "A", "epochs": (2,), "resume": True}),
    "overwrite": ({"name": "A", "epochs": (1,), "picture": True}, {"name": "B", "epochs": (1,), "overwrite": True}),
    "overwrite within the first epoch": (
        {"name": "A", "epochs": (1,), "picture": True},
        {"name": "B", "epochs": (0,), "overwrite": True},
    ),
    "pictures": ({"name": "A", "epochs": (1,)}, {"name": "A", "epochs": (), "resume": True, "picture": True}),
}


def found(folder):
    """The runs that a folder holds, as a list of one name or None for each reader; raises for anything else."""
    scored = by_theta(folder)
    resumed = resume(folder)
    assert by_theta(folder) in (scored, resumed)  # --resume writes the checkpoint anew
    left = [path.name for path in folder.glob(".*")]
    assert not left, f"left behind: {left}"
    return [scored, resumed]


def by_theta(folder):
    """The run of the weights that `evaluate` and `sample` read."""
    try:
        _, arrays = checkpoint.read(folder)
    except tv.CheckpointError as error:
        assert "There is no checkpoint.npz" in str(error), error
        return None
    return next(run for run, theta in thetas().items() if np.allclose(arrays["theta"], theta))


@cache
def thetas():
    """The weights of all runs."""
    return {f"{name}{epoch}": setting(name)[0].theta + epoch for name in SEEDS for epoch in (1, 2)}


def resume(folder):
    """The run that --resume continues. Its other files must belong to it."""
    name = "B" if _refuses_a(folder) else "A"
    model, data, state = setting(name)
    pictures = {path.name for path in folder.glob("*.png")}
    with Run(folder, resume=True) as run:
        began = run.can_go_on
        if began:
            assert tomllib.loads((folder / "config.toml").read_text())["model"]["seed"] == SEEDS[name]
        assert pictures <= {PICTURES[name]}
        run.start(model, data, Options(epochs=9, batch=2), state)
        assert (state.optimiser.m == state.epoch).all() and len(state.records) == state.epoch
        assert not began or len((folder / "metrics.jsonl").read_text().splitlines()) == state.epoch
    return f"{name}{state.epoch}" if began else None


def _refuses_a(folder):
    try:
        with Run(folder, resume=True) as run:
            if run.can_go_on:
                run._started, run.keep = False, lambda state: None
                run.start(*setting("A")[:2], Options(epochs=9, batch=2), setting("A")[2])
    except tv.CheckpointError as error:
        assert "holds a run with seed = 2, which can't be resumed with 1" in str(error), error
        return True
    return False


def main(folder, every=1):
    results = []
    for way, (before, watched) in WAYS.items():
        assert in_a_fork(count, folder, before, watched) == 0
        for i, name in list(enumerate(json.loads((folder / "names.json").read_text())))[::every]:
            for full in (False, True) if i // every % 5 == 0 else (False,):
                run = prepared(folder / "run", before)
                status = in_a_fork(attempt, run, watched, Moments(i, full))
                assert status == (0 if full else signal.SIGKILL), f"moment {i} was not reached"
                results.append({"way": way, "moment": name, "full disk": full, "found": found(run)})
    print(json.dumps(results))


def prepared(folder, before):
    """A folder with the run of `before`."""
    shutil.rmtree(folder, ignore_errors=True)
    if before:
        write(folder, **before)
    return folder


def attempt(folder, watched, moments):
    """Write; a full disk must be one sentence."""
    try:
        write(folder, moments=moments, **watched)
    except tv.CheckpointError as error:
        assert moments.full and "No space left on device" in str(error), error


def count(folder, before, watched):
    """Write the names of all moments of a writer that is not killed."""
    moments = Moments()
    write(prepared(folder / "run", before), moments=moments, **watched)
    (folder / "names.json").write_text(json.dumps(moments.names))


def in_a_fork(function, *arguments):
    """The exit status of a process that runs function(*arguments)."""
    if os.fork() == 0:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.wait()[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
