"""The exercises that a student has passed, in a file in TINYVRNN_HOME, the folder that one works in, or ~/.tinyvrnn."""

import json
import os

from tinyvrnn.errors import ConfigError
from tinyvrnn.io.files import given_path, one_at_a_time, write_atomically

FOLDER = ".tinyvrnn"  # in the folder that `course start` makes, or in the home folder
RENUMBERED = {"09.4": "14.1", "09.5": "14.2", "09.6": "14.3"}  # since the first edition; old numbers are not used again


def path():
    """Path of the progress file. Raises ConfigError if there is no home folder."""
    own = os.path.abspath(FOLDER) if os.path.isdir(FOLDER) else f"~/{FOLDER}"
    return given_path(os.environ.get("TINYVRNN_HOME") or own) / "course.json"


def read():
    """{"07.2": {"passed": bool, "tries": int}, ...}; empty if there is no valid file."""
    try:
        entries = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # also a ConfigError
        return {}
    valid = isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values())
    return {current(number): entries[number] for number in sorted(entries, key=_passed(entries))} if valid else {}


def current(number):
    """The number that an exercise has now."""
    return RENUMBERED.get(number, number)


def _passed(entries):
    """A key that sorts passed exercises last, so that of an old and a new number the passed one counts."""
    return lambda number: entries[number].get("passed") is True


def record(number, passed):
    """Count a try. A passed exercise stays passed. Failing to write the file is ignored, so it never fails a check."""
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path()):  # two notebooks at once could lose a try or a pass
            known = _counted(read(), number, passed)
            write_atomically(path(), lambda file: file.write(json.dumps(known, indent=1, sort_keys=True).encode()))
    except (OSError, ConfigError):
        pass


def _counted(known, number, passed):
    before, tries = known.get(number, {}), known.get(number, {}).get("tries")
    return known | {
        number: {
            "passed": passed or before.get("passed") is True,
            "tries": 1 + (tries if isinstance(tries, int) else 0),
        }
    }
