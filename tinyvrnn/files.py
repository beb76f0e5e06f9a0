"""Files that are whole or not there at all."""

import os
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def write_atomically(path, write):
    """Calls write(file) on a temporary file beside `path`, flushes it to the disk and renames it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # not tempfile's, which only its owner may read
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def one_at_a_time(path):
    """Context: whoever reads and writes `path` in here is alone with it, among processes and threads; others wait.

    The file beside it that they wait for is left there: to remove it would let two of them in. Where the system knows
    no such lock, nobody waits. Raises OSError where it can't be made.
    """
    with open(path.with_name(f".{path.name}.lock"), "a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
