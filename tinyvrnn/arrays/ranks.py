"""The processes that mpiexec starts, which act as one: each has its own part of every batch, and they add their sums.

A process without mpiexec is ALONE, where all of this does nothing. docs/scale.md says what is summed, and when.
"""

import hashlib
import os
import pickle
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from math import prod

import numpy as np

from tinyvrnn.errors import BackendError, how_to_install

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # variables in which a launcher tells the number of its processes
PATIENCE = 20.0  # seconds that a rank waits for the others
LONG = 600.0  # where rank 0 works alone: it reads all data, or calls a user's function


class Ranks:
    """All processes that mpiexec started; one that ends with an exception ends all. Without mpi: the only process.

    rank, size: of this process. local: its rank on this machine. takes_device: whether `sum` takes arrays of CuPy.
    """

    rank, size, local, takes_device = 0, 1, 0, False

    def __init__(self, mpi=None):
        if mpi is not None:
            self.mpi, self.comm, self._since = mpi, (comm := mpi.COMM_WORLD), time.monotonic()
            self.rank, self.size = comm.Get_rank(), comm.Get_size()
            self.local = comm.Split_type(mpi.COMM_TYPE_SHARED).Get_rank()
            self.takes_device = "cuda" in (comm.Get_info().get("mpi_memory_alloc_kinds") or "")
            self._limit, before = PATIENCE, sys.excepthook
            sys.excepthook = lambda *error: self.abort(lambda: before(*error))

    def sum(self, a, wait=0.0):
        """The sum of the arrays `a` of all ranks, in place. BackendError if a rank does not take part in time."""
        if self.size == 1:
            return a
        began, request = time.monotonic(), self.comm.Iallreduce(self.mpi.IN_PLACE, a)
        self._limit = max(self._limit, 10 * (began - self._since))  # parts of a batch differ less than tenfold
        while not request.Test():
            time.sleep(0)  # another rank may need this core
            if time.monotonic() - began > max(wait, self._limit):
                what = f"A rank of {self.size} has not answered for {max(wait, self._limit):.0f} s, so all end"
                raise BackendError(f"{what}: see what its machine does, then continue with --resume (resume=True).")
        self._since = time.monotonic()
        return a

    def check_same(self, what, data):
        """Raise BackendError if `data`, a buffer, differs between the ranks."""
        own = np.frombuffer(hashlib.sha256(data).digest(), np.uint8).astype(float)
        if (self.sum(own.copy(), LONG) != self.size * own).any():
            raise BackendError(f"{what} differ between the {self.size} ranks: give all the same files and versions.")

    def of_first(self, value):
        """The value of rank 0."""
        data = np.frombuffer(pickle.dumps(value) if self.rank == 0 else b"", np.uint8)
        whole = np.zeros(int(self.sum(np.array([data.size]), LONG)[0]), np.uint8)
        whole[: data.size] = data
        return pickle.loads(self.sum(whole).tobytes())

    def hush(self):
        """Let only rank 0 print."""
        if self.rank:
            sys.stdout = sys.stderr = open(os.devnull, "w")

    def abort(self, say):
        """Explain an error, with say() -> exit code, and end all ranks. Alone: returns the code."""
        if self.rank:  # most errors are those of all ranks, and rank 0 explains them
            time.sleep(1 + min(self.rank, 50) / 10)
            sys.stderr = sys.__stderr__
        code = say()
        if self.size > 1:
            sys.stderr.flush()
            time.sleep(0.2)  # until mpiexec has forwarded it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would add a sentence of its own
            self.comm.Abort(code or 1)
        return code


ALONE = Ranks()
_current: ContextVar[Ranks] = ContextVar("_current", default=ALONE)
columns: ContextVar = ContextVar("columns", default=None)  # of a batch, those of this rank: (first, count)
current = _current.get  # the Ranks among which work is shared out: ALONE outside `shared_out`


@cache
def world():
    """The Ranks that mpiexec has started, or ALONE. Raises BackendError if they cannot reach each other."""
    started = max(int(os.environ.get(name, 1)) for name in SIZES)
    if started == 1 and "PMIX_RANK" not in os.environ:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if started == 1:  # Slurm gives a rank to each process, even to a single one
            return ALONE
        raise BackendError(f"{started} processes were started, but mpi4py fails: {how_to_install('mpi')}.") from error
    if (found := MPI.COMM_WORLD.Get_size()) < started:
        what = f"{started} processes were started, but the MPI of mpi4py finds {found}"
        raise BackendError(f"{what}: start them with the mpiexec of that MPI.")
    return ALONE if found == 1 else Ranks(MPI)


@contextmanager
def shared_out(ranks):
    """Context: batches, evaluations and baselines are shared out among `ranks`, all of which must enter it."""
    token = _current.set(ranks)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def own(index):
    """Context: yields the sequences of `index`, a batch, that are this rank's; noise drawn in it is theirs."""
    ranks, count = current(), len(index)
    start, stop = (count * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    token = columns.set((start, count) if ranks.size > 1 else None)
    try:
        yield index[start:stop]
    finally:
        columns.reset(token)


def pieces(out, first, start, count):
    """Pairs (row, number of its first number) of noise (T, b, ...): columns from `start` on of an array of `count`.

    first: a number of the noise of b columns, the first of a row.
    """
    each = prod(out.shape[2:])
    before = first // (out.shape[1] * each)
    return [(row, ((before + t) * count + start) * each) for t, row in enumerate(out)]
