"""Runs a student's function so that whatever it does becomes a sentence: errors, endless loops, calls of the answer."""

import ctypes
import sys
import threading
import traceback
import warnings

from tinyvrnn import gradcheck
from tinyvrnn.errors import TinyvrnnError

SECONDS = 20


class NotYet(TinyvrnnError, AssertionError):
    """An answer that is not right yet. A notebook shows its message alone, without a traceback."""

    def _render_traceback_(self):
        return [f"\x1b[31m✗ {self}\x1b[0m"]


class _Stopped(BaseException):
    """Raised inside the student's thread."""


def run(function, arguments, forbidden=(), seconds=SECONDS):
    """function(*arguments). Raises NotYet for an exception, an endless run or recursion, and a forbidden call.

    The call has a thread of its own, which can be stopped; a profiler in it sees every Python function that is entered.
    """
    box = {}
    thread = threading.Thread(target=_call, args=(box, function, arguments, _codes(forbidden)), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Stopped))
        raise NotYet(f"It was still running after {seconds} s: look for a loop whose end never comes.")
    if "called" in box:
        raise NotYet(box["called"])
    if "error" in box:
        raise NotYet(_sentence(box["error"]))
    return box["result"]


def _call(box, function, arguments, codes):
    def watch(frame, event, _):
        if event == "call" and frame.f_code in codes:
            name = frame.f_code.co_qualname
            box["called"] = f"It calls {name}, which is the answer itself: write it out from the equation."
            raise _Stopped

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.setprofile(watch)
            try:
                box["result"] = function(*arguments)
                if sys.getprofile() is not watch:
                    box.setdefault("called", "It switches off what watches it (sys.setprofile): leave that line out.")
            finally:
                sys.setprofile(None)
    except BaseException as error:  # SystemExit too: nothing a student's code raises may end the notebook
        box.setdefault("error", error)


def _codes(forbidden):
    """Code objects of the forbidden functions, and of the numeric gradient, which is the check and not the answer."""
    functions = (*forbidden, gradcheck.numerical_gradient, gradcheck.check_pair)
    unwrapped = (getattr(function, "func", function) for function in functions)  # of a functools.partial
    return {function.__code__ for function in unwrapped if hasattr(function, "__code__")}


def _sentence(error):
    if isinstance(error, NotImplementedError):
        return "Not written yet: put your own lines where the stub stands."
    if isinstance(error, RecursionError):
        return "It calls itself without end: what would stop the recursion?"
    frames = traceback.extract_tb(error.__traceback__)[1:]
    where = f" in its line `{frames[0].line}`" if frames and frames[0].line else ""
    said = str(error).strip().splitlines()
    return f"It stopped with {type(error).__name__}{where}: {said[0] if said else 'no message'}."
