"""A worker process that computes gradients of the same model.

Threads would contend for the interpreter lock, which the loops over time release and take hundreds of times a step
(docs/decisions.md). Requests and results go through pipes, theta and the gradient through shared memory. Training does
not wait for a worker that is still starting, and computes the slice of a dead one itself.
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
from functools import partial
from typing import NamedTuple

import numpy as np

from tinyvrnn.arrays.cpu import give_back_freed_memory
from tinyvrnn.arrays.params import Group
from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.io.streams import NO_WINDOW
from tinyvrnn.models import MODELS

_FIRST = 64  # bytes before theta: the first is the ready flag, the rest aligns theta to a cache line


# the worker's prints must not mix with its results
CODE = """if True:
    import os, sys
    pipes = sys.stdin.buffer, sys.stdout.buffer
    sys.stdin, sys.stdout, sys.path[:] = open(os.devnull), sys.stderr, {path!r}
    from tinyvrnn.training.worker import serve
    serve(*pipes)
"""


class Plan(NamedTuple):
    """The data from which a worker rebuilds the model and opens the shared memory.

    model: (**config) -> a model. config: its arguments. parameters: P. path: of the shared file.
    """

    model: object
    config: dict
    parameters: int
    path: str


def methods_of(kind):
    """The attributes of a class and its bases, by name, without the annotations that Python adds when help() asks."""
    return [{k: v for k, v in vars(base).items() if not k.startswith("__annot")} for base in kind.__mro__[:-1]]


# the unmodified classes and likelihoods of this package
_MODELS = {model: methods_of(model) for model in MODELS.values()}
_LIKELIHOODS = dict(LIKELIHOODS)


def can_be_made_again(model):
    """Whether a worker can rebuild a model: it runs on NumPy, and its class, likelihood and cell are unmodified."""
    if _MODELS.get(type(model)) != methods_of(type(model)) or model.backend.name != "numpy":
        return False
    if any(isinstance(group, Group) for group in model.params.values()):
        return False
    known, plain = _LIKELIHOODS.get(model.likelihood.name), {"head_shapes": None, "components": None}
    return known is not None and known._replace(**plain) == model.likelihood._replace(**plain)


class Shared(NamedTuple):
    """Arrays in memory shared by two processes.

    ready: (1,) uint8, set to 1 once the worker has built its model. theta, grads: (P,).
    """

    ready: object
    theta: object
    grads: object


def share(plan):
    """The Shared arrays in the file of a plan."""
    seen = np.asarray(np.memmap(plan.path, np.uint8))
    return Shared(seen[:1], *seen[_FIRST:].view(plan.config["dtype"]).reshape(2, plan.parameters))


class Worker:
    """The handle of a worker process, which starts at once and is ready after importing the package."""

    def __init__(self):
        code = CODE.format(path=[folder for folder in sys.path if isinstance(folder, str)])
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        options["env"] = os.environ | {"VECLIB_MAXIMUM_THREADS": "1"}  # of macOS, which `one_blas_thread` can't set
        self._process = self._model = self._plan = self._shared = None
        self._asked = False
        with suppress(OSError, TypeError):  # the system can't start a process, or sys.executable is None
            # a session or console of its own, so Ctrl-C reaches only this process, whose end is that of its input
            own = {"start_new_session": True, "creationflags": NO_WINDOW}
            self._process = subprocess.Popen([sys.executable, "-c", code], **options, **own)

    @property
    def pid(self):
        """The process id; None without a process."""
        return None if self._process is None else self._process.pid

    @property
    def ended(self):
        """Whether the process has ended or never started."""
        return self._process is None or self._process.poll() is not None

    def ask(self, model, batch, objective):
        """Start model.gradient(batch, objective) in the worker. Returns whether it started; see `answer`.

        A worker whose previous answer was not read is stopped: an exception must have interrupted the caller.
        """
        try:
            if self.ended or self._asked:
                return self.stop()
            if not self._is_ready_for(model):
                return False
            self._forget_path()
            self._shared.theta[...] = model.theta
            self._asked = True  # set before sending, since an interrupt may leave a partial message
            self._send((batch, objective))
            return True
        except OSError:
            return self.stop()

    def wait(self, model):
        """Wait until the worker has built the model, if it can. For measurements; training does not wait."""
        try:
            while not (self.ended or self._is_ready_for(model) or self._shared is None):
                time.sleep(0.01)
        except OSError:
            self.stop()

    def answer(self):
        """The Gradient; its grads are shared memory, valid until the next `ask`.

        Raises what the method raised, or EOFError if the worker has ended.
        """
        try:
            raised, result = pickle.load(self._process.stdout)
        except Exception as error:  # the pipe ended or holds other data
            raise EOFError from error
        self._asked = False
        if raised:
            raise result
        return result._replace(grads=self._shared.grads)

    def rest(self):
        """Release the model and the memory, so that another training can use the process."""
        if self._asked or self.ended:
            self.stop()
            return
        with suppress(OSError):
            self._send(None)
        self._let_go()

    def stop(self):
        """End the process. Returns False."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # unwritten data has no reader any more
                    stream.close()
        self._let_go()
        return False

    def _is_ready_for(self, model):
        if self._model is not model:
            self._introduce(model)
        return self._shared is not None and bool(self._shared.ready[0])

    def _introduce(self, model):
        """Send the worker the plan of the model, unless the model can't be rebuilt."""
        self._let_go()
        self._model = model
        if not can_be_made_again(model):
            return
        file, path = tempfile.mkstemp(prefix="tinyvrnn-")
        self._plan = Plan(type(model), model.config | {"backend": "numpy"}, model.theta.size, path)
        with os.fdopen(file, "wb") as f:
            f.write(bytes(_FIRST + 2 * model.theta.nbytes))  # written in full, so a full disk raises here
        self._shared = share(self._plan)
        self._send(self._plan)

    def _send(self, message):
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def _forget_path(self):
        """Unlink the shared file; its memory stays valid while it is mapped."""
        if self._plan:
            _remove(self._plan.path)
            self._plan = None

    def _let_go(self):
        self._shared = self._model = None
        self._forget_path()


