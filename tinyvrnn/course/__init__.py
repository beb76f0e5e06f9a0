"""The course: its exercises, the graders, a student's progress, and the source of a function to read.

tv.course.check("06.1", my_function)      grades an answer
tv.course.show(tv.nn.gru.gru_forward)     shows the source of one function
tv.course.explore(model)                  moves a trained model's latents: a picture, and sliders
tinyvrnn course status                    prints what is passed and what is left
"""

from tinyvrnn.course import progress, tampering
from tinyvrnn.course.exercises import EXERCISES, NOTEBOOKS, chapter_of
from tinyvrnn.course.grader import grade
from tinyvrnn.course.sandbox import NotYet
from tinyvrnn.course.source import show
from tinyvrnn.errors import ConfigError, unknown_name

__all__ = ["EXERCISES", "NOTEBOOKS", "NotYet", "check", "explore", "show", "status"]


def check(number, answer):
    """Grades `answer` to the exercise `number`, e.g. "07.2": a function, or for a prediction a value.

    Returns what shows as a green line with the figures. Raises NotYet, an AssertionError whose message teaches, for
    an answer that is not right yet, and ConfigError for a number that no exercise has.
    """
    if number not in EXERCISES:
        raise ConfigError(unknown_name("exercise", number, EXERCISES))
    try:
        passed = grade(number, EXERCISES[number], answer)
    except NotYet as error:
        progress.record(number, False)
        raise NotYet(f"{number} {EXERCISES[number].title}: {error}") from None
    progress.record(number, True)
    return passed


def explore(model, **options):
    """A picture, and in a notebook sliders, of what a model's latents do: see `tinyvrnn.course.explorer.explore`."""
    from tinyvrnn.course import explorer  # needs matplotlib, which check and status do not

    return explorer.explore(model, **options)


def status():
    """The progress as text: a line for each notebook, and what is left in it."""
    known, lines = progress.read(), []
    for notebook, title in NOTEBOOKS.items():
        numbers = [number for number in EXERCISES if chapter_of(number) == notebook]
        done = [number for number in numbers if known.get(number, {}).get("passed")]
        if numbers:
            left = ", ".join(number for number in numbers if number not in done) or "-"
            bar = "■" * len(done) + "□" * (len(numbers) - len(done))
            lines.append(f"{notebook} {title:<34} {bar:<6} {len(done)} of {len(numbers)}   left: {left}")
    total = sum(bool(known.get(number, {}).get("passed")) for number in EXERCISES)
    return "\n".join([*lines, f"{total} of {len(EXERCISES)} exercises passed; kept in {progress.path()}"])


tampering.remember()
