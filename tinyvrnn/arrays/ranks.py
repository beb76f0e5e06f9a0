"""The processes that mpiexec starts, which act as one: each has its own slice of every batch, and all add their sums.

A process without mpiexec is ALONE, where all of this does nothing. docs/scale.md says what is summed, and when.
"""

import hashlib
import os
import pickle
import sys
import time
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from functools import cache
from math import prod

import numpy as np

from tinyvrnn.errors import BackendError, ConfigError, how_to_install

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # variables in which a launcher tells the number of its processes
WAIT = "TINYVRNN_WAIT"  # a variable: seconds that a rank waits for the others
FIRST_WAIT = 600  # at first rank 0 may have to read all data
_columns: ContextVar = ContextVar("_columns", default=None)  # (first, count): this rank's columns of a batch


class Alone:
    """The only process. Attributes: rank, size, local (the rank on this machine)."""

    rank, size, local = 0, 1, 0

    def sum(self, a):
        """The sum of the arrays `a` of all ranks, in place; the same bits on all of them."""
        return a

    def quiet(self):
        """Context: only rank 0 prints."""
        return nullcontext()

    def abort(self, code, say):
        """Explain an error, say(), and end all ranks. Alone: returns the exit code."""
        say()
        return code


class Ranks(Alone):
    """All processes that mpiexec started. One that ends with an exception ends all of them."""

    def __init__(self, mpi):
        self.mpi, self.comm = mpi, (comm := mpi.COMM_WORLD)
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.local = comm.Split_type(mpi.COMM_TYPE_SHARED).Get_rank()
        self.takes_device = "cuda" in (comm.Get_info().get("mpi_memory_alloc_kinds") or "")
        self.patience = self._since = None
        before = sys.excepthook
        sys.excepthook = lambda *error: self.abort(1, lambda: before(*error))

    def describe(self, backend):
        """The number of ranks, and where gradients on a backend are summed, for a person."""
        where = "GPU" if backend == "cupy" and self.takes_device else "host"
        return f"{self.size} ranks, gradients summed in {where} memory"

    def sum(self, a):
        """As in Alone. Raises BackendError if a rank does not take part in time."""
        began = time.monotonic()
        if self._since is None:
            limit, self.patience = FIRST_WAIT, _seconds_to_wait()
        else:
            limit = self.patience = max(self.patience, 10 * (began - self._since))  # slices differ less than tenfold
        request = self.comm.Iallreduce(self.mpi.IN_PLACE, a)
        while not request.Test():
            time.sleep(0)  # another rank may need this core
            if time.monotonic() - began > limit:
                raise BackendError(
                    f"A rank of {self.size} has not answered for {limit:.0f} s, so all end: see whether its machine "
                    f"hangs, then continue with --resume (resume=True), or wait longer with {WAIT}=SECONDS."
                )
        self._since = time.monotonic()
        return a

    def check_same(self, what, data):
        """Raise BackendError if `data`, a buffer, differs between the ranks."""
        own = np.frombuffer(hashlib.sha256(data).digest(), np.uint8).astype(float)
        if (self.sum(own.copy()) != self.size * own).any():
            raise BackendError(
                f"{what} differ between the {self.size} ranks: give all of them the same files and versions, then "
                "continue with --resume (resume=True)."
            )

    def of_first(self, value):
        """The value of rank 0."""
        data = np.frombuffer(pickle.dumps(value) if self.rank == 0 else b"", np.uint8)
        whole = np.zeros(int(self.sum(np.array([data.size]))[0]), np.uint8)
        whole[: data.size] = data
        return pickle.loads(self.sum(whole).tobytes())

    @contextmanager
    def quiet(self):
        with open(os.devnull, "w") as nowhere:
            out, err = (nowhere, nowhere) if self.rank else (sys.stdout, sys.stderr)
            with redirect_stdout(out), redirect_stderr(err):
                yield

    def abort(self, code, say):
        if self.rank:  # most errors are those of all ranks, and rank 0 explains them
            time.sleep(1 + min(self.rank, 50) / 10)
        say()
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would add a sentence of its own
        self.comm.Abort(code)


ALONE = Alone()
_current: ContextVar = ContextVar("_current", default=ALONE)


@cache
def world():
    """The Ranks that mpiexec has started, or ALONE. Raises BackendError if they cannot reach each other."""
    started = max(int(os.environ.get(name, 1)) for name in SIZES)
    if started == 1 and "PMIX_RANK" not in os.environ:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if started == 1:  # Slurm tells each process its rank, be it one of several or not
            return ALONE
        raise BackendError(f"{started} processes were started, but mpi4py fails: {how_to_install('mpi')}.") from error
    found = MPI.COMM_WORLD.Get_size()
    if found < started:
        what = f"{started} processes were started, but the MPI of mpi4py finds {found}"
        raise BackendError(f"{what}: start them with the mpiexec of that MPI.")
    return ALONE if found == 1 else Ranks(MPI)


def _seconds_to_wait():
    seconds = os.environ.get(WAIT, "20")
    if not (seconds.isdecimal() and seconds.isascii()):
        raise ConfigError(f"{WAIT} must be a whole number of seconds, got {seconds}: change or unset it.")
    return int(seconds)


def current():
    """The Ranks among which work is shared out: ALONE outside `shared_out`."""
    return _current.get()


@contextmanager
def shared_out(ranks):
    """Context: batches, evaluations and baselines are shared out among `ranks`, all of which must enter it."""
    token = _current.set(ranks)
    try:
        yield ranks
    finally:
        _current.reset(token)


@contextmanager
def own(index):
    """Context: its value are this rank's of the sequences `index` of a batch, and noise drawn in it is theirs."""
    ranks, count = current(), len(index)
    start, stop = (count * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    token = _columns.set(None if ranks.size == 1 else (start, count))
    try:
        yield index[start:stop]
    finally:
        _columns.reset(token)


def place(shape):
    """(width, stride, skip): number n of an array (T, b, ...) is n // width * stride + n % width + skip of the batch's.

    (0, 0, 0) outside `own`: number n is n.
    """
    if _columns.get() is None:
        return 0, 0, 0
    (first, count), each = _columns.get(), prod(shape[2:])
    return shape[1] * each, count * each, first * each
