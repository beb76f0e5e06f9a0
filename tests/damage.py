"""What a refusal must be: one sentence."""

import pytest
from fuzz.targets import assert_one_sentence

from tinyvrnn.data import load_data
from tinyvrnn.errors import DataError


def refused(path, message):
    """Expects that load_data refuses `path` in one sentence that `message` (a regular expression) matches."""
    with pytest.raises(DataError, match=message) as caught:
        load_data(path)
    assert_one_sentence(caught.value)
