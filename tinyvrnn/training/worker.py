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

from tinyvrnn.distributions import LIKELIHOODS
from tinyvrnn.models import MODELS

_FIRST = 64  # bytes before theta: one that says whether the worker is ready, and theta starts on a line of the cache


class Plan(NamedTuple):
    """What a worker needs to make the model again, and where it finds the memory that is shared."""

    model: object  # (**config) -> a model
    config: dict
    parameters: int
    path: str


def can_be_made_again(model):
    """Whether a model is one of this package's own, with a likelihood of its own: another process knows no others."""
    known = LIKELIHOODS.get(model.likelihood.name) if type(model) in MODELS.values() else None
    plain = {"head_shapes": None, "components": None}  # of the configuration
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
        code = f"import sys; sys.path[:] = {sys.path!r}; from tinyvrnn.training.worker import serve; serve()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = self._model = self._plan = self._shared = None
        self._asked = False
        with suppress(OSError):  # a system with no room for another process
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
            self._send((method, arguments, options))
            self._asked = True
            return True
        except OSError:
            return self.stop()

    def wait(self, model):
        """Waits until the worker has made the model, if it can: training need not, but measurements do."""
        while not (self.ended or self._is_ready_for(model) or self._plan is None):
            time.sleep(0.01)

    def answer(self):
        """(loss, grads, ...) as the method returns them; grads is shared memory, good until the next question.

        Raises what the method raised, or EOFError where the worker has ended.
        """
        try:
            raised, result = pickle.load(self._process.stdout)
        except (OSError, pickle.UnpicklingError) as error:
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
        self._plan = Plan(type(model), model.config, model.theta.size, path)
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
            with suppress(OSError):  # a system that can't do so yet can when nobody sees it
                os.unlink(self._plan.path)

    def _let_go(self):
        self._shared = self._model = None
        self._forget_path()
        self._plan = None


def serve(asked=None, answers=None):
    """What the process does: makes the model of each Plan and answers each question, until nobody can ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, answers = asked or sys.stdin.buffer, answers or sys.stdout.buffer
    answer = None
    with suppress(EOFError, OSError, pickle.UnpicklingError):  # the other process has ended
        while True:
            message = pickle.load(asked)
            if message is None:
                answer = None
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
        loss, grads, *others = getattr(model, method)(*arguments, **options)  # NumPy's warnings go nowhere
    except Exception as error:
        return True, error
    shared.grads[...] = grads
    return False, (loss, *others)


_resting = []  # for the next training: starting one takes half a second
atexit.register(lambda: [worker.stop() for worker in _resting])
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
