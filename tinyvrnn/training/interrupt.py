"""Defers Ctrl-C to the end of a batch, where the run can be saved."""

import signal
import sys
import threading


class Interrupt:
    """Context: the first Ctrl-C sets `noted`, so the loop can stop after a batch; a second one interrupts at once."""

    def __init__(self):
        self.noted = False

    def __enter__(self):
        is_main = threading.current_thread() is threading.main_thread()  # only this thread receives signals
        self.before = signal.getsignal(signal.SIGINT) if is_main else None
        if self.before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception):
        if self.before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, *signal_and_frame):
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
        print("Stopping after this batch; press Ctrl-C again to stop at once.", file=sys.stderr)
