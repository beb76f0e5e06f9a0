"""Ctrl-C between two batches, where a run can be saved, and not in the middle of a step."""

import signal
import sys
import threading


class Interrupt:
    """Context: the first Ctrl-C is only noted, for the loop to stop where it may; a second one stops at once."""

    def __init__(self):
        self.noted = False

    def __enter__(self):
        own = threading.current_thread() is threading.main_thread()  # signals reach no other thread
        self.before = signal.getsignal(signal.SIGINT) if own else None
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
        print("Stopping after this batch; Ctrl-C once more stops at once.", file=sys.stderr)
