"""Runs a student's function and turns errors, endless loops and forbidden calls into a sentence."""

import ast
import contextlib
import ctypes
import html
import inspect
import itertools
import os
import random
import sys
import textwrap
import threading
import time
import traceback
import warnings
from functools import partial

import numpy as np

from tinyvrnn import gradcheck, one_page
from tinyvrnn.course.array_trees import plain
from tinyvrnn.errors import TinyvrnnError
from tinyvrnn.io.streams import Steady

SECONDS, CHARACTERS, DEPTH = 20, 2000, 200  # limits: run time, printed characters, calls in calls
IDLE = ("...", "pass", "return", "return None", "return ...")  # lines of a stub
NOT_WRITTEN = "This one is not written yet: replace `...` with your answer, and run the cell again."
_SEEDS = itertools.cycle(range(7))
NO_PROFILER = "It replaces the profiler that checks it (sys.setprofile): remove that line."


class NotYet(TinyvrnnError, AssertionError):
    """An answer that is not right yet. A notebook shows its message in a box without a traceback.

    case: the arguments on which a function failed, or None.
    """

    _displayed = False

    def __init__(self, message, case=None):
        super().__init__(message)
        self.case = case

    def _render_traceback_(self):
        try:
            from IPython import get_ipython
            from IPython.display import HTML, display
        except ImportError:  # another shell
            return [f"✗ {self}"]
        if not hasattr(get_ipython(), "kernel"):
            return [f"\x1b[31m✗ {self}\x1b[0m"]
        if not self._displayed:  # IPython 9 asks twice
            self._displayed = True
            display(HTML(box("#B3261E", f"<b>✗</b> {html.escape(str(self))}")))
        return [" "]  # a front end shows name and message of an error without a traceback


def box(colour, content):
    """HTML of a verdict: a bar and text of one colour on white, with a contrast above 4.5:1, and no broken words."""
    style = f"border-left: 4px solid {colour}; padding: 4px 10px; background: #fff; color: #1a1a1a"
    return f'<div style="{style}; overflow-wrap: normal; word-break: normal">{content}</div>'


class Raised(NotYet):
    """A student's function raised the exception `error`."""

    def __init__(self, message, error):
        super().__init__(message)
        self.error = error


class _Stopped(BaseException):
    """Raised inside the student's thread."""


