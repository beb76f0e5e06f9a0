"""Right answers to the exercise of notebook 00, written in other ways than the notebook's."""

import math

import numpy as np


def coins_one_by_one(x):
    return [sum(math.log(0.5) for _ in sequence.ravel()) for sequence in x.swapaxes(0, 1)]


def coins_by_a_sum(x):
    return -np.log(2) * np.ones_like(x).sum(axis=(0, 2))


RIGHT = {"00.1": [coins_one_by_one, coins_by_a_sum]}
