"""Files that are whole or not there at all."""

import os


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
