"""The exercises that a student has passed, in a file in TINYVRNN_HOME, the folder that one works in, or ~/.tinyvrnn."""

import json
import os
from contextlib import suppress
from itertools import count

from tinyvrnn.errors import ConfigError, shown
from tinyvrnn.io.files import given_path, one_at_a_time, write_atomically

FOLDER = ".tinyvrnn"  # in the folder that `course start` makes, or in the home folder
RENUMBERED = {"09.4": "14.1", "09.5": "14.2", "09.6": "14.3"}  # since the first edition; old numbers are not used again


def path():
    """Path of the progress file. Raises ConfigError if there is no home folder."""
    own = os.path.abspath(FOLDER) if os.path.isdir(FOLDER) else f"~/{FOLDER}"
    return given_path(os.environ.get("TINYVRNN_HOME") or own) / "course.json"


def read():
    """{"07.2": {"passed": bool, "tries": int}, ...}; empty if there is no valid file. A damaged one is set aside."""
    try:
        text = path().read_bytes()
    except (OSError, ConfigError):
        return {}
    try:
        entries = json.loads(text)
        passed_last = sorted(entries, key=lambda number: entries[number].get("passed") is True)
        return {current(number): entries[number] for number in passed_last}  # a pass counts under its old number too
    except Exception:  # it can hold anything
        _set_aside()
        return {}


def _set_aside():
    """Rename a damaged file, so that the next passed check does not overwrite it, and say so."""
    places = (path().with_name(f"course.damaged-{k}.json") for k in count(1))
    place = next(place for place in places if not place.exists())
    with suppress(OSError):
        path().rename(place)
        print(f"{shown(path())} is damaged: it is now {shown(place.name)}, and your progress starts from zero.")


def current(number):
    """The number that an exercise has now."""
    return RENUMBERED.get(number, number)


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
