"""The course: exercises, graders, a student's progress, and tools for the notebooks.

tv.course.check("06.1", my_function)      grades an answer
tv.course.case("06.1")                    returns the arguments on which it failed
tv.course.mine("06.1")                    returns your own function that passed
tv.course.show(tv.nn.gru.gru_forward)     shows the source of one function
tv.course.explore(model)                  moves a trained model's latents: a picture, and sliders
tinyvrnn course start FOLDER              makes a folder to work in; status: passed and remaining exercises

exercises/        the exercises of each chapter, one module a chapter
exercise.py       Task and Prediction, the two kinds of exercise
grader.py         grades an answer and explains mistakes
sandbox.py        runs a student's function with limits
tampering.py      detects replaced functions of NumPy and of this package
array_trees.py    nested arguments and results
kept.py           keeps passed functions, and finds them again
progress.py       the file with a student's progress
submissions.py    grades folders of submitted notebooks
notebook_file.py  reads notebooks without running them
marks.py          the table of marks, and its forms for Moodle and Canvas
boxed.py, box.py  the two ends of a pipe to a submission's process, which is kept apart
device.py         the grader's own device, for notebook 10
lab.py            makes a student's folder
explorer.py       the latent explorer
source.py         the source of a function, for `show`
museum.py         the bug museum of notebook 11: right and wrong versions, and checks

Imports the whole package except cli/. To add an exercise: an entry in exercises/chNN.py, its cells in notebooks/src/,
and answers in tests/answers/.
"""

import numpy as np

from tinyvrnn.course import progress, tampering
from tinyvrnn.course.array_trees import map_arrays
from tinyvrnn.course.exercise import Task
from tinyvrnn.course.exercises import EXERCISES, NOTEBOOKS, chapter_of, exercise_number
from tinyvrnn.course.grader import Passed, grade
from tinyvrnn.course.kept import keep, mine
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.course.source import show
from tinyvrnn.errors import ConfigError, shown

__all__ = ["EXERCISES", "NOTEBOOKS", "NotYet", "case", "check", "explore", "mine", "show", "status"]

_cases: dict = {}  # {number: the arguments on which the latest check failed}


def check(number: str, answer: object) -> Passed:
    """Grade an answer, and record the attempt in the student's progress.

    Parameters
    ----------
    number : str
        Of the exercise, such as "07.2".
    answer : object
        A function, or a value for a prediction.

    Returns
    -------
    Passed
        Displays as a green line with the errors.

    Raises
    ------
    NotYet
        The answer is not right yet; an AssertionError with a hint.
    ConfigError
        The number is unknown.
    """
    number = exercise_number(number)
    try:
        passed = grade(number, EXERCISES[number], answer)
    except NotYet as error:
        progress.record(number, False)
        how = "" if error.case is None else f' (The arguments: tv.course.case("{number}").)'
        _cases[number] = error.case
        raise NotYet(f"{number} {EXERCISES[number].title}: {error}{how}", error.case) from None
    progress.record(number, True)
    if isinstance(EXERCISES[number], Task):
        why = keep(number, answer)
        if why:
            return passed._replace(figures=f"{passed.figures} (Not kept for other notebooks: {why.rstrip('.')}.)")
    return passed


def case(number):
    """A copy of the arguments on which the latest check of an exercise failed; raises ConfigError if none did."""
    number = exercise_number(number)
    if _cases.get(number) is None:
        raise ConfigError(f"No call of an answer to {number} has failed in this session: check an answer first.")
    return map_arrays(np.copy, _cases[number])


def explore(model, **options):
    """A picture, and in a notebook sliders, of the effect of a model's latents; see `course.explorer.explore`."""
    from tinyvrnn.course import explorer  # imports matplotlib, which check and status do not need

    return explorer.explore(model, **options)


def status():
    """The progress as text: a line for each notebook, with its remaining exercises."""
    known, lines = progress.read(), []
    for notebook, title in NOTEBOOKS.items():
        numbers = [number for number in EXERCISES if chapter_of(number) == notebook]
        done = [number for number in numbers if known.get(number, {}).get("passed")]
        if numbers:
            left = ", ".join(number for number in numbers if number not in done) or "-"
            bar = "■" * len(done) + "□" * (len(numbers) - len(done))
            lines.append(f"{notebook} {title:<34} {bar:<6} {len(done)} of {len(numbers)}   left: {left}")
    total = sum(bool(known.get(number, {}).get("passed")) for number in EXERCISES)
    return "\n".join([*lines, f"{total} of {len(EXERCISES)} exercises passed; kept in {shown(progress.path())}"])


tampering.remember()
