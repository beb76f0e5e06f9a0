"""All exercises by number: the chapter's two digits, a dot, and the place in it."""

import importlib
import reprlib

from tinyvrnn.course import progress
from tinyvrnn.course.exercises.hard import HARD
from tinyvrnn.errors import ConfigError, unknown_name

NOTEBOOKS = {
    "00": "Start here",
    "01": "Sequences and the plain RNN",
    "02": "The bound for one step: the VAE",
    "03": "The generative story",
    "04": "The approximate posterior",
    "05": "The ELBO, line by line",
    "06": "Backward by hand I",
    "07": "Backward by hand II",
    "08": "Training",
    "09": "How tight is the bound?",
    "10": "One code, two backends",
    "11": "The bug museum",
    "12": "Speech, handwriting, music",
    "13": "Your VRNN",
    "14": "Tighter bounds",
}


def chapter_of(number):
    """ "07" of "07.2"."""
    return number.partition(".")[0]


def _chapters():
    for notebook in NOTEBOOKS:
        name = f"tinyvrnn.course.exercises.ch{notebook}"
        if importlib.util.find_spec(name):
            yield importlib.import_module(name)


EXERCISES = {number: exercise for chapter in _chapters() for number, exercise in chapter.EXERCISES.items()}
EXERCISES |= {number: EXERCISES[number]._replace(hard=hard) for number, hard in HARD.items()}


def exercise_number(number):
    """The number that an exercise has now. Raises ConfigError if there is none with this number."""
    if not isinstance(number, str):
        raise ConfigError(f'The number of an exercise is a text such as "06.1", got {reprlib.repr(number)}.')
    number = progress.current(number)
    if number in EXERCISES:
        return number
    padded = number.zfill(4)  # 6.1 is 06.1
    raise ConfigError(unknown_name("exercise", number, [padded] if padded in EXERCISES else EXERCISES))
