"""A process beside this one that computes gradients of the same model.

Threads would do for that, were it not for the interpreter's lock: the loops over time hand it to and fro hundreds of
times a step (docs/architecture.md). Questions and answers go through a pipe, theta and the gradient through memory that
both processes see. Nobody waits for a worker that is not up yet, and one that has ended is done without.
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
from tinyvrnn.models import MODELS

_FIRST = 64  # bytes before theta: one that says whether the worker is ready, and theta starts on a line of the cache


# what it prints must not get among the answers
CODE = """if True:
    import os, sys
    pipes = sys.stdin.buffer, sys.stdout.buffer
    sys.stdin, sys.stdout, sys.path[:] = open(os.devnull), sys.stderr, {path!r}
    from tinyvrnn.training.worker import serve
    serve(*pipes)
"""


class Plan(NamedTuple):
    """What a worker needs to make the model again, and where it finds the memory that is shared."""

    model: object  # (**config) -> a model
    config: dict
    parameters: int
    path: str


def methods_of(kind):
    """All that a class and those that it inherits from hold, by name."""
    return [dict(vars(base)) for base in kind.__mro__[:-1]]


# as this package makes them
_MODELS = {model: methods_of(model) for model in MODELS.values()}
_LIKELIHOODS = dict(LIKELIHOODS)


def can_be_made_again(model):
    """Whether a model, its likelihood and its cell are this package's own, on NumPy: a worker knows no others."""
    if _MODELS.get(type(model)) != methods_of(type(model)) or model.backend.name != "numpy":
        return False
    if any(isinstance(group, Group) for group in model.params.values()):
        return False
    known, plain = _LIKELIHOODS.get(model.likelihood.name), {"head_shapes": None, "components": None}
    return known is not None and known._replace(**plain) == model.likelihood._replace(**plain)


class Shared(NamedTuple):
    """Memory that two processes see."""

    ready: object  # (1,): not 0 from when the worker has made its model
    theta: object  # (P,)
    grads: object  # (P,)


def share(plan):
    """Shared, in the file that `plan` names, of two vectors."""
    seen = np.asarray(np.memmap(plan.path, np.uint8))
    return Shared(seen[:1], *seen[_FIRST:].view(plan.config["dtype"]).reshape(2, plan.parameters))


class Worker:
    """The handle of such a process. It starts at once, and is ready when it has imported the package."""

    def __init__(self):
        code = CODE.format(path=[folder for folder in sys.path if isinstance(folder, str)])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = self._model = self._plan = self._shared = None
        self._asked = False
        with suppress(OSError, TypeError):  # a system with no room for a process, or no name for the interpreter
            # a session of its own: Ctrl-C is for this process alone, with whose end the other's standard input ends too
            self._process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **pipes)

    @property
    def pid(self):
        """Its number with the system; None where there is none."""
        return None if self._process is None else self._process.pid

    @property
    def ended(self):
        """Whether there is no such process, or no more."""
        return self._process is None or self._process.poll() is not None

    def ask(self, model, method, arguments, options):
        """Whether the worker now computes model.method(*arguments, **options); `answer` has the result.

        A worker that was asked before and did not answer is given up: something was raised meanwhile.
        """
        try:
            if self.ended or self._asked:
                return self.stop()
            if not self._is_ready_for(model):
                return False
            self._forget_path()
            self._shared.theta[...] = model.theta
            self._asked = True  # before it is: whoever is interrupted within does not know how much was sent
            self._send((method, arguments, options))
            return True
        except OSError:
            return self.stop()

    def wait(self, model):
        """Waits until the worker has made the model, if it can: training need not, but measurements do."""
        try:
            while not (self.ended or self._is_ready_for(model) or self._shared is None):
                time.sleep(0.01)
        except OSError:
            self.stop()

    def answer(self):
        """(loss, grads, ...) as the method returns them; grads is shared memory, good until the next question.

        Raises what the method raised, or EOFError where the worker has ended.
        """
        try:
            raised, result = pickle.load(self._process.stdout)
        except Exception as error:  # of a pipe that ended, or that something else was written to
            raise EOFError from error
        self._asked = False
        if raised:
            raise result
        loss, *others = result
        return loss, self._shared.grads, *others

    def rest(self):
        """Lets go of the model and of the memory, so that another training can have the process."""
        if self._asked or self.ended:
            self.stop()
            return
        with suppress(OSError):
            self._send(None)
        self._let_go()

    def stop(self):
        """Ends the process. Returns False."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # what was not yet written has nobody to read it
                    stream.close()
        self._let_go()
        return False

    def _is_ready_for(self, model):
        if self._model is not model:
            self._introduce(model)
        return self._shared is not None and bool(self._shared.ready[0])

    def _introduce(self, model):
        """Sends what the process needs to make the model again, unless it can't."""
        self._let_go()
        self._model = model
        if not can_be_made_again(model):
            return
        file, path = tempfile.mkstemp(prefix="tinyvrnn-")
        self._plan = Plan(type(model), model.config | {"backend": "numpy"}, model.theta.size, path)
        with os.fdopen(file, "wb") as f:
            f.write(bytes(_FIRST + 2 * model.theta.nbytes))  # written, not left out: a full disk shows here
        self._shared = share(self._plan)
        self._send(self._plan)

    def _send(self, message):
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def _forget_path(self):
        """Removes the shared file's name; the file itself lasts as long as somebody sees it."""
        if self._plan:
            _remove(self._plan.path)
            self._plan = None

    def _let_go(self):
        self._shared = self._model = None
        self._forget_path()


def serve(asked, answers):
    """What the process does: makes the model of each Plan and answers each question, until nobody can ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer = None
    with suppress(EOFError, OSError, pickle.UnpicklingError):  # the other process has ended
        while True:
            message = pickle.load(asked)
            if message is None:
                answer = None
                give_back_freed_memory()
            elif isinstance(message, Plan):
                with suppress(FileNotFoundError):  # a training that is over already
                    answer = partial(_answer, *_make(message))
            else:
                pickle.dump(answer(*message), answers)
                answers.flush()


def _make(plan):
    """The model of a plan, and the memory, in which it says that it is ready."""
    model, shared = plan.model(**plan.config), share(plan)
    shared.ready[0] = 1
    return model, shared


def _answer(model, shared, method, arguments, options):
    """(False, the result but for grads, which are in the shared memory), or (True, what was raised)."""
    model.theta = shared.theta
    try:
        with np.errstate(all="ignore"):  # who asked looks at the loss
            loss, grads, *others = getattr(model, method)(*arguments, **options)
    except Exception as error:
        return True, error
    shared.grads[...] = grads
    return False, (loss, *others)


def _remove(path):
    """Removes a file, at the end of this process where the system can't while another sees it."""
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


_removed_at_the_end = []
_resting = []  # for the next training: starting one takes half a second
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # they are the parent's


def hire():
    """A Worker that rests, or a new one."""
    while _resting:
        worker = _resting.pop()
        if not worker.ended:
            return worker
        worker.stop()
    return Worker()


def dismiss(worker):
    """Gives a worker back."""
    worker.rest()
    if not worker.ended:
        _resting.append(worker)
