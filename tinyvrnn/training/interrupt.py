"""Defers Ctrl-C, and the signals of a job scheduler, to the end of a batch, where the run can be saved."""

import signal
import sys
import threading
from contextlib import suppress

from tinyvrnn.io.streams import Steady

DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):  # Windows has none
    DEFAULTS[signal.SIGHUP] = signal.SIG_DFL
TASKS = ("asyncio", "ipykernel")  # their handlers cancel a task, which has no effect before the training ends


class Interrupted(KeyboardInterrupt):
    """A signal, of this number, stopped the training."""

    def __init__(self, message, number):
        super().__init__(message)
        self.number = number


class Interrupt:
    """Context: the first signal sets `noted`, so the loop can stop after a batch; Ctrl-C after it interrupts at once.

    Signals that are ignored, as under nohup, or that the user's program handles are left alone.
    """

    def __init__(self):
        self.noted = False
        self.awaited, self.before = "this batch", {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # only this thread receives signals
            for number, default in DEFAULTS.items():
                handler = signal.getsignal(number)
                module = getattr(getattr(handler, "func", handler), "__module__", "")
                if handler == default or str(module).startswith(TASKS):
                    self.before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.noted = self.noted or number
        is_ours = number == signal.SIGINT
        more = "; press Ctrl-C again to stop at once" if is_ours else f", as {signal.Signals(number).name} asks"
        with suppress(RuntimeError):  # it interrupted another print
            print(f"Stopping after {self.awaited}{more}.", file=Steady(sys.stderr), flush=True)
