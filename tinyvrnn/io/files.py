"""Atomic writes of a file or of several, and a lock for read-modify-write."""

import os
import secrets
import shutil
from contextlib import suppress

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


WRITING, WRITTEN = ".writing", ".written"  # new files of a folder: incomplete; complete, but not all in their places


def replace_together(folder, names, write):
    """Replace the files `names` of a folder, all at one moment, by those that write(new folder) makes; `settle` it."""
    new = folder / WRITING
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        write(new)
        for name in names:
            if not (new / name).exists():
                (new / name).mkdir()  # a folder stands for no file
        os.replace(new, folder / WRITTEN)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settle(folder):
    """Move what `replace_together` has completed to its place. Only for a process that has the folder to itself."""
    for path in (folder / WRITTEN).glob("*"):
        if path.is_dir():
            (folder / path.name).unlink(missing_ok=True)
            path.rmdir()
        else:
            os.replace(path, folder / path.name)
    with suppress(FileNotFoundError):
        (folder / WRITTEN).rmdir()


def located(folder, name):
    """The path of a file of a folder, which may not be in its place yet."""
    path = folder / WRITTEN / name
    return path if path.exists() else folder / name


def one_at_a_time(path):
    """Context: exclusive access to `path` among the processes and threads that use this function; others wait.

    The lock is a file beside `path`. Raises OSError if it can't be created.
    """
    return FileLock(path.with_name(f".{path.name}.lock"), poll_interval=0.01)
