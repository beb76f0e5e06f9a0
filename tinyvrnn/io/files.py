"""Atomic writes, and a lock for read-modify-write."""

import os
import secrets

from filelock import FileLock


def write_atomically(path, write):
    """Call write(file) on a temporary file beside `path`, flush it to disk, and rename it to `path`."""
    # tempfile's would be readable by its owner only; "x" never writes through a file or link that is there already
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    file = open(temporary, "xb")
    try:
        with file:
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
