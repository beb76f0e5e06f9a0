"""Training: the loop, the optimiser, and the splitting of a batch over worker processes.

loop.py         train: epochs, batches, validation, early stopping
options.py      the options of a run
optim.py        clipping and Adam on flat vectors
state.py        the state of a run between two batches, from which it can be resumed
parallel.py     a batch split over workers, and the sum of their gradients
worker.py       a process that computes gradients of the same model
diagnosis.py    the cause of a loss that is not finite
interrupt.py    Ctrl-C between two batches

Imports bounds/ and the rooms below. To add an option: options.py, the loop, and its argument in cli.py.
"""
