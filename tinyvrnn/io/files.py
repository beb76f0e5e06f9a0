"""Files that are whole or not there at all."""

import os

from filelock import FileLock


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


def one_at_a_time(path):
    """Context: whoever reads and writes `path` in here is alone with it, among processes and threads; others wait.

    They wait for a file beside it. Raises OSError where that can't be made.
    """
    return FileLock(path.with_name(f".{path.name}.lock"), poll_interval=0.01)
