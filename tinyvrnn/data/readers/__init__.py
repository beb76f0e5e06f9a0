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
foreign.py      what files of other forms are, and how to convert them
iamondb.py      IAM-OnDB's handwritten lines

Imports errors.py, io/, arrays/ and the rest of data/ only. To add a format: a module whose `read` returns Content or
raises DataError, its ending in FILES or FOLDERS, its name in FORMS, a target in tests/fuzz/targets.py and a section in
docs/data.md.
"""

from itertools import chain

from tinyvrnn.data.readers import arrays, foreign, iamondb, midi, pianoroll, sound, table, text
from tinyvrnn.data.readers.content import SPLITS, at_random, cut, files_of, split_by_folder, unused_lists, with_split
from tinyvrnn.errors import DataError, counted

FILES = {
    **dict.fromkeys(foreign.ARRAYS, arrays.read),
    **dict.fromkeys((".json", *foreign.PICKLES), pianoroll.read_lists),
    ".mat": pianoroll.read_mat,
}
FOLDERS = {  # a sequence a file: (files, split, name, medium) -> Content
    **dict.fromkeys(foreign.SOUNDS, sound.read),
    **dict.fromkeys((".csv", ".tsv"), table.read),
    ".npy": arrays.read_folder,
    **dict.fromkeys((".mid", ".midi"), midi.read),
    ".txt": text.read,
}
ENDINGS = (*FILES, *FOLDERS)
FORMS = (
    "a .npy, .npz, .csv, .tsv or .txt file, piano rolls as .json, .pickle or .mat, or a folder of sounds (.wav, .flac, "
    ".ogg, .opus or .sph), of .mid, .csv, .tsv, .npy or .txt files or of IAM-OnDB"
)


def read(path, medium):
    """Content of a user's file or folder. Raises DataError, one sentence, if it can't be read.

    medium: of a model, or what is known of it: text is read with its alphabet, MIDI in its steps_per_quarter.
    """
    if path.is_dir():
        return _read_folder(path, medium)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file or folder, but {FORMS} is needed: check the path")
    ending = path.suffix.lower()
    foreign.check_kind(path, ENDINGS, FORMS)
    if ending in FILES or ending not in FOLDERS:
        return FILES.get(ending, arrays.read)(path)
    return _named(f"the file {path.name}", FOLDERS[ending]([path], None, path.name, medium))


def _named(source, content):
    return content._replace(source="; ".join(filter(None, (source, content.source))))


def _read_folder(folder, medium):
    if (folder / "lineStrokes").is_dir():
        return iamondb.read(folder)
    (files, others), name = files_of(folder, FOLDERS), folder.resolve().name
    by_reader = {}
    for path in files:
        by_reader.setdefault(FOLDERS[path.suffix.lower()], []).append(path)
    about = by_reader.pop(text.read) if text.read in by_reader and len(by_reader) > 1 else []  # as in TIMIT
    few = 0 < 2 * len(by_reader.get(table.read, ())) < sum(map(len, by_reader.values()))  # as in MAESTRO
    tables = by_reader.pop(table.read) if few else []
    files, others = [*chain(*by_reader.values())], others + about + tables
    left = [path for path in others if path.suffix.lower() in foreign.LINES]
    for path in files or left[:1]:
        foreign.check_kind(path, ENDINGS, FORMS)
    if len(by_reader) != 1:
        found = " and ".join(own[0].name for own in by_reader.values()) or "none of them"
        raise DataError(f"{folder} is not a folder of files of one format, as it holds {found}: give {FORMS}")
    content = [*by_reader][0](files, split_by_folder(folder, files), name, medium)
    skipped = {"is not of a form that is read": left, "is left out beside other data": tables}
    unread = [f"{own[0].name} {why}, {counted(len(own), 'such file')} in all" for why, own in skipped.items() if own]
    notes = (*content.notes, *unread, *unused_lists(others), *_twins(files))
    return _named(f"the folder {name}, {counted(len(files), 'file')}", content._replace(notes=notes))


def _twins(files):
    """A note on files whose names differ in their endings only, as x.wav and x.WAV.wav."""
    known = {}
    for path in files:
        stem = path
        while stem.suffix.lower() in ENDINGS:
            stem = stem.with_suffix("")
        known.setdefault(str(stem).lower(), []).append(path.name)
    twins = [" and ".join(names) for names in known.values() if len(names) > 1]
    return [f"{twins[0]} are named alike, {counted(len(twins), 'such name')} in all: remove copies"] if twins else []
