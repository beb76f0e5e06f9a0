"""A process that computes gradients of the same model, for a slice of each batch.

Time of a step over its time, at course and music (2 cores, benchmarks/workers.py): threads 1.22 and 1.06, loky 0.95 and
1.08, one process 1.48 and 1.79. It is as fast as loky, but training waits neither for its start nor for one that was
killed; docs/decisions.md says more.

Requests and results go through pipes, theta and the gradient through a mapped file. Training does not wait for a worker
that is still starting, and computes the slice of a dead one itself.
"""

import atexit
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import numpy as np

from tinyvrnn.arrays.cpu import give_back_freed_memory
from tinyvrnn.io.streams import NO_WINDOW

CODE = """if True:  # its prints must not mix with its results
    import os, sys
    pipes = sys.stdin.buffer, sys.stdout.buffer
    sys.stdin, sys.stdout, sys.path[:] = open(os.devnull), sys.stderr, {path!r}
    from tinyvrnn.training.worker import serve
    serve(*pipes)
"""


def share(path, dtype):
    """theta (P,), grads (P,) and ready (1,), 0 until the worker has built its model: the 2 P + 1 numbers of a file."""
    seen = np.asarray(np.memmap(path, dtype))
    return np.split(seen, [seen.size // 2, seen.size - 1])


class Worker:
    """The handle of a worker process, which starts at once and is ready after importing the package. pid: or None."""

    def __init__(self):
        code = CODE.format(path=[folder for folder in sys.path if isinstance(folder, str)])
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        options["env"] = os.environ | {"VECLIB_MAXIMUM_THREADS": "1"}  # of macOS, which `one_blas_thread` can't set
        # a session or console of its own, so Ctrl-C reaches only this process, whose end is that of its input
        options |= {"start_new_session": True, "creationflags": NO_WINDOW}
        self._process = self._model = self._shared = None
        self._paths, self._asked = [], False
        with suppress(OSError, TypeError):  # the system can't start a process, or sys.executable is None
            self._process = subprocess.Popen([sys.executable, "-c", code], **options)
        self.pid = self._process and self._process.pid

    @property
    def ended(self):
        """Whether the process has ended or never started."""
        return self._process is None or self._process.poll() is not None

    def ask(self, model, batch, objective):
        """Start model.gradient(batch, objective) in the worker, for `answer`. Returns whether it started."""
        if not (self.ended or self._asked):  # an answer that nobody read: an exception interrupted the caller
            with suppress(OSError):
                if not self._is_ready_for(model):
                    return False
                self._shared[0][...] = model.theta
                self._asked = True  # set before sending, since an interrupt may leave a partial message
                self._send((batch, objective))
                return True
        return self.stop()

    def wait(self, model):
        """Wait until the worker has built the model. For measurements; training does not wait."""
        with suppress(OSError):
            while not (self.ended or self._is_ready_for(model)):
                time.sleep(0.01)

    def answer(self):
        """The Gradient, its grads valid until the next `ask`. Raises what the method raised, EOFError if it ended."""
        try:
            found = pickle.load(self._process.stdout)
        except Exception as error:  # the pipe ended or holds other data
            raise EOFError from error
        self._asked = False
        if isinstance(found, Exception):
            raise found
        return found._replace(grads=self._shared[1])

    def rest(self):
        """Release the model and the memory, and be there for the next `hire`."""
        if self._asked or self.ended:
            self.stop()
            return
        _resting.append(self)
        self._let_go()
        with suppress(OSError):  # `hire` finds that it has ended
            self._send(None)

    def stop(self):
        """End the process. Returns False."""
        if self._process:
            with suppress(OSError), self._process:  # unwritten data has no reader any more
                self._process.kill()
        self._let_go()
        return False

    def _is_ready_for(self, model):
        if self._model is not model:
            self._introduce(model)
        return bool(self._shared[2])

    def _introduce(self, model):
        """Send the worker the model's class and arguments, and the path of the file that holds what both share."""
        self._let_go()
        file, path = tempfile.mkstemp(prefix="tinyvrnn-")
        self._paths.append(path)
        with os.fdopen(file, "wb") as f:
            f.write(bytes(2 * model.theta.nbytes + model.theta.itemsize))  # in full, so a full disk raises here
        self._shared, self._model = share(path, model.dtype), model
        self._send((type(model), model.config | {"backend": "numpy"}, path))

    def _send(self, message):
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def _let_go(self):
        self._shared = self._model = None
        self._paths = [path for path in self._paths if not _remove(path)]


def _remove(path):
    """Remove a file, whose memory stays. Returns whether it is gone: on Windows not while a process maps it."""
    with suppress(OSError):
        os.unlink(path)
    return not os.path.exists(path)


def serve(asked, answers):
    """The worker's main loop: builds the model of each introduction and answers requests until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with np.errstate(all="ignore"), suppress(EOFError, OSError, pickle.UnpicklingError):  # the parent checks or ended
        while True:
            message = pickle.load(asked)
            if message is None:
                model = shared = None
                give_back_freed_memory()
            elif len(message) == 3:
                make, config, path = message
                with suppress(FileNotFoundError):  # the training is over already
                    model, shared = make(**config), share(path, config["dtype"])
                    _remove(path)
                    shared[2][...] = 1
            else:
                pickle.dump(_answer(model, shared, *message), answers)
                answers.flush()


def _answer(model, shared, batch, objective):
    """The Gradient without its grads, which are in the shared memory, or the exception."""
    model.theta[...] = shared[0]  # unchecked: the caller checks the loss
    try:
        result = model.gradient(batch, objective)
    except Exception as error:
        return error
    shared[1][...] = result.grads
    return result._replace(grads=None)


_resting: list[Worker] = []  # for the next training: starting one takes half a second
atexit.register(lambda: [worker.stop() for worker in _resting])
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # the workers belong to the parent


def hire():
    """A resting Worker, or a new one."""
    while _resting and _resting[-1].ended:
        _resting.pop().stop()
    return _resting.pop() if _resting else Worker()
