"""Atomic writes, and a lock for read-modify-write."""

import os

from filelock import FileLock


def write_atomically(path, write):
    """Call write(file) on a temporary file beside `path`, flush it to disk, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")  # tempfile's would be readable by its owner only
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def one_at_a_time(path):
    """Context: exclusive access to `path` among the processes and threads that use this function; others wait.

    The lock is a file beside `path`. Raises OSError if it can't be created.
    """
    return FileLock(path.with_name(f".{path.name}.lock"), poll_interval=0.01)
