"""The exercise of notebook 00, Start here: one line before any training."""

import numpy as np

from tinyvrnn.course.exercise import Mistake, Task


def coins(x):
    return np.full(x.shape[1], np.log(0.5) * x.shape[0] * x.shape[2], x.dtype)


def draw_pictures(rng):
    T, B, X = (int(size) for size in rng.permutation([2, 3, 4, 5])[:3])
    return (rng.integers(0, 2, (T, B, X)).astype(float),)


def times(factor):
    return lambda x: coins(x) * factor


COINS = Task(
    "fair coins",
    "write",
    coins,
    draw_pictures,
    ("log p(x)",),
    (
        Mistake("A probability below 1 has a negative logarithm: what is the sign of log(1/2)?", times(-1)),
        Mistake("That is in bits, with base 2: a nat has base e.", times(1 / np.log(2))),
        Mistake("That is the probability itself: return its logarithm.", lambda x: np.exp(coins(x))),
        Mistake("That is one row of X pixels: a sequence has T of them.", lambda x: coins(x[:1])),
        Mistake("That is one pixel: how many does a sequence have?", lambda x: coins(x[:1, :, :1])),
        Mistake(
            "That counts the pixels that are 1: a pixel that is 0 is a coin too.", lambda x: x.sum((0, 2)) * np.log(0.5)
        ),
        Mistake("That is one pixel in each row: a row has X of them.", lambda x: coins(x[:, :, :1])),
        Mistake(
            "That has B in place of X: every sequence has T rows of X pixels.",
            lambda x: coins(x) * x.shape[1] / x.shape[2],
        ),
        Mistake(
            "T and X are added: T rows of X pixels each are T times X pixels.",
            lambda x: coins(x) * sum(1 / n for n in x.shape[::2]),
        ),
        Mistake("That is the whole batch in each entry: return each sequence's own.", lambda x: coins(x) * x.shape[1]),
    ),
    points=1,
)

EXERCISES = {"00.1": COINS}
