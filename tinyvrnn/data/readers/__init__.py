"""Readers of what users bring: a path is looked up in one table, by its ending or by what a folder holds."""

from tinyvrnn.data.readers import arrays, iamondb, pianoroll, sound, table
from tinyvrnn.data.readers.content import SPLITS, Content, at_random, files_of, split_by_folder
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
FOLDERS = {
    ".wav": sound.read,
    ".sph": sound.read,
    ".csv": table.read,
}  # a sequence a file: (files, split, name) -> Content
ENDINGS = (*FILES, *FOLDERS)
FORMS = (
    "a .npy or .npz file, piano rolls as .json, .pickle or .mat, or a folder of .wav, .sph or .csv files or of IAM-OnDB"
)


def read(path):
    """Content of a user's file or folder. Raises DataError, one sentence, for what can't be read so."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise DataError(f"{path} is not there or not a file or folder, but {FORMS} is needed: check the path")
    ending = path.suffix.lower()
    if ending in FOLDERS:
        return FOLDERS[ending]([path], None, path.name)
    return FILES.get(ending, arrays.read)(path)


def _read_folder(folder):
    if iamondb.is_there(folder):
        return iamondb.read(folder)
    files, name = files_of(folder, FOLDERS), folder.resolve().name
    readers = {FOLDERS[path.suffix.lower()] for path in files}
    if len(readers) != 1:
        found = "more than one of these" if readers else "nothing of the kind"
        raise DataError(f"{folder} is not there or not a file or folder of one form, as it holds {found}: give {FORMS}")
    content = readers.pop()(files, split_by_folder(folder, files), name)
    return content._replace(source=f"the folder {name}, {len(files)} files")
