"""Readers of what users bring: a path is looked up in one table, by its ending or by what a folder holds."""

from tinyvrnn.data.readers import arrays, pianoroll
from tinyvrnn.data.readers.content import SPLITS, Content, at_random
from tinyvrnn.errors import DataError

__all__ = ["ENDINGS", "FORMS", "SPLITS", "Content", "at_random", "read"]

FILES = {
    ".npy": arrays.read,
    ".npz": arrays.read,
    ".json": pianoroll.read_json,
    ".pickle": pianoroll.read_pickle,
    ".pkl": pianoroll.read_pickle,
    ".mat": pianoroll.read_mat,
}
ENDINGS = tuple(FILES)
FORMS = "a .npy or .npz file, or piano rolls as .json, .pickle or .mat"


def read(path):
    """Content of a user's file or folder. Raises DataError, one sentence, for what can't be read so."""
    if not path.is_file():
        raise DataError(f"{path} is not there or not a file, but {FORMS} is needed: check the path")
    return FILES.get(path.suffix.lower(), arrays.read)(path)
