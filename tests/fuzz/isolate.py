"""Runs code that may hang, fill the memory or crash, in a copy of this process (needs os.fork)."""

import contextlib
import faulthandler
import os
import pickle
import signal
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

SECONDS = 5  # after which a reader hangs
CAN_FORK = hasattr(os, "fork")


class TooLong(BaseException):  # which no reader catches
    """A reader took longer than SECONDS."""


@contextlib.contextmanager
def time_limit(seconds=SECONDS):
    """Raise TooLong after so many seconds of CPU time, on systems with signals; a busy machine is not a hang."""

    def stop(*_):
        raise TooLong(f"not done after {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Outcome(NamedTuple):
    """The end of some work: its result, or the name and text of its exception, or the signal that killed it."""

    value: object = None
    raised: str | None = None
    text: str = ""
    signal: int = 0


def forked(work, memory=None):
    """Outcome of work(), which may allocate `memory` more bytes of address space (None: unlimited)."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads; the copy uses none
        child = os.fork()
    if child == 0:
        _work_and_exit(work, memory, write)
    os.close(write)
    with open(read, "rb") as pipe:
        stored = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(stored) if stored else Outcome(signal=os.WTERMSIG(status) or -os.WEXITSTATUS(status))


def _work_and_exit(work, memory, write):
    faulthandler.disable()  # a crash of the copy is an expected outcome
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (90, 90))  # ends code that hangs without returning to Python
        if memory is not None:
            in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (in_use + memory, in_use + memory))
        outcome = Outcome(work())
    except BaseException as error:
        text = str(error) if str(error) else traceback.format_exc()
        outcome = Outcome(raised=type(error).__name__, text=text)
    with open(write, "wb") as pipe:
        pipe.write(pickle.dumps(outcome))
        pipe.flush()
        os._exit(0)
