"""Data: ragged sequences, padded batches, the embedded data sets, a user's files, and baselines.

load.py         Data, load_data, and the cards of the embedded sets and of bach
sequences.py    Sequences in one array, on the host or a device, and the padded batches made of them
mapped.py       the same interface for sequences that stay in a memory-mapped file
scale.py        standardising, and its effect on the units of a log-likelihood
baselines.py    closed-form log-likelihoods to compare a model with
bach.py         the chorales of the package music21 as piano rolls
cache.py        the folder for files that are built once
readers/        one module per file format
embedded/       the embedded sets, written by scripts/build_data.py

Imports errors.py, io/ and arrays/ only. To add an embedded set: a builder in scripts/build_data.py and a Card in
load.py. To add a file format: see readers/__init__.py.
"""

from tinyvrnn.data.baselines import baselines
from tinyvrnn.data.load import NAMES, Data, check_suits, embedded, load_data, name_of, read_like, read_sequences
from tinyvrnn.data.readers import FORMS, SPLITS
from tinyvrnn.data.scale import SCALES, in_unit_interval, is_binary, standardised
from tinyvrnn.data.sequences import Resident, Sequences, batches, in_order_of_length, pad

__all__ = ["baselines", "batches"]  # the stable names; the other rooms import the others
