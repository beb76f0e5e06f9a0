"""Standard output and standard error that may break, as when Ctrl-C also ends the `tee` that reads them."""

import os
from contextlib import suppress


class Steady:
    """A stream whose text is dropped, instead of raising, once it is broken or closed, or if it is None."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._try(lambda: self._stream.write(text))

    def flush(self):
        self._try(lambda: self._stream.flush())

    def _try(self, act):
        try:
            act()
        except OSError:  # also drop the text that it still holds, which would fail again when Python ends
            with suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except (ValueError, AttributeError):  # closed, or None
            pass