def serve(asked, answers):
    """The worker's main loop: builds the model of each Plan and answers each request until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer = None
    with suppress(EOFError, OSError, pickle.UnpicklingError):  # the other process has ended
        while True:
            message = pickle.load(asked)
            if message is None:
                answer = None
                give_back_freed_memory()
            elif isinstance(message, Plan):
                with suppress(FileNotFoundError):  # the training is over already
                    answer = partial(_answer, *_make(message))
            else:
                pickle.dump(answer(*message), answers)
                answers.flush()


def _make(plan):
    """The model of a plan, and the shared memory, in which the ready flag is set."""
    model, shared = plan.model(**plan.config), share(plan)
    shared.ready[0] = 1
    return model, shared


def _answer(model, shared, batch, objective):
    """(False, the Gradient without its grads, which are in the shared memory), or (True, the exception)."""
    model.theta[...] = shared.theta  # unchecked: the caller checks the loss
    try:
        with np.errstate(all="ignore"):  # the caller checks the loss
            result = model.gradient(batch, objective)
    except Exception as error:
        return True, error
    shared.grads[...] = result.grads
    return False, result._replace(grads=None)


def _remove(path):
    """Remove a file; at exit, if the system can't remove it while another process maps it."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        _removed_at_the_end.append(path)


@atexit.register
def _end():
    for worker in _resting:
        worker.stop()
    for path in _removed_at_the_end:
        with suppress(OSError):
            os.unlink(path)


_removed_at_the_end: list[str] = []
_resting: list[Worker] = []  # for the next training: starting one takes half a second
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # the workers belong to the parent


def hire():
    """An idle Worker, or a new one."""
    while _resting:
        worker = _resting.pop()
        if not worker.ended:
            return worker
        worker.stop()
    return Worker()


def dismiss(worker):
    """Return a worker for the next `hire`."""
    worker.rest()
    if not worker.ended:
        _resting.append(worker)
