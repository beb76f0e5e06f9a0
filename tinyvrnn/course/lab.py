"""A student's own folder: the notebooks without solutions, and the progress."""

from importlib.metadata import files
from itertools import count

from tinyvrnn.course.progress import FOLDER
from tinyvrnn.course.source import ROOT
from tinyvrnn.errors import ConfigError
from tinyvrnn.io.files import given_path, is_within, write_atomically


def start(folder):
    """Make a folder to work in. Returns the paths of the notebooks that it gets.

    In a folder that has them, nothing is changed: a notebook of a new edition is written beside the student's own, as
    06_backward_by_hand_1.edition-2.ipynb. Copies in .tinyvrnn/ tell which edition came last. Raises ConfigError if the
    folder is a file.
    """
    folder, written = given_path(folder), []
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a new folder, or the one that you work in.")
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    if (ROOT / ".git").exists() and is_within(folder, ROOT) and not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("*\n")  # work is no part of the package
    for notebook in _notebooks():
        data, last = notebook.read_bytes(), folder / FOLDER / notebook.name
        path = _place(folder / notebook.name, data)
        if path and (path.name == notebook.name or not last.exists() or last.read_bytes() != data):
            written.append(path)
            write_atomically(path, lambda file, data=data: file.write(data))
        write_atomically(last, lambda file, data=data: file.write(data))
    return written


def _place(path, data):
    """Where a notebook goes: the path itself, or beside it if it is taken; None if it has been written already."""
    for edition in count(1):
        place = path if edition == 1 else path.with_suffix(f".edition-{edition}{path.suffix}")
        if not place.exists():
            return place
        if place.read_bytes() == data:
            return None


def _notebooks():
    """The notebooks as they are handed out, of a checkout or of an installed package."""
    checkout = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
    if (ROOT / "setup.cfg").exists() and checkout:
        return checkout
    installed = files("tinyvrnn") or ()
    return sorted(file.locate() for file in installed if file.match("share/tinyvrnn/notebooks/*.ipynb"))
