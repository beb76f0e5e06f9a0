"""Layers as forward/backward pairs, independent of any model. Functions act on the last axis of their arrays.

activations.py   relu, tanh, sigmoid, softplus, log_softmax
linear.py        the linear layer, and matrix products over all leading axes
mlp.py           the multi-layer perceptron
gru.py, lstm.py  one step of a recurrent cell
cells.py         the table of cells, and the interface that loops over time use
recurrence.py    the loop of one cell over time

Imports errors.py and arrays/ only. To add a layer: a pair `f_forward`, `f_backward`, an entry in PAIRS
(gradcheck/all_pairs.py) and a page in docs/derivations/. To add a recurrent cell: also an entry in cells.py.
"""
