"""What an exercise of the course is: a function to write or mend, or a prediction to make."""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A wrong answer that students give, and what to tell them: a hint to the cause, never the answer."""

    message: str
    answer: object  # of a Task: a function like the reference; of a Prediction: a value


class Task(NamedTuple):
    """An exercise whose answer is a function: write it, derive what it computes, or mend its bug.

    `draw(rng)` returns the arguments of one call: float64 arrays, and dicts, tuples and NamedTuples of them; sizes,
    leading axes and lengths should differ from draw to draw. `reference(*arguments)` is the right result: an array, or
    arrays in tuples and dicts. `names` are those of a tuple's items. `forbidden`: functions that would be the answer.
    """

    title: str
    kind: str  # "write", "derive" or "bug"
    reference: object
    draw: object
    names: tuple
    mistakes: tuple
    forbidden: tuple = ()
    points: int = 2
    tol: float = 1e-7  # relative to the largest entry of an array, in float64


class Prediction(NamedTuple):
    """An exercise whose answer is a value, given before the cell is run that shows it.

    `truth()` computes the right value: a number, a word, a set of words, or a sequence of them, whose order counts.
    """

    title: str
    truth: object
    mistakes: tuple
    kind: str = "predict"
    points: int = 1
    tol: float = 0.0  # relative, of a number
