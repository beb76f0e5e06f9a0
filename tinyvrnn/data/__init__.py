"""The data room: ragged sequences, padded batches, embedded sets, a user's files, and baselines."""

from tinyvrnn.data.baselines import baselines
from tinyvrnn.data.load import (
    NAMES,
    Data,
    check_rate,
    check_suits,
    embedded,
    load_data,
    read_like,
    read_sequences,
)
from tinyvrnn.data.readers import FORMS, SPLITS
from tinyvrnn.data.scale import SCALES, in_unit_interval, standardised
from tinyvrnn.data.sequences import Sequences, batches, in_order_of_length, pad

__all__ = [
    "FORMS",
    "NAMES",
    "SCALES",
    "SPLITS",
    "Data",
    "Sequences",
    "baselines",
    "batches",
    "check_suits",
    "embedded",
    "in_order_of_length",
    "in_unit_interval",
    "load_data",
    "pad",
    "check_rate",
    "read_like",
    "read_sequences",
    "standardised",
]