class _Brief:
    """Standard output limited to CHARACTERS."""

    def __init__(self, stream):
        self._stream, self._left = stream, CHARACTERS

    def write(self, text):
        if 0 < self._left <= len(text):
            self._stream.write(text[: self._left] + "... (further output of this check is omitted)\n")
        elif self._left > 0:
            self._stream.write(text)
        self._left -= len(text)
        return len(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def brief_output():
    """A context in which little is printed, since a check calls a function many times."""
    return contextlib.redirect_stdout(_Brief(Steady(sys.stdout)))


def run(function, arguments, forbidden=(), seconds=SECONDS):
    """A plain copy of function(*arguments). Raises NotYet for a timeout or a forbidden call, Raised for an exception.

    The call runs in its own thread, which can be stopped; in a browser here. A profiler in it, and in threads that it
    starts, sees each call of a Python function.
    """
    if hasattr(type(function), "run_in_box"):  # in a process of its own, where this function is called again
        return function.run_in_box(arguments, forbidden)
    box = {}
    with _undone():
        in_time = _limited(partial(_call, box, function, arguments, _codes(forbidden)), box, seconds)
    if not in_time:
        raise NotYet(f"It was still running after {seconds} s: look for a loop that never ends.")
    if "called" in box:
        raise NotYet(box["called"])
    if "error" in box:
        raise Raised(_sentence(box["error"]), box["error"])
    return box["result"]


def untouched(function):
    """Whether the source of a function is a stub: a docstring, and lines that do nothing."""
    with contextlib.suppress(OSError, TypeError, ValueError, SyntaxError):  # it may have no source of its own
        (made,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        documented = ast.get_docstring(made) is not None  # it raises TypeError for a lambda's line
        return all(ast.unparse(line) in IDLE for line in made.body[documented:])
    return False


def parameter_names(function, count):
    """The names of a function's first `count` parameters; "argument 3" etc. for those without a name."""
    try:
        names = list(inspect.signature(function).parameters)[:count]
    except (TypeError, ValueError):  # some built-ins have no signature
        names = []
    return names + [f"argument {i + 1}" for i in range(len(names), count)]


@contextlib.contextmanager
def _undone():
    """Undo what an answer does to the process: its folder, environment, seeds, warnings, recursion limit, profiler.

    Each call gets another seed, so that an answer that draws random numbers is noticed.
    """
    folder, environment, depth = os.getcwd(), dict(os.environ), sys.getrecursionlimit()
    seeds, seed = (random.getstate(), np.random.get_state()), next(_SEEDS)
    random.seed(seed)
    np.random.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            threading.setprofile(None)
            sys.setrecursionlimit(depth)
            random.setstate(seeds[0])
            np.random.set_state(seeds[1])
            os.chdir(folder)
            if os.environ != environment:
                os.environ.clear()
                os.environ.update(environment)


def _limited(call, box, seconds):
    """Run call() in a thread. Returns whether it ended in time; otherwise it is stopped."""
    thread = threading.Thread(target=call, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # a browser has no threads
        return _limited_here(call, seconds)
    thread.join(seconds)
    if thread.is_alive():
        box["late"] = True  # its profiler stops it where a long call of C returns
        _stop(thread)
        return False
    return True


def _stop(thread):
    """Raise _Stopped in a thread, again if it catches that.

    In CPython 3.11 an exception that is never delivered slows down every thread until another one is, hence the last
    lines: they withdraw it, and raise and catch one here.
    """
    for _ in range(10):
        _raise_in(thread.ident, ctypes.py_object(_Stopped))
        thread.join(0.05)
    _raise_in(thread.ident, None)
    with contextlib.suppress(_Stopped):
        _raise_in(threading.get_ident(), ctypes.py_object(_Stopped))
        while True:
            pass


def _raise_in(ident, exception):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), exception)


def _limited_here(call, seconds):
    """The same in this thread, by a tracer that sees each line. Deep recursion would end Python in a browser."""
    end, tracer, depth = time.monotonic() + seconds, sys.gettrace(), sys.getrecursionlimit()

    def watch(frame, event, argument):
        if time.monotonic() > end:
            raise _Stopped
        return watch

    sys.setrecursionlimit(len(inspect.stack(0)) + DEPTH)
    sys.settrace(watch)
    try:
        call()
    finally:
        sys.settrace(tracer)
        sys.setrecursionlimit(depth)
    return time.monotonic() <= end


def _call(box, function, arguments, codes):
    def watch(frame, event, called):
        if box.get("late"):
            raise _Stopped
        if event == "call" and frame.f_code in codes:
            box["called"] = codes[frame.f_code]
        elif event == "c_call" and called is sys.setprofile and frame.f_code is not _call.__code__:
            box["called"] = NO_PROFILER
        else:
            return
        raise _Stopped

    try:
        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            box["result"] = plain(function(*arguments))
            if sys.getprofile() is not watch:
                box.setdefault("called", NO_PROFILER)
        finally:
            sys.setprofile(None)
    except BaseException as error:  # SystemExit too, so a student's code can't end the notebook
        box.setdefault("error", error)


def _codes(forbidden):
    """{code object: message} for the forbidden functions, for one_page.py, and for the numeric gradient."""
    functions = (*forbidden, gradcheck.numerical_gradient, gradcheck.check_pair)
    unwrapped = (inspect.unwrap(getattr(function, "func", function)) for function in functions)  # partial, and fused
    message = "It calls {}, which is the answer itself: write it out from the equation."
    page = "It calls {} of one_page.py: write it out from the equation."
    codes = {f.__code__: page.format(name) for name, f in inspect.getmembers(one_page, inspect.isfunction)}
    return codes | {f.__code__: message.format(f.__qualname__) for f in unwrapped if hasattr(f, "__code__")}


def _sentence(error):
    if isinstance(error, NotImplementedError):
        return NOT_WRITTEN
    if isinstance(error, RecursionError):
        return "It calls itself without end: what would stop the recursion?"
    frames = traceback.extract_tb(error.__traceback__)[1:]
    where = f" in its line `{frames[0].line}`" if frames and frames[0].line else ""
    message = (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")
    return f"It stopped with {type(error).__name__}{where}: {message}."
