"""Atomic writes of a file or of several, and a lock for read-modify-write."""

import os
import secrets
import shutil
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from tinyvrnn.errors import ConfigError


def given_path(given, kind=ConfigError):
    """The Path that a person gave, with ~ expanded. Raises `kind`, one sentence, if no file or folder can have it."""
    try:
        path = Path(os.fsdecode(given)).expanduser()
        reason = "" if os.fsdecode(given) else "it is empty"
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long, a path through a file, a loop of links
        reason = error.strerror
    except RuntimeError:
        reason = "no home folder is known for its ~; write it in full, begin a name with ./~, or set HOME"
    except (TypeError, ValueError) as error:  # no path, or with characters that no path can have
        reason = str(error)
    if reason:
        raise kind(f"The path {str(given)!r:.200} can't be used: {reason}.")
    return path


def is_within(path, place):
    """Whether `path` is the file or folder `place`, or lies in it."""
    there = [one for one in (path, *path.resolve().parents) if one.exists() and os.path.exists(place)]
    return any(one.samefile(place) for one in there)


BROWSER = sys.platform == "emscripten"
RETRIES = 20 if sys.platform == "win32" else 0  # Windows replaces no file that a viewer or a virus scanner has open


def replace(new, path):
    """os.replace, tried for a second where another program's open file can prevent it."""
    for _ in range(RETRIES):
        with suppress(PermissionError):
            return os.replace(new, path)
        time.sleep(0.05)
    os.replace(new, path)


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
        replace(temporary, path)
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
            with suppress(FileExistsError):
                (new / name).mkdir()  # a folder stands for no file
        replace(new, folder / WRITTEN)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settle(folder):
    """Move what `replace_together` has completed to its place. Only for a process that has the folder to itself."""
    for path in (folder / WRITTEN).glob("*"):
        if path.is_dir():
            (folder / path.name).unlink(missing_ok=True)
            path.rmdir()
        else:
            replace(path, folder / path.name)
    with suppress(FileNotFoundError):
        (folder / WRITTEN).rmdir()


def located(folder, name):
    """The path of a file of a folder, which may not be in its place yet."""
    path = folder / WRITTEN / name
    return path if path.exists() else folder / name


def one_at_a_time(path):
    """Context: exclusive access to `path`; others that use it wait. Raises OSError if no lock can be made beside it."""
    return lock(path.with_name(f".{path.name}.lock"), poll_interval=0.01)


def lock(path, **options):
    """A FileLock on the file `path`. In a browser, which has one process that a lock would outlive, Unlocked."""
    if BROWSER:
        return Unlocked()
    from filelock import FileLock  # imported where it is used, for a fast start

    return FileLock(path, **options)


class Unlocked(nullcontext):
    """A lock that locks nothing."""

    is_locked = False
    acquire = release = staticmethod(lambda **options: None)
