"""Where what is made once is kept: a folder of the user's, or the one that an environment variable names."""

import os
from pathlib import Path

from tinyvrnn.errors import DataError

CACHE = "TINYVRNN_CACHE"


def cache_folder():
    """The folder that the environment variable TINYVRNN_CACHE names, else the user's cache folder."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    try:
        from platformdirs import user_cache_path
    except ImportError:
        raise DataError(
            f"the cache needs platformdirs: pip install platformdirs, or name a folder in {CACHE}"
        ) from None
    return user_cache_path("tinyvrnn")
