"""Standard output and standard error that can break, lack characters, or be missing."""

import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # flags of a process: Windows would open a console for it


class Steady:
    """A stream that never raises: characters that its encoding lacks become escapes, and a broken one drops all text.

    error: the OSError that broke the stream, or None.
    """

    def __init__(self, stream):
        self._stream, self.error = stream, None

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        known = text.encode(encoding, "backslashreplace").decode(encoding)
        self._try(lambda: self._stream.write(known))

    def flush(self):
        self._try(lambda: self._stream.flush())

    def isatty(self):
        return bool(self._try(lambda: self._stream.isatty()))

    def _try(self, act):
        try:
            return act()
        except OSError as error:  # also drop the text that it still holds, which would fail again when Python ends
            self.error = self.error or error
            with suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except (ValueError, AttributeError):  # closed, or None
            pass


@contextmanager
def steady_streams():
    """Context: standard output and error are Steady; its value is the first. A missing stream becomes the null device.

    Otherwise the next files that are opened would take its number, and what C code prints would end in those files.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
            os.set_inheritable(getattr(sys, name).fileno(), True)
    with redirect_stdout(Steady(sys.stdout)) as out, redirect_stderr(Steady(sys.stderr)) as err:
        try:
            yield out
        finally:
            out.flush()
            err.flush()


def bar(items=None, **options):
    """A tqdm progress bar on standard error, which may break; one line a minute where that is no terminal."""
    from tqdm import tqdm  # imported where it is used, for a fast start

    stream = Steady(sys.stderr)
    if not stream.isatty():
        options |= {"mininterval": 60, "maxinterval": 600}
    unwatched = type("Bar", (tqdm,), {"monitor_interval": 0})  # by no thread, as a browser has none
    return unwatched(items, file=stream, **options)
