"""Readers of users' files: the ending of a file, or of the files in a folder, selects one from a table.

content.py      Content, the result of every reader, and what readers share: a file's bytes, a folder's files, a split
arrays.py       .npy and .npz
pianoroll.py    piano rolls as .json, .pickle or .mat
pickles.py      pickles of lists of numbers, without Python's unpickler
mat.py          .mat, read in a separate process
sound.py        .wav and NIST SPHERE
table.py        folders of .csv
iamondb.py      IAM-OnDB's handwritten lines

Imports errors.py, io/, arrays/ and the rest of data/ only. To add a format: a module whose `read` returns Content or
raises DataError, its ending in FILES or FOLDERS, its name in FORMS, a target in tests/fuzz/targets.py and a section in
docs/data.md.
"""

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
    """Content of a user's file or folder. Raises DataError, one sentence, if it can't be read."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file or folder, but {FORMS} is needed: check the path")
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
        found = "several of them" if readers else "none of them"
        raise DataError(f"{folder} is not a folder of files of one format, as it holds {found}: give {FORMS}")
    content = readers.pop()(files, split_by_folder(folder, files), name)
    return content._replace(source=f"the folder {name}, {len(files)} files")
