"""Readers of users' files: the ending of a file, or of the files in a folder, selects one from a table.

content.py      Content, the result of every reader, and what readers share: a file's bytes, a folder's files, a split
arrays.py       .npy and .npz, folders of .npy
pianoroll.py    piano rolls as .json, .pickle or .mat
pickles.py      pickles of lists and arrays of numbers, which can call nothing
mat.py          .mat, read in a separate process
sound.py        .wav, FLAC, Ogg and NIST SPHERE
midi.py         folders of MIDI files, as piano rolls
text.py         .txt
table.py        folders of .csv
iamondb.py      IAM-OnDB's handwritten lines

Imports errors.py, io/, arrays/ and the rest of data/ only. To add a format: a module whose `read` returns Content or
raises DataError, its ending in FILES or FOLDERS, its name in FORMS, a target in tests/fuzz/targets.py and a section in
docs/data.md.
"""

from tinyvrnn.data.readers import arrays, iamondb, midi, pianoroll, sound, table, text
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
FOLDERS = dict.fromkeys((".wav", ".sph", ".flac", ".ogg", ".opus"), sound.read) | {
    ".csv": table.read,
    ".npy": arrays.read_folder,
    ".mid": midi.read,
    ".midi": midi.read,
    ".txt": text.read,
}  # a sequence a file: (files, split, name, medium) -> Content
ENDINGS = (*FILES, *FOLDERS)
FORMS = (
    "a .npy, .npz or .txt file, piano rolls as .json, .pickle or .mat, or a folder of sounds (.wav, .flac, .ogg, .opus "
    "or .sph), of .mid, .csv, .npy or .txt files or of IAM-OnDB"
)


def read(path, medium=None):
    """Content of a user's file or folder. Raises DataError, one sentence, if it can't be read.

    medium: of a model, or what is known of it: text is read with its alphabet, MIDI in its steps_per_quarter.
    """
    if path.is_dir():
        return _read_folder(path, medium or {})
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file or folder, but {FORMS} is needed: check the path")
    ending = path.suffix.lower()
    if ending in FILES or ending not in FOLDERS:
        return FILES.get(ending, arrays.read)(path)
    return _named(f"the file {path.name}", FOLDERS[ending]([path], None, path.name, medium or {}))


def _named(source, content):
    return content._replace(source="; ".join(filter(None, (source, content.source))))


def _read_folder(folder, medium):
    if iamondb.is_there(folder):
        return iamondb.read(folder)
    files, name = files_of(folder, FOLDERS), folder.resolve().name
    if any(path.suffix.lower() != ".txt" for path in files):  # text beside other data is about them, as in TIMIT
        files = [path for path in files if path.suffix.lower() != ".txt"]
    readers = {FOLDERS[path.suffix.lower()] for path in files}
    if len(readers) != 1:
        found = "several of them" if readers else "none of them"
        raise DataError(f"{folder} is not a folder of files of one format, as it holds {found}: give {FORMS}")
    content = readers.pop()(files, split_by_folder(folder, files), name, medium)
    return _named(f"the folder {name}, {len(files)} files", content)
