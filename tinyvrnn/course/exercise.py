"""The two kinds of exercise: a function to write or fix, and a prediction to make."""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A common wrong answer, and what to tell the student.

    message: a hint at the cause, never the answer.
    answer: for a Task a function like the reference, for a Prediction a value.
    """

    message: str
    answer: object


class Task(NamedTuple):
    """An exercise whose answer is a function: write it, derive what it computes, or fix its bug.

    title: names the exercise.
    kind: "write", "derive" or "bug".
    reference: reference(*arguments) is the right result, an array, or arrays in tuples and dicts.
    draw: draw(rng) returns the arguments of one call: float64 arrays, and dicts, tuples and NamedTuples of them. Sizes,
    leading axes and lengths should vary between draws.
    names: of the items of a tuple.
    mistakes: common wrong answers.
    forbidden: functions that the answer must not call, since they are the answer.
    points: for a right answer.
    tol: relative, for each entry, in float64.
    dtypes: whether the result must have the dtype of the arguments.
    hard: hard(rng) returns {what: arguments}, the hard cases (exercises/hard.py).
    """

    title: str
    kind: str
    reference: object
    draw: object
    names: tuple
    mistakes: tuple
    forbidden: tuple = ()
    points: int = 2
    tol: float = 1e-8
    dtypes: bool = False
    hard: object = None


class Prediction(NamedTuple):
    """An exercise whose answer is a value, given before running the cell that shows it.

    title, mistakes, kind, points: as in Task.
    truth: truth() computes the right value: a number, a word, a set of words, or an ordered sequence of these.
    tol: relative, for a number.
    next_cell: whether the notebook's next cell shows the right value.
    """

    title: str
    truth: object
    mistakes: tuple
    kind: str = "predict"
    points: int = 1
    tol: float = 0.0
    next_cell: bool = True
