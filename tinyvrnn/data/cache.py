"""The folder for files that are built once: the one named by TINYVRNN_CACHE, or the user's cache folder."""

import os

from tinyvrnn.errors import DataError
from tinyvrnn.io.files import given_path

CACHE = "TINYVRNN_CACHE"


def cache_folder():
    """The folder named by the environment variable TINYVRNN_CACHE, else the user's cache folder."""
    if os.environ.get(CACHE):
        return given_path(os.environ[CACHE], DataError)
    try:
        from platformdirs import user_cache_path

        return given_path(user_cache_path("tinyvrnn"), DataError)
    except ImportError:
        raise DataError(f"the cache needs platformdirs: pip install platformdirs, or set {CACHE} to a folder") from None
    except RuntimeError:
        raise DataError(f"the cache needs a home folder, and none is known: set {CACHE} to a folder") from None
