"""Files, damaged on purpose: whatever a reader makes of them, it ends in data or in one sentence."""

import re

import pytest

from tinyvrnn.data import load_data, read_sequences
from tinyvrnn.errors import DataError


def refused(path, message):
    """Expects that load_data refuses `path` in one sentence that `message` (a regular expression) matches."""
    with pytest.raises(DataError, match=message) as caught:
        load_data(path)
    assert_one_sentence(caught.value)


def assert_one_sentence(error):
    text = str(error)
    assert "\n" not in text and not re.search(r"\. [A-Z]", text) and len(text) < 400, f"not one sentence: {text}"


def read_or_refused(path):
    """Whether `path` is read; another error than DataError comes through, as does one that is not one sentence."""
    try:
        read_sequences(path)
    except DataError as error:
        assert_one_sentence(error)
        return False
    return True


def cut_short(path, sizes=None, folder=None):
    """The sizes at which the file at `path`, cut to so many bytes, was still read (or the folder that it is in)."""
    whole = path.read_bytes()
    read = []
    for size in range(len(whole)) if sizes is None else sizes:
        path.write_bytes(whole[:size])
        if read_or_refused(folder or path):
            read.append(size)
    path.write_bytes(whole)
    return read


def flip_bits(path, positions=None, bits=(0x01, 0x20, 0x80, 0xFF), folder=None):
    """Reads the file with each byte wrong in turn; nothing is returned, as a wrong byte may do no harm."""
    whole = path.read_bytes()
    for position in range(len(whole)) if positions is None else positions:
        for bit in bits:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
            read_or_refused(folder or path)
    path.write_bytes(whole)
