"""Training: the loop, the optimiser, and the splitting of a batch over worker processes.

loop.py         train: epochs, batches, validation, early stopping
options.py      the options of a run
optim.py        clipping and Adam on flat vectors
state.py        the state of a run between two batches, from which it can be resumed
parallel.py     a batch split over workers, and the sum of their gradients
worker.py       a process that computes gradients of the same model
diagnosis.py    the cause of a loss that is not finite
interrupt.py    Ctrl-C and SIGTERM between two batches

Imports bounds/ and the rooms below. To add an option: a field of Options, with its help, in options.py, and its
use in loop.py.
"""

from tinyvrnn.training.loop import keeps_on_device, train
from tinyvrnn.training.options import PARTICLES, Options, chosen_for, default_text, described, recipe

__all__ = ["PARTICLES", "Options", "chosen_for", "default_text", "described", "keeps_on_device", "recipe", "train"]
