"""Kills a process at every step of writing a run's files, and reports whether the files can be read afterwards.

    python tests/kills.py FOLDER [EVERY]

A first run of the writer counts its steps: opening, each write, flush, fsync, rename, each with a moment before and
after it, and one in the middle of each write. Then, for each moment, a fork of this process writes and is killed there
with SIGKILL.
EVERY: try only every EVERY-th moment. Prints JSON: for each moment its name and the state found, "old" or "new".
"""

import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

import tinyvrnn as tv
from runs import record_of
from tinyvrnn.io import files
from tinyvrnn.runs import checkpoint
from tinyvrnn.runs.run import Run
from tinyvrnn.training.optim import Adam
from tinyvrnn.training.options import Options
from tinyvrnn.training.state import State


class Moments:
    """Counts the moments of a writer, and kills its process at number `fatal` (None: never)."""

    def __init__(self, fatal=None):
        self.fatal, self.names = fatal, []

    def pass_by(self, name):
        self.names.append(name)
        if len(self.names) - 1 == self.fatal:
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
    """Insert the moments into the one function that writes files, for the rest of the process."""

    def watched_open(*arguments):
        return WatchedFile(moments.around("open", open)(*arguments), moments)

    class WatchedOs:
        fsync = staticmethod(moments.around("fsync", os.fsync))
        replace = staticmethod(moments.around("rename", os.replace))
        getpid = staticmethod(os.getpid)

    files.open, files.os = watched_open, WatchedOs


def setting():
    """A model, data, and a state after one epoch (old); `advance` turns it into the state after two (new)."""
    rng = np.random.default_rng(0)
    data = tv.Data.from_sequences("small", *(rng.random((n, 3, 2)).round() for n in (6, 2, 2)))
    model = tv.VRNN(2, 3, 2, layers=1, seed=1)
    model.mean, model.std = data.mean, data.std
    state = State(model, Adam(model.theta))
    advance(state)
    return model, data, state


def advance(state):
    """One more epoch, which is the best, so every file changes."""
    state.vectors["theta"] += 1
    state.vectors["m"] += 1
    state.step += 3
    state.epoch += 1
    state.records.append(record_of(state.epoch))
    state.score(float(state.epoch))


def write(folder, moments, is_empty):
    """The writer: saves the first state, then the second. Watched from the second on, or from the first (is_empty)."""
    model, data, state = setting()
    with Run(folder, resume=True) as run:
        run.start(model, data, Options(epochs=9, batch=2), State(model, Adam(model.theta)))
        if is_empty:
            watch(moments)
        run.keep(state)
        advance(state)
        if not is_empty:
            watch(moments)
        run.keep(state)


def found(folder):
    """The content of each file of a run: "old", "new" or "nothing"; raises for anything else."""
    model, data, state = setting()
    seen = {}
    with Run(folder, resume=True) as run:  # a stale lock, and half-written files
        if (folder / checkpoint.FILE).exists():
            theta = tv.load(folder).theta
            own = {"old": model.theta, "new": model.theta + 1}
            seen["checkpoint"] = next(name for name, value in own.items() if (theta == value).all())
        again = State(model, Adam(model.theta.copy()))
        run.start(model, data, Options(epochs=9, batch=2), again)
        seen["resume"] = ("nothing", "old", "new")[again.epoch]
        assert (again.optimiser.m == again.epoch).all() and len(again.records) == again.epoch
    left = [path.name for path in folder.glob(".*")]
    assert not left, f"left behind: {left}"
    return seen


def main(folder, every=1):
    results = []
    for is_empty in (False, True):
        assert in_a_fork(count, folder, is_empty) == 0
        for i, name in list(enumerate(json.loads((folder / "names.json").read_text())))[::every]:
            status = in_a_fork(write, folder / "run", Moments(i), is_empty)
            assert status == signal.SIGKILL, f"moment {i} was not reached"
            results.append({"moment": name, "folder was empty": is_empty, "found": found(folder / "run")})
            shutil.rmtree(folder / "run", ignore_errors=True)
    print(json.dumps(results))


def count(folder, is_empty):
    """Write the names of all moments of a writer that is not killed."""
    moments = Moments()
    write(folder / "run", moments, is_empty)
    shutil.rmtree(folder / "run")
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
